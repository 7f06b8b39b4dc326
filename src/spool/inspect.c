/* Independent of recovery on purpose: it believes no SEAL and no index, only records, and so can judge both. */
#include "spool/inspect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spool/journal.h"
#include "spool/record.h"
#include "spool/scan.h"
#include "spool/seal.h"
#include "spool/segment.h"

struct inspect_file {
    char name[64];
    int fd;
    bool headless; /* its header is lost; what is in it is known by its records alone */
    uint64_t bytes;
    uint64_t first_sequence; /* UINT64_MAX: unknown */
    struct spool_format_segment header;
};

/* A MESSAGE record, or what an outcome says of one recipient. Sorted by message and sequence. */
struct inspect_fact {
    uint64_t message;
    uint64_t sequence;
    uint64_t offset;
    uint32_t file;
    uint16_t recipient;
    uint8_t status; /* PENDING: the MESSAGE itself */
    bool damaged;   /* of the MESSAGE only the head verifies */
};

struct inspect {
    const struct inspect_settings *settings;
    struct inspect_totals totals;
    struct inspect_file *files;
    uint32_t file_count;
    struct inspect_fact *facts;
    size_t fact_count;
    size_t fact_capacity;
    uint32_t current;
    bool no_memory;
};

static void inspect_damage(struct inspect *inspect, const char *file, uint64_t offset, uint64_t end, const char *what)
{
    inspect->totals.damages++;
    if (inspect->settings->damage != NULL) {
        inspect->settings->damage(inspect->settings->context, file, offset, end, what);
    }
}

/* --- files ------------------------------------------------------------------------------------------------------ */

static int inspect_compare_files(const void *a, const void *b)
{
    const struct inspect_file *left = a;
    const struct inspect_file *right = b;
    uint64_t x = left->headless ? UINT64_MAX : left->header.number;
    uint64_t y = right->headless ? UINT64_MAX : right->header.number;
    return (x > y) - (x < y);
}

/* Without a header: does the first record tell the epoch? */
static bool inspect_guess(struct inspect_file *file)
{
    struct spool_format_record record;
    file->headless = true;
    file->header = (struct spool_format_segment){.bytes = file->bytes};
    if (pread(file->fd, &record, sizeof record, SPOOL_FORMAT_HEADER_BYTES) != (ssize_t)sizeof record ||
        !record_valid(&record, record.epoch, SPOOL_FORMAT_HEADER_BYTES, file->bytes)) {
        return false;
    }
    file->header.epoch = record.epoch;
    return true;
}

/* False when nothing in the file can be known. */
static bool inspect_read_header(struct inspect *inspect, struct inspect_file *file)
{
    char page[SPOOL_FORMAT_HEADER_BYTES] = {0};
    unsigned copies = 0;
    enum err err = pread(file->fd, page, sizeof page, 0) < 0 ? ERR_CORRUPT
                                                             : segment_decode(page, &file->header, &copies);
    if (copies < 2) {
        inspect_damage(inspect, file->name, 0, SPOOL_FORMAT_HEADER_BYTES,
                       copies == 0 ? "the segment's header does not verify" : "a copy of the header does not verify");
    } else if (err == ERR_FORMAT) {
        inspect_damage(inspect, file->name, 0, SPOOL_FORMAT_HEADER_BYTES, "another format version");
    }
    if (err == ERR_CORRUPT && inspect_guess(file)) {
        return true;
    }
    file->bytes = file->header.bytes < file->bytes ? file->header.bytes : file->bytes;
    return err == ERR_OK;
}

