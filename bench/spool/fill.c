/* fill: makes a spool with many queued messages, through the spool's own writer, faster than SMTP could.
 *
 *     fill ROOT NUMBER MESSAGES BODY_BYTES DOMAINS DEFERRED_PERCENT
 *
 * Message n goes to <mN@dK.test>, K = n modulo DOMAINS. Of every hundred so many have an outcome: deferred for a day.
 * Ends as a server does that is stopped, so every segment is sealed.
 */
#include "spool_rig.h"

#define WRITERS 1000

struct writer {
    struct spool_append append;
    struct spool_append outcome;
    char envelope[200];
    char room[SPOOL_OUTCOME_BYTES(1)];
};

static struct {
    struct rig rig;
    struct writer *writers;
    uint64_t left, next, domains, deferred_percent;
    unsigned running;
    struct iovec body;
} fill;

static void fill_next(struct writer *writer);

static void outcome_done(struct spool_append *append, enum err err)
{
    if (err != ERR_OK) {
        rig_die(err_name(err));
    }
    fill_next(CONTAINER_OF(append, struct writer, outcome));
}

static void message_done(struct spool_append *append, enum err err)
{
    struct writer *writer = CONTAINER_OF(append, struct writer, append);
    if (err != ERR_OK) {
        rig_die(err_name(err));
    }
    if (append->id % 100 >= fill.deferred_percent) {
        fill_next(writer);
        return;
    }
    const struct spool_outcome outcome = {.status = SPOOL_FORMAT_DEFERRED,
                                          .attempts = 1,
                                          .next_attempt_s = (uint32_t)(fill.rig.shard.wall_ms / 1000) + 86400,
                                          .reply_code = 451,
                                          .enhanced = {4, 2, 1},
                                          .reply = BYTES("come back later"),
                                          .host = BYTES("mx.d.test [192.0.2.1]")};
    struct buffer room = buffer_of(writer->room, sizeof writer->room);
    writer->outcome.done = outcome_done;
    spool_append_outcomes(fill.rig.spool, &writer->outcome, append->slot, append->id, &outcome, 1, false, &room);
}

static void fill_next(struct writer *writer)
{
    char address[64];
    if (fill.left == 0) {
        fill.running--;
        return;
    }
    fill.left--;
    int length = snprintf(address, sizeof address, "m%llu@d%llu.test", (unsigned long long)fill.next,
                          (unsigned long long)(fill.next % fill.domains));
    fill.next++;
    struct buffer envelope = buffer_of(writer->envelope, sizeof writer->envelope);
    envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("sender@source.test"));
    envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, bytes_of(address, (size_t)length));
    writer->append.done = message_done;
    spool_append_message(fill.rig.spool, &writer->append,
                         &(struct spool_message){.id = spool_new_id(fill.rig.spool),
                                                 .arrival_ms = fill.rig.shard.wall_ms,
                                                 .flags = SPOOL_FORMAT_RELAXED,
                                                 .recipients = 1,
                                                 .envelope = buffer_bytes(&envelope),
                                                 .prologue = BYTES("Received: from bench by fill\r\n"),
                                                 .body = &fill.body,
                                                 .body_pieces = 1});
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        rig_die("fill ROOT NUMBER MESSAGES BODY_BYTES DOMAINS DEFERRED_PERCENT");
    }
    size_t body_bytes = strtoull(argv[4], NULL, 10);
    char *body = malloc(body_bytes + 128);
    int head = snprintf(body, 128, "Subject: bench\r\n\r\n");
    memset(body + head, 'x', body_bytes);
    memcpy(body + head + body_bytes, "\r\n.\r\n", 5);
    fill.body = (struct iovec){.iov_base = body, .iov_len = (size_t)head + body_bytes + 5};
    fill.left = strtoull(argv[3], NULL, 10);
    fill.domains = strtoull(argv[5], NULL, 10);
    fill.deferred_percent = strtoull(argv[6], NULL, 10);
    fill.writers = calloc(WRITERS, sizeof *fill.writers);
    fill.running = WRITERS;
    rig_open(&fill.rig, &(struct spool_settings){.root = argv[1], .number = (unsigned)strtoul(argv[2], NULL, 10)});
    for (unsigned i = 0; i < WRITERS; i++) {
        fill_next(&fill.writers[i]);
    }
    while (fill.running > 0) {
        rig_turn(&fill.rig, 20);
    }
    rig_close(&fill.rig);
    free(fill.writers);
    free(body);
    return 0;
}
