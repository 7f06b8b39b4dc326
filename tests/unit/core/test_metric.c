#include "core/metric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static struct metric_set *sets[2];
static char *text;
static size_t text_length;

static int setup(void **state)
{
    (void)state;
    sets[0] = metric_set_new();
    sets[1] = metric_set_new();
    text = NULL;
    return sets[0] && sets[1] ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(text);
    metric_set_delete(sets[0]);
    metric_set_delete(sets[1]);
    return 0;
}

static void render(void)
{
    text = metric_render(sets, 2, &text_length);
    assert_non_null(text);
    assert_int_equal(strlen(text), text_length);
}

static void assert_line(const char *line)
{
    const char *at = strstr(text, line);
    if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n') {
        fail_msg("no line \"%s\"", line);
    }
}

static void test_counters_and_gauges_are_summed(void **state)
{
    (void)state;
    metric_add(&sets[0]->commands, 3);
    metric_add(&sets[1]->commands, 4);
    metric_add(&sets[0]->sessions, 10);
    metric_subtract(&sets[0]->sessions, 9);
    metric_set_to(&sets[1]->sessions, 5);
    render();
    assert_line("# HELP ringpost_smtp_commands_total SMTP commands received");
    assert_line("# TYPE ringpost_smtp_commands_total counter");
    assert_line("ringpost_smtp_commands_total 7");
    assert_line("# TYPE ringpost_sessions gauge");
    assert_line("ringpost_sessions 6");
    assert_line("ringpost_messages_accepted_total 0");
}

static void test_times_are_shown_in_seconds(void **state)
{
    (void)state;
    histogram_record(&sets[0]->commit_latency, 63);
    histogram_record(&sets[1]->commit_latency, 64);
    histogram_record(&sets[1]->commit_latency, 1500000);
    histogram_record(&sets[1]->commit_latency, UINT64_C(1) << 41);
    render();
    assert_line("# TYPE ringpost_commit_latency_seconds histogram");
    assert_line("ringpost_commit_latency_seconds_bucket{le=\"0.000064\"} 1");
    assert_line("ringpost_commit_latency_seconds_bucket{le=\"0.000128\"} 2");
    assert_line("ringpost_commit_latency_seconds_bucket{le=\"1.048576\"} 2");
    assert_line("ringpost_commit_latency_seconds_bucket{le=\"4.194304\"} 3");
    assert_line("ringpost_commit_latency_seconds_bucket{le=\"274877.906944\"} 3");
    assert_line("ringpost_commit_latency_seconds_bucket{le=\"+Inf\"} 4");
    assert_line("ringpost_commit_latency_seconds_sum 2199024.755679");
    assert_line("ringpost_commit_latency_seconds_count 4");
    assert_line("ringpost_queue_time_seconds_sum 0");
}

/* Whole numbers: a bound is inclusive, so 7 belongs to le="7" and 8 does not. */
static void test_counts_are_shown_as_they_are(void **state)
{
    (void)state;
    histogram_record(&sets[0]->commit_messages, 1);
    histogram_record(&sets[0]->commit_messages, 7);
    histogram_record(&sets[0]->commit_messages, 8);
    histogram_record(&sets[0]->commit_messages, 100000);
    render();
    assert_line("ringpost_commit_messages_bucket{le=\"1\"} 1");
    assert_line("ringpost_commit_messages_bucket{le=\"3\"} 1");
    assert_line("ringpost_commit_messages_bucket{le=\"7\"} 2");
    assert_line("ringpost_commit_messages_bucket{le=\"15\"} 3");
    assert_line("ringpost_commit_messages_bucket{le=\"65535\"} 3");
    assert_line("ringpost_commit_messages_bucket{le=\"+Inf\"} 4");
    assert_line("ringpost_commit_messages_sum 100016");
    assert_line("ringpost_commit_messages_count 4");
}

static void assert_no_line(const char *line)
{
    assert_null(strstr(text, line));
}

static void test_mail_filters_by_name(void **state)
{
    (void)state;
    struct metric_milter *scanner = metric_milter_of(sets[0], "scanner");
    metric_add(&scanner->requests, 3);
    metric_add(&scanner->wait_us, 1500000);
    metric_add(&metric_milter_of(sets[1], "signer")->requests, 5);
    metric_add(&metric_milter_of(sets[1], "scanner")->requests, 4);
    assert_ptr_equal(metric_milter_of(sets[0], "scanner"), scanner);
    render();
    assert_line("ringpost_milter_requests_total{milter=\"scanner\"} 7");
    assert_line("ringpost_milter_requests_total{milter=\"signer\"} 5");
    assert_line("ringpost_milter_wait_seconds_total{milter=\"scanner\"} 1.5");
    assert_no_line("milter=\"scanner\"} 4");
    for (unsigned i = 0; i < 2 * METRIC_MILTERS_MAX; i++) { /* there is an end to it */
        char name[32];
        snprintf(name, sizeof name, "filter%u", i);
        metric_add(&metric_milter_of(sets[0], name)->edits, 1);
    }
    assert_int_equal(sets[0]->milters_count, METRIC_MILTERS_MAX);
    assert_int_equal(sets[0]->milters[METRIC_MILTERS_MAX - 1].edits, METRIC_MILTERS_MAX + 2);
}

static void test_promtool_has_nothing_to_say(void **state)
{
    (void)state;
    if (system("command -v promtool >/dev/null") != 0) {
        skip();
    }
    render();
    FILE *promtool = popen("promtool check metrics", "w");
    assert_non_null(promtool);
    fwrite(text, 1, text_length, promtool);
    int status = pclose(promtool);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counters_and_gauges_are_summed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_times_are_shown_in_seconds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counts_are_shown_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mail_filters_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_promtool_has_nothing_to_say, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
