#include "app/control_ops.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static int compare_domains(const void *a, const void *b)
{
    const char *left = ((const struct control_destination *)a)->domain;
    const char *right = ((const struct control_destination *)b)->domain;
    return strcmp(left != NULL ? left : "", right != NULL ? right : "");
}

/* 0 is no time. */
static uint64_t earlier(uint64_t a_ms, uint64_t b_ms)
{
    return b_ms != 0 && (a_ms == 0 || b_ms < a_ms) ? b_ms : a_ms;
}

static void merge(struct control_destination *into, struct control_destination *from)
{
    into->ready += from->ready;
    into->active += from->active;
    into->deferred += from->deferred;
    into->held += from->held;
    into->oldest_ms = earlier(into->oldest_ms, from->oldest_ms);
    into->next_attempt_ms = earlier(into->next_attempt_ms, from->next_attempt_ms);
    if (into->last_error == NULL) {
        into->last_error = from->last_error;
        from->last_error = NULL;
    }
    free(from->domain);
    free(from->last_error);
}

size_t control_ops_merge_destinations(struct control_destination *destinations, size_t count)
{
    size_t kept = 0;
    if (count != 0) {
        qsort(destinations, count, sizeof *destinations, compare_domains);
    }
    for (size_t i = 0; i < count; i++) {
        if (kept != 0 && compare_domains(&destinations[kept - 1], &destinations[i]) == 0) {
            merge(&destinations[kept - 1], &destinations[i]);
        } else {
            destinations[kept++] = destinations[i];
        }
    }
    return kept;
}

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