/* 0, or -errno when it may not be opened, which says nothing about what is in it. */
static int inspect_open_file(struct inspect *inspect, int directory, const char *name)
{
    size_t length = strlen(name);
    struct inspect_file file = {.fd = openat(directory, name, O_RDONLY | O_CLOEXEC), .first_sequence = UINT64_MAX};
    struct stat status;
    if (file.fd < 0 && errno != EIO) {
        return errno == ENOENT ? 0 : -errno; /* a running server has removed it */
    }
    bool readable = file.fd >= 0 && length < sizeof file.name && fstat(file.fd, &status) == 0 &&
                    status.st_size >= 2 * SPOOL_FORMAT_HEADER_BYTES;
    if (readable) {
        memcpy(file.name, name, length + 1);
        file.bytes = (uint64_t)status.st_size / SPOOL_FORMAT_ALIGN * SPOOL_FORMAT_ALIGN;
    } else {
        inspect_damage(inspect, name, 0, SPOOL_FORMAT_HEADER_BYTES, "too short, or cannot be read");
    }
    if (!readable || !inspect_read_header(inspect, &file)) {
        if (file.fd >= 0) {
            close(file.fd);
        }
        return 0;
    }
    struct spool_format_record record;
    if (!file.headless && pread(file.fd, &record, sizeof record, SPOOL_FORMAT_HEADER_BYTES) == (ssize_t)sizeof record &&
        record_valid(&record, file.header.epoch, SPOOL_FORMAT_HEADER_BYTES, file.bytes)) {
        file.first_sequence = record.sequence;
    }
    struct inspect_file *files = realloc(inspect->files, (inspect->file_count + 1) * sizeof *files);
    if (files == NULL) {
        inspect->no_memory = true;
        close(file.fd);
        return 0;
    }
    inspect->files = files;
    inspect->files[inspect->file_count++] = file;
    return 0;
}

static enum err inspect_open(struct inspect *inspect, char *reason, size_t reason_size)
{
    DIR *directory = opendir(inspect->settings->directory);
    if (directory == NULL) {
        snprintf(reason, reason_size, "%s: %s", inspect->settings->directory, strerror(errno));
        return ERR_IO;
    }
    struct dirent *entry;
    int error = 0;
    while (error == 0 && (entry = readdir(directory)) != NULL) {
        size_t length = strlen(entry->d_name);
        bool wanted = length > 4 && (strcmp(entry->d_name + length - 4, ".seg") == 0 ||
                                     strcmp(entry->d_name + length - 4, ".bad") == 0);
        error = wanted ? inspect_open_file(inspect, dirfd(directory), entry->d_name) : 0;
        if (error != 0) {
            snprintf(reason, reason_size, "%s/%s: %s", inspect->settings->directory, entry->d_name, strerror(-error));
        }
    }
    closedir(directory);
    if (error != 0) {
        return ERR_IO;
    }
    if (inspect->file_count > 0) {
        qsort(inspect->files, inspect->file_count, sizeof *inspect->files, inspect_compare_files);
    }
    return ERR_OK;
}

/* --- records ---------------------------------------------------------------------------------------------------- */

static void inspect_note(struct inspect *inspect, const struct inspect_fact *fact)
{
    if (inspect->fact_count == inspect->fact_capacity) {
        size_t capacity = inspect->fact_capacity == 0 ? 1024 : inspect->fact_capacity * 2;
        struct inspect_fact *facts = realloc(inspect->facts, capacity * sizeof *facts);
        if (facts == NULL) {
            inspect->no_memory = true;
            return;
        }
        inspect->facts = facts;
        inspect->fact_capacity = capacity;
    }
    inspect->facts[inspect->fact_count++] = *fact;
}

static void inspect_record(void *opaque, const struct spool_format_record *record, uint64_t offset,
                           struct bytes payload)
{
    struct inspect *inspect = opaque;
    struct inspect_fact fact = {
        .message = record->message, .sequence = record->sequence, .offset = offset, .file = inspect->current};
    inspect->totals.records++;
    if (inspect->settings->record != NULL) {
        inspect->settings->record(inspect->settings->context, inspect->files[inspect->current].name, offset, record,
                                  payload);
    }
    struct spool_format_outcome outcome;
    struct journal_item item;
    if (record->type == SPOOL_FORMAT_MESSAGE) {
        inspect_note(inspect, &fact);
    } else if (record->type == SPOOL_FORMAT_OUTCOME) {
        struct journal_iterator items = journal_outcome(payload, &outcome);
        while (journal_next(&items, &item)) {
            fact.recipient = item.state.recipient;
            fact.status = item.state.status;
            inspect_note(inspect, &fact);
        }
    } else if (record->type == SPOOL_FORMAT_GRAVES) {
        struct spool_format_grave grave;
        for (; payload.length >= sizeof grave; bytes_advance(&payload, sizeof grave)) {
            memcpy(&grave, payload.data, sizeof grave);
            fact.message = grave.message;
            fact.recipient = grave.recipient;
            fact.status = grave.status;
            inspect_note(inspect, &fact);
        }
    }
}

