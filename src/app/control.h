/* The control interface: HTTP and JSON on a unix socket (everything) and on a TCP port (what changes nothing).
 *
 *   GET  /queue?limit=                           destinations with counts, the fullest first
 *   GET  /queue/messages?domain=|sender=&limit=  recipients, oldest first
 *   GET  /queue/messages/ID                      the recipients of one message
 *   POST /queue/hold|release|retry|delete|bounce {"id": ..} | {"domain": ..} | {"sender": ..} | {"all": true}
 *   GET  /metrics /healthz /readyz               also on TCP
 *
 * docs/operations.md describes the answers. Each listening socket has a thread of its own, which talks to the rest of
 * the program only through struct control_ops.
 */
#ifndef APP_CONTROL_H
#define APP_CONTROL_H

#include "app/control_ops.h"
#include "core/config.h"

struct control;

struct control_settings {
    const char *socket;            /* path; "" or NULL: none. Replaces a socket that nobody listens on */
    struct config_endpoint listen; /* length 0: none */
};

/* Opens what the settings ask for. 0, or -errno with a one-line reason that names the address. */
int control_new(const struct control_settings *settings, const struct control_ops *ops, struct control **ret_control,
                char *reason, size_t reason_size);
/* Stops taking requests, lets the one in hand end, removes the socket. */
void control_delete(struct control *control);

#endif
