/* Listeners: their keys, what "auto" means for each role, and what does not go together.
 *
 * What a listener offers is its configuration, and every default is the careful one of its role: an mx never offers
 * AUTH and never insists on TLS, since anybody may send to it; a submission listener takes nothing without an account
 * and no password in clear text.
 */
#include "app/settings_listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "app/settings.h"
#include "app/settings_table.h"
#include "base/check.h"
#include "core/worker.h"
#include "sasl/lockout.h"

static const char *const roles[] = {"relay", "mx", "submission", NULL};
static const char *const protocols[] = {"smtp", "lmtp", NULL};
static const char *const durabilities[] = {"sync", "relaxed", NULL};
static const char *const extensions[] = {
    "auto", "pipelining", "size",       "8bitmime",    "enhancedstatuscodes", "chunking",  "binarymime", "smtputf8",
    "dsn",  "limits",     "requiretls", "mt-priority", "futurerelease",       "deliverby", NULL};
static const char *const tls_modes[] = {"auto", "off", "starttls", "implicit", NULL};
static const char *const client_certificates[] = {"off", "ask", "require", NULL};
static const char *const mechanisms[] = {
    "auto", "plain", "login", "scram-sha-256", "scram-sha-256-plus", "xoauth2", "oauthbearer", "external", NULL};
static const char *const proxies[] = {"off", "v1", "v2", NULL};
static const char *const null_mx[] = {"auto", "refuse", "accept", NULL};
static const char *const unknown[] = {"accept", "refuse", NULL};
static const char *const versions[] = {"1.2", "1.3", NULL};

static_assert(sizeof extensions / sizeof *extensions == SETTINGS_EXTENSIONS + 1, "in the order of the enum");
static_assert(sizeof mechanisms / sizeof *mechanisms == SETTINGS_MECHANISMS + 1, "in the order of the enum");

/* --- keys --------------------------------------------------------------------------------------------------------- */

static const struct config_key certificate_keys[] = {
    {"certificate", CONFIG_TEXT, CONFIG_NAME, AT(settings_certificate, certificate), RANGE(1, 200), PATH},
    {"key", CONFIG_TEXT, 0, AT(settings_certificate, key), RANGE(0, 200), DEFAULT("\"\""), PATH},
    {"server_names", CONFIG_TEXT, 0, AT(settings_certificate, server_names), RANGE(0, 2000), DEFAULT("\"\""),
     .valid = settings_check_server_names, .expected = "host names with a space between two"},
    END,
};

static const struct config_key listener_timeouts_keys[] = {
    {"command", CONFIG_DURATION, 0, AT(settings_listener_timeouts, command_ms), RANGE(SECOND, HOUR), DEFAULT("\"5m\"")},
    {"data_block", CONFIG_DURATION, 0, AT(settings_listener_timeouts, data_block_ms), RANGE(SECOND, HOUR),
     DEFAULT("\"3m\"")},
    {"message", CONFIG_DURATION, 0, AT(settings_listener_timeouts, message_ms), RANGE(SECOND, DAY), DEFAULT("\"1h\"")},
    {"session", CONFIG_DURATION, 0, AT(settings_listener_timeouts, session_ms), RANGE(SECOND, 30 * DAY),
     DEFAULT("\"1d\"")},
    END,
};

static const struct config_key listener_dns_checks_keys[] = {
    {"null_mx", CONFIG_CHOICE, 0, AT(settings_listener_dns_checks, null_mx), .choices = null_mx, DEFAULT("\"auto\"")},
    {"unknown_senders", CONFIG_CHOICE, 0, AT(settings_listener_dns_checks, unknown_senders), .choices = unknown,
     DEFAULT("\"accept\"")},
    {"unknown_recipients", CONFIG_CHOICE, 0, AT(settings_listener_dns_checks, unknown_recipients), .choices = unknown,
     DEFAULT("\"accept\"")},
    {"timeout", CONFIG_DURATION, 0, AT(settings_listener_dns_checks, timeout_ms), RANGE(100, MINUTE),
     DEFAULT("\"5s\"")},
    END,
};

#define PRIORITIES .minimum = (uint64_t)-9, .maximum = 9

