/* The daemon's own log: one logfmt line per event on stderr (journald's), nothing per message at the default level.
 *
 * log_line(LOG_INFO, "spool opened", "shard=%u segments=%u", ...) prints
 *   time=2026-01-31T12:00:00.000Z level=info msg="spool opened" shard=0 segments=3
 * Under journald, which stamps the time itself, the line begins with the priority ("<6>", stripped by it) instead.
 * Values from outside (names, replies) are passed through log_quote first, so that a line is always one line.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stddef.h>

#include "base/bytes.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_level(void);
/* Parses "error", "warning", "info" or "debug". */
bool log_level_parse(struct bytes name, enum log_level *ret_level);

/* Thread-safe; one write(2) per line. `format` may be NULL. */
void log_line(enum log_level level, const char *message, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A quoted, escaped, bounded copy for a logfmt value: "..." with \" \\ \n and \xHH. Returns `out`. */
const char *log_quote(struct bytes value, char *out, size_t size);

#endif
