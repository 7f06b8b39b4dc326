/* Replays the scripts in tests/transcript/client against smtp/client: whole, byte by byte and cut at seeded random
 * places, with a roomy and with the smallest output buffer. Each must give the same dialogue.
 *
 *     option no-pipelining      the driver forbids it
 *     option whole-only         about what arrives together, so it is not cut up
 *     option lmtp               LHLO, and a verdict for each recipient
 *     option tls-may            or tls-require: STARTTLS
 *     transaction A from=a@x to=b@y,c@y size=10 8bit utf8
 *         binary=LENGTH requiretls ret=F envid=X auth=X priority=N by=SECONDS;RT and, for the recipient named last,
 *         notify=NEVER|SUCCESS,FAILURE,DELAY and orcpt=X
 *     queue A B                 from here on the driver begins these, each as soon as it may
 *     quit | lost sent | lost unsent | secured | secured trusted
 *     S: 250 ok                 from the peer; neighbouring lines arrive together, each gets CRLF
 *     S- 250 ok\n               the same, but raw: \r \n \t \\ \xNN, and no CRLF of its own
 *     C: EHLO us.example        what we must say
 *     C: {A}                    the body of A goes out
 *     EV: start-tls
 *     EV: ready
 *     EV: recipient A 0 refused-fate 550 5.1.1
 *     EV: final A 0 delivered 250 2.1.5
 *     EV: done A delivered 250 2.0.0 dot
 *     EV: unfit A too-big       the machine would not take it
 *     EV: closed quit
 * The place of C: and EV: lines between the S: lines counts. */
#include <glob.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/rng.h"
#include "smtp/client.h"

enum { STEPS_MAX = 400, TRANSACTIONS_MAX = 8, LOG_BYTES = 64 * 1024, FILES_MAX = 200, RANDOM_CUTS = 20 };

enum step_kind { STEP_INPUT, STEP_QUEUE, STEP_QUIT, STEP_LOST, STEP_SECURED };

struct step {
    enum step_kind kind;
    char *text; /* of input, or names to queue */
    size_t length;
    bool dot_sent;
    bool trusted;
};

struct script {
    struct step steps[STEPS_MAX];
    size_t steps_count;
    struct smtp_client_transaction transactions[TRANSACTIONS_MAX];
    struct bytes recipients[TRANSACTIONS_MAX][LIMIT_TRANSACTION_RECIPIENTS];
    struct smtp_client_notify notify[TRANSACTIONS_MAX][LIMIT_TRANSACTION_RECIPIENTS];
    char names[TRANSACTIONS_MAX];
    size_t transactions_count;
    bool no_pipelining;
    bool whole_only;
    bool lmtp;
    enum smtp_client_tls tls;
    char *text;
    char expected[LOG_BYTES];
    size_t expected_length;
};

/* One run of a script. */
struct run {
    struct script *script;
    struct smtp_client client;
    struct smtp_client_reply reply;
    struct buffer out;
    char out_bytes[4096];
    size_t queue[TRANSACTIONS_MAX];
    size_t queue_head;
    size_t queue_tail;
    bool closed;
    char log[LOG_BYTES];
    size_t log_length;
};

__attribute__((format(printf, 3, 4))) static void add(char *log, size_t *length, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(log + *length, LOG_BYTES - *length, format, arguments);
    va_end(arguments);
    assert_true(n >= 0 && (size_t)n < LOG_BYTES - *length);
    *length += (size_t)n;
}

/* --- reading a script --------------------------------------------------------------------------------------------- */

static size_t transaction_named(const struct script *script, char name)
{
    for (size_t i = 0; i < script->transactions_count; i++) {
        if (script->names[i] == name) {
            return i;
        }
    }
    fail_msg("no transaction %c", name);
    return 0;
}

static void read_recipients(struct script *script, size_t index, char *list)
{
    uint16_t n = script->transactions[index].recipients_count;
    char *save = NULL;
    for (char *word = strtok_r(list, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save)) {
        assert_true(n < LIMIT_TRANSACTION_RECIPIENTS);
        script->recipients[index][n++] = bytes_of_string(word);
    }
    script->transactions[index].recipients = script->recipients[index];
    script->transactions[index].recipients_count = n;
}

static unsigned read_notify(const char *words)
{
    return (strstr(words, "NEVER") != NULL ? SMTP_CLIENT_NOTIFY_NEVER : 0) |
           (strstr(words, "SUCCESS") != NULL ? SMTP_CLIENT_NOTIFY_SUCCESS : 0) |
           (strstr(words, "FAILURE") != NULL ? SMTP_CLIENT_NOTIFY_FAILURE : 0) |
           (strstr(words, "DELAY") != NULL ? SMTP_CLIENT_NOTIFY_DELAY : 0);
}

