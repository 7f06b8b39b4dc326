#include "support/loopback.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int need(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        abort();
    }
    return result;
}

static struct sockaddr_in bound_socket(int *ret_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = need(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    need(bind(fd, (struct sockaddr *)&address, length), "bind");
    need(getsockname(fd, (struct sockaddr *)&address, &length), "getsockname");
    *ret_fd = fd;
    return address;
}

int loopback_listen(struct sockaddr_in *ret_address)
{
    int fd;
    *ret_address = bound_socket(&fd);
    need(listen(fd, 1024), "listen");
    return fd;
}

struct sockaddr_in loopback_nobody(void)
{
    int fd;
    struct sockaddr_in address = bound_socket(&fd);
    close(fd);
    return address;
}

int loopback_connect(const struct sockaddr_in *address)
{
    int fd = need(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    need(connect(fd, (const struct sockaddr *)address, sizeof *address), "connect");
    return fd;
}

int loopback_accept(int listener)
{
    return need(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");
}

void loopback_pair(int ret_ends[2])
{
    struct sockaddr_in address;
    int listener = loopback_listen(&address);
    ret_ends[0] = loopback_connect(&address);
    ret_ends[1] = loopback_accept(listener);
    close(listener);
}

bool loopback_write(int fd, const void *data, size_t length)
{
    const char *next = data;
    while (length != 0) {
        ssize_t written = send(fd, next, length, MSG_NOSIGNAL);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        if (written > 0) {
            next += written;
            length -= (size_t)written;
        }
    }
    return true;
}

bool loopback_read(int fd, void *data, size_t length)
{
    char *next = data;
    while (length != 0) {
        ssize_t got = recv(fd, next, length, 0);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            return false;
        }
        if (got > 0) {
            next += got;
            length -= (size_t)got;
        }
    }
    return true;
}

void loopback_narrow(int from, int to)
{
    int bytes = 4096;
    need(setsockopt(from, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), "SO_SNDBUF");
    need(setsockopt(to, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), "SO_RCVBUF");
}

unsigned loopback_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    need(directory == NULL ? -1 : 0, "/proc/self/fd");
    unsigned count = 0;
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}