static const struct config_key listener_priorities_keys[] = {
    {"min", CONFIG_INTEGER, 0, AT(settings_listener_priorities, min), PRIORITIES, DEFAULT("-9")},
    {"min_busy", CONFIG_INTEGER, 0, AT(settings_listener_priorities, min_busy), PRIORITIES, DEFAULT("-9")},
    {"low_bytes_max", CONFIG_SIZE, 0, AT(settings_listener_priorities, low_bytes_max), RANGE(0, 2 * GIB), DEFAULT("0")},
    {"high_bytes_max", CONFIG_SIZE, 0, AT(settings_listener_priorities, high_bytes_max), RANGE(0, 2 * GIB),
     DEFAULT("0")},
    END,
};

const struct config_key settings_listener_keys[] = {
    {"name", CONFIG_TEXT, CONFIG_NAME | CONFIG_RESTART, AT(settings_listener, name), RANGE(0, 63), DEFAULT("\"\""),
     .valid = settings_check_name, .expected = "a name of 1 to 63 letters, digits and .:[]_-"},
    {"address", CONFIG_TEXT, CONFIG_RESTART, AT(settings_listener, address), RANGE(1, 112), DEFAULT("\"127.0.0.1\""),
     .valid = settings_check_address,
     .expected = "an address as \"192.0.2.1\", \"::\", \"127.0.0.1:25\" or \"unix:/path\""},
    {"port", CONFIG_COUNT, CONFIG_RESTART | CONFIG_UNLESS_0, AT(settings_listener, port), RANGE(1, 65535),
     DEFAULT("25")},
    {"socket_mode", CONFIG_TEXT, CONFIG_RESTART, AT(settings_listener, socket_mode), RANGE(3, 4), DEFAULT("\"0660\""),
     .valid = settings_check_mode, .expected = "a mode in octal as \"0660\""},
    {"socket_owner", CONFIG_TEXT, CONFIG_RESTART, AT(settings_listener, socket_owner), RANGE(0, 64), DEFAULT("\"\"")},
    {"role", CONFIG_CHOICE, CONFIG_RESTART, AT(settings_listener, role), .choices = roles, DEFAULT("\"relay\"")},
    {"protocol", CONFIG_CHOICE, CONFIG_RESTART, AT(settings_listener, protocol), .choices = protocols,
     DEFAULT("\"smtp\"")},
    {"durability", CONFIG_CHOICE, 0, AT(settings_listener, durability), .choices = durabilities, DEFAULT("\"sync\"")},
    {"hostname", CONFIG_TEXT, 0, AT(settings_listener, hostname), RANGE(0, LIMIT_DOMAIN_BYTES), DEFAULT("\"\""),
     HOSTNAME},
    {"banner", CONFIG_TEXT, 0, AT(settings_listener, banner), RANGE(0, 128), DEFAULT("\"ESMTP ringpost\"")},
    {"extensions", CONFIG_CHOICES, 0, AT(settings_listener, extensions), .choices = extensions,
     DEFAULT("( \"auto\" )")},
    {"tls", CONFIG_CHOICE, CONFIG_RESTART, AT(settings_listener, tls), .choices = tls_modes, DEFAULT("\"auto\"")},
    {"tls_required", CONFIG_BOOL, 0, AT(settings_listener, tls_required), DEFAULT("false")},
    {"certificates", CONFIG_LIST, 0, MANY(settings_listener, certificates),
     .item_size = sizeof(struct settings_certificate), .items_max = SETTINGS_CERTIFICATES_MAX,
     .keys = certificate_keys},
    {"client_certificates", CONFIG_CHOICE, 0, AT(settings_listener, client_certificates),
     .choices = client_certificates, DEFAULT("\"off\"")},
    {"client_authorities", CONFIG_TEXT, 0, AT(settings_listener, client_authorities), RANGE(0, 200), DEFAULT("\"\""),
     PATH},
    {"auth", CONFIG_CHOICES, 0, AT(settings_listener, auth), .choices = mechanisms, DEFAULT("( \"auto\" )")},
    {"auth_without_tls", CONFIG_BOOL, 0, AT(settings_listener, auth_without_tls), DEFAULT("false")},
    {"proxy", CONFIG_CHOICE, 0, AT(settings_listener, proxy), .choices = proxies, DEFAULT("\"off\"")},
    {"proxy_networks", CONFIG_NETWORKS, 0, MANY(settings_listener, proxy_networks), .items_max = 1024, DEFAULT("( )")},
    {"xclient_networks", CONFIG_NETWORKS, 0, MANY(settings_listener, xclient_networks), .items_max = 1024,
     DEFAULT("( )")},
    {"xforward_networks", CONFIG_NETWORKS, 0, MANY(settings_listener, xforward_networks), .items_max = 1024,
     DEFAULT("( )")},
    {"message_bytes_max", CONFIG_SIZE, 0, AT(settings_listener, message_bytes_max), RANGE(64 * KIB, 2 * GIB),
     DEFAULT("\"50M\"")},
    {"recipients_max", CONFIG_COUNT, 0, AT(settings_listener, recipients_max), RANGE(100, LIMIT_RECIPIENTS_CEILING),
     DEFAULT("1000")},
    {"messages_max", CONFIG_COUNT, 0, AT(settings_listener, messages_max), RANGE(0, 1000 * MILLION), DEFAULT("0")},
    {"text_line_bytes_max", CONFIG_COUNT, 0, AT(settings_listener, text_line_bytes_max),
     RANGE(LIMIT_TEXT_LINE_BYTES_DEFAULT, MILLION), DEFAULT("1000")},
    {"command_bytes_max", CONFIG_COUNT, 0, AT(settings_listener, command_bytes_max), RANGE(1036, 65536),
     DEFAULT("2048")},
    {"received_max", CONFIG_COUNT, 0, AT(settings_listener, received_max), RANGE(1, 1000), DEFAULT("100")},
    {"errors_max", CONFIG_COUNT, 0, AT(settings_listener, errors_max), RANGE(1, 10000), DEFAULT("20")},
    {"connections_max", CONFIG_COUNT, 0, AT(settings_listener, connections_max), RANGE(1, MILLION), DEFAULT("20000")},
    {"connections_per_address_max", CONFIG_COUNT, 0, AT(settings_listener, connections_per_address_max),
     RANGE(1, MILLION), DEFAULT("1000")},
    {"hold_max", CONFIG_DURATION, 0, AT(settings_listener, hold_max_ms), RANGE(MINUTE, 366 * DAY), DEFAULT("\"30d\"")},
    {"relay_networks", CONFIG_NETWORKS, 0, MANY(settings_listener, relay_networks), .items_max = 1024,
     DEFAULT("( \"127.0.0.0/8\", \"::1/128\" )")},
    {"timeouts", CONFIG_GROUP, 0, AT(settings_listener, timeouts), .keys = listener_timeouts_keys},
    {"dns_checks", CONFIG_GROUP, 0, AT(settings_listener, dns_checks), .keys = listener_dns_checks_keys},
    {"priorities", CONFIG_GROUP, 0, AT(settings_listener, priorities), .keys = listener_priorities_keys},
    {"rates", CONFIG_GROUP, 0, AT(settings_listener, rates), .keys = settings_rates_keys},
    {"greet_pause", CONFIG_DURATION, 0, AT(settings_listener, greet_pause_ms), RANGE(0, MINUTE), DEFAULT("\"0s\"")},
    {"error_delay", CONFIG_DURATION, 0, AT(settings_listener, error_delay_ms), RANGE(0, MINUTE), DEFAULT("\"1s\"")},
    {"error_delay_after", CONFIG_COUNT, 0, AT(settings_listener, error_delay_after), RANGE(0, 10000), DEFAULT("5")},
    {"milters", CONFIG_TEXT, 0, AT(settings_listener, milters), RANGE(0, 1000), DEFAULT("\"\"")},
    END,
};

