#include "queue/retry.h"

#include "base/check.h"

uint64_t retry_wait_ms(const struct queue_settings *settings, struct rng *rng, unsigned attempts)
{
    CHECK(attempts >= 1 && settings->retry_count >= 1 && settings->jitter_percent <= 100);
    unsigned step = attempts <= settings->retry_count ? attempts - 1 : settings->retry_count - 1;
    uint64_t wait_ms = settings->retry_ms[step];
    uint64_t spread_ms = wait_ms * settings->jitter_percent / 100;
    wait_ms = wait_ms - spread_ms + rng_below(rng, 2 * spread_ms + 1);
    return wait_ms >= 1000 ? wait_ms : 1000;
}

uint64_t retry_longest_s(const struct queue_settings *settings)
{
    uint64_t longest_ms = 0;
    for (unsigned i = 0; i < settings->retry_count; i++) {
        longest_ms = settings->retry_ms[i] > longest_ms ? settings->retry_ms[i] : longest_ms;
    }
    return longest_ms * (100 + settings->jitter_percent) / 100 / 1000 + 1;
}

bool retry_expired(const struct queue_settings *settings, uint32_t now_s, uint32_t arrival_s)
{
    return now_s >= arrival_s && (uint64_t)(now_s - arrival_s) * 1000 >= settings->expire_ms;
}

uint32_t retry_next_s(const struct queue_settings *settings, struct rng *rng, unsigned attempts, uint32_t now_s,
                      uint32_t arrival_s)
{
    if (retry_expired(settings, now_s, arrival_s)) {
        return 0;
    }
    uint64_t next_s = now_s + (retry_wait_ms(settings, rng, attempts) + 999) / 1000;
    uint64_t expires_s = arrival_s + (settings->expire_ms + 999) / 1000;
    /* No wait goes past the expiry: the sender learns of it then. */
    return (uint32_t)(next_s < expires_s ? next_s : expires_s);
}
