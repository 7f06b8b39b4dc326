/* SIGHUP. All or nothing: with one key changed that needs a restart, nothing is taken over, and the log names every
 * such key.
 *
 * What is replaced is kept until the end: connections and sites still look at their old routes. A reload costs a few
 * kilobytes.
 */
#include <stdlib.h>

#include "app/boot_limits.h"
#include "app/boot_private.h"
#include "core/log.h"

static void report_error(void *context, const char *message)
{
    char quoted[1024];
    (void)context;
    log_line(LOG_ERROR, "configuration error", "at=%s", log_quote(bytes_of_string(message), quoted, sizeof quoted));
}

static void report_change(void *context, const char *path, bool restart, const char *from, const char *to)
{
    char old[512];
    char new[512];
    (void)context;
    log_line(restart ? LOG_ERROR : LOG_INFO, restart ? "needs a restart" : "setting changed", "key=%s from=%s to=%s",
             path, log_quote(bytes_of_string(from), old, sizeof old), log_quote(bytes_of_string(to), new, sizeof new));
}

static void apply(struct shard *shard, void *context)
{
    struct boot *boot = context;
    shard->queue->settings = boot->mapped->queue;
    delivery_reload(shard->delivery, &boot->mapped->delivery);
    if (shard->inbound != NULL && !inbound_reload(shard->inbound, &boot->mapped->inbound)) {
        log_line(LOG_ERROR, "no memory for the new settings of listeners", "shard=%u", shard->index);
    }
    if (shard->events != NULL) {
        event_log_change(shard->events, &boot->mapped->events);
    }
}

void boot_reload(struct boot *boot)
{
    struct settings *settings = settings_load(boot->settings->path, report_error, NULL);
    if (settings == NULL) {
        log_line(LOG_ERROR, "configuration not reloaded", "reason=\"it has errors\"");
        return;
    }
    unsigned restarts = settings_diff(boot->settings, settings, report_change, NULL);
    struct boot_generation *old = restarts == 0 ? calloc(1, sizeof *old) : NULL;
    struct boot_settings *mapped = old != NULL ? boot_settings_new(settings) : NULL;
    if (mapped == NULL) {
        free(old);
        settings_free(settings);
        log_line(LOG_ERROR, "configuration not reloaded", "keys_that_need_a_restart=%u", restarts);
        return;
    }
    *old = (struct boot_generation){.next = boot->generations, .settings = boot->loaded, .mapped = boot->mapped};
    boot->generations = old;
    boot->loaded = settings;
    boot->settings = settings;
    boot->mapped = mapped;
    log_set_level(settings->log.level);
    boot_limits_reload(boot);
    for (unsigned i = 0; i < mapped->shards; i++) {
        shard_call(boot->group, i, apply, boot);
    }
    if (old->settings != NULL) { /* what nobody looks at any more, and may be large */
        recipients_delete(old->settings->recipients);
        old->settings->recipients = NULL;
    }
    struct recipients_count count = recipients_counts(settings->recipients);
    log_line(LOG_INFO, "configuration reloaded", "path=%s domains=%u mailboxes=%u aliases=%u", settings->path,
             count.domains, count.mailboxes, count.aliases);
}

void boot_reload_free(struct boot *boot)
{
    boot_settings_free(boot->mapped);
    if (boot->loaded != NULL) {
        settings_free(boot->loaded);
    }
    while (boot->generations != NULL) {
        struct boot_generation *generation = boot->generations;
        boot->generations = generation->next;
        boot_settings_free(generation->mapped);
        if (generation->settings != NULL) {
            settings_free(generation->settings);
        }
        free(generation);
    }
}
