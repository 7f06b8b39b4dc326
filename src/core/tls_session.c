#include "core/tls_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>

#include "base/check.h"
#include "core/tls_context.h"
#include "core/tls_hello.h"
#include "core/tls_peer.h"

/* What a record adds to its content at most: header, explicit IV, MAC, padding. */
#define RECORD_OVERHEAD_BYTES 128
#define RECORD_BYTES_MAX 16384
/* Small pieces are copied together up to this size, so that a command or an envelope is one record. */
#define GATHER_BYTES 8192
/* Room that must be left in the output for the library to answer by itself (key updates, alerts), or it gets no input.
 */
#define ANSWER_BYTES 1024
/* No handshake needs more; it bounds what a peer can make us take in before it has shown anything. */
#define HANDSHAKE_BYTES_MAX (128u * 1024)
/* Empty records, key updates and the like between two octets of content. A full record fits several times. */
#define FRUITLESS_BYTES_MAX (64u * 1024)

/* Texts of the facts that nobody has set point here; the others are the session's own. */
static const char nothing[] = "";

static atomic_uint sessions;
static atomic_uint sessions_max;

void tls_session_limit(unsigned limit)
{
    atomic_store_explicit(&sessions_max, limit, memory_order_relaxed);
}

bool tls_session_room(void)
{
    unsigned limit = atomic_load_explicit(&sessions_max, memory_order_relaxed);
    return limit == 0 || atomic_load_explicit(&sessions, memory_order_relaxed) < limit;
}

static bool enter(void)
{
    unsigned limit = atomic_load_explicit(&sessions_max, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&sessions, 1, memory_order_relaxed) >= limit && limit != 0) {
        atomic_fetch_sub_explicit(&sessions, 1, memory_order_relaxed);
        return false;
    }
    return true;
}

static void leave(void)
{
    atomic_fetch_sub_explicit(&sessions, 1, memory_order_relaxed);
}

/* --- blocks ------------------------------------------------------------------------------------------------------- */

static bool need_block(struct tls_block **block)
{
    if (*block == NULL) {
        *block = malloc(sizeof **block);
        if (*block == NULL) {
            return false;
        }
        (*block)->begin = 0;
        (*block)->end = 0;
        (*block)->record_count = 0;
    }
    return true;
}

static void drop_block(struct tls_block **block)
{
    free(*block);
    *block = NULL;
}

static void drop_empty_block(struct tls_block **block)
{
    if (*block != NULL && (*block)->begin == (*block)->end) {
        drop_block(block);
    }
}

static size_t block_length(const struct tls_block *block)
{
    return block == NULL ? 0 : block->end - block->begin;
}

static size_t block_room(const struct tls_block *block)
{
    return block == NULL ? sizeof block->data : sizeof block->data - block->end;
}

/* --- failures ------------------------------------------------------------------------------------------------------
 */

static void fail(struct tls_session *session, int error, const char *reason)
{
    session->phase = TLS_PHASE_FAILED;
    session->error = error;
    if (session->reason == NULL) {
        session->reason = strdup(reason);
    }
    drop_block(&session->input);
}

static void fail_by_library(struct tls_session *session, int error)
{
    char text[TLS_REASON_BYTES];
    WOLFSSL_ALERT_HISTORY alerts;
    const char *library_text = wolfSSL_ERR_reason_error_string((unsigned long)(long)error);
    if (session->refused) {
        snprintf(text, sizeof text, "certificate of the peer: %s", session->facts.peer_problem);
    } else if (wolfSSL_get_alert_history(session->engine, &alerts) == WOLFSSL_SUCCESS &&
               alerts.last_rx.level == alert_fatal) {
        snprintf(text, sizeof text, "the peer gave up: alert %d", alerts.last_rx.code);
    } else {
        snprintf(text, sizeof text, "%s", library_text);
    }
    fail(session, session->refused ? -EACCES : -EPROTO, text);
}

/* A fatal alert, for what is refused before there is a library session. RFC 8446 6. */
static void say_alert(struct tls_session *session, uint8_t description)
{
    const uint8_t alert[] = {21, 3, 1, 0, 2, 2, description};
    if (need_block(&session->output) && block_room(session->output) >= sizeof alert) {
        memcpy(session->output->data + session->output->end, alert, sizeof alert);
        session->output->end += (uint32_t)sizeof alert;
    }
}

/* --- the library's callbacks ---------------------------------------------------------------------------------------
 */

