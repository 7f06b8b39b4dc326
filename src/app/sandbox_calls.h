/* seccomp: from some point on, only these system calls. */
#ifndef APP_SANDBOX_CALLS_H
#define APP_SANDBOX_CALLS_H

#include <stdbool.h>

/* Can this kernel, and this build, do it? Sanitizers need calls that the server does not. */
bool sandbox_calls_possible(void);

/* For all threads of the process and those that they make, for good; needs no_new_privs. 0 or -errno. */
int sandbox_calls_restrict(void);

#endif
