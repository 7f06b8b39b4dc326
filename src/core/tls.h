/* TLS: the only header through which the rest of the program meets wolfSSL. */
#ifndef CORE_TLS_H
#define CORE_TLS_H

/* The version of the library that is linked in ("5.5.4"); static memory. */
const char *tls_library_version(void);

/* Prepares the library for use by all threads; call once, before shards start. Draws from the random generator, because
 * every later handshake trusts it: a machine without entropy refuses to start instead of serving with weak keys.
 * 0, or -EIO when the library refuses to initialise, or -ENODATA when the generator gives nothing usable. */
int tls_library_init(void);

#endif
