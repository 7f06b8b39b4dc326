/* When is a segment worth emptying by hand?
 *
 *   rescue  a write to it failed, or its damage has been seen: what is live in it is rewritten at once
 *   space   the files hold more than 1.25 times what is live, and four segments: first the graves are carried out of
 *           segments that hold nothing else, then the one with the least in it is emptied, and so on until it is 1.1
 *           times and three, or no segment is left that is less than 70 % full
 *   idle    less than half of it is live and nothing much is being received
 *
 * What is moved goes to the one log that new mail goes to, and most of that is dead in seconds. Moved little by little
 * it would lie among the dead again, and be moved again soon after. So it moves in bursts, several times as fast as
 * mail comes in if the disk can, one segment after the other: what is written meanwhile is mostly moved, stays dense,
 * and, being of one age, dies together. Between the two thresholds nothing moves.
 *
 * What can never be emptied is left out of all that (compaction_find_kept): moving from it would gain nothing, and what
 * was moved would be moved again and again, each time leaving another file behind.
 *
 * Carrying graves is what keeps one stuck message from holding up the whole log: its segment cannot be emptied, so
 * the next one, which has outcomes of its neighbours, cannot either, and so on for ever. A grave is 16 bytes, so that
 * chain is cut cheaply without touching the stuck message.
 */
#include "spool/compaction.h"

#include <string.h>

#include "spool/journal.h"
#include "spool/spool_private.h"

#define COMPACTION_IDLE_BYTES (1u << 20) /* received per tick: more is not idle */
#define COMPACTION_UPPER_PERCENT 125     /* of the live bytes, */
#define COMPACTION_UPPER_SEGMENTS 4      /* and the open one, one being sealed, two not drained yet */
#define COMPACTION_LOWER_PERCENT 110
#define COMPACTION_LOWER_SEGMENTS 3
#define COMPACTION_BURST 8           /* times what comes in */
#define COMPACTION_AGAIN_MS 1000     /* until what could not be moved, or emptied, is tried again; doubled each time */
#define COMPACTION_AGAIN_MAX 3600000 /* the longest wait */

static void compaction_timer(struct timer *timer)
{
    struct compaction *compaction = CONTAINER_OF(timer, struct compaction, timer);
    compaction->due = true;
}

void compaction_init(struct spool *spool, uint32_t bytes_per_second)
{
    spool->compaction.bytes_per_second = bytes_per_second != 0 ? bytes_per_second : 32u << 20;
    spool->compaction.wanted = true;
    spool->compaction.again_wait_ms = COMPACTION_AGAIN_MS;
    wheel_timer_init(&spool->compaction.timer, compaction_timer);
}

void compaction_free(struct spool *spool)
{
    shard_disarm(spool->shard, &spool->compaction.timer);
}

bool compaction_idle(const struct spool *spool)
{
    return spool->compaction.busy == 0;
}

/* --- what is kept ----------------------------------------------------------------------------------------------- */

static bool compaction_unsealed(const struct segment *segment)
{
    return segment->state == SEGMENT_FULL && !segment->sealed && !segment->sealing && !segment->renew;
}

/* It stays although all that is live has left it. A peer may read as slowly as it likes from what it was lent. */
static bool compaction_stays(const struct segment *segment)
{
    return segment->suspect || segment->pinned || segment->quarantined != 0 ||
           (segment->lent != 0 && segment_weight(segment) == 0) ||
           (compaction_unsealed(segment) && segment->graves.count != 0);
}

/* Has it copies of what was moved out of a segment that is kept? */
static bool compaction_copies_kept(const struct segment_table *table, const struct segment *segment)
{
    for (uint32_t i = 0; i < table->capacity && segment->copies.count != 0; i++) {
        if (segment_holds(&segment->copies, i) && table->at[i] != NULL && table->at[i]->kept) {
            return true;
        }
    }
    return false;
}

static bool compaction_keep_copies(const struct segment_table *table)
{
    bool more = false;
    for (uint32_t i = 0; i < table->capacity; i++) {
        struct segment *segment = table->at[i];
        if (segment != NULL && !segment->kept && compaction_copies_kept(table, segment)) {
            segment->kept = more = true;
        }
    }
    return more;
}

/* Kept are those that stay, the one behind an unsealed one (supply.c), and those with copies of what was moved out of
 * one that is kept. */
static void compaction_find_kept(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    const struct segment_table *table = &spool->segments;
    compaction->kept_segments = 0;
    compaction->kept_bytes = 0;
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->at[i] != NULL) {
            table->at[i]->kept = compaction_stays(table->at[i]);
        }
    }
    for (uint32_t i = 0; i < table->capacity; i++) {
        struct segment *behind = table->at[i] != NULL && compaction_unsealed(table->at[i])
                                     ? segment_behind(table, table->at[i])
                                     : NULL;
        if (behind != NULL) {
            behind->kept = true;
        }
    }
    while (compaction_keep_copies(table)) {
    }
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->at[i] != NULL && table->at[i]->kept) {
            compaction->kept_segments++;
            compaction->kept_bytes += table->at[i]->live_bytes;
        }
    }
}

