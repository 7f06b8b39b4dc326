/* Clients must not use up the descriptors that the spool needs: without one no new segment can be opened, and intake
 * would stay closed until they leave. So when the process may not open as many as the configuration wants, fewer
 * clients are let in, and the log says so. */
#include "app/boot_limits.h"

#include <sys/resource.h>

#include "core/log.h"
#include "inbound/guard.h"
#include "inbound/rate.h"

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* At least a quarter of all descriptors are for clients, whatever the rest wants. */
static uint32_t connections_max(const struct settings *settings)
{
    struct rlimit limit;
    uint32_t wanted = settings->limits.connections_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return wanted;
    }
    uint64_t files = limit.rlim_cur;
    uint64_t others = (uint64_t)settings->delivery.connections_max + BOOT_LIMITS_RESERVED;
    uint64_t room = files > others && files - others > files / 4 ? files - others : files / 4;
    if (wanted <= room) {
        return wanted;
    }
    /* The default is for a service whose unit raises the limit; who wrote a number wants to know. */
    bool chosen = config_present(settings->config, "limits.connections_max");
    log_line(
        chosen ? LOG_WARNING : LOG_INFO, "fewer connections than limits.connections_max are taken: raise LimitNOFILE",
        "connections_max=%u taken=%llu descriptors=%llu", wanted, (unsigned long long)room, (unsigned long long)files);
    return room != 0 ? (uint32_t)room : 1;
}

bool boot_limits_start(struct boot *boot)
{
    const struct settings *settings = boot->settings;
    raise_file_limit();
    boot->admission = admission_new(boot->mapped->inbound_shards, settings->listeners_count, connections_max(settings));
    struct rate_table *rates = rate_table_new(settings->limits.rate_entries);
    struct guard *guard = guard_new(settings->limits.memory_reserve_bytes);
    if (boot->admission == NULL || rates == NULL || guard == NULL) {
        return false; /* the process ends */
    }
    admission_lend(boot->admission, rates, guard);
    return true;
}

void boot_limits_reload(struct boot *boot)
{
    admission_set_max(boot->admission, connections_max(boot->settings));
    guard_set_reserve(admission_guard(boot->admission), boot->settings->limits.memory_reserve_bytes);
}

void boot_limits_end(struct boot *boot)
{
    rate_table_delete(admission_rates(boot->admission));
    guard_delete(admission_guard(boot->admission));
    admission_delete(boot->admission);
}
