/* The table of every key that the configuration file may have; those of listeners are in settings_listener.c. */
#include "app/settings.h"
#include "app/settings_domains.h"
#include "app/settings_milters.h"
#include "app/settings_table.h"
#include "delivery/delivery.h"

static const char *const sandboxes[] = {"auto", "off", "required", NULL};
static const char *const levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const events[] = {"reception", "delivery", "deferral", "bounce", "expiry",
                                     "rejection", "removal",  "filter",   NULL};

static_assert(LOG_ERROR == 0 && LOG_DEBUG == 3, "`levels` is in the order of enum log_level");
static_assert(sizeof events / sizeof *events == SETTINGS_EVENTS + 1, "`events` is in the order of enum settings_event");

static const struct config_key shards_keys[] = {
    {"count", CONFIG_COUNT, CONFIG_RESTART | CONFIG_AUTO, AT(settings_shards, count), RANGE(1, LIMIT_SHARDS),
     DEFAULT("\"auto\"")},
    {"inbound", CONFIG_COUNT, CONFIG_RESTART, AT(settings_shards, inbound), RANGE(0, LIMIT_SHARDS), DEFAULT("0")},
    {"delivery", CONFIG_COUNT, CONFIG_RESTART, AT(settings_shards, delivery), RANGE(0, LIMIT_SHARDS), DEFAULT("0")},
    {"pin", CONFIG_BOOL, CONFIG_RESTART, AT(settings_shards, pin), DEFAULT("true")},
    END,
};

static const struct config_key spool_keys[] = {
    {"path", CONFIG_TEXT, CONFIG_RESTART, AT(settings_spool, path), RANGE(1, 200), DEFAULT("\"/var/spool/ringpost\""),
     PATH},
    {"segment_bytes", CONFIG_SIZE, CONFIG_RESTART, AT(settings_spool, segment_bytes),
     RANGE(LIMIT_SEGMENT_BYTES_MIN, LIMIT_SEGMENT_BYTES_MAX), DEFAULT("\"64M\"")},
    {"spare_segments_max", CONFIG_COUNT, CONFIG_RESTART, AT(settings_spool, spare_segments_max), RANGE(3, 10000),
     DEFAULT("16")},
    {"compaction_rate", CONFIG_SIZE, CONFIG_RESTART, AT(settings_spool, compaction_rate_bytes), RANGE(MIB, 2 * GIB),
     DEFAULT("\"32M\"")},
    END,
};

static const struct config_key limits_keys[] = {
    {"connections_max", CONFIG_COUNT, 0, AT(settings_limits, connections_max), RANGE(1, MILLION), DEFAULT("20000")},
    {"body_memory_max", CONFIG_SIZE, 0, AT(settings_limits, body_memory_bytes_max), RANGE(MIB, 64 * GIB),
     DEFAULT("\"64M\"")},
    {"queued_recipients_max", CONFIG_COUNT, 0, AT(settings_limits, queued_recipients_max), RANGE(1, 1000 * MILLION),
     DEFAULT("20000000")},
    {"rate_entries", CONFIG_COUNT, CONFIG_RESTART, AT(settings_limits, rate_entries),
     RANGE(RATE_ENTRIES_MIN, RATE_ENTRIES_MAX), DEFAULT("262144")},
    {"memory_reserve", CONFIG_SIZE, 0, AT(settings_limits, memory_reserve_bytes), RANGE(0, 64 * GIB),
     DEFAULT("\"128M\"")},
    {"receive_buffers", CONFIG_COUNT, CONFIG_RESTART, AT(settings_limits, receive_buffers), RANGE(64, 32768),
     DEFAULT("1024")},
    {"receive_buffer_bytes", CONFIG_COUNT, CONFIG_RESTART, AT(settings_limits, receive_buffer_bytes),
     RANGE(1024, LIMIT_RECEIVE_BUFFER_BYTES_MAX), DEFAULT("16384")},
    {"ring_entries", CONFIG_COUNT, CONFIG_RESTART, AT(settings_limits, ring_entries), RANGE(64, 32768),
     DEFAULT("4096")},
    END,
};

static const char *const route_tls[] = {"may", "off", "require", "verify", NULL};

