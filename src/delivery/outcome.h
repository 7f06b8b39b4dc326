/* From what a remote host said, or failed to say, to what becomes of recipients. */
#ifndef DELIVERY_OUTCOME_H
#define DELIVERY_OUTCOME_H

#include "delivery/delivery.h"

struct attempt;

/* Why recipients were not delivered. Spans are valid for the call they are passed to. */
struct outcome_cause {
    bool permanent;
    uint16_t reply_code; /* 0: nobody replied */
    uint8_t enhanced[3];
    struct bytes text;
    struct bytes host; /* who replied; may be empty */
};

/* A cause in our own words; the code is "4.x.y" or "5.x.y". */
struct outcome_cause outcome_local(bool permanent, uint8_t subject, uint8_t detail, const char *text);

/* The text points into the result. */
struct outcome_cause outcome_of_mx(const struct mx_result *result);

/* The text points into the reply. */
struct outcome_cause outcome_of_reply(const struct smtp_client_reply *reply, bool permanent, struct bytes host);

/* Takes up to `messages` messages' worth of ready recipients from a destination and ends or defers them with the cause,
 * counted as an attempt. */
void outcome_fail_some(struct delivery *delivery, struct destination *destination, const struct outcome_cause *cause,
                       unsigned messages);

/* Recipients `first`.. of an attempt that have no outcome yet: delivered, or the cause. */
void outcome_delivered(struct attempt *attempt, const struct smtp_client_reply *reply, struct bytes host);
void outcome_failed(struct attempt *attempt, const struct outcome_cause *cause);

/* The same without the message, which was not lent: its owner tells the event log. */
void outcome_unseen(struct attempt *attempt, const struct outcome_cause *cause);
/* One recipient of an attempt: in its mailbox for good, or the cause. */
void outcome_arrived(struct attempt *attempt, unsigned recipient, const char *text);
void outcome_recipient(struct attempt *attempt, unsigned recipient, const struct outcome_cause *cause);
void outcome_recipient_delivered(struct attempt *attempt, unsigned recipient, const struct smtp_client_reply *reply,
                                 struct bytes host);
/* Those without an outcome go back to the ready list, as if they had not been tried. */
void outcome_return(struct attempt *attempt);

#endif
