/* Where a recipient's mail is put: the names of her Maildir's directories and of the file in them. */
#ifndef DELIVERY_MAILDIR_PATH_H
#define DELIVERY_MAILDIR_PATH_H

#include "base/bytes.h"

#define MAILDIR_PATH_BYTES 1024 /* of a whole path, with its NUL */

/* Writes the directory that a template ("/var/mail/%d/%u") makes of a domain and a local part, with NUL. The domain is
 * the configuration's, never a peer's. The local part is a stranger's: its folded base (mail/local_part.h) is written
 * so that it is one name in a directory and no two give the same one. What is not a letter, a digit, one of "_-+=@~,"
 * or, but for the first octet, a dot, becomes %XX; so does an octet above 127 outside of valid UTF-8. False when it is
 * longer than `out` or a name than 255. */
bool maildir_path_directory(const char *template, struct bytes domain, struct bytes local, char separator,
                            struct buffer *out);

/* Writes the message's name in the directory's tmp/ and new/: "seconds.M<id>R<recipient>.host". It is made of nothing
 * but what stays the same when the delivery is repeated, so that a repetition finds its own copy. */
bool maildir_path_name(uint64_t arrival_ms, uint64_t id, unsigned recipient, struct bytes host, struct buffer *out);

#endif
