/* `ringpost passwd`: the accounts of the password file. The running server sees the change by itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "app/cli.h"
#include "app/passwd_file.h"
#include "app/passwd_prompt.h"
#include "core/crypto.h"
#include "inbound/accounts.h"

enum {
    OPTION_CONFIG,
    OPTION_FILE,
    OPTION_LIST,
    OPTION_DELETE,
    OPTION_VERIFY,
    OPTION_KEEP,
    OPTION_NONE,
    OPTION_ITERATIONS,
    OPTION_SENDER,
    OPTION_TENANT,
    OPTION_CERTIFICATE,
    OPTION_DISABLE,
    OPTION_ENABLE,
};

static const struct cli_option options[] = {
    [OPTION_CONFIG] = {'c', "config", "FILE", "whose auth.passwords (default " CLI_CONFIG_PATH ")"},
    [OPTION_FILE] = {'f', "file", "FILE", "the password file itself, made when missing"},
    [OPTION_LIST] = {'l', "list", NULL, "show all accounts"},
    [OPTION_DELETE] = {'d', "delete", NULL, "delete the account"},
    [OPTION_VERIFY] = {'v', "verify", NULL, "is it the account's password?"},
    [OPTION_KEEP] = {'k', "keep", NULL, "change options only, keep the password"},
    [OPTION_NONE] = {'n', "no-password", NULL, "only certificates and tokens log in"},
    [OPTION_ITERATIONS] = {'i', "iterations", "N", "of PBKDF2 (4096 to 10000000, default 100000)"},
    [OPTION_SENDER] = {'s', "sender", "SENDER", "may send as ADDRESS, @DOMAIN, @.DOMAIN or *; repeatable"},
    [OPTION_TENANT] = {'t', "tenant", "NAME", "whose mail it is (\"\": nobody's)"},
    [OPTION_CERTIFICATE] = {'x', "certificate", "ID", "sha256:HEX or a name in it, for EXTERNAL; repeatable"},
    [OPTION_DISABLE] = {0, "disable", NULL, "may not log in until --enable"},
    [OPTION_ENABLE] = {0, "enable", NULL, "may log in again"},
    {.name = NULL},
};

struct request {
    const char *config;
    const char *path;
    const char *name;
    bool list, erase, verify, keep, none, disable, enable; /* as the options */
    uint32_t iterations;
    const char *tenant; /* NULL: as it was */
    const char *senders[CREDENTIALS_SENDERS_MAX];
    unsigned senders_count;
    const char *certificates[CREDENTIALS_CERTIFICATES_MAX];
    unsigned certificates_count;
};

/* --- what to write ------------------------------------------------------------------------------------------------ */

static bool append_option(struct buffer *line, const char *name, struct bytes value)
{
    return buffer_append_string(line, " ") && buffer_append_string(line, name) && buffer_append(line, value);
}

/* The old line's options of one kind, in their order. */
static bool copy_options(struct buffer *line, struct bytes old, const char *name)
{
    size_t length = strlen(name);
    bool fits = true;
    while (old.length != 0 && fits) {
        const char *space = memchr(old.data, ' ', old.length);
        struct bytes word = bytes_of(old.data, space != NULL ? (size_t)(space - old.data) : old.length);
        if (word.length >= length && memcmp(word.data, name, length) == 0) {
            fits = append_option(line, "", word);
        }
        bytes_advance(&old, word.length + (space != NULL));
    }
    return fits;
}

static bool append_list(struct buffer *line, const char *name, const char *const *values, unsigned count)
{
    bool fits = true;
    for (unsigned i = 0; i < count && fits; i++) {
        fits = append_option(line, name, bytes_of_string(values[i]));
    }
    return fits;
}

