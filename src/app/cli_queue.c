/* `ringpost queue`: asks the running server over its control socket and shows the answer as a table. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app/cli.h"
#include "app/control_client.h"
#include "app/control_queue.h"

#define SOCKET_PATH "/run/ringpost/control.sock"

enum { OPTION_ID, OPTION_DOMAIN, OPTION_SENDER, OPTION_ALL, OPTION_LIMIT, OPTION_SOCKET, OPTION_JSON };

static const struct cli_option options[] = {
    [OPTION_ID] = {'i', "id", "ID", "one message"},
    [OPTION_DOMAIN] = {'d', "domain", "DOMAIN", "recipients in this domain"},
    [OPTION_SENDER] = {'f', "sender", "ADDRESS", "mail from this envelope sender (\"\": the null sender)"},
    [OPTION_ALL] = {'a', "all", NULL, "everything in the queue"},
    [OPTION_LIMIT] = {'n', "limit", "N", "show at most so many lines (default 1000)"},
    [OPTION_SOCKET] = {'s', "socket", "PATH", "the control socket (default " SOCKET_PATH ")"},
    [OPTION_JSON] = {'j', "json", NULL, "show the server's answer as it is"},
    {.name = NULL},
};

struct choice {
    const char *id;
    const char *domain;
    const char *sender;
    bool all;
    const char *limit;
    const char *socket;
    bool json;
};

/* --- tables ------------------------------------------------------------------------------------------------------- */

/* "45s", "12m", "3h", "5d"; "-" for null. */
static const char *duration(const json_t *json, char text[24])
{
    json_int_t seconds = json_integer_value(json);
    static const struct {
        json_int_t seconds;
        char unit;
    } units[] = {{2 * 86400, 'd'}, {2 * 3600, 'h'}, {2 * 60, 'm'}, {0, 's'}};
    unsigned unit = 0;
    if (!json_is_integer(json)) {
        return "-";
    }
    while (seconds < units[unit].seconds) {
        unit++;
    }
    snprintf(text, 24, "%" JSON_INTEGER_FORMAT "%c",
             units[unit].seconds != 0 ? seconds / (units[unit].seconds / 2) : seconds, units[unit].unit);
    return text;
}

/* A text of the answer. Whatever a remote host has said, the terminal gets no control characters. */
static const char *text_of(const json_t *object, const char *key, char text[256])
{
    const char *value = json_string_value(json_object_get(object, key));
    size_t length = 0;
    for (; value != NULL && *value != '\0' && length < 255; value++) {
        text[length++] = (unsigned char)*value < ' ' || *value == 0x7f ? '?' : *value;
    }
    text[length] = '\0';
    return text;
}

static json_int_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_counts(const json_t *object)
{
    for (enum control_state state = 0; state < CONTROL_STATES; state++) {
        printf(" %9" JSON_INTEGER_FORMAT, number_of(object, control_ops_state_name(state)));
    }
}

static void print_summary(const json_t *answer)
{
    size_t index = 0;
    const json_t *destination = NULL;
    const json_t *total = json_object_get(answer, "total");
    char texts[2][256];
    char ages[2][24];
    printf("%-40s %9s %9s %9s %9s %7s %7s  %s\n", "DESTINATION", "READY", "ACTIVE", "DEFERRED", "HELD", "OLDEST",
           "NEXT", "LAST ERROR");
    json_array_foreach(json_object_get(answer, "destinations"), index, destination)
    {
        printf("%-40s", text_of(destination, "domain", texts[0]));
        print_counts(destination);
        printf(" %7s %7s  %s\n", duration(json_object_get(destination, "oldest_age_seconds"), ages[0]),
               duration(json_object_get(destination, "next_attempt_in_seconds"), ages[1]),
               text_of(destination, "last_error", texts[1]));
    }
    snprintf(texts[0], sizeof texts[0], "total of %" JSON_INTEGER_FORMAT "%s", number_of(total, "destinations"),
             json_is_true(json_object_get(answer, "more")) ? " (more than shown)" : "");
    printf("%-40s", texts[0]);
    print_counts(total);
    putchar('\n');
}

