/* Changing the password file: read, changed in one line, and put in place of the old one in one step. A server that
 * reads it meanwhile, or a power cut, finds the one or the other. */
#ifndef APP_PASSWD_FILE_H
#define APP_PASSWD_FILE_H

#include "base/bytes.h"
#include "sasl/credentials.h"

struct passwd_file {
    char path[4096]; /* symbolic links resolved */
    char *text;
    size_t length;
    bool existed;
    int lock; /* the directory; two that change it wait for each other */
    struct credentials *credentials;
};

/* Reads and checks; a missing file is an empty one when `create`. Says on standard error what is wrong and returns an
 * exit code (enum cli_exit) then, else CLI_OK. `change`: waits for others that change it. */
int passwd_file_open(struct passwd_file *file, const char *path, bool change, bool create);
void passwd_file_close(struct passwd_file *file);

/* Puts `line` (without line end) in the place of line number `number` (0: at the end), or takes that line out when it
 * is empty; checks the result and makes it durable. Owner and mode stay; a new file is 0600. An exit code. */
int passwd_file_replace(struct passwd_file *file, unsigned number, struct bytes line);

#endif
