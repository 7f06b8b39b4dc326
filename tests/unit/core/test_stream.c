#include "core/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/loopback.h"
#include "unit/core/one_shard.h"

#define BUFFERS 16
#define BUFFER_BYTES 2048

/* What a driver does with its input. */
enum manner { IGNORE, SWALLOW, ECHO };

struct subject {
    struct stream stream;
    enum manner manner;
    struct sockaddr_in remote; /* of a connect */
    int fd;
    const char *send; /* to be sent by send_it */
    size_t send_bytes;
    char *reply; /* of an echo */
    size_t reply_bytes;
    uint64_t swallowed;
    unsigned wakes;
    unsigned buffers_max; /* unread at any time */
    unsigned closings;
    size_t unsent; /* when it was joined */
    bool wrong;
};

static struct subject *subject_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct subject, stream);
}

/* Takes in pieces of odd sizes, so that reads begin and end inside buffers. */
static void swallow(struct subject *subject)
{
    struct bytes input;
    while ((input = stream_input(&subject->stream)).length != 0) {
        size_t n = input.length > 777 ? 777 : input.length;
        subject->swallowed += n;
        stream_consume(&subject->stream, n);
    }
}

static void echo(struct subject *subject)
{
    if (stream_sending(&subject->stream)) {
        return;
    }
    subject->reply_bytes = 0;
    struct bytes input;
    while ((input = stream_input(&subject->stream)).length != 0 && subject->reply_bytes < BUFFER_BYTES) {
        size_t room = 2 * BUFFER_BYTES - subject->reply_bytes;
        size_t n = input.length < room ? input.length : room;
        memcpy(subject->reply + subject->reply_bytes, input.data, n);
        subject->reply_bytes += n;
        stream_consume(&subject->stream, n);
    }
    if (subject->reply_bytes != 0) {
        size_t half = subject->reply_bytes / 2;
        struct iovec pieces[] = {
            {.iov_base = subject->reply, .iov_len = half},
            {.iov_base = subject->reply + half, .iov_len = subject->reply_bytes - half},
        };
        stream_send(&subject->stream, pieces, 2);
    }
}

static void woken(struct stream *stream)
{
    struct subject *subject = subject_of(stream);
    subject->wakes++;
    subject->wrong |= stream->closing;
    if (stream->buffers > subject->buffers_max) {
        subject->buffers_max = stream->buffers;
    }
    if (subject->manner == SWALLOW) {
        swallow(subject);
    } else if (subject->manner == ECHO) {
        echo(subject);
    }
}

static void closed(struct stream *stream)
{
    subject_of(stream)->closings++;
}

/* --- what the test does in the shard ---------------------------------------------------------------------------- */

static void open_it(struct shard *shard, void *context)
{
    struct subject *subject = context;
    stream_open(&subject->stream, shard, subject->fd, woken);
}

static void connect_it(struct shard *shard, void *context)
{
    struct subject *subject = context;
    int error = stream_connect(&subject->stream, shard, (struct sockaddr *)&subject->remote, sizeof subject->remote,
                               NULL, 0, woken);
    subject->wrong |= error != 0;
}

static void send_it(struct shard *shard, void *context)
{
    struct subject *subject = context;
    (void)shard;
    union {
        const char *constant;
        void *data;
    } pointer = {.constant = subject->send};
    struct iovec piece = {.iov_base = pointer.data, .iov_len = subject->send_bytes};
    stream_send(&subject->stream, &piece, 1);
}

static void swallow_it(struct shard *shard, void *context)
{
    (void)shard;
    swallow(context);
}

static void close_it(struct shard *shard, void *context)
{
    (void)shard;
    stream_close(&((struct subject *)context)->stream, false, closed);
}

static void abort_it(struct shard *shard, void *context)
{
    (void)shard;
    stream_close(&((struct subject *)context)->stream, true, closed);
}

static void connect_and_close_it(struct shard *shard, void *context)
{
    connect_it(shard, context);
    close_it(shard, context);
}

static bool is_closed(struct shard *shard, void *context)
{
    (void)shard;
    return ((struct subject *)context)->closings == 1;
}

static bool is_over(struct shard *shard, void *context)
{
    const struct stream *stream = &((struct subject *)context)->stream;
    (void)shard;
    return stream->eof || stream->error != 0;
}

static bool is_connected(struct shard *shard, void *context)
{
    (void)shard;
    return ((struct subject *)context)->stream.connected;
}

static bool has_sent(struct shard *shard, void *context)
{
    (void)shard;
    return !stream_sending(&((struct subject *)context)->stream);
}

