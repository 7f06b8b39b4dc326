/* The /queue part of the control interface. */
#ifndef APP_CONTROL_QUEUE_H
#define APP_CONTROL_QUEUE_H

#include "app/control_request.h"

#define CONTROL_QUEUE_LIMIT_DEFAULT 1000
#define CONTROL_QUEUE_LIMIT_MAX 100000

/* GET /queue, GET /queue/messages, GET /queue/messages/<id> */
struct control_reply control_queue_summary(const struct control_request *request, const struct control_ops *ops);
struct control_reply control_queue_list(const struct control_request *request, const struct control_ops *ops);
struct control_reply control_queue_show(const struct control_request *request, const struct control_ops *ops,
                                        const char *id);
/* POST /queue/<action> */
struct control_reply control_queue_act(const struct control_request *request, const struct control_ops *ops,
                                       enum control_action action);

/* The fullest first. */
void control_queue_sort(struct control_destination *destinations, size_t count);

/* 16 hexadecimal digits, not all 0. */
bool control_queue_parse_id(const char *text, uint64_t *ret_id);

#endif
