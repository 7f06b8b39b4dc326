/* One life of the server: from its start, by the program's own boot, to its stop, its death or the power cut. */
#ifndef SIM_LIFE_H
#define SIM_LIFE_H

#include <stdbool.h>
#include <stdint.h>

struct boot;

#define LIFE_PORT 25         /* of the listener whose 250 is a promise */
#define LIFE_PORT_RELAXED 26 /* of the one whose 250 is not */

struct life_settings {
    unsigned shards;
    unsigned inbound; /* 0: all shards have both roles */
    uint32_t segment_bytes;
    uint32_t batch_bytes;
    uint64_t expire_s;
    uint64_t compaction_bytes;
    unsigned receive_buffers;
    unsigned connections_max; /* outbound */
    unsigned recipients_max;  /* per outbound transaction */
    unsigned messages_max;    /* per outbound connection */
    unsigned body_memory_kib;
};

enum life_state { LIFE_NONE, LIFE_STARTING, LIFE_UP, LIFE_STOPPING, LIFE_ENDED };

void life_init(const char *root);
void life_start(const struct life_settings *settings);
enum life_state life_state(void);
/* SIGTERM. */
void life_stop(void);
/* The process dies, or the power fails. */
void life_cut(bool power);
/* The server called _exit. */
_Noreturn void life_exit(int status);

/* What it has: only while it is up. */
uint64_t life_queued(void);
void life_check_idle(void);

/* Memory and maps that it has not given back. */
unsigned life_blocks(void);
void life_forget_blocks(void);

#endif
