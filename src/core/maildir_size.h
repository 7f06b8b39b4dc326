/* How much is in a Maildir, and whether more may come: Maildir++ quotas, as Courier and Dovecot keep them.
 *
 * The file `maildirsize` in the Maildir has the quota in its first line ("1000000S,1000C") and then lines of octets and
 * messages, to be added up: whoever puts a message in appends "1234 1", whoever takes one out "-1234 -1", in one write
 * at the end of the file. So a look costs one small file, however many messages there are. The file is believed until
 * it has 5120 octets, has another quota in it, or says that the quota is exceeded and is older than 15 minutes. Then,
 * or when there is none, everything is counted (cur/ and new/ of the Maildir and of the folders in it) and the file is
 * replaced, unless somebody changed one of these directories meanwhile.
 *
 * All of it blocks: for a worker (core/maildir_quota.h). */
#ifndef CORE_MAILDIR_SIZE_H
#define CORE_MAILDIR_SIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define MAILDIR_SIZE_FILE_BYTES_MAX 5120
#define MAILDIR_SIZE_BELIEVED_S (15 * 60)

/* 0: no limit. */
struct maildir_limits {
    uint64_t bytes_max;
    uint64_t messages_max;
};

struct maildir_size {
    uint64_t bytes;
    uint64_t messages;
};

/* Would one more message of so many octets be too much? */
bool maildir_size_over(const struct maildir_limits *limits, const struct maildir_size *size, uint64_t bytes);

/* What `maildirsize` says; false when it is not to be believed. */
bool maildir_size_parse(struct bytes text, const struct maildir_limits *limits, struct maildir_size *ret_size);

/* What is in the Maildir `directory`, if another message of `bytes` is to come: by its file, or counted. A Maildir that
 * does not exist is empty. 0 or -errno. */
int maildir_size_find(const char *directory, const struct maildir_limits *limits, uint64_t bytes,
                      struct maildir_size *ret_size);

/* A message has been put in. Without the file there is nothing to do: who needs it counts. */
void maildir_size_added(const char *directory, uint64_t bytes);

#endif