const struct config_key settings_listener_tls_keys[] = {
    {"certificates", CONFIG_LIST, 0, MANY(settings_tls, certificates), .item_size = sizeof(struct settings_certificate),
     .items_max = SETTINGS_CERTIFICATES_MAX, .keys = certificate_keys},
    {"sessions_max", CONFIG_COUNT, 0, AT(settings_tls, sessions_max), RANGE(1, MILLION), DEFAULT("10000")},
    {"handshake_timeout", CONFIG_DURATION, 0, AT(settings_tls, handshake_timeout_ms), RANGE(SECOND, 10 * MINUTE),
     DEFAULT("\"30s\"")},
    {"ticket_rotation", CONFIG_DURATION, 0, AT(settings_tls, ticket_rotation_ms), RANGE(MINUTE, 7 * DAY),
     DEFAULT("\"1h\"")},
    {"min_version", CONFIG_CHOICE, 0, AT(settings_tls, min_version), .choices = versions, DEFAULT("\"1.2\"")},
    END,
};

static const struct config_key lockout_keys[] = {
    {"account_failures", CONFIG_COUNT, 0, AT(settings_lockout, account_failures), RANGE(1, LOCKOUT_FAILURES_MAX),
     DEFAULT("10")},
    {"address_failures", CONFIG_COUNT, 0, AT(settings_lockout, address_failures), RANGE(1, LOCKOUT_FAILURES_MAX),
     DEFAULT("30")},
    {"time", CONFIG_DURATION, 0, AT(settings_lockout, time_ms), RANGE(SECOND, DAY), DEFAULT("\"1m\"")},
    {"time_max", CONFIG_DURATION, 0, AT(settings_lockout, time_max_ms), RANGE(SECOND, 7 * DAY), DEFAULT("\"1h\"")},
    {"forget", CONFIG_DURATION, 0, AT(settings_lockout, forget_ms), RANGE(SECOND, 30 * DAY), DEFAULT("\"1h\"")},
    {"delay", CONFIG_DURATION, 0, AT(settings_lockout, delay_ms), RANGE(0, MINUTE), DEFAULT("\"500ms\"")},
    {"delay_max", CONFIG_DURATION, 0, AT(settings_lockout, delay_max_ms), RANGE(0, MINUTE), DEFAULT("\"8s\"")},
    {"entries", CONFIG_COUNT, CONFIG_RESTART, AT(settings_lockout, entries), RANGE(1024, LOCKOUT_ENTRIES_MAX),
     DEFAULT("65536")},
    END,
};