static bool append_options(struct buffer *line, const struct request *request, struct bytes old, bool was_disabled)
{
    bool fits = request->senders_count != 0 ? append_list(line, "sender=", request->senders, request->senders_count)
                                            : copy_options(line, old, "sender=");
    fits = fits && (request->certificates_count != 0
                        ? append_list(line, "certificate=", request->certificates, request->certificates_count)
                        : copy_options(line, old, "certificate="));
    if (request->tenant == NULL) {
        fits = fits && copy_options(line, old, "tenant=");
    } else if (request->tenant[0] != '\0') {
        fits = fits && append_option(line, "tenant=", bytes_of_string(request->tenant));
    }
    if (request->disable || (was_disabled && !request->enable)) {
        fits = fits && append_option(line, "disabled", bytes_of(NULL, 0));
    }
    return fits;
}

/* Reads the password and hashes it. */
static int append_new_verifier(struct buffer *line, const struct request *request)
{
    char password[PASSWD_PROMPT_BYTES];
    uint8_t salt[CREDENTIALS_SALT_BYTES_DEFAULT];
    struct credentials_verifier verifier;
    struct bytes text;
    int code = CLI_DATA;
    if (passwd_prompt(request->name, true, password, &text)) {
        crypto_random(salt, sizeof salt);
        credentials_derive(&accounts_crypto, text, bytes_of(salt, sizeof salt), request->iterations, &verifier);
        code = credentials_append_verifier(line, &verifier) ? CLI_OK : CLI_FAILED;
        crypto_wipe(&verifier, sizeof verifier);
    }
    crypto_wipe(password, sizeof password);
    return code;
}

static int append_verifier(struct buffer *line, const struct request *request,
                           const struct credentials_account *account)
{
    if (request->none || (request->keep && account->verifier.iterations == 0)) {
        return buffer_append_string(line, "-") ? CLI_OK : CLI_FAILED;
    }
    if (request->keep) {
        return credentials_append_verifier(line, &account->verifier) ? CLI_OK : CLI_FAILED;
    }
    return append_new_verifier(line, request);
}

/* Options of a line of the file: what follows the verifier. */
static struct bytes options_of(const struct passwd_file *file, unsigned number)
{
    struct bytes rest = bytes_of(file->text, file->length);
    for (; number > 1; number--) {
        const char *end = memchr(rest.data, '\n', rest.length);
        CHECK(end != NULL);
        bytes_advance(&rest, (size_t)(end - rest.data) + 1);
    }
    const char *end = memchr(rest.data, '\n', rest.length);
    rest.length = end != NULL ? (size_t)(end - rest.data) : rest.length;
    const char *space = memchr(rest.data, ' ', rest.length);
    bytes_advance(&rest, space != NULL ? (size_t)(space - rest.data) + 1 : rest.length);
    return rest;
}

/* --- actions ------------------------------------------------------------------------------------------------------ */

static int complain(const struct request *request, const char *what)
{
    fprintf(stderr, "ringpost passwd: %s: %s\n", request->name, what);
    return CLI_DATA;
}

/* A working password that every MAIL is refused with is hard to understand from the client's end. */
static void warn_of_no_sender(const struct request *request, struct bytes line)
{
    static const char option[] = " sender=";
    if (strchr(request->name, '@') == NULL && memmem(line.data, line.length, option, sizeof option - 1) == NULL) {
        fprintf(stderr, "ringpost passwd: %s: the name is no address, so it may send as nobody yet: --keep --sender\n",
                request->name);
    }
}

static int set(struct passwd_file *file, const struct request *request, const struct credentials_account *account)
{
    char room[CREDENTIALS_LINE_BYTES_MAX];
    struct buffer line = buffer_of(room, sizeof room);
    struct bytes old = account != NULL ? options_of(file, account->line) : bytes_of(NULL, 0);
    if (request->keep && account == NULL) {
        return complain(request, "no such account");
    }
    if (!buffer_append_string(&line, request->name) || !buffer_append_string(&line, ":")) {
        return complain(request, "the name is too long");
    }
    int code = append_verifier(&line, request, account);
    if (code == CLI_OK && !append_options(&line, request, old, account != NULL && account->disabled)) {
        code = complain(request, "the options are too long");
    }
    if (code == CLI_OK) {
        code = passwd_file_replace(file, account != NULL ? account->line : 0, buffer_bytes(&line));
    }
    if (code == CLI_OK) {
        warn_of_no_sender(request, buffer_bytes(&line));
    }
    crypto_wipe(room, sizeof room);
    return code;
}

