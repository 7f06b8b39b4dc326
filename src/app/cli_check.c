/* `ringpost check`: is the configuration right, and has this machine what it asks for? Errors of the configuration are
 * fatal, and so is what would keep the server from starting here, because what follows a good check is a restart. Other
 * findings about the machine are advice: they may depend on who runs the check. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/cli_disk.h"
#include "app/cli_milters.h"
#include "app/cli_startable.h"
#include "app/sandbox.h"
#include "app/sandbox_user.h"
#include "core/config_value.h"
#include "core/ring.h"

#define MEMLOCK_BYTES_MIN (8u << 20)
#define DESCRIPTORS_BESIDE 512 /* segments, rings, logs, resolver sockets, admin connections */

enum { OPTION_CONFIG, OPTION_PRINT, OPTION_STRICT, OPTION_DISK };

static const struct cli_option options[] = {
    [OPTION_CONFIG] = {'c', "config", "FILE", "the configuration (default " CLI_CONFIG_PATH ")"},
    [OPTION_PRINT] = {'p', "print", NULL, "print the whole effective configuration and nothing else"},
    [OPTION_STRICT] = {'s', "strict", NULL, "exit with 78 when there is any warning"},
    [OPTION_DISK] = {'d', "disk", NULL, "measure the disk below the spool, or below DIRECTORY, and nothing else"},
    {.name = NULL},
};

static unsigned warnings;
static unsigned errors;

static void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("  warning: ", stdout);
    vprintf(format, arguments);
    fputs("\n", stdout);
    va_end(arguments);
    warnings++;
}

/* What keeps the server from starting here; each is as good as an error of the configuration. */
static void fail(void *context, const char *line)
{
    (void)context;
    printf("  error: %s\n", line);
    errors++;
}

static void print_listeners(const struct settings *settings)
{
    static const char *const roles[] = {
        [SETTINGS_RELAY] = "relay", [SETTINGS_MX] = "mx", [SETTINGS_SUBMISSION] = "submission"};
    static const char *const protocols[] = {[SETTINGS_SMTP] = "", [SETTINGS_LMTP] = " by LMTP"};
    static const char *const modes[] = {[SETTINGS_TLS_AUTO] = "",
                                        [SETTINGS_TLS_OFF] = "",
                                        [SETTINGS_TLS_STARTTLS] = ", STARTTLS",
                                        [SETTINGS_TLS_IMPLICIT] = ", TLS"};
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        char room[1024];
        struct buffer text = buffer_of(room, sizeof room);
        buffer_append_format(&text, "listener  %s  ", listener->name);
        if (listener->endpoint.address.ss_family == AF_UNIX) {
            buffer_append_string(&text, listener->address);
        } else {
            config_value_put_endpoint(&text, &listener->endpoint);
        }
        buffer_append_format(&text, "  %s%s", roles[listener->role], protocols[listener->protocol]);
        buffer_append_string(&text, modes[listener->tls]);
        buffer_append_format(&text, ", %s, messages to ", listener->durability == SETTINGS_SYNC ? "sync" : "relaxed");
        config_value_put_size(&text, listener->message_bytes_max);
        buffer_append_format(&text, ", %u connections%s", listener->connections_max,
                             listener->relay_networks_count != 0 ? ", relay for" : "");
        for (unsigned j = 0; j < listener->relay_networks_count && j < 8; j++) {
            buffer_append_string(&text, " ");
            config_value_put_network(&text, &listener->relay_networks[j]);
        }
        buffer_append_string(&text, listener->relay_networks_count > 8 ? " ..." : "");
        printf("%.*s\n", (int)text.length, text.data);
    }
}

static void print_routes(const struct settings *settings)
{
    const unsigned shown = 10;
    for (unsigned i = 0; i < settings->routes_count; i++) {
        const struct settings_route *route = &settings->routes[i];
        if (i < shown || i + 1 == settings->routes_count) {
            printf("route     %s  %s port %u, %u connections\n", route->domain, route->next_hop, route->port,
                   route->connections_max);
        } else if (i == shown) {
            printf("route     ... %u more\n", settings->routes_count - shown - 1);
        }
    }
}

