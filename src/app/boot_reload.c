/* SIGHUP. All or nothing: with one key changed that needs a restart, nothing is taken over, and the log names every
 * such key.
 *
 * Certificates are also read again when their files change: a renewal needs no command. Sessions keep what they began
 * with.
 *
 * What is replaced is kept until the end: connections and sites still look at their old routes. A reload costs a few
 * kilobytes.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "app/boot_limits.h"
#include "app/boot_listener.h"
#include "app/boot_private.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/tls.h"
#include "inbound/accounts.h"

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
    shard->file_workers = boot->file_workers;
    delivery_reload(shard->delivery, &boot->mapped->delivery);
    if (shard->inbound != NULL && !inbound_reload(shard->inbound, &boot->mapped->inbound)) {
        log_line(LOG_ERROR, "no memory for the new settings of listeners", "shard=%u", shard->index);
    }
    if (shard->events != NULL) {
        event_log_change(shard->events, &boot->mapped->events);
    }
}

#define EXPIRY_WARNING_S (14 * 86400)

static uint64_t files_seen(const struct settings *settings);

/* When the first of the certificates in use ends, for the metric; and in the log when that is soon. */
static void note_expiry(struct boot *boot)
{
    int64_t first = 0;
    for (unsigned i = 0; i < boot->mapped->inbound.listeners_count; i++) {
        const struct inbound_listener_settings *listener = &boot->mapped->listeners[i];
        int64_t expires = listener->tls_context != NULL ? tls_context_expires(listener->tls_context) : 0;
        first = expires != 0 && (first == 0 || expires < first) ? expires : first;
        if (expires != 0 && expires < (int64_t)(clock_wall_ms() / 1000) + EXPIRY_WARNING_S) {
            log_line(LOG_WARNING, "a certificate ends soon, or has", "listener=%s days=%lld unix_time=%lld",
                     listener->name, (long long)(expires - (int64_t)(clock_wall_ms() / 1000)) / 86400,
                     (long long)expires);
        }
    }
    atomic_store(&boot->expires, first);
}

/* Puts new settings in force. False without memory. */
static bool adopt(struct boot *boot, struct settings *settings, struct boot_settings *mapped, uint64_t files)
{
    struct boot_generation *old = calloc(1, sizeof *old);
    if (old == NULL) {
        return false;
    }
    old->next = boot->generations;
    old->mapped = boot->mapped;
    boot->generations = old;
    if (settings != NULL) {
        old->settings = boot->loaded;
        boot->loaded = settings;
        boot->settings = settings;
    }
    mapped->inbound.accounts = boot->accounts;
    boot->mapped = mapped;
    for (unsigned i = 0; i < mapped->shards; i++) {
        shard_call(boot->group, i, apply, boot);
    }
    boot_listener_release(old->mapped->listeners, old->mapped->inbound.listeners_count);
    boot->files = files;
    note_expiry(boot);
    return true;
}

struct boot_settings *boot_reload_map(const struct settings *settings)
{
    char reason[768] = "no memory";
    char quoted[1024];
    struct boot_settings *mapped = boot_settings_new(settings);
    if (mapped != NULL && boot_listener_secure(mapped->listeners, settings, reason, sizeof reason)) {
        return mapped;
    }
    log_line(LOG_ERROR, "TLS is not set up", "reason=%s", log_quote(bytes_of_string(reason), quoted, sizeof quoted));
    if (mapped != NULL) {
        boot_settings_free(mapped);
    }
    return NULL;
}

/* Those in force stay when the file has errors. */
static bool load_accounts(struct boot *boot, const struct settings *settings)
{
    const char *path = settings->auth.passwords;
    return path[0] == '\0' || accounts_load(boot->accounts, path, report_error, NULL);
}

void boot_reload(struct boot *boot)
{
    struct settings *settings = settings_load(boot->settings->path, report_error, NULL);
    if (settings == NULL) {
        log_line(LOG_ERROR, "configuration not reloaded", "reason=\"it has errors\"");
        return;
    }
    unsigned restarts = settings_diff(boot->settings, settings, report_change, NULL);
    uint64_t files = files_seen(settings); /* before they are read */
    bool good = restarts == 0 && sandbox_covers(&boot->sandbox, settings) && load_accounts(boot, settings) &&
                boot_file_workers(boot, settings);
    struct boot_settings *mapped = good ? boot_reload_map(settings) : NULL;
    struct settings *previous = boot->loaded;
    if (mapped == NULL || !adopt(boot, settings, mapped, files)) {
        if (mapped != NULL) {
            boot_settings_free(mapped);
        }
        settings_free(settings);
        log_line(LOG_ERROR, "configuration not reloaded", "keys_that_need_a_restart=%u", restarts);
        return;
    }
    log_set_level(settings->log.level);
    tls_session_limit(settings->tls.sessions_max);
    boot_limits_reload(boot);
    const struct accounts_settings accounts = boot_listener_accounts(boot->settings);
    accounts_set(boot->accounts, &accounts);
    if (previous != NULL) { /* what nobody looks at any more, and may be large */
        recipients_delete(previous->recipients);
        previous->recipients = NULL;
    }
    struct recipients_count count = recipients_counts(settings->recipients);
    log_line(LOG_INFO, "configuration reloaded", "path=%s domains=%u mailboxes=%u aliases=%u", settings->path,
             count.domains, count.mailboxes, count.aliases);
}

/* --- files that are replaced under us ----------------------------------------------------------------------------- */

static void see_file(void *context, const char *path)
{
    uint64_t *hash = context;
    struct stat facts = {0};
    stat(path, &facts);
    const uint64_t values[] = {facts.st_dev, facts.st_ino, (uint64_t)facts.st_size, (uint64_t)facts.st_mtim.tv_sec,
                               (uint64_t)facts.st_mtim.tv_nsec};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        *hash = (*hash ^ values[i]) * 0x100000001b3ull; /* FNV-1a, a word at a time */
    }
}

static uint64_t files_seen(const struct settings *settings)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    boot_listener_files(settings, see_file, &hash);
    return hash;
}

static void look_at_passwords(struct boot *boot)
{
    const char *path = boot->settings->auth.passwords;
    if (path[0] != '\0' && accounts_load_if_changed(boot->accounts, path, report_error, NULL) == ACCOUNTS_LOADED) {
        log_line(LOG_INFO, "passwords read again", "path=%s", path);
    }
}

bool boot_reload_start(struct boot *boot)
{
    boot->files = files_seen(boot->settings);
    note_expiry(boot);
    tls_session_limit(boot->settings->tls.sessions_max);
    return load_accounts(boot, boot->settings);
}

void boot_reload_files(struct boot *boot)
{
    look_at_passwords(boot);
    uint64_t seen = files_seen(boot->settings);
    if (seen == boot->files) {
        return;
    }
    boot->files = seen; /* also when they are no good: that is said once, and looked at again when they change again */
    struct boot_settings *mapped = boot_reload_map(boot->settings);
    if (mapped == NULL) {
        return;
    }
    if (!adopt(boot, NULL, mapped, seen)) {
        boot_settings_free(mapped);
        return;
    }
    log_line(LOG_INFO, "certificates read again", NULL);
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
