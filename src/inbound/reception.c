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
#include "inbound/body.h"
#include "inbound/session_event.h"
#include "mail/date.h"
#include "mail/header_scan.h"
#include "mail/received.h"
#include "queue/enqueue.h"
#include "smtp/xtext.h"
#include "spool/envelope.h"

#define PROLOGUE_BYTES (RECEIVED_BYTES_MAX + LIMIT_DOMAIN_BYTES + 128) /* and Date and Message-ID */

static_assert(RECEPTION_ENVELOPE_BYTES_MAX + 4 * LIMIT_EXTENT_BYTES <= LIMIT_BATCH_BYTES, "a message is one record");
static_assert(BODY_EXTENT_CHUNKS <= SPOOL_PIECES_MAX, "a body is one record's pieces");

enum state { OPEN, FINISHING, COMMITTING, FINISHED };

struct flight {
    struct spool_append append;
    struct reception *reception;
    struct body body;
    uint32_t index; /* of the extent */
    bool busy;
};

struct large {
    struct flight flights[RECEPTION_EXTENTS_IN_FLIGHT];
    unsigned in_flight;
    uint32_t count;
    uint32_t capacity;
    struct spool_format_extent *extents; /* payload_bytes 0: not written yet */
};

struct reception {
    struct inbound *inbound;
    struct profile *profile;
    void (*changed)(void *owner);
    void *owner; /* NULL: let go */
    enum state state;
    enum err err;
    uint64_t id; /* 0: none yet */
    uint64_t arrival_ms;
    uint64_t finished_ns;
    uint64_t message_bytes;
    uint32_t recipients; /* with what aliases stand for */
    uint32_t given;      /* by the client */
    bool forwarded;      /* one of them is an alias */
    uint32_t flags;      /* SPOOL_FORMAT_... */
    struct header_scan header;
    const char *tls_version; /* NULL: in clear text */
    struct peer peer;
    struct buffer envelope;
    struct body body;
    struct large *large; /* NULL while the body is small */
    struct spool_append append;
    char first_envelope[RECEPTION_ENVELOPE_BYTES_MIN];
    size_t prologue_length;
    char prologue[PROLOGUE_BYTES];
};

size_t reception_bytes(void)
{
    return sizeof(struct reception);
}

static struct spool *spool_of(const struct reception *reception)
{
    return reception->inbound->shard->spool;
}

/* --- envelope --- */

static bool envelope_is_large(const struct reception *reception)
{
    return reception->envelope.data != reception->first_envelope;
}

static enum err grow_envelope(struct reception *reception)
{
    struct buffer *envelope = &reception->envelope;
    if (envelope->capacity >= RECEPTION_ENVELOPE_BYTES_MAX) {
        return ERR_FULL;
    }
    size_t capacity = envelope->capacity * 2;
    size_t more = envelope_is_large(reception) ? envelope->capacity : capacity;
    if (!body_pool_reserve(&reception->inbound->bodies, more)) {
        return ERR_NO_MEMORY;
    }
    char *data = realloc(envelope_is_large(reception) ? envelope->data : NULL, capacity);
    if (data == NULL) {
        body_pool_return(&reception->inbound->bodies, more);
        return ERR_NO_MEMORY;
    }
    if (!envelope_is_large(reception)) {
        memcpy(data, envelope->data, envelope->length);
    }
    envelope->data = data;
    envelope->capacity = capacity;
    return ERR_OK;
}

static void free_envelope(struct reception *reception)
{
    if (envelope_is_large(reception)) {
        body_pool_return(&reception->inbound->bodies, reception->envelope.capacity);
        free(reception->envelope.data);
    }
}

