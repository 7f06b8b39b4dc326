/* Reads a segment record by record, believing nothing: for segments without a usable SEAL, and for inspection. */
#ifndef SPOOL_SCAN_H
#define SPOOL_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "ringpost/spool_format.h"

struct scan {
    /* Set by the caller. */
    int fd;
    uint64_t epoch;
    uint64_t bytes;    /* of the file */
    uint64_t end;      /* no record begins at or after this: the trailer's SEAL; 0: unknown */
    uint64_t expected; /* the first record's sequence is not below this */
    uint64_t bound;    /* records from this sequence on were never acknowledged */
    bool last;         /* no later segment was written to: its end may be torn */
    void *context;
    /* A whole record, verified. */
    void (*record)(void *context, const struct spool_format_record *record, uint64_t offset, struct bytes payload);
    /* Bytes between two places that do not verify, with `records` missing. May be NULL. */
    void (*damaged)(void *context, uint64_t offset, uint64_t end, uint64_t records);
    /* Results. */
    uint64_t next_offset;   /* after the last record */
    uint64_t unsure_offset; /* from here on no other record says that the records were durable */
    uint64_t next_sequence; /* after the last record; `expected` when there is none */
    uint64_t first_sequence;
    uint32_t records;
    uint32_t damages;
    bool dirty; /* something of this epoch is there, counted or not */
};

/* Blocks. ERR_NO_MEMORY; unreadable sectors count as damage. */
enum err scan_run(struct scan *scan);

#endif