static void print_summary(const struct settings *settings)
{
    char room[512];
    struct buffer text = buffer_of(room, sizeof room);
    printf("hostname  %s\n", settings->hostname);
    printf("shards    %u", settings->shards.count);
    if (settings->shards.inbound != 0) {
        printf(" (%u inbound, %u delivery)", settings->shards.inbound, settings->shards.delivery);
    }
    config_value_put_size(&text, settings->spool.segment_bytes);
    printf("\nspool     %s, segments of %.*s\n", settings->spool.path, (int)text.length, text.data);
    print_listeners(settings);
    print_routes(settings);
    text.length = 0;
    config_value_put_duration(&text, settings->retry.schedule_ms[0]);
    buffer_append_string(&text, ", longest wait ");
    config_value_put_duration(&text, settings->retry.schedule_ms[settings->retry.schedule_ms_count - 1]);
    buffer_append_string(&text, ", expiry ");
    config_value_put_duration(&text, settings->retry.expire_ms);
    printf("retry     first after %.*s\n", (int)text.length, text.data);
    text.length = 0;
    config_value_put_endpoint(&text, &settings->admin.listen);
    printf("admin     %.*s, socket %s\n", (int)text.length, text.data,
           settings->admin.socket[0] != '\0' ? settings->admin.socket : "off");
    printf("events    %s\n", settings->events.path[0] != '\0' ? settings->events.path : "off");
}

/* Can a file be made in the directory? With `parent`, in the one that holds the path. What does not exist yet the
 * server makes, below what does. */
static void check_directory(const char *what, const char *path, bool parent)
{
    char directory[256];
    const char *end = parent ? strrchr(path, '/') : path + strlen(path);
    if (path[0] == '\0') {
        return;
    }
    snprintf(directory, sizeof directory, "%.*s", end == path ? 1 : (int)(end - path), path);
    char *slash = strrchr(directory, '/');
    while (access(directory, F_OK) != 0 && errno == ENOENT && slash != NULL && slash != directory) {
        *slash = '\0';
        slash = strrchr(directory, '/');
    }
    if (access(directory, W_OK | X_OK) != 0) {
        warn("%s: %s is not a directory that this user can write: %s", what, directory, strerror(errno));
    }
}

static void check_paths(const struct settings *settings)
{
    puts("\npaths");
    check_directory("spool.path", settings->spool.path, false);
    check_directory("events.path", settings->events.path, false);
    check_directory("admin.socket", settings->admin.socket, true);
}

static void check_limits(const struct settings *settings)
{
    struct rlimit files = {0};
    struct rlimit memory = {0};
    rlim_t wanted = (rlim_t)settings->limits.connections_max + settings->delivery.connections_max + DESCRIPTORS_BESIDE;
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_MEMLOCK, &memory);
    puts("\nlimits");
    printf("  open files     %llu of %llu wanted (the hard limit, which the server takes)\n",
           (unsigned long long)files.rlim_max, (unsigned long long)wanted);
    if (files.rlim_max < wanted) {
        warn("open files: set LimitNOFILE=%llu in the unit, or lower limits.connections_max and "
             "delivery.connections_max",
             (unsigned long long)wanted);
    }
    if (memory.rlim_cur == RLIM_INFINITY) {
        puts("  locked memory  unlimited");
    } else {
        printf("  locked memory  %llu bytes\n", (unsigned long long)memory.rlim_cur);
    }
    if (memory.rlim_cur < MEMLOCK_BYTES_MIN) {
        warn("locked memory: set LimitMEMLOCK=%u or more in the unit: what rings register with the kernel counts",
             MEMLOCK_BYTES_MIN);
    }
}

static void check_ring(void)
{
    struct ring_feature features[64];
    unsigned count = ring_features(features, sizeof features / sizeof *features);
    puts("\nio_uring");
    for (unsigned i = 0; i < count; i++) {
        printf("  %-40s %s\n", features[i].name, features[i].present ? "yes" : "no");
        if (features[i].required && !features[i].present) {
            char line[256];
            snprintf(line, sizeof line,
                     "%s is required: kernel 6.1 or newer, kernel.io_uring_disabled=0, no seccomp filter against it",
                     features[i].name);
            fail(NULL, line);
        }
    }
}

