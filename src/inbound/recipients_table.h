/* Inside the table of own recipients: filled by recipients.c, aliases expanded by recipients_expand.c. */
#ifndef INBOUND_RECIPIENTS_TABLE_H
#define INBOUND_RECIPIENTS_TABLE_H

#include <stdint.h>

#include "base/map.h"
#include "inbound/recipients.h"

struct recipients_user;
struct recipients_own;

enum recipients_progress { RECIPIENTS_RAW, RECIPIENTS_EXPANDING, RECIPIENTS_EXPANDED };

struct recipients_target {
    struct bytes address; /* local@domain */
    unsigned line;
};

struct recipients_alias {
    struct recipients_alias *next; /* of its domain */
    struct recipients_user *user;
    struct recipients_own *own;
    struct recipients_target *raw; /* as written, until the table is complete */
    unsigned raw_count;
    unsigned line;
    enum recipients_progress progress;
    unsigned count;
    struct bytes *targets; /* in the end */
};

/* A name in a domain: a mailbox, an alias or both. */
struct recipients_user {
    struct bytes key; /* folded */
    struct recipients_alias *alias;
    unsigned mailbox_line; /* 0: none */
};

struct recipients_own {
    struct bytes name;
    const char *mailboxes;
    const char *aliases;
    char subaddress;
    bool any; /* whoever it is has a mailbox */
    struct map users;
    struct recipients_alias *first_alias;
    struct recipients_alias *rest; /* of "*" */
    struct bytes postmaster_address;
};

struct recipients_block {
    struct recipients_block *next;
    size_t used;
    size_t size;
    _Alignas(16) char data[];
};

struct recipients {
    struct map domains;
    struct recipients_own *owns;
    struct recipients_own *home; /* whose postmaster is <Postmaster> */
    struct recipients_count counts;
    uint64_t expanded;
    struct recipients_block *blocks; /* everything above lives in these */
};

/* Zeroed memory that lives as long as the table. Ends the program when there is none. */
void *recipients_table_allocate(struct recipients *recipients, size_t size);

struct recipients_own *recipients_table_domain(const struct recipients *recipients, struct bytes domain);

/* Who answers to this local part: by its name, by its name without subaddress, or NULL. */
struct recipients_user *recipients_table_user(const struct recipients_own *own, struct bytes local);

/* Reports into a file, and counts. */
struct recipients_errors {
    config_report *report;
    void *context;
    unsigned count;
};
void recipients_table_error(struct recipients_errors *errors, const char *path, unsigned line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Fills in the targets of all aliases of a domain. */
void recipients_expand(struct recipients *recipients, struct recipients_own *own, struct recipients_errors *errors);

#endif
