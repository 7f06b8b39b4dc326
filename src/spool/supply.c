/* Where empty segments come from.
 *
 *   make     open temporary -> fallocate -> zero bytes -> header -> fsync -> rename -> fsync of the directory -> SPARE
 *   empty    a FULL segment that is not needed any more: new header, written with DSYNC                        -> SPARE
 *   remove   a spare that is too many, or a segment that a write failed on, once emptied: unlink
 *
 * The zero bytes are written, not only allocated, so that a later write changes data and no metadata: a sync of it is
 * one write to the disk and no journal commit. They go past the page cache where the file system lets them (O_DIRECT):
 * nobody reads them, a page for each would cost more than the mail that comes to lie there, and the sync of 64 MiB of
 * dirty pages at once would hold up the syncs of mail. What it takes for that to work is that the writer always writes
 * whole blocks, so that the kernel need not read one from the disk first.
 *
 * A segment counts as emptied only when its new header is durable, and only then are the graves let go that other
 * segments hold for it. A file is never unlinked while it has records: an unlink that a power cut undoes would bring
 * them all back, after their outcomes were emptied. A spare that comes back is a spare.
 *
 * Also a segment that a write failed on: its header is written anew, so this write says what became of it, whatever the
 * kernel has forgotten of the one that failed. If it fails, too, nothing changes, and it is tried again later.
 *
 * When no file can be made, spares run down to SPOOL_RESERVE; those are for outcomes, bounces and compaction.
 */
#include "spool/supply.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#include "spool/spool_private.h"

static _Alignas(SPOOL_BLOCK_BYTES) char supply_zeros[SUPPLY_ZERO_BYTES];

static void supply_done(struct op *op, int result, uint32_t flags);
static void supply_zero(struct spool *spool);

static void supply_timer(struct timer *timer)
{
    struct spool *spool = CONTAINER_OF(timer, struct spool, supply.timer);
    spool->supply.backing_off = false;
    if (spool->supply.phase == SUPPLY_PAUSE) {
        supply_zero(spool);
    }
}

void supply_init(struct spool *spool)
{
    spool->supply.op.done = supply_done;
    wheel_timer_init(&spool->supply.timer, supply_timer);
}

void supply_free(struct spool *spool)
{
    shard_disarm(spool->shard, &spool->supply.timer);
}

/* An epoch must not come twice: it is what tells old bytes from new ones. */
static uint64_t supply_epoch(struct spool *spool)
{
    uint64_t epoch = 0;
    if (getrandom(&epoch, sizeof epoch, 0) != (ssize_t)sizeof epoch) {
        epoch = rng_next(&spool->shard->rng) ^ spool->shard->wall_ms << 20;
    }
    return epoch | 1;
}

/* Every sequence below was used in a durable or failed record; those of a batch in flight are not counted, as they come
 * again when it fails. */
static uint64_t supply_sequence_floor(const struct spool *spool)
{
    const struct writer *writer = &spool->writer;
    return writer->phase == WRITER_WRITE || writer->phase == WRITER_SYNC ? writer->first_sequence
                                                                         : spool->next_sequence;
}

/* The header page for a new life of the segment, which begins when the page is durable. */
static void supply_renew(struct spool *spool, const struct segment *segment)
{
    struct supply *supply = &spool->supply;
    struct segment renewed = {.bytes = segment->bytes, .number = spool->next_segment++, .epoch = supply_epoch(spool)};
    supply->number = renewed.number;
    supply->epoch = renewed.epoch;
    segment_encode(&renewed, spool->number, supply_sequence_floor(spool), spool->next_id, spool->shard->wall_ms,
                   supply->page);
}

static void supply_spare(struct spool *spool, struct segment *segment)
{
    CHECK(!segment->suspect);
    segment->number = spool->supply.number;
    segment->epoch = spool->supply.epoch;
    segment->used = SPOOL_FORMAT_HEADER_BYTES;
    segment->sealed = segment->fresh = segment->unsealable = segment->unmovable = segment->condemned = false;
    segment->renew = segment->refused = false;
    segment_set_state(&spool->segments, segment, SEGMENT_SPARE);
    spool->supply.phase = SUPPLY_IDLE;
    spool->supply.failed = spool->supply.wanted = false;
}

/* --- make ------------------------------------------------------------------------------------------------------- */

