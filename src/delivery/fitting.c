#include "delivery/fitting.h"

#include "delivery/attempt_body.h"
#include "delivery/outcome.h"

/* How many of the recipients share the first one's domain from the start, at most `domains` domains. */
static unsigned recipients_within(const struct attempt *attempt, unsigned recipients_max, unsigned domains_max)
{
    unsigned count = 0;
    unsigned domains = 0;
    struct bytes last = bytes_of("", 0);
    while (count < attempt->count && count < recipients_max) {
        struct bytes address = attempt->recipients[count];
        const char *at = memrchr(address.data, '@', address.length);
        size_t skip = at == NULL ? address.length : (size_t)(at - address.data);
        struct bytes domain = bytes_slice(address, skip, address.length - skip);
        if (count == 0 || !bytes_equal_nocase(domain, last)) {
            domains++;
        }
        if (domains_max != 0 && domains > domains_max) {
            break;
        }
        last = domain;
        count++;
    }
    return count != 0 ? count : 1;
}

/* Ends the next attempt without sending it. */
static void end_next(struct client_session *session, const struct outcome_cause *cause)
{
    outcome_failed(session->next, cause);
    attempt_end(session->next);
    session->next = NULL;
}

static bool refuse(struct client_session *session, uint8_t subject, uint8_t detail, const char *text)
{
    struct outcome_cause cause = outcome_local(true, subject, detail, text);
    end_next(session, &cause);
    return false;
}

/* It requires TLS that this connection does not have, or not with anybody sure. That nothing may be sent to the host is
 * final (RFC 8689 4.2.1), that we had no session left for it is not. */
static bool refuse_insecure(struct client_session *session)
{
    if (session->tls_short) {
        struct outcome_cause cause = outcome_local(
            false, 3, 2, "the message requires TLS, and there are too many TLS sessions here");
        end_next(session, &cause);
        return false;
    }
    return refuse(session, 7, 10, "the message requires TLS, and the remote host's identity is not verified");
}

/* True when it was converted. */
static bool convert(struct client_session *session)
{
    switch (attempt_body_convert(session->next)) {
    case ERR_OK: return true;
    case ERR_NO_MEMORY: {
        struct outcome_cause cause = outcome_local(false, 3, 0, "out of memory");
        end_next(session, &cause);
        return false;
    }
    default:
        return refuse(session, 6, 3,
                      session->next->transaction.binary
                          ? "the message is binary, which the remote host does not take, and it cannot be converted"
                          : "the message is 8-bit, the remote host is not, and it cannot be converted");
    }
}

bool fitting_next(struct client_session *session)
{
    struct attempt *attempt = session->next;
    const struct smtp_client *client = &session->client;
    attempt_refresh(attempt);
    switch (smtp_client_fit(client, &attempt->transaction)) {
    case SMTP_CLIENT_FIT_YES: return true;
    case SMTP_CLIENT_FIT_TOO_BIG: return refuse(session, 3, 4, "the message is larger than the remote host accepts");
    case SMTP_CLIENT_FIT_CONVERT: return convert(session) && fitting_next(session);
    case SMTP_CLIENT_FIT_NEEDS_UTF8:
        return refuse(session, 6, 7, "the remote host does not support internationalised addresses");
    case SMTP_CLIENT_FIT_NEEDS_TLS: return refuse_insecure(session);
    case SMTP_CLIENT_FIT_NEEDS_REQUIRETLS:
        return refuse(session, 7, 30, "the message requires TLS, and the remote host does not support REQUIRETLS");
    case SMTP_CLIENT_FIT_TOO_LATE:
        return refuse(session, 4, 7, "the remote host does not promise delivery in the time that is left");
    case SMTP_CLIENT_FIT_SPLIT:
        attempt_shrink(attempt, recipients_within(attempt, client->recipients_max, client->domains_max));
        return fitting_next(session);
    case SMTP_CLIENT_FIT_ADDRESS:
        if (attempt->count > 1) {
            attempt_shrink(attempt, 1);
            return fitting_next(session);
        }
        return refuse(session, 1, 3, "not a valid address");
    case SMTP_CLIENT_FIT_COUNT: break;
    }
    return false;
}