/* A damaged MESSAGE whose head verifies can still be told by its envelope. */
static void inspect_note_damaged(struct inspect *inspect, uint64_t offset)
{
    const struct inspect_file *file = &inspect->files[inspect->current];
    struct spool_format_record record;
    if (pread(file->fd, &record, sizeof record, (off_t)offset) == (ssize_t)sizeof record &&
        record_valid(&record, file->header.epoch, offset, file->bytes) && record.type == SPOOL_FORMAT_MESSAGE) {
        inspect_note(inspect, &(struct inspect_fact){.message = record.message,
                                                     .sequence = record.sequence,
                                                     .offset = offset,
                                                     .file = inspect->current,
                                                     .damaged = true});
    }
}

/* Whether SEAL and trailer verify; where records end. */
static bool inspect_seal(struct inspect *inspect, const struct inspect_file *file, uint64_t *ret_end)
{
    struct spool_format_seal seal;
    struct spool_format_entry *entries = NULL;
    enum err err = seal_find(file->fd, file->header.epoch, file->bytes, ret_end);
    if (err == ERR_CORRUPT && file->first_sequence != UINT64_MAX) {
        inspect_damage(inspect, file->name, file->bytes - sizeof(struct spool_format_trailer), file->bytes,
                       "the trailer does not verify");
    }
    if (err != ERR_OK) {
        return false;
    }
    err = seal_read(file->fd, file->header.epoch, file->bytes, *ret_end, &seal, &entries);
    if (err == ERR_OK) {
        free(entries);
    } else {
        inspect_damage(inspect, file->name, *ret_end, file->bytes, "the seal does not verify");
    }
    return true;
}

static void inspect_damaged(void *opaque, uint64_t offset, uint64_t end, uint64_t records)
{
    struct inspect *inspect = opaque;
    char what[64];
    snprintf(what, sizeof what, "%llu records do not verify", (unsigned long long)records);
    inspect_damage(inspect, inspect->files[inspect->current].name, offset, end, what);
    inspect_note_damaged(inspect, offset);
}

static enum err inspect_scan(struct inspect *inspect, uint64_t *expected)
{
    struct inspect_file *file = &inspect->files[inspect->current];
    uint64_t end = 0;
    bool sealed = inspect_seal(inspect, file, &end);
    inspect->totals.segments++;
    if (inspect->settings->segment != NULL) {
        inspect->settings->segment(inspect->settings->context, file->name, &file->header, sealed);
    }
    struct scan scan = {
        .fd = file->fd,
        .epoch = file->header.epoch,
        .bytes = file->bytes,
        .end = sealed ? end : 0,
        .expected = file->headless                            ? 0
                    : *expected > file->header.sequence_floor ? *expected
                                                              : file->header.sequence_floor,
        .bound = UINT64_MAX,
        .context = inspect,
        .record = inspect_record,
        .damaged = inspect_damaged,
    };
    for (uint32_t i = inspect->current + 1; i < inspect->file_count; i++) {
        uint64_t first = inspect->files[i].first_sequence;
        scan.bound = first < scan.bound ? first : scan.bound;
    }
    scan.last = scan.bound == UINT64_MAX && !sealed;
    enum err err = scan_run(&scan);
    if (err == ERR_OK && scan.records > 0 && !file->headless) {
        *expected = scan.next_sequence;
    }
    return err;
}

/* --- messages --------------------------------------------------------------------------------------------------- */

