/* Blocking TCP peers on 127.0.0.1 for tests of what lies on the other side. Failures abort the test program. */
#ifndef SUPPORT_LOOPBACK_H
#define SUPPORT_LOOPBACK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A listening socket on a free port. */
int loopback_listen(struct sockaddr_in *ret_address);

/* A port that nobody listens on. */
struct sockaddr_in loopback_nobody(void);

int loopback_connect(const struct sockaddr_in *address);
int loopback_accept(int listener);

/* Two ends of one connection. */
void loopback_pair(int ret_ends[2]);

/* All of it, waiting as long as it takes; false when the connection ended before. */
bool loopback_write(int fd, const void *data, size_t length);
bool loopback_read(int fd, void *data, size_t length);

/* The kernel's buffers in the direction from `from` to `to`, made small, so that a sender soon has to wait. */
void loopback_narrow(int from, int to);

/* How many descriptors this process has open. */
unsigned loopback_descriptors(void);

#endif