/* Nothing more comes before somebody consumes. */
static bool is_at_rest(struct shard *shard, void *context)
{
    const struct stream *stream = &((struct subject *)context)->stream;
    (void)shard;
    return stream->buffers != 0 && !stream->receive.in_flight;
}

static bool buffers_are_back(struct shard *shard, void *context)
{
    (void)context;
    return ring_buffers_free(shard->ring) == BUFFERS && list_empty(&shard->starved);
}

static void finish(struct shard_group *group, struct subject *subject, bool abort)
{
    on_shard(group, abort ? abort_it : close_it, subject);
    assert_true(comes_true(group, is_closed, subject));
    assert_false(subject->wrong);
}

/* --- every test begins and ends here ---------------------------------------------------------------------------- */

static unsigned descriptors_before;

static int set_up(void **state)
{
    descriptors_before = loopback_descriptors();
    *state = shards_start(1, BUFFERS, BUFFER_BYTES);
    return 0;
}

/* Neither buffers nor descriptors have gone. */
static int tear_down(void **state)
{
    struct shard_group *group = *state;
    assert_true(comes_true(group, buffers_are_back, NULL));
    shards_stop(group);
    assert_int_equal(loopback_descriptors(), descriptors_before);
    return 0;
}

static struct subject open_subject(int *ret_peer, enum manner manner)
{
    int ends[2];
    loopback_pair(ends);
    *ret_peer = ends[0];
    return (struct subject){.fd = ends[1], .manner = manner};
}

/* --- echo ------------------------------------------------------------------------------------------------------- */

struct writer {
    int fd;
    const char *data;
    size_t bytes;
    size_t piece; /* written at once */
};

static void *write_all(void *argument)
{
    const struct writer *writer = argument;
    for (size_t at = 0; at < writer->bytes;) {
        size_t n = writer->bytes - at < writer->piece ? writer->bytes - at : writer->piece;
        if (!loopback_write(writer->fd, writer->data + at, n)) {
            break;
        }
        at += n;
    }
    return NULL;
}

static void check_echo(struct shard_group *group, size_t bytes, size_t piece)
{
    char *data = malloc(bytes);
    char *copy = malloc(bytes);
    char reply[2 * BUFFER_BYTES];
    assert_true(data != NULL && copy != NULL);
    struct rng rng;
    rng_seed(&rng, bytes);
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (char)rng_next(&rng);
    }
    int peer;
    struct subject subject = open_subject(&peer, ECHO);
    subject.reply = reply;
    on_shard(group, open_it, &subject);
    struct writer writer = {.fd = peer, .data = data, .bytes = bytes, .piece = piece};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_all, &writer), 0);
    assert_true(loopback_read(peer, copy, bytes));
    pthread_join(thread, NULL);
    assert_memory_equal(copy, data, bytes);
    assert_true(comes_true(group, has_sent, &subject));
    assert_int_equal(subject.stream.received_bytes, bytes);
    assert_int_equal(subject.stream.sent_bytes, bytes);
    finish(group, &subject, false);
    assert_false(loopback_read(peer, copy, 1));
    close(peer);
    free(data);
    free(copy);
}

static void test_every_byte_comes_back_in_order(void **state)
{
    static const size_t sizes[][2] = {
        {1, 1},          {BUFFER_BYTES - 1, 1}, {BUFFER_BYTES, BUFFER_BYTES}, {BUFFER_BYTES + 1, 3},
        {100000, 12345}, {10 << 20, 1 << 20},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_echo(*state, sizes[i][0], sizes[i][1]);
    }
}

/* --- back-pressure ---------------------------------------------------------------------------------------------- */

static char flood[1 << 20];

static void test_unread_input_is_bounded_and_goes_on(void **state)
{
    struct shard_group *group = *state;
    int peer;
    struct subject subject = open_subject(&peer, IGNORE);
    on_shard(group, open_it, &subject);
    struct writer writer = {.fd = peer, .data = flood, .bytes = sizeof flood, .piece = 1 << 16};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_all, &writer), 0);
    assert_true(comes_true(group, is_at_rest, &subject));
    usleep(20000);
    assert_true(comes_true(group, is_at_rest, &subject));
    unsigned wakes = subject.wakes;
    assert_in_range(subject.stream.received_bytes, 1, BUFFERS * BUFFER_BYTES);
    usleep(20000);
    on_shard(group, swallow_it, &subject); /* and again nothing is taken: it fills up to the same mark */
    assert_true(comes_true(group, is_at_rest, &subject));
    assert_true(subject.wakes > wakes);
    uint64_t before = 0;
    while (subject.swallowed < sizeof flood) {
        on_shard(group, swallow_it, &subject);
        if (subject.swallowed == before) {
            usleep(500);
        }
        before = subject.swallowed;
    }
    pthread_join(thread, NULL);
    assert_int_equal(subject.swallowed, sizeof flood);
    assert_in_range(subject.buffers_max, 5, BUFFERS);
    finish(group, &subject, false);
    close(peer);
}