static enum err add_flagged(struct reception *reception, enum envelope_tag tag, uint8_t flags, struct bytes value)
{
    while (!envelope_add(&reception->envelope, tag, flags, value)) {
        enum err err = grow_envelope(reception);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err add_item(struct reception *reception, enum envelope_tag tag, struct bytes value)
{
    return add_flagged(reception, tag, 0, value);
}

/* <Postmaster> without a domain is this host's (RFC 5321 4.5.1). */
static void append_mailbox(struct buffer *out, const struct reception *reception, const struct address *address)
{
    CHECK(address_append_folded(out, address));
    if (address->kind == ADDRESS_POSTMASTER) {
        CHECK(buffer_append(out, BYTES("@")) && buffer_append(out, reception->profile->smtp.hostname));
    }
}

static enum err add_mailbox(struct reception *reception, enum envelope_tag tag, uint8_t flags,
                            const struct address *address)
{
    char room[LIMIT_ADDRESS_BYTES + 1];
    struct buffer mailbox = buffer_of(room, sizeof room);
    append_mailbox(&mailbox, reception, address);
    return add_flagged(reception, tag, flags, buffer_bytes(&mailbox));
}

/* The ORCPT of an alias whose sender gave none: the address that he wrote. One that is not ASCII has no such form and
 * goes without (RFC 6533 3). */
static struct bytes original_of(const struct address *recipient, const struct params_rcpt *params, char *room,
                                size_t size)
{
    struct buffer text = buffer_of(room, size);
    if ((params->given & PARAMS_GIVEN_ORCPT) != 0) {
        return params->orcpt;
    }
    bool ok = buffer_append(&text, BYTES("rfc822;")) && xtext_encode(&text, recipient->mailbox);
    for (size_t i = 0; i < recipient->mailbox.length; i++) {
        ok &= (unsigned char)recipient->mailbox.data[i] < 0x80;
    }
    return ok ? buffer_bytes(&text) : BYTES("");
}

static enum err add_targets(struct reception *reception, const struct address *recipient,
                            const struct params_rcpt *params, const struct recipients_answer *answer)
{
    char room[3 * LIMIT_ADDRESS_BYTES + 16];
    struct bytes original = original_of(recipient, params, room, sizeof room);
    enum err err = ERR_OK;
    for (unsigned i = 0; i < answer->targets_count && err == ERR_OK; i++) {
        err = add_flagged(reception, ENVELOPE_RECIPIENT, params->notify, answer->targets[i]);
        if (err == ERR_OK && original.length != 0) {
            err = add_item(reception, ENVELOPE_ORIGINAL_RECIPIENT, original);
        }
    }
    return err;
}

static enum err add_one(struct reception *reception, const struct address *recipient, const struct params_rcpt *params)
{
    enum err err = add_mailbox(reception, ENVELOPE_RECIPIENT, params->notify, recipient);
    if (err == ERR_OK && (params->given & PARAMS_GIVEN_ORCPT) != 0) {
        err = add_item(reception, ENVELOPE_ORIGINAL_RECIPIENT, params->orcpt);
    }
    return err;
}

enum err reception_add_recipient(struct reception *reception, const struct address *recipient,
                                 const struct params_rcpt *params, const struct recipients_answer *answer)
{
    CHECK(reception->state == OPEN);
    bool forward = answer->verdict == RECIPIENTS_FORWARD;
    uint32_t more = forward ? answer->targets_count : 1;
    size_t before = reception->envelope.length;
    if (more > LIMIT_RECIPIENTS_CEILING - reception->recipients) {
        return ERR_FULL;
    }
    enum err err = forward ? add_targets(reception, recipient, params, answer) : add_one(reception, recipient, params);
    if (err != ERR_OK) {
        reception->envelope.length = before;
        return err;
    }
    reception->recipients += more;
    reception->given++;
    reception->forwarded |= forward;
    return ERR_OK;
}

/* --- what MAIL says beside the sender --- */

static void put_u64(uint8_t *to, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        to[i] = (uint8_t)(value >> 8 * i);
    }
}

/* RFC 4865 4: held until then. */
static enum err add_hold(struct reception *reception, const struct params_mail *params)
{
    uint8_t value[8];
    bool relative = (params->given & PARAMS_GIVEN_HOLD_FOR) != 0;
    if (!relative && (params->given & PARAMS_GIVEN_HOLD_UNTIL) == 0) {
        return ERR_OK;
    }
    uint64_t now_ms = reception->inbound->shard->wall_ms;
    put_u64(value, relative ? now_ms + params->hold_for_s * 1000ull : params->hold_until_s * 1000ull);
    return add_item(reception, ENVELOPE_HOLD_UNTIL, bytes_of(value, sizeof value));
}

/* RFC 2852 4: the time that is left may be negative already, with mode N. */
static enum err add_deadline(struct reception *reception, const struct params_mail *params)
{
    uint8_t value[10];
    if ((params->given & PARAMS_GIVEN_BY) == 0) {
        return ERR_OK;
    }
    int64_t deadline_ms = (int64_t)reception->inbound->shard->wall_ms + params->by_s * 1000ll;
    put_u64(value, deadline_ms > 0 ? (uint64_t)deadline_ms : 0);
    value[8] = (uint8_t)params->by_mode;
    value[9] = params->by_trace;
    return add_item(reception, ENVELOPE_DELIVER_BY, bytes_of(value, sizeof value));
}

static enum err add_if(struct reception *reception, bool given, enum envelope_tag tag, struct bytes value)
{
    return given ? add_item(reception, tag, value) : ERR_OK;
}

static enum err add_params(struct reception *reception, const struct reception_client *client,
                           const struct params_mail *params)
{
    unsigned given = params->given;
    int8_t priority = params->priority > 0 && !client->trusted ? 0 : params->priority; /* RFC 6710 5.1 */
    enum err err = add_if(reception, (given & PARAMS_GIVEN_ENVID) != 0, ENVELOPE_ID, params->envid);
    err = err != ERR_OK
              ? err
              : add_if(reception, (given & PARAMS_GIVEN_RET) != 0, ENVELOPE_RETURN, bytes_of(&params->ret, 1));
    err = err != ERR_OK
              ? err
              : add_if(reception, (given & PARAMS_GIVEN_PRIORITY) != 0, ENVELOPE_PRIORITY, bytes_of(&priority, 1));
    err = err != ERR_OK ? err
                        : add_if(reception, (given & PARAMS_GIVEN_AUTH) != 0, ENVELOPE_AUTH_PARAMETER,
                                 client->trusted ? params->auth : BYTES("<>")); /* RFC 4954 5 */
    err = err != ERR_OK ? err : add_hold(reception, params);
    err = err != ERR_OK ? err : add_deadline(reception, params);
    err = err != ERR_OK ? err : add_if(reception, client->account.length != 0, ENVELOPE_AUTHENTICATED, client->account);
    err = err != ERR_OK ? err : add_if(reception, client->tenant.length != 0, ENVELOPE_TENANT, client->tenant);
    reception->flags = ((given & PARAMS_GIVEN_SMTPUTF8) != 0 ? SPOOL_FORMAT_SMTPUTF8 : 0) |
                       ((given & PARAMS_GIVEN_REQUIRETLS) != 0 ? SPOOL_FORMAT_REQUIRETLS : 0);
    return err;
}

/* --- the beginning and the end --- */

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
    reception->recipients = reception->given = 0;
    reception->forwarded = false;
    reception->header = (struct header_scan){0};
    reception->tls_version = client->tls != NULL ? client->tls->version : NULL;
    reception->peer = *client->trace_peer;
    reception->envelope = buffer_of(reception->first_envelope, sizeof reception->first_envelope);
    reception->body = (struct body){0};
    reception->large = NULL;
    static_assert(RECEPTION_ENVELOPE_BYTES_MIN >= LIMIT_ADDRESS_BYTES + LIMIT_DOMAIN_BYTES + 16 + 32, "these fit");
    CHECK(add_mailbox(reception, ENVELOPE_SENDER, 0, sender) == ERR_OK);
    CHECK(add_item(reception, ENVELOPE_CLIENT_ADDRESS, peer_bytes(client->peer)) == ERR_OK);
    CHECK(add_item(reception, ENVELOPE_HELO, client->helo) == ERR_OK);
    if (add_params(reception, client, params) != ERR_OK) {
        reception_release(reception);
        return NULL;
    }
    return reception;
}

