/* The site key: one name for all domains that the same set of MX hosts serves. */
#ifndef DNS_MX_SITE_H
#define DNS_MX_SITE_H

#include <stddef.h>

#include "base/bytes.h"

#define MX_SITE_BYTES 255

/* Joins the names (lower case), sorted and each once, with commas: "mx1.example.net,mx2.example.net". The order of
 * `names` changes. A key beyond MX_SITE_BYTES is cut and ends in '#' and 16 hex digits of a hash over the whole.
 * Returns its length. */
size_t mx_site_key(struct bytes *names, unsigned count, char out[MX_SITE_BYTES]);

#endif