static void supply_back_off(struct spool *spool, int error, const char *what)
{
    struct supply *supply = &spool->supply;
    if (!supply->failed) {
        log_line(LOG_ERROR, "no new segment", "path=%s step=%s error=\"%s\"", spool->path, what, strerror(-error));
    }
    supply->phase = SUPPLY_IDLE;
    supply->failed = true;
    supply->backing_off = true;
    shard_arm(spool->shard, &supply->timer, SUPPLY_RETRY_MS);
}

static void supply_make(struct spool *spool)
{
    struct supply *supply = &spool->supply;
    struct segment *segment = segment_add(&spool->segments);
    if (segment == NULL) {
        supply_back_off(spool, -ENOMEM, "memory");
        return;
    }
    segment->bytes = spool->segment_bytes;
    segment->file = spool->next_file++;
    supply->segment = segment;
    supply->offset = 0;
    segment_name(segment->file, supply->name);
    snprintf(supply->temporary, sizeof supply->temporary, "%08u.new", segment->file);
    supply->phase = SUPPLY_OPEN;
    ring_openat(spool->shard->ring, &supply->op, spool->directory, supply->temporary, O_RDWR | O_CREAT | O_EXCL, 0600);
}

static void supply_unmake(struct spool *spool, int error, const char *what)
{
    struct supply *supply = &spool->supply;
    bool opened = supply->segment->fd >= 0;
    segment_remove(&spool->segments, supply->segment);
    supply->segment = NULL;
    supply_back_off(spool, error, what);
    if (opened) {
        supply->phase = SUPPLY_DISCARD;
        ring_unlinkat(spool->shard->ring, &supply->op, spool->directory, supply->temporary);
    }
}