const struct config_key settings_listener_auth_keys[] = {
    {"passwords", CONFIG_TEXT, 0, AT(settings_auth, passwords), RANGE(0, 200), DEFAULT("\"\""), PATH},
    {"verifier", CONFIG_TEXT, 0, AT(settings_auth, verifier), RANGE(0, 107), DEFAULT("\"\""), PATH},
    {"verifier_timeout", CONFIG_DURATION, 0, AT(settings_auth, verifier_timeout_ms), RANGE(100, MINUTE),
     DEFAULT("\"5s\"")},
    {"timeout", CONFIG_DURATION, 0, AT(settings_auth, timeout_ms), RANGE(SECOND, 10 * MINUTE), DEFAULT("\"1m\"")},
    {"remember", CONFIG_DURATION, 0, AT(settings_auth, remember_ms), RANGE(0, DAY), DEFAULT("\"10m\"")},
    {"workers", CONFIG_COUNT, CONFIG_RESTART | CONFIG_AUTO, AT(settings_auth, workers), RANGE(1, WORKER_THREADS_MAX),
     DEFAULT("\"auto\"")},
    {"waiting_max", CONFIG_COUNT, CONFIG_RESTART, AT(settings_auth, waiting_max), RANGE(1, WORKER_QUEUE_MAX),
     DEFAULT("256")},
    {"lockout", CONFIG_GROUP, 0, AT(settings_auth, lockout), .keys = lockout_keys},
    END,
};

/* --- what depends on other keys ----------------------------------------------------------------------------------- */

#define BIT(number) (1u << (number))
#define UNIX_PREFIX "unix:"

/* Of key `key` of listener i, for config_error. */
static const char *path_of(char room[64], unsigned i, const char *key)
{
    snprintf(room, 64, "listeners[%u]%s%s", i, key[0] == '\0' ? "" : ".", key);
    return room;
}

static bool given(const struct settings *settings, unsigned i, const char *key)
{
    char room[64];
    return config_present(settings->config, path_of(room, i, key));
}

