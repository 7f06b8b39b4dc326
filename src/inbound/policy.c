#include "inbound/policy.h"

#include "queue/enqueue.h"

static const struct reply storage_failed = {
    .code = 421, .enhanced = {4, 3, 0}, .text = {"Mail storage has failed, try again later", 40}};

static bool network_holds(const struct config_network *network, const uint8_t address[16])
{
    unsigned whole = network->prefix_bits / 8;
    unsigned rest = network->prefix_bits % 8;
    if (memcmp(network->address, address, whole) != 0) {
        return false;
    }
    return rest == 0 || ((network->address[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

struct policy_client policy_connect(const struct profile *profile, const struct peer *peer)
{
    struct policy_client client = {.may_relay = false};
    for (unsigned i = 0; i < profile->relay_networks_count && !client.may_relay; i++) {
        client.may_relay = network_holds(&profile->relay_networks[i], peer->address);
    }
    return client;
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

const struct reply *policy_recipient(const struct policy_client *client, const struct address *recipient)
{
    if (client->may_relay || recipient->kind == ADDRESS_POSTMASTER) {
        return NULL;
    }
    return reply_of(REPLY_RELAY_DENIED);
}

const struct reply *policy_storage_reply(enum err err)
{
    CHECK(err != ERR_OK);
    return reply_of(err == ERR_NO_SPACE || err == ERR_NO_MEMORY ? REPLY_NO_SPACE : REPLY_SPOOL_ERROR);
}
