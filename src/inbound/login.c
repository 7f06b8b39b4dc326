/* The exchange says what has to happen next; this does it, or tells the session to.
 *
 * Where a login can be when its session ends: with a worker, in a delay, or between two responses. The worker still
 * reads the exchange, so a login that is deleted there lives on as an orphan until the job comes back; it has its own
 * reference to the password table, and never calls the session again.
 *
 * A refusal of wrong credentials is held back by accounts_fail's delay before the session hears of it, on the shard's
 * wheel: it holds up this connection only. It counts when it is found out, not when the client has heard it: also the
 * challenge that tells of a bad token is counted and held back, because a client that has read it may leave.
 */
#include "inbound/login.h"

#include <stdlib.h>

#include "core/crypto.h"

struct login {
    struct login_setup setup;
    struct exchange_scene scene;
    struct exchange exchange;
    struct worker_job job;
    struct timer delay;
    struct lockout_attempt attempt;
    enum lockout_verdict lock;
    enum login_event event;
    enum login_event delayed; /* what follows the delay */
    bool orphan;
    bool queue_full;
    char fingerprint[sizeof "sha256:" + (size_t)2 * SASL_DIGEST_BYTES];
};

static bool enter(void *context, struct bytes name)
{
    struct login *login = context;
    login->lock = accounts_enter(login->setup.accounts, name, login->setup.peer.address, &login->attempt);
    return login->lock == LOCKOUT_OPEN;
}

/* Also in a worker. */
static bool recent(void *context, const uint8_t key[EXCHANGE_KEY_BYTES])
{
    struct login *login = context;
    return accounts_recent(login->setup.accounts, key);
}

static void remember(void *context, const uint8_t key[EXCHANGE_KEY_BYTES])
{
    struct login *login = context;
    accounts_remember(login->setup.accounts, key);
}

static void work(struct worker_job *job)
{
    exchange_work(&CONTAINER_OF(job, struct login, job)->exchange);
}

static void free_login(struct login *login)
{
    if (login->attempt.entered) {
        accounts_leave(login->setup.accounts, &login->attempt);
    }
    exchange_end(&login->exchange);
    credentials_give(login->scene.credentials);
    free(login);
}

static void resume(struct login *login)
{
    login->setup.resume(login->setup.context);
}

static void delay_over(struct timer *timer)
{
    struct login *login = CONTAINER_OF(timer, struct login, delay);
    login->event = login->delayed;
    resume(login);
}

/* It was wrong: counts, and says so by `event`, later. */
static enum login_event refuse(struct login *login, enum login_event event)
{
    uint64_t delay_ms = accounts_fail(login->setup.accounts, &login->attempt);
    if (delay_ms == 0) {
        return event;
    }
    login->delayed = event;
    shard_arm(login->setup.shard, &login->delay, delay_ms);
    return LOGIN_WAIT;
}

/* The verdict is there: what does it count, and when is it said? */
static enum login_event conclude(struct login *login, enum exchange_event event)
{
    if (event == EXCHANGE_DONE) {
        accounts_succeed(login->setup.accounts, &login->attempt);
        return LOGIN_DONE;
    }
    bool counts = login->exchange.failure == EXCHANGE_REFUSED && login->attempt.entered;
    return counts ? refuse(login, LOGIN_REFUSED) : LOGIN_REFUSED;
}

static enum login_event proceed(struct login *login, enum exchange_event event)
{
    if (event == EXCHANGE_WORK) {
        if (worker_submit(accounts_workers(login->setup.accounts), login->setup.shard, &login->job) == 0) {
            return login->event = LOGIN_WAIT;
        }
        login->queue_full = true;
        event = exchange_unworked(&login->exchange);
    }
    switch (event) {
    case EXCHANGE_CHALLENGE: return login->event = LOGIN_CHALLENGE;
    case EXCHANGE_TOKEN: return login->event = LOGIN_ASK;
    default: return login->event = conclude(login, event);
    }
}

static void worked(struct worker_job *job)
{
    struct login *login = CONTAINER_OF(job, struct login, job);
    if (login->orphan) {
        /* The client went before its answer: the guess counts all the same. */
        if (!job->cancelled && exchange_worked(&login->exchange) == EXCHANGE_FAILED) {
            accounts_fail(login->setup.accounts, &login->attempt);
        }
        free_login(login);
        return;
    }
    enum exchange_event event = job->cancelled ? exchange_unworked(&login->exchange)
                                               : exchange_worked(&login->exchange);
    if (proceed(login, event) != LOGIN_WAIT) {
        resume(login);
    }
}

