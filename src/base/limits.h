/* Every compile-time limit of the program, with its unit. What an operator may change has its default here, a line in
 * deploy/ringpost.conf and a test. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include <assert.h>

/* SMTP (RFC 5321 4.5.3.1) */
#define LIMIT_LOCAL_PART_BYTES 64
#define LIMIT_DOMAIN_BYTES 255
#define LIMIT_PATH_BYTES 256
#define LIMIT_ADDRESS_BYTES 320            /* local part, '@', domain */
#define LIMIT_COMMAND_BYTES_DEFAULT 2048   /* with CRLF; RFC floor 512 plus what extensions add */
#define LIMIT_TEXT_LINE_BYTES_DEFAULT 1000 /* with CRLF */
#define LIMIT_REPLY_LINE_BYTES 512         /* with CRLF */
#define LIMIT_RECIPIENTS_DEFAULT 1000
#define LIMIT_RECIPIENTS_CEILING 50000
#define LIMIT_MESSAGE_BYTES_DEFAULT (50u * 1024 * 1024)
#define LIMIT_RECEIVED_DEFAULT 100
#define LIMIT_ERRORS_DEFAULT 20

/* One outbound transaction */
#define LIMIT_TRANSACTION_RECIPIENTS 100
#define LIMIT_CLIENT_REPLY_BYTES 512       /* stored text of a remote reply */
#define LIMIT_CLIENT_REPLY_LINE_BYTES 4096 /* a longer line ends the connection */
#define LIMIT_CLIENT_REPLY_LINES 200
#define LIMIT_CLIENT_COMMAND_BYTES 1536  /* the longest command we say: MAIL FROM with every parameter */
#define LIMIT_CLIENT_PARAMETER_BYTES 500 /* ENVID, ORCPT and AUTH= that are passed on: RFC 3461 4.2 */

/* Rings and shards */
#define LIMIT_SHARDS 64
#define LIMIT_RING_ENTRIES 4096
#define LIMIT_RECEIVE_BUFFERS 1024 /* provided buffers per shard, a power of two */
#define LIMIT_RECEIVE_BUFFER_BYTES 16384
#define LIMIT_RECEIVE_BUFFER_BYTES_MAX 32768 /* what is in them is counted in 16 bits */
#define LIMIT_MAIL_BYTES 960                 /* largest mailbox message */

/* Spool */
#define LIMIT_RECORD_ALIGN 64
#define LIMIT_SEGMENT_BYTES_MIN (16u << 20)
#define LIMIT_SEGMENT_BYTES_DEFAULT (64u << 20)
#define LIMIT_SEGMENT_BYTES_MAX (1u << 30)
#define LIMIT_BATCH_BYTES (4u << 20)
#define LIMIT_EXTENT_BYTES (256u << 10) /* a larger body is stored in pieces of this size while it arrives */

static_assert(LIMIT_COMMAND_BYTES_DEFAULT >= 1036, "RFC 3461 4: a server with DSN accepts longer lines");
static_assert((LIMIT_RECEIVE_BUFFERS & (LIMIT_RECEIVE_BUFFERS - 1)) == 0, "the kernel wants a power of two");
static_assert(LIMIT_EXTENT_BYTES * 8 <= LIMIT_BATCH_BYTES, "several extents share a batch");
static_assert(LIMIT_BATCH_BYTES * 2 <= LIMIT_SEGMENT_BYTES_MIN, "a batch fits a segment");

#endif
