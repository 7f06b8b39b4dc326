/* What the spool on the disk is known to hold: read from the bytes that were made durable, by the published format and
 * nothing else, at the moment when the server is told that they are.
 *
 * After each start the server must know the same: every message that has a recipient left, with its envelope, arrival,
 * attempts and next attempt times; and none that is finished. What was written but not yet known to be durable when the
 * power failed may be there or not ("perhaps").
 */
#ifndef SIM_TRUTH_H
#define SIM_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "ringpost/spool_format.h"

struct disk_file;
struct letter;
struct spool_recovered;

struct truth_state {
    uint8_t status;
    uint16_t attempts;
    uint32_t next_attempt_s;
};

struct truth {
    uint64_t id;
    unsigned token; /* of the letter; 0: not known, or none */
    uint32_t flags;
    uint64_t arrival_ms;
    char *envelope;
    uint32_t envelope_bytes;
    uint16_t recipients;
    struct truth_state *states; /* durable */
    struct truth_perhaps *perhaps;
    bool durable;
    bool maybe; /* its record may have survived */
    bool gone;  /* must never be found again */
    bool found; /* by this start */
    bool fresh; /* written before this start was over, by a shard that was quicker than another */
    struct truth_state *found_states;
    struct truth *next;
};

/* A file was synced, and the server knows it. */
void truth_synced(struct disk_file *file);
/* A life has ended without a stop. */
void truth_cut(void);
/* A life begins. */
void truth_starting(void);
/* What a start finds; and its end: was everything found? */
void truth_recovered(unsigned spool, const struct spool_recovered *message);
void truth_started(void);
/* How many records became durable; and which of them was the last one of the message's spool. */
uint64_t truth_records(void);
uint64_t truth_last_record(uint64_t message);
/* The message with the letter's token, or NULL. */
struct truth *truth_of_token(unsigned token);
/* A message that has a recipient left, or NULL. */
const struct truth *truth_pending(void);

#endif
