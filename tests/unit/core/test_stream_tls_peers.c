/* TLS streams against openssl: as a server to s_client, as a client to s_server. */
#include "core/stream_tls.h"

#include <stdio.h>
#include <sys/wait.h>

#include "unit/core/tls_parties.h"

#define BUFFERS 32
#define BUFFER_BYTES 4096

static struct tls_context *usual;
static struct tls_context *believing;
static struct tls_context *gullible;

static bool is_clean(struct shard *shard, void *context)
{
    (void)context;
    return ring_buffers_free(shard->ring) == BUFFERS && list_empty(&shard->later) && shard->metrics->tls_sessions == 0;
}

static int set_up(void **state)
{
    *state = shards_start(1, BUFFERS, BUFFER_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    assert_true(comes_true(*state, is_clean, NULL));
    shards_stop(*state);
    return 0;
}

/* --- s_client -------------------------------------------------------------------------------------------------------
 */

/* What the input of an s_client waits with, until a line of its output is like $1, $2 lines are, or it has ended. A
 * wait of fixed length would be too short on a busy machine. */
#define SAID                                                           \
    "said() { for i in $(seq 200); do grep -q ^ended $log && return; " \
    "test $(grep -c \"$1\" $log) -ge ${2:-1} && return; sleep 0.02; done; }; "

/* What came of one s_client that says what `input` (a shell command) writes to a server with this context. */
struct visit {
    struct party server;
    struct tls_facts facts;
    char server_name[TLS_NAME_BYTES];
    char peer_name[TLS_NAME_BYTES];
    char version[32];
    char cipher[64];
    char reason[TLS_REASON_BYTES];
    char output[16384];
};

static void keep(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text);
}

static void keep_facts(struct shard *shard, void *context)
{
    struct visit *visit = context;
    (void)shard;
    visit->facts = *stream_tls_facts(&visit->server.stream);
    keep(visit->server_name, sizeof visit->server_name, visit->facts.server_name);
    keep(visit->peer_name, sizeof visit->peer_name, visit->facts.peer_name);
    keep(visit->version, sizeof visit->version, visit->facts.version);
    keep(visit->cipher, sizeof visit->cipher, visit->facts.cipher);
    keep(visit->reason, sizeof visit->reason, stream_tls_reason(&visit->server.stream));
}

static void visit_with(struct shard_group *group, struct tls_context *context, const char *input, const char *options,
                       struct visit *visit)
{
    struct sockaddr_in address;
    int listener = loopback_listen(&address);
    char command[2048];
    snprintf(command, sizeof command,
             "log=%s; : >$log; " SAID "(%s) | { timeout 10 openssl s_client -connect 127.0.0.1:%u %s >>$log 2>&1; "
             "echo ended >>$log; }; cat $log",
             tls_files_path("s_client.log"), input, ntohs(address.sin_port), options);
    memset(visit, 0, sizeof *visit);
    visit->server = (struct party){.manner = ECHO, .context = context};
    FILE *client = popen(command, "r");
    assert_non_null(client);
    visit->server.fd = loopback_accept(listener);
    close(listener);
    on_shard(group, party_open_and_start, &visit->server);
    assert_true(comes_true(group, party_is_over, &visit->server));
    on_shard(group, keep_facts, visit);
    party_finish(group, &visit->server, false);
    size_t length = fread(visit->output, 1, sizeof visit->output - 1, client);
    visit->output[length] = '\0';
    pclose(client);
}

#define HELLO "echo hello world; said '^hello world'"

static void expect_hello(const struct visit *visit)
{
    if (strstr(visit->output, "\nhello world\n") == NULL) {
        fail_msg("%s: %s", visit->reason, visit->output);
    }
    assert_string_equal(visit->reason, "");
}

/* Of texts with a | between them: some words of openssl's changed from version 3.0 to 3.5. */
static bool has_one_of(const char *output, const char *texts)
{
    for (; *texts != '\0'; texts += strcspn(texts, "|"), texts += *texts == '|') {
        if (memmem(output, strlen(output), texts, strcspn(texts, "|")) != NULL) {
            return true;
        }
    }
    return false;
}

