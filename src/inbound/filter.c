#include "inbound/filter.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "milter/milter_say.h"

#define WARNINGS_MS 1000 /* a filter that fails is not said more often, or each message would be a line */

static void free_large(struct filter *filter);

static void free_filter(struct filter *filter)
{
    struct inbound *inbound = filter->inbound;
    free_large(filter);
    inbound->question_count--;
    profile_give(filter->profile);
    free(filter);
    inbound_settle(inbound);
}

static void closed(struct stream *stream)
{
    free_filter(CONTAINER_OF(stream, struct filter, stream));
}

static void wake(struct filter *filter)
{
    if (filter->owner != NULL) {
        filter->woken(filter->owner);
    }
}

static void stream_woken(struct stream *stream)
{
    wake(CONTAINER_OF(stream, struct filter, stream));
}

void filter_lose(struct filter *filter, const char *reason)
{
    if (filter->lost != NULL) {
        return;
    }
    struct inbound *inbound = filter->inbound;
    filter->lost = reason;
    filter->listening = false;
    shard_disarm(inbound->shard, &filter->timer);
    metric_add(&filter->metrics->failures, 1);
    if (inbound->filter_warned_ms == 0 || inbound->shard->now_ms >= inbound->filter_warned_ms + WARNINGS_MS) {
        char name[128];
        char why[128];
        inbound->filter_warned_ms = inbound->shard->now_ms;
        log_line(LOG_WARNING, "milter failed", "milter=%s reason=%s",
                 log_quote(bytes_of_string(filter->settings->name), name, sizeof name),
                 log_quote(bytes_of_string(reason), why, sizeof why));
    }
}

static void timer_fired(struct timer *timer)
{
    struct filter *filter = CONTAINER_OF(timer, struct filter, timer);
    if (filter->inbound->shard->now_ms < filter->deadline_ms) {
        shard_arm(filter->inbound->shard, timer, filter->deadline_ms - filter->inbound->shard->now_ms);
        return;
    }
    filter_lose(filter, filter->milter.ready ? "no answer in time" : "no connection in time");
    wake(filter);
}

/* The timer is moved forward only when it fires. */
static void set_deadline(struct filter *filter, uint64_t wait_ms)
{
    struct shard *shard = filter->inbound->shard;
    filter->wait_ms = wait_ms;
    filter->deadline_ms = shard->now_ms + wait_ms;
    if (!wheel_armed(&filter->timer) || filter->timer.expires_ms > filter->deadline_ms) {
        shard_arm(shard, &filter->timer, wait_ms);
    }
}

struct filter *filter_new(struct inbound *inbound, struct profile *profile, unsigned index, void (*woken)(void *owner),
                          void *owner)
{
    struct filter *filter = malloc(sizeof *filter);
    if (filter == NULL) {
        return NULL;
    }
    const struct inbound_filter *settings = &profile->filters[index];
    memset(filter, 0, offsetof(struct filter, in));
    filter->inbound = inbound;
    filter->profile = profile_take(profile);
    filter->settings = settings;
    filter->metrics = metric_milter_of(inbound->shard->metrics, settings->name);
    filter->woken = woken;
    filter->owner = owner;
    filter->out = buffer_of(filter->room, sizeof filter->room);
    milter_reader_init(&filter->reader, filter->in, sizeof filter->in);
    wheel_timer_init(&filter->timer, timer_fired);
    inbound->question_count++;
    const struct sockaddr *address = (const struct sockaddr *)&settings->endpoint.address;
    int error = stream_connect(&filter->stream, inbound->shard, address, settings->endpoint.length, NULL, 0,
                               stream_woken);
    filter->open = error == 0;
    if (error != 0) {
        filter_lose(filter, strerror(-error));
    } else {
        set_deadline(filter, settings->connect_ms);
    }
    return filter;
}

/* In one piece: what is said in front, what is heard behind. They are the filter's own, because the kernel may look at
 * what is being said until the connection is closed. */
bool filter_enlarge(struct filter *filter)
{
    struct body_pool *pool = &filter->inbound->bodies;
    if (filter->large == NULL && body_pool_reserve(pool, FILTER_LARGE_BYTES)) {
        filter->large = malloc(FILTER_LARGE_BYTES);
        if (filter->large == NULL) {
            body_pool_return(pool, FILTER_LARGE_BYTES);
        }
    }
    if (filter->large == NULL || !milter_reader_empty(&filter->reader)) {
        return false;
    }
    if (filter->out.data == filter->large) {
        return true;
    }
    filter->out = buffer_of(filter->large, MILTER_CONTENT_BYTES);
    milter_reader_init(&filter->reader, filter->large + MILTER_CONTENT_BYTES, MILTER_EDIT_BYTES_MAX);
    return true;
}

static void free_large(struct filter *filter)
{
    if (filter->large != NULL) {
        free(filter->large);
        body_pool_return(&filter->inbound->bodies, FILTER_LARGE_BYTES);
        filter->large = NULL;
    }
}

