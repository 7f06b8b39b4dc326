/* A message on its way into the spool.
 *
 *     OPEN ------ reception_finish ----> FINISHING ---- no extent in flight ----> COMMITTING ----> FINISHED
 *      |  body grows past an extent:        (the rest of a large body)          one append of
 *      |  up to two EXTENT appends                                        {envelope, prologue, body}
 *      '- no memory, or the disk failed: `err` is set, the rest of the message is drained
 *
 * Responsibility passes with the final dot. From FINISHING on, the message is accepted when its commit succeeds,
 * whether or not the client is still there to read the 250 (RFC 5321 4.1.1.4): so the reception belongs to the
 * shard, and the session merely watches it. Before that, letting go of it means that the message never was; extents
 * already written are given back.
 *
 * Memory of one message: envelope, at most one extent's worth of chunks being filled and a little, and two more in
 * flight. All of it counts against the shard's body pool; nobody waits for that pool, so nothing can deadlock on
 * it.
 */
#include "inbound/reception.h"

#include <stdlib.h>

#include "base/check.h"
#include "core/clock.h"
#include "inbound/body_store.h"
#include "inbound/envelope_writer.h"
#include "inbound/prologue.h"
#include "inbound/session_event.h"
#include "queue/enqueue.h"
#include "spool/envelope.h"

static_assert(RECEPTION_ENVELOPE_BYTES_MAX + 4 * LIMIT_EXTENT_BYTES <= LIMIT_BATCH_BYTES, "a message is one record");

enum state { OPEN, FINISHING, COMMITTING, FINISHED };

struct reception {
    struct inbound *inbound;
    struct profile *profile;
    void (*changed)(void *owner);
    void *owner; /* NULL: let go */
    enum state state;
    enum err err; /* of the commit, once it is FINISHED */
    uint64_t id;  /* 0: none yet */
    uint64_t arrival_ms;
    uint64_t finished_ns;
    uint64_t message_bytes;
    uint32_t flags; /* SPOOL_FORMAT_... */
    struct header_scan header;
    const char *tls_version; /* NULL: in clear text */
    struct peer peer;
    struct body_store store;
    bool replaced; /* by what filters have made of it; `dot` and `other_body` count then */
    bool other_body;
    struct dot dot;
    struct spool_append append;
    struct envelope_writer envelope;
    size_t prologue_length;
    char prologue[PROLOGUE_BYTES_MAX];
};

size_t reception_bytes(void)
{
    return sizeof(struct reception);
}

static struct spool *spool_of(const struct reception *reception)
{
    return reception->inbound->shard->spool;
}

enum err reception_add_recipient(struct reception *reception, const struct address *recipient,
                                 const struct params_rcpt *params, const struct recipients_answer *answer)
{
    CHECK(reception->state == OPEN);
    return envelope_writer_add(&reception->envelope, recipient, params, answer);
}

/* --- the beginning and the end --- */

static void store_changed(struct body_store *store);

struct reception *reception_begin(struct inbound *inbound, const struct reception_client *client,
                                  const struct address *sender, const struct params_mail *params,
                                  void (*changed)(void *owner), void *owner)
{
    struct reception *reception = block_pool_take(&inbound->receptions);
    if (reception == NULL) {
        return NULL;
    }
    inbound->reception_count++;
    reception->inbound = inbound;
    reception->profile = profile_take(client->profile);
    reception->changed = changed;
    reception->owner = owner;
    reception->state = OPEN;
    reception->err = ERR_OK;
    reception->id = 0;
    reception->message_bytes = 0;
    reception->replaced = reception->other_body = false;
    reception->header = (struct header_scan){0};
    reception->tls_version = client->tls != NULL ? client->tls->version : NULL;
    reception->peer = *client->trace_peer;
    body_store_init(&reception->store, inbound, &reception->id, store_changed);
    const struct envelope_writer_setup setup = {.pool = &inbound->bodies, .wall_ms = inbound->shard->wall_ms};
    if (envelope_writer_begin(&reception->envelope, &setup, client, sender, params) != ERR_OK) {
        reception_release(reception);
        return NULL;
    }
    return reception;
}

