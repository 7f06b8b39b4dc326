#include "core/maildir_quota.h"

static void run(struct worker_job *job)
{
    struct maildir_quota *quota = CONTAINER_OF(job, struct maildir_quota, job);
    struct maildir_size size;
    if (quota->added) {
        maildir_size_added(quota->directory, quota->bytes);
    } else {
        quota->over = maildir_size_find(quota->directory, &quota->limits, quota->bytes, &size) == 0 &&
                      maildir_size_over(&quota->limits, &size, quota->bytes);
    }
}

static void ran(struct worker_job *job)
{
    struct maildir_quota *quota = CONTAINER_OF(job, struct maildir_quota, job);
    quota->done(quota);
}

static bool submit(struct maildir_quota *quota, struct shard *shard, bool added)
{
    quota->added = added;
    quota->over = false;
    quota->job = (struct worker_job){.run = run, .done = ran};
    return shard->file_workers != NULL && worker_submit(shard->file_workers, shard, &quota->job) == 0;
}

bool maildir_quota_ask(struct maildir_quota *quota, struct shard *shard)
{
    return submit(quota, shard, false);
}

bool maildir_quota_added(struct maildir_quota *quota, struct shard *shard)
{
    return submit(quota, shard, true);
}
