/* What boot.c, boot_run.c and boot_control.c share. */
#ifndef APP_BOOT_PRIVATE_H
#define APP_BOOT_PRIVATE_H

#include <stdatomic.h>

#include "app/boot_settings.h"
#include "app/sandbox.h"
#include "spool/spool.h"

#define BOOT_SETTLE_MS 5000 /* for the last messages and outcomes, beyond the deadline of a stop, */
#define BOOT_CLOSE_MS 15000 /* and for the spools to close */

struct boot_generation {
    struct boot_generation *next;
    struct settings *settings; /* NULL: the caller's */
    struct boot_settings *mapped;
};

struct boot {
    const struct settings *settings;      /* in force */
    struct settings *loaded;              /* by a reload, or NULL: `settings` is the caller\'s */
    struct boot_settings *_Atomic mapped; /* the control thread looks at it while a reload replaces it */
    struct sandbox_state sandbox;
    struct admission *admission;
    struct accounts *accounts;
    struct worker_pool *file_workers; /* made when the first domain has Maildirs */
    struct shard_group *group;
    struct spool *spools[QUEUE_SPOOLS]; /* each entry is written by its own shard, before the loops */
    bool spool_wanted[QUEUE_SPOOLS];
    uint8_t spool_shard[QUEUE_SPOOLS];
    uint64_t deadline_ms;     /* of the stop */
    _Atomic unsigned stopped; /* shards that have taken a step of it */
    atomic_bool stopping;
    struct boot_generation *generations; /* settings of earlier reloads; routes are still looked at */
    struct control *control;
    _Atomic int64_t expires; /* the certificate that ends first, seconds since 1970; 0: none */
    uint64_t files;          /* what those that TLS needs looked like when they were read */
};

/* boot.c: runs it on one shard after the other. */
void boot_on_shards(struct boot *boot, void (*call)(struct shard *shard, void *context), void *context);

/* boot.c: no new mail, connections end, outcomes are written; the loops still run. Then the loops end, the spools
 * close. */
void boot_stop(struct boot *boot);
void boot_shards_join(struct boot *boot);

/* boot_reload.c: reads the file again and takes over what can change; says in the log what can't. */
void boot_reload(struct boot *boot);
void boot_reload_free(struct boot *boot);
/* The settings mapped, certificates read; NULL when that is not possible, which the log says. */
struct boot_settings *boot_reload_map(const struct settings *settings);
/* Reads the passwords, with boot->accounts made; false, and the log says why, when that is not possible. */
bool boot_reload_start(struct boot *boot);
/* Reads certificates, keys and passwords again when one of their files has changed. */
void boot_reload_files(struct boot *boot);

/* boot.c: the workers for files, when these settings need them and there are none; false, and the log says why. */
bool boot_file_workers(struct boot *boot, const struct settings *settings);

/* boot_run.c: the main thread, from the start of the shards to their end. Returns the exit code. */
int boot_run(struct boot *boot);
/* Between two looks at a stop in progress: feeds the watchdog; a second signal ends the process at once. */
void boot_run_watch(struct boot *boot);

#endif
