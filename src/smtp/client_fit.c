#include "smtp/client_fit.h"

/* --- what an address may contain ---------------------------------------------------------------------------------- */

static bool is_control(char c)
{
    return (unsigned char)c < ' ' || c == 0x7f;
}

/* Nothing that could end the path or the command: no control octets at all; space, '<' and '>' only inside a quoted
 * string. Whether it is an address is for others to say. */
static bool address_is_safe(struct bytes address)
{
    bool quoted = false;
    for (size_t i = 0; i < address.length; i++) {
        char c = address.data[i];
        if (quoted && c == '\\' && i + 1 < address.length) {
            c = address.data[++i];
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == ' ' || c == '<' || c == '>')) {
            return false;
        }
        if (is_control(c)) {
            return false;
        }
    }
    return !quoted && address.length <= LIMIT_ADDRESS_BYTES;
}

static bool has_8bit(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        if ((text.data[i] & 0x80) != 0) {
            return true;
        }
    }
    return false;
}

static struct bytes domain_of(struct bytes address)
{
    size_t at = address.length;
    while (at != 0 && address.data[at - 1] != '@') {
        at--;
    }
    return bytes_slice(address, at, address.length - at);
}

bool smtp_client_fit_parameter(struct bytes value)
{
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] <= ' ' || value.data[i] > '~') {
            return false;
        }
    }
    return value.length != 0 && value.length <= LIMIT_CLIENT_PARAMETER_BYTES;
}

/* --- what a transaction needs ------------------------------------------------------------------------------------- */

static bool too_many_domains(const struct smtp_client *c, const struct smtp_client_transaction *transaction)
{
    uint32_t domains = 0;
    for (uint16_t i = 0; c->domains_max != 0 && i < transaction->recipients_count; i++) {
        struct bytes domain = domain_of(transaction->recipients[i]);
        uint16_t first = 0;
        while (!bytes_equal_nocase(domain, domain_of(transaction->recipients[first]))) {
            first++;
        }
        domains += first == i;
    }
    return domains > c->domains_max;
}

static bool has_8bit_address(const struct smtp_client_transaction *transaction)
{
    bool found = has_8bit(transaction->reverse_path);
    for (uint16_t i = 0; i < transaction->recipients_count && !found; i++) {
        found = has_8bit(transaction->recipients[i]);
    }
    return found;
}

/* A message that asked for SMTPUTF8 and then used none of it may go anywhere (RFC 6531 3.4). */
static bool needs_utf8(const struct smtp_client_transaction *transaction)
{
    return (transaction->parameters.smtputf8 && transaction->has_8bit) || has_8bit_address(transaction);
}

bool smtp_client_fit_utf8(const struct smtp_client *c, const struct smtp_client_transaction *transaction)
{
    return (c->capabilities & SMTP_CLIENT_SMTPUTF8) != 0 &&
           (transaction->parameters.smtputf8 || has_8bit_address(transaction));
}

static bool safe(const struct smtp_client_transaction *transaction)
{
    bool yes = address_is_safe(transaction->reverse_path);
    for (uint16_t i = 0; i < transaction->recipients_count; i++) {
        yes = yes && transaction->recipients[i].length != 0 && address_is_safe(transaction->recipients[i]);
    }
    return yes;
}

static bool has(const struct smtp_client *c, uint32_t capabilities)
{
    return (c->capabilities & capabilities) == capabilities;
}

/* RFC 2852 4.1.4.1: what must be there in time goes only to who promises to see to it. */
static bool too_late(const struct smtp_client *c, const struct smtp_client_parameters *parameters)
{
    return parameters->by_mode == 'R' &&
           (!has(c, SMTP_CLIENT_DELIVERBY) || parameters->by_s <= 0 || parameters->by_s < (int64_t)c->by_s_min);
}

enum smtp_client_fit smtp_client_fit(const struct smtp_client *c, const struct smtp_client_transaction *transaction)
{
    CHECK(transaction->recipients_count >= 1 && transaction->recipients_count <= LIMIT_TRANSACTION_RECIPIENTS);
    bool strict_tls = transaction->parameters.require_tls && transaction->reverse_path.length != 0;
    if (!safe(transaction)) {
        return SMTP_CLIENT_FIT_ADDRESS;
    }
    if (strict_tls && !(c->secure && c->trusted)) {
        return SMTP_CLIENT_FIT_NEEDS_TLS;
    }
    if (strict_tls && !has(c, SMTP_CLIENT_REQUIRETLS)) {
        return SMTP_CLIENT_FIT_NEEDS_REQUIRETLS;
    }
    if (c->size_limit != 0 && transaction->size_bytes > c->size_limit) {
        return SMTP_CLIENT_FIT_TOO_BIG;
    }
    if (!has(c, SMTP_CLIENT_SMTPUTF8) && needs_utf8(transaction)) {
        return SMTP_CLIENT_FIT_NEEDS_UTF8;
    }
    if (!c->lmtp && too_late(c, &transaction->parameters)) {
        return SMTP_CLIENT_FIT_TOO_LATE;
    }
    if (transaction->binary && !has(c, SMTP_CLIENT_CHUNKING | SMTP_CLIENT_BINARYMIME)) {
        return SMTP_CLIENT_FIT_CONVERT;
    }
    if (!transaction->binary && transaction->has_8bit && !has(c, SMTP_CLIENT_8BITMIME)) {
        return SMTP_CLIENT_FIT_CONVERT;
    }
    if (transaction->recipients_count > c->recipients_max || too_many_domains(c, transaction)) {
        return SMTP_CLIENT_FIT_SPLIT;
    }
    return SMTP_CLIENT_FIT_YES;
}
