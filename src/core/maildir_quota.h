/* A question about a Maildir's quota, or the news of a message put into it, for a worker: core/maildir_size blocks. */
#ifndef CORE_MAILDIR_QUOTA_H
#define CORE_MAILDIR_QUOTA_H

#include "core/maildir_size.h"
#include "core/worker.h"

#define MAILDIR_QUOTA_PATH_BYTES 724

/* Embedded in its owner, and in flight until `done`, which runs in the shard's loop. */
struct maildir_quota {
    struct worker_job job;
    void (*done)(struct maildir_quota *quota);
    struct maildir_limits limits;
    uint64_t bytes; /* of the message */
    bool added;     /* news, not a question */
    bool over;      /* the answer; false also when it is not known */
    char directory[MAILDIR_QUOTA_PATH_BYTES];
};

/* Directory, limits and bytes are set. False when there is no worker for it: nothing is known, `done` will not run. */
bool maildir_quota_ask(struct maildir_quota *quota, struct shard *shard);
bool maildir_quota_added(struct maildir_quota *quota, struct shard *shard);

#endif
