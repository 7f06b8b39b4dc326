/* Who is ours: own domains, their mailboxes and their aliases, as one immutable table that all shards read.
 *
 * It is asked at RCPT, so that mail to nobody is refused by the client's own server and never becomes a bounce of ours
 * (RFC 5321 7.8: backscatter). Aliases are expanded here too, once, when the table is loaded: what they lead to,
 * through however many aliases, is one list per alias without duplicates, every target checked. So a loop, a target
 * that does not exist or a list that explodes is an error with file and line at `ringpost check`, not a surprise at a
 * delivery, and a lookup is one or two hash probes.
 *
 * Local parts are compared without case (ASCII) and without quotes ("john.doe" is john.doe); addresses keep the form in
 * which they were written, in the file or by the client.
 *
 * The files, one entry a line, '#' begins a comment, a line that begins with a blank continues the one before it:
 *
 *   mailboxes   anna                       a local part, without a subaddress
 *   aliases     info: anna, ben@other.net  targets: local parts of this domain, or whole addresses
 *               anna: anna, anna@home.net  a target that is the alias itself means its mailbox: a copy is kept
 *               *: anna                    whoever has neither mailbox nor alias
 *
 * No pipes, no files, no includes: nothing in an alias is ever run or opened.
 */
#ifndef INBOUND_RECIPIENTS_H
#define INBOUND_RECIPIENTS_H

#include <stdbool.h>

#include "base/bytes.h"
#include "core/config.h"
#include "mail/address.h"

#define RECIPIENTS_DOMAINS_MAX 100000
#define RECIPIENTS_USERS_MAX (16u << 20)         /* mailboxes and aliases of one domain */
#define RECIPIENTS_FILE_BYTES_MAX (512ull << 20) /* of a mailboxes or aliases file */
#define RECIPIENTS_TARGETS_MAX 1000              /* that one alias may come to, in the end */
#define RECIPIENTS_EXPANDED_MAX (4u << 20)       /* and all aliases together */
#define RECIPIENTS_DEPTH_MAX 16                  /* aliases that lead to aliases */

struct recipients_domain {
    struct bytes name;     /* in lower case */
    const char *mailboxes; /* the file; "": every local part is a mailbox (whoever delivers the domain decides) */
    const char *aliases;   /* the file; "": none */
    char subaddress;       /* '+': anna+lists is anna, unless it is an alias; '\0': off */
};

struct recipients;

/* Reads the files of all domains. Reports every error as a line "file:line: what is wrong, expected what" and then
 * returns NULL. With no domains everybody is foreign. `postmaster_domain` is where <Postmaster> without a domain
 * belongs; when it is not ours, that is the first domain's. A domain with mailboxes must have a postmaster, as mailbox
 * or alias (RFC 5321 4.5.1). Nothing passed in is kept. Blocks: not for a shard's loop. */
struct recipients *recipients_load(const struct recipients_domain *domains, unsigned count,
                                   struct bytes postmaster_domain, config_report *report, void *context);
void recipients_delete(struct recipients *recipients);

enum recipients_verdict {
    RECIPIENTS_FOREIGN, /* the domain is not ours: relayed or refused, as the listener says (550 5.7.1) */
    RECIPIENTS_UNKNOWN, /* the domain is ours, and nobody there has this name: 550 5.1.1 */
    RECIPIENTS_MAILBOX, /* accepted as it is */
    RECIPIENTS_FORWARD, /* accepted, and replaced by `targets` */
};

/* What becomes of a recipient. On FORWARD the envelope gets one RECIPIENT item for each target (a mailbox without angle
 * brackets, final: not to be looked up again) with the NOTIFY flags of the one that was given, and with its ORCPT;
 * where none was given, "rfc822;" and the given address as xtext, so that a notification names the address that the
 * sender wrote (RFC 3461 5.2.7.3). Targets may be own or foreign: nobody needs a right to relay to them. `targets` is
 * valid until the caller returns to its shard's loop: a reload may then replace the table. */
struct recipients_answer {
    enum recipients_verdict verdict;
    unsigned targets_count; /* at least 1 on FORWARD */
    const struct bytes *targets;
};

/* Not for ADDRESS_NULL. <Postmaster> is FORWARD to the postmaster of its domain when there are domains, else MAILBOX;
 * an address literal is FOREIGN. */
struct recipients_answer recipients_lookup(const struct recipients *recipients, const struct address *address);

/* The domain is ours. Any case. */
bool recipients_own_domain(const struct recipients *recipients, struct bytes domain);

/* How many domains, mailboxes and aliases: for the log. */
struct recipients_count {
    unsigned domains;
    unsigned mailboxes;
    unsigned aliases;
};
struct recipients_count recipients_counts(const struct recipients *recipients);

#endif