struct bytes reception_sender(const struct reception *reception)
{
    return envelope_find(buffer_bytes(&reception->envelope.bytes), ENVELOPE_SENDER);
}

/* Frees it when nobody needs it any more. */
static void dispose(struct reception *reception)
{
    if (reception->owner != NULL || body_store_in_flight(&reception->store) || reception->state == FINISHING ||
        reception->state == COMMITTING) {
        return;
    }
    struct inbound *inbound = reception->inbound;
    envelope_writer_free(&reception->envelope);
    body_store_free(&reception->store);
    profile_give(reception->profile);
    block_pool_give(&inbound->receptions, reception);
    inbound->reception_count--;
    inbound_settle(inbound);
}

/* Tells the session, or ends the reception when there is none. The last thing a completion does. */
static void report(struct reception *reception)
{
    if (reception->owner != NULL) {
        reception->changed(reception->owner);
    } else {
        dispose(reception);
    }
}

void reception_release(struct reception *reception)
{
    CHECK(reception->owner != NULL);
    reception->owner = NULL;
    if (reception->state == OPEN) {
        body_store_fail(&reception->store, ERR_CLOSED);
    }
    dispose(reception);
}

/* --- the body --- */

bool reception_stalled(const struct reception *reception)
{
    return body_store_stalled(&reception->store);
}

void reception_body(struct reception *reception, struct bytes piece)
{
    CHECK(reception->state == OPEN);
    if (reception->profile->role == INBOUND_SUBMISSION) {
        header_scan(&reception->header, piece);
    }
    body_store_append(&reception->store, piece);
}

/* --- the commit --- */

static const char *id_text(uint64_t id, char text[RECEPTION_ID_BYTES])
{
    for (unsigned i = 0; i < 16; i++) {
        text[i] = "0123456789abcdef"[id >> (60 - 4 * i) & 15];
    }
    text[16] = '\0';
    return text;
}

const char *reception_id(const struct reception *reception, char text[RECEPTION_ID_BYTES])
{
    return id_text(reception->id, text);
}

static void commit_done(struct spool_append *append, enum err err)
{
    struct reception *reception = CONTAINER_OF(append, struct reception, append);
    struct inbound *inbound = reception->inbound;
    struct metric_set *metrics = inbound->shard->metrics;
    reception->state = FINISHED;
    reception->err = err;
    if (err == ERR_OK) {
        body_store_keep(&reception->store);
        struct bytes envelope = buffer_bytes(&reception->envelope.bytes);
        enqueue_message(inbound->shard, spool_of(reception), append->slot, reception->arrival_ms, envelope);
        metric_add(&metrics->messages_accepted, 1);
        metric_add(&metrics->recipients_accepted, reception->envelope.recipients);
        histogram_record(&metrics->accept_latency, (clock_monotonic_ns() - reception->finished_ns) / 1000);
        session_event_reception(&(struct session_event){
            .shard = inbound->shard,
            .listener = reception->profile->name,
            .peer = &reception->peer,
            .id = reception->id,
            .envelope = envelope,
            .recipients = reception->envelope.recipients,
            .message_bytes = reception->message_bytes,
            .relaxed = reception->profile->durability == INBOUND_RELAXED,
            .tls = reception->tls_version,
        });
    } else {
        body_store_fail(&reception->store, err);
    }
    report(reception);
}

static void commit(struct reception *reception)
{
    struct iovec pieces[BODY_EXTENT_CHUNKS];
    const struct spool_format_extent *extents;
    uint32_t extent_count = body_store_extents(&reception->store, &extents);
    struct spool_append *append = &reception->append;
    append->done = commit_done;
    reception->state = COMMITTING;
    spool_append_message(spool_of(reception), append,
                         &(struct spool_message){
                             .id = reception->id,
                             .arrival_ms = reception->arrival_ms,
                             .flags = reception->flags,
                             .recipients = (uint16_t)reception->envelope.recipients,
                             .envelope = buffer_bytes(&reception->envelope.bytes),
                             .prologue = bytes_of(reception->prologue, reception->prologue_length),
                             .body = pieces,
                             .body_pieces = body_gather(&reception->store.body, pieces, BODY_EXTENT_CHUNKS),
                             .extents = extents,
                             .extent_count = extent_count,
                         });
}