static size_t pull_some(struct tls_session *session, void *data, size_t length)
{
    if (session->phase != TLS_PHASE_HANDSHAKE || block_length(session->input) == 0) {
        return session->pull(session, data, length);
    }
    struct tls_block *hello = session->input; /* collected before there was a library session */
    size_t n = block_length(hello) < length ? block_length(hello) : length;
    memcpy(data, hello->data + hello->begin, n);
    hello->begin += (uint32_t)n;
    drop_empty_block(&session->input);
    return n;
}

static int library_reads(WOLFSSL *library, char *data, int length, void *context)
{
    struct tls_session *session = context;
    (void)library;
    if (session->phase != TLS_PHASE_HANDSHAKE && tls_session_choked(session)) {
        return WOLFSSL_CBIO_ERR_WANT_READ;
    }
    if (session->fruitless > (session->phase == TLS_PHASE_HANDSHAKE ? HANDSHAKE_BYTES_MAX : FRUITLESS_BYTES_MAX)) {
        if (session->reason == NULL) {
            session->reason = strdup("too much without content");
        }
        return WOLFSSL_CBIO_ERR_GENERAL;
    }
    size_t n = pull_some(session, data, (size_t)length);
    session->fruitless += (uint32_t)n;
    return n != 0 ? (int)n : WOLFSSL_CBIO_ERR_WANT_READ;
}

/* Never answers "would block": whoever calls the library has seen to it that there is room. */
static int library_writes(WOLFSSL *library, char *data, int length, void *context)
{
    struct tls_session *session = context;
    (void)library;
    if (!need_block(&session->output) || block_room(session->output) < (size_t)length) {
        return WOLFSSL_CBIO_ERR_GENERAL;
    }
    memcpy(session->output->data + session->output->end, data, (size_t)length);
    session->output->end += (uint32_t)length;
    return length;
}

void tls_session_prepare(struct WOLFSSL_CTX *library)
{
    wolfSSL_CTX_SetIORecv(library, library_reads);
    wolfSSL_CTX_SetIOSend(library, library_writes);
}

static void read_peer(struct tls_session *session, const WOLFSSL_BUFFER_INFO *certificate)
{
    struct tls_facts *facts = &session->facts;
    struct tls_peer peer = {.subject = NULL};
    if (facts->peer_certificate || tls_peer_read(certificate->buffer, certificate->length, &peer) != 0) {
        tls_peer_free(&peer);
        return;
    }
    facts->peer_certificate = true;
    facts->peer_subject = peer.subject;
    facts->peer_name = peer.name;
    memcpy(facts->peer_fingerprint, peer.fingerprint, sizeof facts->peer_fingerprint);
    if (!session->context->server) {
        memcpy(facts->server_end_point, peer.end_point, sizeof facts->server_end_point);
        facts->server_end_point_bytes = peer.end_point_bytes;
    }
}

static bool believes(const struct tls_session *session)
{
    return session->context->server ? session->context->client_certificate != TLS_CLIENT_CERTIFICATE_IGNORE
                                    : session->verify == TLS_VERIFY_NAME;
}

/* Called for the peer's own certificate always (depth 0), also when it has none, which is then as good as the library
 * thinks that it may be without; for those above it when they are bad. An unknown authority
 * above is no error as long as the peer's own certificate leads to a known one, so it comes back at depth 0. Only there
 * may a bad one be let pass: what is let pass above, the library would add to the authorities of the whole context. */
int tls_session_judge(int good, struct WOLFSSL_X509_STORE_CTX *store)
{
    struct tls_session *session = store->userCtx;
    bool own = store->error_depth == 0;
    if (own && store->totalCerts > 0) {
        read_peer(session, &store->certs[0]);
    }
    if (!believes(session)) {
        return 1;
    }
    if (!good && session->facts.peer_problem == nothing) {
        session->facts.peer_problem = wolfSSL_ERR_reason_error_string((unsigned long)(long)store->error);
    }
    const struct tls_facts *facts = &session->facts;
    session->facts.verified = own && good && facts->peer_certificate && facts->peer_problem == nothing;
    bool pass = good || (own && session->context->client_certificate == TLS_CLIENT_CERTIFICATE_ASK);
    session->refused |= !pass;
    return pass;
}

/* --- beginning and end ----------------------------------------------------------------------------------------------
 */

