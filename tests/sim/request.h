/* One operation that the server handed to a simulated ring, from its submission to its last completion. */
#ifndef SIM_REQUEST_H
#define SIM_REQUEST_H

#include "core/ring.h"

enum request_kind {
    REQUEST_ACCEPT,
    REQUEST_CONNECT,
    REQUEST_RECV,
    REQUEST_SEND,
    REQUEST_SHUTDOWN,
    REQUEST_CLOSE,
    REQUEST_POLL,
    /* of files */
    REQUEST_WRITE,
    REQUEST_READ,
    REQUEST_SYNC,
    REQUEST_ALLOCATE,
    REQUEST_OPEN,
    REQUEST_UNLINK,
    REQUEST_RENAME,
    REQUEST_MAKE_DIRECTORY,
    REQUEST_ADVISE,
};

struct request {
    struct request *next; /* in its ring's list of those in flight */
    struct ring *ring;    /* NULL: it is over, or its ring is */
    struct op *op;
    enum request_kind kind;
    int fd;
    int result; /* of a file operation that has been carried out but not yet told */
    bool executed;
    bool sync;
    int flags;
    unsigned count;
    const struct iovec *pieces;
    struct iovec piece; /* of a plain send */
    size_t done;        /* bytes sent so far */
    void *data;
    size_t length;
    uint64_t offset;
    const char *path;
    const char *to;
    struct sockaddr_storage address;
};

/* Posts a completion; without RING_MORE it is the last one. */
void request_complete(struct request *request, int result, uint32_t flags);
/* A receive: takes a provided buffer and fills it. The bytes taken (at most `length`), or 0: no buffer is free. */
size_t request_fill(struct request *request, const void *data, size_t length, uint32_t *ret_flags);

/* The rings of this life end where they are. */
void request_forget_all(void);
/* Every operation of a file that was submitted and not carried out. */
void request_each_unwritten(void (*run)(const struct request *request));

#endif
