#include "app/control_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool control_client_escape(struct buffer *out, const char *value)
{
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;
        char lower = bytes_ascii_lower((char)c);
        bool unreserved = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || strchr("-._~", c) != NULL;
        if (!buffer_append_format(out, unreserved ? "%c" : "%%%02X", c)) {
            return false;
        }
    }
    return true;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = CONTROL_CLIENT_TIMEOUT_SECONDS};
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static int send_all(int fd, struct bytes data)
{
    while (data.length != 0) {
        ssize_t sent = send(fd, data.data, data.length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return -errno;
        }
        bytes_advance(&data, sent > 0 ? (size_t)sent : 0);
    }
    return 0;
}

/* Everything until the server closes; malloc'ed, with a NUL behind it. */
static int receive_all(int fd, char **ret_data, size_t *ret_length)
{
    size_t capacity = 65536;
    size_t length = 0;
    char *data = malloc(capacity);
    int error = data != NULL ? 0 : -ENOMEM;
    while (error == 0) {
        if (length + 1 == capacity) {
            char *larger = capacity < CONTROL_CLIENT_REPLY_BYTES_MAX ? realloc(data, 2 * capacity) : NULL;
            error = larger != NULL ? 0 : -EFBIG;
            data = larger != NULL ? larger : data;
            capacity *= 2;
            continue;
        }
        ssize_t got = recv(fd, data + length, capacity - length - 1, 0);
        if (got == 0) {
            data[length] = '\0';
            *ret_data = data;
            *ret_length = length;
            return 0;
        }
        error = got > 0 || errno == EINTR ? 0 : errno == EAGAIN ? -ETIMEDOUT : -errno;
        length += got > 0 ? (size_t)got : 0;
    }
    free(data);
    return error;
}

/* Takes head and body apart. We asked for the connection to be closed behind one reply; its length must be as
 * announced. */
static int parse(char *data, size_t length, struct control_client_reply *ret_reply)
{
    unsigned status = 0;
    char *end = strstr(data, "\r\n\r\n");
    if (end == NULL || sscanf(data, "HTTP/1.%*1[01] %3u ", &status) != 1) {
        return -EBADMSG;
    }
    size_t body_length = length - (size_t)(end + 4 - data);
    *end = '\0';
    const char *announced = strcasestr(data, "\r\nContent-Length:");
    if (announced == NULL || strtoull(announced + sizeof "\r\nContent-Length:" - 1, NULL, 10) != body_length) {
        return -EBADMSG;
    }
    memmove(data, end + 4, body_length + 1);
    *ret_reply = (struct control_client_reply){.status = status, .body = data, .length = body_length};
    return 0;
}

static int converse(int fd, const char *method, const char *target, struct bytes body,
                    struct control_client_reply *ret_reply)
{
    char head_room[4096];
    struct buffer head = buffer_of(head_room, sizeof head_room);
    char *data = NULL;
    size_t length = 0;
    if (!buffer_append_format(&head,
                              "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                              method, target, body.length)) {
        return -ENAMETOOLONG;
    }
    int error = send_all(fd, buffer_bytes(&head));
    error = error == 0 ? send_all(fd, body) : error;
    error = error == 0 ? receive_all(fd, &data, &length) : error;
    error = error == 0 ? parse(data, length, ret_reply) : error;
    if (error != 0) {
        free(data);
    }
    return error;
}

static const char *hint_at(int error)
{
    switch (error) {
    case -ENOENT:
    case -ECONNREFUSED: return " (is the server running, and is this its admin.socket?)";
    case -EACCES: return " (root and the server's group may open it)";
    default: return "";
    }
}

int control_client_request(const char *socket_path, const char *method, const char *target, struct bytes body,
                           struct control_client_reply *ret_reply, char *reason, size_t reason_size)
{
    int fd = connect_to(socket_path);
    int error = fd < 0 ? fd : converse(fd, method, target, body, ret_reply);
    if (fd >= 0) {
        close(fd);
    }
    if (error != 0) {
        snprintf(reason, reason_size, "%s: %s%s", socket_path, strerror(-error), hint_at(error));
    }
    return error;
}
