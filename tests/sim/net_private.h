/* What net.c and net_calls.c share. */
#ifndef SIM_NET_PRIVATE_H
#define SIM_NET_PRIVATE_H

#include "sim/net.h"

#define NET_SOCKETS 2048
#define NET_BACKLOG 64

struct pipe {
    char *data;
    size_t start;
    size_t end;
    size_t capacity;
};

/* One descriptor of the server's: a listener, a connection, or an eventfd. */
struct socket {
    int fd;
    bool open; /* the server has not closed it */
    struct party *peer;
    uint32_t ipv4;
    unsigned port;
    uint64_t latency_ns;
    unsigned piece_max;
    /* listener */
    bool listening;
    struct socket *backlog[NET_BACKLOG];
    unsigned backlog_count;
    /* eventfd */
    bool event;
    uint64_t count;
    /* operations in flight */
    struct request *accepting;
    struct request *connecting;
    struct request *receive;
    struct request *sending;
    struct request *polling;
    /* to the server: sent by the peer -> on its way -> arrived */
    struct pipe way;
    bool way_ended;
    bool travelling;
    struct pipe in;
    bool in_ended;
    bool reset;
    uint64_t sent;
    uint64_t taken;
    /* from the server */
    struct pipe out;
    bool out_ended;
    bool departing;
    bool shut;
    bool linger; /* closing it resets the connection */
    bool aborted;
};

struct socket *net_socket(int fd); /* NULL: none of ours, or closed */
struct socket *net_socket_new(void);
void net_close_socket(struct socket *socket);
void net_shut(struct socket *socket, bool both);
void net_notify(struct socket *eventfd); /* its count is no longer 0 */

#endif
