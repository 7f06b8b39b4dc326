/* A read-only walk over a spool's directory, live or dead, that verifies every checksum: for `ringpost spool check`,
 * `dump` and `export`. It takes no lock and changes nothing; of a spool in use it sees the state of some moment. */
#ifndef SPOOL_INSPECT_H
#define SPOOL_INSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "ringpost/spool_format.h"

/* A message with a recipient left. Everything is valid during the call only. */
struct inspect_message {
    uint64_t id;
    uint64_t arrival_ms;
    uint32_t flags;
    uint16_t recipients;
    const uint8_t *statuses; /* one enum spool_format_status per recipient */
    struct bytes envelope;
    struct bytes
        text;      /* prologue and body as sent by DATA: dot-stuffed, with the final dot; empty when a part is lost */
    bool complete; /* all of it is there and verifies */
    const char *file;
    uint64_t offset;
};

struct inspect_settings {
    const char *directory; /* <root>/<number> */
    void *context;
    /* Each may be NULL. */
    void (*segment)(void *context, const char *file, const struct spool_format_segment *header, bool sealed);
    void (*record)(void *context, const char *file, uint64_t offset, const struct spool_format_record *record,
                   struct bytes payload);
    void (*damage)(void *context, const char *file, uint64_t offset, uint64_t end, const char *what);
    void (*message)(void *context, const struct inspect_message *message);
};

struct inspect_totals {
    uint32_t segments;
    uint64_t records;
    uint64_t messages;   /* with a recipient left */
    uint64_t recipients; /* left */
    uint64_t damages;
};

/* ERR_OK also when damage was found: see the totals. ERR_IO, ERR_NO_MEMORY: the directory cannot be read, with a
 * reason. */
enum err inspect_run(const struct inspect_settings *settings, struct inspect_totals *ret_totals, char *reason,
                     size_t reason_size);

#endif
