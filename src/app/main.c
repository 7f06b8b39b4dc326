#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "app/cli.h"
#include "ringpost/version.h"

static const struct cli_command *const commands[] = {
    &cli_serve_command, &cli_check_command,  &cli_queue_command,
    &cli_spool_command, &cli_passwd_command, &cli_version_command,
};

#define COMMANDS (sizeof commands / sizeof *commands)

static int help(FILE *out)
{
    fputs("usage: ringpost <command> [options]\n\n"
          "A mail transfer agent: takes mail by SMTP, makes it durable, delivers it by SMTP.\n\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++) {
        fprintf(out, "  %-8s  %s\n", commands[i]->name, commands[i]->summary);
    }
    fputs("\n`ringpost <command> --help` tells a command's options.\n", out);
    return out == stdout ? CLI_OK : CLI_USAGE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        return help(stdout);
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("ringpost " RINGPOST_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i]->name) == 0) {
            int code = commands[i]->run(argc - 1, argv + 1);
            return fflush(stdout) == 0 ? code : CLI_FAILED;
        }
    }
    if (name[0] != '\0') {
        fprintf(stderr, "ringpost: unknown command '%s'\n", name);
    }
    return help(stderr);
}
