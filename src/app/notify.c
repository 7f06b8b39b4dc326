#include "app/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "core/clock.h"

static struct sockaddr_un manager;
static socklen_t manager_length; /* 0: nobody to tell */
static uint64_t watchdog_ms;

static uint64_t number_in_environment(const char *name)
{
    const char *text = getenv(name);
    uint64_t number = 0;
    return text != NULL && bytes_parse_number(bytes_of_string(text), &number) ? number : 0;
}

void notify_init(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    uint64_t process = number_in_environment("WATCHDOG_PID");
    uint64_t period_us = number_in_environment("WATCHDOG_USEC");
    manager_length = 0;
    if (path != NULL && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof manager.sun_path) {
        memset(&manager, 0, sizeof manager);
        manager.sun_family = AF_UNIX;
        memcpy(manager.sun_path, path, strlen(path));
        if (path[0] == '@') { /* the abstract name space */
            manager.sun_path[0] = '\0';
        }
        manager_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    watchdog_ms = manager_length != 0 && (process == 0 || process == (uint64_t)getpid()) ? period_us / 2000 : 0;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
}

static void tell(const char *text)
{
    if (manager_length == 0) {
        return;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        ssize_t sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&manager, manager_length);
        (void)sent; /* there is nothing to do about it */
        close(fd);
    }
}

bool notify_wanted(void)
{
    return manager_length != 0;
}

void notify_ready(void)
{
    tell("READY=1");
}

void notify_reloading(void)
{
    char text[64];
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_monotonic_ns() / 1000));
    tell(text);
}

void notify_stopping(void)
{
    tell("STOPPING=1");
}

void notify_status(const char *format, ...)
{
    char text[256] = "STATUS=";
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - used, format, arguments);
    va_end(arguments);
    text[strcspn(text, "\n")] = '\0'; /* a second line would be another variable */
    tell(text);
}

void notify_watchdog(void)
{
    tell("WATCHDOG=1");
}

uint64_t notify_watchdog_ms(void)
{
    return watchdog_ms;
}