/* --- choice ----------------------------------------------------------------------------------------------------- */

static bool compaction_movable(const struct segment *segment)
{
    return segment->state == SEGMENT_FULL && !segment->sealing && segment->loose == 0 && segment->quarantined == 0 &&
           !segment->unmovable;
}

/* Of what is not kept. */
static bool compaction_beyond(const struct spool *spool, unsigned percent, unsigned segments)
{
    const struct compaction *compaction = &spool->compaction;
    uint32_t others = spool->segments.spares + compaction->kept_segments;
    uint64_t used = (uint64_t)(spool->segments.count - others) * spool->segment_bytes;
    uint64_t live = spool->live_bytes > compaction->kept_bytes ? spool->live_bytes - compaction->kept_bytes : 0;
    return used > live / 100 * percent + (uint64_t)segments * spool->segment_bytes;
}

/* A burst begins above the upper threshold and ends below the lower one. */
static bool compaction_space_wanted(const struct spool *spool)
{
    return compaction_beyond(spool, COMPACTION_UPPER_PERCENT, COMPACTION_UPPER_SEGMENTS) ||
           (spool->compaction.burst && compaction_beyond(spool, COMPACTION_LOWER_PERCENT, COMPACTION_LOWER_SEGMENTS)) ||
           (spool->supply.failed && spool->segments.spares <= SPOOL_RESERVE);
}

/* Only graves are left, and they can be carried. */
static bool compaction_carriable(const struct segment *segment)
{
    return compaction_movable(segment) && !segment->suspect && !segment->pinned && segment->sealed &&
           segment->live == 0 && segment->states == 0 && segment->lent == 0 && segment->graves.count > 0 &&
           segment->copies.count == 0;
}

/* Lower is better; UINT64_MAX: not now. What is kept may be moved out of a suspect segment all the same. */
static uint64_t compaction_score(const struct spool *spool, const struct segment *segment, bool idle)
{
    uint64_t weight = segment_weight(segment);
    if (segment->suspect || (segment->condemned && weight > 0)) {
        return compaction_movable(segment) && weight > 0 ? 0 : UINT64_MAX;
    }
    if (segment->kept) {
        return UINT64_MAX;
    }
    bool space = compaction_space_wanted(spool);
    if ((space || segment->condemned) && compaction_carriable(segment)) {
        return 1;
    }
    if (!compaction_movable(segment) || weight == 0) {
        return UINT64_MAX;
    }
    bool full = compaction_beyond(spool, COMPACTION_UPPER_PERCENT, COMPACTION_UPPER_SEGMENTS) || spool->supply.failed;
    bool good = (space && weight < segment->bytes / 10 * (full ? 9 : 7)) || (idle && weight < segment->used / 2);
    return good ? 2 + weight : UINT64_MAX;
}

static struct segment *compaction_choose(const struct spool *spool, bool idle)
{
    struct segment *best = NULL;
    uint64_t best_score = UINT64_MAX;
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        struct segment *segment = spool->segments.at[i];
        uint64_t score = segment != NULL ? compaction_score(spool, segment, idle) : UINT64_MAX;
        if (score < best_score || (score == best_score && best != NULL && segment->number < best->number)) {
            best = segment;
            best_score = score;
        }
    }
    return best;
}

/* --- work ------------------------------------------------------------------------------------------------------- */

static bool compaction_touches(const struct spool *spool, const struct index_slot *at, uint16_t victim)
{
    if (at->segment == victim) {
        return true;
    }
    const struct index_side *side = index_side_of(&spool->index, at);
    if (side == NULL) {
        return at->where_segment == victim;
    }
    for (uint32_t i = 0; i < side->extent_count; i++) {
        if (side->extents[i].segment == victim) {
            return true;
        }
    }
    for (uint32_t i = 0; i < side->recipient_count; i++) {
        if (side->recipients[i].segment == victim) {
            return true;
        }
    }
    return false;
}

static struct mover *compaction_free_mover(struct compaction *compaction)
{
    for (unsigned i = 0; i < COMPACTION_MOVERS; i++) {
        struct mover *mover = &compaction->movers[compaction->hand++ % COMPACTION_MOVERS];
        if (mover->phase == MOVER_IDLE) {
            return mover;
        }
    }
    return NULL;
}

void compaction_retry(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    if (compaction->again_ms == 0) {
        compaction->again_ms = spool->shard->now_ms + compaction->again_wait_ms;
        compaction->again_wait_ms *= compaction->again_wait_ms < COMPACTION_AGAIN_MAX ? 2 : 1;
    }
}

static void compaction_give_up(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    struct segment *victim = compaction->victim;
    compaction->victim = NULL;
    /* What could not be moved now (outcomes in flight) may be later, or when the next segment is full. */
    victim->unmovable = compaction->moved == 0;
    if (victim->unmovable) {
        compaction_retry(spool);
    }
}

