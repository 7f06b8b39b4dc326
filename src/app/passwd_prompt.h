/* A password from whoever sits at the terminal, or from standard input when that is none. */
#ifndef APP_PASSWD_PROMPT_H
#define APP_PASSWD_PROMPT_H

#include <stdbool.h>

#include "base/bytes.h"
#include "sasl/credentials.h"

#define PASSWD_PROMPT_BYTES (CREDENTIALS_PASSWORD_BYTES_MAX + 2) /* with line end and NUL */

/* Reads one into `room` of PASSWD_PROMPT_BYTES, without echo, `twice` for a new one. Printable ASCII of 1 to
 * CREDENTIALS_PASSWORD_BYTES_MAX octets, or false after having said on standard error what was wrong. To be wiped. */
bool passwd_prompt(const char *name, bool twice, char *room, struct bytes *ret_password);

#endif
