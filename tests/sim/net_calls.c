/* The calls that the server makes on sockets and eventfds itself, without its ring. Linked with -Wl,--wrap. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sim/disk.h"
#include "sim/net_private.h"
#include "sim/real.h"
#include "sim/world.h"

int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
    (void)type;
    (void)protocol;
    if (domain != AF_INET) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    if (world_fault(50)) {
        errno = EMFILE;
        return -1;
    }
    return net_socket_new()->fd;
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
    (void)length;
    net_socket(fd)->port = ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
    return 0;
}

int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog)
{
    (void)backlog;
    net_socket(fd)->listening = true;
    return 0;
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    (void)value;
    (void)length;
    if (level == SOL_SOCKET && option == SO_LINGER) {
        net_socket(fd)->linger = true;
    }
    return 0;
}

static int give_address(const struct socket *socket, uint32_t ipv4, struct sockaddr *address, socklen_t *length)
{
    struct sockaddr_in own = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)socket->port), .sin_addr.s_addr = htonl(ipv4)};
    memcpy(address, &own, *length < sizeof own ? *length : sizeof own);
    *length = sizeof own;
    return 0;
}

int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *length);
int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *length)
{
    const struct socket *socket = net_socket(fd);
    if (socket->reset) {
        errno = ENOTCONN;
        return -1;
    }
    return give_address(socket, socket->ipv4, address, length);
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
    return give_address(net_socket(fd), INADDR_LOOPBACK, address, length);
}

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
    (void)fd;
    (void)level;
    (void)option;
    memset(value, 0, *length);
    return 0;
}

/* Only ever a courtesy before a close: it need not arrive. */
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags)
{
    (void)fd;
    (void)data;
    (void)flags;
    return (ssize_t)length;
}

int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how)
{
    net_shut(net_socket(fd), how != SHUT_WR);
    return 0;
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
    struct socket *socket = net_socket(fd);
    if (socket != NULL) {
        net_close_socket(socket);
        return 0;
    }
    if (fd >= NET_DESCRIPTORS) {
        world_fail("descriptor %d is closed twice", fd);
    }
    disk_closed(fd);
    return real_close(fd);
}

int __wrap_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags)
{
    struct socket *socket = net_socket_new();
    (void)flags;
    socket->event = true;
    socket->count = count;
    return socket->fd;
}

ssize_t __real_read(int fd, void *data, size_t length);
ssize_t __wrap_read(int fd, void *data, size_t length);
ssize_t __wrap_read(int fd, void *data, size_t length)
{
    struct socket *socket = net_socket(fd);
    if (socket == NULL) {
        return __real_read(fd, data, length);
    }
    if (socket->count == 0) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(data, &socket->count, sizeof socket->count);
    socket->count = 0;
    return sizeof socket->count;
}

ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length)
{
    struct socket *socket = net_socket(fd);
    if (socket == NULL) {
        /* The server's log. */
        return fd != STDERR_FILENO || world.tracing ? __real_write(fd, data, length) : (ssize_t)length;
    }
    socket->count++;
    net_notify(socket);
    return (ssize_t)length;
}
