/* The driver of one outbound connection: it walks the site's addresses, speaks SMTP through the pure machine
 * smtp/client, and keeps the connection warm for the next message. */
#ifndef DELIVERY_CLIENT_SESSION_H
#define DELIVERY_CLIENT_SESSION_H

#include "core/stream.h"
#include "delivery/attempt.h"
#include "delivery/site.h"

#define CLIENT_SESSION_OUT_BYTES 8192
#define CLIENT_SESSION_TLS_BYTES 96
#define CLIENT_SESSION_PROBLEM_BYTES 192

/* Opens a connection to the site's first address. False when none can be opened now. */
bool client_session_open(struct site *site);

/* An idle connection (taken out of site->idle) is to look for work. */
void client_session_work(struct client_session *session);

/* The attempt that it asked for can begin, or is gone (ended by the caller). */
void client_session_attempt_ready(struct client_session *session);
void client_session_attempt_gone(struct client_session *session);

/* Says QUIT when what is on the wire has ended. */
void client_session_quit(struct client_session *session);

/* Its host reads nothing of what we send, and has said more than it was asked for: that lies in receive buffers that
 * others need. */
bool client_session_hoards(const struct client_session *session);

/* Closes at once; what is on the wire is treated as a lost connection. */
void client_session_abort(struct client_session *session);

struct client_session {
    struct list idle;    /* in site->idle */
    struct list resting; /* in delivery->idle, at the same time */
    struct list all;     /* in the delivery's list */
    struct site *site;
    struct delivery *delivery;
    struct stream stream;
    struct timer timer;
    uint64_t deadline_ms;
    struct mx_result *hosts; /* retained */
    unsigned host;           /* being tried */
    unsigned address;
    struct sockaddr_storage remote;
    struct attempt *next;    /* asked for, not begun */
    struct attempt *sending; /* its body is being sent */
    bool body_begun;         /* some of it has been sent */
    size_t split;            /* bytes of `out` that go before the body */
    uint64_t sent_before;    /* stream.sent_bytes when progress was last seen */
    uint64_t write_ms;       /* when the body, or the commands, that are being sent began to be */
    uint64_t write_bytes;    /* of the body that is being sent; 0: commands */
    uint64_t send_ms;        /* when the send in flight began */
    uint64_t connect_ms;
    unsigned delivered; /* messages */
    bool connected;
    bool ready; /* past EHLO */
    bool closing;
    bool quitting;
    bool useful;       /* a message was answered on it, or it waited for one */
    bool dot_sent;     /* the kernel has taken the end of the last body, or has been given it in the send in flight */
    size_t behind_dot; /* octets of the send in flight that come after it */
    bool timed_out;
    bool broken;                          /* it can't be sent on any more: what the host has said is yet read */
    bool handshaking;                     /* TLS */
    bool in_clear;                        /* called again without TLS */
    bool tls_short;                       /* ... or called so: there were too many TLS sessions here */
    bool tls_failed;                      /* STARTTLS was refused, or the handshake came to nothing */
    bool tls_host_failed;                 /* ... and not for a reason of ours */
    enum smtp_client_tls tls_mode;        /* of this connection */
    enum smtp_client_phase waiting_phase; /* what the deadline is for */
    uint32_t waiting_replies;
    bool out_in_flight;                /* the send in flight covers all of `out` */
    enum smtp_client_phase last_phase; /* when it was closed */
    uint64_t received_before;
    struct smtp_client client;
    struct smtp_client_reply reply;
    struct buffer out;
    char tls[CLIENT_SESSION_TLS_BYTES];             /* "TLSv1.3 TLS_AES_128_GCM_SHA256 verified" */
    char tls_problem[CLIENT_SESSION_PROBLEM_BYTES]; /* why not */
    char out_bytes[CLIENT_SESSION_OUT_BYTES];
};

#endif