static bool starts(const char *word, const char *with, const char **ret_rest)
{
    *ret_rest = word + strlen(with);
    return strncmp(word, with, strlen(with)) == 0;
}

/* The words that belong to the recipient before them. */
static bool read_recipient_word(struct script *script, size_t index, const char *word)
{
    struct smtp_client_transaction *transaction = &script->transactions[index];
    struct smtp_client_notify *notify = &script->notify[index][transaction->recipients_count - 1];
    const char *value;
    if (starts(word, "notify=", &value)) {
        notify->notify = (uint8_t)read_notify(value);
    } else if (starts(word, "orcpt=", &value)) {
        notify->original_recipient = bytes_of_string(value);
    } else {
        return false;
    }
    transaction->notify = script->notify[index];
    return true;
}

static void read_parameter(struct smtp_client_transaction *transaction, const char *word)
{
    struct smtp_client_parameters *parameters = &transaction->parameters;
    const char *value;
    if (starts(word, "binary=", &value)) {
        transaction->binary = true;
        transaction->chunk_bytes = strtoull(value, NULL, 10);
    } else if (strcmp(word, "requiretls") == 0) {
        parameters->require_tls = true;
    } else if (starts(word, "ret=", &value)) {
        parameters->ret = value[0];
    } else if (starts(word, "envid=", &value)) {
        parameters->envelope_id = bytes_of_string(value);
    } else if (starts(word, "auth=", &value)) {
        parameters->auth = bytes_of_string(value);
    } else if (starts(word, "priority=", &value)) {
        parameters->has_priority = true;
        parameters->priority = (int8_t)strtol(value, NULL, 10);
    } else if (starts(word, "by=", &value)) {
        char *rest;
        parameters->by_s = strtoll(value, &rest, 10);
        parameters->by_mode = rest[1];
        parameters->by_trace = rest[2] == 'T';
    } else {
        fail_msg("unknown word %s", word);
    }
}

static void read_transaction(struct script *script, char *words)
{
    size_t index = script->transactions_count++;
    assert_true(index < TRANSACTIONS_MAX);
    struct smtp_client_transaction *transaction = &script->transactions[index];
    script->names[index] = words[0];
    char *save = NULL;
    strtok_r(words, " ", &save);
    for (char *word = strtok_r(NULL, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        if (strncmp(word, "from=", 5) == 0) {
            transaction->reverse_path = bytes_of_string(word + 5);
        } else if (strncmp(word, "to=", 3) == 0) {
            read_recipients(script, index, word + 3);
        } else if (strncmp(word, "size=", 5) == 0) {
            transaction->size_bytes = strtoull(word + 5, NULL, 10);
        } else if (strcmp(word, "8bit") == 0) {
            transaction->has_8bit = true;
        } else if (strcmp(word, "utf8") == 0) {
            transaction->parameters.smtputf8 = true;
        } else if (!read_recipient_word(script, index, word)) {
            read_parameter(transaction, word);
        }
    }
}

static size_t unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        from++;
        if (*from == 'x') {
            char digits[3] = {from[1], from[2], '\0'};
            *to++ = (char)strtoul(digits, NULL, 16);
            from += 2;
        } else {
            *to++ = (char)(*from == 'r' ? '\r' : *from == 'n' ? '\n' : *from == 't' ? '\t' : *from);
        }
    }
    return (size_t)(to - text);
}

static struct step *add_step(struct script *script, enum step_kind kind)
{
    assert_true(script->steps_count < STEPS_MAX);
    struct step *step = &script->steps[script->steps_count];
    step->kind = kind;
    add(script->expected, &script->expected_length, "-- %zu\n", script->steps_count);
    script->steps_count++;
    return step;
}

static void read_input(struct script *script, char *line, bool joined)
{
    bool raw = line[1] == '-';
    char *text = line + 2 + (line[2] == ' ');
    size_t length = raw ? unescape(text) : strlen(text);
    struct step *step = joined ? &script->steps[script->steps_count - 1] : add_step(script, STEP_INPUT);
    step->text = realloc(step->text, step->length + length + 2);
    assert_non_null(step->text);
    memcpy(step->text + step->length, text, length);
    step->length += length;
    if (!raw) {
        memcpy(step->text + step->length, "\r\n", 2);
        step->length += 2;
    }
}

static void read_option(struct script *script, const char *option)
{
    if (strcmp(option, "no-pipelining") == 0) {
        script->no_pipelining = true;
    } else if (strcmp(option, "whole-only") == 0) {
        script->whole_only = true;
    } else if (strcmp(option, "lmtp") == 0) {
        script->lmtp = true;
    } else if (strcmp(option, "tls-may") == 0) {
        script->tls = SMTP_CLIENT_TLS_MAY;
    } else if (strcmp(option, "tls-require") == 0) {
        script->tls = SMTP_CLIENT_TLS_REQUIRE;
    } else {
        fail_msg("unknown option %s", option);
    }
}

