/* Counters, gauges and histograms, one set per shard, written by that shard only and read by the control thread without
 * locks (relaxed atomics: on x86 and arm64 plain loads and stores).
 *
 * The whole list is METRIC_COUNTERS and friends below: a metric exists in one line, its help text included.
 */
#ifndef CORE_METRIC_H
#define CORE_METRIC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"

/* X(field, prometheus name without prefix, help) */
#define METRIC_COUNTERS(X)                                                                                         \
    X(connections_accepted, "connections_accepted_total", "SMTP connections accepted")                             \
    X(connections_refused, "connections_refused_total", "SMTP connections refused by a limit")                     \
    X(rate_refusals, "rate_refusals_total", "refusals by a rate limit")                                            \
    X(rate_evictions, "rate_evictions_total", "rate buckets forgotten while in use: the table is too small")       \
    X(memory_refusals, "memory_refusals_total", "messages refused because memory is short (alarm)")                \
    X(early_talkers, "early_talkers_total", "clients that spoke before the greeting")                              \
    X(proxy_errors, "proxy_errors_total", "connections closed for lack of a good PROXY header")                    \
    X(starttls, "starttls_total", "STARTTLS commands accepted")                                                    \
    X(auth_scram_sha_256_plus_accepted, "auth_scram_sha_256_plus_accepted_total", "logins by SCRAM-SHA-256-PLUS")  \
    X(auth_scram_sha_256_plus_refused, "auth_scram_sha_256_plus_refused_total",                                    \
      "logins by SCRAM-SHA-256-PLUS that were refused")                                                            \
    X(auth_scram_sha_256_accepted, "auth_scram_sha_256_accepted_total", "logins by SCRAM-SHA-256")                 \
    X(auth_scram_sha_256_refused, "auth_scram_sha_256_refused_total", "logins by SCRAM-SHA-256 that were refused") \
    X(auth_oauthbearer_accepted, "auth_oauthbearer_accepted_total", "logins by OAUTHBEARER")                       \
    X(auth_oauthbearer_refused, "auth_oauthbearer_refused_total", "logins by OAUTHBEARER that were refused")       \
    X(auth_xoauth2_accepted, "auth_xoauth2_accepted_total", "logins by XOAUTH2")                                   \
    X(auth_xoauth2_refused, "auth_xoauth2_refused_total", "logins by XOAUTH2 that were refused")                   \
    X(auth_plain_accepted, "auth_plain_accepted_total", "logins by PLAIN")                                         \
    X(auth_plain_refused, "auth_plain_refused_total", "logins by PLAIN that were refused")                         \
    X(auth_login_accepted, "auth_login_accepted_total", "logins by LOGIN")                                         \
    X(auth_login_refused, "auth_login_refused_total", "logins by LOGIN that were refused")                         \
    X(auth_external_accepted, "auth_external_accepted_total", "logins by EXTERNAL")                                \
    X(auth_external_refused, "auth_external_refused_total", "logins by EXTERNAL that were refused")                \
    X(commands, "smtp_commands_total", "SMTP commands received")                                                   \
    X(replies_transient, "smtp_replies_transient_total", "4yz replies sent")                                       \
    X(replies_permanent, "smtp_replies_permanent_total", "5yz replies sent")                                       \
    X(received_bytes, "smtp_received_bytes_total", "bytes received from SMTP clients")                             \
    X(messages_accepted, "messages_accepted_total", "messages answered with 250 after their commit")               \
    X(messages_rejected, "messages_rejected_total", "messages refused at the final dot")                           \
    X(recipients_accepted, "recipients_accepted_total", "recipients of accepted messages")                         \
    X(spool_batches, "spool_batches_total", "group commits written")                                               \
    X(spool_syncs, "spool_syncs_total", "group commits that were synced")                                          \
    X(spool_records, "spool_records_total", "records appended")                                                    \
    X(spool_written_bytes, "spool_written_bytes_total", "bytes written to segments")                               \
    X(spool_message_bytes, "spool_message_bytes_total", "of them, messages as they were accepted")                 \
    X(spool_overhead_bytes, "spool_overhead_bytes_total", "bytes to make, empty and seal segments")                \
    X(spool_write_errors, "spool_write_errors_total", "failed writes or syncs (alarm)")                            \
    X(spool_quarantined, "spool_quarantined_records_total", "records that did not verify (alarm)")                 \
    X(spool_full, "spool_full_total", "refusals because the disk is full (alarm)")                                 \
    X(spool_compacted_bytes, "spool_compacted_bytes_total", "live bytes rewritten by compaction")                  \
    X(spool_segments_recycled, "spool_segments_recycled_total", "segments emptied and reused")                     \
    X(delivery_attempts, "delivery_attempts_total", "outbound transactions begun")                                 \
    X(recipients_delivered, "recipients_delivered_total", "recipients that a remote host took over")               \
    X(recipients_deferred, "recipients_deferred_total", "attempts that will be retried")                           \
    X(recipients_failed, "recipients_failed_total", "recipients that failed for good")                             \
    X(recipients_expired, "recipients_expired_total", "recipients that waited longer than their expiry")           \
    X(recipients_removed, "recipients_removed_total", "recipients deleted by the operator")                        \
    X(bounces_generated, "bounces_generated_total", "delivery status notifications queued")                        \
    X(bounces_suppressed, "bounces_suppressed_total", "failures of null-sender mail, which never bounces")         \
    X(outbound_connections, "outbound_connections_total", "outbound connections made")                             \
    X(outbound_connect_failures, "outbound_connect_failures_total", "outbound connections that failed")            \
    X(outbound_tls, "outbound_tls_total", "outbound connections on which TLS was started")                         \
    X(outbound_tls_verified, "outbound_tls_verified_total", "... with a certificate of the right name")            \
    X(outbound_tls_failures, "outbound_tls_failures_total", "outbound connections lost to STARTTLS")               \
    X(outbound_sends, "outbound_sends_total", "send operations on outbound connections")                           \
    X(outbound_receives, "outbound_receives_total", "receive completions on outbound connections")                 \
    X(outbound_bytes, "outbound_bytes_total", "bytes sent on outbound connections")                                \
    X(dns_queries, "dns_queries_total", "DNS questions asked of the resolver")                                     \
    X(dns_failures, "dns_failures_total", "DNS questions that failed temporarily")                                 \
    X(dns_cache_hits, "dns_cache_hits_total", "DNS answers from the cache")                                        \
    X(events_written, "events_written_total", "event log lines written")                                           \
    X(events_lost, "events_lost_total", "event log lines lost to a full or failing disk (alarm)")                  \
    X(tls_handshakes, "tls_handshakes_total", "TLS handshakes completed in full")                                  \
    X(tls_resumed, "tls_resumed_total", "TLS handshakes completed with a ticket")                                  \
    X(tls_failures, "tls_failures_total", "TLS handshakes that failed")                                            \
    X(mail_deferred, "mailbox_deferred_total", "messages between shards that found the mailbox full")

