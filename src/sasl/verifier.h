/* Asking a local program whether an OAuth token is good: the words, not the socket.
 *
 * One unix stream socket connection per question: one line out, one line back, close.
 *
 *   verify mechanism=OAUTHBEARER user=alice@example.com address=192.0.2.1 token=eyJhbGciOi...<LF>
 *   ok user=alice@example.com<LF>      the token is good and belongs to that account
 *   invalid <text><LF>                 it is not (535)
 *   unavailable <text><LF>             cannot tell now (454)
 *
 * Values are percent-encoded: every byte but letters, digits and "-._~+/=@:" is %XX, so that no value can hold a space
 * or a line end. `user` is empty when the client named none. Anything else that comes back is `unavailable`.
 */
#ifndef SASL_VERIFIER_H
#define SASL_VERIFIER_H

#include "sasl/exchange.h"

#define VERIFIER_REQUEST_BYTES_MAX (EXCHANGE_TOKEN_BYTES_MAX + 3 * CREDENTIALS_NAME_BYTES_MAX + 256)
#define VERIFIER_ANSWER_BYTES_MAX 1024 /* with the line end; a longer one is `unavailable` */
#define VERIFIER_TIMEOUT_MS_DEFAULT 10000

struct verifier_request {
    enum mechanism mechanism;
    struct bytes user;
    struct bytes address; /* the client's, as text */
    struct bytes token;
};

/* All of the line, LF included. False: no room; VERIFIER_REQUEST_BYTES_MAX always suffices. */
bool verifier_append_request(struct buffer *out, const struct verifier_request *request);

/* `line` without its line end. With EXCHANGE_VALID the account's name lies in `name_space` (of
 * CREDENTIALS_NAME_BYTES_MAX). */
enum exchange_verdict verifier_parse_answer(struct bytes line, char *name_space, struct bytes *ret_name);

#endif
