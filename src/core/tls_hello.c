#include "core/tls_hello.h"

#include <string.h>

#include "base/check.h"

#define RECORD_HEADER_BYTES 5
#define MESSAGE_HEADER_BYTES 4
#define RECORD_TYPE_HANDSHAKE 22
#define MESSAGE_TYPE_CLIENT_HELLO 1
#define ALERT_UNEXPECTED_MESSAGE 10
#define ALERT_DECODE_ERROR 50
#define ALERT_PROTOCOL_VERSION 70
#define ALERT_NO_APPLICATION_PROTOCOL 120

/* A span that is read from the front. What does not fit leaves it broken, and whatever is read afterwards is zero. */
struct reader {
    const uint8_t *data;
    size_t length;
    bool broken;
};

static struct reader take(struct reader *reader, size_t n)
{
    if (reader->broken || n > reader->length) {
        reader->broken = true;
        return (struct reader){.broken = true};
    }
    struct reader part = {.data = reader->data, .length = n};
    reader->data += n;
    reader->length -= n;
    return part;
}

static unsigned number(struct reader *reader, size_t bytes)
{
    struct reader part = take(reader, bytes);
    unsigned value = 0;
    for (size_t i = 0; i < part.length; i++) {
        value = value << 8 | part.data[i];
    }
    return value;
}

/* A vector with its length in front. */
static struct reader vector(struct reader *reader, size_t length_bytes)
{
    return take(reader, number(reader, length_bytes));
}

/* --- extensions --------------------------------------------------------------------------------------------------- */

static bool name_octet(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
}

/* RFC 6066 3. A trailing dot is not part of a name there. */
static void server_name(struct reader extension, struct tls_hello *hello)
{
    struct reader names = vector(&extension, 2);
    while (names.length != 0 && !names.broken) {
        unsigned type = number(&names, 1);
        struct reader name = vector(&names, 2);
        if (type != 0 || names.broken) {
            continue;
        }
        bool good = name.length != 0 && name.length < sizeof hello->server_name && name.data[0] != '.';
        for (size_t i = 0; good && i < name.length; i++) {
            good = name_octet(name.data[i]);
        }
        hello->strange_name |= !good;
        for (size_t i = 0; good && i < name.length; i++) {
            hello->server_name[i] = bytes_ascii_lower((char)name.data[i]);
        }
        return;
    }
}

/* RFC 8446 4.2.3; the numbers mean the same in TLS 1.2, where they are pairs of hash and signature. */
static void signatures(struct reader extension, struct tls_hello *hello)
{
    struct reader list = vector(&extension, 2);
    while (list.length >= 2) {
        switch (number(&list, 2)) {
        case 0x0403: hello->ecdsa_p256 = true; break;
        case 0x0503: hello->ecdsa_p384 = true; break;
        case 0x0401:
        case 0x0501:
        case 0x0601:
        case 0x0804:
        case 0x0805:
        case 0x0806: hello->rsa = true; break;
        default: break;
        }
    }
}

/* RFC 8422 5.1: with TLS 1.2 the list of groups also says over which curves a certificate's key may be. */
static void groups(struct reader extension, struct tls_hello *hello)
{
    struct reader list = vector(&extension, 2);
    hello->without_p256 = hello->without_p384 = true;
    while (list.length >= 2) {
        unsigned group = number(&list, 2);
        hello->without_p256 &= group != 23;
        hello->without_p384 &= group != 24;
    }
}

static void versions(struct reader extension, struct tls_hello *hello)
{
    struct reader list = vector(&extension, 1);
    while (list.length >= 2) {
        hello->tls13 |= number(&list, 2) == 0x0304;
    }
}

static void protocols(struct reader extension, struct tls_hello *hello)
{
    struct reader list = vector(&extension, 2);
    bool found = false;
    while (list.length != 0 && !list.broken) {
        struct reader name = vector(&list, 1);
        found |= bytes_equal(bytes_of(name.data, name.length), BYTES("smtp"));
    }
    hello->alpn = found;
    hello->problem = found ? NULL : "only other protocols than smtp wanted";
    hello->alert = found ? 0 : ALERT_NO_APPLICATION_PROTOCOL;
}

static void extensions(struct reader list, struct tls_hello *hello)
{
    while (list.length != 0 && !list.broken) {
        unsigned type = number(&list, 2);
        struct reader extension = vector(&list, 2);
        switch (type) {
        case 0: server_name(extension, hello); break;
        case 10: groups(extension, hello); break;
        case 13: signatures(extension, hello); break;
        case 16: protocols(extension, hello); break;
        case 23: hello->extended_master = true; break;
        case 43: versions(extension, hello); break;
        default: break;
        }
    }
}

/* --- the message -------------------------------------------------------------------------------------------------- */

/* With TLS 1.2 the cipher suite names the kind of certificate; TLS 1.3's say nothing of it. */
static void suites(struct reader list, bool *ret_ecdsa, bool *ret_rsa)
{
    while (list.length >= 2) {
        switch (number(&list, 2)) {
        case 0xC02B: /* ECDHE_ECDSA with AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 */
        case 0xC02C:
        case 0xCCA9: *ret_ecdsa = true; break;
        case 0xC02F: /* ECDHE_RSA, likewise */
        case 0xC030:
        case 0xCCA8: *ret_rsa = true; break;
        default: break;
        }
    }
}

static enum tls_hello_state bad(struct tls_hello *hello, const char *problem, uint8_t alert)
{
    hello->problem = problem;
    hello->alert = alert;
    return TLS_HELLO_BAD;
}

