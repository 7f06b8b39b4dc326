/* floor_copy: the floor under a relay. Copies what comes in over TCP to another address and back, on one io_uring, and
 * does nothing else: what a message costs here, no relay that takes it in and sends it on can go below.
 *
 *     floor_copy --listen PORT --to PORT        both on 127.0.0.1; ends on SIGTERM
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENTRIES 1024
#define BUFFER_BYTES 65536

struct pair;

/* One direction: receive, send all of it, receive. */
struct way {
    struct pair *pair;
    int from;
    int to;
    bool sending;
    bool ended;
    size_t length;
    char buffer[BUFFER_BYTES];
};

struct pair {
    struct way out;
    struct way back;
};

static struct io_uring ring;
static struct sockaddr_in target;
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void die(const char *what, int error)
{
    fprintf(stderr, "floor_copy: %s: %s\n", what, strerror(error));
    exit(1);
}

static struct io_uring_sqe *entry(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (sqe == NULL) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void receive(struct way *way)
{
    struct io_uring_sqe *sqe = entry();
    way->sending = false;
    io_uring_prep_recv(sqe, way->from, way->buffer, sizeof way->buffer, 0);
    io_uring_sqe_set_data(sqe, way);
}

static void forward(struct way *way, size_t length)
{
    struct io_uring_sqe *sqe = entry();
    way->sending = true;
    way->length = length;
    io_uring_prep_send(sqe, way->to, way->buffer, length, MSG_WAITALL | MSG_NOSIGNAL);
    io_uring_sqe_set_data(sqe, way);
}

static void end(struct way *way)
{
    struct pair *pair = way->pair;
    way->ended = true;
    shutdown(way->to, SHUT_WR);
    if (pair->out.ended && pair->back.ended) {
        close(pair->out.from);
        close(pair->out.to);
        free(pair);
    }
}

static void on_way(struct way *way, int result)
{
    if (result <= 0 || (way->sending && (size_t)result != way->length)) {
        end(way);
    } else if (way->sending) {
        receive(way);
    } else {
        forward(way, (size_t)result);
    }
}

static void accept_next(int listener)
{
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, NULL);
}

static void begin(int fd)
{
    struct pair *pair = malloc(sizeof *pair);
    int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (pair == NULL || connect(to, (struct sockaddr *)&target, sizeof target) != 0) {
        die("connect", errno);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(to, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pair->out = (struct way){.pair = pair, .from = fd, .to = to};
    pair->back = (struct way){.pair = pair, .from = to, .to = fd};
    receive(&pair->out);
    receive(&pair->back);
}

static void run(int listener)
{
    accept_next(listener);
    while (!stopped) {
        struct io_uring_cqe *cqe;
        int error = io_uring_submit_and_wait(&ring, 1);
        if (error < 0 && error != -EINTR) {
            die("io_uring_enter", -error);
        }
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            struct way *way = io_uring_cqe_get_data(cqe);
            int result = cqe->res;
            io_uring_cqe_seen(&ring, cqe);
            if (way != NULL) {
                on_way(way, result);
                continue;
            }
            if (result >= 0) {
                begin(result);
            }
            accept_next(listener);
        }
    }
}

static struct sockaddr_in local(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'}, {"to", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    struct sockaddr_in address = {0};
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_COOP_TASKRUN};
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (letter == '?') {
            return 64;
        }
        *(letter == 'l' ? &address : &target) = local(optarg);
    }
    if (address.sin_port == 0 || target.sin_port == 0) {
        fprintf(stderr, "usage: floor_copy --listen PORT --to PORT\n");
        return 64;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) {
        die("listen", errno);
    }
    int error = io_uring_queue_init_params(ENTRIES, &ring, &params);
    if (error < 0) {
        die("io_uring_setup", -error);
    }
    run(listener);
    return 0;
}
