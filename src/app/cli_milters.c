#include "app/cli_milters.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/settings_milters.h"
#include "milter/milter_say.h"
#include "milter/milter_wire.h"

#define WAIT_S 2

static const char *reason_of(int error)
{
    return error == EAGAIN || error == EINPROGRESS ? "no answer in time" : strerror(error);
}

/* NULL when it has answered with its options, else why not. */
static const char *hear_options(int fd, struct milter *milter)
{
    static char block[MILTER_REPLY_BYTES_MAX];
    struct milter_reader reader;
    struct milter_packet packet;
    struct milter_reply reply;
    char room[256];
    milter_reader_init(&reader, block, sizeof block);
    for (;;) {
        ssize_t got = recv(fd, room, sizeof room, 0);
        if (got <= 0) {
            return got == 0 ? "it has closed the connection" : reason_of(errno);
        }
        struct bytes input = bytes_of(room, (size_t)got);
        enum milter_read read = milter_read(&reader, &input, &packet);
        if (read == MILTER_READ_MORE) {
            continue;
        }
        bool good = read == MILTER_READ_PACKET &&
                    milter_take(milter, MILTER_STEP_OPTIONS, &packet, &reply) == MILTER_CONTINUE;
        return good ? NULL : "it does not speak the milter protocol, or wants what is not offered";
    }
}

static const char *ask(const struct config_endpoint *endpoint, struct milter *milter)
{
    char room[64];
    struct buffer out = buffer_of(room, sizeof room);
    const struct timeval wait = {.tv_sec = WAIT_S};
    const char *reason = NULL;
    int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return strerror(errno);
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    CHECK(milter_say_options(&out));
    if (connect(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) != 0 ||
        send(fd, out.data, out.length, MSG_NOSIGNAL) != (ssize_t)out.length) {
        reason = reason_of(errno);
    } else {
        reason = hear_options(fd, milter);
    }
    close(fd);
    return reason;
}

void cli_milters_check(const struct settings *settings, void (*problem)(const char *line))
{
    for (unsigned i = 0; i < settings->milters_count; i++) {
        const struct settings_milter *item = &settings->milters[i];
        struct config_endpoint endpoint;
        struct milter milter = {.version = 0};
        if (!settings_milters_socket(item->socket, &endpoint)) {
            continue;
        }
        const char *reason = ask(&endpoint, &milter);
        char line[512];
        if (reason == NULL) {
            printf("  %-14s %s answers, version %u\n", item->name, item->socket, milter.version);
        } else {
            snprintf(line, sizeof line, "milter %s: %s: %s", item->name, item->socket, reason);
            problem(line);
        }
    }
}
