/* The /quarantine part of the control interface: messages that do not verify. */
#ifndef APP_CONTROL_QUARANTINE_H
#define APP_CONTROL_QUARANTINE_H

#include "app/control_request.h"

/* GET /quarantine */
struct control_reply control_quarantine_list(const struct control_request *request, const struct control_ops *ops);
/* POST /quarantine/drop, with {"id": "..."} or {"all": true}; POST /quarantine/forget, with {} */
struct control_reply control_quarantine_drop(const struct control_request *request, const struct control_ops *ops);
struct control_reply control_quarantine_forget(const struct control_request *request, const struct control_ops *ops);

#endif
