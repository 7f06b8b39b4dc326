/* EXTERNAL (RFC 4422 appendix A): TLS has already proved who the client is; the password file says whose certificate
 * it is. A fingerprint stands for itself; a name counts only when a CA that we trust for clients says so. */
#include "sasl/exchange_private.h"

#include "base/utf8.h"

static const struct credentials_account *account_of(const struct exchange_scene *scene)
{
    const struct credentials_account *account = NULL;
    if (scene->fingerprint.length != 0) {
        account = credentials_find_certificate(scene->credentials, scene->fingerprint);
    }
    for (unsigned i = 0; i < scene->certificate_names_count && account == NULL && scene->certificate_verified; i++) {
        account = credentials_find_certificate(scene->credentials, scene->certificate_names[i]);
    }
    return account;
}

enum exchange_event exchange_external(struct exchange *exchange, struct bytes response)
{
    if (response.length > CREDENTIALS_NAME_BYTES_MAX || !utf8_printable(response)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    const struct credentials_account *account = account_of(exchange->scene);
    struct bytes name = account != NULL ? account->name : response;
    enum exchange_failure failure = name.length != 0 ? exchange_identify(exchange, name)
                                                     : exchange_enter_nameless(exchange);
    if (failure != EXCHANGE_NO_FAILURE) {
        return exchange_fail(exchange, failure);
    }
    if (account == NULL || account->disabled || !exchange_authorized(response, account->name)) {
        return exchange_fail(exchange, EXCHANGE_REFUSED);
    }
    return exchange_done(exchange, account);
}