static bool in_flight(const struct reception *reception)
{
    return reception->large != NULL && reception->large->in_flight != 0;
}

/* Frees it when nobody needs it any more. */
static void dispose(struct reception *reception)
{
    if (reception->owner != NULL || in_flight(reception) || reception->state == FINISHING ||
        reception->state == COMMITTING) {
        return;
    }
    struct inbound *inbound = reception->inbound;
    free_envelope(reception);
    body_free(&reception->body, &inbound->bodies);
    if (reception->large != NULL) {
        free(reception->large->extents);
        free(reception->large);
    }
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

static void abandon_extents(struct reception *reception)
{
    struct large *large = reception->large;
    for (uint32_t i = 0; large != NULL && i < large->count; i++) {
        if (large->extents[i].payload_bytes != 0) {
            spool_abandon_extent(spool_of(reception), &large->extents[i]);
            large->extents[i].payload_bytes = 0;
        }
    }
}

/* The message will not be stored: what there is of it goes, what is still to come will be drained. */
static void fail(struct reception *reception, enum err err)
{
    if (reception->err == ERR_OK) {
        reception->err = err;
        body_free(&reception->body, &reception->inbound->bodies);
        abandon_extents(reception);
    }
}

void reception_release(struct reception *reception)
{
    CHECK(reception->owner != NULL);
    reception->owner = NULL;
    if (reception->state == OPEN) {
        fail(reception, ERR_CLOSED);
    }
    dispose(reception);
}

/* --- large bodies --- */

static uint64_t id_of(struct reception *reception)
{
    if (reception->id == 0) {
        reception->id = spool_new_id(spool_of(reception));
    }
    return reception->id;
}

static bool become_large(struct reception *reception)
{
    if (reception->large == NULL) {
        reception->large = calloc(1, sizeof *reception->large);
    }
    struct large *large = reception->large;
    if (large == NULL || large->count < large->capacity) {
        return large != NULL;
    }
    uint32_t capacity = large->capacity == 0 ? 16 : large->capacity * 2;
    struct spool_format_extent *extents = realloc(large->extents, capacity * sizeof *extents);
    if (extents == NULL) {
        return false;
    }
    large->extents = extents;
    large->capacity = capacity;
    return true;
}

static void advance(struct reception *reception);

static void extent_done(struct spool_append *append, enum err err)
{
    struct flight *flight = CONTAINER_OF(append, struct flight, append);
    struct reception *reception = flight->reception;
    struct large *large = reception->large;
    body_free(&flight->body, &reception->inbound->bodies);
    flight->busy = false;
    large->in_flight--;
    if (err != ERR_OK) {
        fail(reception, err);
    } else if (reception->err != ERR_OK) {
        spool_abandon_extent(spool_of(reception), &append->extent);
    } else {
        large->extents[flight->index] = append->extent;
    }
    advance(reception);
    report(reception);
}

static void append_extent(struct reception *reception)
{
    if (!become_large(reception)) {
        fail(reception, ERR_NO_MEMORY);
        return;
    }
    struct large *large = reception->large;
    struct flight *flight = &large->flights[0];
    while (flight->busy) {
        flight++;
    }
    flight->busy = true;
    flight->reception = reception;
    flight->index = large->count;
    large->extents[large->count++] = (struct spool_format_extent){0};
    large->in_flight++;
    body_cut_extent(&reception->body, &flight->body);
    struct iovec pieces[BODY_EXTENT_CHUNKS];
    unsigned count = body_gather(&flight->body, pieces, BODY_EXTENT_CHUNKS);
    flight->append.done = extent_done;
    spool_append_extent(spool_of(reception), &flight->append, id_of(reception), pieces, count);
}

bool reception_stalled(const struct reception *reception)
{
    return reception->body.chunks > BODY_EXTENT_CHUNKS;
}

void reception_body(struct reception *reception, struct bytes piece)
{
    CHECK(reception->state == OPEN);
    if (reception->err != ERR_OK) {
        return;
    }
    if (reception->profile->role == INBOUND_SUBMISSION) {
        header_scan(&reception->header, piece);
    }
    if (!body_append(&reception->body, &reception->inbound->bodies, piece)) {
        fail(reception, ERR_NO_MEMORY);
    }
    advance(reception);
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
        struct bytes envelope = buffer_bytes(&reception->envelope);
        enqueue_message(inbound->shard, spool_of(reception), append->slot, reception->arrival_ms, envelope);
        metric_add(&metrics->messages_accepted, 1);
        metric_add(&metrics->recipients_accepted, reception->recipients);
        histogram_record(&metrics->accept_latency, (clock_monotonic_ns() - reception->finished_ns) / 1000);
        session_event_reception(&(struct session_event){
            .shard = inbound->shard,
            .listener = reception->profile->name,
            .peer = &reception->peer,
            .id = reception->id,
            .envelope = envelope,
            .recipients = reception->recipients,
            .message_bytes = reception->message_bytes,
            .relaxed = reception->profile->durability == INBOUND_RELAXED,
            .tls = reception->tls_version,
        });
    } else {
        body_free(&reception->body, &inbound->bodies);
        abandon_extents(reception);
    }
    report(reception);
}

