/* One AUTH command of a session, from its mechanism to its reply: sasl/exchange with lockout, worker, delay and the
 * table of accounts around it, so that the session sees only this:
 *
 *   struct login *login = login_new(&setup);                       NULL: 454
 *   event = login_begin(login, mechanism, has_response, response)
 *   LOGIN_CHALLENGE  334 with login_challenge; the client's answer goes into login_respond
 *   LOGIN_WAIT       nothing to say now; setup.resume(context) is called in the loop, then event = login_resumed(login)
 *   LOGIN_ASK        write login_question to the verifier's socket, read a line; event = login_answer(login, line)
 *   LOGIN_DONE       235 2.7.0; login_account says who; keep it by login_take
 *   LOGIN_REFUSED    by login_reply; how long that had to wait has passed already
 *   login_delete(login) in any state: also in the middle, when the client has gone or said "*". Never freed by itself.
 *
 * Memory: sizeof(struct login), about 6 KiB, only while an AUTH is under way.
 */
#ifndef INBOUND_LOGIN_H
#define INBOUND_LOGIN_H

#include "inbound/accounts.h"
#include "inbound/peer.h"
#include "sasl/exchange.h"
#include "sasl/verifier.h"

enum login_event {
    LOGIN_CHALLENGE,
    LOGIN_WAIT,
    LOGIN_ASK,
    LOGIN_DONE,
    LOGIN_REFUSED,
};

enum login_reply {
    LOGIN_REPLY_BAD,       /* 535 5.7.8 Authentication credentials invalid */
    LOGIN_REPLY_MALFORMED, /* 501 5.5.2 Cannot decode response */
    LOGIN_REPLY_LATER,     /* 454 4.7.0 Temporary authentication failure */
};

/* What the login needs to know of the session. Spans live as long as the login. */
struct login_setup {
    struct shard *shard;
    struct accounts *accounts;
    struct peer peer;
    unsigned offered; /* MECHANISM_BITs that the EHLO reply announced now */
    struct bytes exporter;
    struct bytes end_point;
    struct bytes fingerprint; /* SHA-256 of the client's certificate, 32 octets; empty: none */
    bool certificate_verified;
    struct bytes certificate_name; /* or empty; counts only when verified */
    void (*resume)(void *context);
    void *context;
};

struct login;

struct login *login_new(const struct login_setup *setup);
void login_delete(struct login *login);

enum login_event login_begin(struct login *login, enum mechanism mechanism, bool has_response, struct bytes response);
enum login_event login_respond(struct login *login, struct bytes response);
enum login_event login_resumed(struct login *login);

/* Appends the line for the verifier, LF included; VERIFIER_REQUEST_BYTES_MAX is always enough. Only directly after
 * LOGIN_ASK, as long as the response that led to it is still where it was. */
bool login_question(const struct login *login, struct buffer *out);
/* The verifier's line without its end; an empty one when it did not answer in time, or could not be reached. */
enum login_event login_answer(struct login *login, struct bytes line);

struct bytes login_challenge(const struct login *login);
enum login_reply login_reply(const struct login *login);
/* For the log and the event: the name that was tried, the mechanism, and a word for why it failed ("locked"). The name
 * is the client's text: to be quoted. */
struct bytes login_name(const struct login *login);
const char *login_cause(const struct login *login);

/* Who somebody is for the rest of the session. */
struct login_identity {
    const struct credentials *credentials; /* NULL: nobody */
    const struct credentials_account *account;
};
/* After LOGIN_DONE; outlives the login; login_identity_give when the session ends. */
struct login_identity login_take(const struct login *login);
void login_identity_give(struct login_identity *identity);
/* Takes over what the accounts in force now say of him. False: he is not among them any more, is disabled, or has
 * another password, so that whoever logged in before need not be he; the identity is then as it was. */
bool login_identity_renew(struct login_identity *identity, struct accounts *accounts);

#endif
