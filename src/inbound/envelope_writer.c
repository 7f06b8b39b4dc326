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

static enum err add_targets(struct envelope_writer *writer, const struct address *recipient,
                            const struct params_rcpt *params, const struct recipients_answer *answer)
{
    char room[3 * LIMIT_ADDRESS_BYTES + 16];
    struct bytes original = original_of(recipient, params, room, sizeof room);
    enum err err = ERR_OK;
    for (unsigned i = 0; i < answer->targets_count && err == ERR_OK; i++) {
        err = add_flagged(writer, ENVELOPE_RECIPIENT, params->notify, answer->targets[i]);
        if (err == ERR_OK && original.length != 0) {
            err = add_item(writer, ENVELOPE_ORIGINAL_RECIPIENT, original);
        }
    }
    return err;
}

static enum err add_one(struct envelope_writer *writer, const struct address *recipient,
                        const struct params_rcpt *params)
{
    enum err err = add_mailbox(writer, ENVELOPE_RECIPIENT, params->notify, recipient);
    if (err == ERR_OK && (params->given & PARAMS_GIVEN_ORCPT) != 0) {
        err = add_item(writer, ENVELOPE_ORIGINAL_RECIPIENT, params->orcpt);
    }
    return err;
}

enum err envelope_writer_add(struct envelope_writer *writer, const struct address *recipient,
                             const struct params_rcpt *params, const struct recipients_answer *answer)
{
    bool forward = answer->verdict == RECIPIENTS_FORWARD;
    uint32_t more = forward ? answer->targets_count : 1;
    size_t before = writer->bytes.length;
    if (more > LIMIT_RECIPIENTS_CEILING - writer->recipients) {
        return ERR_FULL;
    }
    enum err err = forward ? add_targets(writer, recipient, params, answer) : add_one(writer, recipient, params);
    if (err != ERR_OK) {
        writer->bytes.length = before;
        return err;
    }
    writer->recipients += more;
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