/* Past the page cache, or not. Not every file system can; then nothing changes. */
static void supply_set_direct(struct supply *supply, bool direct)
{
    int flags = fcntl(supply->segment->fd, F_GETFL);
    supply->direct = flags >= 0 &&
                     fcntl(supply->segment->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0 && direct;
}

static void supply_zero(struct spool *spool)
{
    struct supply *supply = &spool->supply;
    struct segment *segment = supply->segment;
    unsigned count = 0;
    uint64_t end = supply->offset + SUPPLY_PIECE_BYTES;
    end = end < segment->bytes ? end : segment->bytes;
    uint64_t at = supply->offset;
    while (at < end) {
        uint64_t length = end - at < SUPPLY_ZERO_BYTES ? end - at : SUPPLY_ZERO_BYTES;
        supply->pieces[count++] = (struct iovec){.iov_base = supply_zeros, .iov_len = length};
        at += length;
    }
    supply->piece = end - supply->offset;
    supply->phase = SUPPLY_ZERO;
    ring_writev(spool->shard->ring, &supply->op, segment->fd, supply->pieces, count, supply->offset, false);
}

/* The disk serves mail meanwhile, so there is a pause between pieces of zero bytes. Not when the file is wanted now,
 * nor when the open segment fills up at more than half of that pace; nor, in supply_run, when another waits to be
 * emptied. */
static bool supply_hurries(const struct spool *spool)
{
    const struct segment *open = spool->writer.open;
    return spool->supply.wanted || spool->segments.spares < SPOOL_RESERVE ||
           (spool->segments.spares == SPOOL_RESERVE && (open == NULL || spool->supply.offset < 2 * open->used));
}

static void supply_head(struct spool *spool)
{
    struct supply *supply = &spool->supply;
    supply_set_direct(supply, false);
    supply_renew(spool, supply->segment);
    supply->pieces[0] = (struct iovec){.iov_base = supply->page, .iov_len = sizeof supply->page};
    supply->piece = sizeof supply->page;
    supply->phase = SUPPLY_HEAD;
    ring_writev(spool->shard->ring, &supply->op, supply->segment->fd, supply->pieces, 1, 0, false);
}

static void supply_zeroed(struct spool *spool, int result)
{
    struct supply *supply = &spool->supply;
    if ((uint64_t)result != supply->piece) {
        supply_unmake(spool, -ENOSPC, "write"); /* short: the next write would say why */
        return;
    }
    supply->offset += supply->piece;
    SPOOL_COUNT(spool, spool_overhead_bytes, supply->piece);
    if (supply->offset == supply->segment->bytes) {
        supply_head(spool);
    } else if (supply_hurries(spool)) {
        supply_zero(spool);
    } else {
        supply->phase = SUPPLY_PAUSE;
        shard_arm(spool->shard, &supply->timer, SUPPLY_PAUSE_MS);
    }
}

static void supply_headed(struct spool *spool, int result)
{
    struct supply *supply = &spool->supply;
    if ((uint64_t)result != supply->piece) {
        supply_unmake(spool, -ENOSPC, "write");
        return;
    }
    supply->phase = SUPPLY_SYNC;
    ring_fsync(spool->shard->ring, &supply->op, supply->segment->fd, false);
}

static void supply_made(struct spool *spool)
{
    struct segment *segment = spool->supply.segment;
    int result = segment_map(segment);
    if (result != 0) {
        supply_unmake(spool, result, "mmap");
        return;
    }
    supply_spare(spool, segment);
}

/* --- empty and remove ------------------------------------------------------------------------------------------- */

static void supply_empty(struct spool *spool, struct segment *segment)
{
    struct supply *supply = &spool->supply;
    supply->segment = segment;
    compaction_forget(spool, segment);
    segment_set_state(&spool->segments, segment, SEGMENT_RECYCLING);
    supply_renew(spool, segment);
    supply->pieces[0] = (struct iovec){.iov_base = supply->page, .iov_len = sizeof supply->page};
    supply->phase = SUPPLY_EMPTY;
    ring_writev(spool->shard->ring, &supply->op, segment->fd, supply->pieces, 1, 0, true);
}

/* Of a file without records; it comes back as a spare when a power cut undoes it. */
static void supply_unlink(struct spool *spool, struct segment *segment)
{
    struct supply *supply = &spool->supply;
    supply->segment = segment;
    segment_set_state(&spool->segments, segment, SEGMENT_MAKING);
    segment_name(segment->file, supply->name);
    supply->phase = SUPPLY_REMOVE;
    ring_unlinkat(spool->shard->ring, &supply->op, spool->directory, supply->name);
}

static void supply_emptied(struct spool *spool, int result)
{
    struct segment *segment = spool->supply.segment;
    if (result != (int)sizeof spool->supply.page) {
        /* Old header or new one: nothing in it is needed, but nobody may rely on its being empty. */
        log_line(LOG_ERROR, "segment not emptied", "path=%s file=%u error=\"%s\"", spool->path, segment->file,
                 strerror(result < 0 ? -result : EIO));
        SPOOL_COUNT(spool, spool_write_errors, 1);
        spool_suspect(spool, segment);
        segment->refused = true;
        segment_set_state(&spool->segments, segment, SEGMENT_FULL);
        spool->supply.phase = SUPPLY_IDLE;
        compaction_retry(spool);
        return;
    }
    SPOOL_COUNT(spool, spool_overhead_bytes, sizeof spool->supply.page);
    segment_let_go(&spool->segments, segment->index);
    spool->supply.emptied++;
    spool->supply.backing_off = false; /* space came back: a new file may succeed as well */
    spool->look = true;
    if (segment->suspect) {
        log_line(LOG_INFO, "suspect segment emptied and removed", "path=%s file=%u", spool->path, segment->file);
        spool->suspects--;
        supply_unlink(spool, segment); /* a new file in its place is written to from end to end before it is used */
        return;
    }
    supply_spare(spool, segment);
    SPOOL_COUNT(spool, spool_segments_recycled, 1);
}

static void supply_remove(struct spool *spool)
{
    struct segment *last = NULL;
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        struct segment *segment = spool->segments.at[i];
        if (segment != NULL && segment->state == SEGMENT_SPARE && (last == NULL || segment->number > last->number)) {
            last = segment;
        }
    }
    supply_unlink(spool, last);
}

/* --- the machine ------------------------------------------------------------------------------------------------ */

static void supply_failed(struct spool *spool, int result)
{
    struct supply *supply = &spool->supply;
    static const char *const steps[] = {
        [SUPPLY_OPEN] = "open",
        [SUPPLY_ALLOCATE] = "fallocate",
        [SUPPLY_ZERO] = "write",
        [SUPPLY_HEAD] = "write",
        [SUPPLY_SYNC] = "fsync",
        [SUPPLY_RENAME] = "rename",
        [SUPPLY_SYNC_DIRECTORY] = "fsync directory",
    };
    const char *step = steps[supply->phase];
    if (supply->phase == SUPPLY_SYNC_DIRECTORY) {
        memcpy(supply->temporary, supply->name, sizeof supply->temporary);
    }
    supply_unmake(spool, result, step);
}

