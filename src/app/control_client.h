/* A small blocking client of the control socket, for the command line. */
#ifndef APP_CONTROL_CLIENT_H
#define APP_CONTROL_CLIENT_H

#include <stddef.h>

#include "base/bytes.h"

#define CONTROL_CLIENT_TIMEOUT_SECONDS 60
#define CONTROL_CLIENT_REPLY_BYTES_MAX (256u << 20)

struct control_client_reply {
    unsigned status;
    char *body; /* malloc'ed, with a NUL behind it */
    size_t length;
};

/* One request, one reply. `body` is empty for a GET. 0, or -errno with a one-line reason. */
int control_client_request(const char *socket_path, const char *method, const char *target, struct bytes body,
                           struct control_client_reply *ret_reply, char *reason, size_t reason_size);

/* Appends a value to a query, escaped. False without room. */
bool control_client_escape(struct buffer *out, const char *value);

#endif
