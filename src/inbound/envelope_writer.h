/* The envelope of a message being received: sender, parameters, recipients and what they stand for. */
#ifndef INBOUND_ENVELOPE_WRITER_H
#define INBOUND_ENVELOPE_WRITER_H

#include "inbound/body.h"
#include "inbound/reception.h"
#include "inbound/recipient_set.h"

struct envelope_writer {
    struct body_pool *pool;
    struct bytes hostname; /* of <Postmaster> */
    uint64_t wall_ms;      /* at MAIL */
    uint32_t recipients;   /* with what aliases stand for, each once */
    uint32_t given;        /* by the client */
    bool forwarded;        /* one of them is an alias */
    uint32_t flags;        /* SPOOL_FORMAT_... that the parameters of MAIL ask for */
    struct recipient_set set;
    struct buffer bytes; /* spool/envelope.h */
    char first[RECEPTION_ENVELOPE_BYTES_MIN];
};

struct envelope_writer_setup {
    struct body_pool *pool;
    uint64_t wall_ms;
};

/* With sender, client and parameters. Anything but ERR_OK: free it, it is good for nothing else. */
enum err envelope_writer_begin(struct envelope_writer *writer, const struct envelope_writer_setup *setup,
                               const struct reception_client *client, const struct address *sender,
                               const struct params_mail *params);
void envelope_writer_free(struct envelope_writer *writer);

/* As reception_add_recipient. A recipient that is there already is accepted and not added again: its ORCPT stays the
 * first one's, and of its NOTIFY nothing that was asked for is lost. */
enum err envelope_writer_add(struct envelope_writer *writer, const struct address *recipient,
                             const struct params_rcpt *params, const struct recipients_answer *answer);

/* The one that may be named in Received, or "": RFC 5321 4.4, never more than one, and not what an alias stands for. */
struct bytes envelope_writer_only_recipient(const struct envelope_writer *writer);

/* --- changes of an envelope that was whole already; anything but ERR_OK: it is as before --- */

enum err envelope_writer_set_sender(struct envelope_writer *writer, const struct address *sender);

/* The recipients that are this address, or stand for it. *ret_removed says how many; none may be left. */
enum err envelope_writer_remove(struct envelope_writer *writer, const struct address *recipient, uint32_t *ret_removed);

/* Not to be delivered until the operator releases it, for that reason. */
enum err envelope_writer_hold(struct envelope_writer *writer, struct bytes reason);

#endif
