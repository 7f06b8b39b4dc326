#include "app/control_queue.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "core/clock.h"
#include "core/config_value.h"

/* --- output ------------------------------------------------------------------------------------------------------- */

/* A JSON string of text from outside: what is no UTF-8 gets its upper octets replaced. */
static json_t *text_json(const char *text)
{
    json_t *json = json_string(text != NULL ? text : "");
    char *copy = json == NULL ? strdup(text) : NULL;
    if (copy != NULL) {
        for (char *c = copy; *c != '\0'; c++) {
            *c = (unsigned char)*c >= 0x80 ? '?' : *c;
        }
        json = json_string(copy);
        free(copy);
    }
    return json;
}

static json_t *number_json(uint64_t number)
{
    return json_integer(number <= INT64_MAX ? (json_int_t)number : INT64_MAX);
}

static json_t *age_json(uint64_t then_ms, uint64_t now_ms)
{
    return then_ms == 0 ? json_null() : number_json(then_ms < now_ms ? (now_ms - then_ms) / 1000 : 0);
}

static json_t *wait_json(uint64_t then_ms, uint64_t now_ms)
{
    return then_ms == 0 ? json_null() : number_json(then_ms > now_ms ? (then_ms - now_ms + 999) / 1000 : 0);
}

static uint64_t total_of(const struct control_destination *destination)
{
    return destination->ready + destination->active + destination->deferred + destination->held;
}

static int compare_destinations(const void *a, const void *b)
{
    uint64_t left = total_of(a);
    uint64_t right = total_of(b);
    return (left < right) - (left > right);
}

void control_queue_sort(struct control_destination *destinations, size_t count)
{
    if (count != 0) {
        qsort(destinations, count, sizeof *destinations, compare_destinations);
    }
}

static json_t *destination_json(const struct control_destination *destination, uint64_t now_ms)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "domain", text_json(destination->domain), "ready",
                     number_json(destination->ready), "active", number_json(destination->active), "deferred",
                     number_json(destination->deferred), "held", number_json(destination->held), "oldest_age_seconds",
                     age_json(destination->oldest_ms, now_ms), "next_attempt_in_seconds",
                     wait_json(destination->next_attempt_ms, now_ms), "last_error", text_json(destination->last_error));
}

static json_t *recipient_json(const struct control_recipient *recipient, uint64_t now_ms)
{
    char id[17];
    snprintf(id, sizeof id, "%016" PRIx64, recipient->id);
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "id", id, "sender", text_json(recipient->sender),
                     "recipient", text_json(recipient->recipient), "bytes", number_json(recipient->message_bytes),
                     "age_seconds", age_json(recipient->arrival_ms, now_ms), "state",
                     control_ops_state_name(recipient->state), "attempts", number_json(recipient->attempts),
                     "next_attempt_in_seconds", wait_json(recipient->next_attempt_ms, now_ms), "last_error",
                     text_json(recipient->last_error));
}

/* --- input -------------------------------------------------------------------------------------------------------- */

bool control_queue_parse_id(const char *text, uint64_t *ret_id)
{
    uint64_t id = 0;
    if (strlen(text) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16) {
        return false;
    }
    for (; *text != '\0'; text++) {
        char c = bytes_ascii_lower(*text);
        id = id << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *ret_id = id;
    return id != 0;
}

/* Nothing that could be taken for the end of a line, by anybody who prints it. */
static bool one_line(struct bytes text)
{
    const unsigned char *at = (const unsigned char *)text.data;
    for (size_t i = 0; i < text.length; i++) {
        bool c1 = at[i] == 0xc2 && i + 1 < text.length && at[i + 1] < 0xa0;
        bool separator = at[i] == 0xe2 && i + 2 < text.length && at[i + 1] == 0x80 && (at[i + 2] | 1) == 0xa9;
        if (at[i] < ' ' || at[i] == 0x7f || c1 || separator) {
            return false;
        }
    }
    return true;
}

/* Sets one field of the match from a text; NULL, or what is wrong with it. The text must be NUL-terminated behind its
 * end. */
static const char *match_text(struct control_match *match, const char *name, struct bytes value)
{
    if (!one_line(value)) {
        return "has a control character";
    }
    if (strcmp(name, "id") == 0) {
        return control_queue_parse_id(value.data, &match->id) ? NULL : "is not 16 hexadecimal digits";
    }
    if (strcmp(name, "domain") == 0) {
        bool literal = value.length > 2 && value.data[0] == '[' && value.data[value.length - 1] == ']';
        match->domain = value.data;
        return literal || config_value_hostname(value.data) ? NULL : "is not a domain name";
    }
    if (strcmp(name, "sender") == 0) {
        match->sender = value.data;
        return value.length <= LIMIT_ADDRESS_BYTES ? NULL : "is too long";
    }
    return "is not known";
}

static unsigned criteria(const struct control_match *match)
{
    return (unsigned)(match->id != 0) + (match->domain != NULL) + (match->sender != NULL) + match->all;
}

/* The match of a POST's body; it points into `json`. Returns false with the reply set. */
static bool parse_body(json_t *json, struct control_match *match, struct control_reply *ret_reply)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(json, name, value)
    {
        const char *wrong = NULL;
        if (strcmp(name, "all") == 0) {
            match->all = json_is_true(value);
            wrong = json_is_true(value) ? NULL : "must be true";
        } else if (!json_is_string(value)) {
            wrong = "must be a string (\"id\", \"domain\", \"sender\") or true (\"all\")";
        } else {
            wrong = match_text(match, name, bytes_of(json_string_value(value), json_string_length(value)));
        }
        if (wrong != NULL) {
            *ret_reply = control_request_error(400, "\"%.40s\" %s", one_line(bytes_of_string(name)) ? name : "?",
                                               wrong);
            return false;
        }
    }
    if (criteria(match) != 1) {
        *ret_reply = control_request_error(400,
                                           "exactly one of \"id\", \"domain\", \"sender\" and \"all\" is expected");
        return false;
    }
    return true;
}

