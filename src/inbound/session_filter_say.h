/* What a session tells its filters: steps and macros, by the names that sendmail gave them and Postfix uses. */
#ifndef INBOUND_SESSION_FILTER_SAY_H
#define INBOUND_SESSION_FILTER_SAY_H

#include "inbound/session_filter.h"

/* What is to be said to this filter next, of what the session knows: appended to filter->out with its macros. Returns
 * the step; MILTER_STEP_NONE: only `step` is left, and it is not wanted, or is the end of a message. */
enum milter_step session_filter_say_put(struct server_session *session, struct filter *filter, enum milter_step step);

/* Those of the end of a message, two with the one that ends them. Valid until the next call. */
void session_filter_say_macros(struct server_session *session, struct milter_macro *ret_macros);

#endif