void filter_reduce(struct filter *filter)
{
    if (filter->lost == NULL && filter->large != NULL && !stream_sending(&filter->stream)) {
        if (!milter_reader_empty(&filter->reader)) {
            filter_lose(filter, "octets that nobody asked for");
        }
        free_large(filter);
        filter->out = buffer_of(filter->room, sizeof filter->room);
        milter_reader_init(&filter->reader, filter->in, sizeof filter->in);
    }
}

void filter_say(struct filter *filter, enum milter_step step, uint64_t wait_ms)
{
    CHECK(filter->lost == NULL && !filter->listening && !stream_sending(&filter->stream) && filter->out.length != 0);
    if (stream_input(&filter->stream).length != 0 || !milter_reader_empty(&filter->reader)) {
        filter_lose(filter, "octets that nobody asked for");
        return;
    }
    struct iovec piece = {.iov_base = filter->out.data, .iov_len = filter->out.length};
    filter->spoken = true;
    filter->step = (uint8_t)step;
    filter->listening = step == MILTER_STEP_OPTIONS || milter_answers(&filter->milter, step);
    filter->asked_ns = clock_monotonic_ns();
    metric_add(&filter->metrics->requests, 1);
    set_deadline(filter, wait_ms);
    stream_send(&filter->stream, &piece, 1);
}

/* One packet, if there is one. */
static enum filter_state hear(struct filter *filter, enum milter_meaning *ret_meaning)
{
    struct bytes run;
    while ((run = stream_input(&filter->stream)).length != 0) {
        struct bytes input = run;
        struct milter_packet packet;
        enum milter_read read = milter_read(&filter->reader, &input, &packet);
        stream_consume(&filter->stream, run.length - input.length);
        if (read == MILTER_READ_MORE) {
            continue;
        }
        enum milter_meaning meaning = MILTER_BROKEN;
        if (read == MILTER_READ_PACKET) {
            meaning = milter_take(&filter->milter, (enum milter_step)filter->step, &packet, &filter->reply);
        }
        if (meaning == MILTER_BROKEN) {
            filter_lose(filter, "an answer that is none");
            return FILTER_LOST;
        }
        set_deadline(filter, filter->wait_ms);
        if (meaning != MILTER_PROGRESS) {
            *ret_meaning = meaning;
            return FILTER_HEARD;
        }
    }
    return FILTER_WAIT;
}

enum filter_state filter_look(struct filter *filter, enum milter_meaning *ret_meaning)
{
    struct stream *stream = &filter->stream;
    if (filter->lost != NULL) {
        return FILTER_LOST;
    }
    if (filter->listening) {
        enum filter_state state = hear(filter, ret_meaning);
        if (state == FILTER_HEARD && *ret_meaning != MILTER_EDIT) {
            uint64_t took_ns = clock_monotonic_ns() - filter->asked_ns;
            metric_add(&filter->metrics->wait_us, took_ns / 1000);
            histogram_record(&filter->inbound->shard->metrics->milter_latency, took_ns / 1000);
            filter->listening = false;
            shard_disarm(filter->inbound->shard, &filter->timer);
        }
        if (state != FILTER_WAIT) {
            return state;
        }
    }
    if (stream->error != 0) {
        filter_lose(filter, strerror(-stream->error));
        return FILTER_LOST;
    }
    if (stream->eof) {
        filter_lose(filter, "the connection has ended");
        return FILTER_LOST;
    }
    if (filter->listening || !stream->connected || stream_sending(stream)) {
        return FILTER_WAIT;
    }
    shard_disarm(filter->inbound->shard, &filter->timer);
    filter->out.length = filter->spoken ? 0 : filter->out.length;
    filter->spoken = false;
    return FILTER_READY;
}

bool filter_end_transaction(struct filter *filter)
{
    struct stream *stream = &filter->stream;
    bool tell = milter_end_transaction(&filter->milter);
    if (filter->lost != NULL || filter->listening || !stream->connected || stream_sending(stream) ||
        stream->error != 0 || stream->eof) {
        return false;
    }
    filter_reduce(filter);
    if (filter->lost == NULL && tell) {
        filter->out.length = 0;
        filter->spoken = true;
        struct iovec piece = {.iov_base = filter->out.data};
        CHECK(milter_say_abort(&filter->out));
        piece.iov_len = filter->out.length;
        stream_send(stream, &piece, 1);
    }
    return filter->lost == NULL;
}

void filter_close(struct filter *filter)
{
    struct stream *stream = &filter->stream;
    filter->owner = NULL;
    shard_disarm(filter->inbound->shard, &filter->timer);
    if (!filter->open) {
        free_filter(filter);
        return;
    }
    bool idle = filter->lost == NULL && filter->milter.ready && !filter->listening && stream->connected &&
                stream->error == 0 && !stream->eof && !stream_sending(stream);
    if (idle) {
        filter->out = buffer_of(filter->room, sizeof filter->room);
    }
    if (idle && milter_say_quit(&filter->out)) {
        struct iovec piece = {.iov_base = filter->out.data, .iov_len = filter->out.length};
        stream_send(stream, &piece, 1);
    }
    stream_close(stream, !idle, closed);
}
