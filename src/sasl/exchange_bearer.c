/* OAuth access tokens: OAUTHBEARER (RFC 7628) and what came before it, XOAUTH2. Whether a token is good only the
 * configured verifier knows; here is the grammar, strictly, because what is taken out of it goes to another program.
 *
 *   OAUTHBEARER  n,a=user,^Ahost=h^Aport=587^Aauth=Bearer TOKEN^A^A
 *   XOAUTH2      user=USER^Aauth=Bearer TOKEN^A^A
 *
 * A bad token is answered by a challenge with the reason in JSON; the client's answer to that means nothing (RFC 7628
 * 3.2.3), and then it has failed.
 */
#include "sasl/exchange_private.h"

#define SEPARATOR '\x01'

/* RFC 6750 2.1 b64token. */
static bool is_token(struct bytes token)
{
    size_t length = token.length;
    while (length > 1 && token.data[length - 1] == '=') {
        length--;
    }
    for (size_t i = 0; i < length; i++) {
        char c = bytes_ascii_lower(token.data[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("-._~+/", c) != NULL))) {
            return false;
        }
    }
    return length >= 1 && token.length <= EXCHANGE_TOKEN_BYTES_MAX;
}

/* "Bearer", spaces, token. */
static bool take_token(struct exchange *exchange, struct bytes value)
{
    const struct bytes scheme = BYTES("Bearer ");
    if (value.length <= scheme.length || !bytes_equal_nocase(bytes_slice(value, 0, scheme.length), scheme)) {
        return false;
    }
    bytes_advance(&value, scheme.length);
    while (value.length != 0 && value.data[0] == ' ') {
        bytes_advance(&value, 1);
    }
    exchange->token = value;
    return is_token(value);
}

static bool is_printable(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return true;
}

static bool is_key(struct bytes key)
{
    for (size_t i = 0; i < key.length; i++) {
        char c = bytes_ascii_lower(key.data[i]);
        if (c < 'a' || c > 'z') {
            return false;
        }
    }
    return key.length != 0;
}

/* key=value^A ... ^A: at least "auth", once; others are skipped (RFC 7628 3.1). The last ^A ends the text. */
static bool take_pairs(struct exchange *exchange, struct bytes text)
{
    bool found = false;
    bool have_token = false;
    while (text.length > 1) {
        struct bytes value = exchange_split(&text, SEPARATOR, &found);
        if (!found || !is_printable(value)) {
            return false;
        }
        struct bytes key = exchange_split(&value, '=', &found);
        if (!found || !is_key(key)) {
            return false;
        }
        if (bytes_equal(key, BYTES("auth"))) {
            if (have_token || !take_token(exchange, value)) {
                return false;
            }
            have_token = true;
        }
    }
    return have_token && text.length == 1 && text.data[0] == SEPARATOR;
}

/* What comes before the pairs: whose token it is said to be. OAUTHBEARER need not say. */
static bool take_user(struct exchange *exchange, struct bytes *text, struct bytes *ret_user)
{
    bool found = false;
    struct exchange_gs2 gs2;
    if (exchange->mechanism == MECHANISM_OAUTHBEARER) {
        bool good = exchange_take_gs2(exchange, text, &gs2) && gs2.binding != 'p' && text->length != 0 &&
                    text->data[0] == SEPARATOR;
        *ret_user = bytes_of(exchange->authorization, exchange->authorization_length);
        if (good) {
            bytes_advance(text, 1);
        }
        return good;
    }
    struct bytes value = exchange_split(text, SEPARATOR, &found);
    if (!found || value.length <= 5 || !bytes_equal(bytes_slice(value, 0, 5), BYTES("user="))) {
        return false;
    }
    *ret_user = bytes_slice(value, 5, value.length - 5);
    return true;
}

enum exchange_event exchange_bearer(struct exchange *exchange, struct bytes response)
{
    struct bytes user;
    struct bytes rest = response;
    if (exchange->state == EXCHANGE_GOODBYE) {
        return exchange_fail(exchange, EXCHANGE_REFUSED);
    }
    if (!take_user(exchange, &rest, &user) || !take_pairs(exchange, rest)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    struct bytes token = exchange->token;
    enum exchange_failure failure = user.length != 0 ? exchange_identify(exchange, user)
                                                     : exchange_enter_nameless(exchange);
    if (failure != EXCHANGE_NO_FAILURE) {
        return exchange_fail(exchange, failure);
    }
    exchange->token = token;
    exchange->state = EXCHANGE_ASKING;
    return EXCHANGE_TOKEN;
}

enum exchange_event exchange_bearer_refuse(struct exchange *exchange)
{
    return exchange_ask(exchange, EXCHANGE_GOODBYE,
                        exchange->mechanism == MECHANISM_OAUTHBEARER
                            ? BYTES("{\"status\":\"invalid_token\"}")
                            : BYTES("{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}"));
}
