/* The event log of one shard: <path>/events-<shard>.jsonl, appended to by the shard's ring, rotated by size.
 *
 * Lines are gathered in memory and leave together, at the end of a turn: when there are many, else a tenth of a second
 * after the first. What does not fit while the disk is slow or full is lost and counted (events_lost): events never
 * hold up mail.
 */
#ifndef CORE_EVENT_LOG_H
#define CORE_EVENT_LOG_H

#include "core/event.h"
#include "core/shard.h"

struct event_log_settings {
    const char *path;           /* a directory, made when missing; copied */
    uint64_t rotate_bytes;      /* a file that has reached this is renamed to .1, .1 to .2 and so on */
    unsigned keep_files;        /* rotated ones; at least 1 */
    uint64_t fsync_interval_ms; /* 0: never */
    unsigned types;             /* bits 1 << enum event_type; the others are not written */
};

/* Opens the shard's file and sets shard->events. 0, or -errno with a one-line reason. On the shard's thread, as all
 * here. */
int event_log_new(struct shard *shard, const struct event_log_settings *settings, struct event_log **ret_log,
                  char *reason, size_t reason_size);
/* Everything but the path. */
void event_log_change(struct event_log *log, const struct event_log_settings *settings);
/* Writes what is left, closes, and clears shard->events. Turns the ring until nothing is in flight. */
void event_log_delete(struct event_log *log);

/* Adds a line, at the shard's time. Does nothing when the shard has no event log. */
void event_log_write(struct shard *shard, const struct event *event);
/* Would it be written? To save the work of filling one in. */
bool event_log_wants(const struct shard *shard, enum event_type type);

#endif