/* Versions, certificates, and the order of groups, by what the client can. */
static void test_what_a_client_gets(void **state)
{
    static const struct {
        const char *options;
        const char *version;
        const char *cipher;
        const char *in_output;
    } clients[] = {
        {"-tls1_3", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519, 253 bits"},
        {"-tls1_3 -groups P-256", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "prime256v1, 256 bits"},
        {"-tls1_3 -groups P-521:P-384", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "secp384r1, 384 bits"}, /* second hello */
        {"-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256",
         "ECDSA|ecdsa_"},
        {"-tls1_3 -sigalgs rsa_pss_rsae_sha256", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "RSA-PSS|rsa_pss"},
        {"-tls1_2", "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "X25519, 253 bits"},
        {"-tls1_2 -groups P-384:P-256", "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "bits"},
        {"-tls1_2 -sigalgs RSA+SHA256", "TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
         "signature type: RSA|signature type: rsa"},
        {"-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "RSA"},
        {"-tls1_2 -groups X25519", "TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "X25519, 253 bits"},
        {"-alpn smtp", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "ALPN protocol: smtp"},
        {"-tls1_2 -alpn smtp,h2", "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ALPN protocol: smtp"},
    };
    static struct visit visit;
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++) {
        visit_with(*state, usual, HELLO, clients[i].options, &visit);
        expect_hello(&visit);
        assert_string_equal(visit.version, clients[i].version);
        assert_string_equal(visit.cipher, clients[i].cipher);
        if (!has_one_of(visit.output, clients[i].in_output)) {
            fail_msg("%s: %s", clients[i].options, visit.output);
        }
        assert_int_equal(visit.facts.exporter_bytes, TLS_EXPORTER_BYTES);
    }
}

static void test_what_no_client_gets(void **state)
{
    static const struct {
        const char *options;
        const char *alert; /* as the client names it */
    } clients[] = {
        {"-tls1_1 -cipher ALL:@SECLEVEL=0", "protocol version"},
        {"-tls1_2 -cipher AES128-GCM-SHA256", "handshake failure"},       /* RSA key exchange */
        {"-tls1_2 -cipher ECDHE-RSA-AES128-SHA256", "handshake failure"}, /* CBC */
        {"-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256", "handshake failure"},
        {"-alpn h2", "no application protocol"},
    };
    static struct visit visit;
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++) {
        visit_with(*state, usual, HELLO, clients[i].options, &visit);
        if (strstr(visit.output, clients[i].alert) == NULL || visit.server.stream.error != -EPROTO) {
            fail_msg("%s: %s: %s", clients[i].options, visit.reason, visit.output);
        }
        assert_string_not_equal(visit.reason, "");
    }
}

static void test_exporter_is_the_clients_too(void **state)
{
    static struct visit visit;
    static const char *const versions[] = {"-tls1_3", "-tls1_2"};
    for (int i = 0; i < 2; i++) {
        char options[128];
        char hex[2 * TLS_EXPORTER_BYTES + 1];
        snprintf(options, sizeof options, "%s -keymatexport EXPORTER-Channel-Binding -keymatexportlen 32", versions[i]);
        visit_with(*state, usual, HELLO, options, &visit);
        for (size_t k = 0; k < TLS_EXPORTER_BYTES; k++) {
            snprintf(hex + 2 * k, 3, "%02X", visit.facts.exporter[k]);
        }
        if (i == 0 && strstr(visit.output, hex) == NULL) { /* s_client has no context, which TLS 1.2 can tell */
            fail_msg("%s not in %s", hex, visit.output);
        }
    }
}

static void test_names_choose_certificates(void **state)
{
    const char *const other[] = {"*.Other.example", "exact.example"};
    struct tls_certificate certificates[] = {PAIR("other"), PAIR("rsa")};
    certificates[0].server_names = other;
    certificates[0].server_names_count = 2;
    struct tls_server_settings settings = {.certificates = certificates, .certificates_count = 2};
    struct tls_context *context = server_context(&settings);
    static const struct {
        const char *options;
        const char *name;
        const char *subject;
    } clients[] = {
        {"-servername mx.OTHER.example", "mx.other.example", "subject=CN = other|subject=CN=other"},
        {"-servername exact.example", "exact.example", "subject=CN = other|subject=CN=other"},
        {"-servername a.b.other.example", "a.b.other.example", "subject=CN = mx.example.org|subject=CN=mx.example.org"},
        {"-servername other.example", "other.example", "subject=CN = mx.example.org|subject=CN=mx.example.org"},
        {"-servername .other.example", "?", "subject=CN = mx.example.org|subject=CN=mx.example.org"},
        {"-noservername", "", "subject=CN = mx.example.org|subject=CN=mx.example.org"},
        {"-servername 'a\\b'", "?", "subject=CN = mx.example.org|subject=CN=mx.example.org"},
        {"-servername $(printf 'a\\377b')", "?", "subject=CN = mx.example.org|subject=CN=mx.example.org"},
        {"-servername $(head -c 255 /dev/zero | tr '\\0' a)", NULL,
         "subject=CN = mx.example.org|subject=CN=mx.example.org"},
        /* One that cannot verify the certificate of the name gets one that it can verify. */
        {"-servername exact.example -sigalgs rsa_pss_rsae_sha256", "exact.example",
         "subject=CN = mx.example.org|subject=CN=mx.example.org"},
    };
    static struct visit visit;
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++) {
        visit_with(*state, context, HELLO, clients[i].options, &visit);
        expect_hello(&visit);
        if (clients[i].name != NULL) {
            assert_string_equal(visit.server_name, clients[i].name);
        } else {
            assert_int_equal(strlen(visit.server_name), 255);
        }
        if (!has_one_of(visit.output, clients[i].subject)) {
            fail_msg("%s: %s", clients[i].options, visit.output);
        }
    }
    tls_context_give(context);
}

static void test_resumption(void **state)
{
    static struct visit visit;
    static const char *const versions[] = {"-tls1_3", "-tls1_2"};
    struct tls_context *another = usual_server_context();
    for (int i = 0; i < 2; i++) {
        char first[256];
        char second[256];
        const char *file = tls_files_path("session");
        snprintf(first, sizeof first, "%s -sess_out %s", versions[i], file);
        snprintf(second, sizeof second, "%s -sess_in %s", versions[i], file);
        visit_with(*state, usual, HELLO, first, &visit);
        expect_hello(&visit);
        assert_false(visit.facts.resumed);
        visit_with(*state, usual, HELLO, second, &visit);
        expect_hello(&visit);
        assert_true(visit.facts.resumed);
        assert_non_null(strstr(visit.output, "Reused, "));
        visit_with(*state, another, HELLO, second, &visit); /* a ticket of one context is worthless at another */
        expect_hello(&visit);
        assert_false(visit.facts.resumed);
    }
    tls_context_give(another);
}

#define KEY_SECONDS 3 /* a busy machine takes its time to start a client */

static void keys_grow_old(struct shard_group *group, const char *version)
{
    static struct visit visit;
    struct tls_certificate certificates[] = {PAIR("ecdsa")};
    struct tls_server_settings settings = {
        .certificates = certificates, .certificates_count = 1, .ticket_key_seconds = KEY_SECONDS};
    struct tls_context *context = server_context(&settings);
    char first[256];
    char second[512];
    char third[256];
    snprintf(first, sizeof first, "%s -sess_out %s", version, tls_files_path("session"));
    snprintf(second, sizeof second, "%s -sess_in %s -sess_out %s", version, tls_files_path("session"),
             tls_files_path("session2"));
    snprintf(third, sizeof third, "%s -sess_in %s", version, tls_files_path("session2"));
    visit_with(group, context, HELLO, first, &visit); /* makes the key, which is no longer the current one below */
    usleep(KEY_SECONDS * 500000);
    visit_with(group, context, HELLO, first, &visit);
    usleep(KEY_SECONDS * 750000); /* longer than KEY_SECONDS after its ticket a client offers it no more */
    visit_with(group, context, HELLO, second, &visit);
    assert_true(visit.facts.resumed);
    if (strcmp(version, "-tls1_3") == 0) { /* in a resumed TLS 1.2 session s_client keeps no new one */
        usleep(KEY_SECONDS * 750000);
        visit_with(group, context, HELLO, third, &visit); /* by the new ticket: the first one's key is gone */
        assert_true(visit.facts.resumed);
    }
    visit_with(group, context, HELLO, first, &visit);
    usleep(2 * KEY_SECONDS * 1000000 + 100000);
    visit_with(group, context, HELLO, second, &visit);
    expect_hello(&visit);
    assert_false(visit.facts.resumed);
    tls_context_give(context);
}

static void test_keys_grow_old(void **state)
{
    keys_grow_old(*state, "-tls1_3");
    keys_grow_old(*state, "-tls1_2");
}

/* Without tickets, and whoever asks for certificates, never resumes. */
static void test_no_resumption(void **state)
{
    static struct visit visit;
    struct tls_certificate certificates[] = {PAIR("ecdsa")};
    struct tls_server_settings settings[] = {
        {.certificates = certificates, .certificates_count = 1},
        {.certificates = certificates,
         .certificates_count = 1,
         .ticket_key_seconds = 3600,
         .client_certificate = TLS_CLIENT_CERTIFICATE_ASK,
         .client_ca_file = tls_files_path("authority.pem")},
    };
    for (int i = 0; i < 4; i++) {
        struct tls_context *context = server_context(&settings[i / 2]);
        char first[256];
        char second[256];
        const char *version = i % 2 == 0 ? "-tls1_3" : "-tls1_2";
        unlink(tls_files_path("session"));
        snprintf(first, sizeof first, "%s -sess_out %s", version, tls_files_path("session"));
        snprintf(second, sizeof second, "%s -sess_in %s", version, tls_files_path("session"));
        visit_with(*state, context, HELLO, first, &visit);
        expect_hello(&visit);
        assert_null(strstr(visit.output, "New Session Ticket arrived"));
        if (access(tls_files_path("session"), R_OK) == 0) {
            visit_with(*state, context, HELLO, second, &visit);
            expect_hello(&visit);
            assert_false(visit.facts.resumed);
        }
        tls_context_give(context);
    }
}

static void check_certificate(struct shard_group *group, enum tls_client_certificate policy, const char *version,
                              const char *client, bool welcome, bool verified)
{
    static struct visit visit;
    struct tls_certificate certificates[] = {PAIR("ecdsa"), PAIR("rsa")};
    struct tls_server_settings settings = {.certificates = certificates,
                                           .certificates_count = 2,
                                           .client_certificate = policy,
                                           .client_ca_file = tls_files_path("authority.pem")};
    struct tls_context *context = server_context(&settings);
    char options[512];
    char pair[400] = "";
    if (client != NULL) {
        char pem[64];
        char key[64];
        snprintf(pem, sizeof pem, "%s.pem", client);
        snprintf(key, sizeof key, "%s.key", client);
        snprintf(pair, sizeof pair, "-cert %s -key %s", tls_files_path(pem), tls_files_path(key));
    }
    snprintf(options, sizeof options, "%s %s", version, pair);
    visit_with(group, context, HELLO, options, &visit);
    if (welcome) {
        expect_hello(&visit);
        assert_int_equal(visit.facts.verified, verified);
        assert_int_equal(visit.facts.peer_certificate, policy != TLS_CLIENT_CERTIFICATE_IGNORE && client != NULL);
        assert_string_equal(visit.peer_name, visit.facts.peer_certificate ? "bob@example.org" : "");
    } else {
        assert_null(strstr(visit.output, "\nhello world\n"));
        assert_int_equal(visit.server.stream.error, client != NULL ? -EACCES : -EPROTO);
        assert_string_not_equal(visit.reason, "");
    }
    tls_context_give(context);
}

static void test_client_certificates(void **state)
{
    for (int i = 0; i < 2; i++) {
        const char *version = i == 0 ? "-tls1_3" : "-tls1_2";
        check_certificate(*state, TLS_CLIENT_CERTIFICATE_IGNORE, version, "client", true, false);
        check_certificate(*state, TLS_CLIENT_CERTIFICATE_ASK, version, NULL, true, false);
        check_certificate(*state, TLS_CLIENT_CERTIFICATE_ASK, version, "client", true, true);
        check_certificate(*state, TLS_CLIENT_CERTIFICATE_ASK, version, "client_unknown", true, false);
        check_certificate(*state, TLS_CLIENT_CERTIFICATE_REQUIRE, version, NULL, false, false);
        check_certificate(*state, TLS_CLIENT_CERTIFICATE_REQUIRE, version, "client", true, true);
        check_certificate(*state, TLS_CLIENT_CERTIFICATE_REQUIRE, version, "client_unknown", false, false);
    }
}

/* K and R alone on a line are s_client's commands: update the keys, renegotiate. */
static void test_key_update_and_renegotiation(void **state)
{
    static struct visit visit;
    visit_with(*state, usual, "echo first; said ^first; echo K; said ^KEY; echo K; said ^KEY 2; " HELLO, "-tls1_3",
               &visit);
    expect_hello(&visit);
    assert_non_null(strstr(visit.output, "KEYUPDATE"));
    visit_with(*state, usual, "echo first; said ^first; echo R; said ^RENEG; " HELLO, "-tls1_2", &visit);
    assert_non_null(strstr(visit.output, "RENEGOTIATING"));
    assert_null(strstr(visit.output, "\nhello world\n"));
    assert_int_equal(visit.server.stream.error, -EPROTO);
}

/* --- s_server -------------------------------------------------------------------------------------------------------
 */

struct host {
    struct party client;
    char reason[TLS_REASON_BYTES];
    pid_t pid;
    struct sockaddr_in address;
};

static void host_start(struct host *host, const char *name, const char *options)
{
    host->address = loopback_nobody();
    host->pid = fork();
    if (host->pid == 0) {
        char command[1024];
        char pem[64];
        char key[64];
        snprintf(pem, sizeof pem, "%s.pem", name);
        snprintf(key, sizeof key, "%s.key", name);
        snprintf(
            command, sizeof command,
            "exec timeout 10 openssl s_server -accept 127.0.0.1:%u -cert %s -cert_chain %s -key %s -rev -naccept 1 "
            "%s >%s 2>&1 </dev/null",
            ntohs(host->address.sin_port), tls_files_path(pem), tls_files_path(pem), tls_files_path(key), options,
            tls_files_path("s_server.log"));
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
}

static int host_connect(const struct host *host)
{
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (clock_monotonic_ms() < end_ms) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr *)&host->address, sizeof host->address) == 0) {
            return fd;
        }
        close(fd);
        usleep(10000);
    }
    fail_msg("s_server does not listen");
    return -1;
}

