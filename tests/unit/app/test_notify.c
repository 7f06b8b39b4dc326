#include "app/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int manager = -1;

/* A service manager with an abstract socket, or one with a path. */
static void listen_on(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, strlen(name));
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(
        bind(manager, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
        0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static const char *heard(void)
{
    static char text[512];
    ssize_t length = recv(manager, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return text;
}

static void test_messages(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "@test_notify-%d", (int)getpid());
    listen_on(name);
    setenv("WATCHDOG_USEC", "20000000", 1);
    notify_init();
    assert_null(getenv("NOTIFY_SOCKET"));
    notify_ready();
    assert_string_equal(heard(), "READY=1");
    notify_reloading();
    assert_non_null(strstr(heard(), "RELOADING=1\nMONOTONIC_USEC="));
    notify_stopping();
    assert_string_equal(heard(), "STOPPING=1");
    notify_status("%u sessions\nREADY=1", 3);
    assert_string_equal(heard(), "STATUS=3 sessions");
    notify_watchdog();
    assert_string_equal(heard(), "WATCHDOG=1");
    assert_int_equal(notify_watchdog_ms(), 10000);
    close(manager);
    notify_ready(); /* nobody listens: no harm */
}

static void test_socket_with_a_path(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "/tmp/test_notify-%d", (int)getpid());
    listen_on(name);
    notify_init();
    notify_ready();
    assert_string_equal(heard(), "READY=1");
    close(manager);
    unlink(name);
}

static void test_without_a_manager(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "20000000", 1);
    notify_init();
    assert_int_equal(notify_watchdog_ms(), 0);
    notify_ready();
}

static void test_watchdog_of_another_process(void **state)
{
    (void)state;
    setenv("NOTIFY_SOCKET", "@nobody", 1);
    setenv("WATCHDOG_USEC", "20000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    notify_init();
    assert_int_equal(notify_watchdog_ms(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_socket_with_a_path),
        cmocka_unit_test(test_without_a_manager),
        cmocka_unit_test(test_watchdog_of_another_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