/* Returns whether it was input, which the next line may continue. */
static bool read_line(struct script *script, char *line, bool joined)
{
    if (line[0] == '\0' || line[0] == '#') {
        return joined;
    }
    if (strncmp(line, "S:", 2) == 0 || strncmp(line, "S-", 2) == 0) {
        read_input(script, line, joined);
        return true;
    }
    if (strncmp(line, "C:", 2) == 0 || strncmp(line, "EV:", 3) == 0) {
        add(script->expected, &script->expected_length, "%s\n", line);
    } else if (strncmp(line, "transaction ", 12) == 0) {
        read_transaction(script, line + 12);
    } else if (strncmp(line, "queue ", 6) == 0) {
        add_step(script, STEP_QUEUE)->text = strdup(line + 6);
    } else if (strcmp(line, "quit") == 0) {
        add_step(script, STEP_QUIT);
    } else if (strcmp(line, "lost sent") == 0 || strcmp(line, "lost unsent") == 0) {
        add_step(script, STEP_LOST)->dot_sent = strcmp(line, "lost sent") == 0;
    } else if (strcmp(line, "secured") == 0 || strcmp(line, "secured trusted") == 0) {
        add_step(script, STEP_SECURED)->trusted = strcmp(line, "secured trusted") == 0;
    } else if (strncmp(line, "option ", 7) == 0) {
        read_option(script, line + 7);
    } else {
        fail_msg("what is this line: %s", line);
    }
    return false;
}

static struct script *read_script(const char *path)
{
    struct script *script = calloc(1, sizeof(*script));
    FILE *file = fopen(path, "r");
    assert_non_null(script);
    assert_non_null(file);
    size_t capacity = 0;
    script->text = NULL;
    ssize_t length = getdelim(&script->text, &capacity, '\0', file);
    assert_true(length > 0);
    fclose(file);
    bool joined = false;
    char *line = script->text;
    while (line != NULL && *line != '\0') {
        char *end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        joined = read_line(script, line, joined);
        line = end;
    }
    return script;
}

static void free_script(struct script *script)
{
    for (size_t i = 0; i < script->steps_count; i++) {
        free(script->steps[i].text);
    }
    free(script->text);
    free(script);
}

/* --- running it --------------------------------------------------------------------------------------------------- */

static char name_of(const struct run *run, const struct smtp_client_transaction *transaction)
{
    return run->script->names[transaction - run->script->transactions];
}

static void log_out(struct run *run)
{
    char *at = run->out.data;
    size_t left = run->out.length;
    while (left != 0) {
        char *end = memchr(at, '\n', left);
        assert_non_null(end);
        assert_true(end > at && end[-1] == '\r');
        add(run->log, &run->log_length, "C: %.*s\n", (int)(end - at - 1), at);
        left -= (size_t)(end + 1 - at);
        at = end + 1;
    }
    run->out.length = 0;
}

static const char *describe_reply(const struct smtp_client_reply *reply)
{
    static char text[64];
    if (reply->status.class != 0) {
        snprintf(text, sizeof(text), "%u %u.%u.%u", reply->code, reply->status.class, reply->status.subject,
                 reply->status.detail);
    } else {
        snprintf(text, sizeof(text), "%u", reply->code);
    }
    return text;
}

static void log_event(struct run *run, enum smtp_client_event event)
{
    const struct smtp_client *c = &run->client;
    switch (event) {
    case SMTP_CLIENT_START_TLS: add(run->log, &run->log_length, "EV: start-tls\n"); break;
    case SMTP_CLIENT_FINAL:
        add(run->log, &run->log_length, "EV: final %c %u %s %s\n", name_of(run, c->transaction), c->recipient,
            smtp_client_fate_name(c->fate), describe_reply(c->reply));
        break;
    case SMTP_CLIENT_READY: add(run->log, &run->log_length, "EV: ready\n"); break;
    case SMTP_CLIENT_RECIPIENT:
        add(run->log, &run->log_length, "EV: recipient %c %u %s %s%s\n", name_of(run, c->transaction), c->recipient,
            smtp_client_fate_name(c->fate), describe_reply(c->reply), c->excess ? " excess" : "");
        assert_int_equal(smtp_client_refused(c->transaction, c->recipient), c->fate != SMTP_CLIENT_ACCEPTED);
        break;
    case SMTP_CLIENT_BODY: add(run->log, &run->log_length, "C: {%c}\n", name_of(run, c->transaction)); break;
    case SMTP_CLIENT_DONE:
        add(run->log, &run->log_length, "EV: done %c %s %s %s\n", name_of(run, c->transaction),
            smtp_client_fate_name(c->fate), describe_reply(c->reply), smtp_client_phase_name(c->phase));
        break;
    case SMTP_CLIENT_CLOSED:
        add(run->log, &run->log_length, "EV: closed %s\n", smtp_client_cause_name(c->cause));
        run->closed = true;
        break;
    default: break;
    }
}

