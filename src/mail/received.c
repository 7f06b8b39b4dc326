#include "mail/received.h"

#include "mail/date.h"

/* Received: from client.example ([192.0.2.1])
 *         (using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128 bits))
 *         by mx.example with ESMTPS id 4fZk2p
 *         for <user@example.net>
 *         PRIORITY -3;
 *         Thu, 01 Jan 1970 00:00:00 +0000
 *
 * One clause group per line keeps each of them far below 998 octets whatever the names are (a name is <= 255, a path
 * <= 256). Only the EHLO name and the recipient come from the client, and both passed the RFC's grammar: no CR, LF or
 * control octet can be in them. The words about TLS are a comment, as Postfix writes it. */

static_assert(RECEIVED_BYTES_MAX >=
                  4 * LIMIT_DOMAIN_BYTES + LIMIT_PATH_BYTES + DATE_BYTES + RECEIVED_TLS_BYTES_MAX + 160,
              "all at once");

/* (name), the peer's address in the form of a literal; nothing for a local socket. */
static bool append_peer(struct buffer *out, struct bytes address)
{
    if (address.length == 0) {
        return true;
    }
    bool is_ipv6 = memchr(address.data, ':', address.length) != NULL;
    return buffer_append(out, is_ipv6 ? BYTES(" ([IPv6:") : BYTES(" ([")) && buffer_append(out, address) &&
           buffer_append(out, BYTES("])"));
}

static bool append_tls(struct buffer *out, struct bytes tls)
{
    return tls.length == 0 ||
           (buffer_append(out, BYTES("\r\n\t(using ")) && buffer_append(out, tls) && buffer_append(out, BYTES(")")));
}

struct bytes received_protocol(const struct received_session *session)
{
    static const char *const names[2][2][4] = {
        {{"ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"}, {"UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"}},
        {{"LMTP", "LMTPS", "LMTPA", "LMTPSA"}, {"UTF8LMTP", "UTF8LMTPS", "UTF8LMTPA", "UTF8LMTPSA"}},
    };
    unsigned suffix = (session->secure ? 1u : 0) + (session->authenticated ? 2u : 0);
    return session->extended ? bytes_of_string(names[session->lmtp][session->utf8][suffix]) : BYTES("SMTP");
}

static bool append_all(struct buffer *out, const struct received *received)
{
    bool ok = buffer_append(out, BYTES("Received: from ")) && buffer_append(out, received->helo) &&
              append_peer(out, received->peer_address) && append_tls(out, received->tls) &&
              buffer_append(out, BYTES("\r\n\tby ")) && buffer_append(out, received->host) &&
              buffer_append(out, BYTES(" with ")) && buffer_append(out, received->protocol) &&
              buffer_append(out, BYTES(" id ")) && buffer_append(out, received->id);
    if (ok && received->recipient.length != 0) {
        ok = buffer_append(out, BYTES("\r\n\tfor <")) && buffer_append(out, received->recipient) &&
             buffer_append(out, BYTES(">"));
    }
    if (ok && received->has_priority) {
        ok = buffer_append_format(out, "\r\n\tPRIORITY %d", received->priority);
    }
    return ok && buffer_append(out, BYTES(";\r\n\t")) && date_append(out, received->time_unix_s) &&
           buffer_append(out, BYTES("\r\n"));
}

bool received_append(struct buffer *out, const struct received *received)
{
    size_t start = out->length;
    if (!append_all(out, received)) {
        out->length = start;
        return false;
    }
    return true;
}
