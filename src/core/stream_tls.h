/* TLS on a stream: the same input, consume, send and close, inside of TLS.
 *
 * While the handshake runs, no input is visible and nothing may be sent; `wake` is called once `secured` or `error` or
 * `eof` is set. From then on input, consume and send are the plaintext's, and close says close_notify. The driver has a
 * timer for the handshake. A failure is -EPROTO in `error` (-EACCES: the peer's certificate was refused), and
 * stream_tls_reason says more.
 *
 * Each of these returns 0; or, with nothing changed, -EBUSY when tls_session_limit is reached, -ENOMEM, or -EPROTO when
 * input is unread: what came in the clear must never be taken for what comes in TLS (RFC 3207 6). Not while sending,
 * nor twice. The stream takes its own reference to the context.
 */
#ifndef CORE_STREAM_TLS_H
#define CORE_STREAM_TLS_H

#include "core/stream.h"
#include "core/tls.h"

int stream_tls_start_server(struct stream *stream, struct tls_context *context);

/* The same for a port where TLS comes first (RFC 8314): unread input is the beginning of the handshake (it may have
 * come behind a PROXY header). */
int stream_tls_start_implicit(struct stream *stream, struct tls_context *context);

/* `name`: the server's host name, for SNI and for TLS_VERIFY_NAME; an address literal or "" gives no SNI. Copied. */
int stream_tls_start_client(struct stream *stream, struct tls_context *context, const char *name,
                            enum tls_verify verify);

/* Valid until `closed`; all zero or "" before `secured` (but server_name is there as soon as it is known). Only for
 * a stream whose TLS was started. */
const struct tls_facts *stream_tls_facts(const struct stream *stream);

/* Why TLS failed: one line, fit for a log; "" when it did not. */
const char *stream_tls_reason(const struct stream *stream);

#endif
