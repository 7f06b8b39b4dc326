/* Quotas of Maildirs, on real files. */
#include "core/maildir_size.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/maildir_size.XXXXXX");
    assert_non_null(mkdtemp(root));
    static const char *const names[] = {"new", "cur", "tmp"};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(mkdir(path_of(names[i]), 0700), 0);
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *walk)
{
    (void)facts, (void)kind, (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *name, size_t length)
{
    char *text = calloc(1, length + 1);
    memset(text, 'x', length);
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    free(text);
}

static void put_text(const char *text)
{
    FILE *file = fopen(path_of("maildirsize"), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void expect_text(const char *wanted)
{
    char text[200] = "(none)";
    FILE *file = fopen(path_of("maildirsize"), "r");
    if (file != NULL) {
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
    }
    assert_string_equal(text, wanted);
}

static void set_age(time_t seconds)
{
    struct timespec times[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path_of("maildirsize"), times, 0), 0);
}

/* In the place of the C library's: between a look at the directory and its end. */
static const char *comes_meanwhile;

int fstatat(int directory, const char *name, struct stat *facts, int flags)
{
    if (comes_meanwhile != NULL) {
        const char *path = comes_meanwhile;
        struct timespec moment = {.tv_nsec = 20000000}; /* the clock of files has ticks */
        comes_meanwhile = NULL;
        nanosleep(&moment, NULL);
        put(path, 50);
    }
    return (int)syscall(SYS_newfstatat, directory, name, facts, flags);
}

static const struct maildir_limits both = {1000, 10};

static void expect_size(const struct maildir_limits *limits, uint64_t more, uint64_t bytes, uint64_t messages)
{
    struct maildir_size size = {0};
    assert_int_equal(maildir_size_find(root, limits, more, &size), 0);
    assert_int_equal(size.bytes, bytes);
    assert_int_equal(size.messages, messages);
}

static void test_over(void **state)
{
    (void)state;
    static const struct {
        struct maildir_limits limits;
        struct maildir_size size;
        uint64_t bytes;
        bool over;
    } cases[] = {
        {{0, 0}, {UINT64_MAX, UINT64_MAX}, UINT64_MAX, false},
        {{1000, 0}, {0, 50}, 1000, false},
        {{1000, 0}, {0, 50}, 1001, true},
        {{1000, 0}, {999, 50}, 1, false},
        {{1000, 0}, {999, 50}, 0, false},
        {{1000, 0}, {1000, 50}, 0, true},
        {{1000, 0}, {2000, 50}, 0, true},
        {{1000, 0}, {1, 0}, UINT64_MAX, true},
        {{0, 10}, {5000, 9}, 5000, false},
        {{0, 10}, {0, 10}, 0, true},
        {{1000, 10}, {0, 10}, 0, true},
        {{1000, 10}, {1000, 0}, 0, true},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(maildir_size_over(&cases[i].limits, &cases[i].size, cases[i].bytes), cases[i].over);
    }
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int bytes; /* -1: not to be believed */
        int messages;
    } cases[] = {
        {"1000S,10C\n", -1, 0}, /* cut off: a sum is written with it */
        {"1000S,10C\n0 0\n", 0, 0},
        {"1000S,10C\n500 5\n100 1\n-300 -2\n", 300, 4},
        {"1000S,10C\n  500     5   \n", 500, 5}, /* Courier fills with blanks */
        {"1000S,10C\n100 1\n-200 -1\n", -1, 0},
        {"1000S,10C\n100 1\n-50 -2\n", -1, 0},
        {"1000S,10C\n100 1\n20", -1, 0},
        {"1000S,10C\n100 1\n20 1", -1, 0},
        {"1000S,10C\n100\n", -1, 0},
        {"1000S,10C\n100 1 1\n", -1, 0},
        {"1000S,10C\nx 1\n", -1, 0},
        {"1000S,10C\n- 1\n", -1, 0},
        {"1000S,10C\n\n", -1, 0},
        {"1000S,10C\n9999999999999999999999 1\n", -1, 0},
        {"1000S\n100 1\n", -1, 0}, /* another quota */
        {"1001S,10C\n100 1\n", -1, 0},
        {"10C,1000S\n100 1\n", -1, 0},
        {"", -1, 0},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct maildir_size size = {0};
        bool good = maildir_size_parse(bytes_of_string(cases[i].text), &both, &size);
        assert_int_equal(good, cases[i].bytes >= 0);
        if (good) {
            assert_int_equal(size.bytes, cases[i].bytes);
            assert_int_equal(size.messages, cases[i].messages);
        }
    }
    struct maildir_size size;
    assert_true(maildir_size_parse(BYTES("7S\n1 1\n"), &(struct maildir_limits){7, 0}, &size));
    assert_true(maildir_size_parse(BYTES("7C\n1 1\n"), &(struct maildir_limits){0, 7}, &size));
}

static void test_counted_when_there_is_no_file(void **state)
{
    (void)state;
    put("new/a", 100);
    put("cur/b:2,S", 30);
    put("cur/c,S=7:2,S", 200); /* what the name says counts */
    put("cur/d:2,S=7", 4);     /* that is a flag */
    put("new/.hidden", 1000);
    put("tmp/e", 1000); /* not there yet */
    assert_int_equal(mkdir(path_of(".Sent"), 0700), 0);
    assert_int_equal(mkdir(path_of(".Sent/cur"), 0700), 0); /* and no new/ */
    put(".Sent/cur/f", 50);
    assert_int_equal(mkdir(path_of("Sent"), 0700), 0); /* no folder */
    assert_int_equal(symlink("/", path_of(".link")), 0);
    expect_size(&both, 0, 191, 5);
    expect_text("1000S,10C\n191 5\n");
    put("new/g", 500); /* nobody has said so: the file is believed */
    expect_size(&both, 0, 191, 5);
    maildir_size_added(root, 500);
    expect_text("1000S,10C\n191 5\n500 1\n");
    expect_size(&both, 0, 691, 6);
    struct stat facts;
    assert_int_equal(stat(path_of("maildirsize"), &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
}

static void test_counted_again(void **state)
{
    (void)state;
    put("new/a", 100);
    put_text("1000S,10C\n990 3\n");
    expect_size(&both, 10, 990, 3);
    expect_size(&both, 11, 990, 3); /* over, and young: believed */
    set_age(MAILDIR_SIZE_BELIEVED_S - 5);
    expect_size(&both, 11, 990, 3);
    set_age(MAILDIR_SIZE_BELIEVED_S + 5);
    expect_size(&both, 10, 990, 3); /* not over: however old */
    expect_size(&both, 11, 100, 1);
    expect_text("1000S,10C\n100 1\n");
    expect_size(&(struct maildir_limits){2000, 0}, 0, 100, 1); /* another quota */
    expect_text("2000S\n100 1\n");
    char text[MAILDIR_SIZE_FILE_BYTES_MAX + 100] = "2000S\n";
    while (strlen(text) < MAILDIR_SIZE_FILE_BYTES_MAX - 4) {
        strncat(text, "1 0\n", sizeof text - strlen(text) - 1);
    }
    put_text(text);
    uint64_t lines = (strlen(text) - 6) / 4;
    expect_size(&(struct maildir_limits){2000, 0}, 0, lines, 0);
    maildir_size_added(root, 1);
    expect_size(&(struct maildir_limits){2000, 0}, 0, 100, 1);
    expect_text("2000S\n100 1\n");
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    struct maildir_size size;
    assert_int_equal(maildir_size_find(path_of("nobody"), &both, 0, &size), 0);
    assert_int_equal(size.bytes + size.messages, 0);
    maildir_size_added(path_of("nobody"), 5);
    maildir_size_added(root, 5); /* the next one counts */
    expect_text("(none)");
    put("plain", 1);
    assert_int_equal(maildir_size_find(path_of("plain"), &both, 0, &size), -ENOTDIR);
}

/* A link, a pipe or a directory in its place is not read, nor written through, and does not hold anybody up. */
static void test_what_is_no_file(void **state)
{
    (void)state;
    put("victim", 5);
    assert_int_equal(symlink("victim", path_of("maildirsize")), 0);
    maildir_size_added(root, 5);
    struct stat facts;
    assert_int_equal(stat(path_of("victim"), &facts), 0);
    assert_int_equal(facts.st_size, 5);
    expect_size(&both, 0, 0, 0);
    expect_text("1000S,10C\n0 0\n"); /* it has replaced the link */
    assert_int_equal(unlink(path_of("maildirsize")), 0);
    assert_int_equal(mkfifo(path_of("maildirsize"), 0600), 0);
    maildir_size_added(root, 5); /* nobody reads from it */
    int reader = open(path_of("maildirsize"), O_RDONLY | O_NONBLOCK);
    maildir_size_added(root, 5);
    char octet;
    assert_int_equal(read(reader, &octet, 1), 0);
    close(reader);
    expect_size(&both, 0, 0, 0);
    expect_text("1000S,10C\n0 0\n");
}

/* Somebody who puts a message in meanwhile may have told a file that we would replace. */
static void test_changed_meanwhile(void **state)
{
    (void)state;
    put("new/a", 100);
    put_text("2000S\n0 0\n"); /* of another quota */
    comes_meanwhile = "new/b";
    expect_size(&both, 0, 100, 1);
    expect_text("(none)");
    assert_null(comes_meanwhile);
    expect_size(&both, 0, 150, 2);
    expect_text("1000S,10C\n150 2\n");
}

/* No tmp/ to make it in, as in a Maildir that may not be written: counted, and nothing else changes. */
static void test_not_written(void **state)
{
    (void)state;
    put("new/a", 100);
    assert_int_equal(rmdir(path_of("tmp")), 0);
    expect_size(&both, 0, 100, 1);
    expect_text("(none)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_over),
        cmocka_unit_test(test_parse),
        cmocka_unit_test_setup_teardown(test_counted_when_there_is_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_counted_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_written, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
