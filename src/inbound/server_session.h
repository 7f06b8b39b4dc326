/* One SMTP connection being served: the driver between core/stream, the pure machine smtp/server, and the spool. */
#ifndef INBOUND_SERVER_SESSION_H
#define INBOUND_SERVER_SESSION_H

#include "inbound/listener.h"

struct server_session;

/* Takes the connection over, with its ticket, and greets. */
void server_session_open(struct inbound *inbound, const struct listener_connection *connection);

/* The shard is stopping (inbound->stopping, ->overdue): lets every session act on it. */
void server_session_stop_all(struct inbound *inbound);

/* Cuts off every session but those whose message is being committed. */
void server_session_abort_all(struct inbound *inbound);

/* Once, before the first session. */
void server_session_start(struct inbound *inbound);

#endif
