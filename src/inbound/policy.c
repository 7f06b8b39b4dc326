#include "inbound/policy.h"

#include "queue/enqueue.h"

static const struct reply storage_failed = {
    .code = 421, .enhanced = {4, 3, 0}, .text = {"Mail storage has failed, try again later", 40}};

static const struct reply sender_not_owned = {
    .code = 550, .enhanced = {5, 7, 1}, .text = {"Not an address of your account", 30}};

static bool network_holds(const struct config_network *network, const uint8_t address[16])
{
    unsigned whole = network->prefix_bits / 8;
    unsigned rest = network->prefix_bits % 8;
    if (memcmp(network->address, address, whole) != 0) {
        return false;
    }
    return rest == 0 || ((network->address[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

static bool among(const struct inbound_networks *networks, const struct peer *peer)
{
    for (unsigned i = 0; i < networks->count; i++) {
        if (network_holds(&networks->items[i], peer->address)) {
            return true;
        }
    }
    return false;
}

struct policy_client policy_connect(const struct profile *profile, const struct peer *peer)
{
    return (struct policy_client){
        /* Of a unix socket the permissions have said who may. */
        .may_relay = among(&profile->relay_networks, peer) || (profile->role == INBOUND_RELAY && peer_is_local(peer)),
        .may_speak_for = among(&profile->xclient_networks, peer),
        .may_forward = among(&profile->xforward_networks, peer),
    };
}

bool policy_proxy(const struct profile *profile, const struct peer *peer)
{
    return among(&profile->proxy_networks, peer);
}

const struct reply *policy_mail(const struct inbound *inbound)
{
    if (inbound->stopping) {
        return reply_of(REPLY_SHUTDOWN);
    }
    enum spool_intake intake = spool_intake_state(inbound->shard->spool);
    if (intake == SPOOL_INTAKE_FAILED) {
        return &storage_failed;
    }
    if (intake == SPOOL_INTAKE_FULL) {
        metric_add(&inbound->shard->metrics->spool_full, 1);
        return reply_of(REPLY_NO_SPACE);
    }
    return enqueue_full(inbound->shard) ? reply_of(REPLY_NO_SPACE) : NULL;
}

const struct reply *policy_priority(const struct inbound *inbound, const struct profile *profile, int priority,
                                    uint64_t bytes)
{
    const struct inbound_priorities *priorities = &profile->priorities;
    if (priority < priorities->min) {
        return reply_of(REPLY_PRIORITY_LOW);
    }
    if (priority < priorities->min_busy && enqueue_busy(inbound->shard)) {
        return reply_of(REPLY_PRIORITY_LOW_NOW);
    }
    return policy_priority_size(profile, priority, bytes);
}

const struct reply *policy_priority_size(const struct profile *profile, int priority, uint64_t bytes)
{
    const struct inbound_priorities *priorities = &profile->priorities;
    uint64_t bytes_max = priority < 0 ? priorities->low_bytes_max : priority > 0 ? priorities->high_bytes_max : 0;
    return bytes_max != 0 && bytes > bytes_max ? reply_of(REPLY_PRIORITY_TOO_BIG) : NULL;
}

const struct reply *policy_sender(const struct login_identity *identity, const struct address *sender)
{
    char room[LIMIT_ADDRESS_BYTES + 1];
    struct buffer text = buffer_of(room, sizeof room);
    CHECK(identity->account != NULL && address_append_folded(&text, sender));
    return credentials_may_send(identity->credentials, identity->account, buffer_bytes(&text)) ? NULL
                                                                                               : &sender_not_owned;
}

const struct reply *policy_recipient(const struct inbound *inbound, const struct policy_client *client,
                                     bool authenticated, const struct address *recipient,
                                     struct recipients_answer *ret_answer)
{
    bool postmaster = recipient->kind == ADDRESS_POSTMASTER;
    *ret_answer = inbound->recipients != NULL
                      ? recipients_lookup(inbound->recipients, recipient)
                      : (struct recipients_answer){.verdict = postmaster ? RECIPIENTS_MAILBOX : RECIPIENTS_FOREIGN};
    switch (ret_answer->verdict) {
    case RECIPIENTS_FOREIGN: return client->may_relay || authenticated ? NULL : reply_of(REPLY_RELAY_DENIED);
    case RECIPIENTS_UNKNOWN: return reply_of(REPLY_UNKNOWN_USER);
    case RECIPIENTS_MAILBOX:
    case RECIPIENTS_FORWARD: break;
    }
    return NULL;
}

const struct reply *policy_storage_reply(enum err err)
{
    CHECK(err != ERR_OK);
    return reply_of(err == ERR_NO_SPACE || err == ERR_NO_MEMORY ? REPLY_NO_SPACE : REPLY_SPOOL_ERROR);
}
