/* Reads a peer's EHLO reply (RFC 5321 4.1.1.1). Only client.c includes this. */
#ifndef SMTP_CLIENT_EHLO_H
#define SMTP_CLIENT_EHLO_H

#include "smtp/client.h"

/* No capability, no limit. */
void smtp_client_ehlo_clear(struct smtp_client *c);

/* One line after the first, without its code: a keyword and perhaps parameters. What is unknown, or not well formed, is
 * passed over. */
void smtp_client_ehlo_line(struct smtp_client *c, struct bytes line);

#endif
