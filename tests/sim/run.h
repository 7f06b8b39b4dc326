/* One simulated run: some lives of a server, with mail coming and going, until every message has reached its fate. */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include <stdbool.h>
#include <stdint.h>

struct run_result {
    uint64_t hash;
    uint64_t events;
    uint64_t virtual_s;
    unsigned lives;
    unsigned cuts;
    unsigned letters;
};

/* To be called once in a process: what fails ends it (world_fail). `root` is an empty directory. */
void run_seed(uint64_t seed, const char *root, bool tracing, struct run_result *ret_result);

#endif
