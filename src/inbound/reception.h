/* One message being received: its envelope and body in memory, large bodies flowing into the spool as extents, then
 * the commit. It belongs to a session until that lets go; a commit that has begun ends by itself, with or without a
 * session. */
#ifndef INBOUND_RECEPTION_H
#define INBOUND_RECEPTION_H

#include "core/tls.h"
#include "inbound/inbound.h"
#include "inbound/peer.h"
#include "inbound/profile.h"
#include "inbound/recipients.h"
#include "mail/address.h"
#include "smtp/params.h"
#include "smtp/server.h"
#include "spool/spool.h"

#define RECEPTION_ENVELOPE_BYTES_MIN 1024
#define RECEPTION_ENVELOPE_BYTES_MAX (2u << 20)
#define RECEPTION_ID_BYTES 17 /* sixteen hexadecimal digits and a NUL */
#define RECEPTION_SPARE 256   /* kept per shard */

struct reception;

/* Who sends the message. Spans live as long as the session. */
struct reception_client {
    const struct peer *peer;
    struct bytes helo;
    struct profile *profile;
    bool extended;               /* EHLO */
    bool trusted;                /* may relay, or has authenticated: what it says about AUTH= and priority counts */
    const struct tls_facts *tls; /* NULL: in clear text */
    struct bytes account;        /* of AUTH, or "" */
    struct bytes tenant;         /* of the account, or "" */
    /* For the trace only, as a trusted filter in front told it by XFORWARD; else as above. */
    const struct peer *trace_peer;
    struct bytes trace_helo;
};

size_t reception_bytes(void); /* of memory per message in hand, for the shard's pool */

/* `changed` is called when reception_stalled or reception_finished may have changed, never from inside a function of
 * this file. NULL without memory. */
struct reception *reception_begin(struct inbound *inbound, const struct reception_client *client,
                                  const struct address *sender, const struct params_mail *params,
                                  void (*changed)(void *owner), void *owner);

/* ERR_FULL: the envelope has its largest size, or most recipients. ERR_NO_MEMORY: the pool is exhausted. Nothing was
 * added then. The targets of an alias stand in for the address, with its NOTIFY, and its ORCPT or what stands for none
 * (RFC 3461 5.2.7.3). */
enum err reception_add_recipient(struct reception *reception, const struct address *recipient,
                                 const struct params_rcpt *params, const struct recipients_answer *answer);

/* A piece in wire form, copied. Never fails here: what cannot be kept is drained, and reception_finish will say so. */
void reception_body(struct reception *reception, struct bytes piece);

/* So much waits for the disk that no more input may be taken. */
bool reception_stalled(const struct reception *reception);

/* --- filters, between the end of the message and reception_finish: inbound/filter_content.h --- */

struct body_store;

/* What has come: for reading. */
struct body_store *reception_store(struct reception *reception);
uint64_t reception_new_id(struct reception *reception); /* gives it its id, if it has none */
/* What this host would put in front of it; the room must be PROLOGUE_BYTES_MAX (inbound/prologue.h). */
void reception_prologue(struct reception *reception, const struct reception_client *client, bool utf8,
                        struct buffer *out);
/* The message is this one now, with all that is to stand in front of it; what it was is given back. `dot` has read it,
 * `other_body`: what the client said of its end is not so any more. */
void reception_replace(struct reception *reception, struct body_store *from, const struct dot *dot, bool other_body);
/* Its envelope, to be changed. */
struct envelope_writer *reception_envelope(struct reception *reception);
unsigned reception_recipients(const struct reception *reception);

/* The message is whole: stores it. The machine knows what it found out about it. */
void reception_finish(struct reception *reception, const struct reception_client *client,
                      const struct smtp_server *machine);

/* The outcome, after reception_finish. ERR_OK: durable (or written, when the listener is relaxed), queued, counted. */
bool reception_finished(const struct reception *reception, enum err *ret_err);

/* Valid once finished with ERR_OK. */
const char *reception_id(const struct reception *reception, char text[RECEPTION_ID_BYTES]);

/* Who sends it, as in MAIL; "" for the null sender. Valid until the release. */
struct bytes reception_sender(const struct reception *reception);

/* The session has no more use for it. Unless reception_finish was called the message is forgotten. */
void reception_release(struct reception *reception);

#endif