static const struct config_key route_keys[] = {
    {"domain", CONFIG_TEXT, CONFIG_NAME, AT(settings_route, domain), RANGE(1, LIMIT_DOMAIN_BYTES + 1),
     .valid = settings_check_pattern, .expected = "\"example.com\", \".example.com\" (its subdomains) or \"*\""},
    {"next_hop", CONFIG_TEXT, 0, AT(settings_route, next_hop), RANGE(1, LIMIT_DOMAIN_BYTES + 16), DEFAULT("\"mx\""),
     .valid = settings_check_next_hop,
     .expected = "\"mx\", \"mx:example.com\", \"host.example.com\", \"192.0.2.1\", \"[host or address]:port\", "
                 "\"lmtp:host:port\" or \"lmtp:unix:/path\""},
    {"port", CONFIG_COUNT, 0, AT(settings_route, port), RANGE(1, 65535), DEFAULT("25")},
    {"tls", CONFIG_CHOICE, 0, AT(settings_route, tls), .choices = route_tls, DEFAULT("\"may\"")},
    {"tls_name", CONFIG_TEXT, 0, AT(settings_route, tls_name), RANGE(0, LIMIT_DOMAIN_BYTES), DEFAULT("\"\""), HOSTNAME},
    {"tls_ca", CONFIG_TEXT, 0, AT(settings_route, tls_ca), RANGE(0, 200), DEFAULT("\"\""), PATH},
    {"connections_max", CONFIG_COUNT, CONFIG_AUTO, AT(settings_route, connections_max), RANGE(1, 10000),
     DEFAULT("\"auto\"")},
    {"messages_per_connection_max", CONFIG_COUNT, CONFIG_AUTO, AT(settings_route, messages_per_connection_max),
     RANGE(1, MILLION), DEFAULT("\"auto\"")},
    {"recipients_per_transaction_max", CONFIG_COUNT, CONFIG_AUTO, AT(settings_route, recipients_per_transaction_max),
     RANGE(1, LIMIT_TRANSACTION_RECIPIENTS), DEFAULT("\"auto\"")},
    END,
};

static const struct config_key delivery_timeouts_keys[] = {
    {"connect", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, connect_ms), RANGE(SECOND, HOUR),
     DEFAULT("\"30s\"")},
    {"greeting", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, greeting_ms), RANGE(SECOND, HOUR),
     DEFAULT("\"5m\"")},
    {"ehlo", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, ehlo_ms), RANGE(SECOND, HOUR), DEFAULT("\"5m\"")},
    {"tls", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, tls_ms), RANGE(SECOND, HOUR), DEFAULT("\"1m\"")},
    {"mail", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, mail_ms), RANGE(SECOND, HOUR), DEFAULT("\"5m\"")},
    {"rcpt", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, rcpt_ms), RANGE(SECOND, HOUR), DEFAULT("\"5m\"")},
    {"data", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, data_ms), RANGE(SECOND, HOUR), DEFAULT("\"2m\"")},
    {"body", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, body_ms), RANGE(SECOND, HOUR), DEFAULT("\"3m\"")},
    {"message", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, message_ms), RANGE(SECOND, 7 * DAY),
     DEFAULT("\"6h\"")},
    {"dot", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, dot_ms), RANGE(SECOND, HOUR), DEFAULT("\"10m\"")},
    {"quit", CONFIG_DURATION, 0, AT(settings_delivery_timeouts, quit_ms), RANGE(SECOND, HOUR), DEFAULT("\"10s\"")},
    END,
};