static int inspect_compare_facts(const void *a, const void *b)
{
    const struct inspect_fact *left = a;
    const struct inspect_fact *right = b;
    if (left->message != right->message) {
        return left->message < right->message ? -1 : 1;
    }
    return (left->sequence > right->sequence) - (left->sequence < right->sequence);
}

/* A record's payload in malloc'ed memory, or NULL when its header does not verify. Does the payload? */
static char *inspect_payload(const struct inspect_file *file, uint64_t offset, struct spool_format_record *ret_record,
                             bool *ret_verifies)
{
    if (pread(file->fd, ret_record, sizeof *ret_record, (off_t)offset) != (ssize_t)sizeof *ret_record ||
        !record_valid(ret_record, file->header.epoch, offset, file->bytes)) {
        return NULL;
    }
    char *payload = malloc((size_t)ret_record->payload_bytes + 1);
    struct iovec piece = {.iov_base = payload, .iov_len = ret_record->payload_bytes};
    if (payload != NULL) {
        memset(payload, 0, piece.iov_len);
        *ret_verifies = pread(file->fd, payload, piece.iov_len, (off_t)(offset + sizeof *ret_record)) ==
                            (ssize_t)piece.iov_len &&
                        record_hash(&piece, 1) == ret_record->payload_hash;
    }
    return payload;
}

static bool inspect_append_extent(const struct inspect *inspect, uint64_t id, struct spool_format_extent extent,
                                  struct buffer *text, bool *verifies)
{
    for (uint32_t i = 0; i < inspect->file_count; i++) {
        struct spool_format_record record;
        bool whole = false;
        if (inspect->files[i].header.epoch != extent.epoch) {
            continue;
        }
        char *payload = inspect_payload(&inspect->files[i], (uint64_t)extent.position * SPOOL_FORMAT_ALIGN, &record,
                                        &whole);
        *verifies &= whole;
        bool good = payload != NULL && record.message == id && record.payload_bytes == extent.payload_bytes &&
                    buffer_append(text, bytes_of(payload, record.payload_bytes));
        free(payload);
        return good;
    }
    return false;
}

/* Prologue and body in one piece; NULL when a part is missing. *verifies becomes false when an extent does not. */
static char *inspect_text(const struct inspect *inspect, const struct record_message *message, struct bytes *ret_text,
                          bool *verifies)
{
    uint64_t bytes = message->fixed.prologue_bytes + message->fixed.total_body_bytes;
    char *data = malloc(bytes + 1);
    struct buffer text = buffer_of(data, data != NULL ? bytes : 0);
    bool good = data != NULL && buffer_append(&text, message->prologue);
    for (uint32_t i = 0; good && i < message->fixed.extents; i++) {
        good = inspect_append_extent(inspect, message->fixed.id, record_extent(message, i), &text, verifies);
    }
    if (!good || !buffer_append(&text, message->body)) {
        free(data);
        return NULL;
    }
    *ret_text = buffer_bytes(&text);
    return data;
}

static void inspect_apply(uint8_t *statuses, uint16_t recipients, uint16_t recipient, uint8_t status)
{
    if (recipient < recipients && !journal_final(statuses[recipient])) {
        statuses[recipient] = status;
    }
}

/* What the copy says, then what came after it; a final outcome counts wherever it is. Returns the recipients left. */
static uint16_t inspect_statuses(const struct record_message *message, const struct inspect_fact *copy,
                                 const struct inspect_fact *facts, size_t count, uint8_t *statuses)
{
    uint16_t recipients = message->fixed.recipients;
    struct journal_iterator states = journal_iterate(message->states);
    struct journal_item item;
    while (journal_next(&states, &item)) {
        inspect_apply(statuses, recipients, item.state.recipient, item.state.status);
    }
    for (size_t i = 0; i < count; i++) {
        if (facts[i].status != SPOOL_FORMAT_PENDING &&
            (facts[i].sequence > copy->sequence || journal_final(facts[i].status))) {
            inspect_apply(statuses, recipients, facts[i].recipient, facts[i].status);
        }
    }
    uint16_t left = 0;
    for (uint16_t i = 0; i < recipients; i++) {
        left = (uint16_t)(left + !journal_final(statuses[i]));
    }
    return left;
}

