#include "app/cli.h"

#include <stdarg.h>
#include <string.h>

#include "base/check.h"

#define OPTIONS_MAX 24

int cli_next(const struct cli_command *command, int argc, char **argv, const char **ret_argument)
{
    struct option options[OPTIONS_MAX + 2] = {{.name = "help", .val = 'h'}};
    char letters[2 * OPTIONS_MAX + 3] = ":h"; /* the colon tells a missing argument from an unknown option */
    size_t used = strlen(letters);
    int count = 0;
    for (const struct cli_option *option = command->options; option->name != NULL; option++, count++) {
        CHECK(count < OPTIONS_MAX);
        options[count + 1] = (struct option){
            .name = option->name,
            .has_arg = option->argument != NULL ? required_argument : no_argument,
            .val = option->letter != 0 ? option->letter : 256 + count,
        };
        if (option->letter != 0) {
            letters[used++] = (char)option->letter;
            if (option->argument != NULL) {
                letters[used++] = ':';
            }
        }
    }
    opterr = 0;
    int letter = getopt_long(argc, argv, letters, options, NULL);
    if (letter == -1) {
        return CLI_END;
    }
    if (letter == 'h') {
        cli_help(command, stdout);
        return CLI_HELP;
    }
    for (int i = 0; i < count; i++) {
        if (options[i + 1].val == letter) {
            *ret_argument = optarg;
            return i;
        }
    }
    cli_usage(command, letter == ':' ? "option '%s' needs an argument" : "unknown option '%s'", argv[optind - 1]);
    return CLI_BAD;
}

int cli_leave(int next)
{
    return next == CLI_HELP ? CLI_OK : CLI_USAGE;
}

static void print_option(FILE *out, int letter, const char *name, const char *argument, const char *help)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", name, argument != NULL ? " " : "", argument != NULL ? argument : "");
    if (letter != 0) {
        fprintf(out, "  -%c, %-22s  %s\n", letter, left, help);
    } else {
        fprintf(out, "      %-22s  %s\n", left, help);
    }
}

void cli_help(const struct cli_command *command, FILE *out)
{
    fprintf(out, "usage: ringpost %s%s%s\n\n%s\n\n", command->name, command->arguments[0] != '\0' ? " " : "",
            command->arguments, command->summary);
    for (const struct cli_option *option = command->options; option->name != NULL; option++) {
        print_option(out, option->letter, option->name, option->argument, option->help);
    }
    print_option(out, 'h', "help", NULL, "show this help");
    if (command->details != NULL) {
        fprintf(out, "\n%s", command->details);
    }
}

int cli_usage(const struct cli_command *command, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "ringpost %s: ", command->name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nsee `ringpost %s --help`\n", command->name);
    return CLI_USAGE;
}

static void print_error(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "%s\n", line);
}

struct settings *cli_settings(const char *path)
{
    return settings_load(path, print_error, NULL);
}
