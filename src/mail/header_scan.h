/* Which fields does a message have? Asked while it arrives, piece by piece, however it is cut; nothing is kept of it.
 */
#ifndef MAIL_HEADER_SCAN_H
#define MAIL_HEADER_SCAN_H

#include <stdbool.h>

#include "base/bytes.h"

#define HEADER_SCAN_NAME_BYTES 11 /* of the longest name that is looked for */

/* Zeroed it is ready. */
struct header_scan {
    uint8_t state;  /* private */
    uint8_t length; /* private: octets of `name` */
    char name[HEADER_SCAN_NAME_BYTES];
    bool some;       /* there is a field */
    bool over;       /* the header has ended */
    bool headless;   /* the first line is neither a field nor empty: there is no header */
    bool date;       /* there is a Date field */
    bool message_id; /* there is a Message-ID field */
};

/* The next piece of the message in wire form. Cheap once the header is over. */
void header_scan(struct header_scan *scan, struct bytes piece);

#endif