/* The peer's end comes while the receive is being paused: it is reported once, and not asked for again. */
static void test_the_end_behind_a_pause(void **state)
{
    struct shard_group *group = *state;
    int peer;
    struct subject subject = open_subject(&peer, IGNORE);
    assert_true(loopback_write(peer, flood, 8 * BUFFER_BYTES));
    shutdown(peer, SHUT_WR);
    on_shard(group, open_it, &subject);
    assert_true(comes_true(group, is_at_rest, &subject));
    if (!subject.stream.eof) { /* the cancel was first */
        on_shard(group, swallow_it, &subject);
    }
    assert_true(comes_true(group, is_over, &subject));
    unsigned wakes = subject.wakes;
    on_shard(group, swallow_it, &subject);
    usleep(20000);
    assert_int_equal(subject.swallowed, 8 * BUFFER_BYTES);
    assert_int_equal(subject.stream.error, 0);
    assert_int_equal(subject.wakes, wakes);
    assert_false(subject.stream.receive.in_flight);
    finish(group, &subject, false);
    close(peer);
}

/* What had come before it is closed is still to be read, and how far the send has got is known to the octet. */
static void read_the_rest(struct stream *stream)
{
    struct subject *subject = subject_of(stream);
    swallow(subject);
    subject->unsent = stream->unsent;
    subject->wrong |= stream->receive.in_flight || stream->send.in_flight || subject->closings != 0;
}

static bool has_input(struct shard *shard, void *context)
{
    (void)shard;
    return ((struct subject *)context)->stream.received_bytes == 1000;
}

static void test_what_is_known_of_a_closed_stream(void **state)
{
    struct shard_group *group = *state;
    int peer;
    struct subject subject = open_subject(&peer, IGNORE);
    subject.send = flood;
    subject.send_bytes = sizeof flood;
    int bytes = 4096;
    setsockopt(subject.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    on_shard(group, open_it, &subject);
    on_shard(group, send_it, &subject);
    assert_true(loopback_write(peer, flood, 1000));
    assert_true(comes_true(group, has_input, &subject));
    usleep(20000);
    subject.stream.joined = read_the_rest;
    finish(group, &subject, false);
    assert_int_equal(subject.swallowed, 1000);
    assert_in_range(subject.unsent, 1, sizeof flood - 1);
    static char copy[sizeof flood];
    assert_true(loopback_read(peer, copy, sizeof flood - subject.unsent));
    assert_false(loopback_read(peer, copy, 1));
    assert_int_equal(subject.stream.sent_bytes, sizeof flood - subject.unsent);
    close(peer);
}

/* One stream takes all buffers at once, is paused and out of buffers at the same time, and then catches up. */
static void test_paused_and_starved_at_once(void **state)
{
    struct shard_group *group = *state;
    int peer;
    struct subject subject = open_subject(&peer, IGNORE);
    assert_true(loopback_write(peer, flood, 2 * BUFFERS * BUFFER_BYTES));
    on_shard(group, open_it, &subject);
    assert_true(comes_true(group, is_at_rest, &subject));
    while (subject.swallowed < 2 * BUFFERS * BUFFER_BYTES) {
        on_shard(group, swallow_it, &subject);
        usleep(200);
    }
    finish(group, &subject, false);
    close(peer);
}

#define CROWD 64

static bool crowd_has(struct shard *shard, void *context)
{
    const struct subject *crowd = context;
    (void)shard;
    uint64_t sum = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        sum += crowd[i].swallowed;
    }
    return sum == CROWD * 3 * BUFFER_BYTES;
}

static bool all_is_held(struct shard *shard, void *context)
{
    (void)context;
    return ring_buffers_free(shard->ring) == 0 && !list_empty(&shard->starved);
}

static void begin_to_swallow(struct shard *shard, void *context)
{
    struct subject *crowd = context;
    (void)shard;
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i].manner = SWALLOW;
        swallow(&crowd[i]);
    }
}

/* More streams than buffers: those that hold all of them let go, and everybody is served; also one that comes with
 * nothing to say while there is no buffer. */