/* The message is whole: commits it as soon as all of its extents are written. */
static void advance(struct reception *reception)
{
    if (reception->state != FINISHING || !body_store_settled(&reception->store)) {
        return;
    }
    reception->err = reception->store.err;
    if (reception->err != ERR_OK) {
        reception->state = FINISHED;
    } else {
        commit(reception);
    }
}

static void store_changed(struct body_store *store)
{
    struct reception *reception = CONTAINER_OF(store, struct reception, store);
    advance(reception);
    report(reception);
}

static uint64_t id_of(struct reception *reception)
{
    if (reception->id == 0) {
        reception->id = spool_new_id(spool_of(reception));
    }
    return reception->id;
}

uint64_t reception_new_id(struct reception *reception)
{
    return id_of(reception);
}

void reception_prologue(struct reception *reception, const struct reception_client *client, bool utf8,
                        struct buffer *out)
{
    char id[RECEPTION_ID_BYTES];
    reception->arrival_ms = reception->inbound->shard->wall_ms;
    const struct prologue prologue = {
        .client = client,
        .header = &reception->header,
        .id = bytes_of_string(id_text(id_of(reception), id)),
        .recipient = envelope_writer_only_recipient(&reception->envelope),
        .priority = envelope_find(buffer_bytes(&reception->envelope.bytes), ENVELOPE_PRIORITY),
        .arrival_ms = reception->arrival_ms,
        .utf8 = utf8,
    };
    prologue_write(out, &prologue);
}

struct body_store *reception_store(struct reception *reception)
{
    return &reception->store;
}

struct envelope_writer *reception_envelope(struct reception *reception)
{
    return &reception->envelope;
}

unsigned reception_recipients(const struct reception *reception)
{
    return reception->envelope.recipients;
}

void reception_replace(struct reception *reception, struct body_store *from, const struct dot *dot, bool other_body)
{
    CHECK(reception->state == OPEN && dot->ended);
    body_store_move(&reception->store, from);
    reception->dot = *dot;
    reception->replaced = true;
    reception->other_body |= other_body;
}

static void write_prologue(struct reception *reception, const struct reception_client *client, bool utf8)
{
    struct buffer out = buffer_of(reception->prologue, sizeof reception->prologue);
    if (!reception->replaced) {
        reception_prologue(reception, client, utf8, &out);
    }
    reception->prologue_length = out.length;
}

void reception_finish(struct reception *reception, const struct reception_client *client,
                      const struct smtp_server *machine)
{
    const struct dot *dot = reception->replaced ? &reception->dot : &machine->dot;
    CHECK(reception->state == OPEN && reception->envelope.recipients != 0 && dot->ended);
    reception->state = FINISHING;
    reception->finished_ns = clock_monotonic_ns();
    reception->arrival_ms = reception->inbound->shard->wall_ms;
    reception->message_bytes = dot_message_bytes(dot);
    reception->flags = reception->envelope.flags | (dot->seen & DOT_EIGHT_BIT ? SPOOL_FORMAT_HAS_8BIT : 0) |
                       (dot->stuffed == 0 ? SPOOL_FORMAT_DOT_FREE : 0) | (machine->binary ? SPOOL_FORMAT_BINARY : 0) |
                       (machine->crlf_added && !reception->other_body ? SPOOL_FORMAT_CRLF_ADDED : 0) |
                       (reception->profile->durability == INBOUND_RELAXED ? SPOOL_FORMAT_RELAXED : 0);
    if (reception->store.err == ERR_OK) {
        write_prologue(reception, client, machine->utf8);
    }
    advance(reception);
}

bool reception_finished(const struct reception *reception, enum err *ret_err)
{
    if (reception->state != FINISHED) {
        return false;
    }
    *ret_err = reception->err;
    return true;
}
