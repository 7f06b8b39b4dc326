/* A message on its way past the filters of a listener: shown to one after the other, each with what those before it
 * have made of it; changed as they say; and at the end written as it then is.
 *
 *   LOADING     the header is read into memory, where it is edited; what follows it stays where it is
 *   SHOWING     header, end of header, body, end: to one filter; its edits come behind the end
 *   RESTORING   if anything was changed: header and body once more through the reader of wire form (smtp/dot), into a
 *               store of its own, which then stands in for the first, whose extents are given back
 *
 * Filters are asked when the message is whole. So a second filter can see what the first one has done, a signature
 * covers it, no filter ever sees a message that is refused for its form, and a slow filter costs the client's patience
 * for one reply but neither memory nor a window: what is large lies in the spool.
 *
 * What filters hand us is as hostile as what a client sends: fields are made in milter/milter_header, a new body is
 * dot-stuffed here, and nothing is stored unless smtp/dot finds exactly one message in it, of allowed lines, size and
 * octets. */
#ifndef INBOUND_FILTER_CONTENT_H
#define INBOUND_FILTER_CONTENT_H

#include "inbound/body_store.h"
#include "inbound/filter.h"
#include "inbound/reception.h"
#include "milter/milter_header.h"
#include "milter/milter_say.h"
#include "smtp/unstuff.h"

#define FILTER_CONTENT_HEADER_BYTES_MAX (256u * 1024) /* of a message that filters look at */
#define FILTER_CONTENT_ADDED_BYTES_MAX (64u * 1024)   /* that they may add to its header */

enum filter_content_phase {
    CONTENT_FIELDS,
    CONTENT_END_OF_HEADER,
    CONTENT_BODY,
    CONTENT_END,
    CONTENT_TOLD, /* all that this filter wants of it */
};

struct filter_content {
    struct inbound *inbound;
    struct profile *profile; /* the session's; only while somebody owns this */
    struct reception *reception;
    void (*woken)(void *owner);
    void *owner; /* NULL: nobody; goes when nothing is in flight any more */
    struct milter_header header;
    size_t reserved;
    size_t window; /* octets of the message that were looked at for the end of its header */
    bool binary;   /* BODY=BINARYMIME: what is in its lines is nobody's business */
    uint64_t id;
    /* what follows the header, in `source`, from `rest_at` on */
    struct body_store *source;
    uint64_t rest_at;
    uint64_t source_bytes; /* with the final dot */
    bool blank;            /* an empty line stands there, between header and body */
    struct body_store replacement;
    struct dot replacement_dot;
    bool replacing; /* by the filter that is being asked */
    bool replaced;
    struct body_store result;
    struct dot dot; /* of the result */
    struct body_reader reader;
    void (*reader_ready)(struct filter_content *content);
    bool reading;
    bool restoring;
    uint64_t skip; /* octets still to be passed over */
    /* the filter that is being asked */
    uint8_t phase; /* enum filter_content_phase */
    size_t field_at;
    struct unstuff unstuff;
    uint64_t left; /* octets of the source still to be shown */
    unsigned edits;
};

enum filter_content_result {
    CONTENT_OK,
    CONTENT_WAIT,      /* `woken` will be called */
    CONTENT_TOO_LARGE, /* its header, for filters; or what they made of it */
    CONTENT_BAD,       /* what they made of it is no message */
    CONTENT_NO_MEMORY,
    CONTENT_FAILED, /* the spool */
};

/* NULL without memory. The reception has its whole message, of `bytes` octets, and stays as it is meanwhile. */
struct filter_content *filter_content_new(struct inbound *inbound, struct profile *profile, struct reception *reception,
                                          uint64_t bytes, bool binary, void (*woken)(void *owner), void *owner);
void filter_content_drop(struct filter_content *content);

/* Loads the header, with the prologue in front of it. To be called until it is no WAIT. */
enum filter_content_result filter_content_load(struct filter_content *content, struct bytes prologue);

/* Another filter: from the beginning. */
void filter_content_start(struct filter_content *content);
/* Puts as much into filter->out as may be said at once, and says which step it ends with: MILTER_STEP_NONE, and nothing
 * in filter->out, when this filter has been told all. */
enum filter_content_result filter_content_say(struct filter_content *content, struct filter *filter,
                                              const struct milter_macro *macros, enum milter_step *ret_step);

#endif
