/* Certificates for tests, made once per process by openssl(1) in a directory that goes with the process. Each is
 * NAME.pem with NAME.key:
 *   authority                 a certificate authority, and stranger, which nobody trusts
 *   ecdsa, rsa, ecdsa384      mx.example.org, from authority; the ecdsa one by way of the intermediate `middle`
 *   other                     *.other.example, ECDSA
 *   expired, unknown          mx.example.org: out of date; from stranger
 *   client, client_unknown    bob@example.org, from authority and from stranger
 * Failures abort the test program. */
#ifndef SUPPORT_TLS_FILES_H
#define SUPPORT_TLS_FILES_H

/* The path of a file ("ecdsa.pem"); static memory, 64 of them at once. */
const char *tls_files_path(const char *name);

#endif
