#include "app/control_ops.h"

#include <stdlib.h>

#include "base/check.h"

void control_ops_free_destinations(struct control_destination *destinations, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(destinations[i].domain);
        free(destinations[i].last_error);
    }
    free(destinations);
}

void control_ops_free_recipients(struct control_recipients *recipients)
{
    for (size_t i = 0; i < recipients->count; i++) {
        free(recipients->items[i].sender);
        free(recipients->items[i].recipient);
        free(recipients->items[i].last_error);
    }
    free(recipients->items);
    *recipients = (struct control_recipients){.count = 0};
}

const char *control_ops_state_name(enum control_state state)
{
    static const char *const names[] = {
        [CONTROL_READY] = "ready",
        [CONTROL_ACTIVE] = "active",
        [CONTROL_DEFERRED] = "deferred",
        [CONTROL_HELD] = "held",
    };
    CHECK(state < CONTROL_STATES);
    return names[state];
}

const char *control_ops_action_name(enum control_action action)
{
    static const char *const names[] = {
        [CONTROL_HOLD] = "hold",     [CONTROL_RELEASE] = "release", [CONTROL_RETRY] = "retry",
        [CONTROL_DELETE] = "delete", [CONTROL_BOUNCE] = "bounce",
    };
    CHECK(action < CONTROL_ACTIONS);
    return names[action];
}