static const struct config_key delivery_keys[] = {
    {"hostname", CONFIG_TEXT, 0, AT(settings_delivery, hostname), RANGE(0, LIMIT_DOMAIN_BYTES), DEFAULT("\"\""),
     HOSTNAME},
    {"connections_max", CONFIG_COUNT, 0, AT(settings_delivery, connections_max), RANGE(1, MILLION), DEFAULT("5000")},
    {"connections_per_destination_max", CONFIG_COUNT, 0, AT(settings_delivery, connections_per_destination_max),
     RANGE(1, 10000), DEFAULT("20")},
    {"messages_per_connection_max", CONFIG_COUNT, 0, AT(settings_delivery, messages_per_connection_max),
     RANGE(1, MILLION), DEFAULT("1000")},
    {"recipients_per_transaction_max", CONFIG_COUNT, 0, AT(settings_delivery, recipients_per_transaction_max),
     RANGE(1, LIMIT_TRANSACTION_RECIPIENTS), DEFAULT("100")},
    {"maildir_writes_max", CONFIG_COUNT, 0, AT(settings_delivery, maildir_writes_max),
     RANGE(1, DELIVERY_LOCAL_JOBS_MAX), DEFAULT("128")},
    {"idle_timeout", CONFIG_DURATION, 0, AT(settings_delivery, idle_timeout_ms), RANGE(0, HOUR), DEFAULT("\"10s\"")},
    {"body_rate_min", CONFIG_SIZE, 0, AT(settings_delivery, body_rate_min), RANGE(0, 10 * MIB), DEFAULT("\"1K\"")},
    {"copy_after", CONFIG_DURATION, 0, AT(settings_delivery, copy_after_ms), RANGE(SECOND, HOUR), DEFAULT("\"20s\"")},
    {"copy_memory_max", CONFIG_SIZE, 0, AT(settings_delivery, copy_memory_max), RANGE(0, 64 * GIB), DEFAULT("\"64M\"")},
    {"prefer_ipv6", CONFIG_BOOL, 0, AT(settings_delivery, prefer_ipv6), DEFAULT("false")},
    {"loopback_is_remote", CONFIG_BOOL, 0, AT(settings_delivery, loopback_is_remote), DEFAULT("false")},
    {"source_addresses", CONFIG_ADDRESSES, 0, MANY(settings_delivery, source_addresses), .items_max = 2,
     DEFAULT("( )")},
    {"timeouts", CONFIG_GROUP, 0, AT(settings_delivery, timeouts), .keys = delivery_timeouts_keys},
    END,
};

static const struct config_key retry_keys[] = {
    {"initial", CONFIG_DURATION, 0, AT(settings_retry, initial_ms), RANGE(SECOND, 7 * DAY), DEFAULT("\"20m\"")},
    {"factor", CONFIG_REAL, 0, AT(settings_retry, factor), RANGE(1, 10), DEFAULT("2")},
    {"max", CONFIG_DURATION, 0, AT(settings_retry, max_ms), RANGE(SECOND, 7 * DAY), DEFAULT("\"4h\"")},
    {"schedule", CONFIG_DURATIONS, 0, MANY(settings_retry, schedule_ms), RANGE(SECOND, 7 * DAY),
     .items_max = SETTINGS_RETRIES_MAX, DEFAULT("( )")},
    {"jitter_percent", CONFIG_COUNT, 0, AT(settings_retry, jitter_percent), RANGE(0, 50), DEFAULT("20")},
    {"expire", CONFIG_DURATION, 0, AT(settings_retry, expire_ms), RANGE(SECOND, 60 * DAY), DEFAULT("\"4d\"")},
    END,
};

static const struct config_key bounce_keys[] = {
    {"enabled", CONFIG_BOOL, 0, AT(settings_bounce, enabled), DEFAULT("true")},
    {"delay_warning", CONFIG_DURATION, 0, AT(settings_bounce, delay_warning_ms), RANGE(0, 60 * DAY), DEFAULT("\"4h\"")},
    {"quote_bytes_max", CONFIG_SIZE, 0, AT(settings_bounce, quote_bytes_max), RANGE(0, 10 * MIB), DEFAULT("\"50K\"")},
    END,
};

static const struct config_key dns_keys[] = {
    {"servers", CONFIG_ADDRESSES, CONFIG_RESTART, MANY(settings_dns, servers), .minimum = 53, .items_max = 8,
     DEFAULT("( )")},
    {"timeout", CONFIG_DURATION, CONFIG_RESTART, AT(settings_dns, timeout_ms), RANGE(100, MINUTE), DEFAULT("\"1s\"")},
    {"tries", CONFIG_COUNT, CONFIG_RESTART, AT(settings_dns, tries), RANGE(1, 10), DEFAULT("5")},
    {"cache_entries_max", CONFIG_COUNT, CONFIG_RESTART, AT(settings_dns, cache_entries_max), RANGE(100, 10 * MILLION),
     DEFAULT("100000")},
    END,
};

