/* Segments in memory: what is in a file, counted, and when the file may be used again.
 *
 * A segment file may be emptied only when nothing in it is needed any more:
 *
 *   live     records of messages that have a recipient left, and their extents
 *   states   records that hold the last outcome of a recipient of such a message
 *   loose    extents of a message that is still being received
 *   lent     views that point into the map
 *   graves   records that finish recipients whose message's record still lies, dead, in another segment. Were the grave
 *            emptied first, a restart would find that message without its outcome and deliver it again
 *   copies   messages that were moved here from another segment that still exists: emptied first, a restart would find
 *            the older copy, and not what happened to the newer one
 *
 * That a write to it failed (suspect) does not matter for this: emptying writes a header anew, and the file is removed.
 *
 * graves and copies are sets of segments: they are let go when that segment's new header is durable.
 */
#ifndef SPOOL_SEGMENT_H
#define SPOOL_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "ringpost/spool_format.h"

#define SEGMENT_NONE UINT16_MAX /* no segment's index */
#define SEGMENT_NAME_BYTES 24

enum segment_state {
    SEGMENT_MAKING, /* a file that is being made */
    SEGMENT_SPARE,
    SEGMENT_OPEN,
    SEGMENT_FULL, /* nothing is appended any more */
    SEGMENT_RECYCLING,
};

struct segment_set {
    uint64_t *words;
    uint32_t word_count;
    uint32_t count;
};

struct segment {
    uint64_t number;
    uint64_t epoch;
    uint64_t bytes; /* of the file */
    uint64_t used;  /* where the next record goes; FULL: where records end */
    uint64_t live_bytes;
    uint64_t first_sequence; /* of its records */
    uint64_t end_sequence;   /* after its last record, once FULL */
    const char *map;
    int fd;
    uint32_t file; /* names it */
    uint32_t live;
    uint32_t states;
    uint32_t loose;
    uint32_t lent;
    uint32_t quarantined; /* damaged records: the file is kept for the operator */
    uint16_t index;       /* in the table */
    enum segment_state state;
    bool suspect;  /* a write or sync failed: what the disk holds is unknown. Emptied and removed, never used again */
    bool refused;  /* emptying it failed: not now */
    bool pinned;   /* a hold could not be noted for want of memory. Kept as long as the process lives */
    bool kept;     /* compaction's: nothing that is moved out of it makes it empty */
    bool unsynced; /* written, but not yet known to be durable */
    bool sealing;
    bool sealed;     /* has SEAL and trailer */
    bool fresh;      /* written by this process */
    bool renew;      /* empty when this process found it, but its header may not be durable */
    bool condemned;  /* it had damaged records, which the operator has seen: to be emptied */
    bool unmovable;  /* compaction failed on it */
    bool unsealable; /* an entry is missing for want of memory: recovery will scan it */
    struct segment_set graves;
    struct segment_set copies;
    struct spool_format_entry *entries; /* for its SEAL */
    uint32_t entry_count;
    uint32_t entry_capacity;
};

struct segment_table {
    struct segment **at; /* NULL: no such segment */
    uint32_t capacity;
    uint32_t count; /* files */
    uint32_t spares;
};

/* A new segment without a file, in state MAKING. NULL without memory or at 65535. */
struct segment *segment_add(struct segment_table *table);
/* Closes, unmaps and forgets. */
void segment_remove(struct segment_table *table, struct segment *segment);
void segment_table_free(struct segment_table *table);

void segment_set_state(struct segment_table *table, struct segment *segment, enum segment_state state);

/* The spare with the lowest number, or NULL. */
struct segment *segment_spare(const struct segment_table *table);
/* By epoch, or NULL. */
struct segment *segment_of_epoch(const struct segment_table *table, uint64_t epoch);
/* One that is no spare and has a number with these low 32 bits, or NULL. */
struct segment *segment_of_number(const struct segment_table *table, uint32_t number);

/* The FULL one with the next number, or NULL. */
struct segment *segment_behind(const struct segment_table *table, const struct segment *segment);

void segment_name(uint32_t file, char ret_name[SEGMENT_NAME_BYTES]);

/* The header page. */
void segment_encode(const struct segment *segment, unsigned spool, uint64_t sequence_floor, uint64_t id_floor,
                    uint64_t now_ms, char ret_page[SPOOL_FORMAT_HEADER_BYTES]);
/* ERR_CORRUPT: neither copy verifies. ERR_FORMAT: another version (in ret_header->version). *ret_copies: how many
 * verify. */
enum err segment_decode(const char page[SPOOL_FORMAT_HEADER_BYTES], struct spool_format_segment *ret_header,
                        unsigned *ret_copies);

/* Maps the file read-only. 0 or -errno. */
int segment_map(struct segment *segment);

/* A record became live, or dead. */
void segment_live(struct segment *segment, uint64_t bytes);
void segment_dead(struct segment *segment, uint64_t bytes);

/* `holder` has a grave for (or a copy of) a record in segment `index`. False without memory. */
bool segment_hold(struct segment_set *set, uint32_t index);
bool segment_holds(const struct segment_set *set, uint32_t index);
void segment_set_clear(struct segment_set *set);
/* Segment `index` is empty for good: nobody holds a grave for it any more. */
void segment_let_go(struct segment_table *table, uint32_t index);

/* What moving all that is needed in it would write, roughly. */
uint64_t segment_weight(const struct segment *segment);

/* Is nothing in it needed any more, and nothing of it in use? */
bool segment_unneeded(const struct segment *segment);
/* May the file be emptied? */
bool segment_recyclable(const struct segment *segment);

/* For the SEAL. False without memory. */
bool segment_note(struct segment *segment, const struct spool_format_entry *entry);
/* Bytes that SEAL and trailer need when `more` entries are added. */
uint64_t segment_seal_bytes(const struct segment *segment, uint32_t more);

#endif