static void keep_reason(struct shard *shard, void *context)
{
    struct host *host = context;
    (void)shard;
    keep(host->reason, sizeof host->reason, stream_tls_reason(&host->client.stream));
}

/* Connects to an s_server with this certificate, and says one line, which comes back reversed. The stream's error. */
static int call(struct shard_group *group, struct tls_context *context, const char *certificate, const char *options,
                const char *name, enum tls_verify verify, char *ret_reason)
{
    static struct host host;
    char got[6];
    memset(&host, 0, sizeof host);
    host_start(&host, certificate, options);
    host.client = (struct party){.manner = CLIENT,
                                 .context = context,
                                 .name = name,
                                 .verify = verify,
                                 .say = "olleh\n",
                                 .say_bytes = 6,
                                 .got = got,
                                 .fd = host_connect(&host)};
    on_shard(group, party_open_and_start, &host.client);
    assert_true(comes_true(group, party_got_all, &host.client));
    on_shard(group, keep_reason, &host);
    keep(ret_reason, TLS_REASON_BYTES, host.reason);
    int error = host.client.stream.error;
    if (error == 0 && (host.client.got_bytes != 6 || memcmp(got, "hello\n", 6) != 0)) {
        fail_msg("%zu octets: %s", host.client.got_bytes, host.reason);
    }
    assert_int_equal(host.client.stream.tls != NULL && stream_tls_facts(&host.client.stream)->verified,
                     error == 0 && verify == TLS_VERIFY_NAME);
    party_finish(group, &host.client, false);
    waitpid(host.pid, NULL, 0);
    return error;
}