static void commit(struct reception *reception)
{
    struct iovec pieces[BODY_EXTENT_CHUNKS];
    const struct large *large = reception->large;
    struct spool_append *append = &reception->append;
    append->done = commit_done;
    reception->state = COMMITTING;
    spool_append_message(spool_of(reception), append,
                         &(struct spool_message){
                             .id = reception->id,
                             .arrival_ms = reception->arrival_ms,
                             .flags = reception->flags,
                             .recipients = (uint16_t)reception->recipients,
                             .envelope = buffer_bytes(&reception->envelope),
                             .prologue = bytes_of(reception->prologue, reception->prologue_length),
                             .body = pieces,
                             .body_pieces = body_gather(&reception->body, pieces, BODY_EXTENT_CHUNKS),
                             .extents = large == NULL ? NULL : large->extents,
                             .extent_count = large == NULL ? 0 : large->count,
                         });
}

/* Goes on as far as it can without waiting. */
static void advance(struct reception *reception)
{
    while (reception->body.chunks > BODY_EXTENT_CHUNKS &&
           (reception->large == NULL || reception->large->in_flight < RECEPTION_EXTENTS_IN_FLIGHT)) {
        append_extent(reception);
    }
    if (reception->state != FINISHING || in_flight(reception)) {
        return;
    }
    if (reception->err != ERR_OK) {
        reception->state = FINISHED;
    } else if (reception->body.chunks <= BODY_EXTENT_CHUNKS) {
        commit(reception);
    }
}