#define METRIC_GAUGES(X)                                                                              \
    X(sessions, "sessions", "open SMTP server sessions")                                              \
    X(tls_sessions, "tls_sessions", "open TLS sessions, both directions")                             \
    X(outbound_open, "outbound_connections_open", "open outbound connections")                        \
    X(delivery_copied_bytes, "delivery_copied_bytes", "copies of messages whose hosts are slow")      \
    X(queued_recipients, "queued_recipients", "recipients waiting or in delivery")                    \
    X(queued_messages, "queued_messages", "messages in the spool with a recipient left")              \
    X(spool_segments, "spool_segments", "segment files")                                              \
    X(spool_live_bytes, "spool_live_bytes", "bytes of records still needed")                          \
    X(quarantined_messages, "spool_quarantined_messages", "messages that do not verify")              \
    X(suspect_segments, "spool_suspect_segments", "segments that a write failed on, not emptied yet") \
    X(body_memory_bytes, "body_memory_bytes", "memory that holds messages being received")            \
    X(tls_certificate_expires, "tls_certificate_expires_seconds",                                     \
      "when the first certificate of a listener ends, seconds since 1970; 0 without TLS")             \
    X(intake_stopped, "intake_stopped", "1 while new mail is refused for lack of space or a failed disk")

/* Microseconds unless the name says otherwise. */
#define METRIC_HISTOGRAMS(X)                                                         \
    X(tls_handshake_time, "tls_handshake_seconds", "start of TLS to its completion") \
    X(commit_latency, "commit_latency_seconds", "duration of one group commit")      \
    X(commit_messages, "commit_messages", "messages per group commit")               \
    X(accept_latency, "accept_latency_seconds", "end of data to 250")                \
    X(milter_latency, "milter_seconds", "a step said to a milter to its answer")     \
    X(queue_time, "queue_time_seconds", "acceptance to delivery")                    \
    X(remote_latency, "remote_reply_seconds", "final dot to the remote reply")       \
    X(connect_latency, "connect_seconds", "TCP connect of outbound connections")