static void test_servers_are_verified(void **state)
{
    static const struct {
        const char *certificate;
        const char *name;
        const char *problem; /* NULL: none */
    } servers[] = {
        {"ecdsa", "mx.example.org", NULL},
        {"ecdsa", "MAIL.example.ORG", NULL},
        {"rsa", "mx.example.org", NULL},
        {"ecdsa384", "mx.example.org", NULL},
        {"other", "mx.other.example", NULL},
        {"other", "a.mx.other.example", "peer subject name mismatch"},
        {"other", "other.example", "peer subject name mismatch"},
        {"ecdsa", "example.org", "peer subject name mismatch"},
        {"ecdsa", "127.0.0.1", "peer subject name mismatch"},
        {"expired", "mx.example.org", "date"},
        {"unknown", "mx.example.org", "ASN no signer error to confirm failure"},
    };
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++) {
        for (int version = 0; version < 2; version++) {
            char reason[TLS_REASON_BYTES];
            const char *options = version == 0 ? "-tls1_3" : "-tls1_2";
            int error = call(*state, believing, servers[i].certificate, options, servers[i].name, TLS_VERIFY_NAME,
                             reason);
            bool as_expected = servers[i].problem == NULL ? error == 0 && reason[0] == '\0'
                                                          : error == -EACCES && strstr(reason, servers[i].problem);
            if (!as_expected) {
                fail_msg("%s %s %s: %d %s", servers[i].certificate, servers[i].name, options, error, reason);
            }
        }
    }
}

