/* What filters make of a message: their edits, and the message that comes of them. */
#ifndef INBOUND_FILTER_EDIT_H
#define INBOUND_FILTER_EDIT_H

#include "inbound/filter_content.h"

/* Carries out the edit that was heard, if it is one of the header or the body. */
enum filter_content_result filter_edit_take(struct filter_content *content, const struct filter *filter);
/* No more of a new body may be taken now. */
bool filter_edit_stalled(const struct filter_content *content);
/* The filter has decided: its new body is whole. */
enum filter_content_result filter_edit_settle(struct filter_content *content);

/* All filters have seen it: hands what they made of it to the reception. Until it is no WAIT. */
enum filter_content_result filter_edit_restore(struct filter_content *content);

#endif
