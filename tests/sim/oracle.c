#include "sim/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "core/clock.h"
#include "sim/disk.h"
#include "sim/world.h"
#include "spool/envelope.h"

#define LETTERS_MAX 4096

static struct letter *letters[LETTERS_MAX]; /* [0] is nobody's */
static unsigned letter_count;
static uint64_t expire_ms;

struct letter *oracle_letter_new(void)
{
    CHECK(letter_count + 1 < LETTERS_MAX);
    struct letter *letter = world_new(sizeof *letter);
    letter->token = ++letter_count;
    letters[letter->token] = letter;
    return letter;
}

struct letter *oracle_letter(unsigned token)
{
    return token <= letter_count ? letters[token] : NULL;
}

unsigned oracle_letters(void)
{
    return letter_count;
}

void oracle_set_expire(uint64_t expire_s)
{
    expire_ms = expire_s * 1000;
}

struct recipient *oracle_recipient(const char *address, struct letter **ret_letter)
{
    unsigned index;
    unsigned token;
    if (sscanf(address, "r%u.m%u.", &index, &token) != 2 || oracle_letter(token) == NULL ||
        index >= letters[token]->recipient_count || strcmp(letters[token]->recipients[index].address, address) != 0) {
        return NULL;
    }
    *ret_letter = letters[token];
    return &letters[token]->recipients[index];
}

/* --- what is durable --- */

static void check_envelope(const struct letter *letter, const struct truth *truth)
{
    struct bytes envelope = bytes_of(truth->envelope, truth->envelope_bytes);
    struct envelope_iterator iterator = envelope_iterate(envelope);
    struct envelope_item item;
    struct bytes sender = envelope_find(envelope, ENVELOPE_SENDER);
    if (!bytes_equal(sender, bytes_of_string(letter->sender))) {
        world_fail("letter %u is stored with the sender %.*s", letter->token, (int)sender.length, sender.data);
    }
    unsigned at = 0;
    while (envelope_next_recipient(&iterator, &item)) {
        while (at < letter->recipient_count &&
               !bytes_equal(item.value, bytes_of_string(letter->recipients[at].address))) {
            if (letter->recipients[at].accepted) {
                world_fail("letter %u is stored without its recipient %u", letter->token, at);
            }
            at++;
        }
        if (at == letter->recipient_count || letter->recipients[at].refused) {
            world_fail("letter %u is stored with the recipient %.*s", letter->token, (int)item.value.length,
                       item.value.data);
        }
        at++;
    }
    for (; at < letter->recipient_count; at++) {
        if (letter->recipients[at].accepted) {
            world_fail("letter %u is stored without its recipient %u", letter->token, at);
        }
    }
}

void oracle_durable(struct truth *truth)
{
    struct letter *letter = truth->token != 0 ? oracle_letter(truth->token) : NULL;
    if (letter == NULL && (truth->flags & SPOOL_FORMAT_BOUNCE) == 0) {
        world_fail("message %llx is durable, which nobody sent", (unsigned long long)truth->id);
    }
    if (letter != NULL) {
        if (letter->truth != NULL && letter->truth != truth) {
            world_fail("letter %u is stored twice", letter->token);
        }
        letter->truth = truth;
        if (letter->state == LETTER_BEGUN) {
            world_fail("letter %u is durable, but its final dot was never sent", letter->token);
        }
    }
}

void oracle_recovered(const struct truth *truth)
{
    struct letter *letter = truth->token != 0 ? oracle_letter(truth->token) : NULL;
    if (letter == NULL || letter->state != LETTER_REJECTED) {
        return;
    }
    /* The refusal of a batch is not durable before the next record is (docs/design/spool.md, "Not done"): when none
     * came, and the disk kept the batch all the same, the letter is as one whose answer was lost. */
    if (!letter->refused_by_disk || truth_last_record(truth->id) > letter->refused_at) {
        world_fail("letter %u was rejected, but a start found it", letter->token);
    }
    letter->state = LETTER_SENT;
}

static bool may_expire(const struct truth *truth)
{
    return truth != NULL && clock_wall_ms() + 1000 >= truth->arrival_ms + expire_ms;
}

static void notification_finished(const struct truth *truth, const char *to, unsigned status)
{
    unsigned token = 0;
    struct letter *letter = sscanf(to, "s%u@", &token) == 1 ? oracle_letter(token) : NULL;
    if (letter == NULL || status == SPOOL_FORMAT_FAILED || (status == SPOOL_FORMAT_EXPIRED && !may_expire(truth))) {
        world_fail("the notification %llx to %s is finished with status %u", (unsigned long long)truth->id, to, status);
    }
    letter->bounce_expired |= status == SPOOL_FORMAT_EXPIRED || status == 0;
}

