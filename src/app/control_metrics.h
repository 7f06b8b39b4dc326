/* /metrics: the shards' counters, and the fullest destinations. */
#ifndef APP_CONTROL_METRICS_H
#define APP_CONTROL_METRICS_H

#include "app/control_ops.h"

#define CONTROL_METRICS_DESTINATIONS 20 /* told apart; all others are one series, so that their number is bounded */

/* Prometheus text, malloc'ed; NULL without memory. */
char *control_metrics_render(const struct control_ops *ops, size_t *ret_length);

#endif
