/* The commands of the program: `ringpost <command> [options]`. */
#ifndef APP_CLI_H
#define APP_CLI_H

#include <getopt.h>
#include <stdio.h>

#include "app/settings.h"

#define CLI_CONFIG_PATH "/etc/ringpost/ringpost.conf"

/* Exit codes, those of sysexits.h. */
enum cli_exit {
    CLI_OK = 0,
    CLI_USAGE = 64,       /* unknown command, option or argument */
    CLI_DATA = 65,        /* the server refused the request */
    CLI_UNAVAILABLE = 69, /* no server answers */
    CLI_FAILED = 70,      /* something in the system failed */
    CLI_CONFIG = 78,      /* the configuration is wrong, or the system lacks what it asks for */
};

/* One option. `letter` is 0 for options without a short form; `argument` is NULL for those without argument. */
struct cli_option {
    int letter;
    const char *name;
    const char *argument;
    const char *help;
};

struct cli_command {
    const char *name;
    const char *arguments; /* behind the name in the usage line */
    const char *summary;
    const struct cli_option *options; /* ends with a row without name; --help is always there */
    const char *details;              /* paragraphs below the options, or NULL */
    int (*run)(int argc, char **argv);
};

extern const struct cli_command cli_check_command;
extern const struct cli_command cli_passwd_command;
extern const struct cli_command cli_queue_command;
extern const struct cli_command cli_serve_command;
extern const struct cli_command cli_spool_command;
extern const struct cli_command cli_version_command;

/* getopt_long over the command's rows. Returns the index of the option's row and its argument, CLI_END behind the last
 * one, CLI_HELP after having printed the help, CLI_BAD after having complained. Operands are then argv[optind] and on.
 */
enum { CLI_END = -1, CLI_HELP = -2, CLI_BAD = -3 };
int cli_next(const struct cli_command *command, int argc, char **argv, const char **ret_argument);

/* Turns CLI_HELP and CLI_BAD into the exit code. */
int cli_leave(int next);

void cli_help(const struct cli_command *command, FILE *out);
/* `ringpost <command>: message`, then the hint at --help; returns CLI_USAGE. */
int cli_usage(const struct cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A configuration, every error having gone to stderr; NULL then. */
struct settings *cli_settings(const char *path);

#endif
