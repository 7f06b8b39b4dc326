/* The last part of recovery: reads the envelope of every message that is left and announces it. */
#ifndef SPOOL_ROLLCALL_H
#define SPOOL_ROLLCALL_H

#include "base/err.h"
#include "spool/spool.h"

/* Attempts and times of recipients that were deferred, kept only while recovery runs (the statuses are in the index).
 * */
struct rollcall_time {
    uint32_t next_attempt_s;
    uint16_t attempts;
};

struct rollcall_times {
    struct rollcall_time *singles; /* by slot: messages without a side object */
    uint32_t single_capacity;
    struct rollcall_time **sides; /* by side object: one per recipient, allocated when first needed */
    uint32_t side_capacity;
};

/* False without memory. */
bool rollcall_note(struct spool *spool, struct rollcall_times *times, uint32_t slot, uint16_t recipient,
                   struct rollcall_time time);
/* The slot has a new tenant. */
void rollcall_forget(const struct spool *spool, struct rollcall_times *times, uint32_t slot);
void rollcall_free(struct rollcall_times *times);

/* Calls `recovered` for each live message, in the order of their places. Messages whose head does not verify are
 * quarantined. */
enum err rollcall_run(struct spool *spool, const struct spool_settings *settings, const struct rollcall_times *times);

#endif
