#include "inbound/profile.h"

#include <stdlib.h>

#include "base/check.h"

static struct bytes keep(char **at, const char *text)
{
    size_t length = strlen(text);
    memcpy(*at, text, length);
    struct bytes kept = bytes_of(*at, length);
    *at += length;
    return kept;
}

static bool copy_networks(struct profile *profile, const struct inbound_listener_settings *settings)
{
    size_t count = settings->relay_networks_count;
    profile->relay_networks = malloc(count * sizeof *profile->relay_networks + 1);
    if (profile->relay_networks == NULL) {
        return false;
    }
    if (count != 0) {
        memcpy(profile->relay_networks, settings->relay_networks, count * sizeof *profile->relay_networks);
    }
    profile->relay_networks_count = settings->relay_networks_count;
    return true;
}

struct profile *profile_new(const struct inbound_listener_settings *settings)
{
    size_t text_bytes = strlen(settings->hostname) + strlen(settings->name) + strlen(settings->banner);
    struct profile *profile = malloc(sizeof *profile + text_bytes);
    if (profile == NULL) {
        return NULL;
    }
    *profile = (struct profile){
        .references = 1,
        .durability = settings->durability,
        .connections_max = settings->connections_max,
        .connections_per_address_max = settings->connections_per_address_max,
        .timeouts = settings->timeouts,
        .smtp =
            {
                .extensions = SMTP_SERVER_EXTENSIONS_ALL,
                .message_bytes_max = settings->message_bytes_max,
                .recipients_max = settings->recipients_max,
                .command_bytes_max = settings->command_bytes_max,
                .text_line_bytes_max = settings->text_line_bytes_max,
                .received_max = settings->received_max,
                .errors_max = settings->errors_max,
            },
    };
    char *at = profile->text;
    profile->smtp.hostname = keep(&at, settings->hostname);
    profile->name = keep(&at, settings->name);
    profile->banner = keep(&at, settings->banner);
    if (!copy_networks(profile, settings)) {
        free(profile);
        return NULL;
    }
    return profile;
}

struct profile *profile_take(struct profile *profile)
{
    profile->references++;
    return profile;
}

void profile_give(struct profile *profile)
{
    CHECK(profile->references > 0);
    if (--profile->references == 0) {
        free(profile->relay_networks);
        free(profile);
    }
}