static void set_scene(struct login *login)
{
    const struct login_setup *setup = &login->setup;
    login->scene = (struct exchange_scene){
        .crypto = &accounts_crypto,
        .credentials = accounts_credentials(setup->accounts),
        .secret = accounts_secret(setup->accounts),
        .hooks = {.context = login, .enter = enter, .recent = recent, .remember = remember},
        .offered = setup->offered,
        .exporter = setup->exporter,
        .end_point = setup->end_point,
        .certificate_verified = setup->certificate_verified,
        .certificate_names = &login->setup.certificate_name,
        .certificate_names_count = setup->certificate_name.length != 0,
    };
    if (setup->fingerprint.length == SASL_DIGEST_BYTES) {
        struct buffer text = buffer_of(login->fingerprint, sizeof login->fingerprint);
        CHECK(buffer_append_string(&text, "sha256:"));
        for (size_t i = 0; i < setup->fingerprint.length; i++) {
            CHECK(buffer_append_format(&text, "%02x", (uint8_t)setup->fingerprint.data[i]));
        }
        login->scene.fingerprint = buffer_bytes(&text);
    }
}

struct login *login_new(const struct login_setup *setup)
{
    struct login *login = calloc(1, sizeof *login);
    if (login == NULL) {
        return NULL;
    }
    login->setup = *setup;
    login->job.run = work;
    login->job.done = worked;
    wheel_timer_init(&login->delay, delay_over);
    set_scene(login);
    return login;
}

void login_delete(struct login *login)
{
    shard_disarm(login->setup.shard, &login->delay);
    if (login->job.submitted) {
        login->orphan = true;
    } else {
        free_login(login);
    }
}

enum login_event login_begin(struct login *login, enum mechanism mechanism, bool has_response, struct bytes response)
{
    return proceed(login, exchange_begin(&login->exchange, &login->scene, mechanism, has_response, response));
}

enum login_event login_respond(struct login *login, struct bytes response)
{
    CHECK(login->event == LOGIN_CHALLENGE);
    return proceed(login, exchange_step(&login->exchange, response));
}

enum login_event login_resumed(struct login *login)
{
    return login->event;
}

bool login_question(const struct login *login, struct buffer *out)
{
    char text[PEER_TEXT_BYTES];
    CHECK(login->event == LOGIN_ASK);
    struct verifier_request request = {
        .mechanism = login->exchange.mechanism,
        .user = exchange_name(&login->exchange),
        .address = peer_text(&login->setup.peer, text),
        .token = login->exchange.token,
    };
    return verifier_append_request(out, &request);
}

enum login_event login_answer(struct login *login, struct bytes line)
{
    char space[CREDENTIALS_NAME_BYTES_MAX];
    struct bytes name = bytes_of(NULL, 0);
    CHECK(login->event == LOGIN_ASK);
    enum exchange_verdict verdict = verifier_parse_answer(line, space, &name);
    enum exchange_event event = exchange_answer(&login->exchange, verdict, name);
    /* What a bad token is told is a challenge, which nobody needs to wait for the end of. */
    return event == EXCHANGE_CHALLENGE ? login->event = refuse(login, LOGIN_CHALLENGE) : proceed(login, event);
}

struct bytes login_challenge(const struct login *login)
{
    CHECK(login->event == LOGIN_CHALLENGE);
    return exchange_output(&login->exchange);
}

enum login_reply login_reply(const struct login *login)
{
    switch (login->exchange.failure) {
    case EXCHANGE_MALFORMED: return LOGIN_REPLY_MALFORMED;
    case EXCHANGE_REFUSED: return LOGIN_REPLY_BAD;
    default: return LOGIN_REPLY_LATER;
    }
}

struct bytes login_name(const struct login *login)
{
    return exchange_name(&login->exchange);
}

const char *login_cause(const struct login *login)
{
    switch (login->exchange.failure) {
    case EXCHANGE_NO_FAILURE: return "none";
    case EXCHANGE_REFUSED: return "refused";
    case EXCHANGE_MALFORMED: return "malformed";
    case EXCHANGE_LOCKED: return login->lock == LOCKOUT_ADDRESS ? "address-locked" : "account-locked";
    default: return login->queue_full ? "busy" : "unavailable";
    }
}

struct login_identity login_take(const struct login *login)
{
    CHECK(login->event == LOGIN_DONE && login->exchange.account != NULL);
    return (struct login_identity){.credentials = credentials_take(login->scene.credentials),
                                   .account = login->exchange.account};
}

void login_identity_give(struct login_identity *identity)
{
    if (identity->credentials != NULL) {
        credentials_give(identity->credentials);
    }
    *identity = (struct login_identity){0};
}

bool login_identity_renew(struct login_identity *identity, struct accounts *accounts)
{
    const struct credentials *credentials = accounts_credentials(accounts);
    const struct credentials_account *before = identity->account;
    const struct credentials_account *account = credentials_find(credentials, before->name);
    bool same = account != NULL && !account->disabled &&
                memcmp(account->verifier.stored_key, before->verifier.stored_key, SASL_DIGEST_BYTES) == 0;
    if (!same) {
        credentials_give(credentials);
        return false;
    }
    login_identity_give(identity);
    *identity = (struct login_identity){.credentials = credentials, .account = account};
    return true;
}
