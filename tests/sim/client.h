/* The clients that send mail in: scripted SMTP sessions, one reply at a time or pipelined, whole or broken off. */
#ifndef SIM_CLIENT_H
#define SIM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

struct client_settings {
    size_t body_bytes_max;
    bool relaxed_listener; /* there is one */
};

/* Connects now; when nobody listens, a little later, again and again. */
void client_start(const struct client_settings *settings);
/* Sessions that have not ended. */
unsigned client_sessions(void);

#endif
