/* Makes a message fit for the host that a connection leads to. */
#ifndef DELIVERY_FITTING_H
#define DELIVERY_FITTING_H

#include "delivery/client_session.h"

/* Makes session->next fit the peer: converts it, leaves recipients for another time, or ends it, because nothing helps.
 * True when it may begin. */
bool fitting_next(struct client_session *session);

#endif