static int verify(const struct request *request, const struct credentials_account *account)
{
    char password[PASSWD_PROMPT_BYTES];
    struct bytes text;
    if (account == NULL || account->verifier.iterations == 0) {
        return complain(request, account == NULL ? "no such account" : "has no password");
    }
    int code = CLI_DATA;
    if (passwd_prompt(request->name, false, password, &text)) {
        bool right = credentials_verify(&accounts_crypto, &account->verifier, text);
        code = !right              ? complain(request, "wrong password")
               : account->disabled ? complain(request, "the password is right, the account is disabled")
                                   : CLI_OK;
    }
    crypto_wipe(password, sizeof password);
    return code;
}

static void print_account(const struct passwd_file *file, const struct credentials_account *account)
{
    printf("%-32.*s ", (int)account->name.length, account->name.data);
    if (account->verifier.iterations != 0) {
        printf("scram-sha-256 %-8u", account->verifier.iterations);
    } else {
        printf("%-22s", "none");
    }
    printf(" %-8s %-16.*s", account->disabled ? "disabled" : "enabled",
           account->tenant.length != 0 ? (int)account->tenant.length : 1,
           account->tenant.length != 0 ? account->tenant.data : "-");
    for (uint32_t i = 0; i < account->senders_count; i++) {
        struct bytes sender = credentials_sender(file->credentials, account, i);
        printf(" %.*s", (int)sender.length, sender.data);
    }
    if (account->senders_count == 0) {
        printf(" %s", memchr(account->name.data, '@', account->name.length) != NULL ? "(its name)" : "(none)");
    }
    putchar('\n');
}

static int list(const struct passwd_file *file)
{
    printf("%-32s %-22s %-8s %-16s %s\n", "account", "password", "state", "tenant", "senders");
    for (uint32_t i = 0; i < credentials_count(file->credentials); i++) {
        print_account(file, credentials_at(file->credentials, i));
    }
    return CLI_OK;
}

static int act(const struct request *request, const char *path)
{
    struct passwd_file file;
    bool change = !request->list && !request->verify;
    int code = passwd_file_open(&file, path, change, change && !request->erase && !request->keep);
    if (code == CLI_OK) {
        const struct credentials_account *account = request->list ? NULL
                                                                  : credentials_find(file.credentials,
                                                                                     bytes_of_string(request->name));
        if (request->list) {
            code = list(&file);
        } else if (request->verify) {
            code = verify(request, account);
        } else if (request->erase) {
            code = account != NULL ? passwd_file_replace(&file, account->line, bytes_of(NULL, 0))
                                   : complain(request, "no such account");
        } else {
            code = set(&file, request, account);
        }
    }
    passwd_file_close(&file);
    return code;
}

/* --- the command line --------------------------------------------------------------------------------------------- */

static int take_iterations(struct request *request, const char *argument)
{
    uint64_t iterations = 0;
    if (!bytes_parse_number(bytes_of_string(argument), &iterations) || iterations < CREDENTIALS_ITERATIONS_MIN ||
        iterations > CREDENTIALS_ITERATIONS_MAX) {
        return cli_usage(&cli_passwd_command, "--iterations is \"%s\", expected %u to %u", argument,
                         CREDENTIALS_ITERATIONS_MIN, CREDENTIALS_ITERATIONS_MAX);
    }
    request->iterations = (uint32_t)iterations;
    return CLI_OK;
}

static int take_item(const char *what, const char *argument, const char **items, unsigned *count, unsigned max)
{
    if (*count == max) {
        return cli_usage(&cli_passwd_command, "more than %u %ss", max, what);
    }
    if (argument[0] == '\0' || strpbrk(argument, " \t\r\n") != NULL) {
        return cli_usage(&cli_passwd_command, "%s is \"%s\", expected something without spaces", what, argument);
    }
    items[(*count)++] = argument;
    return CLI_OK;
}

