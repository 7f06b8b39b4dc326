/* `domains`: which of them are ours, who is there, and where their mail goes. */
#ifndef APP_SETTINGS_DOMAINS_H
#define APP_SETTINGS_DOMAINS_H

#include "app/settings.h"

extern const struct config_key settings_domains_keys[]; /* of one item */

/* Completes the values, checks them against each other, and reads the mailboxes and aliases files: their errors are the
 * configuration's. */
void settings_domains_complete(struct settings *settings, config_report *report, void *context);

#endif
