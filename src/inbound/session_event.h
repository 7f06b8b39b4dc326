/* What happens to mail that is received, for the event log. */
#ifndef INBOUND_SESSION_EVENT_H
#define INBOUND_SESSION_EVENT_H

#include "core/shard.h"
#include "inbound/peer.h"
#include "smtp/reply.h"

struct session_event {
    struct shard *shard;
    struct bytes listener;
    const struct peer *peer;
    /* reception */
    uint64_t id;
    struct bytes envelope; /* spool/envelope.h */
    unsigned recipients;
    uint64_t message_bytes;
    bool relaxed;    /* acknowledged before its sync */
    const char *tls; /* its version, NULL without */
    /* rejection */
    const char *phase;      /* "mail", "rcpt" and so on: ringpost/event.h */
    struct bytes user;      /* who authenticated, or tried to */
    struct bytes sender;    /* at mail */
    struct bytes recipient; /* at rcpt */
    const struct reply *reply;
    /* filter: with id, user, sender, recipients and message_bytes */
    struct bytes filter;
    const char *action;
    struct bytes reason;
};

/* A message was accepted, and is held for a mail filter; or was not kept, as a filter wished. */
void session_event_filter(const struct session_event *about);

/* A message was accepted. */
void session_event_reception(const struct session_event *about);

/* A connection, a login, a sender, a recipient or a message was refused. */
void session_event_rejection(const struct session_event *about);

#endif