static bool make_library_session(struct tls_session *session, WOLFSSL_CTX *library_context)
{
    session->engine = wolfSSL_new(library_context);
    if (session->engine == NULL) {
        return false;
    }
    wolfSSL_SetIOReadCtx(session->engine, session);
    wolfSSL_SetIOWriteCtx(session->engine, session);
    wolfSSL_SetCertCbCtx(session->engine, session);
    if (session->context->exporter) {
        wolfSSL_KeepArrays(session->engine);
    }
    return true;
}

static int start(struct tls_session *session, struct tls_context *context,
                 size_t (*pull)(struct tls_session *session, void *data, size_t length))
{
    if (!enter()) {
        return -EBUSY;
    }
    session->context = tls_context_take(context);
    session->pull = pull;
    session->hello_need = 5; /* a record header */
    struct tls_facts *facts = &session->facts;
    facts->version = facts->cipher = facts->server_name = nothing;
    facts->peer_subject = facts->peer_name = facts->peer_problem = nothing;
    return 0;
}

int tls_session_init_server(struct tls_session *session, struct tls_context *context,
                            size_t (*pull)(struct tls_session *session, void *data, size_t length))
{
    CHECK(context->server);
    session->phase = TLS_PHASE_HELLO;
    return start(session, context, pull);
}

