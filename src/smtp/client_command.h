/* How the client machine words what it says. Only client_pipeline.c includes this. */
#ifndef SMTP_CLIENT_COMMAND_H
#define SMTP_CLIENT_COMMAND_H

#include "smtp/client_pipeline.h"

/* Appends the command, whole, with its CRLF. False when it does not fit; `out` may then hold a part of it. */
bool smtp_client_command_append(const struct smtp_client *c, enum smtp_client_pipeline_say say, struct buffer *out);

#endif
