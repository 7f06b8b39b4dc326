/* handshakes CERTIFICATE KEY [COUNT]: what a full TLS 1.3 handshake costs the server's core, over loopback TCP.
 *
 * The same client, a plain wolfSSL loop in a thread of its own, calls two servers in turns: a plain wolfSSL loop on a
 * blocking socket, and ours on the ring. Counted is the CPU time of the process less that of the client's thread. Each
 * handshake is followed by one octet from the server, so that all of it is over when the next one begins. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>

#include "base/check.h"
#include "core/shard.h"
#include "core/stream_tls.h"

#define CIPHER "TLS13-AES128-GCM-SHA256"

static unsigned handshakes = 1000;
static const char *chain_file;
static const char *key_file;

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int make_listener(struct sockaddr_in *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof *ret_address;
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(fd, (struct sockaddr *)ret_address, length) == 0 && listen(fd, 64) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)ret_address, &length) == 0);
    return fd;
}

/* --- the client ----------------------------------------------------------------------------------------------------
 */

static struct sockaddr_in server_address;

static void call_once(WOLFSSL_CTX *library)
{
    int one = 1;
    char octet;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&server_address, sizeof server_address) == 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    WOLFSSL *session = wolfSSL_new(library);
    wolfSSL_set_fd(session, fd);
    CHECK(wolfSSL_connect(session) == WOLFSSL_SUCCESS);
    CHECK(wolfSSL_read(session, &octet, 1) == 1);
    wolfSSL_free(session);
    close(fd);
}

