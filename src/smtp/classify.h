/* Finds the octets that matter in DATA, 64 at a time, as bit masks. */
#ifndef SMTP_CLASSIFY_H
#define SMTP_CLASSIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLASSIFY_BLOCK_BYTES 64

/* Bit i stands for octet i of the block. */
struct classify_masks {
    uint64_t cr;
    uint64_t lf;
    uint64_t dot;
    uint64_t nul;
    uint64_t high; /* 128 and above */
};

/* What is carried through plain text: text without NUL, in which every CR and LF stands in a CRLF, and which does not
 * end. Nothing about it is of interest but how long its lines are and how many begin with a (stuffed) dot, which is not
 * part of them. A dot whose next octet is a CR, or behind the block, may be the end. */
struct classify_skim {
    int64_t line;     /* where the line began that goes on, behind a stuffed dot, seen from data */
    uint64_t longest; /* octets of the longest line that ended or goes on, if longer than a block */
    uint64_t stuffed; /* lines that began with a dot */
    bool after_cr;
    bool at_line_start;
    bool high; /* there were octets of 128 and above */
};

struct classify {
    /* Reads blocks * 64 octets (no alignment needed), writes one element per block. */
    void (*masks)(const char *data, size_t blocks, struct classify_masks *ret_masks);
    /* Reads blocks as long as they are plain text and returns how many were. *skim says what came before data, and then
     * what comes before the block where it stopped. */
    size_t (*skim)(const char *data, size_t blocks, struct classify_skim *skim);
};

/* The fastest that this processor has. */
const struct classify *classify_best(void);

/* All that this processor has, the one without vector instructions first, NULL at the end: for the test that compares
 * them. */
const struct classify *const *classify_all(void);

#endif
