/* What the SMTP machine says of transactions, recipients and the connection's end, turned into outcomes. */
#ifndef DELIVERY_VERDICT_H
#define DELIVERY_VERDICT_H

#include "delivery/client_session.h"
#include "delivery/outcome.h"

/* For the machine's events RECIPIENT, FINAL and DONE. */
void verdict_recipient(struct client_session *session);
void verdict_final(struct client_session *session);
void verdict_done(struct client_session *session);

/* Why a connection came to nothing. The text is valid as long as the session is. */
struct outcome_cause verdict_of_end(const struct client_session *session);

#endif
