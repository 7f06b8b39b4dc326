/* Bytes from a disk are hostile: whatever they are, reading them stays inside them and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka after these */
#include <cmocka.h>
#include <stdlib.h>

#include "base/rng.h"
#include "spool/envelope.h"
#include "spool/journal.h"
#include "spool/record.h"

static size_t build(char *out, size_t size)
{
    struct buffer envelope = buffer_of(out, size);
    char every[256];
    for (unsigned i = 0; i < 256; i++) {
        every[i] = (char)i;
    }
    assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("")));
    assert_true(envelope_add(&envelope, ENVELOPE_HELO, 0, BYTES("client.example")));
    assert_true(envelope_add(&envelope, ENVELOPE_RECIPIENT, 3, BYTES("a@example.org")));
    assert_true(envelope_add(&envelope, ENVELOPE_ORIGINAL_RECIPIENT, 0, bytes_of(every, sizeof every)));
    assert_true(envelope_add(&envelope, (enum envelope_tag)200, 0, BYTES("from the future")));
    assert_true(envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, BYTES("b@example.org")));
    return envelope.length;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    char data[1024];
    struct bytes envelope = bytes_of(data, build(data, sizeof data));
    uint32_t recipients = 0;
    assert_int_equal(envelope_check(envelope, &recipients), ERR_OK);
    assert_int_equal(recipients, 2);
    struct bytes sender = envelope_find(envelope, ENVELOPE_SENDER);
    assert_non_null(sender.data);
    assert_int_equal(sender.length, 0);
    assert_null(envelope_find(envelope, ENVELOPE_TENANT).data);
    assert_int_equal(envelope_find(envelope, ENVELOPE_ORIGINAL_RECIPIENT).length, 256);
    assert_int_equal((unsigned char)envelope_find(envelope, ENVELOPE_ORIGINAL_RECIPIENT).data[13], 13);
    struct envelope_item item;
    assert_true(envelope_recipient(envelope, 0, &item));
    assert_int_equal(item.flags, 3);
    assert_true(envelope_recipient(envelope, 1, &item));
    assert_true(bytes_equal(item.value, BYTES("b@example.org")));
    assert_false(envelope_recipient(envelope, 2, &item));
}

static void what_does_not_fit_is_not_written(void **state)
{
    (void)state;
    char data[20];
    struct buffer envelope = buffer_of(data, sizeof data);
    assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("0123456789")));
    assert_false(envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, BYTES("345")));
    assert_int_equal(envelope.length, 14);
    assert_true(envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, BYTES("34")));
    static char large[70000];
    struct buffer room = buffer_of(large, sizeof large);
    assert_false(envelope_add(&room, ENVELOPE_HELO, 0, bytes_of(large, 65536)));
}

static void envelopes_that_are_wrong_are_refused(void **state)
{
    (void)state;
    char data[1024];
    size_t length = build(data, sizeof data);
    uint32_t recipients;
    for (size_t cut = 0; cut < length; cut++) {
        char *exact = malloc(cut + 1);
        memcpy(exact, data, cut);
        struct envelope_iterator iterator = envelope_iterate(bytes_of(exact, cut));
        struct envelope_item item;
        while (envelope_next(&iterator, &item)) {
        }
        assert_int_equal(envelope_check(bytes_of(exact, cut), &recipients) == ERR_OK, cut != 0 && !iterator.bad);
        free(exact);
    }
    struct buffer envelope = buffer_of(data, sizeof data);
    assert_true(envelope_add(&envelope, ENVELOPE_RECIPIENT, 0, BYTES("a@b")));
    assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("a@b")));
    assert_int_equal(envelope_check(buffer_bytes(&envelope), &recipients), ERR_CORRUPT);
    envelope.length = 0;
    assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("a@b")));
    assert_true(envelope_add(&envelope, ENVELOPE_SENDER, 0, BYTES("a@b")));
    assert_int_equal(envelope_check(buffer_bytes(&envelope), &recipients), ERR_CORRUPT);
}

/* Random bytes, and good ones with a few changed, in memory that ends where they end (for a sanitizer). */
static void random_bytes_are_survived(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    char good[1024];
    size_t good_length = build(good, sizeof good);
    for (unsigned i = 0; i < 20000; i++) {
        size_t length = rng_below(&rng, 2) ? good_length : rng_below(&rng, 200);
        char *data = malloc(length + 1);
        for (size_t j = 0; j < length; j++) {
            data[j] = (char)rng_next(&rng);
        }
        if (length == good_length) {
            memcpy(data, good, length);
            for (unsigned j = 0; j < 3; j++) {
                data[rng_below(&rng, length)] = (char)rng_next(&rng);
            }
        }
        uint32_t recipients;
        struct bytes bytes = bytes_of(data, length);
        struct spool_format_outcome outcome;
        struct journal_item item;
        struct record_message message;
        uint64_t needed;
        (void)envelope_check(bytes, &recipients);
        struct journal_iterator items = journal_outcome(bytes, &outcome);
        while (journal_next(&items, &item)) {
            assert_true(item.text.length + item.host.length <= length);
        }
        assert_int_not_equal(record_read_message(bytes, (uint32_t)length, &message, &needed), ERR_OK);
        free(data);
    }
}

static void states_come_back(void **state)
{
    (void)state;
    char data[200];
    struct buffer out = buffer_of(data, sizeof data);
    struct journal_item items[3] = {
        {.state = {.recipient = 0, .status = SPOOL_FORMAT_DEFERRED, .attempts = 1}, .text = BYTES("a")},
        {.state = {.recipient = 1, .status = SPOOL_FORMAT_HELD}},
        {.state = {.recipient = 0, .status = SPOOL_FORMAT_FAILED}, .text = BYTES("550 no"), .host = BYTES("mx")},
    };
    for (unsigned i = 0; i < 3; i++) {
        assert_true(journal_add(&out, &items[i]));
        assert_int_equal(out.length % 4, 0);
    }
    struct journal_item item;
    assert_true(journal_find(journal_iterate(buffer_bytes(&out)), 0, &item));
    assert_int_equal(item.state.status, SPOOL_FORMAT_FAILED);
    assert_true(bytes_equal(item.host, BYTES("mx")));
    assert_true(bytes_equal(item.text, BYTES("550 no")));
    assert_true(journal_find(journal_iterate(buffer_bytes(&out)), 1, &item));
    assert_false(journal_find(journal_iterate(buffer_bytes(&out)), 2, &item));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(what_does_not_fit_is_not_written),
        cmocka_unit_test(envelopes_that_are_wrong_are_refused),
        cmocka_unit_test(random_bytes_are_survived),
        cmocka_unit_test(states_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
