#include "app/cli_quarantine.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "app/cli.h"
#include "app/control_client.h"
#include "app/control_queue.h"

/* The parsed answer, or NULL with the exit code. */
static json_t *ask(const char *socket_path, const char *method, const char *target, const char *body, int *ret_code)
{
    struct control_client_reply reply;
    char reason[256];
    if (control_client_request(socket_path, method, target, bytes_of_string(body), &reply, reason, sizeof reason) !=
        0) {
        fprintf(stderr, "ringpost spool: %s\n", reason);
        *ret_code = CLI_UNAVAILABLE;
        return NULL;
    }
    json_t *answer = json_loadb(reply.body, reply.length, 0, NULL);
    if (reply.status != 200 || answer == NULL) {
        const char *error = json_string_value(json_object_get(answer, "error"));
        fprintf(stderr, "ringpost spool: the server answers %u: %s\n", reply.status, error != NULL ? error : "?");
        json_decref(answer);
        answer = NULL;
        *ret_code = CLI_DATA;
    }
    free(reply.body);
    return answer;
}

static json_int_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "";
}

int cli_quarantine_list(const char *socket_path)
{
    int code = CLI_OK;
    size_t index = 0;
    json_t *item = NULL;
    json_t *answer = ask(socket_path, "GET", "/quarantine", "", &code);
    if (answer == NULL) {
        return code;
    }
    json_array_foreach(json_object_get(answer, "messages"), index, item)
    {
        bool readable = json_is_true(json_object_get(item, "envelope_readable"));
        printf("%s  %s:%" JSON_INTEGER_FORMAT "  %" JSON_INTEGER_FORMAT " bytes, %" JSON_INTEGER_FORMAT
               " recipients, %s%s%s\n",
               text(item, "id"), text(item, "file"), number(item, "offset"), number(item, "bytes"),
               number(item, "recipients"), readable ? "from <" : "the envelope does not verify", text(item, "sender"),
               readable ? ">" : "");
    }
    if (json_is_true(json_object_get(answer, "more"))) {
        puts("... and more");
    }
    printf("%zu messages in quarantine; %" JSON_INTEGER_FORMAT " damaged records of no message, %" JSON_INTEGER_FORMAT
           " segments kept for them\n",
           json_array_size(json_object_get(answer, "messages")), number(answer, "damaged_records"),
           number(answer, "damaged_segments"));
    json_decref(answer);
    return code;
}

static int change(const char *socket_path, const char *target, const char *body, const char *name, const char *what)
{
    int code = CLI_OK;
    json_t *answer = ask(socket_path, "POST", target, body, &code);
    if (answer != NULL) {
        printf("%" JSON_INTEGER_FORMAT " %s\n", number(answer, name), what);
        json_decref(answer);
    }
    return code;
}

int cli_quarantine_drop(const char *socket_path, const char *id)
{
    char body[64] = "{\"all\": true}";
    uint64_t parsed = 0;
    if (id != NULL && !control_queue_parse_id(id, &parsed)) {
        fprintf(stderr, "ringpost spool: a message's id is 16 hexadecimal digits\n");
        return CLI_USAGE;
    }
    if (id != NULL) {
        snprintf(body, sizeof body, "{\"id\": \"%016" PRIx64 "\"}", parsed);
    }
    return change(socket_path, "/quarantine/drop", body, "dropped", "messages dropped");
}

int cli_quarantine_forget(const char *socket_path)
{
    return change(socket_path, "/quarantine/forget", "{}", "forgotten", "damaged records let go");
}
