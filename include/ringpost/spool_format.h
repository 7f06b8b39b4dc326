/* The spool on disk, format version 1. For programs that read a spool: everything is little-endian and packed by hand.
 *
 * A spool is a directory of segment files of one size. A segment is
 *
 *   0      header page: two equal copies of struct spool_format_segment, at 0 and at SPOOL_FORMAT_HEADER_COPY
 *   4096   records, each at a multiple of 64 bytes: struct spool_format_record, payload, zero bytes to the next one
 *   ...    once full: a SEAL record
 *   end-64 once full: struct spool_format_trailer, which says where the SEAL is
 *
 * A record belongs to the segment only when its epoch is the header's: emptied segments are used again with a new
 * epoch, so that what they held before is no longer a record. `sequence` counts the records of the whole spool by one.
 * A record whose sequence is not below the first sequence of a later segment was never acknowledged and does not count.
 */
#ifndef RINGPOST_SPOOL_FORMAT_H
#define RINGPOST_SPOOL_FORMAT_H

#include <assert.h>
#include <stdint.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the spool is little-endian");

#define SPOOL_FORMAT_VERSION 1
#define SPOOL_FORMAT_ALIGN 64
#define SPOOL_FORMAT_HEADER_BYTES 4096
#define SPOOL_FORMAT_HEADER_COPY 2048

#define SPOOL_FORMAT_SEGMENT_MAGIC 0x4745535453505052ull /* "RPPSTSEG" */
#define SPOOL_FORMAT_RECORD_MAGIC 0x44524352u            /* "RCRD" */
#define SPOOL_FORMAT_TRAILER_MAGIC 0x4c494154u           /* "TAIL" */

struct spool_format_segment {
    uint64_t magic;
    uint32_t version;
    uint32_t spool;          /* number of the spool: 0..255 */
    uint64_t number;         /* of the segment; segments are filled in the order of their numbers */
    uint64_t epoch;          /* random */
    uint64_t bytes;          /* size of the file */
    uint64_t sequence_floor; /* every sequence used before this header was written is below this */
    uint64_t id_floor;       /* and every message id, without the spool's number */
    uint64_t created_ms;     /* since 1970 */
    uint32_t reserved[15];
    uint32_t crc; /* CRC-32C of all the bytes before */
};
static_assert(sizeof(struct spool_format_segment) == 128, "on disk");

enum spool_format_type {
    SPOOL_FORMAT_EXTENT = 1,  /* a piece of a large body */
    SPOOL_FORMAT_MESSAGE = 2, /* struct spool_format_message */
    SPOOL_FORMAT_OUTCOME = 3, /* struct spool_format_outcome */
    SPOOL_FORMAT_GRAVES = 4,  /* array of struct spool_format_grave */
    SPOOL_FORMAT_SEAL = 5,    /* struct spool_format_seal; the last record */
};

struct spool_format_record {
    uint32_t magic;
    uint8_t type;
    uint8_t flags; /* zero */
    uint16_t header_bytes;
    uint32_t payload_bytes;
    uint32_t position; /* where this record is: offset in the file / 64 */
    uint64_t sequence;
    uint64_t epoch;
    uint64_t payload_hash; /* XXH3-64 */
    uint64_t message;      /* id of the message that it is or belongs to; 0: none */
    uint32_t unsure;       /* records before this one that were not known to be durable when its batch was written */
    uint32_t reserved[2];
    uint32_t crc; /* CRC-32C of the 60 bytes before */
};
static_assert(sizeof(struct spool_format_record) == SPOOL_FORMAT_ALIGN, "on disk");

/* Flags of a message. */
#define SPOOL_FORMAT_HAS_8BIT 1u /* the body has bytes above 127 */
#define SPOOL_FORMAT_DOT_FREE 2u /* no line begins with a dot, but the last: the body may go by BDAT as it is */
#define SPOOL_FORMAT_SMTPUTF8 4u
#define SPOOL_FORMAT_RELAXED 8u /* acknowledged after the write, before the sync */
#define SPOOL_FORMAT_BOUNCE 16u /* generated here: a delivery status notification */
#define SPOOL_FORMAT_REQUIRETLS 32u
#define SPOOL_FORMAT_BINARY 64u /* BODY=BINARYMIME (RFC 3030): only the dots say where lines begin */
#define SPOOL_FORMAT_CRLF_ADDED \
    128u /* the sender's last chunk had no CRLF at its end; the one before the dot is ours */

/* Payload of MESSAGE: this, then states, envelope, extents, prologue, body, without gaps.
 *   states    what is known about the recipients when the record was written: struct spool_format_state items; empty in
 *             a new message, written when a message moves to another segment
 *   envelope  see src/spool/envelope.h
 *   extents   array of struct spool_format_extent: the body's beginning, when it did not fit
 *   prologue  header lines added here, dot-stuffed, CRLF
 *   body      exactly what DATA carried: dot-stuffed, CRLF, with the final ".CRLF",
 *             or the rest of it when there are extents */