static void test_starved_streams_are_fed(void **state)
{
    struct shard_group *group = *state;
    static struct subject crowd[CROWD];
    int peers[CROWD];
    int quiet_peer;
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = open_subject(&peers[i], IGNORE);
        assert_true(loopback_write(peers[i], flood, 3 * BUFFER_BYTES));
        on_shard(group, open_it, &crowd[i]);
    }
    assert_true(comes_true(group, all_is_held, NULL));
    struct subject quiet = open_subject(&quiet_peer, SWALLOW);
    on_shard(group, open_it, &quiet);
    on_shard(group, begin_to_swallow, crowd);
    assert_true(comes_true(group, crowd_has, crowd));
    assert_true(loopback_write(quiet_peer, "hello", 5));
    shutdown(quiet_peer, SHUT_WR);
    assert_true(comes_true(group, is_over, &quiet));
    assert_int_equal(quiet.swallowed, 5);
    for (unsigned i = 0; i < CROWD; i++) {
        finish(group, &crowd[i], i % 2 != 0);
        close(peers[i]);
    }
    finish(group, &quiet, false);
    close(quiet_peer);
}

/* Buffers come free at the very end of a turn, in a hook behind the stream's own: the shard must not go to sleep on it.
 */
struct late {
    struct timer timer;
    struct shard_hook hook;
    struct subject *holder;
    bool due;
};

static void late_fired(struct timer *timer)
{
    CONTAINER_OF(timer, struct late, timer)->due = true;
}

static void late_run(struct shard_hook *hook)
{
    struct late *late = CONTAINER_OF(hook, struct late, hook);
    if (late->due) {
        late->due = false;
        swallow(late->holder);
    }
}

static void let_go_late(struct shard *shard, void *context)
{
    struct late *late = context;
    wheel_timer_init(&late->timer, late_fired);
    shard_arm(shard, &late->timer, 50);
    shard_add_hook(shard, &late->hook, late_run);
}

static void remove_late(struct shard *shard, void *context)
{
    (void)shard;
    shard_remove_hook(&((struct late *)context)->hook);
}

static void test_no_sleep_while_starved_streams_can_be_fed(void **state)
{
    struct shard_group *group = *state;
    int holding_peer;
    int waiting_peer;
    char reply[2 * BUFFER_BYTES];
    char answer[5];
    struct subject holder = open_subject(&holding_peer, IGNORE);
    struct subject waiting = open_subject(&waiting_peer, ECHO);
    waiting.reply = reply;
    assert_true(loopback_write(holding_peer, flood, BUFFERS * BUFFER_BYTES));
    on_shard(group, open_it, &holder);
    assert_true(comes_true(group, is_at_rest, &holder));
    assert_true(loopback_write(waiting_peer, "hello", 5));
    on_shard(group, open_it, &waiting);
    assert_true(comes_true(group, all_is_held, NULL));
    struct late late = {.holder = &holder};
    struct timeval patience = {.tv_sec = 3};
    setsockopt(waiting_peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    on_shard(group, let_go_late, &late);
    assert_int_equal(recv(waiting_peer, answer, sizeof answer, MSG_WAITALL), 5);
    on_shard(group, remove_late, &late);
    finish(group, &holder, false);
    finish(group, &waiting, false);
    close(holding_peer);
    close(waiting_peer);
}

/* A starved stream that is closed is no longer in the list of the starved. */
static void test_closing_a_starved_stream(void **state)
{
    struct shard_group *group = *state;
    int peers[8];
    struct subject subjects[8];
    for (unsigned i = 0; i < 8; i++) {
        subjects[i] = open_subject(&peers[i], IGNORE);
        assert_true(loopback_write(peers[i], flood, 8 * BUFFER_BYTES));
        on_shard(group, open_it, &subjects[i]);
    }
    assert_true(comes_true(group, all_is_held, NULL));
    for (unsigned i = 8; i-- != 0;) {
        finish(group, &subjects[i], i % 2 == 0);
        close(peers[i]);
    }
    assert_true(comes_true(group, buffers_are_back, NULL));
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(subjects[i].closings, 1);
        assert_int_equal(subjects[i].stream.error, 0);
    }
}

/* --- ends ------------------------------------------------------------------------------------------------------- */

static void test_end_and_reset(void **state)
{
    struct shard_group *group = *state;
    for (unsigned reset = 0; reset < 2; reset++) {
        int peer;
        struct subject subject = open_subject(&peer, SWALLOW);
        on_shard(group, open_it, &subject);
        assert_true(loopback_write(peer, "QUIT\r\n", 6));
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        if (reset) {
            setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        }
        close(peer);
        assert_true(comes_true(group, is_over, &subject));
        assert_int_equal(subject.stream.error, reset ? -ECONNRESET : 0);
        assert_int_equal(subject.stream.eof, !reset);
        finish(group, &subject, false);
    }
}

