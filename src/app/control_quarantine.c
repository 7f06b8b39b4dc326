#include "app/control_quarantine.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/control_queue.h"
#include "core/clock.h"

static json_t *message_json(const struct control_quarantined *item, uint64_t now_ms)
{
    char id[17];
    snprintf(id, sizeof id, "%016" PRIx64, item->id);
    json_t *sender = json_string(item->sender);
    json_t *age = item->readable ? json_integer((json_int_t)((now_ms - item->arrival_ms) / 1000)) : json_null();
    return json_pack("{s:s, s:s, s:I, s:I, s:i, s:b, s:o, s:o}", "id", id, "file", item->file, "offset",
                     (json_int_t)item->offset, "bytes", (json_int_t)item->bytes, "recipients", (int)item->recipients,
                     "envelope_readable", item->readable, "sender", sender != NULL ? sender : json_string("?"),
                     "age_seconds", age);
}

struct control_reply control_quarantine_list(const struct control_request *request, const struct control_ops *ops)
{
    struct control_quarantine found = ops->quarantine_list(ops->context, CONTROL_QUEUE_LIMIT_DEFAULT);
    uint64_t now_ms = clock_wall_ms();
    json_t *list = json_array();
    (void)request;
    for (size_t i = 0; i < found.count; i++) {
        json_array_append_new(list, message_json(&found.items[i], now_ms));
    }
    free(found.items);
    return control_request_json(200, json_pack("{s:o, s:b, s:I, s:I}", "messages", list, "more", found.more,
                                               "damaged_records", (json_int_t)found.damaged_records, "damaged_segments",
                                               (json_int_t)found.damaged_segments));
}

/* Exactly {"id": "..."} or {"all": true}. 0: all. */
static bool parse_drop(const json_t *json, uint64_t *ret_id)
{
    const char *id = json_string_value(json_object_get(json, "id"));
    *ret_id = 0;
    if (json_object_size(json) != 1) {
        return false;
    }
    return id != NULL ? control_queue_parse_id(id, ret_id) : json_is_true(json_object_get(json, "all"));
}

struct control_reply control_quarantine_drop(const struct control_request *request, const struct control_ops *ops)
{
    json_t *json = json_loadb(request->body.data, request->body.length, JSON_REJECT_DUPLICATES, NULL);
    uint64_t id = 0;
    struct control_reply reply;
    if (!parse_drop(json, &id)) {
        reply = control_request_error(400, "exactly one of {\"id\": \"16 hexadecimal digits\"} and {\"all\": true} is "
                                           "expected");
    } else {
        uint64_t dropped = ops->quarantine_drop(ops->context, id);
        reply = id != 0 && dropped == 0 ? control_request_error(404, "no such message in quarantine")
                                        : control_request_json(200, json_pack("{s:I}", "dropped", (json_int_t)dropped));
    }
    json_decref(json);
    return reply;
}

struct control_reply control_quarantine_forget(const struct control_request *request, const struct control_ops *ops)
{
    json_t *json = json_loadb(request->body.data, request->body.length, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(json) && json_object_size(json) == 0;
    json_decref(json);
    if (!good) {
        return control_request_error(400, "the body must be {}");
    }
    uint64_t forgotten = ops->quarantine_forget(ops->context);
    return control_request_json(200, json_pack("{s:I}", "forgotten", (json_int_t)forgotten));
}
