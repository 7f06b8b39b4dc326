/* What may be said to a peer: which transactions, which addresses, which parameters. smtp_client_fit() itself is in
 * client.h. */
#ifndef SMTP_CLIENT_FIT_H
#define SMTP_CLIENT_FIT_H

#include "smtp/client.h"

/* Does the transaction ask for SMTPUTF8, and the peer have it? */
bool smtp_client_fit_utf8(const struct smtp_client *c, const struct smtp_client_transaction *transaction);

/* Can the parameter's value be passed on: not empty, printable ASCII without spaces, not too long? The spool keeps what
 * SMTP brought, but what is read from a disk is not believed. */
bool smtp_client_fit_parameter(struct bytes value);

#endif
