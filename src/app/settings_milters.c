#include "app/settings_milters.h"

#include <stdlib.h>
#include <sys/un.h>

#include "app/settings_check.h"
#include "app/settings_table.h"
#include "base/check.h"

#define UNIX_PREFIX "unix:"
#define INET_PREFIX "inet:"

static const char *const failures[] = {"tempfail", "accept", "reject", NULL};

bool settings_milters_socket(const char *text, struct config_endpoint *ret_endpoint)
{
    if (strncmp(text, INET_PREFIX, strlen(INET_PREFIX)) == 0) {
        return config_value_endpoint(text + strlen(INET_PREFIX), 0, ret_endpoint) &&
               config_value_port(ret_endpoint) != 0;
    }
    const char *path = text + strlen(UNIX_PREFIX);
    if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) != 0 || !settings_check_address(text)) {
        return false;
    }
    struct sockaddr_un *address = (struct sockaddr_un *)&ret_endpoint->address;
    *ret_endpoint = (struct config_endpoint){.length = sizeof *address};
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, strlen(path) + 1);
    return true;
}

static bool valid_socket(const char *text)
{
    struct config_endpoint endpoint;
    return settings_milters_socket(text, &endpoint);
}

static const struct config_key timeouts_keys[] = {
    {"connect", CONFIG_DURATION, 0, AT(settings_milter_timeouts, connect_ms), RANGE(100, HOUR), DEFAULT("\"30s\"")},
    {"command", CONFIG_DURATION, 0, AT(settings_milter_timeouts, command_ms), RANGE(100, HOUR), DEFAULT("\"30s\"")},
    {"content", CONFIG_DURATION, 0, AT(settings_milter_timeouts, content_ms), RANGE(100, HOUR), DEFAULT("\"5m\"")},
    END,
};

const struct config_key settings_milters_keys[] = {
    {"name", CONFIG_TEXT, CONFIG_NAME, AT(settings_milter, name), RANGE(1, INBOUND_FILTER_NAME_BYTES - 1),
     .valid = settings_check_name, .expected = "a name of 1 to 63 letters, digits and .:[]_-"},
    {"socket", CONFIG_TEXT, 0, AT(settings_milter, socket), RANGE(1, 112), .valid = valid_socket,
     .expected = "\"unix:/path\" or \"inet:address:port\""},
    {"default_action", CONFIG_CHOICE, 0, AT(settings_milter, default_action), .choices = failures,
     DEFAULT("\"tempfail\"")},
    {"timeouts", CONFIG_GROUP, 0, AT(settings_milter, timeouts), .keys = timeouts_keys},
    END,
};

static const struct settings_milter *find(const struct settings *settings, struct bytes name)
{
    for (unsigned i = 0; i < settings->milters_count; i++) {
        if (settings->milters[i].name != NULL && bytes_equal(bytes_of_string(settings->milters[i].name), name)) {
            return &settings->milters[i];
        }
    }
    return NULL;
}

static void check_names(struct settings *settings)
{
    for (unsigned i = 0; i < settings->milters_count; i++) {
        const struct settings_milter *milter = &settings->milters[i];
        if (milter->name != NULL && find(settings, bytes_of_string(milter->name)) != milter) {
            char path[64];
            snprintf(path, sizeof path, "milters[%u].name", i);
            config_error(settings->config, path, "%s is \"%s\" as that of another one, expected a name of its own",
                         path, milter->name);
        }
    }
}

static void map(struct inbound_filter *to, const struct settings_milter *from)
{
    *to = (struct inbound_filter){
        .failure = (enum inbound_filter_failure)from->default_action,
        .connect_ms = from->timeouts.connect_ms,
        .command_ms = from->timeouts.command_ms,
        .content_ms = from->timeouts.content_ms,
    };
    snprintf(to->name, sizeof to->name, "%s", from->name);
    if (from->socket != NULL) { /* else it is reported already */
        CHECK(settings_milters_socket(from->socket, &to->endpoint));
    }
}

static void complete_listener(struct settings *settings, unsigned i)
{
    struct settings_listener *listener = &settings->listeners[i];
    char path[64];
    snprintf(path, sizeof path, "listeners[%u].milters", i);
    if (listener->milters == NULL || listener->milters[0] == '\0') {
        return;
    }
    listener->filters = config_allocate(settings->config, INBOUND_FILTERS_MAX * sizeof *listener->filters);
    for (const char *at = listener->milters; *at != '\0';) {
        struct bytes name = bytes_of(at, strcspn(at, " "));
        const struct settings_milter *milter = find(settings, name);
        if (milter == NULL) {
            config_error(settings->config, path,
                         "%s has \"%.*s\", expected names of `milters` with a space between two", path,
                         (int)name.length, name.data);
            return;
        }
        if (listener->filters_count == INBOUND_FILTERS_MAX) {
            config_error(settings->config, path, "%s has more, expected at most %u", path, INBOUND_FILTERS_MAX);
            return;
        }
        map(&listener->filters[listener->filters_count++], milter);
        at += name.length;
        at += *at == ' ';
    }
}

void settings_milters_complete(struct settings *settings)
{
    check_names(settings);
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        complete_listener(settings, i);
    }
}