/* Of each mail filter, by its name. wait_us is shown in seconds. */
#define METRIC_MILTER_COUNTERS(X)                                                                       \
    X(requests, "milter_requests_total", "steps that the milter was asked about")                       \
    X(failures, "milter_failures_total", "times that it could not be asked, or spoke nonsense (alarm)") \
    X(refusals, "milter_refusals_total", "senders, recipients and messages that it refused")            \
    X(edits, "milter_edits_total", "changes that it made to messages")                                  \
    X(discarded, "milter_discarded_total", "messages answered with 250 and thrown away for it")         \
    X(quarantined, "milter_quarantined_total", "messages held for it")                                  \
    X(wait_us, "milter_wait_seconds_total", "time until it answered, all steps together")

#define METRIC_MILTERS_MAX 64
#define METRIC_MILTER_NAME_BYTES 64

struct metric_milter {
    char name[METRIC_MILTER_NAME_BYTES];
#define METRIC_FIELD(field, name, help) _Atomic uint64_t field;
    METRIC_MILTER_COUNTERS(METRIC_FIELD)
#undef METRIC_FIELD
};

struct metric_set {
#define METRIC_FIELD(field, name, help) _Atomic uint64_t field;
    METRIC_COUNTERS(METRIC_FIELD)
    METRIC_GAUGES(METRIC_FIELD)
#undef METRIC_FIELD
#define METRIC_FIELD(field, name, help) struct histogram field;
    METRIC_HISTOGRAMS(METRIC_FIELD)
#undef METRIC_FIELD
    struct metric_milter milters[METRIC_MILTERS_MAX];
    _Atomic uint32_t milters_count;
};

/* Single writer: no locked instruction. */
static inline void metric_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void metric_subtract(_Atomic uint64_t *gauge, uint64_t n)
{
    atomic_store_explicit(gauge, atomic_load_explicit(gauge, memory_order_relaxed) - n, memory_order_relaxed);
}

static inline void metric_set_to(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

struct metric_set *metric_set_new(void);
void metric_set_delete(struct metric_set *set);

/* The counters of the mail filter of that name (a label as it is: letters, digits and the like), from the first call
 * on. When there are METRIC_MILTERS_MAX others the last one's. */
struct metric_milter *metric_milter_of(struct metric_set *set, const char *name);

/* Renders the sum of all sets as Prometheus text exposition format 0.0.4, one series each, times in seconds.
 * Returns malloc'ed text of *ret_length bytes, or NULL without memory. */
char *metric_render(struct metric_set *const *sets, unsigned count, size_t *ret_length);

#endif
