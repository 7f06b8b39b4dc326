/* What MX records say about a domain, against a resolver that answers from a table. It takes the place of
 * src/dns/resolver.c at link time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "dns/mail_domain.h"

/* --- the resolver ------------------------------------------------------------------------------------------------- */

#define RECORDS(...) .status = ANSWER_RECORDS, .targets = {__VA_ARGS__}

static const struct line {
    const char *name;
    enum answer_status status;
    const char *targets[4];
    const char *alias;
} zone[] = {
    {"hosts.example", RECORDS("mx1.example", "mx2.example")},
    {"null.example", RECORDS(".")},
    {"two-nulls.example", RECORDS(".", ".")},
    {"null-and-host.example", RECORDS(".", "mx1.example")},
    {"host-and-null.example", RECORDS("mx1.example", ".")},
    {"null-and-bad.example", RECORDS(".", "")},
    {"bad.example", RECORDS("")},
    {"implicit.example", .status = ANSWER_NO_DATA},
    {"gone.example", .status = ANSWER_NO_DOMAIN},
    {"broken.example", .status = ANSWER_TEMPORARY},
    {"alias.example", .status = ANSWER_ALIAS, .alias = "null.example"},
    {"alias2.example", .status = ANSWER_ALIAS, .alias = "alias.example"},
    {"alias-gone.example", .status = ANSWER_ALIAS, .alias = "gone.example"},
    {"alias-bad.example", .status = ANSWER_ALIAS, .alias = "no name"},
    {"loop.example", .status = ANSWER_ALIAS, .alias = "loop.example"},
};

static bool late; /* every answer comes from `turn` */
static struct resolver_ask *waiting;
static const struct line *waiting_for;
static unsigned asked;
static struct answer_record records[4];
static struct answer answer;

static const struct answer *answer_of(const struct line *line)
{
    answer = (struct answer){.status = line->status, .aliases = line->alias != NULL, .records = records};
    answer.canonical = bytes_of_string(line->alias != NULL ? line->alias : line->name);
    for (; answer.count < 4 && line->targets[answer.count] != NULL; answer.count++) {
        records[answer.count].data = bytes_of_string(line->targets[answer.count]);
    }
    return &answer;
}

void resolver_ask_init(struct resolver_ask *ask, void (*done)(struct resolver_ask *ask, const struct answer *answer))
{
    ask->done = done;
}

void resolver_ask_cancel(struct resolver_ask *ask)
{
    waiting = waiting == ask ? NULL : waiting;
}

const struct answer *resolver_ask_spare(struct resolver *resolver, struct resolver_ask *ask, struct bytes name,
                                        enum answer_type type)
{
    assert_ptr_equal(resolver, &zone);
    assert_int_equal(type, ANSWER_MX);
    asked++;
    for (unsigned i = 0; i < sizeof zone / sizeof *zone; i++) {
        if (!bytes_equal(bytes_of_string(zone[i].name), name)) {
            continue;
        }
        if (!late) {
            return answer_of(&zone[i]);
        }
        waiting = ask;
        waiting_for = &zone[i];
        return NULL;
    }
    fail_msg("asked for %.*s", (int)name.length, name.data);
    return NULL;
}

static bool turn(void)
{
    struct resolver_ask *ask = waiting;
    waiting = NULL;
    if (ask != NULL) {
        ask->done(ask, answer_of(waiting_for));
    }
    return ask != NULL;
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static unsigned done_count;
static enum mail_domain_answer done_answer;

static void done(struct mail_domain *domain, enum mail_domain_answer result)
{
    (void)domain;
    done_count++;
    done_answer = result;
}

static bool ask(struct mail_domain *domain, const char *name, enum mail_domain_answer *ret_answer)
{
    union {
        const void *constant;
        struct resolver *resolver;
    } pointer = {.constant = &zone};
    mail_domain_init(domain, done);
    return mail_domain_ask(domain, pointer.resolver, bytes_of_string(name), ret_answer);
}

static const struct {
    const char *name;
    enum mail_domain_answer answer;
} cases[] = {
    {"hosts.example", MAIL_DOMAIN_OPEN},         {"null.example", MAIL_DOMAIN_NULL_MX},
    {"two-nulls.example", MAIL_DOMAIN_NULL_MX},  {"null-and-host.example", MAIL_DOMAIN_OPEN},
    {"host-and-null.example", MAIL_DOMAIN_OPEN}, {"null-and-bad.example", MAIL_DOMAIN_OPEN},
    {"bad.example", MAIL_DOMAIN_OPEN},           {"implicit.example", MAIL_DOMAIN_OPEN},
    {"gone.example", MAIL_DOMAIN_MISSING},       {"broken.example", MAIL_DOMAIN_UNKNOWN},
    {"alias.example", MAIL_DOMAIN_NULL_MX},      {"alias2.example", MAIL_DOMAIN_NULL_MX},
    {"alias-gone.example", MAIL_DOMAIN_MISSING}, {"alias-bad.example", MAIL_DOMAIN_UNKNOWN},
    {"loop.example", MAIL_DOMAIN_UNKNOWN},
};

static void test_at_once(void **state)
{
    (void)state;
    late = false;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mail_domain domain;
        enum mail_domain_answer result = MAIL_DOMAIN_OPEN;
        assert_true(ask(&domain, cases[i].name, &result));
        assert_int_equal(result, cases[i].answer);
    }
    assert_int_equal(done_count, 0);
}

static void test_later(void **state)
{
    (void)state;
    late = true;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mail_domain domain;
        enum mail_domain_answer result;
        done_count = 0;
        assert_false(ask(&domain, cases[i].name, &result));
        assert_int_equal(done_count, 0);
        while (turn()) {
        }
        assert_int_equal(done_count, 1);
        assert_int_equal(done_answer, cases[i].answer);
    }
}

/* Nobody was asked, so nobody has said that it does not exist. */
static void test_what_is_no_name(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "b\xc3\xbc"
                                        "cher.example",
                                        "a..example", "[192.0.2.1]"};
    asked = 0;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        struct mail_domain domain;
        enum mail_domain_answer result = MAIL_DOMAIN_OPEN;
        assert_true(ask(&domain, names[i], &result));
        assert_int_equal(result, MAIL_DOMAIN_UNKNOWN);
    }
    assert_int_equal(asked, 0);
}

static void test_loop_ends(void **state)
{
    (void)state;
    struct mail_domain domain;
    enum mail_domain_answer result;
    late = false;
    asked = 0;
    assert_true(ask(&domain, "loop.example", &result));
    assert_int_equal(asked, ANSWER_ALIASES_MAX + 1);
}

static void test_cancel(void **state)
{
    (void)state;
    struct mail_domain domain;
    enum mail_domain_answer result;
    late = true;
    done_count = 0;
    assert_false(ask(&domain, "null.example", &result));
    mail_domain_cancel(&domain);
    assert_false(turn());
    assert_int_equal(done_count, 0);
    mail_domain_cancel(&domain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_once),   cmocka_unit_test(test_later),  cmocka_unit_test(test_what_is_no_name),
        cmocka_unit_test(test_loop_ends), cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
