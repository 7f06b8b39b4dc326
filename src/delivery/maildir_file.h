/* One file on its way into a Maildir, by the ring: nothing here waits.
 *
 *   open tmp/name -> write ... -> fdatasync -> close -> rename to new/name -> fsync new/ -> done
 *         |
 *         +- there is no such directory: make it (0700) with tmp/, new/ and cur/, sync what holds them, open again
 *
 * Only when the directory is synced is the message there for good, and only then is 0 reported. The name is the same at
 * every attempt (maildir_path_name), so a repetition, after a crash or a failed sync, writes over what the one before
 * it left in tmp/ or new/. A copy that a mail reader has moved to cur/ meanwhile is not found: it is then there twice.
 */
#ifndef DELIVERY_MAILDIR_FILE_H
#define DELIVERY_MAILDIR_FILE_H

#include "core/ring.h"
#include "delivery/maildir_path.h"

#define MAILDIR_CHUNK_BYTES (64u * 1024)

enum maildir_step {
    MAILDIR_OPEN,
    MAILDIR_MAKE,
    MAILDIR_OPEN_PARENT,
    MAILDIR_SYNC_PARENT,
    MAILDIR_CLOSE_PARENT,
    MAILDIR_WRITE,
    MAILDIR_SYNC,
    MAILDIR_CLOSE,
    MAILDIR_RENAME,
    MAILDIR_OPEN_NEW,
    MAILDIR_SYNC_NEW,
    MAILDIR_CLOSE_NEW,
    MAILDIR_UNLINK,
};

/* The caller sets the first block, and owns it until `done`. */
struct maildir_file {
    struct ring *ring;
    char directory[MAILDIR_PATH_BYTES - 300]; /* absolute, without a slash at its end */
    char name[256];
    /* Appends what comes next; appends nothing at the end. */
    void (*fill)(struct maildir_file *file, struct buffer *out);
    void (*done)(struct maildir_file *file, int error); /* 0 or -errno */

    enum maildir_step step;
    struct op op;
    int fd;
    int error;
    bool made;         /* the directories have been made once */
    size_t made_bytes; /* of `directory`, that exist */
    unsigned made_inside;
    uint64_t offset;
    struct iovec piece;
    struct buffer chunk;
    char path[MAILDIR_PATH_BYTES];
    char to[MAILDIR_PATH_BYTES];
    char room[MAILDIR_CHUNK_BYTES];
};

void maildir_file_begin(struct maildir_file *file);

#endif