static void supply_next(struct spool *spool, int result)
{
    struct supply *supply = &spool->supply;
    struct ring *ring = spool->shard->ring;
    switch (supply->phase) {
    case SUPPLY_OPEN:
        supply->segment->fd = result;
        supply->phase = SUPPLY_ALLOCATE;
        ring_fallocate(ring, &supply->op, result, 0, supply->segment->bytes);
        break;
    case SUPPLY_ALLOCATE:
        supply_set_direct(supply, true);
        supply_zero(spool);
        break;
    case SUPPLY_ZERO: supply_zeroed(spool, result); break;
    case SUPPLY_HEAD: supply_headed(spool, result); break;
    case SUPPLY_SYNC:
        supply->phase = SUPPLY_RENAME;
        ring_renameat(ring, &supply->op, spool->directory, supply->temporary, supply->name);
        break;
    case SUPPLY_RENAME:
        supply->phase = SUPPLY_SYNC_DIRECTORY;
        ring_fsync(ring, &supply->op, spool->directory, false);
        break;
    case SUPPLY_SYNC_DIRECTORY: supply_made(spool); break;
    default: CHECK(false);
    }
}

static void supply_done(struct op *op, int result, uint32_t flags)
{
    (void)flags;
    struct spool *spool = CONTAINER_OF(op, struct spool, supply.op);
    struct supply *supply = &spool->supply;
    if (supply->phase == SUPPLY_EMPTY) {
        supply_emptied(spool, result);
    } else if (supply->phase == SUPPLY_REMOVE) {
        segment_remove(&spool->segments, supply->segment);
        supply->phase = SUPPLY_IDLE;
    } else if (supply->phase == SUPPLY_DISCARD) {
        supply->phase = SUPPLY_IDLE;
    } else if (supply->phase == SUPPLY_ZERO && supply->direct && result == -EINVAL) {
        supply_set_direct(supply, false); /* it wants another alignment */
        supply_zero(spool);
    } else if (result < 0 && !(supply->phase == SUPPLY_ALLOCATE && result == -EOPNOTSUPP)) {
        supply_failed(spool, result);
    } else {
        supply_next(spool, result);
    }
}

/* A start scans a segment that was not sealed. What a failed write has left there, or a crash behind the last durable
 * record, is then told from mail by the first sequence of the segment that follows: that one has to stay as long. */
static bool supply_bounds_another(const struct spool *spool, const struct segment *segment)
{
    const struct segment *before = NULL;
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        const struct segment *other = spool->segments.at[i];
        if (other != NULL && other->state == SEGMENT_FULL && other->number < segment->number &&
            (before == NULL || other->number > before->number)) {
            before = other;
        }
    }
    return before != NULL && !before->sealed;
}

/* Is one left that a start found empty? It may not be so on the disk, and what finished the mail that lies there then
 * is in other segments, which do not know. */
static bool supply_renews(const struct spool *spool)
{
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        if (spool->segments.at[i] != NULL && spool->segments.at[i]->renew) {
            return true;
        }
    }
    return false;
}

/* The oldest segment that may be emptied; before all others those that a start found empty. */
static struct segment *supply_find_empty(const struct spool *spool)
{
    struct segment *best = NULL;
    bool renews = supply_renews(spool);
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        struct segment *segment = spool->segments.at[i];
        if (segment != NULL && segment_recyclable(segment) && (best == NULL || segment->number < best->number) &&
            (renews ? segment->renew : !supply_bounds_another(spool, segment))) {
            best = segment;
        }
    }
    return best;
}

void supply_run(struct spool *spool)
{
    struct supply *supply = &spool->supply;
    if (supply->phase == SUPPLY_PAUSE && !spool->closing) {
        spool->look = spool->look && supply_find_empty(spool) != NULL;
        if (spool->look || supply_hurries(spool)) {
            shard_disarm(spool->shard, &supply->timer);
            supply_zero(spool);
        }
    }
    if (supply->phase != SUPPLY_IDLE) {
        return;
    }
    struct segment *empty = spool->look ? supply_find_empty(spool) : NULL;
    spool->look = empty != NULL;
    if (empty != NULL) {
        supply_empty(spool, empty);
    } else if (spool->closing) {
        return;
    } else if (spool->segments.spares <= SPOOL_RESERVE && !supply->backing_off) {
        supply_make(spool);
    } else if (spool->segments.spares > spool->spare_max) {
        supply_remove(spool);
    }
}
