/* The spool on a real ring: the same operations, answered by the kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka after these */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "core/clock.h"
#include "spool/envelope.h"
#include "spool/spool.h"

#define SENDERS 50
#define BODY_BYTES 4096

struct world;

struct sender {
    struct spool_append append;
    struct spool_append outcome;
    struct world *world;
    uint64_t id;
    char room[SPOOL_OUTCOME_BYTES(1)];
};

struct world {
    struct shard shard;
    struct spool *spool;
    struct sender senders[SENDERS];
    unsigned left;    /* messages to append */
    unsigned running; /* senders */
    unsigned errors;
    unsigned recovered;
    bool deliver;
    char envelope[200];
    size_t envelope_length;
    char body[BODY_BYTES];
};

static void sender_append(struct sender *sender)
{
    struct world *world = sender->world;
    if (world->left == 0) {
        world->running--;
        return;
    }
    world->left--;
    sender->id = spool_new_id(world->spool);
    struct iovec body = {world->body, sizeof world->body};
    spool_append_message(world->spool, &sender->append,
                         &(struct spool_message){.id = sender->id,
                                                 .recipients = 1,
                                                 .envelope = bytes_of(world->envelope, world->envelope_length),
                                                 .prologue = BYTES("Received: by test\r\n"),
                                                 .body = &body,
                                                 .body_pieces = 1});
}

static void sender_delivered(struct spool_append *append, enum err err)
{
    struct sender *sender = CONTAINER_OF(append, struct sender, outcome);
    sender->world->errors += err != ERR_OK;
    sender_append(sender);
}

static void sender_accepted(struct spool_append *append, enum err err)
{
    struct sender *sender = CONTAINER_OF(append, struct sender, append);
    struct world *world = sender->world;
    world->errors += err != ERR_OK;
    if (!world->deliver || err != ERR_OK) {
        sender_append(sender);
        return;
    }
    struct spool_view view;
    world->errors += spool_lend(world->spool, append->slot, sender->id, &view) != ERR_OK ||
                     spool_view_read(&view) != ERR_OK || view.body.length != BODY_BYTES;
    spool_return(world->spool, &view);
    struct buffer room = buffer_of(sender->room, sizeof sender->room);
    const struct spool_outcome outcome = {
        .status = SPOOL_FORMAT_DELIVERED, .attempts = 1, .reply_code = 250, .reply = BYTES("250 2.0.0 ok")};
    spool_append_outcomes(world->spool, &sender->outcome, append->slot, sender->id, &outcome, 1, false, &room);
}

static void count(void *context, const struct spool_recovered *message)
{
    (void)message;
    ((struct world *)context)->recovered++;
}

static void turn(struct world *world)
{
    struct shard *shard = &world->shard;
    shard->now_ms = clock_monotonic_ms();
    shard->wall_ms = clock_wall_ms();
    assert_int_equal(ring_enter(shard->ring, 20), 0);
    ring_run(shard->ring);
    wheel_advance(&shard->wheel, clock_monotonic_ms());
    for (struct list *node = shard->hooks.next; node != &shard->hooks; node = node->next) {
        struct shard_hook *hook = LIST_OWNER(node, struct shard_hook, node);
        hook->run(hook);
    }
}

static void open_spool(struct world *world, const char *root)
{
    char reason[200];
    struct spool_settings settings = {
        .root = root, .segment_bytes = LIMIT_SEGMENT_BYTES_MIN, .recovered = count, .context = world};
    world->recovered = 0;
    assert_int_equal(spool_open(&world->shard, &settings, &world->spool, reason, sizeof reason), ERR_OK);
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void run(struct world *world, unsigned messages, bool deliver)
{
    uint64_t batches = world->shard.metrics->spool_syncs;
    uint64_t start = clock_monotonic_ns();
    double cpu = cpu_us();
    world->left = messages;
    world->deliver = deliver;
    world->running = SENDERS;
    for (unsigned i = 0; i < SENDERS; i++) {
        sender_append(&world->senders[i]);
    }
    while (world->running > 0) {
        turn(world);
    }
    assert_int_equal(world->errors, 0);
    double seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    print_message("%u messages%s: %.0f/s, %.1f us of CPU each, %.2f syncs each\n", messages,
                  deliver ? " and outcomes" : "", messages / seconds, (cpu_us() - cpu) / messages,
                  (double)(world->shard.metrics->spool_syncs - batches) / messages);
}

static void the_kernel_does_what_the_fake_does(void **state)
{
    (void)state;
    char root[] = "/tmp/spool-kernel-XXXXXX";
    char reason[200];
    assert_non_null(mkdtemp(root));
    struct world *world = calloc(1, sizeof *world);
    struct ring_settings ring = {.entries = 256, .receive_buffers = 4, .receive_buffer_bytes = 4096};
    assert_int_equal(ring_new(&ring, &world->shard.ring, reason, sizeof reason), 0);
    world->shard.now_ms = clock_monotonic_ms();
    world->shard.wall_ms = clock_wall_ms();
    world->shard.metrics = metric_set_new();
    wheel_init(&world->shard.wheel, world->shard.now_ms);
    list_init(&world->shard.hooks);
    struct buffer envelope = buffer_of(world->envelope, sizeof world->envelope);
    assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("")));
    assert_true(envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, BYTES("a@example.org")));
    world->envelope_length = envelope.length;
    for (unsigned i = 0; i < SENDERS; i++) {
        world->senders[i].world = world;
        world->senders[i].append.done = sender_accepted;
        world->senders[i].outcome.done = sender_delivered;
    }
    open_spool(world, root);
    run(world, 3000, false);
    run(world, 20000, true);
    spool_close(world->spool);
    open_spool(world, root);
    assert_int_equal(world->recovered, 3000);
    spool_close(world->spool);
    metric_set_delete(world->shard.metrics);
    ring_delete(world->shard.ring);
    free(world);
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_kernel_does_what_the_fake_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
