/* Listeners, from what the operator wrote to what inbound wants to know, their TLS included. */
#ifndef APP_BOOT_LISTENER_H
#define APP_BOOT_LISTENER_H

#include "app/settings.h"
#include "inbound/accounts.h"
#include "inbound/inbound.h"

/* One listener, without its TLS context; points into the settings. */
void boot_listener_map(struct inbound_listener_settings *to, const struct settings *settings, unsigned i);

/* Makes the contexts of those that have TLS: reads certificates, keys and authorities. False with a one-line reason,
 * and then no listener has one. Blocks: not for a shard. */
bool boot_listener_secure(struct inbound_listener_settings *listeners, const struct settings *settings, char *reason,
                          size_t reason_size);
/* Gives the contexts back: whoever uses one still has a reference. */
void boot_listener_release(struct inbound_listener_settings *listeners, unsigned count);

/* How logins are hashed and guessed ones held up. */
struct accounts_settings boot_listener_accounts(const struct settings *settings);

/* Calls `file` for each file that boot_listener_secure reads. */
void boot_listener_files(const struct settings *settings, void (*file)(void *context, const char *path), void *context);

#endif
