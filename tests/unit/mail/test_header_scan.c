#include "mail/header_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct header_scan scanned(const char *text, size_t step)
{
    struct header_scan scan = {0};
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i += step) {
        header_scan(&scan, bytes_of(text + i, length - i < step ? length - i : step));
    }
    return scan;
}

static const struct {
    const char *text;
    bool date;
    bool message_id;
    bool headless;
} cases[] = {
    {"Date: today\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n.\r\n", true, true, false},
    {"DATE : today\r\n\r\n.\r\n", true, false, false},
    {"message-id\t:\r\n <a@b>\r\n\r\n.\r\n", false, true, false},
    {"Subject: x\r\n Date: in a folded line\r\n\r\nMessage-ID: in the body\r\n.\r\n", false, false, false},
    {"X-Date: x\r\nDates: x\r\nDat: x\r\nMessage-IDs: x\r\nMessage-ID-2: x\r\n\r\n.\r\n", false, false, false},
    {"Subject: x\r\n:\r\nDate: behind what is no field\r\n\r\n.\r\n", false, false, false},
    {"Subject: x\r\nDate today: not a field\r\n\r\n.\r\n", false, false, false},
    {"\r\nDate: in the body\r\n.\r\n", false, false, false},
    {"Hello,\r\n\r\nDate: in the body\r\n.\r\n", false, false, true},
    {" Date: no line before\r\n\r\n.\r\n", false, false, true},
    {"..dotted\r\n.\r\n", false, false, true},
    {"Subject: date:\r\nDate:\r\n.\r\n", true, false, false},
    {"D\xc3\xa4te: x\r\n\r\n.\r\n", false, false, true},
};

static void test_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step < 40; step++) {
            struct header_scan scan = scanned(cases[i].text, step);
            if (scan.date != cases[i].date || scan.message_id != cases[i].message_id ||
                scan.headless != cases[i].headless) {
                fail_msg("case %zu, step %zu: %d %d %d", i, step, scan.date, scan.message_id, scan.headless);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
