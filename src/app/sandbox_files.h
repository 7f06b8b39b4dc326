/* Landlock: from some point on, only these directories (our own system calls; no library has them). */
#ifndef APP_SANDBOX_FILES_H
#define APP_SANDBOX_FILES_H

#include <stdbool.h>
#include <stddef.h>

/* The kernel's Landlock ABI version, 1 and up; 0: it has none, or it is not enabled. */
int sandbox_files_version(void);

/* Rules are collected, then enforced once. A descriptor, or -errno. */
int sandbox_files_begin(void);
/* What lies at or under the path, in these ways. A path that is not there gets no rule: 0. 0 or -errno. */
enum sandbox_files_access { SANDBOX_FILES_READ, SANDBOX_FILES_WRITE /* and read, make, remove, rename */ };
int sandbox_files_allow(int rules, const char *path, enum sandbox_files_access access);
/* For the calling thread and those that it makes, for good; needs no_new_privs. Closes `rules` in any case. 0 or
 * -errno. Nothing may be executed from then on. */
int sandbox_files_enforce(int rules);

#endif