void oracle_finished(const struct truth *truth, unsigned index, unsigned status)
{
    struct envelope_item item;
    char address[ORACLE_ADDRESS_BYTES];
    struct letter *letter = NULL;
    CHECK(envelope_recipient(bytes_of(truth->envelope, truth->envelope_bytes), index, &item));
    snprintf(address, sizeof address, "%.*s", (int)item.value.length, item.value.data);
    struct recipient *recipient = oracle_recipient(address, &letter);
    if (recipient == NULL) {
        notification_finished(truth, address, status);
        return;
    }
    recipient->finished = true;
    const char *wrong = status == SPOOL_FORMAT_DELIVERED && recipient->delivered == 0 ? "nobody took it"
                        : status == SPOOL_FORMAT_FAILED && !recipient->may_fail       ? "nobody refused it"
                        : status == SPOOL_FORMAT_EXPIRED && !may_expire(truth)        ? "it is too early"
                                                                                      : NULL;
    if (wrong != NULL) {
        world_fail("%s is finished with status %u, but %s", recipient->address, status, wrong);
    }
}

void oracle_answered(struct letter *letter, unsigned code)
{
    bool durable = letter->truth != NULL && letter->truth->durable;
    world_trace("oracle: letter %u was answered with %u", letter->token, code);
    if (code != 250) {
        letter->state = LETTER_REJECTED;
        letter->refused_by_disk = code == 451 && disk_failures != 0;
        letter->refused_at = truth_records();
        if (durable) {
            world_fail("letter %u was answered with %u, but is stored", letter->token, code);
        }
        return;
    }
    letter->state = LETTER_ACCEPTED;
    letter->accepted_ms = clock_wall_ms();
    if (!letter->relaxed && !durable) {
        world_fail("letter %u was answered with 250, but is not durable", letter->token);
    }
    if (durable) {
        check_envelope(letter, letter->truth);
    }
}

/* --- what arrives --- */

static void taken_once(struct letter *letter, struct recipient *recipient, const char *sender)
{
    if (letter->state == LETTER_BEGUN || letter->state == LETTER_REJECTED) {
        world_fail("%s was delivered, but the message was %s", recipient->address,
                   letter->state == LETTER_BEGUN ? "never sent whole" : "rejected");
    }
    if (recipient->refused || strcmp(sender, letter->sender) != 0) {
        world_fail("%s was delivered, but %s", recipient->address,
                   recipient->refused ? "the recipient was refused" : "from another sender");
    }
    if (recipient->finished || recipient->delivered > recipient->excused) {
        world_fail("%s was delivered again", recipient->address);
    }
    recipient->delivered++;
}

/* The message as the client sent it, behind the header lines that were added in front of it. */
static const char *find_original(const char *content, size_t length)
{
    const char *end = content + length;
    while (content < end) {
        if ((size_t)(end - content) > 7 && memcmp(content, "X-Sim: ", 7) == 0) {
            return content;
        }
        bool added = memcmp(content, "Received:", (size_t)(end - content) < 9 ? (size_t)(end - content) : 9) == 0;
        if (!added && *content != ' ' && *content != '\t') {
            return NULL;
        }
        const char *line = memchr(content, '\n', (size_t)(end - content));
        content = line != NULL ? line + 1 : end;
    }
    return NULL;
}

static void check_content(const struct letter *letter, const char *content, size_t length)
{
    const char *original = find_original(content, length);
    size_t rest = original != NULL ? (size_t)(content + length - original) : 0;
    if (rest != letter->length || memcmp(original, letter->body, rest) != 0) {
        world_fail("letter %u was delivered with other bytes (%zu instead of %zu)", letter->token, rest,
                   letter->length);
    }
}

static void bounced_once(struct letter *letter, struct recipient *recipient)
{
    if (letter->state == LETTER_BEGUN || letter->state == LETTER_REJECTED || letter->sender[0] == '\0' ||
        recipient->never_notify) {
        world_fail("%s bounced, which must not be", recipient->address);
    }
    if (!recipient->may_fail && !may_expire(letter->truth)) {
        world_fail("%s bounced, but nobody refused it", recipient->address);
    }
    if (recipient->delivered != 0 && recipient->excused == 0) {
        world_fail("%s bounced, but it was delivered", recipient->address);
    }
    if (recipient->bounced != 0 && !recipient->bounce_excused) {
        world_fail("%s bounced again", recipient->address);
    }
    recipient->bounced++;
}

