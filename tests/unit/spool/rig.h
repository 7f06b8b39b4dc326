/* A shard of its own, on the fake ring, with a spool in a temporary directory; and messages that carry their own
 * truth. */
#ifndef SPOOL_RIG_H
#define SPOOL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka after these */
#include <cmocka.h>

#include "spool/envelope.h"
#include "spool/spool.h"
#include "unit/spool/fake_ring.h"

/* Spools that are killed leak on purpose; test_kernel.c is the one that looks for leaks. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

struct rig {
    struct shard shard;
    struct ring *ring;
    struct spool *spool;
    struct spool_settings settings;
    char root[128];
    char reason[256];
    unsigned recovered;
};

static inline void rig_remove(const char *path)
{
    char command[192];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    CHECK(system(command) == 0);
}

static inline void rig_shard(struct rig *rig)
{
    rig->ring = calloc(1, sizeof *rig->ring);
    rng_seed(&rig->ring->rng, 1);
    rig->shard = (struct shard){.ring = rig->ring, .now_ms = 1000, .wall_ms = 1700000000000};
    rng_seed(&rig->shard.rng, 1);
    wheel_init(&rig->shard.wheel, rig->shard.now_ms);
    list_init(&rig->shard.hooks);
}

static inline void rig_init(struct rig *rig)
{
    *rig = (struct rig){.settings = {.number = 3, .segment_bytes = 256 << 10, .batch_bytes = 64 << 10}};
    snprintf(rig->root, sizeof rig->root, "/tmp/spool-test-XXXXXX");
    CHECK(mkdtemp(rig->root) != NULL);
    rig->settings.root = rig->root;
    rig_shard(rig);
}

static inline void rig_turn(struct rig *rig)
{
    rig->shard.now_ms += 10;
    rig->shard.wall_ms += 10;
    ring_enter(rig->ring, 0);
    ring_run(rig->ring);
    wheel_advance(&rig->shard.wheel, rig->shard.now_ms);
    for (struct list *node = rig->shard.hooks.next, *next; node != &rig->shard.hooks; node = next) {
        next = node->next;
        struct shard_hook *hook = LIST_OWNER(node, struct shard_hook, node);
        hook->run(hook);
    }
}

static inline void rig_turns(struct rig *rig, unsigned count)
{
    while (count-- > 0) {
        rig_turn(rig);
    }
}

static inline enum err rig_open(struct rig *rig)
{
    rig->recovered = 0;
    return spool_open(&rig->shard, &rig->settings, &rig->spool, rig->reason, sizeof rig->reason);
}

/* With spares enough for an append to be committed at once. */
static inline enum err rig_start(struct rig *rig)
{
    enum err err = rig_open(rig);
    rig_turns(rig, err == ERR_OK ? 60 : 0);
    return err;
}

/* Forgets the running spool as a killed process would; what it allocated is lost. */
static inline void rig_kill(struct rig *rig)
{
    char lock[192];
    snprintf(lock, sizeof lock, "%s/%u/lock", rig->root, rig->settings.number);
    unlink(lock); /* the descriptor that holds it is lost, too */
    rig_shard(rig);
    rig->spool = NULL;
}

static inline void rig_free(struct rig *rig)
{
    if (rig->spool != NULL) {
        spool_close(rig->spool);
    }
    rig_remove(rig->root);
    free(rig->ring);
}

/* --- messages --------------------------------------------------------------------------------------------------- */

struct letter {
    struct spool_append append;
    enum err result;
    bool finished;
    uint64_t id;
    uint16_t recipients;
    char envelope[2048];
    size_t envelope_length;
    char prologue[64];
    char *body;
    size_t body_length;
};

static inline void letter_done(struct spool_append *append, enum err err)
{
    struct letter *letter = CONTAINER_OF(append, struct letter, append);
    letter->result = err;
    letter->finished = true;
}

/* The byte at a place of a message's body. */
static inline char letter_byte(uint64_t id, size_t at)
{
    return (char)('a' + (id * 7 + at / 3 + at % 11) % 26);
}