static void inspect_announce(struct inspect *inspect, const struct record_message *message,
                             const struct inspect_fact *copy, const uint8_t *statuses, bool verifies)
{
    const char *name = inspect->files[copy->file].name;
    struct bytes text = {0};
    bool whole = verifies;
    char *data = inspect_text(inspect, message, &text, &whole);
    if (data == NULL) {
        inspect_damage(inspect, name, copy->offset, copy->offset + SPOOL_FORMAT_ALIGN, "an extent is missing");
    }
    const struct inspect_message found = {
        .id = message->fixed.id,
        .arrival_ms = message->fixed.arrival_ms,
        .flags = message->fixed.flags,
        .recipients = message->fixed.recipients,
        .statuses = statuses,
        .envelope = message->envelope,
        .text = text,
        .complete = data != NULL && whole,
        .file = name,
        .offset = copy->offset,
    };
    if (inspect->settings->message != NULL) {
        inspect->settings->message(inspect->settings->context, &found);
    }
    free(data);
}

/* All facts about one message, in order. Its last copy counts; without one these are outcomes of a message whose
 * segment was emptied long ago. */
static void inspect_one(struct inspect *inspect, const struct inspect_fact *facts, size_t count)
{
    const struct inspect_fact *copy = NULL;
    for (size_t i = 0; i < count; i++) {
        copy = facts[i].status == SPOOL_FORMAT_PENDING ? &facts[i] : copy;
    }
    if (copy == NULL) {
        return;
    }
    struct spool_format_record record;
    struct record_message message;
    uint64_t needed;
    bool verifies = false;
    char *payload = inspect_payload(&inspect->files[copy->file], copy->offset, &record, &verifies);
    if (payload == NULL || record_read_message(bytes_of(payload, record.payload_bytes), record.payload_bytes, &message,
                                               &needed) != ERR_OK) {
        if (!copy->damaged) { /* else it was told */
            inspect_damage(inspect, inspect->files[copy->file].name, copy->offset, copy->offset + sizeof record,
                           "a message is not well formed");
        }
        free(payload);
        return;
    }
    uint8_t *statuses = calloc(message.fixed.recipients, 1);
    if (statuses != NULL) {
        uint16_t left = inspect_statuses(&message, copy, facts, count, statuses);
        inspect->totals.messages += left > 0;
        inspect->totals.recipients += left;
        if (left > 0) {
            inspect_announce(inspect, &message, copy, statuses, verifies);
        }
    }
    inspect->no_memory |= statuses == NULL;
    free(statuses);
    free(payload);
}

static void inspect_messages(struct inspect *inspect)
{
    if (inspect->fact_count > 0) {
        qsort(inspect->facts, inspect->fact_count, sizeof *inspect->facts, inspect_compare_facts);
    }
    for (size_t first = 0, end; first < inspect->fact_count; first = end) {
        end = first + 1;
        while (end < inspect->fact_count && inspect->facts[end].message == inspect->facts[first].message) {
            end++;
        }
        inspect_one(inspect, inspect->facts + first, end - first);
    }
}

enum err inspect_run(const struct inspect_settings *settings, struct inspect_totals *ret_totals, char *reason,
                     size_t reason_size)
{
    struct inspect inspect = {.settings = settings};
    uint64_t expected = 1;
    enum err err = inspect_open(&inspect, reason, reason_size);
    for (; err == ERR_OK && inspect.current < inspect.file_count; inspect.current++) {
        err = inspect_scan(&inspect, &expected);
    }
    if (err == ERR_OK) {
        inspect_messages(&inspect);
    }
    for (uint32_t i = 0; i < inspect.file_count; i++) {
        close(inspect.files[i].fd);
    }
    free(inspect.files);
    free(inspect.facts);
    if (err == ERR_NO_MEMORY || inspect.no_memory) {
        snprintf(reason, reason_size, "%s: no memory", settings->directory);
        return ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        *ret_totals = inspect.totals;
    }
    return err;
}
