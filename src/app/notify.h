/* Telling systemd how we are (sd_notify(3)'s protocol: a datagram to $NOTIFY_SOCKET). All of it does nothing when
 * systemd did not start us, and never fails: a service manager that does not listen is no reason to stop mail. */
#ifndef APP_NOTIFY_H
#define APP_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Reads and removes the environment variables, so that children do not inherit them. Once, before threads. */
void notify_init(void);

/* Does systemd listen? */
bool notify_wanted(void);

void notify_ready(void);     /* mail is taken; also ends a reload */
void notify_reloading(void); /* a reload has begun */
void notify_stopping(void);
/* One line for `systemctl status`. */
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* To be sent, while all is well, at least every notify_watchdog_ms(); 0: no watchdog is set. */
void notify_watchdog(void);
uint64_t notify_watchdog_ms(void); /* half of what systemd allows */

#endif