static void begin_queued(struct run *run)
{
    while (run->queue_head != run->queue_tail && smtp_client_can_begin(&run->client)) {
        struct smtp_client_transaction *transaction = &run->script->transactions[run->queue[run->queue_head++]];
        enum smtp_client_fit fit = smtp_client_fit(&run->client, transaction);
        if (fit == SMTP_CLIENT_FIT_YES) {
            smtp_client_begin(&run->client, transaction);
        } else {
            add(run->log, &run->log_length, "EV: unfit %c %s\n", name_of(run, transaction), smtp_client_fit_name(fit));
        }
    }
}

static void drive(struct run *run, struct bytes input)
{
    while (!run->closed) {
        begin_queued(run);
        enum smtp_client_event event = smtp_client_next(&run->client, &input, &run->out);
        log_out(run);
        if (event == SMTP_CLIENT_WANT_INPUT) {
            assert_int_equal(input.length, 0);
            return;
        }
        log_event(run, event);
        if (event == SMTP_CLIENT_START_TLS) {
            assert_int_equal(input.length, 0);
            return;
        }
    }
}

static void feed(struct run *run, const struct step *step, struct rng *rng, bool whole)
{
    size_t at = 0;
    while (at < step->length) {
        size_t left = step->length - at;
        size_t n = whole ? left : rng == NULL ? 1 : 1 + (size_t)rng_below(rng, left);
        drive(run, bytes_of(step->text + at, n));
        at += n;
    }
}

static void take_step(struct run *run, const struct step *step, struct rng *rng, bool whole)
{
    switch (step->kind) {
    case STEP_INPUT: feed(run, step, rng, whole); return;
    case STEP_QUEUE:
        for (const char *name = step->text; *name != '\0'; name++) {
            if (*name != ' ') {
                run->queue[run->queue_tail++] = transaction_named(run->script, *name);
            }
        }
        break;
    case STEP_SECURED: smtp_client_secured(&run->client, step->trusted); break;
    case STEP_QUIT: smtp_client_quit(&run->client); break;
    case STEP_LOST: smtp_client_lost(&run->client, step->dot_sent); break;
    }
    drive(run, (struct bytes){0});
}

static void replay(struct script *script, struct rng *rng, bool whole, size_t out_capacity, const char *path)
{
    struct run *run = calloc(1, sizeof(*run));
    assert_non_null(run);
    run->script = script;
    run->out = buffer_of(run->out_bytes, out_capacity);
    smtp_client_init(&run->client, BYTES("us.example"), !script->no_pipelining, &run->reply);
    smtp_client_use_tls(&run->client, script->tls);
    if (script->lmtp) {
        smtp_client_use_lmtp(&run->client);
    }
    for (size_t i = 0; i < script->steps_count; i++) {
        add(run->log, &run->log_length, "-- %zu\n", i);
        take_step(run, &script->steps[i], rng, whole);
    }
    if (strcmp(run->log, script->expected) != 0) {
        fail_msg("%s (%s, %zu bytes of output)\n--- expected\n%s--- happened\n%s", path,
                 whole         ? "whole"
                 : rng == NULL ? "byte by byte"
                               : "cut at random",
                 out_capacity, script->expected, run->log);
    }
    free(run);
}

static void replay_file(void **state)
{
    const char *path = *state;
    struct script *script = read_script(path);
    static const size_t capacities[] = {LIMIT_CLIENT_COMMAND_BYTES, 4096};
    for (size_t i = 0; i < 2; i++) {
        replay(script, NULL, true, capacities[i], path);
        if (!script->whole_only) {
            replay(script, NULL, false, capacities[i], path);
            for (uint64_t seed = 1; seed <= RANDOM_CUTS; seed++) {
                struct rng rng;
                rng_seed(&rng, seed);
                replay(script, &rng, false, capacities[i], path);
            }
        }
    }
    free_script(script);
}

int main(int argc, char **argv)
{
    glob_t found;
    if (glob(argc > 1 ? argv[1] : "tests/transcript/client/*.smtp", 0, NULL, &found) != 0) {
        fprintf(stderr, "no transcripts: run this from the top of the tree\n");
        return 1;
    }
    static struct CMUnitTest tests[FILES_MAX];
    size_t count = found.gl_pathc < FILES_MAX ? found.gl_pathc : FILES_MAX;
    for (size_t i = 0; i < count; i++) {
        tests[i] = (struct CMUnitTest){
            .name = found.gl_pathv[i], .test_func = replay_file, .initial_state = found.gl_pathv[i]};
    }
    int failed = _cmocka_run_group_tests("client transcripts", tests, count, NULL, NULL);
    globfree(&found);
    return failed;
}
