/* What must hold of mail, whatever happens: the world's clients and remote hosts tell what they did and saw, and
 * truth.c what is durable. Knows nothing of the server's code. */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/truth.h"

#define ORACLE_ADDRESS_BYTES 96
#define ORACLE_RECIPIENTS_MAX 40

enum letter_state {
    LETTER_BEGUN,    /* its final dot never left the client */
    LETTER_SENT,     /* it did, and no answer came back */
    LETTER_ACCEPTED, /* 250 */
    LETTER_REJECTED,
};

/* What a remote host does with a recipient, always. */
enum oracle_kind { ORACLE_TAKES, ORACLE_REFUSES, ORACLE_DEFERS_ONCE, ORACLE_KINDS };

struct recipient {
    char address[ORACLE_ADDRESS_BYTES];
    enum oracle_kind kind;
    bool accepted; /* RCPT got 250 */
    bool refused;  /* RCPT was refused */
    bool never_notify;
    bool may_fail; /* somebody said 5yz, or the domain does not exist */
    bool finished; /* a final outcome is durable */
    unsigned tries;
    unsigned delivered;
    unsigned excused; /* of these, the outcome may have been lost */
    unsigned bounced;
    bool bounce_excused;
};

struct letter {
    unsigned token;
    enum letter_state state;
    bool relaxed;
    bool bounce_expired;               /* a notification about it waited too long for a host that takes it */
    char sender[ORACLE_ADDRESS_BYTES]; /* "": null */
    unsigned recipient_count;
    struct recipient recipients[ORACLE_RECIPIENTS_MAX];
    char *body; /* with CRLF line ends, not dot-stuffed */
    size_t length;
    size_t capacity;
    bool has_envelope_id; /* "e" and the token */
    uint64_t accepted_ms; /* wall clock; 0: not known */
    bool refused_by_disk;
    uint64_t refused_at; /* after so many durable records */
    struct truth *truth;
};

struct letter *oracle_letter_new(void);
struct letter *oracle_letter(unsigned token);
unsigned oracle_letters(void);
/* "r3.m17.k0@..." gives the recipient; NULL: no such one. */
struct recipient *oracle_recipient(const char *address, struct letter **ret_letter);

/* The client was told. */
void oracle_answered(struct letter *letter, unsigned code);

/* A remote host says 250 to a message now. */
void oracle_taken(const char *sender, char (*recipients)[ORACLE_ADDRESS_BYTES], unsigned count, const char *content,
                  size_t length);
/* ... and the server never got to know. */
void oracle_reply_lost(char (*recipients)[ORACLE_ADDRESS_BYTES], unsigned count);
/* A remote host says 5yz about this recipient. */
void oracle_refused(const char *address);

/* From truth.c. */
void oracle_durable(struct truth *truth);
void oracle_recovered(const struct truth *truth);
void oracle_finished(const struct truth *truth, unsigned recipient, unsigned status);

/* A life has ended, not by a stop. */
void oracle_cut(void);
void oracle_set_expire(uint64_t expire_s);

/* Has every accepted message reached its fate? */
bool oracle_settled(void);
/* The end of a run: says what has not. */
void oracle_check_end(void);

#endif
