#include "inbound/recipients.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/test_recipients.XXXXXX";
static char mailboxes[64];
static char aliases[64];
static char reported[8192];

static void report(void *context, const char *line)
{
    size_t length = strlen(reported);
    (void)context;
    const char *name = strrchr(line, '/'); /* without the directory, which is another each time */
    name = name != NULL && strncmp(line, directory, strlen(directory)) == 0 ? line + strlen(directory) + 1 : line;
    snprintf(reported + length, sizeof reported - length, "%s\n", name);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

/* own.test with these files, and any.test where everybody exists. */
static struct recipients *load(const char *mailboxes_text, const char *aliases_text)
{
    struct recipients_domain domains[] = {
        {.name = BYTES("own.test"), .mailboxes = mailboxes, .aliases = aliases, .subaddress = '+'},
        {.name = BYTES("any.test"), .mailboxes = "", .aliases = ""},
    };
    write_file(mailboxes, mailboxes_text);
    write_file(aliases, aliases_text);
    reported[0] = '\0';
    return recipients_load(domains, 2, BYTES("mx.own.test"), report, NULL);
}

static const char *ask(const struct recipients *recipients, const char *text)
{
    static const char *const names[] = {"foreign", "unknown", "mailbox", "forward"};
    static char answer_text[4096];
    struct address address;
    struct bytes path = bytes_of_string(text);
    assert_int_equal(address_parse(path, &address), ADDRESS_OK);
    struct recipients_answer answer = recipients_lookup(recipients, &address);
    int length = snprintf(answer_text, sizeof answer_text, "%s", names[answer.verdict]);
    assert_int_equal(answer.targets_count != 0, answer.verdict == RECIPIENTS_FORWARD);
    for (unsigned i = 0; i < answer.targets_count; i++) {
        length += snprintf(answer_text + length, sizeof answer_text - (size_t)length, " %.*s",
                           (int)answer.targets[i].length, answer.targets[i].data);
    }
    return answer_text;
}

static void test_lookup(void **state)
{
    (void)state;
    struct recipients *recipients = load("anna\n# nobody\nBen # the second\n\"john doe\"\n\npostmaster",
                                         "info: anna, Ben\n"
                                         "all: info, ceo@Other.TEST,\n"
                                         "   info, BEN   # once each\n"
                                         "# in between\n"
                                         "anna+lists: ben\n"
                                         "ben: ben, ben@home.test\n"
                                         "away: \"x, y: z\"@[IPv6:2001:db8::1]\n"
                                         "any: whoever@any.test");
    assert_string_equal(reported, "");
    assert_non_null(recipients);
    assert_string_equal(ask(recipients, "anna@own.test"), "mailbox");
    assert_string_equal(ask(recipients, "ANNA@OWN.TEST"), "mailbox");
    assert_string_equal(ask(recipients, "\"an\\na\"@own.test"), "mailbox");
    assert_string_equal(ask(recipients, "anna+x@own.test"), "mailbox");
    assert_string_equal(ask(recipients, "anna+lists@own.test"), "forward ben@own.test ben@home.test");
    assert_string_equal(ask(recipients, "\"John Doe\"@own.test"), "mailbox");
    recipients_delete(recipients);
}

static void test_answers(void **state)
{
    (void)state;
    struct recipients *recipients = load("anna\nben\npostmaster", "info: anna, Ben\n"
                                                                  "all: info, ceo@Other.TEST,\n"
                                                                  "   info, BEN   # once each\n"
                                                                  "away: \"x, y: z\"@[IPv6:2001:db8::1]\n"
                                                                  "any: whoever@any.test\n"
                                                                  "self: self@other.test");
    assert_string_equal(reported, "");
    assert_string_equal(ask(recipients, "info@own.test"), "forward anna@own.test Ben@own.test");
    assert_string_equal(ask(recipients, "all@own.test"), "forward anna@own.test Ben@own.test ceo@other.test");
    assert_string_equal(ask(recipients, "All+x@own.test"), "forward anna@own.test Ben@own.test ceo@other.test");
    assert_string_equal(ask(recipients, "away@own.test"), "forward \"x, y: z\"@[ipv6:2001:db8::1]");
    assert_string_equal(ask(recipients, "any@own.test"), "forward whoever@any.test");
    assert_string_equal(ask(recipients, "self@own.test"), "forward self@other.test");
    assert_string_equal(ask(recipients, "carl@own.test"), "unknown");
    assert_string_equal(ask(recipients, "carl@any.test"), "mailbox");
    assert_string_equal(ask(recipients, "anna@sub.own.test"), "foreign");
    assert_string_equal(ask(recipients, "anna@[127.0.0.1]"), "foreign");
    assert_string_equal(ask(recipients, "Postmaster"), "forward postmaster@own.test");
    assert_true(recipients_own_domain(recipients, BYTES("Own.Test")));
    assert_false(recipients_own_domain(recipients, BYTES("test")));
    assert_int_equal(recipients_counts(recipients).domains, 2);
    assert_int_equal(recipients_counts(recipients).mailboxes, 3);
    assert_int_equal(recipients_counts(recipients).aliases, 5);
    recipients_delete(recipients);
}

static void test_rest(void **state)
{
    (void)state;
    struct recipients *recipients = load("anna\n", "*: anna, log@other.test\nold: nobody@own.test\n");
    assert_string_equal(reported, "");
    assert_string_equal(ask(recipients, "anna@own.test"), "mailbox");
    assert_string_equal(ask(recipients, "whoever@own.test"), "forward anna@own.test log@other.test");
    assert_string_equal(ask(recipients, "old@own.test"), "forward anna@own.test log@other.test");
    assert_string_equal(ask(recipients, "Postmaster"), "forward anna@own.test log@other.test");
    recipients_delete(recipients);
}

static void test_nobody_is_ours(void **state)
{
    (void)state;
    struct recipients *recipients = recipients_load(NULL, 0, BYTES("own.test"), report, NULL);
    assert_string_equal(ask(recipients, "anna@own.test"), "foreign");
    assert_string_equal(ask(recipients, "Postmaster"), "mailbox");
    recipients_delete(recipients);
}

static void test_errors(void **state)
{
    static const struct {
        const char *mailboxes;
        const char *aliases;
        const char *report;
    } cases[] = {
        {"postmaster\na b\n", "", "m:2: more than a name, expected one local part a line\n"},
        {"postmaster\na@own.test\n", "", "m:2: \"a@own.test\" is not a local part, expected a name without a domain\n"},
        {"postmaster\na,b\n", "", "m:2: more than a name, expected one local part a line\n"},
        {"postmaster\na..b", "", "m:2: \"a..b\" is not a local part, expected a name without a domain\n"},
        {"postmaster\nb\n\nB\n", "", "m:4: b is in line 2 already, expected it once\n"},
        {"postmaster\na+b\n", "", "m:2: a+b has the subaddress character in it, expected a name without '+'\n"},
        {"anna\n", "", "m: nobody is postmaster@own.test, expected a mailbox or an alias (RFC 5321 4.5.1)\n"},
        {"postmaster", "x\n", "a:1: not an alias, expected \"name: address, address\"\n"},
        {"postmaster", ": x\n", "a:1: not an alias, expected \"name: address, address\"\n"},
        {"postmaster", "\nx:\n",
         "a:2: not an alias, expected \"name: address, address\" with at most 1000 addresses\n"},
        {"postmaster", "x: postmaster,\n",
         "a:1: not an alias, expected \"name: address, address\" with at most 1000 addresses\n"},
        {"postmaster", "x: postmaster postmaster\n",
         "a:1: not an alias, expected \"name: address, address\" with at most 1000 addresses\n"},
        {"postmaster", "x: postmaster\nX: postmaster\n", "a:2: x is in line 1 already, expected it once\n"},
        {"postmaster", "*: postmaster\n*: postmaster\n", "a:2: * is in line 1 already, expected it once\n"},
        {"postmaster", "x: a@b@c\n",
         "a:1: \"a@b@c\" is not an address, expected local parts or addresses, separated by commas\n"},
        {"postmaster", "x:\n  postmaster,\n  carl\n",
         "a:3: carl@own.test does not exist, expected a mailbox or alias of that domain\n"},
        {"postmaster", "x: X\n", "a:1: X@own.test is this alias itself, expected a mailbox of that name\n"},
        {"postmaster", "x: y\ny: z\nz: postmaster, x\n",
         "a:2: z@own.test leads back to itself, expected aliases without a loop\n"},
        {"postmaster", "*: carl\n", "a:1: carl@own.test leads back to itself, expected aliases without a loop\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(load(cases[i].mailboxes, cases[i].aliases));
        assert_string_equal(reported, cases[i].report);
    }
    write_file(mailboxes, "postmaster");
    unlink(aliases);
    struct recipients_domain domain = {.name = BYTES("own.test"), .mailboxes = mailboxes, .aliases = aliases};
    reported[0] = '\0';
    assert_null(recipients_load(&domain, 1, BYTES("x"), report, NULL));
    assert_string_equal(reported, "a: cannot be read: No such file or directory, expected a text file\n");
    domain.aliases = "/dev/zero";
    reported[0] = '\0';
    assert_null(recipients_load(&domain, 1, BYTES("x"), report, NULL));
    assert_string_equal(reported, "/dev/zero: cannot be read: not a regular file, expected a text file\n");
}

/* --- bounds ------------------------------------------------------------------------------------------------------- */

static char *text_room;
static size_t text_used;

static void add_text(const char *before, unsigned number, const char *after)
{
    text_used += (size_t)snprintf(text_room + text_used, (4u << 20) - text_used, "%s%u%s", before, number, after);
}

static void test_depth(void **state)
{
    (void)state;
    for (unsigned depth = RECIPIENTS_DEPTH_MAX - 2; depth <= RECIPIENTS_DEPTH_MAX + 2; depth++) {
        text_used = 0;
        for (unsigned i = 1; i < depth; i++) {
            add_text("a", i, ": ");
            add_text("a", i + 1, "\n");
        }
        add_text("a", depth, ": postmaster\n");
        struct recipients *recipients = load("postmaster", text_room);
        /* Entered wherever a list begins: a chain that is too long from its first name is refused. */
        if (depth <= RECIPIENTS_DEPTH_MAX) {
            assert_non_null(recipients);
        }
        recipients_delete(recipients);
    }
}

/* Each has its own and those of the one before it. */
static void test_explosion(void **state)
{
    (void)state;
    text_used = 0;
    for (unsigned i = 1; i < 12; i++) {
        add_text("list", i, ": postmaster");
        for (unsigned j = 0; j < 900; j++) {
            add_text(", u", j + 1000 * i, "@x.test");
        }
        add_text(i == 1 ? ", w@x.test, v" : ", list", i - 1, i == 1 ? "@x.test\n" : "\n");
    }
    assert_null(load("postmaster", text_room));
    assert_non_null(strstr(reported, "this alias comes to too many addresses, expected at most 1000"));
}

static int make_directory(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(mailboxes, sizeof mailboxes, "%s/m", directory);
    snprintf(aliases, sizeof aliases, "%s/a", directory);
    text_room = malloc(4u << 20);
    return text_room == NULL;
}

static int remove_directory(void **state)
{
    (void)state;
    free(text_room);
    unlink(mailboxes);
    unlink(aliases);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup),         cmocka_unit_test(test_answers), cmocka_unit_test(test_rest),
        cmocka_unit_test(test_nobody_is_ours), cmocka_unit_test(test_errors),  cmocka_unit_test(test_depth),
        cmocka_unit_test(test_explosion),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
