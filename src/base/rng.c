#include "base/rng.h"

#include "base/check.h"

/* splitmix64: spreads any seed, zero included, over the whole state (which must not be all zero). */
static uint64_t seed_next(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void rng_seed(struct rng *rng, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        rng->state[i] = seed_next(&seed);
    }
}

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

uint64_t rng_next(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Lemire's method: the high half of a 128-bit product is uniform once the few low halves that would favour some results
 * (2^64 mod bound of them) are refused. */
uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    CHECK(bound > 0);
    unsigned __int128 product = (unsigned __int128)rng_next(rng) * bound;
    if ((uint64_t)product < bound) {
        uint64_t refused = (0 - bound) % bound;
        while ((uint64_t)product < refused) {
            product = (unsigned __int128)rng_next(rng) * bound;
        }
    }
    return (uint64_t)(product >> 64);
}