/* RFC 5321 4.4: never more than one, and not what an alias stands for. */
static struct bytes only_recipient(const struct reception *reception)
{
    struct envelope_item item = {0};
    if (reception->given == 1 && !reception->forwarded) {
        CHECK(envelope_recipient(buffer_bytes(&reception->envelope), 0, &item));
    }
    return item.value;
}

static struct bytes tls_text(struct buffer *text, const struct tls_facts *tls)
{
    bool ok = tls != NULL && buffer_append_string(text, tls->version) && buffer_append(text, BYTES(" with cipher ")) &&
              buffer_append_string(text, tls->cipher) && buffer_append(text, BYTES(" (")) &&
              buffer_append_number(text, tls->bits) && buffer_append(text, BYTES(" bits)"));
    return ok ? buffer_bytes(text) : BYTES("");
}

/* RFC 6409 8.2, 8.3: a submitted message gets what it lacks. When it has no header at all, one begins and ends here. */
static void complete_header(struct buffer *prologue, struct reception *reception, const char *id)
{
    const struct header_scan *header = &reception->header;
    if (!header->date) {
        CHECK(buffer_append(prologue, BYTES("Date: ")) &&
              date_append(prologue, (int64_t)(reception->arrival_ms / 1000)) && buffer_append(prologue, BYTES("\r\n")));
    }
    if (!header->message_id) {
        CHECK(buffer_append(prologue, BYTES("Message-ID: <")) && buffer_append_string(prologue, id) &&
              buffer_append(prologue, BYTES("@")) && buffer_append(prologue, reception->profile->smtp.hostname) &&
              buffer_append(prologue, BYTES(">\r\n")));
    }
    CHECK(!header->headless || buffer_append(prologue, BYTES("\r\n")));
}

static void write_prologue(struct reception *reception, const struct reception_client *client, bool utf8)
{
    char peer[PEER_TEXT_BYTES];
    char id[RECEPTION_ID_BYTES];
    char tls[RECEIVED_TLS_BYTES_MAX];
    struct buffer tls_buffer = buffer_of(tls, sizeof tls);
    struct buffer prologue = buffer_of(reception->prologue, sizeof reception->prologue);
    struct received_session session = {
        .extended = client->extended,
        .lmtp = client->profile->smtp.lmtp,
        .utf8 = utf8,
        .secure = client->tls != NULL,
        .authenticated = client->account.length != 0,
    };
    struct received received = {
        .helo = client->trace_helo,
        .peer_address = peer_text(client->trace_peer, peer),
        .tls = tls_text(&tls_buffer, client->tls),
        .host = client->profile->smtp.hostname,
        .protocol = received_protocol(&session),
        .id = bytes_of_string(id_text(id_of(reception), id)),
        .recipient = only_recipient(reception),
        .time_unix_s = (int64_t)(reception->arrival_ms / 1000),
    };
    CHECK(received_append(&prologue, &received));
    if (reception->profile->role == INBOUND_SUBMISSION) {
        complete_header(&prologue, reception, id);
    }
    reception->prologue_length = prologue.length;
}

void reception_finish(struct reception *reception, const struct reception_client *client,
                      const struct smtp_server *machine)
{
    const struct dot *dot = &machine->dot;
    CHECK(reception->state == OPEN && reception->recipients != 0 && dot->ended);
    reception->state = FINISHING;
    reception->finished_ns = clock_monotonic_ns();
    reception->arrival_ms = reception->inbound->shard->wall_ms;
    reception->message_bytes = dot_message_bytes(dot);
    reception->flags |= (dot->seen & DOT_EIGHT_BIT ? SPOOL_FORMAT_HAS_8BIT : 0) |
                        (dot->stuffed == 0 ? SPOOL_FORMAT_DOT_FREE : 0) | (machine->binary ? SPOOL_FORMAT_BINARY : 0) |
                        (machine->crlf_added ? SPOOL_FORMAT_CRLF_ADDED : 0) |
                        (reception->profile->durability == INBOUND_RELAXED ? SPOOL_FORMAT_RELAXED : 0);
    if (reception->err == ERR_OK) {
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