static bool is_unix(const struct settings_listener *listener)
{
    return strncmp(listener->address, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0;
}

static void complete_unix(struct settings *settings, unsigned i)
{
    struct settings_listener *listener = &settings->listeners[i];
    const char *path = listener->address + strlen(UNIX_PREFIX);
    struct sockaddr_un *address = (struct sockaddr_un *)(void *)&listener->endpoint.address;
    char room[64];
    if (given(settings, i, "port")) {
        config_error(settings->config, path_of(room, i, "port"), "%s is given, expected none for a unix socket", room);
    }
    CHECK(strlen(path) < sizeof address->sun_path);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, strlen(path));
    listener->endpoint.length = sizeof *address;
    listener->port = 0;
    if (listener->name[0] == '\0') {
        config_error(settings->config, path_of(room, i, "name"), "%s is \"\", expected a name for a unix socket", room);
    }
}

static void complete_port(struct settings *settings, unsigned i)
{
    struct settings_listener *listener = &settings->listeners[i];
    char room[64];
    char name_room[128];
    struct buffer name = buffer_of(name_room, sizeof name_room);
    if (config_value_port(&listener->endpoint) != 0) {
        if (given(settings, i, "port")) {
            config_error(settings->config, path_of(room, i, "port"),
                         "%s is given in address too, expected only one of the two", room);
        }
        listener->port = config_value_port(&listener->endpoint);
        struct config_endpoint bare = listener->endpoint;
        struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&bare.address; /* the port is where IPv6 has it */
        v4->sin_port = 0;
        config_value_put_endpoint(&name, &bare);
        listener->address = config_copy(settings->config, buffer_bytes(&name));
        name.length = 0;
    }
    CHECK(config_value_endpoint(listener->address, listener->port, &listener->endpoint));
    if (listener->name[0] == '\0') {
        config_value_put_endpoint(&name, &listener->endpoint);
        listener->name = config_copy(settings->config, buffer_bytes(&name));
    }
}

/* BINARYMIME only where the next hop is known to be ours to choose: whatever cannot take it needs a conversion. */
static unsigned extensions_of(const struct settings_listener *listener)
{
    unsigned all = BIT(SETTINGS_PIPELINING) | BIT(SETTINGS_SIZE) | BIT(SETTINGS_8BITMIME) |
                   BIT(SETTINGS_ENHANCEDSTATUSCODES) | BIT(SETTINGS_CHUNKING) | BIT(SETTINGS_SMTPUTF8) |
                   BIT(SETTINGS_DSN) | BIT(SETTINGS_EXTENSION_LIMITS) | BIT(SETTINGS_REQUIRETLS);
    unsigned trusted = BIT(SETTINGS_BINARYMIME) | BIT(SETTINGS_MT_PRIORITY) | BIT(SETTINGS_DELIVERBY);
    switch (listener->role) {
    case SETTINGS_MX: return all;
    case SETTINGS_SUBMISSION: return all | trusted | BIT(SETTINGS_FUTURERELEASE);
    default: return all | trusted;
    }
}

static unsigned mechanisms_of(const struct settings *settings, const struct settings_listener *listener)
{
    unsigned bits = 0;
    if (listener->role != SETTINGS_SUBMISSION) {
        return 0;
    }
    if (settings->auth.passwords[0] != '\0') {
        bits |= BIT(SETTINGS_PLAIN) | BIT(SETTINGS_LOGIN) | BIT(SETTINGS_SCRAM_SHA_256);
        bits |= listener->tls != SETTINGS_TLS_OFF ? BIT(SETTINGS_SCRAM_SHA_256_PLUS) : 0;
    }
    if (settings->auth.verifier[0] != '\0') {
        bits |= BIT(SETTINGS_XOAUTH2) | BIT(SETTINGS_OAUTHBEARER);
    }
    if (listener->client_certificates != SETTINGS_CLIENT_CERTIFICATES_OFF) {
        bits |= BIT(SETTINGS_EXTERNAL);
    }
    return bits;
}

