/* The configuration file: reading it against tables, so that a key exists in exactly one line of the source.
 *
 * A table row says a key's name, type, range and default, and where its value goes in a plain struct. Reading a file,
 * filling in defaults, refusing unknown keys, printing the effective configuration and finding what a reload changed
 * all walk the same rows; nothing about a key can be forgotten in one of them. The file's syntax is libconfig's.
 *
 * Every error is one line, `file:line: what is wrong, expected what`; all errors of a file are reported, not the first.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/bytes.h"

/* An IP address and a port; `length` 0 means none ("off"). */
struct config_endpoint {
    struct sockaddr_storage address;
    socklen_t length;
};

/* A network; IPv4 in its IPv6-mapped form, so `prefix_bits` counts from the first of 128 bits. */
struct config_network {
    uint8_t address[16];
    unsigned prefix_bits;
};

/* So many units in a period; `count` 0 means no limit ("off"). */
struct config_rate {
    uint64_t count;
    uint64_t period_ms;
};

/* What a key's value is, and the C type of its field. Lists take a second field, `unsigned`, for their length; a list
 * of values may be written ( ... ), [ ... ] or, with one value, without either. */
enum config_type {
    CONFIG_BOOL,      /* bool */
    CONFIG_COUNT,     /* unsigned */
    CONFIG_INTEGER,   /* int; `minimum` and `maximum` are (uint64_t)(int64_t) of theirs */
    CONFIG_REAL,      /* double */
    CONFIG_SIZE,      /* uint64_t, bytes: 4096, "64K", "50M", "1G" */
    CONFIG_DURATION,  /* uint64_t, milliseconds: "500ms", "30s", "5m", "4h", "4d"; an integer is seconds */
    CONFIG_RATE,      /* struct config_rate: "100/1m", "50M/1h" or "off" */
    CONFIG_TEXT,      /* const char *: minimum..maximum printable characters */
    CONFIG_CHOICE,    /* unsigned: index into `choices` */
    CONFIG_CHOICES,   /* unsigned: a list, bit i for choices[i] */
    CONFIG_ENDPOINT,  /* struct config_endpoint: "127.0.0.1:9925", "[::1]:9925" or "off" */
    CONFIG_ADDRESSES, /* struct config_endpoint *: a list; where no port is written it is `minimum` */
    CONFIG_NETWORKS,  /* struct config_network *: a list of "10.0.0.0/8", "2001:db8::/32", or single addresses */
    CONFIG_DURATIONS, /* uint64_t *: a list, milliseconds */
    CONFIG_GROUP,     /* struct: { ... }, its keys in `keys` */
    CONFIG_LIST,      /* struct *: ( { ... }, ... ), one item's keys in `keys`, its size in `item_size` */
};

/* Bits of `flags`. */
#define CONFIG_RESTART 1u  /* a running server cannot take a new value over; of a list: items may not come and go */
#define CONFIG_AUTO 2u     /* CONFIG_COUNT: "auto" is a value too, stored as 0 */
#define CONFIG_NAME 4u     /* CONFIG_TEXT: tells the items of a list apart when two configurations are compared */
#define CONFIG_UNLESS_0 8u /* CONFIG_COUNT: 0, which the file cannot say, is "not there", and is not printed */

struct config_key {
    const char *name;
    enum config_type type;
    unsigned flags;
    size_t offset;       /* of the field in the group's struct, */
    size_t size;         /* and the field's size, to catch a row that names the wrong type */
    size_t count_offset; /* lists: of the length */
    size_t item_size;    /* CONFIG_LIST */
    unsigned items_max;  /* lists */
    uint64_t minimum;    /* in the field's unit; lists of values: of each value */
    uint64_t maximum;
    const char *standard;            /* the default, written as in the file; NULL: required (groups, lists: not used) */
    const char *const *choices;      /* NULL-terminated */
    const struct config_key *keys;   /* ends with a row without name */
    bool (*valid)(const char *text); /* CONFIG_TEXT: further demands, or NULL */
    const char *expected;            /* and how an error names them */
};

typedef void config_report(void *context, const char *line);

struct config; /* a file that was read: it owns every string and list in the structs filled from it */

/* Parses the file; reports and returns NULL when its syntax is wrong or it cannot be read. */
struct config *config_open(const char *path, config_report *report, void *context);
void config_close(struct config *config);

/* Fills `target`, whose keys are `keys`, from the whole file and the defaults; reports everything that is wrong. */
void config_fill(struct config *config, const struct config_key *keys, void *target);
/* The defaults alone; required keys stay zero. */
void config_defaults(struct config *config, const struct config_key *keys, void *target);

/* One more error, of the caller's own, and the number of all. The line is that of the key at `path`
 * ("listeners[0].port", "" for the file itself) or, when the file has none, of the innermost group around it. */
void config_error(struct config *config, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
unsigned config_errors(const struct config *config);
/* Does the file itself have the key at `path`? */
bool config_present(const struct config *config, const char *path);

/* Zeroed memory, or a copy of a string, that lives as long as the config. Ends the program when there is none. */
void *config_allocate(struct config *config, size_t size);
char *config_copy(struct config *config, struct bytes text);

#endif
