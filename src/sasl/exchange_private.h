/* What exchange.c and the files of the mechanisms share. A mechanism's step takes the client's response and returns
 * what is to be done; `has_response` is false at the beginning when there was no initial response. */
#ifndef SASL_EXCHANGE_PRIVATE_H
#define SASL_EXCHANGE_PRIVATE_H

#include "sasl/exchange.h"

enum exchange_state {
    EXCHANGE_FINISHED, /* nothing may be asked of it any more but exchange_end */
    EXCHANGE_START,    /* the first response is awaited */
    EXCHANGE_PASSWORD, /* LOGIN: the second one */
    EXCHANGE_FINAL,    /* SCRAM: the proof */
    EXCHANGE_GOODBYE,  /* SCRAM, tokens: the empty answer to what we said last */
    EXCHANGE_WORKING,
    EXCHANGE_ASKING,
};

enum exchange_event exchange_plain(struct exchange *exchange, struct bytes response);
enum exchange_event exchange_plain_login(struct exchange *exchange, struct bytes response);
enum exchange_event exchange_scram(struct exchange *exchange, struct bytes response);
enum exchange_event exchange_bearer(struct exchange *exchange, struct bytes response);
/* The token is not good: says so, and then it has failed. */
enum exchange_event exchange_bearer_refuse(struct exchange *exchange);
enum exchange_event exchange_external(struct exchange *exchange, struct bytes response);

enum exchange_event exchange_fail(struct exchange *exchange, enum exchange_failure failure);
enum exchange_event exchange_done(struct exchange *exchange, const struct credentials_account *account);

/* Sends `text` and waits in `state`. */
enum exchange_event exchange_ask(struct exchange *exchange, enum exchange_state state, struct bytes text);

/* Takes the name (1 to CREDENTIALS_NAME_BYTES_MAX octets of text) and asks hooks.enter about it; then candidate and
 * verifier are set. Anything but EXCHANGE_NO_FAILURE: fail with it. */
enum exchange_failure exchange_identify(struct exchange *exchange, struct bytes name);

/* The same when the client has not said who it is: hooks.enter is asked about the empty name. */
enum exchange_failure exchange_enter_nameless(struct exchange *exchange);

/* May whoever has proved to be `name` act as the authorization identity? Only as himself. Empty: as himself. */
bool exchange_authorized(struct bytes authorization, struct bytes name);

/* PLAIN and LOGIN: the password is there. */
enum exchange_event exchange_check_password(struct exchange *exchange, struct bytes password);

/* RFC 5801 4: the head of a SCRAM or OAUTHBEARER message, taken off `text`. `binding` is 'n', 'y' or 'p', with a name
 * when 'p'. The authorization identity, decoded, goes into exchange->authorization. False: malformed. */
struct exchange_gs2 {
    char binding;
    struct bytes binding_name;
    struct bytes whole; /* as it stands in `text`, the last comma included */
};
bool exchange_take_gs2(struct exchange *exchange, struct bytes *text, struct exchange_gs2 *ret_gs2);

/* RFC 5802 5.1 saslname: "=2C" is ',', "=3D" is '='. */
bool exchange_decode_name(struct bytes text, char *ret_name, uint16_t *ret_length);

/* Up to the next `end`, which is taken too; all of it when there is none (then *ret_found is false). */
struct bytes exchange_split(struct bytes *text, char end, bool *ret_found);

#endif