static void complete_auto(struct settings *settings, struct settings_listener *listener)
{
    if (listener->certificates_count == 0 && listener->tls != SETTINGS_TLS_OFF) {
        listener->certificates = settings->tls.certificates;
        listener->certificates_count = settings->tls.certificates_count;
    }
    if (listener->tls == SETTINGS_TLS_AUTO) {
        bool possible = listener->certificates_count != 0 && !is_unix(listener);
        listener->tls = possible ? SETTINGS_TLS_STARTTLS : SETTINGS_TLS_OFF;
    }
    if ((listener->extensions & BIT(SETTINGS_EXTENSION_AUTO)) != 0) {
        listener->extensions = (listener->extensions & ~BIT(SETTINGS_EXTENSION_AUTO)) | extensions_of(listener);
    }
    if ((listener->auth & BIT(SETTINGS_MECHANISM_AUTO)) != 0) {
        listener->auth = (listener->auth & ~BIT(SETTINGS_MECHANISM_AUTO)) | mechanisms_of(settings, listener);
    }
    if (listener->dns_checks.null_mx == SETTINGS_NULL_MX_AUTO) {
        /* What an operator's own programs send must never wait for DNS. */
        bool relay = listener->role == SETTINGS_RELAY;
        listener->dns_checks.null_mx = relay ? SETTINGS_NULL_MX_ACCEPT : SETTINGS_NULL_MX_REFUSE;
    }
    if (listener->hostname[0] == '\0') {
        listener->hostname = settings->hostname;
    }
}

void settings_listener_complete(struct settings *settings, unsigned i)
{
    struct settings_listener *listener = &settings->listeners[i];
    if (listener->address == NULL) {
        return; /* reported already */
    }
    if (is_unix(listener)) {
        complete_unix(settings, i);
    } else if (config_value_endpoint(listener->address, 0, &listener->endpoint)) {
        complete_port(settings, i);
    }
    complete_auto(settings, listener);
    if (listener->role != SETTINGS_RELAY && !given(settings, i, "relay_networks")) {
        listener->relay_networks_count = 0;
    }
}

/* --- contradictions ----------------------------------------------------------------------------------------------- */

static bool is_local(const struct settings_listener *listener)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&listener->endpoint.address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&listener->endpoint.address;
    return v4->sin_family == AF_UNIX || (v4->sin_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127) ||
           (v4->sin_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr));
}

struct rule {
    const char *key;
    bool broken;
    const char *is;       /* "... is ..." */
    const char *expected; /* "..., expected ..." */
};

static void report_broken(const struct settings *settings, unsigned i, const struct rule *rules, size_t count)
{
    char room[64];
    for (size_t n = 0; n < count; n++) {
        if (rules[n].broken) {
            config_error(settings->config, path_of(room, i, rules[n].key), "%s %s, expected %s", room, rules[n].is,
                         rules[n].expected);
        }
    }
}

static void check_tls(const struct settings *settings, unsigned i)
{
    const struct settings_listener *listener = &settings->listeners[i];
    bool off = listener->tls == SETTINGS_TLS_OFF;
    bool asks = listener->client_certificates != SETTINGS_CLIENT_CERTIFICATES_OFF;
    const struct rule rules[] = {
        {"tls", !off && listener->certificates_count == 0, "needs a certificate",
         "certificates here or in the group tls"},
        {"tls_required", listener->tls_required && off, "is true without TLS", "a certificate, or false"},
        {"tls_required", listener->tls_required && listener->role == SETTINGS_MX, "is true",
         "false for role \"mx\": anybody may send to it (RFC 3207 4)"},
        {"client_certificates", asks && off, "is not \"off\" without TLS", "a certificate, or \"off\""},
        {"client_certificates",
         listener->client_certificates == SETTINGS_CLIENT_CERTIFICATES_REQUIRE && listener->role == SETTINGS_MX,
         "is \"require\"", "\"ask\" or \"off\" for role \"mx\": anybody may send to it"},
        {"client_authorities", asks && listener->client_authorities[0] == '\0', "is \"\"",
         "the file of those who sign the client certificates"},
    };
    report_broken(settings, i, rules, sizeof rules / sizeof *rules);
}

