/* Delivery into Maildirs: the end of the way for domains that are configured so (delivery_settings.locals).
 *
 * A local destination is one in the queue like any other, but never gets a lane: there are no hosts to look for and no
 * connection to wait for, only a bound on how many messages are being written at once. Destinations with something
 * ready take turns, a message each. A message is borrowed from its owner, brought into memory, and written into one
 * file per recipient (maildir_file.h). Where there is a quota it is asked about before, and told of the message after.
 * A full disk or quota defers (4.3.1, 4.2.2), as does everything else that an
 * administrator can repair; nothing that the file system says is final.
 *
 * Who exists was asked at RCPT. A mailbox that has left its file since then still gets what was accepted for it.
 */
#ifndef DELIVERY_MAILDIR_H
#define DELIVERY_MAILDIR_H

#include "delivery/delivery.h"

struct maildirs *maildir_new(struct delivery *delivery);
void maildir_delete(struct maildirs *maildirs);

/* Other settings from now on. */
void maildir_index(struct maildirs *maildirs);

/* The Maildir domain of that name, which is in lower case, or NULL. */
const struct delivery_local *maildir_local(const struct maildirs *maildirs, struct bytes domain);

/* Is this destination's mail put into Maildirs? */
bool maildir_serves(const struct maildirs *maildirs, const struct destination *destination);

/* queue_ops.ready and .idle of such destinations */
void maildir_ready(struct maildirs *maildirs, struct destination *destination);
void maildir_idle(struct maildirs *maildirs, struct destination *destination);

/* queue_ops.lent of jobs with DELIVERY_JOB_LOCAL */
void maildir_lent(struct maildirs *maildirs, const void *payload, size_t length);

/* Once a turn: begins what may begin. */
void maildir_run(struct maildirs *maildirs);

/* How many messages are being written. */
unsigned maildir_running(const struct maildirs *maildirs);

#endif
