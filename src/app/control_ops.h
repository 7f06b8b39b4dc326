/* What the control server asks of the rest of the program: a table of functions, so that it is tested without one.
 *
 * They are called on the control server's two threads (unix socket, TCP), so two may run at a time, and may block for
 * as long as shards take to answer. Texts in results are malloc'ed and become the caller's (control_ops_free_*); NULL
 * stands for "".
 */
#ifndef APP_CONTROL_OPS_H
#define APP_CONTROL_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One destination (a recipient domain, or the site that several share). */
struct control_destination {
    char *domain;
    uint64_t ready;
    uint64_t active; /* in delivery */
    uint64_t deferred;
    uint64_t held;
    uint64_t oldest_ms;       /* wall clock at which its oldest recipient was accepted; 0: not known */
    uint64_t next_attempt_ms; /* wall clock; 0: none is waiting */
    char *last_error;
};

enum control_state { CONTROL_READY, CONTROL_ACTIVE, CONTROL_DEFERRED, CONTROL_HELD, CONTROL_STATES };

/* One recipient of a message, with what it has in common with the others. */
struct control_recipient {
    uint64_t id;
    char *sender;
    char *recipient;
    uint64_t message_bytes;
    uint64_t arrival_ms;
    enum control_state state;
    unsigned attempts;
    uint64_t next_attempt_ms; /* 0: now, or held */
    char *last_error;
};

struct control_recipients {
    struct control_recipient *items; /* malloc'ed */
    size_t count;
    bool more; /* there were more than `limit` */
};

/* Which recipients. Exactly one of the three is set, or `all`. Domains are compared without case. */
struct control_match {
    uint64_t id; /* 0: not by message */
    const char *domain;
    const char *sender; /* "" is the null sender */
    bool all;
};

/* A message that does not verify. */
struct control_quarantined {
    uint64_t id;
    char file[32]; /* below the spool's path */
    uint64_t offset;
    uint64_t bytes;
    unsigned recipients;
    bool readable; /* the envelope is; if not, the next two are not known */
    uint64_t arrival_ms;
    char sender[256];
};

struct control_quarantine {
    struct control_quarantined *items; /* malloc'ed */
    size_t count;
    bool more;
    uint64_t damaged_records; /* that belong to no queued message, in segments that are kept for them */
    uint64_t damaged_segments;
};

enum control_action {
    CONTROL_HOLD,    /* no attempt until released; expiry is not counted meanwhile */
    CONTROL_RELEASE, /* undoes hold */
    CONTROL_RETRY,   /* now instead of at the next attempt's time */
    CONTROL_DELETE,  /* removed without a notice */
    CONTROL_BOUNCE,  /* failed now, with a notice to the sender */
    CONTROL_ACTIONS,
};

struct control_ops {
    /* Every destination that has recipients. Returns their number and a malloc'ed array. */
    size_t (*queue_summary)(void *context, struct control_destination **ret_destinations);
    /* Recipients that match, oldest first, at most `limit`. */
    struct control_recipients (*message_list)(void *context, const struct control_match *match, size_t limit);
    /* Number of recipients that the action was applied to. */
    uint64_t (*queue_action)(void *context, enum control_action action, const struct control_match *match);
    /* Messages that do not verify, at most `limit`; the end of one (id 0: of all): returns how many; and letting go of
     * damaged records: returns how many. */
    struct control_quarantine (*quarantine_list)(void *context, size_t limit);
    uint64_t (*quarantine_drop)(void *context, uint64_t id);
    uint64_t (*quarantine_forget)(void *context);
    /* Has every shard's loop answered within `timeout_ms`? Writes one line of explanation when not. */
    bool (*healthy)(void *context, unsigned timeout_ms, char *reason, size_t reason_size);
    /* Is mail taken (not starting, not stopping, disk writable)? */
    bool (*ready)(void *context, char *reason, size_t reason_size);
    /* metric_render's text. */
    char *(*metrics)(void *context, size_t *ret_length);
    void *context;
};

/* Makes one of those with the same domain: one has an entry on every shard that it has recipients on. Returns how many
 * are left. */
size_t control_ops_merge_destinations(struct control_destination *destinations, size_t count);
void control_ops_free_destinations(struct control_destination *destinations, size_t count);
void control_ops_free_recipients(struct control_recipients *recipients);

/* "ready", "active", ...; "hold", "release", ... */
const char *control_ops_state_name(enum control_state state);
const char *control_ops_action_name(enum control_action action);

#endif
