/* Finds the end of a message in a DATA stream and judges its octets on the way (RFC 5321 4.1.1.4, 4.5.2, 2.3.8). */
#ifndef SMTP_DOT_H
#define SMTP_DOT_H

#include "base/bytes.h"

/* What was seen. All but DOT_EIGHT_BIT make the message unacceptable. */
#define DOT_BARE_CR 1u
#define DOT_BARE_LF 2u
#define DOT_NUL 4u
#define DOT_LONG_LINE 8u
#define DOT_EIGHT_BIT 16u
#define DOT_BAD (DOT_BARE_CR | DOT_BARE_LF | DOT_NUL | DOT_LONG_LINE)

struct dot {
    uint64_t bytes;          /* octets as carried, so far; with the final ".\r\n" once ended */
    uint64_t stuffed;        /* lines that begin with a (stuffed) dot; the final dot is not counted. 0 = dot free */
    uint32_t line_bytes;     /* of the line that is being read, without a stuffed dot */
    uint32_t line_bytes_max; /* with CRLF */
    uint32_t received;       /* Received: fields in the header */
    uint8_t place;           /* private: what the last octets were */
    uint8_t match;           /* private: how much of "Received:" this line has matched, or that it is decided */
    uint8_t seen;            /* DOT_... */
    bool in_header;
    bool ended;
};

/* Starts at the first octet after the CRLF of the DATA command, which is the beginning of a line. */
void dot_init(struct dot *dot, uint32_t line_bytes_max);

/* Reads on. Returns how many octets belong to the message: all of them, or, once dot->ended, up to and including the
 * final dot's CRLF. Must not be called after that. */
size_t dot_scan(struct dot *dot, struct bytes input);

/* Whether what was read so far is empty or ends in CRLF. */
bool dot_at_line_start(const struct dot *dot);

/* The message's size in the sense of RFC 1870: without stuffed dots and the final dot. Only when ended. */
uint64_t dot_message_bytes(const struct dot *dot);

#endif
