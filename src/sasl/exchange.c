/* What all mechanisms have in common: whose turn it is, whom a name means, and how a password is checked.
 *
 * Unknown names. A name without an account goes the whole way of one that has: it gets a verifier that nobody can match
 * (credentials_decoy), the same challenges, the same hashing in the same queue, and fails where a wrong password fails.
 * Only `candidate` is NULL, and it is looked at last. Accounts that are disabled, or have no password, are treated the
 * same way.
 *
 * Recent passwords. PBKDF2 costs tens of milliseconds on purpose, and bulk senders log in once per message. So a login
 * that was right leaves HMAC(process secret; name, verifier, password) in a small table for some minutes. The key holds
 * the verifier: a changed password is unknown at once. It is worth nothing outside of this process. It is asked a
 * second time when the hashing begins, so that a hundred connections which log in at the same moment cost one.
 *
 * After a failure nothing of an exchange can be used again (CVE-2011-1720 was a client that began one mechanism,
 * failed, and went on in another): the state is FINISHED, every secret is wiped, and exchange_begin starts from zeros.
 */
#include "sasl/exchange_private.h"

#include <assert.h>

#include "base/utf8.h"

static_assert(EXCHANGE_FINISHED == 0, "a wiped exchange is finished");

typedef enum exchange_event mechanism_step(struct exchange *exchange, struct bytes response);

static mechanism_step *const steps[MECHANISMS] = {
    [MECHANISM_SCRAM_SHA_256_PLUS] = exchange_scram,
    [MECHANISM_SCRAM_SHA_256] = exchange_scram,
    [MECHANISM_OAUTHBEARER] = exchange_bearer,
    [MECHANISM_XOAUTH2] = exchange_bearer,
    [MECHANISM_PLAIN] = exchange_plain,
    [MECHANISM_LOGIN] = exchange_plain_login,
    [MECHANISM_EXTERNAL] = exchange_external,
};

static void wipe(struct exchange *exchange, void *data, size_t length)
{
    exchange->scene->crypto->wipe(data, length);
}

/* The name stays, for the log; whatever could prove something goes. */
static void forget_secrets(struct exchange *exchange)
{
    wipe(exchange, exchange->password, sizeof exchange->password);
    wipe(exchange, exchange->message, sizeof exchange->message);
    wipe(exchange, exchange->header, sizeof exchange->header);
    wipe(exchange, exchange->output, sizeof exchange->output);
    wipe(exchange, exchange->recent_key, sizeof exchange->recent_key);
    wipe(exchange, &exchange->verifier, sizeof exchange->verifier);
    exchange->token = bytes_of(NULL, 0);
    exchange->candidate = NULL;
    exchange->state = EXCHANGE_FINISHED;
}

enum exchange_event exchange_fail(struct exchange *exchange, enum exchange_failure failure)
{
    forget_secrets(exchange);
    exchange->failure = failure;
    return EXCHANGE_FAILED;
}

enum exchange_event exchange_done(struct exchange *exchange, const struct credentials_account *account)
{
    CHECK(account != NULL && !account->disabled);
    forget_secrets(exchange);
    exchange->account = account;
    return EXCHANGE_DONE;
}

enum exchange_event exchange_ask(struct exchange *exchange, enum exchange_state state, struct bytes text)
{
    struct buffer out = buffer_of(exchange->output, sizeof exchange->output);
    CHECK(buffer_append(&out, text));
    exchange->output_length = (uint16_t)out.length;
    exchange->state = state;
    return EXCHANGE_CHALLENGE;
}

enum exchange_event exchange_begin(struct exchange *exchange, const struct exchange_scene *scene,
                                   enum mechanism mechanism, bool has_response, struct bytes response)
{
    CHECK(mechanism < MECHANISMS && (scene->offered & MECHANISM_BIT(mechanism)) != 0);
    memset(exchange, 0, sizeof *exchange);
    exchange->scene = scene;
    exchange->mechanism = mechanism;
    exchange->state = EXCHANGE_START;
    if (has_response) {
        return exchange_step(exchange, response);
    }
    return exchange_ask(exchange, EXCHANGE_START, mechanism == MECHANISM_LOGIN ? BYTES("Username:") : BYTES(""));
}

enum exchange_event exchange_step(struct exchange *exchange, struct bytes response)
{
    CHECK(exchange->state != EXCHANGE_FINISHED && exchange->state < EXCHANGE_WORKING);
    if (response.length > EXCHANGE_INPUT_BYTES_MAX) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    return steps[exchange->mechanism](exchange, response);
}