static const struct config_key admin_keys[] = {
    {"listen", CONFIG_ENDPOINT, CONFIG_RESTART, AT(settings_admin, listen), DEFAULT("\"127.0.0.1:9925\"")},
    {"socket", CONFIG_TEXT, CONFIG_RESTART, AT(settings_admin, socket), RANGE(0, 107),
     DEFAULT("\"/run/ringpost/control.sock\""), PATH},
    END,
};

static const struct config_key events_keys[] = {
    {"path", CONFIG_TEXT, CONFIG_RESTART, AT(settings_events, path), RANGE(0, 200), DEFAULT("\"/var/log/ringpost\""),
     PATH},
    {"rotate_bytes", CONFIG_SIZE, 0, AT(settings_events, rotate_bytes), RANGE(MIB, 1024 * GIB), DEFAULT("\"256M\"")},
    {"keep_files", CONFIG_COUNT, 0, AT(settings_events, keep_files), RANGE(1, 1000), DEFAULT("10")},
    {"fsync_interval", CONFIG_DURATION, 0, AT(settings_events, fsync_interval_ms), RANGE(0, HOUR), DEFAULT("\"5s\"")},
    {"types", CONFIG_CHOICES, 0, AT(settings_events, types), .choices = events,
     DEFAULT("( \"reception\", \"delivery\", \"deferral\", \"bounce\", \"expiry\", \"rejection\", \"removal\", "
             "\"filter\" )")},
    END,
};

static const struct config_key log_keys[] = {
    {"level", CONFIG_CHOICE, 0, AT(settings_log, level), .choices = levels, DEFAULT("\"info\"")},
    END,
};

const struct config_key settings_keys[] = {
    {"hostname", CONFIG_TEXT, 0, AT(settings, hostname), RANGE(0, LIMIT_DOMAIN_BYTES), DEFAULT("\"\""), HOSTNAME},
    {"shards", CONFIG_GROUP, 0, AT(settings, shards), .keys = shards_keys},
    {"spool", CONFIG_GROUP, 0, AT(settings, spool), .keys = spool_keys},
    {"listeners", CONFIG_LIST, CONFIG_RESTART, MANY(settings, listeners), .item_size = sizeof(struct settings_listener),
     .items_max = SETTINGS_LISTENERS_MAX, .keys = settings_listener_keys},
    {"tls", CONFIG_GROUP, 0, AT(settings, tls), .keys = settings_listener_tls_keys},
    {"auth", CONFIG_GROUP, 0, AT(settings, auth), .keys = settings_listener_auth_keys},
    {"limits", CONFIG_GROUP, 0, AT(settings, limits), .keys = limits_keys},
    {"routes", CONFIG_LIST, 0, MANY(settings, routes), .item_size = sizeof(struct settings_route),
     .items_max = SETTINGS_ROUTES_MAX, .keys = route_keys},
    {"domains", CONFIG_LIST, 0, MANY(settings, domains), .item_size = sizeof(struct settings_domain),
     .items_max = RECIPIENTS_DOMAINS_MAX, .keys = settings_domains_keys},
    {"milters", CONFIG_LIST, 0, MANY(settings, milters), .item_size = sizeof(struct settings_milter),
     .items_max = SETTINGS_MILTERS_MAX, .keys = settings_milters_keys},
    {"delivery", CONFIG_GROUP, 0, AT(settings, delivery), .keys = delivery_keys},
    {"retry", CONFIG_GROUP, 0, AT(settings, retry), .keys = retry_keys},
    {"bounce", CONFIG_GROUP, 0, AT(settings, bounce), .keys = bounce_keys},
    {"dns", CONFIG_GROUP, 0, AT(settings, dns), .keys = dns_keys},
    {"admin", CONFIG_GROUP, 0, AT(settings, admin), .keys = admin_keys},
    {"events", CONFIG_GROUP, 0, AT(settings, events), .keys = events_keys},
    {"log", CONFIG_GROUP, 0, AT(settings, log), .keys = log_keys},
    {"user", CONFIG_TEXT, CONFIG_RESTART, AT(settings, user), RANGE(0, 32), DEFAULT("\"\"")},
    {"sandbox", CONFIG_CHOICE, CONFIG_RESTART, AT(settings, sandbox), .choices = sandboxes, DEFAULT("\"auto\"")},
    {"stop_timeout", CONFIG_DURATION, 0, AT(settings, stop_timeout_ms), RANGE(0, HOUR), DEFAULT("\"30s\"")},
    END,
};