static enum tls_hello_state client_hello(struct reader message, struct tls_hello *hello)
{
    bool ecdsa = false;
    bool rsa = false;
    take(&message, 2 + 32); /* legacy version, random */
    vector(&message, 1);    /* session id */
    suites(vector(&message, 2), &ecdsa, &rsa);
    vector(&message, 1); /* compression methods */
    if (message.broken) {
        return bad(hello, "malformed ClientHello", ALERT_DECODE_ERROR);
    }
    if (message.length != 0) {
        extensions(vector(&message, 2), hello);
    }
    if (!hello->tls13) {
        hello->ecdsa_p256 &= ecdsa && !hello->without_p256;
        hello->ecdsa_p384 &= ecdsa && !hello->without_p384;
        hello->rsa &= rsa;
    }
    return hello->problem != NULL ? TLS_HELLO_BAD : TLS_HELLO_DONE;
}

/* The octets of a message that goes over several records, without the headers in between. */
static struct reader without_headers(const uint8_t *data, size_t message_bytes, uint8_t *room)
{
    size_t done = 0;
    while (done < message_bytes) {
        size_t record = (size_t)(data[3] << 8 | data[4]);
        size_t n = record < message_bytes - done ? record : message_bytes - done;
        memcpy(room + done, data + RECORD_HEADER_BYTES, n);
        done += n;
        data += RECORD_HEADER_BYTES + record;
    }
    return (struct reader){.data = room, .length = message_bytes};
}

/* Not a record of a handshake: what else? */
static const char *stranger(const uint8_t *data, size_t length)
{
    if (length >= 3 && (data[0] & 0x80) != 0 && data[2] == 1) {
        return "SSL 2 instead of TLS";
    }
    if (data[0] == 21) {
        return "alert instead of ClientHello";
    }
    return data[0] >= 20 && data[0] <= 24 ? "other record instead of ClientHello" : "no TLS";
}

/* What speaks no TLS does not hear an alert either, but SSL 2 does, in the version that was common then. */
static uint8_t alert_for(uint8_t type)
{
    if (type >= 20 && type <= 24) {
        return ALERT_UNEXPECTED_MESSAGE;
    }
    return (type & 0x80) != 0 ? ALERT_PROTOCOL_VERSION : 0;
}

static const char *check_record(const uint8_t *header, size_t length, bool first)
{
    if (header[0] != RECORD_TYPE_HANDSHAKE) {
        return first ? stranger(header, length) : "ClientHello interrupted";
    }
    if (length >= 2 && header[1] != 3) {
        return "no TLS";
    }
    if (length >= RECORD_HEADER_BYTES) {
        size_t record = (size_t)(header[3] << 8 | header[4]);
        if (record == 0 || record > 16384) {
            return "bad record length";
        }
        if (first && length > RECORD_HEADER_BYTES && header[RECORD_HEADER_BYTES] != MESSAGE_TYPE_CLIENT_HELLO) {
            return "other message instead of ClientHello";
        }
    }
    return NULL;
}

/* The first octets of the message tell how long it is; they may be in several records too. */
struct progress {
    size_t payload;       /* octets of the message that are there */
    size_t message_bytes; /* with its header; 0 while unknown */
    uint32_t head;
    size_t end; /* of the last whole record */
};

static void count_payload(struct progress *progress, const uint8_t *payload, size_t n)
{
    for (size_t i = 0; i < n && progress->payload + i < MESSAGE_HEADER_BYTES; i++) {
        progress->head = progress->head << 8 | payload[i];
    }
    progress->payload += n;
    if (progress->payload >= MESSAGE_HEADER_BYTES) {
        progress->message_bytes = (progress->head & 0xFFFFFF) + MESSAGE_HEADER_BYTES;
    }
}

static enum tls_hello_state finish(const uint8_t *data, size_t message_bytes, struct tls_hello *hello)
{
    uint8_t room[TLS_HELLO_BYTES_MAX];
    struct reader message = without_headers(data, message_bytes, room);
    take(&message, MESSAGE_HEADER_BYTES);
    return client_hello(message, hello);
}

enum tls_hello_state tls_hello_scan(const uint8_t *data, size_t length, struct tls_hello *ret_hello)
{
    *ret_hello = (struct tls_hello){.problem = NULL};
    struct progress progress = {.payload = 0};
    for (unsigned records = 0; records < TLS_HELLO_RECORDS_MAX; records++) {
        const uint8_t *header = data + progress.end;
        size_t rest = length - progress.end;
        const char *problem = rest != 0 ? check_record(header, rest, records == 0) : NULL;
        if (problem != NULL) {
            return bad(ret_hello, problem, alert_for(header[0]));
        }
        ret_hello->need = progress.end + RECORD_HEADER_BYTES;
        if (rest < RECORD_HEADER_BYTES) {
            return TLS_HELLO_MORE;
        }
        size_t record = (size_t)(header[3] << 8 | header[4]);
        ret_hello->need = progress.end + RECORD_HEADER_BYTES + record;
        if (ret_hello->need > TLS_HELLO_BYTES_MAX) {
            return bad(ret_hello, "ClientHello too long", ALERT_DECODE_ERROR);
        }
        if (rest < RECORD_HEADER_BYTES + record) {
            return TLS_HELLO_MORE;
        }
        count_payload(&progress, header + RECORD_HEADER_BYTES, record);
        progress.end = ret_hello->need;
        if (progress.message_bytes > TLS_HELLO_BYTES_MAX) {
            return bad(ret_hello, "ClientHello too long", ALERT_DECODE_ERROR);
        }
        if (progress.message_bytes != 0 && progress.payload >= progress.message_bytes) {
            return finish(data, progress.message_bytes, ret_hello);
        }
    }
    return bad(ret_hello, "ClientHello in too many records", ALERT_DECODE_ERROR);
}
