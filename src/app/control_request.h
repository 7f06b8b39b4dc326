/* One request and its reply, apart from the HTTP library: what the handlers see, and what tests can make by hand. */
#ifndef APP_CONTROL_REQUEST_H
#define APP_CONTROL_REQUEST_H

#include <stdbool.h>

#include "app/control_ops.h"
#include "base/bytes.h"

#define CONTROL_REQUEST_BODY_BYTES_MAX 65536
#define CONTROL_REQUEST_ARGUMENTS_MAX 8

struct control_request {
    const char *method;
    const char *path; /* without the query */
    struct {
        const char *name;
        struct bytes value;
    } arguments[CONTROL_REQUEST_ARGUMENTS_MAX]; /* of the query */
    unsigned arguments_count;
    struct bytes body;
};

struct control_reply {
    unsigned status;
    const char *type;  /* Content-Type */
    const char *allow; /* with 405 */
    char *body;        /* malloc'ed; NULL: no memory, or nothing to say */
    size_t length;
};

/* {"error": "..."} with the status. */
struct control_reply control_request_error(unsigned status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Takes over the reference to a jansson value; NULL is a lack of memory. */
struct json_t;
struct control_reply control_request_json(unsigned status, struct json_t *json);
/* Plain text; takes over the malloc'ed `text`. */
struct control_reply control_request_text(unsigned status, char *text, size_t length);

/* Answers any request. `all` tells the unix socket from the TCP port, which has only what changes and reveals no mail.
 */
struct control_reply control_request_answer(const struct control_request *request, const struct control_ops *ops,
                                            bool all);

#endif