void exchange_end(struct exchange *exchange)
{
    if (exchange->scene != NULL) {
        wipe(exchange, exchange, sizeof *exchange);
    }
}

/* --- names --------------------------------------------------------------------------------------------------- */

struct bytes exchange_split(struct bytes *text, char end, bool *ret_found)
{
    const char *found = text->length != 0 ? memchr(text->data, end, text->length) : NULL;
    struct bytes part = *text;
    part.length = found != NULL ? (size_t)(found - text->data) : text->length;
    bytes_advance(text, part.length + (found != NULL));
    *ret_found = found != NULL;
    return part;
}

static bool is_name(struct bytes name)
{
    return name.length >= 1 && name.length <= CREDENTIALS_NAME_BYTES_MAX && utf8_printable(name);
}

static bool enter(struct exchange *exchange)
{
    const struct exchange_hooks *hooks = &exchange->scene->hooks;
    exchange->entered = hooks->enter == NULL || hooks->enter(hooks->context, exchange_name(exchange));
    return exchange->entered;
}

enum exchange_failure exchange_enter_nameless(struct exchange *exchange)
{
    return enter(exchange) ? EXCHANGE_NO_FAILURE : EXCHANGE_LOCKED;
}

enum exchange_failure exchange_identify(struct exchange *exchange, struct bytes name)
{
    const struct exchange_scene *scene = exchange->scene;
    if (!is_name(name)) {
        return EXCHANGE_MALFORMED;
    }
    for (size_t i = 0; i < name.length; i++) {
        exchange->name[i] = bytes_ascii_lower(name.data[i]);
    }
    exchange->name_length = (uint16_t)name.length;
    if (!enter(exchange)) {
        return EXCHANGE_LOCKED;
    }
    const struct credentials_account *account = credentials_find(scene->credentials, name);
    credentials_decoy(scene->credentials, scene->crypto, scene->secret, name, &exchange->verifier);
    if (account != NULL && account->verifier.iterations != 0) {
        exchange->verifier = account->verifier;
        exchange->candidate = account->disabled ? NULL : account;
    }
    return EXCHANGE_NO_FAILURE;
}

bool exchange_authorized(struct bytes authorization, struct bytes name)
{
    return authorization.length == 0 || bytes_equal_nocase(authorization, name);
}

bool exchange_decode_name(struct bytes text, char *ret_name, uint16_t *ret_length)
{
    size_t length = 0;
    while (text.length != 0) {
        char c = text.data[0];
        size_t taken = 1;
        if (c == '=') {
            if (text.length < 3 || text.data[1] != (text.data[2] == 'C' ? '2' : '3') ||
                (text.data[2] != 'C' && text.data[2] != 'D')) {
                return false;
            }
            c = text.data[2] == 'C' ? ',' : '=';
            taken = 3;
        }
        if (length == CREDENTIALS_NAME_BYTES_MAX || c == '\0') {
            return false;
        }
        ret_name[length++] = c;
        bytes_advance(&text, taken);
    }
    *ret_length = (uint16_t)length;
    return length != 0 && utf8_printable(bytes_of(ret_name, length));
}

