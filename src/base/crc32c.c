#include "base/crc32c.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

typedef uint32_t crc_function(uint32_t crc, const void *data, size_t length);

/* Four bits at a time: every processor that this program is for has the instruction, so this one is short, not fast. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    const unsigned char *bytes = data;
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t crc32c_instruction(uint32_t crc, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    uint64_t state = ~crc;
    for (; length >= 8; bytes += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, bytes, sizeof word);
        state = _mm_crc32_u64(state, word);
    }
    crc = (uint32_t)state;
    for (; length != 0; bytes++, length--) {
        crc = _mm_crc32_u8(crc, *bytes);
    }
    return ~crc;
}

static crc_function *best(void)
{
    return __builtin_cpu_supports("sse4.2") ? crc32c_instruction : crc32c_portable;
}

#elif defined(__aarch64__)

#if defined(__clang__)
#define TARGET_CRC __attribute__((target("crc")))
#else
#define TARGET_CRC __attribute__((target("+crc")))
#endif

TARGET_CRC static uint32_t crc32c_instruction(uint32_t crc, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    crc = ~crc;
    for (; length >= 8; bytes += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, bytes, sizeof word);
        crc = __crc32cd(crc, word);
    }
    for (; length != 0; bytes++, length--) {
        crc = __crc32cb(crc, *bytes);
    }
    return ~crc;
}

static crc_function *best(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0 ? crc32c_instruction : crc32c_portable;
}

#else

static crc_function *best(void)
{
    return crc32c_portable;
}

#endif

static uint32_t choose(uint32_t crc, const void *data, size_t length);

/* Threads that come here together all store the same pointer. */
static _Atomic(crc_function *) chosen = choose;

static uint32_t choose(uint32_t crc, const void *data, size_t length)
{
    crc_function *function = best();
    atomic_store_explicit(&chosen, function, memory_order_relaxed);
    return function(crc, data, length);
}

uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
    return atomic_load_explicit(&chosen, memory_order_relaxed)(crc, data, length);
}
