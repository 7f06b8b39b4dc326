/* A message in the spool, lent to whoever delivers or shows it, possibly in another thread.
 *
 * spool_lend (spool.h) fills `record` and `extents` without touching a byte of the message, so that it never waits
 * for a disk; the segments that hold them stay as they are until spool_return. The reader brings the pages in first
 * (ring_madvise MADV_POPULATE_READ over spool_view_span 0..n, unless `recent`), then calls spool_view_read, and
 * spool_view_verify when the bytes were not written in this run. Everything points into a read-only map.
 */
#ifndef SPOOL_SPOOL_VIEW_H
#define SPOOL_SPOOL_VIEW_H

#include "base/bytes.h"
#include "base/err.h"

struct spool_view_extent {
    struct bytes record; /* header and payload of the EXTENT */
    uint32_t payload_bytes;
    uint16_t segment; /* the spool's */
};

struct spool_view {
    /* Set by spool_lend. */
    uint64_t id;
    uint64_t epoch;
    struct bytes record;
    struct spool_view_extent *extents; /* malloc'ed when there are any; freed by spool_return */
    uint32_t extent_count;
    uint16_t segment;
    bool recent; /* written moments ago: its pages are in memory */
    /* Set by spool_view_read. */
    uint64_t arrival_ms;
    uint64_t body_bytes; /* with the extents */
    uint32_t flags;      /* SPOOL_FORMAT_HAS_8BIT and so on */
    uint16_t recipients;
    struct bytes states;
    struct bytes envelope;
    struct bytes prologue;
    struct bytes body; /* the whole, or what follows the extents; prologue and body are one piece of memory when */
                       /* there are no extents */
};

/* The memory to bring in: 0 is the record, 1.. the extents. */
static inline unsigned spool_view_spans(const struct spool_view *view)
{
    return 1 + view->extent_count;
}
struct bytes spool_view_span(const struct spool_view *view, unsigned index);

/* The body's pieces in order, `spool_view_spans` of them: the extents, then `body`. */
struct bytes spool_view_body(const struct spool_view *view, unsigned index);

/* Reads the head of the record and checks it against its checksum and every size against the record. ERR_CORRUPT. */
enum err spool_view_read(struct spool_view *view);

/* After spool_view_read: recomputes the checksums of everything, extents included. ERR_CORRUPT. */
enum err spool_view_verify(const struct spool_view *view);

#endif