static void print_recipients(const json_t *answer)
{
    size_t index = 0;
    const json_t *recipient = NULL;
    char texts[5][256];
    char ages[2][24];
    printf("%-16s %-8s %9s %7s %7s %5s  %s\n", "ID", "STATE", "BYTES", "AGE", "NEXT", "TRIES",
           "SENDER -> RECIPIENT: LAST ERROR");
    json_array_foreach(json_object_get(answer, "recipients"), index, recipient)
    {
        const char *error = text_of(recipient, "last_error", texts[4]);
        printf("%-16s %-8s %9" JSON_INTEGER_FORMAT " %7s %7s %5" JSON_INTEGER_FORMAT "  <%s> -> <%s>%s%s\n",
               text_of(recipient, "id", texts[0]), text_of(recipient, "state", texts[1]), number_of(recipient, "bytes"),
               duration(json_object_get(recipient, "age_seconds"), ages[0]),
               duration(json_object_get(recipient, "next_attempt_in_seconds"), ages[1]),
               number_of(recipient, "attempts"), text_of(recipient, "sender", texts[2]),
               text_of(recipient, "recipient", texts[3]), error[0] != '\0' ? ": " : "", error);
    }
    if (json_is_true(json_object_get(answer, "more"))) {
        puts("... and more (--limit)");
    }
}