static void *call(void *ret_seconds)
{
    WOLFSSL_CTX *library = wolfSSL_CTX_new(wolfTLSv1_3_client_method());
    wolfSSL_CTX_set_verify(library, WOLFSSL_VERIFY_NONE, NULL);
    CHECK(wolfSSL_CTX_set_cipher_list(library, CIPHER) == WOLFSSL_SUCCESS);
    int group = WOLFSSL_ECC_X25519;
    CHECK(wolfSSL_CTX_set_groups(library, &group, 1) == WOLFSSL_SUCCESS);
    for (unsigned i = 0; i < handshakes; i++) {
        call_once(library);
    }
    wolfSSL_CTX_free(library);
    *(double *)ret_seconds = seconds(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

/* --- the plain server ------------------------------------------------------------------------------------------------
 */

static void serve_plainly(int listener)
{
    WOLFSSL_CTX *library = wolfSSL_CTX_new(wolfSSLv23_server_method());
    CHECK(wolfSSL_CTX_use_certificate_chain_file(library, chain_file) == WOLFSSL_SUCCESS);
    CHECK(wolfSSL_CTX_use_PrivateKey_file(library, key_file, WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS);
    int group = WOLFSSL_ECC_X25519;
    CHECK(wolfSSL_CTX_set_groups(library, &group, 1) == WOLFSSL_SUCCESS);
    for (unsigned i = 0; i < handshakes; i++) {
        int one = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        WOLFSSL *session = wolfSSL_new(library);
        wolfSSL_set_fd(session, fd);
        CHECK(wolfSSL_accept(session) == WOLFSSL_SUCCESS);
        CHECK(wolfSSL_write(session, "x", 1) == 1);
        wolfSSL_shutdown(session);
        wolfSSL_free(session);
        shutdown(fd, SHUT_RDWR);
        close(fd);
    }
    wolfSSL_CTX_free(library);
}

/* --- ours
 * -------------------------------------------------------------------------------------------------------------- */

struct service {
    struct op accept;
    struct shard *shard;
    struct tls_context *context;
    int listener;
    unsigned closed;
};

struct guest {
    struct stream stream;
    struct service *service;
    bool answered;
};

static void gone(struct stream *stream)
{
    struct guest *guest = CONTAINER_OF(stream, struct guest, stream);
    struct service *service = guest->service;
    free(guest);
    if (++service->closed == handshakes) {
        ring_cancel(service->shard->ring, &service->accept);
        service->shard->stopping = true;
    }
}

static void woken(struct stream *stream)
{
    static char octet[] = "x";
    struct guest *guest = CONTAINER_OF(stream, struct guest, stream);
    CHECK(stream->error == 0 || guest->answered);
    if (stream->secured && !guest->answered) {
        struct iovec piece = {.iov_base = octet, .iov_len = 1};
        guest->answered = true;
        stream_send(stream, &piece, 1);
    } else if (!stream_sending(stream)) {
        stream_close(stream, false, gone);
    }
}

static void accepted(struct op *op, int result, uint32_t flags)
{
    struct service *service = CONTAINER_OF(op, struct service, accept);
    (void)flags;
    if (result < 0) {
        return;
    }
    int one = 1;
    setsockopt(result, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct guest *guest = calloc(1, sizeof *guest);
    guest->service = service;
    stream_open(&guest->stream, service->shard, result, woken);
    CHECK(stream_tls_start_implicit(&guest->stream, service->context) == 0);
}

static int begin(struct shard *shard, void *context)
{
    struct service *service = context;
    stream_shard_start(shard);
    service->shard = shard;
    service->accept.done = accepted;
    ring_accept_multishot(shard->ring, &service->accept, service->listener);
    return 0;
}

static void end(struct shard *shard, void *context)
{
    (void)context;
    stream_shard_stop(shard);
}

static struct tls_context *make_context(void)
{
    char reason[256];
    struct tls_certificate certificate = {.chain_file = chain_file, .key_file = key_file};
    struct tls_server_settings settings = {
        .certificates = &certificate, .certificates_count = 1, .ticket_key_seconds = 3600};
    struct tls_context *context = NULL;
    if (tls_context_new_server(&settings, &context, reason, sizeof reason) != 0) {
        fprintf(stderr, "%s\n", reason);
        exit(1);
    }
    return context;
}

static void serve_by_ring(int listener)
{
    char reason[256];
    struct service service = {.context = make_context(), .listener = listener};
    struct shard_group_settings settings = {
        .shards = 1,
        .ring = {.entries = 256, .receive_buffers = 256, .receive_buffer_bytes = 8192},
        .start = begin,
        .stop = end,
        .context = &service,
    };
    struct shard_group *group;
    CHECK(shard_group_start(&settings, &group, reason, sizeof reason) == 0);
    shard_group_join(group);
    tls_context_give(service.context);
}

/* --- the comparison
 * --------------------------------------------------------------------------------------------------- */

/* CPU seconds per handshake. */
static double measure(void (*serve)(int listener))
{
    pthread_t client;
    double of_client = 0;
    int listener = make_listener(&server_address);
    double before = seconds(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(pthread_create(&client, NULL, call, &of_client) == 0);
    serve(listener);
    pthread_join(client, NULL);
    double cost = seconds(CLOCK_PROCESS_CPUTIME_ID) - before - of_client;
    close(listener);
    return cost / handshakes;
}

static int by_size(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    enum { TURNS = 5 };
    double plain[TURNS];
    double ring[TURNS];
    if (argc < 3) {
        fprintf(stderr, "usage: %s CERTIFICATE KEY [COUNT]\n", argv[0]);
        return 2;
    }
    chain_file = argv[1];
    key_file = argv[2];
    handshakes = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : handshakes;
    CHECK(tls_library_init() == 0 && handshakes > 0);
    for (int i = 0; i < TURNS; i++) {
        plain[i] = measure(serve_plainly);
        ring[i] = measure(serve_by_ring);
    }
    qsort(plain, TURNS, sizeof *plain, by_size);
    qsort(ring, TURNS, sizeof *ring, by_size);
    printf("{\"plain_per_second\": %.0f, \"ring_per_second\": %.0f, \"ratio\": %.3f}\n", 1 / plain[TURNS / 2],
           1 / ring[TURNS / 2], plain[TURNS / 2] / ring[TURNS / 2]);
    return 0;
}