static void take_notification(const char *content, size_t length, const char *to)
{
    char *text = world_new(length + 1);
    unsigned token = 0;
    unsigned named = 0;
    memcpy(text, content, length);
    CHECK(sscanf(to, "s%u@", &token) == 1);
    for (char *at = strstr(text, "\r\nFinal-Recipient:"); at != NULL; at = strstr(at + 1, "\r\nFinal-Recipient:")) {
        struct letter *letter = NULL;
        char address[ORACLE_ADDRESS_BYTES];
        char *value = strchr(at, ';');
        struct recipient *recipient = value != NULL && sscanf(value + 1, " %95[^\r\n ]", address) == 1
                                          ? oracle_recipient(address, &letter)
                                          : NULL;
        if (recipient == NULL || letter->token != token) {
            world_fail("a notification to %s names nobody we know", to);
        }
        bounced_once(letter, recipient);
        named++;
    }
    if (named == 0) {
        world_fail("a notification to %s names nobody", to);
    }
    const char *id = strstr(text, "\r\nOriginal-Envelope-Id:");
    unsigned said = 0;
    bool has_id = id != NULL && sscanf(strchr(id, ':'), ": e%u\r\n", &said) == 1;
    if (has_id != oracle_letter(token)->has_envelope_id || (has_id && said != token)) {
        world_fail("a notification to %s has another envelope id", to);
    }
}

void oracle_taken(const char *sender, char (*recipients)[ORACLE_ADDRESS_BYTES], unsigned count, const char *content,
                  size_t length)
{
    struct letter *first = NULL;
    for (unsigned i = 0; i < count; i++) {
        struct letter *letter = NULL;
        struct recipient *recipient = oracle_recipient(recipients[i], &letter);
        if (recipient != NULL) {
            taken_once(letter, recipient, sender);
            if (first == NULL) {
                check_content(letter, content, length);
            } else if (first != letter) {
                world_fail("letters %u and %u were delivered as one", first->token, letter->token);
            }
            first = letter;
        } else if (recipients[i][0] == 's' && sender[0] == '\0') {
            take_notification(content, length, recipients[i]);
        } else {
            world_fail("%s was delivered, which nobody sent", recipients[i]);
        }
    }
}

void oracle_reply_lost(char (*recipients)[ORACLE_ADDRESS_BYTES], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct letter *letter = NULL;
        struct recipient *recipient = oracle_recipient(recipients[i], &letter);
        unsigned token = 0;
        if (recipient != NULL) {
            recipient->excused = recipient->delivered;
        } else if (sscanf(recipients[i], "s%u@", &token) == 1 && (letter = oracle_letter(token)) != NULL) {
            for (unsigned j = 0; j < letter->recipient_count; j++) {
                letter->recipients[j].bounce_excused |= letter->recipients[j].bounced != 0;
            }
        }
    }
}

void oracle_refused(const char *address)
{
    struct letter *letter = NULL;
    struct recipient *recipient = oracle_recipient(address, &letter);
    if (recipient != NULL) {
        recipient->may_fail = true;
    }
}

/* --- ends --- */

void oracle_cut(void)
{
    for (unsigned token = 1; token <= letter_count; token++) {
        for (unsigned i = 0; i < letters[token]->recipient_count; i++) {
            struct recipient *recipient = &letters[token]->recipients[i];
            if (!recipient->finished) {
                recipient->excused = recipient->delivered;
            }
            recipient->bounce_excused |= !recipient->finished || recipient->bounced != 0;
        }
    }
}

static const struct recipient *unsettled(const struct letter *letter)
{
    if (letter->state != LETTER_ACCEPTED || (letter->relaxed && letter->truth == NULL)) {
        return NULL;
    }
    for (unsigned i = 0; i < letter->recipient_count; i++) {
        const struct recipient *recipient = &letter->recipients[i];
        bool silent = (letter->sender[0] == '\0' || letter->bounce_expired || recipient->never_notify) &&
                      (recipient->may_fail || may_expire(letter->truth));
        if (recipient->accepted && recipient->delivered == 0 && recipient->bounced == 0 && !silent) {
            return recipient;
        }
    }
    return NULL;
}

bool oracle_settled(void)
{
    for (unsigned token = 1; token <= letter_count; token++) {
        if (unsettled(letters[token]) != NULL) {
            return false;
        }
    }
    return truth_pending() == NULL;
}

void oracle_check_end(void)
{
    for (unsigned token = 1; token <= letter_count; token++) {
        const struct recipient *recipient = unsettled(letters[token]);
        if (recipient != NULL) {
            world_fail("%s was accepted, but neither delivered nor returned", recipient->address);
        }
    }
    const struct truth *left = truth_pending();
    if (left != NULL) {
        world_fail("message %llx (letter %u) is still in the spool", (unsigned long long)left->id, left->token);
    }
}
