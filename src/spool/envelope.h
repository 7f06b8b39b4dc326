/* The envelope of a queued message in its on-disk form: a sequence of length-prefixed items, built by the session that
 * receives the message straight into the buffer that is appended to the spool.
 *
 *   item = tag (1 byte) flags (1 byte) length (2 bytes, little-endian) bytes
 *
 * First a SENDER, then what else belongs to the message, then recipients in any number; an item that belongs to a
 * recipient (ENVELOPE_ORIGINAL_RECIPIENT) follows it. The index of a recipient is its place among the RECIPIENT items.
 * Readers skip tags they do not know. What is read from a disk is treated as hostile: every length is checked, and no
 * byte value has a meaning (RFC 5321 text was checked before).
 */
#ifndef SPOOL_ENVELOPE_H
#define SPOOL_ENVELOPE_H

#include "base/bytes.h"
#include "base/err.h"

enum envelope_tag {
    ENVELOPE_SENDER = 1,         /* reverse-path without <>; empty: the null sender */
    ENVELOPE_RECIPIENT = 2,      /* forward-path without <>; flags: ENVELOPE_NOTIFY_... */
    ENVELOPE_CLIENT_ADDRESS = 3, /* 4 or 16 bytes, network order */
    ENVELOPE_HELO = 4,
    ENVELOPE_ORIGINAL_RECIPIENT = 5, /* ORCPT of the recipient before it */
    ENVELOPE_ID = 6,                 /* ENVID */
    ENVELOPE_AUTHENTICATED = 7,      /* user name */
    ENVELOPE_TENANT = 8,
    ENVELOPE_CLASS = 9,
    ENVELOPE_LISTENER = 10,
    ENVELOPE_RETURN = 11,     /* RET (RFC 3461 4.3): 'F' or 'H' */
    ENVELOPE_PRIORITY = 12,   /* MT-PRIORITY (RFC 6710): 1 byte, two's complement */
    ENVELOPE_HOLD_UNTIL = 13, /* FUTURERELEASE (RFC 4865): 8 bytes little-endian, ms since 1970 */
    ENVELOPE_DELIVER_BY = 14, /* DELIVERBY (RFC 2852): as above, then 'N' or 'R', then 1 when a trace was asked for */
    ENVELOPE_AUTH_PARAMETER = 15, /* AUTH= of MAIL (RFC 4954 5), xtext as received */
    ENVELOPE_HELD = 16,           /* not to be tried until the operator releases it; why */
};

/* NOTIFY of a recipient (RFC 3461 4.1); none: not given. */
#define ENVELOPE_NOTIFY_NEVER 1u
#define ENVELOPE_NOTIFY_SUCCESS 2u
#define ENVELOPE_NOTIFY_FAILURE 4u
#define ENVELOPE_NOTIFY_DELAY 8u

#define ENVELOPE_ITEM_BYTES 4 /* of an item without its bytes */

struct envelope_item {
    uint8_t tag;
    uint8_t flags;
    struct bytes value;
};

/* Appends an item; false (and nothing written) when the room does not suffice or the value is longer than 65535. */
bool envelope_add(struct buffer *envelope, enum envelope_tag tag, uint8_t flags, struct bytes value);

struct envelope_iterator {
    struct bytes rest;
    bool bad; /* ended because the bytes are not well formed */
};

struct envelope_iterator envelope_iterate(struct bytes envelope);
/* False at the end. */
bool envelope_next(struct envelope_iterator *iterator, struct envelope_item *ret_item);
/* The next RECIPIENT item; false at the end. */
bool envelope_next_recipient(struct envelope_iterator *iterator, struct envelope_item *ret_item);

/* ERR_OK when all items are well formed and there is exactly one SENDER, and it comes before the first recipient. */
enum err envelope_check(struct bytes envelope, uint32_t *ret_recipients);

/* The first item with that tag; an empty span with NULL data when there is none. */
struct bytes envelope_find(struct bytes envelope, enum envelope_tag tag);
/* The recipient of that index, by walking; false when there is none. */
bool envelope_recipient(struct bytes envelope, uint32_t index, struct envelope_item *ret_item);

#endif
