#include "delivery/maildir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "delivery/attempt.h"
#include "delivery/maildir_file.h"
#include "delivery/maildir_text.h"
#include "delivery/outcome.h"
#include "queue/lend.h"
#include "queue/schedule.h"
#include "spool/envelope.h"

#define MAILDIR_RECIPIENTS LEND_RECIPIENTS /* of one message at once */
#define MAILDIR_PAGE 4096u

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* A local destination with something ready. */
struct maildir {
    struct list node; /* in maildirs->ready, or in none */
    struct destination *destination;
};

/* A message that is being written. `attempt` has no session: it is what outcomes are told about. */
struct maildir_job {
    struct maildirs *maildirs;
    bool busy;
    const struct delivery_local *local;
    struct attempt attempt;
    uint32_t entries[MAILDIR_RECIPIENTS];
    struct bytes recipients[MAILDIR_RECIPIENTS];
    unsigned recipient; /* whose file is being written */
    bool headed;        /* its first lines are written */
    unsigned span;      /* of the body, that comes next */
    struct bytes wire;  /* what is left of the one before */
    struct maildir_text text;
    struct maildir_file file;
    struct maildir_quota quota; /* the question before the file, and the news after it */
    char reason[96];
};

struct maildirs {
    struct delivery *delivery;
    struct map locals; /* by domain */
    struct list ready;
    unsigned running;
    struct maildir_job *jobs[DELIVERY_LOCAL_JOBS_MAX]; /* made when they are first needed, then kept */
};

struct maildirs *maildir_new(struct delivery *delivery)
{
    struct maildirs *maildirs = calloc(1, sizeof *maildirs);
    if (maildirs != NULL) {
        maildirs->delivery = delivery;
        list_init(&maildirs->ready);
        maildir_index(maildirs);
    }
    return maildirs;
}

void maildir_delete(struct maildirs *maildirs)
{
    for (unsigned i = 0; i < DELIVERY_LOCAL_JOBS_MAX; i++) {
        CHECK(maildirs->jobs[i] == NULL || !maildirs->jobs[i]->busy);
        free(maildirs->jobs[i]);
    }
    map_free(&maildirs->locals);
    free(maildirs);
}

void maildir_index(struct maildirs *maildirs)
{
    const struct delivery_settings *settings = maildirs->delivery->settings;
    map_free(&maildirs->locals);
    map_init(&maildirs->locals, DELIVERY_LOCALS_MAX);
    for (unsigned i = 0; i < settings->local_count; i++) {
        union {
            const struct delivery_local *constant;
            void *value;
        } pointer = {.constant = &settings->locals[i]};
        CHECK(map_insert(&maildirs->locals, settings->locals[i].domain, pointer.value));
    }
}

const struct delivery_local *maildir_local(const struct maildirs *maildirs, struct bytes domain)
{
    return map_find(&maildirs->locals, domain);
}

static const struct delivery_local *find_local(const struct maildirs *maildirs, const struct destination *destination)
{
    struct bytes domain = destination_domain(destination);
    return map_find(&maildirs->locals, domain.length != 0 ? domain : maildirs->delivery->settings->postmaster_domain);
}

bool maildir_serves(const struct maildirs *maildirs, const struct destination *destination)
{
    return find_local(maildirs, destination) != NULL;
}

unsigned maildir_running(const struct maildirs *maildirs)
{
    return maildirs->running;
}

/* --- destinations --------------------------------------------------------------------------------------------- */

void maildir_ready(struct maildirs *maildirs, struct destination *destination)
{
    struct maildir *maildir = destination->delivery;
    if (maildir == NULL) {
        maildir = calloc(1, sizeof *maildir);
        CHECK(maildir != NULL);
        list_init(&maildir->node);
        maildir->destination = destination;
        destination->delivery = maildir;
        destination->local = true;
    }
    if (list_empty(&maildir->node)) {
        list_push_back(&maildirs->ready, &maildir->node);
        delivery_wake(maildirs->delivery);
    }
}