static void print_matched(const json_t *answer)
{
    printf("%" JSON_INTEGER_FORMAT " recipients\n", number_of(answer, "matched"));
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static int show_answer(const struct control_client_reply *reply, bool raw, void (*print)(const json_t *))
{
    json_t *answer = json_loadb(reply->body, reply->length, 0, NULL);
    const char *error = json_string_value(json_object_get(answer, "error"));
    int code = CLI_OK;
    if (reply->status != 200 || answer == NULL) {
        fprintf(stderr, "ringpost queue: the server answers %u: %s\n", reply->status, error != NULL ? error : "?");
        code = CLI_DATA;
    } else if (raw) {
        fwrite(reply->body, 1, reply->length, stdout);
    } else {
        print(answer);
    }
    json_decref(answer);
    return code;
}

static int ask(const struct choice *choice, const char *method, const char *target, const char *body,
               void (*print)(const json_t *))
{
    struct control_client_reply reply;
    char reason[256];
    if (control_client_request(choice->socket, method, target, bytes_of_string(body), &reply, reason, sizeof reason) !=
        0) {
        fprintf(stderr, "ringpost queue: %s\n", reason);
        return CLI_UNAVAILABLE;
    }
    int code = show_answer(&reply, choice->json, print);
    free(reply.body);
    return code;
}

static unsigned criteria(const struct choice *choice)
{
    return (unsigned)(choice->id != NULL) + (choice->domain != NULL) + (choice->sender != NULL) + choice->all;
}

static bool add_argument(struct buffer *target, const char *name, const char *value)
{
    const char *before = memchr(target->data, '?', target->length) != NULL ? "&" : "?";
    return value == NULL ||
           (buffer_append_format(target, "%s%s=", before, name) && control_client_escape(target, value));
}

static int get(const struct choice *choice, const char *page, void (*print)(const json_t *))
{
    char room[2048];
    struct buffer target = buffer_of(room, sizeof room - 1);
    if (!buffer_append_string(&target, page) || !add_argument(&target, "domain", choice->domain) ||
        !add_argument(&target, "sender", choice->sender) || !add_argument(&target, "limit", choice->limit)) {
        return cli_usage(&cli_queue_command, "an argument is too long");
    }
    room[target.length] = '\0';
    return ask(choice, "GET", room, "", print);
}

static int run_summary(const struct choice *choice, const char *operand)
{
    if (operand != NULL || criteria(choice) != 0) {
        return cli_usage(&cli_queue_command, "the summary is of the whole queue; `list` selects");
    }
    return get(choice, "/queue", print_summary);
}

static int run_list(const struct choice *choice, const char *operand)
{
    if (operand != NULL || choice->id != NULL || criteria(choice) > 1) {
        return cli_usage(&cli_queue_command, "list takes one of --domain, --sender and --all, or nothing");
    }
    return get(choice, "/queue/messages", print_recipients);
}

static int run_show(const struct choice *choice, const char *operand)
{
    char page[64];
    uint64_t id = 0;
    const char *text = operand != NULL ? operand : choice->id;
    if (text == NULL || criteria(choice) > (operand == NULL) || !control_queue_parse_id(text, &id)) {
        return cli_usage(&cli_queue_command, "show takes the ID of a message: 16 hexadecimal digits");
    }
    snprintf(page, sizeof page, "/queue/messages/%016" PRIx64, id);
    return get(&(struct choice){.socket = choice->socket, .json = choice->json}, page, print_recipients);
}

static int run_action(const struct choice *choice, const char *operand, enum control_action action)
{
    const char *name = control_ops_action_name(action);
    char page[64];
    if (operand != NULL || criteria(choice) != 1) {
        return cli_usage(&cli_queue_command, "%s takes exactly one of --id, --domain, --sender and --all", name);
    }
    json_t *json = json_object();
    if (choice->all) {
        json_object_set_new(json, "all", json_true());
    } else if (choice->id != NULL) {
        json_object_set_new(json, "id", json_string(choice->id));
    } else if (choice->domain != NULL) {
        json_object_set_new(json, "domain", json_string(choice->domain));
    } else {
        json_object_set_new(json, "sender", json_string(choice->sender));
    }
    char *body = json_object_size(json) == 1 ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (body == NULL) {
        return cli_usage(&cli_queue_command, "an argument is not UTF-8");
    }
    snprintf(page, sizeof page, "/queue/%s", name);
    int code = ask(choice, "POST", page, body, print_matched);
    free(body);
    return code;
}

static int dispatch(const struct choice *choice, const char *action, const char *operand)
{
    if (strcmp(action, "summary") == 0) {
        return run_summary(choice, operand);
    }
    if (strcmp(action, "list") == 0) {
        return run_list(choice, operand);
    }
    if (strcmp(action, "show") == 0) {
        return run_show(choice, operand);
    }
    for (enum control_action known = 0; known < CONTROL_ACTIONS; known++) {
        if (strcmp(action, control_ops_action_name(known)) == 0) {
            return run_action(choice, operand, known);
        }
    }
    return cli_usage(&cli_queue_command, "unknown action '%s'", action);
}

static int run(int argc, char **argv)
{
    struct choice choice = {.socket = SOCKET_PATH};
    const char *argument = NULL;
    int next = 0;
    while ((next = cli_next(&cli_queue_command, argc, argv, &argument)) >= 0) {
        switch (next) {
        case OPTION_ID: choice.id = argument; break;
        case OPTION_DOMAIN: choice.domain = argument; break;
        case OPTION_SENDER: choice.sender = argument; break;
        case OPTION_ALL: choice.all = true; break;
        case OPTION_LIMIT: choice.limit = argument; break;
        case OPTION_SOCKET: choice.socket = argument; break;
        case OPTION_JSON: choice.json = true; break;
        }
    }
    if (next != CLI_END) {
        return cli_leave(next);
    }
    if (argc - optind > 2) {
        return cli_usage(&cli_queue_command, "unexpected argument '%s'", argv[optind + 2]);
    }
    return dispatch(&choice, argc > optind ? argv[optind] : "summary", argc > optind + 1 ? argv[optind + 1] : NULL);
}

const struct cli_command cli_queue_command = {
    .name = "queue",
    .arguments = "[ACTION] [options]",
    .summary = "Look at and change the queue of the running server.",
    .options = options,
    .details = "  summary              counts, ages and last error per destination, the fullest first (the default)\n"
               "  list [--domain D | --sender S]\n"
               "                       recipients with their state, oldest first\n"
               "  show ID              the recipients of one message\n"
               "  hold SELECTION       make no attempt until released\n"
               "  release SELECTION    undo hold\n"
               "  retry SELECTION      try now instead of at the scheduled time\n"
               "  delete SELECTION     remove without a notice\n"
               "  bounce SELECTION     fail now, with a notice to the sender\n"
               "SELECTION is one of --id, --domain, --sender and --all.\n\n"
               "Exit codes: 0 done, 64 usage, 65 the server refused, 69 no server answers on the socket.\n",
    .run = run,
};
