#include "smtp/classify.h"

#include <endian.h>
#include <string.h>

#define EACH_OCTET 0x0101010101010101u

/* 0x80 in every octet of word that equals octet, 0 in the others. Exact: nothing carries from one octet to the next. */
static uint64_t equal_octets(uint64_t word, uint8_t octet)
{
    uint64_t difference = word ^ (EACH_OCTET * octet);
    uint64_t low7 = (difference & (EACH_OCTET * 0x7f)) + EACH_OCTET * 0x7f;
    return ~(low7 | difference | (EACH_OCTET * 0x7f));
}

/* Collects the top bits of the eight octets, first octet in bit 0. */
static uint64_t gather(uint64_t top_bits)
{
    return ((top_bits >> 7) * 0x0102040810204080u) >> 56;
}

void classify_portable(const char *data, size_t blocks, struct classify_masks *ret_masks)
{
    for (size_t b = 0; b < blocks; b++) {
        struct classify_masks masks = {0};
        for (unsigned i = 0; i < CLASSIFY_BLOCK_BYTES; i += 8) {
            uint64_t word;
            memcpy(&word, data + b * CLASSIFY_BLOCK_BYTES + i, sizeof(word));
            word = le64toh(word);
            masks.cr |= gather(equal_octets(word, '\r')) << i;
            masks.lf |= gather(equal_octets(word, '\n')) << i;
            masks.nul |= gather(equal_octets(word, 0)) << i;
            masks.high |= gather(word & (EACH_OCTET * 0x80)) << i;
        }
        ret_masks[b] = masks;
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

static uint64_t equal_16(__m128i octets, char octet)
{
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(octets, _mm_set1_epi8(octet)));
}

static void classify_sse2(const char *data, size_t blocks, struct classify_masks *ret_masks)
{
    for (size_t b = 0; b < blocks; b++) {
        struct classify_masks masks = {0};
        for (unsigned i = 0; i < CLASSIFY_BLOCK_BYTES; i += 16) {
            __m128i octets = _mm_loadu_si128((const __m128i_u *)(const void *)(data + b * CLASSIFY_BLOCK_BYTES + i));
            masks.cr |= equal_16(octets, '\r') << i;
            masks.lf |= equal_16(octets, '\n') << i;
            masks.nul |= equal_16(octets, 0) << i;
            masks.high |= (uint64_t)(uint32_t)_mm_movemask_epi8(octets) << i;
        }
        ret_masks[b] = masks;
    }
}

__attribute__((target("avx2"))) static uint64_t equal_32(__m256i octets, char octet)
{
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(octets, _mm256_set1_epi8(octet)));
}

__attribute__((target("avx2"))) static void classify_avx2(const char *data, size_t blocks,
                                                          struct classify_masks *ret_masks)
{
    for (size_t b = 0; b < blocks; b++) {
        const char *block = data + b * CLASSIFY_BLOCK_BYTES;
        __m256i first = _mm256_loadu_si256((const __m256i_u *)(const void *)block);
        __m256i second = _mm256_loadu_si256((const __m256i_u *)(const void *)(block + 32));
        ret_masks[b] = (struct classify_masks){
            .cr = equal_32(first, '\r') | equal_32(second, '\r') << 32,
            .lf = equal_32(first, '\n') | equal_32(second, '\n') << 32,
            .nul = equal_32(first, 0) | equal_32(second, 0) << 32,
            .high = (uint32_t)_mm256_movemask_epi8(first) | (uint64_t)(uint32_t)_mm256_movemask_epi8(second) << 32,
        };
    }
}

/* A comparison is a mask here, without the detour over octets. */
__attribute__((target("avx512bw"))) static void classify_avx512(const char *data, size_t blocks,
                                                                struct classify_masks *ret_masks)
{
    for (size_t b = 0; b < blocks; b++) {
        __m512i octets = _mm512_loadu_si512(data + b * CLASSIFY_BLOCK_BYTES);
        ret_masks[b] = (struct classify_masks){
            .cr = _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8('\r')),
            .lf = _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8('\n')),
            .nul = _mm512_testn_epi8_mask(octets, octets),
            .high = _mm512_movepi8_mask(octets),
        };
    }
}

classify_function *classify_best(void)
{
    return __builtin_cpu_supports("avx512bw") ? classify_avx512
           : __builtin_cpu_supports("avx2")   ? classify_avx2
                                              : classify_sse2;
}

classify_function *const *classify_all(void)
{
    static classify_function *const all[] = {classify_portable, classify_sse2, classify_avx2, classify_avx512, NULL};
    static classify_function *const without_avx512[] = {classify_portable, classify_sse2, classify_avx2, NULL};
    static classify_function *const without_avx2[] = {classify_portable, classify_sse2, NULL};
    return __builtin_cpu_supports("avx512bw") ? all : __builtin_cpu_supports("avx2") ? without_avx512 : without_avx2;
}

#else

classify_function *classify_best(void)
{
    return classify_portable;
}

classify_function *const *classify_all(void)
{
    static classify_function *const all[] = {classify_portable, NULL};
    return all;
}

#endif