void maildir_idle(struct maildirs *maildirs, struct destination *destination)
{
    struct maildir *maildir = destination->delivery;
    (void)maildirs;
    if (maildir != NULL) {
        list_remove(&maildir->node);
        free(maildir);
        destination->delivery = NULL;
        destination->local = false;
    }
}

/* --- one recipient -------------------------------------------------------------------------------------------- */

static void job_next(struct maildir_job *job);

static void job_end(struct maildir_job *job, bool corrupt)
{
    struct attempt *attempt = &job->attempt;
    lend_return(attempt->delivery->queue, attempt->spool, attempt->slot, &attempt->view, corrupt);
    job->busy = false;
    job->maildirs->running--;
    delivery_progress(job->maildirs->delivery);
}

static bool has_quota(const struct delivery_local *local)
{
    return local->quota.bytes_max != 0 || local->quota.messages_max != 0;
}

/* The text lives until the next error. Whose mailbox it is the outcome says; what is wrong with it, the system. */
static struct outcome_cause cause_of(struct maildir_job *job, int error)
{
    switch (error) {
    case -EDQUOT: return outcome_local(false, 2, 2, "the mailbox is over its quota");
    case -ENOSPC: return outcome_local(false, 3, 1, "the disk with the mailbox is full");
    case -EACCES:
    case -EPERM:
    case -EROFS: return outcome_local(false, 3, 5, "the mailbox may not be written to");
    case -ENAMETOOLONG: return outcome_local(false, 3, 5, "the path of the mailbox is too long");
    default:
        snprintf(job->reason, sizeof job->reason, "the mailbox cannot be written: %s", strerrordesc_np(-error));
        return outcome_local(false, 3, 0, job->reason);
    }
}

static void recipient_done(struct maildir_job *job, const struct outcome_cause *cause)
{
    if (cause == NULL) {
        outcome_arrived(&job->attempt, job->recipient, "delivered to the mailbox");
    } else {
        outcome_recipient(&job->attempt, job->recipient, cause);
    }
    job->recipient++;
    job_next(job);
}

static void quota_told(struct maildir_quota *quota)
{
    recipient_done(CONTAINER_OF(quota, struct maildir_job, quota), NULL);
}

static void file_done(struct maildir_file *file, int error)
{
    struct maildir_job *job = CONTAINER_OF(file, struct maildir_job, file);
    if (error != 0) {
        struct outcome_cause cause = cause_of(job, error);
        recipient_done(job, &cause);
        return;
    }
    job->quota.bytes = file->offset;
    job->quota.done = quota_told;
    if (!has_quota(job->local) || !maildir_quota_added(&job->quota, job->attempt.delivery->shard)) {
        recipient_done(job, NULL);
    }
}

static void quota_known(struct maildir_quota *quota)
{
    struct maildir_job *job = CONTAINER_OF(quota, struct maildir_job, quota);
    if (quota->over) {
        struct outcome_cause cause = outcome_local(job->local->quota_refuses, 2, 2, "the mailbox is over its quota");
        recipient_done(job, &cause);
    } else {
        maildir_file_begin(&job->file);
    }
}

/* Asks about the quota, where there is one, then writes the file. Who cannot be asked has said nothing. */
static void begin_file(struct maildir_job *job)
{
    struct maildir_quota *quota = &job->quota;
    const struct spool_view *view = &job->attempt.view;
    if (has_quota(job->local)) {
        struct buffer directory = buffer_of(quota->directory, sizeof quota->directory);
        static_assert(sizeof quota->directory >= sizeof job->file.directory, "the same path");
        CHECK(buffer_append_string(&directory, job->file.directory) && buffer_append(&directory, bytes_of("", 1)));
        quota->limits = job->local->quota;
        quota->bytes = view->prologue.length + view->body_bytes;
        quota->done = quota_known;
        if (maildir_quota_ask(quota, job->attempt.delivery->shard)) {
            return;
        }
    }
    maildir_file_begin(&job->file);
}

static void fill(struct maildir_file *file, struct buffer *out)
{
    struct maildir_job *job = CONTAINER_OF(file, struct maildir_job, file);
    const struct spool_view *view = &job->attempt.view;
    if (!job->headed) {
        struct bytes sender = envelope_find(view->envelope, ENVELOPE_SENDER);
        CHECK(maildir_text_head(sender, job->attempt.recipients[job->recipient], out) &&
              maildir_text_prologue(view->prologue, out));
        job->headed = true;
    }
    while (buffer_room(out) >= 2 && (job->wire.length != 0 || job->span != spool_view_spans(view))) {
        if (job->wire.length == 0) {
            job->wire = spool_view_body(view, job->span++);
        }
        maildir_text_convert(&job->text, &job->wire, out);
    }
}

static void job_next(struct maildir_job *job)
{
    struct attempt *attempt = &job->attempt;
    const struct spool_view *view = &attempt->view;
    struct maildir_file *file = &job->file;
    while (job->recipient != attempt->count) {
        struct bytes address = attempt->recipients[job->recipient];
        const char *at = memrchr(address.data, '@', address.length);
        size_t local = at != NULL ? (size_t)(at - address.data) : address.length;
        struct buffer directory = buffer_of(file->directory, sizeof file->directory);
        struct buffer name = buffer_of(file->name, sizeof file->name);
        if (maildir_path_directory(job->local->maildir, job->local->domain, bytes_slice(address, 0, local),
                                   job->local->subaddress, &directory) &&
            maildir_path_name(view->arrival_ms, view->id,
                              schedule_entry(attempt->delivery->queue, job->entries[job->recipient])->recipient,
                              attempt->delivery->settings->hostname, &name)) {
            job->headed = false;
            job->span = 0;
            job->wire = bytes_of("", 0);
            maildir_text_init(&job->text, view->body_bytes, (view->flags & SPOOL_FORMAT_BINARY) != 0,
                              (view->flags & SPOOL_FORMAT_CRLF_ADDED) != 0);
            begin_file(job);
            return;
        }
        struct outcome_cause cause = cause_of(job, -ENAMETOOLONG);
        outcome_recipient(attempt, job->recipient++, &cause);
    }
    job_end(job, false);
}

/* --- the message ---------------------------------------------------------------------------------------------- */

/* The message is gone or damaged: nothing is left to deliver. */
static void finish_entries(struct maildir_job *job)
{
    for (unsigned i = 0; i < job->attempt.count; i++) {
        schedule_finish(job->attempt.delivery->queue, job->entries[i]);
    }
}

/* By place in the envelope: entries of one message in a ready list mostly are, but not after a deferral. */
static bool find_addresses(struct maildir_job *job)
{
    const struct queue *queue = job->attempt.delivery->queue;
    struct envelope_iterator iterator = envelope_iterate(job->attempt.view.envelope);
    struct envelope_item item;
    unsigned found = 0;
    for (unsigned i = 0; found < job->attempt.count && envelope_next_recipient(&iterator, &item); i++) {
        for (unsigned j = 0; j < job->attempt.count; j++) {
            if (schedule_entry(queue, job->entries[j])->recipient == i) {
                job->recipients[j] = item.value;
                found++;
            }
        }
    }
    return found == job->attempt.count;
}

static void job_read(struct maildir_job *job)
{
    struct spool_view *view = &job->attempt.view;
    bool recent = view->recent;
    if (spool_view_read(view) != ERR_OK || (!recent && spool_view_verify(view) != ERR_OK) || !find_addresses(job) ||
        view->prologue.length > MAILDIR_CHUNK_BYTES / 2) {
        finish_entries(job);
        job_end(job, true);
        return;
    }
    job->attempt.transaction.reverse_path = envelope_find(view->envelope, ENVELOPE_SENDER);
    job->recipient = 0;
    job_next(job);
}

static void warm_next(struct maildir_job *job);

static void warm_done(struct op *op, int result, uint32_t flags)
{
    struct maildir_job *job = CONTAINER_OF(op, struct maildir_job, attempt.warm);
    (void)flags;
    if (result == -EFAULT || result == -EIO || result == -EHWPOISON) {
        finish_entries(job);
        job_end(job, true);
    } else {
        warm_next(job);
    }
}

/* As in attempt.c: no page is waited for in the loop. */
static void warm_next(struct maildir_job *job)
{
    struct attempt *attempt = &job->attempt;
    if (attempt->view.recent || attempt->warm_span == spool_view_spans(&attempt->view)) {
        job_read(job);
        return;
    }
    struct bytes span = spool_view_span(&attempt->view, attempt->warm_span++);
    uintptr_t begin = (uintptr_t)span.data & ~(uintptr_t)(MAILDIR_PAGE - 1);
    attempt->warm.done = warm_done;
    ring_madvise(attempt->delivery->shard->ring, &attempt->warm, (void *)begin,
                 (uintptr_t)span.data + span.length - begin, MADV_POPULATE_READ);
}

void maildir_lent(struct maildirs *maildirs, const void *payload, size_t length)
{
    struct lend_answer answer;
    CHECK(length == sizeof answer);
    memcpy(&answer, payload, sizeof answer);
    struct maildir_job *job = maildirs->jobs[answer.job & ~DELIVERY_JOB_LOCAL];
    CHECK(job != NULL && job->busy);
    if (answer.err == ERR_OK) {
        job->attempt.view = answer.view;
        warm_next(job);
        return;
    }
    if (answer.err == ERR_NO_MEMORY) {
        struct outcome_cause cause = outcome_local(false, 3, 0, "out of memory");
        outcome_unseen(&job->attempt, &cause);
    } else {
        finish_entries(job);
    }
    job->busy = false;
    maildirs->running--;
    delivery_progress(maildirs->delivery);
}

/* --- beginning ------------------------------------------------------------------------------------------------ */

static struct maildir_job *free_job(struct maildirs *maildirs, uint32_t *ret_number)
{
    unsigned number = 0;
    while (maildirs->jobs[number] != NULL && maildirs->jobs[number]->busy) {
        number++;
        CHECK(number < DELIVERY_LOCAL_JOBS_MAX);
    }
    if (maildirs->jobs[number] == NULL) {
        maildirs->jobs[number] = calloc(1, sizeof *maildirs->jobs[number]);
        CHECK(maildirs->jobs[number] != NULL);
        maildirs->jobs[number]->maildirs = maildirs;
    }
    *ret_number = number;
    return maildirs->jobs[number];
}

/* Takes a message from the destination whose turn it is, which then goes behind the others. */
static void take_message(struct maildirs *maildirs, struct destination *destination)
{
    struct delivery *delivery = maildirs->delivery;
    uint32_t number = 0;
    struct maildir_job *job = free_job(maildirs, &number);
    destination->out++;
    unsigned count = schedule_take(delivery->queue, destination, job->entries, MAILDIR_RECIPIENTS);
    if (destination->ready != 0) {
        maildir_ready(maildirs, destination);
    }
    if (count != 0) {
        const struct queue_entry *first = schedule_entry(delivery->queue, job->entries[0]);
        job->local = find_local(maildirs, destination);
        job->busy = true;
        maildirs->running++;
        job->attempt = (struct attempt){
            .delivery = delivery,
            .slot = first->slot,
            .spool = first->spool,
            .count = (uint16_t)count,
            .open = (uint16_t)count,
            .entries = job->entries,
            .recipients = job->recipients,
        };
        job->file.ring = delivery->shard->ring;
        job->file.fill = fill;
        job->file.done = file_done;
        metric_add(&delivery->shard->metrics->delivery_attempts, 1);
        lend_borrow(delivery->queue, first, number | DELIVERY_JOB_LOCAL, 0);
    }
    destination->out--;
    schedule_settle(delivery->queue, destination);
}

void maildir_run(struct maildirs *maildirs)
{
    struct delivery *delivery = maildirs->delivery;
    while (!delivery->stopping && maildirs->running < delivery->settings->local_jobs_max &&
           !list_empty(&maildirs->ready)) {
        struct maildir *maildir = LIST_OWNER(list_pop_front(&maildirs->ready), struct maildir, node);
        if (maildir_serves(maildirs, maildir->destination)) {
            take_message(maildirs, maildir->destination);
        }
    }
}