static void compaction_end_scan(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    struct segment *victim = compaction->victim;
    if (compaction->busy > 0) {
        return;
    }
    if (compaction->carried || !compaction_carriable(victim) || spool->stopping) {
        compaction_give_up(spool);
    } else if (carrier_start(spool, &compaction->carrier, victim)) {
        compaction->carried = true;
        compaction->busy++;
    } else {
        compaction_give_up(spool);
    }
    compaction->wanted = true;
}

static void compaction_step(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    uint16_t victim = compaction->victim->index;
    uint32_t looked = 0;
    while (compaction->scan < spool->index.begun) {
        struct mover *mover = compaction->busy < COMPACTION_MOVERS ? compaction_free_mover(compaction) : NULL;
        if (mover == NULL || compaction->flight_bytes > COMPACTION_FLIGHT_BYTES || looked++ == COMPACTION_SCAN ||
            (compaction->budget <= 0 && !compaction->urgent) || spool->stopping) {
            return;
        }
        uint32_t slot = compaction->scan++;
        const struct index_slot *at = index_at(&spool->index, slot);
        if ((at->flags & INDEX_LIVE) != 0 && compaction_touches(spool, at, victim)) {
            compaction->busy++;
            if (!mover_start(spool, mover, slot, victim)) {
                compaction->busy--;
            }
        }
    }
}

void compaction_forget(struct spool *spool, const struct segment *segment)
{
    if (spool->compaction.victim == segment) {
        spool->compaction.victim = NULL;
    }
}

static void compaction_again(struct spool *spool)
{
    spool->compaction.again_ms = 0;
    for (uint32_t i = 0; i < spool->segments.capacity; i++) {
        if (spool->segments.at[i] != NULL) {
            spool->segments.at[i]->unmovable = spool->segments.at[i]->refused = false;
        }
    }
    spool->compaction.wanted = spool->look = true;
}

void compaction_renew(struct spool *spool)
{
    spool->compaction.again_wait_ms = COMPACTION_AGAIN_MS;
    compaction_again(spool);
}

void compaction_finished(struct spool *spool, bool moved, uint64_t bytes)
{
    struct compaction *compaction = &spool->compaction;
    CHECK(compaction->busy > 0);
    compaction->busy--;
    compaction->moved += moved;
    compaction->budget -= (int64_t)bytes;
    SPOOL_COUNT(spool, spool_compacted_bytes, moved ? bytes : 0);
}

static void compaction_next(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    compaction_find_kept(spool);
    compaction->burst = compaction_space_wanted(spool);
    compaction->wanted = !compaction->idle; /* look again when it is quiet */
    compaction->victim = compaction_choose(spool, compaction->idle);
    compaction->scan = compaction->moved = 0;
    compaction->carried = false;
    compaction->urgent = compaction->victim != NULL && (compaction->victim->suspect || spool->supply.failed);
}

/* The ration is that of the configuration; in a burst it goes by what comes in. */
static void compaction_tick(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    uint64_t received = spool->writer.appended_bytes - compaction->seen_bytes;
    int64_t ration = compaction->bytes_per_second / (1000 / COMPACTION_TICK_MS);
    int64_t burst = (int64_t)(received * COMPACTION_BURST);
    ration = compaction->burst && burst > ration ? burst : ration;
    compaction->due = false;
    compaction->idle = received < COMPACTION_IDLE_BYTES;
    compaction->seen_bytes = spool->writer.appended_bytes;
    compaction->budget = compaction->budget + ration < ration ? compaction->budget + ration : ration;
    if (compaction->victim == NULL && compaction->wanted && !spool->stopping) {
        compaction_next(spool);
    }
}

void compaction_run(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    compaction->wanted |= spool->look;
    if (compaction->again_ms != 0 && spool->shard->now_ms >= compaction->again_ms) {
        compaction_again(spool);
    }
    if (compaction->due) {
        compaction_tick(spool);
    } else if (compaction->victim == NULL && compaction->burst && compaction->budget > 0 && !spool->stopping) {
        compaction_next(spool);
    }
    if (compaction->victim != NULL) {
        bool carrying = compaction->carrier.segment != NULL;
        compaction_step(spool);
        if (!carrying && (compaction->scan >= spool->index.begun || spool->stopping)) {
            compaction_end_scan(spool);
        } else if (!carrying && compaction->busy == 0 && !wheel_armed(&compaction->timer) && compaction->budget > 0) {
            shard_arm(spool->shard, &compaction->timer, 1);
        }
    }
    if ((compaction->wanted || compaction->victim != NULL) && !spool->stopping && !wheel_armed(&compaction->timer)) {
        shard_arm(spool->shard, &compaction->timer, COMPACTION_TICK_MS);
    } else if (compaction->again_ms != 0 && !spool->stopping && !wheel_armed(&compaction->timer)) {
        wheel_arm(&spool->shard->wheel, &compaction->timer, compaction->again_ms);
    }
}