static void check_auth(const struct settings *settings, unsigned i)
{
    const struct settings_listener *listener = &settings->listeners[i];
    unsigned auth = listener->auth;
    unsigned tokens = BIT(SETTINGS_XOAUTH2) | BIT(SETTINGS_OAUTHBEARER);
    bool off = listener->tls == SETTINGS_TLS_OFF;
    bool lmtp = listener->protocol == SETTINGS_LMTP;
    bool clear = off && !listener->auth_without_tls;
    const struct rule rules[] = {
        {"auth", listener->role == SETTINGS_SUBMISSION && auth == 0, "has no mechanism",
         "at least one for role \"submission\", and the file of its accounts in auth.passwords"},
        {"auth", auth != 0 && settings->auth.passwords[0] == '\0', "needs accounts",
         "their file in auth.passwords, also for tokens and certificates"},
        {"auth", (auth & tokens) != 0 && settings->auth.verifier[0] == '\0', "needs a verifier",
         "a socket in auth.verifier"},
        {"auth",
         (auth & BIT(SETTINGS_EXTERNAL)) != 0 && listener->client_certificates == SETTINGS_CLIENT_CERTIFICATES_OFF,
         "has external", "client_certificates \"ask\" or \"require\" with it"},
        {"auth", auth != 0 && clear, "would be in clear text", "tls, or auth_without_tls on a loopback address"},
        {"auth_without_tls", listener->auth_without_tls && !is_local(listener), "is true",
         "false unless the address is a loopback address"},
        {"auth", auth != 0 && lmtp, "has mechanisms", "none with protocol \"lmtp\""},
        {"role", listener->role == SETTINGS_SUBMISSION && lmtp, "is \"submission\"",
         "\"relay\" or \"mx\" with protocol \"lmtp\""},
    };
    report_broken(settings, i, rules, sizeof rules / sizeof *rules);
}

static void check_rest(const struct settings *settings, unsigned i)
{
    const struct settings_listener *listener = &settings->listeners[i];
    unsigned bits = listener->extensions;
    bool proxied = listener->proxy != SETTINGS_PROXY_OFF;
    const struct rule rules[] = {
        {"port", listener->protocol == SETTINGS_LMTP && listener->port == 25, "is 25",
         "another one with protocol \"lmtp\" (RFC 2033 5)"},
        {"socket_owner", listener->socket_owner[0] != '\0' && !is_unix(listener), "is given",
         "none unless the address is a unix socket"},
        {"relay_networks", listener->role != SETTINGS_RELAY && listener->relay_networks_count != 0, "is given",
         "none unless the role is \"relay\""},
        {"extensions", (bits & BIT(SETTINGS_BINARYMIME)) != 0 && (bits & BIT(SETTINGS_CHUNKING)) == 0, "has binarymime",
         "chunking with it (RFC 3030 3)"},
        {"extensions", (bits & BIT(SETTINGS_SMTPUTF8)) != 0 && (bits & BIT(SETTINGS_8BITMIME)) == 0, "has smtputf8",
         "8bitmime with it (RFC 6531 3.1)"},
        {"extensions", (bits & BIT(SETTINGS_FUTURERELEASE)) != 0 && listener->role != SETTINGS_SUBMISSION,
         "has futurerelease", "it only for role \"submission\" (RFC 4865 4)"},
        {"priorities.min", listener->priorities.min > 0 && (bits & BIT(SETTINGS_MT_PRIORITY)) == 0,
         "refuses everything", "0 or less, or mt-priority in extensions"},
        {"priorities.min_busy", listener->priorities.min_busy > 0 && (bits & BIT(SETTINGS_MT_PRIORITY)) == 0,
         "refuses everything", "0 or less, or mt-priority in extensions"},
        {"proxy_networks", proxied && listener->proxy_networks_count == 0, "is empty", "the addresses of the proxies"},
        {"proxy_networks", !proxied && listener->proxy_networks_count != 0, "is given", "none with proxy \"off\""},
        {"timeouts.message", listener->timeouts.message_ms < listener->timeouts.data_block_ms,
         "is shorter than data_block", "at least as long"},
    };
    report_broken(settings, i, rules, sizeof rules / sizeof *rules);
}

void settings_listener_check(const struct settings *settings, unsigned i)
{
    if (settings->listeners[i].address == NULL) {
        return; /* reported already */
    }
    check_tls(settings, i);
    check_auth(settings, i);
    check_rest(settings, i);
}
