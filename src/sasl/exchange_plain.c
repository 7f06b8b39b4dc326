/* PLAIN (RFC 4616) and LOGIN, which has no specification but draft-murchison-sasl-login: the password as it is. */
#include "sasl/exchange_private.h"

#include "base/utf8.h"

/* [authzid] NUL authcid NUL passwd: two NULs, no more. */
enum exchange_event exchange_plain(struct exchange *exchange, struct bytes response)
{
    bool nuls[2] = {false, false};
    struct bytes password = response;
    struct bytes authorization = exchange_split(&password, '\0', &nuls[0]);
    struct bytes name = exchange_split(&password, '\0', &nuls[1]);
    if (!nuls[0] || !nuls[1] || authorization.length > CREDENTIALS_NAME_BYTES_MAX || !utf8_printable(authorization) ||
        password.length == 0 || password.length > CREDENTIALS_PASSWORD_BYTES_MAX || !utf8_printable(password)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED); /* a NUL in the password is no text */
    }
    enum exchange_failure failure = exchange_identify(exchange, name);
    if (failure != EXCHANGE_NO_FAILURE) {
        return exchange_fail(exchange, failure);
    }
    if (!exchange_authorized(authorization, name)) {
        return exchange_fail(exchange, EXCHANGE_REFUSED);
    }
    return exchange_check_password(exchange, password);
}

/* Both prompts are fixed texts which some clients compare with; an initial response is the name. */
enum exchange_event exchange_plain_login(struct exchange *exchange, struct bytes response)
{
    if (exchange->state == EXCHANGE_PASSWORD) {
        return exchange_check_password(exchange, response);
    }
    enum exchange_failure failure = exchange_identify(exchange, response);
    return failure == EXCHANGE_NO_FAILURE ? exchange_ask(exchange, EXCHANGE_PASSWORD, BYTES("Password:"))
                                          : exchange_fail(exchange, failure);
}
