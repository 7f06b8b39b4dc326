/* `ringpost spool`: looking into a spool's files, of a running server too, without changing anything; and, by way of
 * the server, what becomes of mail that does not verify. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/cli_quarantine.h"
#include "core/file.h"
#include "smtp/unstuff.h"
#include "spool/envelope.h"
#include "spool/inspect.h"

#define CLI_SPOOL_NUMBERS 256 /* directories <root>/0 to <root>/255 */
#define CLI_SPOOL_SOCKET "/run/ringpost/control.sock"

enum { OPTION_CONFIG, OPTION_PATH, OPTION_OUTPUT, OPTION_SOCKET, OPTION_ID, OPTION_ALL };

static const struct cli_option options[] = {
    [OPTION_CONFIG] = {'c', "config", "FILE", "whose spool.path (default " CLI_CONFIG_PATH ")"},
    [OPTION_PATH] = {'p', "path", "DIRECTORY", "the spool itself, instead of a configuration"},
    [OPTION_OUTPUT] = {'o', "output", "DIRECTORY", "export: where to (made when missing)"},
    [OPTION_SOCKET] = {'s', "socket", "PATH",
                       "quarantine, drop, forget: the control socket (default " CLI_SPOOL_SOCKET ")"},
    [OPTION_ID] = {'i', "id", "ID", "drop: this message"},
    [OPTION_ALL] = {'a', "all", NULL, "drop: all of them"},
    {.name = NULL},
};

enum action { ACTION_CHECK, ACTION_DUMP, ACTION_EXPORT, ACTION_QUARANTINE, ACTION_DROP, ACTION_FORGET, ACTIONS };

static const char *const actions[ACTIONS] = {"check", "dump", "export", "quarantine", "drop", "forget"};

struct look {
    enum action action;
    const char *root;
    const char *output;
    unsigned number;
    uint64_t exported;
    int error; /* errno of the first thing that could not be put into the file being written; 0: none */
    bool failed;
};

/* --- what is seen -------------------------------------------------------------------------------------------- */

static void saw_segment(void *context, const char *file, const struct spool_format_segment *header, bool sealed)
{
    const struct look *look = context;
    printf("%u/%s segment number=%" PRIu64 " epoch=%016" PRIx64 " bytes=%" PRIu64 " %s\n", look->number, file,
           header->number, header->epoch, header->bytes, sealed ? "sealed" : "open");
}

static const char *type_name(unsigned type)
{
    static const char *const names[] = {
        [SPOOL_FORMAT_EXTENT] = "extent", [SPOOL_FORMAT_MESSAGE] = "message", [SPOOL_FORMAT_OUTCOME] = "outcome",
        [SPOOL_FORMAT_GRAVES] = "graves", [SPOOL_FORMAT_SEAL] = "seal",
    };
    return type < sizeof names / sizeof names[0] && names[type] != NULL ? names[type] : "unknown";
}

static void saw_record(void *context, const char *file, uint64_t offset, const struct spool_format_record *record,
                       struct bytes payload)
{
    const struct look *look = context;
    printf("%u/%s:%" PRIu64 " %s sequence=%" PRIu64 " id=%016" PRIx64 " bytes=%zu\n", look->number, file, offset,
           type_name(record->type), record->sequence, record->message, payload.length);
}

/* --- export -------------------------------------------------------------------------------------------------- */

/* The operator may drop from the spool what was exported. So an export that is incomplete, or not on the disk, is never
 * counted as one. */

static void complain(struct look *look, const char *path, const char *what)
{
    fprintf(stderr, "ringpost spool: %s: %s\n", path, what);
    look->failed = true;
}

static FILE *create(struct look *look, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", look->output, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (file == NULL) {
        complain(look, path, strerror(errno));
    }
    return file;
}

static void put(struct look *look, FILE *file, struct bytes text)
{
    if (text.length != 0 && fwrite(text.data, 1, text.length, file) != text.length && look->error == 0) {
        look->error = errno;
    }
}

