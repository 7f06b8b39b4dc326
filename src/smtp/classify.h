/* Finds the octets that matter in DATA, 64 at a time, as bit masks. */
#ifndef SMTP_CLASSIFY_H
#define SMTP_CLASSIFY_H

#include <stddef.h>
#include <stdint.h>

#define CLASSIFY_BLOCK_BYTES 64

/* Bit i stands for octet i of the block. */
struct classify_masks {
    uint64_t cr;
    uint64_t lf;
    uint64_t nul;
    uint64_t high; /* 128 and above */
};

/* Reads blocks * 64 octets (no alignment needed), writes one element per block. */
typedef void classify_function(const char *data, size_t blocks, struct classify_masks *ret_masks);

/* Without vector instructions, on any processor. */
classify_function classify_portable;

/* The fastest that this processor has. */
classify_function *classify_best(void);

/* All that this processor has, NULL at the end: for the test that compares them. */
classify_function *const *classify_all(void);

#endif
