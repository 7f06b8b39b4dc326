/* The envelope of a message being received, in the form in which the spool keeps it. The first kilobyte is part of the
 * reception; more, of a message with many recipients, counts against the pool of bodies. */
#include "inbound/envelope_writer.h"

#include <stdlib.h>

#include "base/check.h"
#include "smtp/xtext.h"
#include "spool/envelope.h"

/* --- items -------------------------------------------------------------------------------------------------------- */

static bool envelope_is_large(const struct envelope_writer *writer)
{
    return writer->bytes.data != writer->first;
}

static enum err grow_envelope(struct envelope_writer *writer)
{
    struct buffer *envelope = &writer->bytes;
    if (envelope->capacity >= RECEPTION_ENVELOPE_BYTES_MAX) {
        return ERR_FULL;
    }
    size_t capacity = envelope->capacity * 2;
    size_t more = envelope_is_large(writer) ? envelope->capacity : capacity;
    if (!body_pool_reserve(writer->pool, more)) {
        return ERR_NO_MEMORY;
    }
    char *data = realloc(envelope_is_large(writer) ? envelope->data : NULL, capacity);
    if (data == NULL) {
        body_pool_return(writer->pool, more);
        return ERR_NO_MEMORY;
    }
    if (!envelope_is_large(writer)) {
        memcpy(data, envelope->data, envelope->length);
    }
    envelope->data = data;
    envelope->capacity = capacity;
    return ERR_OK;
}

void envelope_writer_free(struct envelope_writer *writer)
{
    recipient_set_free(&writer->set);
    if (envelope_is_large(writer)) {
        body_pool_return(writer->pool, writer->bytes.capacity);
        free(writer->bytes.data);
    }
}