static void test_opportunism_takes_any(void **state)
{
    static const char *const servers[] = {"ecdsa", "rsa", "expired", "unknown"};
    static const char *const options[] = {"-tls1_3", "-tls1_2",
                                          "-tls1_2 -cipher ECDHE-RSA-AES256-SHA:ECDHE-ECDSA-AES256-SHA"};
    char reason[TLS_REASON_BYTES];
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++) {
        for (size_t k = 0; k < sizeof options / sizeof *options; k++) {
            int error = call(*state, k == 0 ? believing : gullible, servers[i], options[k], "mx.example.org",
                             TLS_VERIFY_NONE, reason);
            if (error != 0) {
                fail_msg("%s %s: %d %s", servers[i], options[k], error, reason);
            }
        }
    }
}

/* A chain that somebody without scruples let pass must not become an authority for those with. */
static void test_no_trust_spills_over(void **state)
{
    char reason[TLS_REASON_BYTES];
    assert_int_equal(call(*state, believing, "stranger", "-tls1_3", "mx.example.org", TLS_VERIFY_NONE, reason), 0);
    assert_int_equal(call(*state, believing, "unknown", "-tls1_3", "mx.example.org", TLS_VERIFY_NONE, reason), 0);
    assert_int_equal(call(*state, believing, "unknown", "-tls1_3", "mx.example.org", TLS_VERIFY_NAME, reason), -EACCES);
}

int main(void)
{
    usual = usual_server_context();
    believing = client_context(tls_files_path("authority.pem"));
    gullible = client_context(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_a_client_gets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_no_client_gets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_exporter_is_the_clients_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names_choose_certificates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resumption, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_grow_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_resumption, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_client_certificates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_update_and_renegotiation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_servers_are_verified, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_opportunism_takes_any, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_trust_spills_over, set_up, tear_down),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tls_context_give(usual);
    tls_context_give(believing);
    tls_context_give(gullible);
    return failed;
}
