#include "app/control_request.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/control_metrics.h"
#include "app/control_quarantine.h"
#include "app/control_queue.h"

#define HEALTH_TIMEOUT_MS 2000

struct control_reply control_request_text(unsigned status, char *text, size_t length)
{
    return (struct control_reply){
        .status = text != NULL ? status : 500,
        .type = "text/plain; charset=utf-8",
        .body = text,
        .length = text != NULL ? length : 0,
    };
}

struct control_reply control_request_json(unsigned status, struct json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
    size_t length = text != NULL ? strlen(text) : 0;
    if (text != NULL) {
        text[length++] = '\n'; /* instead of the NUL: for those who look at it with curl */
    }
    json_decref(json);
    struct control_reply reply = control_request_text(status, text, length);
    reply.type = "application/json";
    return reply;
}

struct control_reply control_request_error(unsigned status, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return control_request_json(status, json_pack("{s:s}", "error", text));
}

static struct control_reply answer_probe(bool good, const char *reason)
{
    char *text = NULL;
    int length = good ? asprintf(&text, "ok\n") : asprintf(&text, "%s\n", reason);
    return control_request_text(good ? 200 : 503, length >= 0 ? text : NULL, length >= 0 ? (size_t)length : 0);
}

static struct control_reply answer_health(const struct control_request *request, const struct control_ops *ops)
{
    char reason[256] = "not healthy";
    (void)request;
    return answer_probe(ops->healthy(ops->context, HEALTH_TIMEOUT_MS, reason, sizeof reason), reason);
}

static struct control_reply answer_ready(const struct control_request *request, const struct control_ops *ops)
{
    char reason[256] = "not ready";
    (void)request;
    return answer_probe(ops->ready(ops->context, reason, sizeof reason), reason);
}

static struct control_reply answer_metrics(const struct control_request *request, const struct control_ops *ops)
{
    size_t length = 0;
    (void)request;
    char *text = control_metrics_render(ops, &length);
    struct control_reply reply = control_request_text(200, text, length);
    reply.type = "text/plain; version=0.0.4; charset=utf-8";
    return reply;
}

static const struct {
    const char *path;
    struct control_reply (*answer)(const struct control_request *request, const struct control_ops *ops);
    bool everywhere;
    bool arguments;
} pages[] = {
    {"/metrics", answer_metrics, true, false},
    {"/healthz", answer_health, true, false},
    {"/readyz", answer_ready, true, false},
    {"/queue", control_queue_summary, false, true},
    {"/queue/messages", control_queue_list, false, true},
    {"/quarantine", control_quarantine_list, false, false},
};

static struct control_reply refuse_method(const char *allow)
{
    struct control_reply reply = control_request_error(405, "the method must be %s", allow);
    reply.allow = allow;
    return reply;
}

static struct control_reply get(const struct control_request *request, const struct control_ops *ops, size_t page,
                                const char *id)
{
    bool head = strcmp(request->method, "HEAD") == 0;
    if (!head && strcmp(request->method, "GET") != 0) {
        return refuse_method("GET");
    }
    if (request->body.length != 0) {
        return control_request_error(400, "a GET has no body");
    }
    if (request->arguments_count != 0 && (id != NULL || !pages[page].arguments)) {
        return control_request_error(400, "%s takes no arguments", request->path);
    }
    return id != NULL ? control_queue_show(request, ops, id) : pages[page].answer(request, ops);
}

static bool may_post(const struct control_request *request, struct control_reply *ret_reply)
{
    if (strcmp(request->method, "POST") != 0) {
        *ret_reply = refuse_method("POST");
        return false;
    }
    if (request->arguments_count != 0) {
        *ret_reply = control_request_error(400, "%s takes its arguments in the body", request->path);
        return false;
    }
    return true;
}

static struct control_reply post(const struct control_request *request, const struct control_ops *ops,
                                 enum control_action action)
{
    struct control_reply reply;
    return may_post(request, &reply) ? control_queue_act(request, ops, action) : reply;
}

/* Something under /quarantine? */
static bool quarantine(const struct control_request *request, const struct control_ops *ops,
                       struct control_reply *ret_reply)
{
    bool drop = strcmp(request->path, "/quarantine/drop") == 0;
    if (!drop && strcmp(request->path, "/quarantine/forget") != 0) {
        return false;
    }
    if (may_post(request, ret_reply)) {
        *ret_reply = drop ? control_quarantine_drop(request, ops) : control_quarantine_forget(request, ops);
    }
    return true;
}

struct control_reply control_request_answer(const struct control_request *request, const struct control_ops *ops,
                                            bool all)
{
    static const char messages[] = "/queue/messages/";
    static const char queue[] = "/queue/";
    char reason[256];
    if (all && strncmp(request->path, queue, sizeof queue - 2) == 0 &&
        !ops->healthy(ops->context, HEALTH_TIMEOUT_MS, reason, sizeof reason)) {
        return control_request_error(503, "%s", reason); /* half a queue would be a wrong answer */
    }
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        if ((all || pages[i].everywhere) && strcmp(request->path, pages[i].path) == 0) {
            return get(request, ops, i, NULL);
        }
    }
    if (all && strncmp(request->path, messages, sizeof messages - 1) == 0) {
        return get(request, ops, 0, request->path + sizeof messages - 1);
    }
    struct control_reply reply;
    if (all && quarantine(request, ops, &reply)) {
        return reply;
    }
    for (enum control_action action = 0; all && action < CONTROL_ACTIONS; action++) {
        if (strncmp(request->path, queue, sizeof queue - 1) == 0 &&
            strcmp(request->path + sizeof queue - 1, control_ops_action_name(action)) == 0) {
            return post(request, ops, action);
        }
    }
    return control_request_error(404, all ? "no such page" : "no such page; the queue is on the unix socket only");
}