static enum err add_flagged(struct envelope_writer *writer, enum envelope_tag tag, uint8_t flags, struct bytes value)
{
    while (!envelope_add(&writer->bytes, tag, flags, value)) {
        enum err err = grow_envelope(writer);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err add_item(struct envelope_writer *writer, enum envelope_tag tag, struct bytes value)
{
    return add_flagged(writer, tag, 0, value);
}

/* <Postmaster> without a domain is this host's (RFC 5321 4.5.1). */
static void append_mailbox(struct buffer *out, const struct envelope_writer *writer, const struct address *address)
{
    CHECK(address_append_folded(out, address));
    if (address->kind == ADDRESS_POSTMASTER) {
        CHECK(buffer_append(out, BYTES("@")) && buffer_append(out, writer->hostname));
    }
}

static enum err add_mailbox(struct envelope_writer *writer, enum envelope_tag tag, uint8_t flags,
                            const struct address *address)
{
    char room[LIMIT_ADDRESS_BYTES + 1];
    struct buffer mailbox = buffer_of(room, sizeof room);
    append_mailbox(&mailbox, writer, address);
    return add_flagged(writer, tag, flags, buffer_bytes(&mailbox));
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

/* RFC 3461 4.1: whatever either of the two asks for. NEVER asks for nothing, and to say nothing (0) is to ask for
 * FAILURE. */
static uint8_t merged(uint8_t one, uint8_t other)
{
    if (one == other || other == ENVELOPE_NOTIFY_NEVER) {
        return one;
    }
    if (one == ENVELOPE_NOTIFY_NEVER) {
        return other;
    }
    uint8_t both = one | other;
    if (one != 0 && other != 0) {
        return both;
    }
    return both == ENVELOPE_NOTIFY_FAILURE ? 0 : both | ENVELOPE_NOTIFY_FAILURE;
}

/* What is given once and what it becomes in the envelope. */
struct addition {
    struct bytes mailbox;
    uint8_t notify;
    struct bytes original; /* ORCPT, or "" */
};

/* *ret_new: there was none like it. */
static enum err add_addition(struct envelope_writer *writer, const struct addition *addition, bool *ret_new)
{
    uint32_t offset;
    if (recipient_set_find(&writer->set, buffer_bytes(&writer->bytes), addition->mailbox, &offset)) {
        *ret_new = false;
        return ERR_OK;
    }
    offset = (uint32_t)writer->bytes.length;
    enum err err = add_flagged(writer, ENVELOPE_RECIPIENT, addition->notify, addition->mailbox);
    if (err == ERR_OK && addition->original.length != 0) {
        err = add_item(writer, ENVELOPE_ORIGINAL_RECIPIENT, addition->original);
    }
    if (err == ERR_OK) {
        recipient_set_put(&writer->set, buffer_bytes(&writer->bytes), offset);
        *ret_new = true;
    }
    return err;
}

static enum err make_room(struct envelope_writer *writer, uint32_t more)
{
    if (more > LIMIT_RECIPIENTS_CEILING - writer->set.count) {
        return ERR_FULL;
    }
    return recipient_set_reserve(&writer->set, buffer_bytes(&writer->bytes), more);
}

static void merge_notify(struct envelope_writer *writer, const struct addition *addition)
{
    uint32_t offset;
    CHECK(recipient_set_find(&writer->set, buffer_bytes(&writer->bytes), addition->mailbox, &offset));
    char *flags = writer->bytes.data + offset + 1;
    *flags = (char)merged((uint8_t)*flags, addition->notify);
}

static enum err add_targets(struct envelope_writer *writer, const struct address *recipient,
                            const struct params_rcpt *params, const struct recipients_answer *answer)
{
    char room[3 * LIMIT_ADDRESS_BYTES + 16];
    uint32_t added[RECIPIENTS_TARGETS_MAX];
    unsigned count = 0;
    struct addition addition = {.notify = params->notify};
    enum err err = make_room(writer, answer->targets_count);
    addition.original = original_of(recipient, params, room, sizeof room);
    CHECK(answer->targets_count <= RECIPIENTS_TARGETS_MAX);
    for (unsigned i = 0; i < answer->targets_count && err == ERR_OK; i++) {
        bool new = false;
        addition.mailbox = answer->targets[i];
        added[count] = (uint32_t)writer->bytes.length;
        err = add_addition(writer, &addition, &new);
        count += new;
    }
    if (err != ERR_OK) {
        while (count != 0) {
            recipient_set_take_back(&writer->set, buffer_bytes(&writer->bytes), added[--count]);
        }
        return err;
    }
    for (unsigned i = 0; i < answer->targets_count && count != answer->targets_count; i++) {
        addition.mailbox = answer->targets[i];
        merge_notify(writer, &addition);
    }
    return ERR_OK;
}

static enum err add_one(struct envelope_writer *writer, const struct address *recipient,
                        const struct params_rcpt *params)
{
    char room[LIMIT_ADDRESS_BYTES + LIMIT_DOMAIN_BYTES + 2];
    struct buffer mailbox = buffer_of(room, sizeof room);
    bool new = false;
    append_mailbox(&mailbox, writer, recipient);
    const struct addition addition = {
        .mailbox = buffer_bytes(&mailbox),
        .notify = params->notify,
        .original = (params->given & PARAMS_GIVEN_ORCPT) != 0 ? params->orcpt : BYTES(""),
    };
    uint32_t offset;
    if (recipient_set_find(&writer->set, buffer_bytes(&writer->bytes), addition.mailbox, &offset)) {
        merge_notify(writer, &addition);
        return ERR_OK;
    }
    enum err err = make_room(writer, 1);
    return err == ERR_OK ? add_addition(writer, &addition, &new) : err;
}

enum err envelope_writer_add(struct envelope_writer *writer, const struct address *recipient,
                             const struct params_rcpt *params, const struct recipients_answer *answer)
{
    bool forward = answer->verdict == RECIPIENTS_FORWARD;
    size_t before = writer->bytes.length;
    enum err err = forward ? add_targets(writer, recipient, params, answer) : add_one(writer, recipient, params);
    if (err != ERR_OK) {
        writer->bytes.length = before;
        return err;
    }
    writer->recipients = writer->set.count;
    writer->given++;
    writer->forwarded |= forward;
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
static enum err add_hold(struct envelope_writer *writer, const struct params_mail *params)
{
    uint8_t value[8];
    bool relative = (params->given & PARAMS_GIVEN_HOLD_FOR) != 0;
    if (!relative && (params->given & PARAMS_GIVEN_HOLD_UNTIL) == 0) {
        return ERR_OK;
    }
    uint64_t now_ms = writer->wall_ms;
    put_u64(value, relative ? now_ms + params->hold_for_s * 1000ull : params->hold_until_s * 1000ull);
    return add_item(writer, ENVELOPE_HOLD_UNTIL, bytes_of(value, sizeof value));
}

/* RFC 2852 4: the time that is left may be negative already, with mode N. */
static enum err add_deadline(struct envelope_writer *writer, const struct params_mail *params)
{
    uint8_t value[10];
    if ((params->given & PARAMS_GIVEN_BY) == 0) {
        return ERR_OK;
    }
    int64_t deadline_ms = (int64_t)writer->wall_ms + params->by_s * 1000ll;
    put_u64(value, deadline_ms > 0 ? (uint64_t)deadline_ms : 0);
    value[8] = (uint8_t)params->by_mode;
    value[9] = params->by_trace;
    return add_item(writer, ENVELOPE_DELIVER_BY, bytes_of(value, sizeof value));
}

static enum err add_if(struct envelope_writer *writer, bool given, enum envelope_tag tag, struct bytes value)
{
    return given ? add_item(writer, tag, value) : ERR_OK;
}

static enum err add_params(struct envelope_writer *writer, const struct reception_client *client,
                           const struct params_mail *params)
{
    unsigned given = params->given;
    int8_t priority = params->priority > 0 && !client->trusted ? 0 : params->priority; /* RFC 6710 5.1 */
    enum err err = add_if(writer, (given & PARAMS_GIVEN_ENVID) != 0, ENVELOPE_ID, params->envid);
    err = err != ERR_OK ? err
                        : add_if(writer, (given & PARAMS_GIVEN_RET) != 0, ENVELOPE_RETURN, bytes_of(&params->ret, 1));
    err = err != ERR_OK
              ? err
              : add_if(writer, (given & PARAMS_GIVEN_PRIORITY) != 0, ENVELOPE_PRIORITY, bytes_of(&priority, 1));
    err = err != ERR_OK ? err
                        : add_if(writer, (given & PARAMS_GIVEN_AUTH) != 0, ENVELOPE_AUTH_PARAMETER,
                                 client->trusted ? params->auth : BYTES("<>")); /* RFC 4954 5 */
    err = err != ERR_OK ? err : add_hold(writer, params);
    err = err != ERR_OK ? err : add_deadline(writer, params);
    err = err != ERR_OK ? err : add_if(writer, client->account.length != 0, ENVELOPE_AUTHENTICATED, client->account);
    err = err != ERR_OK ? err : add_if(writer, client->tenant.length != 0, ENVELOPE_TENANT, client->tenant);
    writer->flags = ((given & PARAMS_GIVEN_SMTPUTF8) != 0 ? SPOOL_FORMAT_SMTPUTF8 : 0) |
                    ((given & PARAMS_GIVEN_REQUIRETLS) != 0 ? SPOOL_FORMAT_REQUIRETLS : 0);
    return err;
}

enum err envelope_writer_begin(struct envelope_writer *writer, const struct envelope_writer_setup *setup,
                               const struct reception_client *client, const struct address *sender,
                               const struct params_mail *params)
{
    writer->pool = setup->pool;
    writer->hostname = client->profile->smtp.hostname;
    writer->wall_ms = setup->wall_ms;
    writer->bytes = buffer_of(writer->first, sizeof writer->first);
    writer->recipients = writer->given = 0;
    recipient_set_init(&writer->set, setup->pool);
    writer->forwarded = false;
    static_assert(RECEPTION_ENVELOPE_BYTES_MIN >= LIMIT_ADDRESS_BYTES + LIMIT_DOMAIN_BYTES + 16 + 32, "these fit");
    CHECK(add_mailbox(writer, ENVELOPE_SENDER, 0, sender) == ERR_OK);
    CHECK(add_item(writer, ENVELOPE_CLIENT_ADDRESS, peer_bytes(client->peer)) == ERR_OK);
    CHECK(add_item(writer, ENVELOPE_HELO, client->helo) == ERR_OK);
    return add_params(writer, client, params);
}

struct bytes envelope_writer_only_recipient(const struct envelope_writer *writer)
{
    struct envelope_item item = {0};
    if (writer->given == 1 && !writer->forwarded) {
        CHECK(envelope_recipient(buffer_bytes(&writer->bytes), 0, &item));
    }
    return item.value;
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

struct change {
    const struct bytes *sender; /* NULL: as it is */
    const struct bytes *hold;   /* NULL: none */
    const struct bytes *remove; /* NULL: nobody */
    uint32_t removed;
};

/* ORCPT of what an alias, or the sender, calls so. */
static bool same_original(struct bytes original, struct bytes address)
{
    char room[LIMIT_ADDRESS_BYTES];
    struct buffer text = buffer_of(room, sizeof room);
    struct bytes type = BYTES("rfc822;");
    return original.length > type.length && bytes_equal_nocase(bytes_slice(original, 0, type.length), type) &&
           xtext_decode(&text, bytes_slice(original, type.length, original.length - type.length)) &&
           bytes_equal_nocase(buffer_bytes(&text), address);
}

static bool is_removed(const struct change *change, const struct envelope_item *recipient,
                       struct envelope_iterator behind)
{
    struct envelope_item next;
    return change->remove != NULL && (bytes_equal(recipient->value, *change->remove) ||
                                      (envelope_next(&behind, &next) && next.tag == ENVELOPE_ORIGINAL_RECIPIENT &&
                                       same_original(next.value, *change->remove)));
}

static bool copy_items(struct buffer *to, struct bytes from, struct change *change)
{
    struct envelope_iterator iterator = envelope_iterate(from);
    struct envelope_item item;
    bool leave_out = false;
    bool ok = true;
    while (ok && envelope_next(&iterator, &item)) {
        if (item.tag == ENVELOPE_SENDER) {
            ok = envelope_add(to, ENVELOPE_SENDER, item.flags, change->sender != NULL ? *change->sender : item.value) &&
                 (change->hold == NULL || envelope_add(to, ENVELOPE_HELD, 0, *change->hold));
            continue;
        }
        if (item.tag == ENVELOPE_RECIPIENT) {
            leave_out = is_removed(change, &item, iterator);
            change->removed += leave_out;
        }
        if (!leave_out && !(change->hold != NULL && item.tag == ENVELOPE_HELD)) {
            ok = envelope_add(to, (enum envelope_tag)item.tag, item.flags, item.value);
        }
    }
    return ok;
}

static enum err rewrite(struct envelope_writer *writer, struct change *change)
{
    size_t more = ENVELOPE_ITEM_BYTES * 2 + (change->sender != NULL ? change->sender->length : 0) +
                  (change->hold != NULL ? change->hold->length : 0);
    size_t capacity = writer->bytes.capacity;
    while (capacity < writer->bytes.length + more) {
        capacity *= 2;
    }
    if (capacity > RECEPTION_ENVELOPE_BYTES_MAX) {
        return ERR_FULL;
    }
    char *data = NULL;
    if (!body_pool_reserve(writer->pool, capacity)) {
        return ERR_NO_MEMORY;
    }
    if ((data = malloc(capacity)) == NULL) {
        body_pool_return(writer->pool, capacity);
        return ERR_NO_MEMORY;
    }
    struct buffer to = buffer_of(data, capacity);
    CHECK(copy_items(&to, buffer_bytes(&writer->bytes), change));
    struct recipient_set set; /* their offsets are others now */
    recipient_set_init(&set, writer->pool);
    set.count = writer->set.count - change->removed;
    enum err err = recipient_set_reserve(&set, buffer_bytes(&to), 0);
    if (err != ERR_OK) {
        body_pool_return(writer->pool, capacity);
        free(data);
        return err;
    }
    envelope_writer_free(writer);
    writer->bytes = to;
    writer->set = set;
    writer->recipients = set.count;
    return ERR_OK;
}

enum err envelope_writer_set_sender(struct envelope_writer *writer, const struct address *sender)
{
    char room[LIMIT_ADDRESS_BYTES + 1];
    struct buffer mailbox = buffer_of(room, sizeof room);
    append_mailbox(&mailbox, writer, sender);
    struct bytes value = buffer_bytes(&mailbox);
    return rewrite(writer, &(struct change){.sender = &value});
}

enum err envelope_writer_remove(struct envelope_writer *writer, const struct address *recipient, uint32_t *ret_removed)
{
    char room[LIMIT_ADDRESS_BYTES + 1];
    struct buffer mailbox = buffer_of(room, sizeof room);
    append_mailbox(&mailbox, writer, recipient);
    struct bytes value = buffer_bytes(&mailbox);
    struct change change = {.remove = &value};
    enum err err = rewrite(writer, &change);
    *ret_removed = err == ERR_OK ? change.removed : 0;
    return err;
}

enum err envelope_writer_hold(struct envelope_writer *writer, struct bytes reason)
{
    return rewrite(writer, &(struct change){.hold = &reason});
}
