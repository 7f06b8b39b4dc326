/* What this host puts in front of a message: its Received field, and what a submitted message lacks. */
#ifndef INBOUND_PROLOGUE_H
#define INBOUND_PROLOGUE_H

#include "inbound/reception.h"
#include "mail/header_scan.h"
#include "mail/received.h"

#define PROLOGUE_BYTES_MAX (RECEIVED_BYTES_MAX + LIMIT_DOMAIN_BYTES + 128) /* and Date and Message-ID */

struct prologue {
    const struct reception_client *client;
    const struct header_scan *header; /* of a submitted message */
    struct bytes id;
    struct bytes recipient; /* when there is only one, else "" */
    uint64_t arrival_ms;
    struct bytes priority; /* one octet, or "": none was given */
    bool utf8;             /* SMTPUTF8 */
};

/* The room must be PROLOGUE_BYTES_MAX. */
void prologue_write(struct buffer *out, const struct prologue *prologue);

#endif