static inline void letter_write(struct letter *letter, uint64_t id, uint16_t recipients, size_t body_length)
{
    *letter = (struct letter){.append.done = letter_done, .id = id, .recipients = recipients};
    struct buffer envelope = buffer_of(letter->envelope, sizeof letter->envelope);
    CHECK(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("sender@example.org")));
    for (unsigned i = 0; i < recipients; i++) {
        char address[40];
        snprintf(address, sizeof address, "r%u@d%u.example", i, (unsigned)(id % 97));
        CHECK(envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, bytes_of_string(address)));
    }
    letter->envelope_length = envelope.length;
    snprintf(letter->prologue, sizeof letter->prologue, "Received: %016llx\r\n", (unsigned long long)id);
    letter->body = malloc(body_length + 1);
    letter->body_length = body_length;
    for (size_t i = 0; i < body_length; i++) {
        letter->body[i] = letter_byte(id, i);
    }
}

static inline void letter_append(struct rig *rig, struct letter *letter, uint32_t flags, bool reserve)
{
    struct iovec body[2] = {{letter->body, letter->body_length / 2},
                            {letter->body + letter->body_length / 2, letter->body_length - letter->body_length / 2}};
    spool_append_message(rig->spool, &letter->append,
                         &(struct spool_message){
                             .id = letter->id,
                             .arrival_ms = rig->shard.wall_ms,
                             .flags = flags,
                             .recipients = letter->recipients,
                             .reserve = reserve,
                             .envelope = bytes_of(letter->envelope, letter->envelope_length),
                             .prologue = bytes_of_string(letter->prologue),
                             .body = body,
                             .body_pieces = 2,
                         });
}

static inline void letter_send(struct rig *rig, struct letter *letter, uint16_t recipients, size_t body_length)
{
    letter_write(letter, spool_new_id(rig->spool), recipients, body_length);
    letter_append(rig, letter, 0, false);
}

/* Lends the message and compares every byte. */
static inline bool letter_check(struct rig *rig, uint32_t slot, uint64_t id, size_t body_length)
{
    struct spool_view view;
    if (spool_lend(rig->spool, slot, id, &view) != ERR_OK) {
        return false;
    }
    bool good = spool_view_read(&view) == ERR_OK && spool_view_verify(&view) == ERR_OK &&
                view.body_bytes == body_length;
    size_t at = 0;
    for (unsigned i = 0; good && i < spool_view_spans(&view); i++) {
        struct bytes piece = spool_view_body(&view, i);
        for (size_t j = 0; j < piece.length; j++, at++) {
            good = good && piece.data[j] == letter_byte(id, at);
        }
    }
    char prologue[64];
    snprintf(prologue, sizeof prologue, "Received: %016llx\r\n", (unsigned long long)id);
    good = good && at == body_length && bytes_equal(view.prologue, bytes_of_string(prologue));
    spool_return(rig->spool, &view);
    return good;
}

/* --- outcomes --------------------------------------------------------------------------------------------------- */

struct verdict {
    struct spool_append append;
    enum err result;
    bool finished;
    char room[SPOOL_OUTCOME_BYTES(4)];
};

static inline void verdict_done(struct spool_append *append, enum err err)
{
    struct verdict *verdict = CONTAINER_OF(append, struct verdict, append);
    verdict->result = err;
    verdict->finished = true;
}

static inline void verdict_give(struct rig *rig, struct verdict *verdict, uint32_t slot, uint64_t id,
                                uint16_t recipient, enum spool_format_status status, uint16_t attempts, bool follows)
{
    *verdict = (struct verdict){.append.done = verdict_done};
    struct buffer room = buffer_of(verdict->room, sizeof verdict->room);
    const struct spool_outcome outcome = {
        .recipient = recipient,
        .status = status,
        .attempts = attempts,
        .next_attempt_s = 1000u + attempts,
        .reply_code = 450,
        .enhanced = {4, 2, 1},
        .reply = BYTES("450 4.2.1 try later"),
        .host = BYTES("mx.example"),
    };
    spool_append_outcomes(rig->spool, &verdict->append, slot, id, &outcome, 1, follows, &room);
}

#endif
