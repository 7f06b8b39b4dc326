#include "app/boot.h"
#include "app/cli.h"

static const struct cli_option options[] = {
    {'c', "config", "FILE", "the configuration (default " CLI_CONFIG_PATH ")"},
    {.name = NULL},
};

static int run(int argc, char **argv)
{
    const char *path = CLI_CONFIG_PATH;
    const char *argument = NULL;
    int next = 0;
    while ((next = cli_next(&cli_serve_command, argc, argv, &argument)) >= 0) {
        path = argument;
    }
    if (next != CLI_END) {
        return cli_leave(next);
    }
    if (optind < argc) {
        return cli_usage(&cli_serve_command, "unexpected argument '%s'", argv[optind]);
    }
    struct settings *settings = cli_settings(path);
    if (settings == NULL) {
        return CLI_CONFIG;
    }
    int code = boot_serve(settings);
    settings_free(settings);
    return code;
}

const struct cli_command cli_serve_command = {
    .name = "serve",
    .arguments = "[--config FILE]",
    .summary = "Run the server in the foreground.",
    .options = options,
    .details = "SIGTERM or SIGINT: stop gracefully; a second one: at once. SIGHUP: read the configuration again.\n"
               "Exit codes: 0 stopped, 64 usage, 70 a failure of the system, 78 configuration or missing facility.\n",
    .run = run,
};