static bool is_binding_name(struct bytes name)
{
    for (size_t i = 0; i < name.length; i++) {
        char c = bytes_ascii_lower(name.data[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-')) {
            return false;
        }
    }
    return name.length != 0;
}

bool exchange_take_gs2(struct exchange *exchange, struct bytes *text, struct exchange_gs2 *ret_gs2)
{
    struct bytes rest = *text;
    bool commas[2] = {false, false};
    struct bytes flag = exchange_split(&rest, ',', &commas[0]);
    struct bytes authorization = exchange_split(&rest, ',', &commas[1]);
    if (!commas[0] || !commas[1] || flag.length == 0) {
        return false;
    }
    *ret_gs2 = (struct exchange_gs2){.binding = flag.data[0],
                                     .whole = bytes_slice(*text, 0, text->length - rest.length)};
    if (flag.data[0] == 'p') {
        if (flag.length < 3 || flag.data[1] != '=') {
            return false;
        }
        ret_gs2->binding_name = bytes_slice(flag, 2, flag.length - 2);
    }
    bool good = flag.data[0] == 'p' ? is_binding_name(ret_gs2->binding_name)
                                    : flag.length == 1 && (flag.data[0] == 'n' || flag.data[0] == 'y');
    if (authorization.length != 0) {
        good = good && authorization.length > 2 && authorization.data[0] == 'a' && authorization.data[1] == '=';
        if (good) {
            bytes_advance(&authorization, 2);
            good = exchange_decode_name(authorization, exchange->authorization, &exchange->authorization_length);
        }
    }
    *text = good ? rest : *text;
    return good;
}

/* --- passwords ----------------------------------------------------------------------------------------------- */

static void make_recent_key(struct exchange *exchange)
{
    const struct exchange_scene *scene = exchange->scene;
    char room[CREDENTIALS_NAME_BYTES_MAX + 1 + sizeof exchange->verifier.salt + SASL_DIGEST_BYTES +
              CREDENTIALS_PASSWORD_BYTES_MAX];
    struct buffer text = buffer_of(room, sizeof room);
    CHECK(buffer_append(&text, exchange_name(exchange)) && buffer_append(&text, bytes_of("", 1)) &&
          buffer_append(&text, bytes_of(exchange->verifier.salt, sizeof exchange->verifier.salt)) &&
          buffer_append(&text, bytes_of(exchange->verifier.stored_key, SASL_DIGEST_BYTES)) &&
          buffer_append(&text, bytes_of(exchange->password, exchange->password_length)));
    scene->crypto->hmac_sha256(bytes_of(scene->secret, SASL_DIGEST_BYTES), buffer_bytes(&text), exchange->recent_key);
    wipe(exchange, room, sizeof room);
}

static bool is_recent(const struct exchange *exchange)
{
    const struct exchange_hooks *hooks = &exchange->scene->hooks;
    return exchange->candidate != NULL && hooks->recent != NULL && hooks->recent(hooks->context, exchange->recent_key);
}

enum exchange_event exchange_check_password(struct exchange *exchange, struct bytes password)
{
    if (password.length == 0 || password.length > CREDENTIALS_PASSWORD_BYTES_MAX || !utf8_printable(password)) {
        return exchange_fail(exchange, EXCHANGE_MALFORMED);
    }
    memcpy(exchange->password, password.data, password.length);
    exchange->password_length = (uint16_t)password.length;
    make_recent_key(exchange);
    if (is_recent(exchange)) {
        return exchange_done(exchange, exchange->candidate);
    }
    exchange->state = EXCHANGE_WORKING;
    return EXCHANGE_WORK;
}

void exchange_work(struct exchange *exchange)
{
    const struct exchange_hooks *hooks = &exchange->scene->hooks;
    CHECK(exchange->state == EXCHANGE_WORKING);
    exchange->worked_right = is_recent(exchange) ||
                             credentials_verify(exchange->scene->crypto, &exchange->verifier,
                                                bytes_of(exchange->password, exchange->password_length));
    if (exchange->worked_right && exchange->candidate != NULL && hooks->remember != NULL) {
        hooks->remember(hooks->context, exchange->recent_key);
    }
}

enum exchange_event exchange_worked(struct exchange *exchange)
{
    CHECK(exchange->state == EXCHANGE_WORKING);
    if (exchange->worked_right && exchange->candidate != NULL) {
        return exchange_done(exchange, exchange->candidate);
    }
    return exchange_fail(exchange, EXCHANGE_REFUSED);
}

enum exchange_event exchange_unworked(struct exchange *exchange)
{
    CHECK(exchange->state == EXCHANGE_WORKING);
    return exchange_fail(exchange, EXCHANGE_TEMPORARY);
}

/* --- tokens -------------------------------------------------------------------------------------------------- */

enum exchange_event exchange_answer(struct exchange *exchange, enum exchange_verdict verdict, struct bytes name)
{
    CHECK(exchange->state == EXCHANGE_ASKING);
    exchange->token = bytes_of(NULL, 0);
    if (verdict == EXCHANGE_UNAVAILABLE) {
        return exchange_fail(exchange, EXCHANGE_TEMPORARY);
    }
    const struct credentials_account *account = verdict == EXCHANGE_VALID
                                                    ? credentials_find(exchange->scene->credentials, name)
                                                    : NULL;
    bool claimed = exchange->name_length == 0 || bytes_equal_nocase(exchange_name(exchange), name);
    if (account != NULL && !account->disabled && claimed) {
        return exchange_done(exchange, account);
    }
    return exchange_bearer_refuse(exchange);
}