static bool is_address(const char *name)
{
    struct in6_addr address;
    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

static bool set_name(struct tls_session *session, const char *name)
{
    size_t length = strlen(name);
    bool sni = length != 0 && length < TLS_NAME_BYTES && !is_address(name);
    if (sni &&
        wolfSSL_UseSNI(session->engine, WOLFSSL_SNI_HOST_NAME, name, (unsigned short)length) != WOLFSSL_SUCCESS) {
        return false;
    }
    return session->verify == TLS_VERIFY_NONE || wolfSSL_check_domain_name(session->engine, name) == WOLFSSL_SUCCESS;
}

int tls_session_init_client(struct tls_session *session, struct tls_context *context, const char *name,
                            enum tls_verify verify,
                            size_t (*pull)(struct tls_session *session, void *data, size_t length))
{
    CHECK(!context->server && (verify == TLS_VERIFY_NONE || context->trusting != NULL));
    int error = start(session, context, pull);
    if (error != 0) {
        return error;
    }
    session->phase = TLS_PHASE_HANDSHAKE;
    session->verify = verify;
    if (!make_library_session(session, verify == TLS_VERIFY_NONE ? context->gullible : context->trusting) ||
        !set_name(session, name)) {
        tls_session_free(session);
        return -ENOMEM;
    }
    return 0;
}

static void free_text(const char *text)
{
    if (text == nothing) {
        return;
    }
    union {
        const char *constant;
        char *variable;
    } pointer = {.constant = text};
    free(pointer.variable);
}

void tls_session_free(struct tls_session *session)
{
    wolfSSL_free(session->engine);
    drop_block(&session->input);
    drop_block(&session->output);
    free(session->reason);
    free_text(session->facts.server_name);
    free_text(session->facts.peer_subject);
    free_text(session->facts.peer_name);
    tls_context_give(session->context);
    *session = (struct tls_session){.engine = NULL};
    leave();
}

/* --- ClientHello ----------------------------------------------------------------------------------------------------
 */

static void refuse_hello(struct tls_session *session, const struct tls_hello *hello)
{
    char text[TLS_REASON_BYTES];
    snprintf(text, sizeof text, "%s", hello->problem);
    if (hello->alert != 0) {
        say_alert(session, hello->alert);
    }
    fail(session, -EPROTO, text);
}

static void accept_hello(struct tls_session *session, const struct tls_hello *hello)
{
    static const char strange[] = "?";
    const char *name = hello->strange_name ? strange : hello->server_name;
    session->extended_master = hello->extended_master;
    char *copy = name[0] != '\0' ? strdup(name) : NULL;
    session->facts.server_name = copy != NULL ? copy : nothing;
    session->leaf = tls_context_choose(session->context, hello);
    session->phase = TLS_PHASE_HANDSHAKE;
    char alpn[] = "smtp";
    if (!make_library_session(session, session->leaf->library) ||
        (hello->alpn &&
         wolfSSL_UseALPN(session->engine, alpn, sizeof alpn - 1, WOLFSSL_ALPN_FAILED_ON_MISMATCH) != WOLFSSL_SUCCESS)) {
        fail(session, -ENOMEM, "out of memory");
    }
}

static void collect_hello(struct tls_session *session)
{
    struct tls_hello hello;
    for (;;) {
        if (!need_block(&session->input)) {
            fail(session, -ENOMEM, "out of memory");
            return;
        }
        struct tls_block *block = session->input;
        size_t n = session->pull(session, block->data + block->end, session->hello_need - block->end);
        block->end += (uint32_t)n;
        if (n == 0) {
            drop_empty_block(&session->input);
            return;
        }
        switch (tls_hello_scan(block->data, block->end, &hello)) {
        case TLS_HELLO_MORE: session->hello_need = (uint32_t)hello.need; break;
        case TLS_HELLO_DONE: accept_hello(session, &hello); return;
        case TLS_HELLO_BAD: refuse_hello(session, &hello); return;
        }
    }
}

/* --- handshake
 * -------------------------------------------------------------------------------------------------------- */

/* RFC 9266 3. TLS 1.2 has it only with the extended master secret, which of a server's session we know. */
static void bind_channel(struct tls_session *session)
{
#ifdef HAVE_KEYING_MATERIAL
    static const char label[] = "EXPORTER-Channel-Binding";
    struct tls_facts *facts = &session->facts;
    if ((session->extended_master || wolfSSL_version(session->engine) == TLS1_3_VERSION) &&
        wolfSSL_export_keying_material(session->engine, facts->exporter, TLS_EXPORTER_BYTES, label, sizeof label - 1,
                                       (const unsigned char *)"", 0, 1) == WOLFSSL_SUCCESS) {
        facts->exporter_bytes = TLS_EXPORTER_BYTES;
    }
#endif
    wolfSSL_FreeArrays(session->engine);
}

static void opened(struct tls_session *session)
{
    struct tls_facts *facts = &session->facts;
    int suite = wolfSSL_get_current_cipher_suite(session->engine);
    const char *cipher = wolfSSL_get_cipher_name_iana_from_suite((unsigned char)(suite >> 8),
                                                                 (unsigned char)(suite & 0xff));
    facts->version = wolfSSL_get_version(session->engine);
    facts->cipher = cipher != NULL ? cipher : "unknown";
    facts->bits = strstr(facts->cipher, "128") != NULL ? 128 : 256;
    facts->resumed = wolfSSL_session_reused(session->engine) == 1;
    if (session->leaf != NULL) {
        memcpy(facts->server_end_point, session->leaf->end_point, sizeof facts->server_end_point);
        facts->server_end_point_bytes = session->leaf->end_point_bytes;
    }
    if (session->context->exporter) {
        bind_channel(session);
    }
    session->phase = TLS_PHASE_OPEN;
    session->fruitless = 0;
}

static void shake_hands(struct tls_session *session)
{
    int result = session->context->server ? wolfSSL_accept(session->engine) : wolfSSL_connect(session->engine);
    if (result == WOLFSSL_SUCCESS) {
        opened(session);
        return;
    }
    int error = wolfSSL_get_error(session->engine, result);
    if (error != WOLFSSL_ERROR_WANT_READ) {
        fail_by_library(session, error);
    }
}

/* --- content
 * ---------------------------------------------------------------------------------------------------------- */

static void decrypt(struct tls_session *session)
{
    if (!need_block(&session->input)) {
        fail(session, -ENOMEM, "out of memory");
        return;
    }
    struct tls_block *block = session->input;
    while (block_room(block) != 0) {
        int n = wolfSSL_read(session->engine, block->data + block->end, (int)block_room(block));
        if (n > 0) {
            block->end += (uint32_t)n;
            session->fruitless = 0;
            continue;
        }
        int error = wolfSSL_get_error(session->engine, n);
        if (error == WOLFSSL_ERROR_ZERO_RETURN) {
            session->phase = TLS_PHASE_ENDED;
        } else if (error != WOLFSSL_ERROR_WANT_READ) {
            fail_by_library(session, error);
            return;
        }
        break;
    }
    drop_empty_block(&session->input);
}

void tls_session_advance(struct tls_session *session)
{
    if (session->phase == TLS_PHASE_HELLO) {
        collect_hello(session);
    }
    if (session->phase == TLS_PHASE_HANDSHAKE) {
        shake_hands(session);
    }
    if (session->phase == TLS_PHASE_OPEN && block_length(session->input) == 0) {
        decrypt(session);
    }
}

struct bytes tls_session_input(const struct tls_session *session)
{
    const struct tls_block *block = session->input;
    if (block == NULL || session->phase < TLS_PHASE_OPEN) {
        return bytes_of("", 0);
    }
    return bytes_of(block->data + block->begin, block->end - block->begin);
}

void tls_session_consume(struct tls_session *session, size_t n)
{
    CHECK(session->phase >= TLS_PHASE_OPEN && n <= block_length(session->input));
    session->input->begin += (uint32_t)n;
    drop_empty_block(&session->input);
}

static size_t copy_pieces(const struct iovec *pieces, size_t count, uint8_t *room, size_t size)
{
    size_t length = 0;
    for (size_t i = 0; i < count && length < size; i++) {
        size_t n = pieces[i].iov_len < size - length ? pieces[i].iov_len : size - length;
        memcpy(room + length, pieces[i].iov_base, n);
        length += n;
    }
    return length;
}

static void take_off(struct iovec **pieces, size_t *count, size_t n)
{
    while (*count != 0 && n >= (*pieces)->iov_len) {
        n -= (*pieces)->iov_len;
        ++*pieces;
        --*count;
    }
    if (*count != 0) {
        (*pieces)->iov_base = (char *)(*pieces)->iov_base + n;
        (*pieces)->iov_len -= n;
    }
}

/* A record with n octets has been added to the block. With more of them than there are notes, the last ones share one:
 * then none of them counts as sent before all are. */
static void note_record(struct tls_block *block, size_t n)
{
    if (block->record_count == TLS_BLOCK_RECORDS) {
        n += block->records[--block->record_count].plain_bytes;
    }
    block->records[block->record_count].end = (uint16_t)block->end;
    block->records[block->record_count++].plain_bytes = (uint16_t)n;
}

int tls_session_write(struct tls_session *session, struct iovec **pieces, size_t *count)
{
    uint8_t gathered[GATHER_BYTES];
    if (session->phase != TLS_PHASE_OPEN && session->phase != TLS_PHASE_ENDED) {
        return -EPIPE;
    }
    while (*count != 0 && block_room(session->output) > RECORD_OVERHEAD_BYTES + ANSWER_BYTES) {
        size_t room = block_room(session->output) - RECORD_OVERHEAD_BYTES - ANSWER_BYTES;
        room = room < RECORD_BYTES_MAX ? room : RECORD_BYTES_MAX;
        const void *data = (*pieces)->iov_base;
        size_t n = (*pieces)->iov_len < room ? (*pieces)->iov_len : room;
        if (n<GATHER_BYTES && * count> 1) {
            data = gathered;
            n = copy_pieces(*pieces, *count, gathered, room < GATHER_BYTES ? room : GATHER_BYTES);
        }
        if (n != 0 && wolfSSL_write(session->engine, data, (int)n) != (int)n) {
            fail(session, -EPIPE, "the library does not encrypt any more");
            return -EPIPE;
        }
        if (n != 0) {
            note_record(session->output, n);
        }
        take_off(pieces, count, n);
    }
    return 0;
}

struct bytes tls_session_output(const struct tls_session *session)
{
    const struct tls_block *block = session->output;
    return block == NULL ? bytes_of("", 0) : bytes_of(block->data + block->begin, block->end - block->begin);
}

void tls_session_sent(struct tls_session *session, size_t n)
{
    CHECK(n <= block_length(session->output));
    session->output->begin += (uint32_t)n;
    drop_empty_block(&session->output);
}

size_t tls_session_unsent(const struct tls_session *session)
{
    const struct tls_block *block = session->output;
    size_t bytes = 0;
    for (uint32_t i = 0; block != NULL && i < block->record_count; i++) {
        bytes += block->records[i].end > block->begin ? block->records[i].plain_bytes : 0;
    }
    return bytes;
}

bool tls_session_choked(const struct tls_session *session)
{
    return block_room(session->output) < ANSWER_BYTES;
}

void tls_session_give_up(struct tls_session *session, const char *reason)
{
    CHECK(session->phase == TLS_PHASE_OPEN);
    fail(session, -EPROTO, reason);
}

void tls_session_goodbye(struct tls_session *session)
{
    if ((session->phase == TLS_PHASE_OPEN || session->phase == TLS_PHASE_ENDED) && !session->said_goodbye &&
        block_room(session->output) >= RECORD_OVERHEAD_BYTES) {
        session->said_goodbye = true;
        wolfSSL_shutdown(session->engine);
    }
}