/* Arguments of a GET: `limit`, and when `match` is given "domain" or "sender". */
static bool parse_arguments(const struct control_request *request, struct control_match *match, size_t *limit,
                            struct control_reply *ret_reply)
{
    unsigned seen_limit = 0;
    for (unsigned i = 0; i < request->arguments_count; i++) {
        const char *name = request->arguments[i].name;
        struct bytes value = request->arguments[i].value;
        const char *wrong = NULL;
        uint64_t number = 0;
        if (strcmp(name, "limit") == 0) {
            bool good = bytes_parse_number(value, &number) && number >= 1 && number <= CONTROL_QUEUE_LIMIT_MAX;
            wrong = !good ? "is not 1 to 100000" : seen_limit++ != 0 ? "is given twice" : NULL;
            *limit = good ? (size_t)number : *limit;
        } else if (match == NULL || strcmp(name, "id") == 0) {
            wrong = "is not known";
        } else if (criteria(match) != 0) {
            wrong = "is one condition too many";
        } else {
            wrong = match_text(match, name, value);
        }
        if (wrong != NULL) {
            *ret_reply = control_request_error(400, "\"%.40s\" %s", one_line(bytes_of_string(name)) ? name : "?",
                                               wrong);
            return false;
        }
    }
    return true;
}

/* --- pages -------------------------------------------------------------------------------------------------------- */

struct control_reply control_queue_summary(const struct control_request *request, const struct control_ops *ops)
{
    struct control_reply reply;
    struct control_destination *destinations = NULL;
    size_t limit = CONTROL_QUEUE_LIMIT_DEFAULT;
    if (!parse_arguments(request, NULL, &limit, &reply)) {
        return reply;
    }
    uint64_t now_ms = clock_wall_ms();
    uint64_t sums[CONTROL_STATES] = {0};
    size_t count = ops->queue_summary(ops->context, &destinations);
    json_t *list = json_array();
    control_queue_sort(destinations, count);
    for (size_t i = 0; i < count; i++) {
        sums[CONTROL_READY] += destinations[i].ready;
        sums[CONTROL_ACTIVE] += destinations[i].active;
        sums[CONTROL_DEFERRED] += destinations[i].deferred;
        sums[CONTROL_HELD] += destinations[i].held;
        if (i < limit) {
            json_array_append_new(list, destination_json(&destinations[i], now_ms));
        }
    }
    control_ops_free_destinations(destinations, count);
    json_t *total = json_object();
    json_object_set_new(total, "destinations", number_json(count));
    for (enum control_state state = 0; state < CONTROL_STATES; state++) {
        json_object_set_new(total, control_ops_state_name(state), number_json(sums[state]));
    }
    return control_request_json(
        200, json_pack("{s:o, s:o, s:b}", "total", total, "destinations", list, "more", count > limit));
}

static json_t *list_json(struct control_recipients *found)
{
    uint64_t now_ms = clock_wall_ms();
    json_t *list = json_array();
    for (size_t i = 0; i < found->count; i++) {
        json_array_append_new(list, recipient_json(&found->items[i], now_ms));
    }
    json_t *json = json_pack("{s:o, s:b}", "recipients", list, "more", found->more);
    control_ops_free_recipients(found);
    return json;
}

struct control_reply control_queue_list(const struct control_request *request, const struct control_ops *ops)
{
    struct control_reply reply;
    struct control_match match = {.id = 0};
    size_t limit = CONTROL_QUEUE_LIMIT_DEFAULT;
    if (!parse_arguments(request, &match, &limit, &reply)) {
        return reply;
    }
    match.all = criteria(&match) == 0;
    struct control_recipients found = ops->message_list(ops->context, &match, limit);
    return control_request_json(200, list_json(&found));
}

struct control_reply control_queue_show(const struct control_request *request, const struct control_ops *ops,
                                        const char *id)
{
    struct control_match match = {.id = 0};
    (void)request;
    if (!control_queue_parse_id(id, &match.id)) {
        return control_request_error(400, "a message's id is 16 hexadecimal digits");
    }
    struct control_recipients found = ops->message_list(ops->context, &match, CONTROL_QUEUE_LIMIT_MAX);
    if (found.count == 0) {
        control_ops_free_recipients(&found);
        return control_request_error(404, "no such message in the queue");
    }
    return control_request_json(200, list_json(&found));
}

struct control_reply control_queue_act(const struct control_request *request, const struct control_ops *ops,
                                       enum control_action action)
{
    struct control_reply reply;
    struct control_match match = {.id = 0};
    json_error_t error;
    json_t *json = json_loadb(request->body.data, request->body.length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(json)) {
        const char *why = json == NULL ? error.text : "not an object";
        reply = control_request_error(400, "the body must be an object as {\"domain\": \"example.com\"}: %s", why);
        json_decref(json);
        return reply;
    }
    if (parse_body(json, &match, &reply)) {
        uint64_t matched = ops->queue_action(ops->context, action, &match);
        reply = control_request_json(200, json_pack("{s:o}", "matched", number_json(matched)));
    }
    json_decref(json);
    return reply;
}
