#include "app/cli_startable.h"

#include <arpa/inet.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "app/boot_listener.h"
#include "app/sandbox_user.h"
#include "core/config_value.h"
#include "core/tls.h"
#include "inbound/accounts.h"
#include "inbound/listener_unix.h"

struct findings {
    void (*problem)(void *context, const char *line);
    void *context;
};

static void find(const struct findings *findings, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void find(const struct findings *findings, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    findings->problem(findings->context, line);
}

static void look_at_files(const struct settings *settings, const struct findings *findings)
{
    char reason[768] = "";
    struct inbound_listener_settings *listeners = calloc(settings->listeners_count, sizeof *listeners);
    if (listeners == NULL || tls_library_init() != 0) {
        free(listeners);
        return;
    }
    if (!boot_listener_secure(listeners, settings, reason, sizeof reason)) {
        find(findings, "%s", reason);
    }
    boot_listener_release(listeners, settings->listeners_count);
    free(listeners);
    if (settings->auth.passwords[0] != '\0') {
        const struct credentials *credentials = accounts_read(settings->auth.passwords, findings->problem,
                                                              findings->context);
        if (credentials != NULL) {
            credentials_give(credentials);
        }
    }
}

static void look_at_users(const struct settings *settings, const struct findings *findings)
{
    uid_t user;
    gid_t group;
    if (settings->user[0] != '\0' && geteuid() != 0 && getpwnam(settings->user) == NULL) { /* root tried already */
        find(findings, "user: there is no user %s", settings->user);
    }
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        if (listener_unix_owner(listener->socket_owner, &user, &group) != 0) {
            find(findings, "listener %s: socket_owner \"%s\" is no user and group of this machine", listener->name,
                 listener->socket_owner);
        }
    }
}

/* It is opened when the server is ready, without any capability. */
static void look_at_admin(const struct settings *settings, const struct findings *findings)
{
    unsigned port = settings->admin.listen.length != 0 ? config_value_port(&settings->admin.listen) : 0;
    unsigned first_free = sandbox_user_first_free_port();
    bool root = geteuid() == 0 && settings->user[0] == '\0';
    if (port != 0 && port < first_free && !root) {
        find(findings, "admin.listen: port %u is root's, which the server is not any more then, expected %u or above",
             port, first_free);
    }
}

void cli_startable(const struct settings *settings, void (*problem)(void *context, const char *line), void *context)
{
    const struct findings findings = {.problem = problem, .context = context};
    look_at_files(settings, &findings);
    look_at_users(settings, &findings);
    look_at_admin(settings, &findings);
}