/* As the server does, so that files and directories are looked at with the rights that it will have. */
static void become_user(const struct settings *settings)
{
    char reason[128];
    if (settings->user[0] != '\0' && geteuid() == 0 &&
        sandbox_user_become(settings->user, false, reason, sizeof reason) != 0) {
        char line[256];
        snprintf(line, sizeof line, "user: %s", reason);
        fail(NULL, line);
    }
}

static void no_answer(const char *line)
{
    warn("%s", line);
}

static void check_milters(const struct settings *settings)
{
    if (settings->milters_count != 0) {
        puts("\nmilters");
        cli_milters_check(settings, no_answer);
    }
}

static void check_name(const struct settings *settings)
{
    if (strchr(settings->hostname, '.') == NULL) {
        warn("hostname is \"%s\", expected a full name as \"mail.example.com\": many receivers refuse others",
             settings->hostname);
    }
}

static void check_sandbox(const struct settings *settings)
{
    struct sandbox_state state;
    sandbox_foresee(settings, &state);
    puts("\nsandbox");
    printf("  %-14s %s\n", "user", state.user);
    printf("  %-14s %s\n", "capabilities", state.capabilities);
    printf("  %-14s %s\n", "files", state.files);
    printf("  %-14s %s\n", "system calls", state.calls);
    if (settings->sandbox == SANDBOX_REQUIRED && !(state.user_done && state.files_done && state.calls_done)) {
        warn("sandbox is \"required\", and not all of it is to be had here");
    }
}

static int report(const struct settings *settings, bool strict)
{
    warnings = 0;
    errors = 0;
    print_summary(settings);
    become_user(settings);
    check_name(settings);
    check_paths(settings);
    check_limits(settings);
    check_sandbox(settings);
    check_ring();
    check_milters(settings);
    puts("\nfiles, users, ports");
    cli_startable(settings, fail, NULL);
    puts(errors == 0 ? "  as they should be" : "");
    if (errors != 0) {
        printf("%s: the server would not start here: see the lines with \"error\"\n", settings->path);
        return CLI_CONFIG;
    }
    if (warnings != 0) {
        printf("\n%s: configuration is good; warnings about this machine: %u\n", settings->path, warnings);
    } else {
        printf("\n%s: good\n", settings->path);
    }
    return strict && warnings != 0 ? CLI_CONFIG : CLI_OK;
}

static int run(int argc, char **argv)
{
    const char *path = CLI_CONFIG_PATH;
    const char *argument = NULL;
    bool print = false;
    bool strict = false;
    bool disk = false;
    int next = 0;
    while ((next = cli_next(&cli_check_command, argc, argv, &argument)) >= 0) {
        switch (next) {
        case OPTION_CONFIG: path = argument; break;
        case OPTION_PRINT: print = true; break;
        case OPTION_STRICT: strict = true; break;
        case OPTION_DISK: disk = true; break;
        }
    }
    if (next != CLI_END) {
        return cli_leave(next);
    }
    if (disk && optind + 1 == argc) {
        return cli_disk_check(argv[optind], strict);
    }
    if (optind < argc) {
        return cli_usage(&cli_check_command, "unexpected argument '%s'", argv[optind]);
    }
    struct settings *settings = cli_settings(path);
    if (settings == NULL) {
        return CLI_CONFIG;
    }
    int code = CLI_OK;
    if (disk) {
        code = cli_disk_check(settings->spool.path, strict);
    } else if (print) {
        settings_print(settings, stdout);
    } else {
        code = report(settings, strict);
    }
    settings_free(settings);
    return code;
}

const struct cli_command cli_check_command = {
    .name = "check",
    .arguments = "[--config FILE] [--print | --strict | --disk [DIRECTORY]]",
    .summary = "Check the configuration and what this machine offers.",
    .options = options,
    .details = "Every error is one line, `file:line: what is wrong, expected what`, on standard error.\n"
               "--disk tells what file system and disk the spool is on and measures its syncs, in about five seconds.\n"
               "Exit codes: 0 good, 64 usage, 70 the disk cannot be measured, 78 the configuration is wrong or the\n"
               "server would not start here (with --strict: or there are warnings).\n",
    .run = run,
};