/* False when not all of it is on the disk. */
static bool finish(struct look *look, FILE *file, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", look->output, name);
    if (look->error == 0 && (fflush(file) != 0 || (fsync(fileno(file)) != 0 && errno != EINVAL))) {
        look->error = errno;
    }
    fclose(file);
    bool good = look->error == 0;
    if (!good) {
        complain(look, path, strerror(look->error));
    }
    look->error = 0;
    return good;
}

/* The names of what was exported. */
static void finish_directory(struct look *look)
{
    int fd = open(look->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) {
        complain(look, look->output, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void copy_raw(struct look *look, const char *path, int fd, uint64_t offset, uint64_t end, FILE *out)
{
    char data[65536];
    while (offset < end) {
        ssize_t n = pread(fd, data, end - offset < sizeof data ? end - offset : sizeof data, (off_t)offset);
        if (n <= 0) {
            char what[128];
            snprintf(what, sizeof what, "cannot be read from %" PRIu64 " on: %s", offset,
                     n < 0 ? strerror(errno) : "it ends there");
            complain(look, path, what);
            return;
        }
        put(look, out, bytes_of(data, (size_t)n));
        offset += (uint64_t)n;
    }
}

/* The bytes as they are, for whoever can read something in them. */
static void export_raw(struct look *look, const char *file, uint64_t offset, uint64_t end)
{
    char path[4096];
    char name[128];
    snprintf(path, sizeof path, "%s/%u/%s", look->root, look->number, file);
    snprintf(name, sizeof name, "%u-%.64s-%" PRIu64 ".raw", look->number, file, offset);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        complain(look, path, strerror(errno));
        return;
    }
    FILE *out = create(look, name);
    if (out != NULL) {
        copy_raw(look, path, fd, offset, end, out);
        finish(look, out, name);
    }
    close(fd);
}

static void saw_damage(void *context, const char *file, uint64_t offset, uint64_t end, const char *what)
{
    struct look *look = context;
    printf("%s/%u/%s:%" PRIu64 ": damaged up to %" PRIu64 ": %s\n", look->root, look->number, file, offset, end, what);
    if (look->action == ACTION_EXPORT) {
        export_raw(look, file, offset, end);
    }
}

static bool cut(struct bytes *text, struct bytes end)
{
    bool there = text->length >= end.length &&
                 memcmp(text->data + text->length - end.length, end.data, end.length) == 0;
    text->length -= there ? end.length : 0;
    return there;
}

/* As its sender has it: without the stuffed dots and the final one (RFC 5321 4.5.2), and without the end of the last
 * line when that was ours. Where a line is one that only ends with LF, as in a binary body, a dot is its own. */
static void put_text(struct look *look, FILE *file, const struct inspect_message *message)
{
    char room[65536];
    struct bytes text = message->text;
    struct unstuff unstuff = {0};
    if (cut(&text, BYTES(".\r\n")) && (message->flags & SPOOL_FORMAT_CRLF_ADDED) != 0) {
        cut(&text, BYTES("\r\n"));
    }
    while (text.length != 0) {
        struct buffer out = buffer_of(room, sizeof room);
        bytes_advance(&text, unstuff_copy(&unstuff, text, &out));
        put(look, file, buffer_bytes(&out));
    }
}

static json_t *json_text(struct bytes text)
{
    json_t *value = json_stringn(text.data, text.length);
    return value != NULL ? value : json_string("(not UTF-8)");
}

static void put_envelope(struct look *look, FILE *file, const struct inspect_message *message)
{
    static const char *const statuses[] = {"pending",   "deferred", "held",    "quarantined",
                                           "delivered", "failed",   "expired", "removed"};
    char id[20];
    snprintf(id, sizeof id, "%016" PRIx64, message->id);
    json_t *recipients = json_array();
    struct envelope_iterator iterator = envelope_iterate(message->envelope);
    struct envelope_item item;
    for (unsigned i = 0; i < message->recipients && envelope_next_recipient(&iterator, &item); i++) {
        const char *status = message->statuses[i] < 8 ? statuses[message->statuses[i]] : "unknown";
        json_array_append_new(recipients, json_pack("{s:o, s:s}", "address", json_text(item.value), "status", status));
    }
    json_t *envelope = json_pack(
        "{s:s, s:o, s:I, s:b, s:o}", "id", id, "sender", json_text(envelope_find(message->envelope, ENVELOPE_SENDER)),
        "arrival_ms", (json_int_t)message->arrival_ms, "complete", message->complete, "recipients", recipients);
    char *dump = json_dumps(envelope, JSON_INDENT(2));
    json_decref(envelope);
    if (dump == NULL) {
        look->error = ENOMEM;
        return;
    }
    put(look, file, bytes_of_string(dump));
    put(look, file, BYTES("\n"));
    free(dump);
}

/* Writes one file of a message; false, and it is said why, when that fails. */
static bool export_file(struct look *look, const struct inspect_message *message, const char *suffix,
                        void (*put_it)(struct look *look, FILE *file, const struct inspect_message *message))
{
    char name[64];
    snprintf(name, sizeof name, "%016" PRIx64 ".%s", message->id, suffix);
    FILE *file = create(look, name);
    if (file == NULL) {
        return false;
    }
    put_it(look, file, message);
    return finish(look, file, name);
}

static void saw_message(void *context, const struct inspect_message *message)
{
    struct look *look = context;
    bool good = export_file(look, message, "json", put_envelope);
    if (message->text.length != 0) {
        good = export_file(look, message, message->complete ? "eml" : "eml.damaged", put_text) && good;
    }
    look->exported += good;
}

/* --- the command --------------------------------------------------------------------------------------------- */

static bool look_into(struct look *look, struct inspect_totals *sum)
{
    char directory[4096];
    char reason[256] = "";
    snprintf(directory, sizeof directory, "%s/%u", look->root, look->number);
    struct inspect_settings settings = {
        .directory = directory,
        .context = look,
        .segment = look->action == ACTION_DUMP ? saw_segment : NULL,
        .record = look->action == ACTION_DUMP ? saw_record : NULL,
        .damage = saw_damage,
        .message = look->action == ACTION_EXPORT ? saw_message : NULL,
    };
    struct inspect_totals totals = {0};
    if (inspect_run(&settings, &totals, reason, sizeof reason) != ERR_OK) {
        fprintf(stderr, "ringpost spool: %s\n", reason);
        return false;
    }
    sum->segments += totals.segments;
    sum->records += totals.records;
    sum->messages += totals.messages;
    sum->recipients += totals.recipients;
    sum->damages += totals.damages;
    return true;
}

/* Every segment is open at once. */
static void take_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run_action(struct look *look)
{
    struct inspect_totals sum = {0};
    unsigned spools = 0;
    take_descriptors();
    if (look->action == ACTION_EXPORT && file_make_directories(look->output, 0700) != 0) {
        fprintf(stderr, "ringpost spool: %s: %s\n", look->output, strerror(errno));
        return CLI_FAILED;
    }
    for (look->number = 0; look->number < CLI_SPOOL_NUMBERS; look->number++) {
        char directory[4096];
        snprintf(directory, sizeof directory, "%s/%u", look->root, look->number);
        if (access(directory, F_OK) == 0) {
            spools++;
            look->failed |= !look_into(look, &sum);
        }
    }
    if (spools == 0) {
        bool may = access(look->root, X_OK) == 0;
        complain(look, look->root, may ? "no spool there, expected directories 0, 1, ..." : strerror(errno));
        return CLI_FAILED;
    }
    printf("%u spools, %" PRIu32 " segments, %" PRIu64 " records, %" PRIu64 " messages queued for %" PRIu64
           " recipients, %" PRIu64 " damages\n",
           spools, sum.segments, sum.records, sum.messages, sum.recipients, sum.damages);
    if (look->action == ACTION_EXPORT) {
        finish_directory(look);
        printf("%" PRIu64 " messages exported to %s%s\n", look->exported, look->output,
               look->failed ? "; not all that was to be: see the errors" : "");
    }
    return look->failed ? CLI_FAILED : sum.damages != 0 ? CLI_DATA : CLI_OK;
}

static int run_in(struct look *look, const char *config)
{
    if (look->root != NULL) {
        return run_action(look);
    }
    struct settings *settings = cli_settings(config);
    if (settings == NULL) {
        return CLI_CONFIG;
    }
    look->root = settings->spool.path;
    int code = run_action(look);
    settings_free(settings);
    return code;
}

struct choice {
    const char *values[OPTION_ALL]; /* of the options that have one */
    bool all;
};

/* Of the actions that ask the server. */
static int run_quarantine(enum action action, const struct choice *choice)
{
    const char *socket_path = choice->values[OPTION_SOCKET] != NULL ? choice->values[OPTION_SOCKET] : CLI_SPOOL_SOCKET;
    const char *id = choice->values[OPTION_ID];
    if (choice->values[OPTION_CONFIG] != NULL || choice->values[OPTION_PATH] != NULL) {
        return cli_usage(&cli_spool_command, "%s asks the running server: --socket, not --config or --path",
                         actions[action]);
    }
    if ((action == ACTION_DROP) != ((id != NULL) + choice->all == 1)) {
        return cli_usage(&cli_spool_command, "--id and --all go with drop, which takes exactly one of them");
    }
    switch (action) {
    case ACTION_QUARANTINE: return cli_quarantine_list(socket_path);
    case ACTION_DROP: return cli_quarantine_drop(socket_path, id);
    default: return cli_quarantine_forget(socket_path);
    }
}

static int run(int argc, char **argv)
{
    struct choice choice = {.all = false};
    enum action action = ACTIONS;
    const char *argument = NULL;
    int next = 0;
    while ((next = cli_next(&cli_spool_command, argc, argv, &argument)) >= 0) {
        if (next == OPTION_ALL) {
            choice.all = true;
        } else {
            choice.values[next] = argument;
        }
    }
    if (next != CLI_END) {
        return cli_leave(next);
    }
    for (unsigned i = 0; optind + 1 == argc && i < ACTIONS; i++) {
        action = strcmp(argv[optind], actions[i]) == 0 ? i : action;
    }
    if (action == ACTIONS) {
        return cli_usage(&cli_spool_command, "expected one of check, dump, export, quarantine, drop, forget");
    }
    if ((action == ACTION_EXPORT) != (choice.values[OPTION_OUTPUT] != NULL)) {
        return cli_usage(&cli_spool_command, "--output goes with export, and export needs it");
    }
    if (action >= ACTION_QUARANTINE) {
        return run_quarantine(action, &choice);
    }
    if (choice.values[OPTION_SOCKET] != NULL || choice.values[OPTION_ID] != NULL || choice.all) {
        return cli_usage(&cli_spool_command, "%s reads files: it takes --config or --path", actions[action]);
    }
    struct look look = {.action = action, .root = choice.values[OPTION_PATH], .output = choice.values[OPTION_OUTPUT]};
    return run_in(&look, choice.values[OPTION_CONFIG] != NULL ? choice.values[OPTION_CONFIG] : CLI_CONFIG_PATH);
}

const struct cli_command cli_spool_command = {
    .name = "spool",
    .arguments = "check|dump|export|quarantine|drop|forget [options]",
    .summary = "Verify, list or export what is in the spool; deal with what is damaged.",
    .options = options,
    .details =
        "On the files, of a running or a dead server, changing nothing and taking no lock:\n"
        "  check       verify every checksum, tell each damaged place by file and offset\n"
        "  dump        the same, and list every segment and record\n"
        "  export      the same, and write each queued message as ID.eml and ID.json (its envelope); one that does\n"
        "              not verify as ID.eml.damaged, and each damaged place as SPOOL-FILE-OFFSET.raw\n"
        "By way of the running server:\n"
        "  quarantine  list the messages that do not verify: they are kept, and not delivered\n"
        "  drop        end such a message, after its export: its recipients are removed, with removal events\n"
        "  forget      damaged records that belong to no queued message keep their segments for inspection: let go\n"
        "\nExit codes: 0 all is well, 64 usage, 65 damage was found or the server refused, 69 no server answers on\n"
        "the socket, 70 not all could be read, or exported, 78 configuration.\n",
    .run = run,
};