struct spool_format_message {
    uint64_t id; /* spool number << 56 | count; unique for ever */
    uint64_t arrival_ms;
    uint32_t flags;
    uint32_t states_bytes;
    uint32_t envelope_bytes;
    uint32_t extents;
    uint32_t prologue_bytes;
    uint32_t body_bytes;       /* in this record */
    uint64_t total_body_bytes; /* with the extents */
    uint16_t recipients;
    uint16_t reserved16;
    uint32_t reserved[2];
    uint32_t head_crc; /* CRC-32C of the 60 bytes before, states, envelope and extents: verifies without the body */
};
static_assert(sizeof(struct spool_format_message) == 64, "on disk");

struct spool_format_extent {
    uint64_t epoch; /* of the segment that holds the EXTENT record */
    uint32_t position;
    uint32_t payload_bytes;
};
static_assert(sizeof(struct spool_format_extent) == 16, "on disk");

enum spool_format_status {
    SPOOL_FORMAT_PENDING = 0,     /* not tried, or to be tried */
    SPOOL_FORMAT_DEFERRED = 1,    /* tried; next attempt at */
    SPOOL_FORMAT_HELD = 2,        /* by the operator */
    SPOOL_FORMAT_QUARANTINED = 3, /* the message's bytes do not verify */
    SPOOL_FORMAT_DELIVERED = 4,   /* this and above: finished for good */
    SPOOL_FORMAT_FAILED = 5,
    SPOOL_FORMAT_EXPIRED = 6,
    SPOOL_FORMAT_REMOVED = 7,
};

/* Bit of `attempts`: the sender has been told that it is late. */
#define SPOOL_FORMAT_TOLD 0x8000u

/* What became of one recipient; followed by text and host, then zero bytes up to a multiple of 4. */
struct spool_format_state {
    uint16_t recipient; /* index in the envelope */
    uint8_t status;
    uint8_t enhanced[3]; /* "5.1.1"; 0 0 0: none */
    uint16_t attempts;
    uint32_t next_attempt_s; /* since 1970 */
    uint16_t reply_code;
    uint16_t text_bytes; /* the last reply, without CRLF */
    uint16_t host_bytes; /* who said it */
    uint16_t reserved;
};
static_assert(sizeof(struct spool_format_state) == 20, "on disk");

/* Payload of OUTCOME: this and `states` items of struct spool_format_state. */
struct spool_format_outcome {
    uint64_t message;
    uint64_t written_ms;
    uint32_t states;
    uint32_t reserved;
};
static_assert(sizeof(struct spool_format_outcome) == 24, "on disk");

/* A final outcome that compaction carried out of a segment, without its texts: the segment that holds the message's
 * record still exists. */
struct spool_format_grave {
    uint64_t message;
    uint32_t segment; /* low 32 bits of the number of the segment that holds the message's record */
    uint16_t recipient;
    uint8_t status;
    uint8_t reserved;
};
static_assert(sizeof(struct spool_format_grave) == 16, "on disk");

/* Payload of SEAL: this and `entries` of struct spool_format_entry, in the order of the records. */
struct spool_format_seal {
    uint64_t first_sequence;
    uint64_t next_sequence;
    uint64_t id_floor;
    uint32_t entries;
    uint32_t quarantined; /* records that were found damaged before it was sealed: the segment is kept */
};
static_assert(sizeof(struct spool_format_seal) == 32, "on disk");

#define SPOOL_FORMAT_ENTRY_STATES 1u  /* the message has states */
#define SPOOL_FORMAT_ENTRY_EXTENTS 2u /* the message has extents */

struct spool_format_entry {
    uint64_t message;
    uint32_t position;
    uint8_t type;       /* MESSAGE, OUTCOME or GRAVES */
    uint8_t status;     /* of the recipient; MESSAGE: SPOOL_FORMAT_ENTRY_* */
    uint16_t recipient; /* its index; MESSAGE: how many there are */
    union {
        struct {
            uint32_t length; /* of the record / 64 */
            uint16_t
                head; /* of record header, message, states, envelope and extents / 64, rounded up; 65535: or more */
            uint16_t reserved;
        };
        struct {
            uint32_t next_attempt_s; /* final status: instead, the segment as in struct spool_format_grave */
            uint16_t attempts;
            uint16_t reserved2;
        };
    };
};
static_assert(sizeof(struct spool_format_entry) == 24, "on disk");

struct spool_format_trailer {
    uint32_t magic;
    uint32_t position; /* of the SEAL */
    uint64_t epoch;
    uint32_t reserved[11];
    uint32_t crc; /* CRC-32C of the 60 bytes before */
};
static_assert(sizeof(struct spool_format_trailer) == SPOOL_FORMAT_ALIGN, "on disk");

#endif