static void test_close_and_abort_with_a_send_in_flight(void **state)
{
    struct shard_group *group = *state;
    for (unsigned abort = 0; abort < 2; abort++) {
        int peer;
        struct subject subject = open_subject(&peer, SWALLOW);
        loopback_narrow(subject.fd, peer);
        subject.send = flood;
        subject.send_bytes = sizeof flood;
        on_shard(group, open_it, &subject);
        on_shard(group, send_it, &subject);
        usleep(10000);
        assert_true(stream_sending(&subject.stream));
        finish(group, &subject, abort != 0);
        char rest[4096];
        ssize_t n;
        do {
            n = recv(peer, rest, sizeof rest, 0);
        } while (n > 0);
        assert_true(abort ? n == -1 && errno == ECONNRESET : n == 0);
        close(peer);
    }
}

static void test_a_send_that_the_peer_refuses(void **state)
{
    struct shard_group *group = *state;
    int peer;
    struct subject subject = open_subject(&peer, SWALLOW);
    loopback_narrow(subject.fd, peer);
    subject.send = flood;
    subject.send_bytes = sizeof flood;
    on_shard(group, open_it, &subject);
    on_shard(group, send_it, &subject);
    usleep(5000);
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(peer);
    assert_true(comes_true(group, is_over, &subject));
    assert_true(comes_true(group, has_sent, &subject));
    assert_true(subject.stream.error == -ECONNRESET || subject.stream.error == -EPIPE);
    finish(group, &subject, false);
}

/* --- connecting ------------------------------------------------------------------------------------------------- */

static void test_connect_talk_and_close(void **state)
{
    struct shard_group *group = *state;
    struct subject subject = {.manner = SWALLOW, .send = "EHLO there\r\n", .send_bytes = 12};
    int listener = loopback_listen(&subject.remote);
    on_shard(group, connect_it, &subject);
    int peer = loopback_accept(listener);
    assert_true(comes_true(group, is_connected, &subject));
    on_shard(group, send_it, &subject);
    char text[12];
    assert_true(loopback_read(peer, text, 12));
    assert_memory_equal(text, "EHLO there\r\n", 12);
    assert_true(loopback_write(peer, "250 ok\r\n", 8));
    shutdown(peer, SHUT_WR);
    assert_true(comes_true(group, is_over, &subject));
    assert_int_equal(subject.swallowed, 8);
    finish(group, &subject, false);
    close(peer);
    close(listener);
}

static void test_connect_refused(void **state)
{
    struct shard_group *group = *state;
    struct subject subject = {.remote = loopback_nobody()};
    on_shard(group, connect_it, &subject);
    assert_true(comes_true(group, is_over, &subject));
    assert_int_equal(subject.stream.error, -ECONNREFUSED);
    assert_int_equal(subject.wakes, 1);
    assert_false(subject.stream.connected);
    finish(group, &subject, false);
}

/* A listener whose queue is full lets a connect wait. */
static void test_close_while_connecting(void **state)
{
    struct shard_group *group = *state;
    struct sockaddr_in address;
    int listener = loopback_listen(&address);
    assert_int_equal(listen(listener, 0), 0);
    int fillers[4];
    for (unsigned i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(connect(fillers[i], (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS);
    }
    for (unsigned abort = 0; abort < 2; abort++) {
        struct subject subject = {.remote = address};
        on_shard(group, connect_it, &subject);
        usleep(5000);
        assert_false(subject.stream.connected);
        finish(group, &subject, abort != 0);
        assert_int_equal(subject.wakes, 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        close(fillers[i]);
    }
    close(listener);
}

static void test_close_at_once(void **state)
{
    struct shard_group *group = *state;
    struct subject subject = {0};
    int listener = loopback_listen(&subject.remote);
    on_shard(group, connect_and_close_it, &subject);
    assert_true(comes_true(group, is_closed, &subject));
    assert_int_equal(subject.wakes, 0);
    close(listener);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_byte_comes_back_in_order),
        TEST(test_unread_input_is_bounded_and_goes_on),
        TEST(test_the_end_behind_a_pause),
        TEST(test_what_is_known_of_a_closed_stream),
        TEST(test_paused_and_starved_at_once),
        TEST(test_starved_streams_are_fed),
        TEST(test_no_sleep_while_starved_streams_can_be_fed),
        TEST(test_closing_a_starved_stream),
        TEST(test_end_and_reset),
        TEST(test_close_and_abort_with_a_send_in_flight),
        TEST(test_a_send_that_the_peer_refuses),
        TEST(test_connect_talk_and_close),
        TEST(test_connect_refused),
        TEST(test_close_while_connecting),
        TEST(test_close_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