static int take_option(struct request *request, int option, const char *argument)
{
    switch (option) {
    case OPTION_CONFIG: request->config = argument; break;
    case OPTION_FILE: request->path = argument; break;
    case OPTION_LIST: request->list = true; break;
    case OPTION_DELETE: request->erase = true; break;
    case OPTION_VERIFY: request->verify = true; break;
    case OPTION_KEEP: request->keep = true; break;
    case OPTION_NONE: request->none = true; break;
    case OPTION_ITERATIONS: return take_iterations(request, argument);
    case OPTION_SENDER:
        return take_item("sender", argument, request->senders, &request->senders_count, CREDENTIALS_SENDERS_MAX);
    case OPTION_TENANT: request->tenant = argument; break;
    case OPTION_CERTIFICATE:
        return take_item("certificate", argument, request->certificates, &request->certificates_count,
                         CREDENTIALS_CERTIFICATES_MAX);
    case OPTION_DISABLE: request->disable = true; break;
    case OPTION_ENABLE: request->enable = true; break;
    }
    return CLI_OK;
}

static int check(const struct request *request, int operands, const char *extra)
{
    int actions = request->list + request->erase + request->verify + request->keep + request->none;
    bool changes = request->senders_count != 0 || request->certificates_count != 0 || request->tenant != NULL ||
                   request->disable || request->enable;
    if (operands > (request->list ? 0 : 1)) {
        return cli_usage(&cli_passwd_command, "unexpected argument '%s'", extra);
    }
    if (!request->list && (operands == 0 || request->name[0] == '\0')) {
        return cli_usage(&cli_passwd_command, "which account? (or --list)");
    }
    if (!request->list && (strpbrk(request->name, ": \t\r\n") != NULL || strchr("#!", request->name[0]) != NULL)) {
        return cli_usage(&cli_passwd_command,
                         "the name is \"%s\", expected one without ':' and spaces, not beginning "
                         "with '#' or '!'",
                         request->name);
    }
    if (actions > 1 || (request->enable && request->disable) ||
        (changes && (request->list || request->erase || request->verify))) {
        return cli_usage(&cli_passwd_command, "these options do not go together");
    }
    if (request->path != NULL && request->config != NULL) {
        return cli_usage(&cli_passwd_command, "--file or --config, not both");
    }
    return CLI_OK;
}

static int with_config(const struct request *request)
{
    struct settings *settings = cli_settings(request->config != NULL ? request->config : CLI_CONFIG_PATH);
    if (settings == NULL) {
        return CLI_CONFIG;
    }
    int code = CLI_CONFIG;
    if (settings->auth.passwords[0] == '\0') {
        fprintf(stderr, "%s: auth.passwords is \"\", expected a password file\n", settings->path);
    } else {
        code = act(request, settings->auth.passwords);
    }
    settings_free(settings);
    return code;
}

static int run(int argc, char **argv)
{
    struct request request = {.iterations = CREDENTIALS_ITERATIONS_DEFAULT};
    const char *argument = NULL;
    int next = 0;
    while ((next = cli_next(&cli_passwd_command, argc, argv, &argument)) >= 0) {
        int code = take_option(&request, next, argument);
        if (code != CLI_OK) {
            return code;
        }
    }
    if (next != CLI_END) {
        return cli_leave(next);
    }
    int operands = argc - optind;
    request.name = operands > 0 && !request.list ? argv[optind] : NULL;
    int code = check(&request, operands, operands > 0 ? argv[argc - 1] : "");
    if (code != CLI_OK) {
        return code;
    }
    return request.path != NULL ? act(&request, request.path) : with_config(&request);
}

const struct cli_command cli_passwd_command = {
    .name = "passwd",
    .arguments = "[--file FILE | --config FILE] [options] NAME | --list",
    .summary = "Make, change, verify, delete or list accounts of the password file.",
    .options = options,
    .details = "NAME is made, or gets a new password and keeps the options that are not given. The password is asked\n"
               "for at the terminal, or read from the first line of standard input.\n"
               "Exit codes: 0 done (--verify: right), 64 usage, 65 no such account, wrong or unusable password, or a\n"
               "mistake in the file, 70 the file cannot be read or written, 78 the configuration is wrong.\n",
    .run = run,
};
