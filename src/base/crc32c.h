/* CRC-32C (Castagnoli, RFC 3720 B.4): the checksum of record headers on disk. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `length` bytes that follow bytes whose checksum is `crc` (0 for none). */
uint32_t crc32c(uint32_t crc, const void *data, size_t length);

/* The same without the processor's instruction; for tests and processors that lack it. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif
