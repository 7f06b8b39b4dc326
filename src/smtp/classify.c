#include "smtp/classify.h"

#include <endian.h>
#include <string.h>

#define EACH_OCTET 0x0101010101010101u
#define LAST_OCTET ((uint64_t)1 << (CLASSIFY_BLOCK_BYTES - 1))
#define INLINE inline __attribute__((always_inline))

/* Both readers of blocks, once for each way to read one: `block` is inlined, so that its masks stay in registers. */
typedef struct classify_masks block_function(const char *block);

static INLINE void classify_by(block_function *block, const char *data, size_t blocks, struct classify_masks *ret_masks)
{
    for (size_t b = 0; b < blocks; b++) {
        ret_masks[b] = block(data + b * CLASSIFY_BLOCK_BYTES);
    }
}

/* Nothing here is done line by line: which blocks hold how many ends of lines no processor could predict. */
static INLINE size_t skim_by(block_function *block, const char *data, size_t blocks, struct classify_skim *skim)
{
    uint64_t carry = skim->after_cr;
    uint64_t starts = skim->at_line_start;
    int64_t line = skim->line;
    int64_t longest = (int64_t)skim->longest;
    uint64_t stuffed = skim->stuffed;
    uint64_t high = 0;
    size_t b = 0;
    for (; b < blocks; b++) {
        struct classify_masks masks = block(data + b * CLASSIFY_BLOCK_BYTES);
        uint64_t after_cr = masks.cr << 1 | carry;
        uint64_t after_lf = masks.lf << 1 | starts;
        uint64_t behind_last = 0; /* 1: the line that goes on behind the block's last LF begins with a dot */
        uint64_t spoilt = (masks.lf ^ after_cr) | masks.nul;
        if (__builtin_expect((spoilt | (masks.dot & after_lf)) != 0, 0)) {
            uint64_t dots = masks.dot & after_lf;
            if ((spoilt | (dots & (masks.cr >> 1 | LAST_OCTET))) != 0) {
                break;
            }
            stuffed += (uint64_t)__builtin_popcountll(dots);
            line += (int64_t)(dots & 1); /* of the line that begins with the block */
            behind_last = dots > masks.lf;
        }
        int64_t begin = (int64_t)(b * CLASSIFY_BLOCK_BYTES);
        int64_t end = begin + 1 + __builtin_ctzll(masks.lf | LAST_OCTET);
        longest = end - line > longest ? end - line : longest;
        line = masks.lf != 0 ? begin + CLASSIFY_BLOCK_BYTES - __builtin_clzll(masks.lf) + (int64_t)behind_last : line;
        carry = masks.cr >> (CLASSIFY_BLOCK_BYTES - 1);
        starts = masks.lf >> (CLASSIFY_BLOCK_BYTES - 1);
        high |= masks.high;
    }
    *skim = (struct classify_skim){.line = line,
                                   .longest = (uint64_t)longest,
                                   .stuffed = stuffed,
                                   .after_cr = carry != 0,
                                   .at_line_start = starts != 0,
                                   .high = skim->high || high != 0};
    return b;
}

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

static INLINE struct classify_masks block_portable(const char *block)
{
    struct classify_masks masks = {0};
    for (unsigned i = 0; i < CLASSIFY_BLOCK_BYTES; i += 8) {
        uint64_t word;
        memcpy(&word, block + i, sizeof(word));
        word = le64toh(word);
        masks.cr |= gather(equal_octets(word, '\r')) << i;
        masks.lf |= gather(equal_octets(word, '\n')) << i;
        masks.dot |= gather(equal_octets(word, '.')) << i;
        masks.nul |= gather(equal_octets(word, 0)) << i;
        masks.high |= gather(word & (EACH_OCTET * 0x80)) << i;
    }
    return masks;
}

static void classify_portable(const char *data, size_t blocks, struct classify_masks *ret_masks)
{
    classify_by(block_portable, data, blocks, ret_masks);
}

static size_t skim_portable(const char *data, size_t blocks, struct classify_skim *skim)
{
    return skim_by(block_portable, data, blocks, skim);
}

static const struct classify portable = {classify_portable, skim_portable};

#if defined(__x86_64__)
#include <immintrin.h>

static uint64_t equal_16(__m128i octets, char octet)
{
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(octets, _mm_set1_epi8(octet)));
}

static INLINE struct classify_masks block_sse2(const char *block)
{
    struct classify_masks masks = {0};
    for (unsigned i = 0; i < CLASSIFY_BLOCK_BYTES; i += 16) {
        __m128i octets = _mm_loadu_si128((const __m128i_u *)(const void *)(block + i));
        masks.cr |= equal_16(octets, '\r') << i;
        masks.lf |= equal_16(octets, '\n') << i;
        masks.dot |= equal_16(octets, '.') << i;
        masks.nul |= equal_16(octets, 0) << i;
        masks.high |= (uint64_t)(uint32_t)_mm_movemask_epi8(octets) << i;
    }
    return masks;
}

static void classify_sse2(const char *data, size_t blocks, struct classify_masks *ret_masks)
{
    classify_by(block_sse2, data, blocks, ret_masks);
}

static size_t skim_sse2(const char *data, size_t blocks, struct classify_skim *skim)
{
    return skim_by(block_sse2, data, blocks, skim);
}

static const struct classify sse2 = {classify_sse2, skim_sse2};

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline uint64_t equal_32(__m256i octets, char octet)
{
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(octets, _mm256_set1_epi8(octet)));
}

AVX2 static INLINE struct classify_masks block_avx2(const char *block)
{
    __m256i first = _mm256_loadu_si256((const __m256i_u *)(const void *)block);
    __m256i second = _mm256_loadu_si256((const __m256i_u *)(const void *)(block + 32));
    return (struct classify_masks){
        .cr = equal_32(first, '\r') | equal_32(second, '\r') << 32,
        .lf = equal_32(first, '\n') | equal_32(second, '\n') << 32,
        .dot = equal_32(first, '.') | equal_32(second, '.') << 32,
        .nul = equal_32(first, 0) | equal_32(second, 0) << 32,
        .high = (uint32_t)_mm256_movemask_epi8(first) | (uint64_t)(uint32_t)_mm256_movemask_epi8(second) << 32,
    };
}

AVX2 static void classify_avx2(const char *data, size_t blocks, struct classify_masks *ret_masks)
{
    classify_by(block_avx2, data, blocks, ret_masks);
}

AVX2 static size_t skim_avx2(const char *data, size_t blocks, struct classify_skim *skim)
{
    return skim_by(block_avx2, data, blocks, skim);
}

static const struct classify avx2 = {classify_avx2, skim_avx2};

#define AVX512 __attribute__((target("avx512bw")))

/* A comparison is a mask here, without the detour over octets. */
AVX512 static INLINE struct classify_masks block_avx512(const char *block)
{
    __m512i octets = _mm512_loadu_si512(block);
    return (struct classify_masks){
        .cr = _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8('\r')),
        .lf = _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8('\n')),
        .dot = _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8('.')),
        .nul = _mm512_testn_epi8_mask(octets, octets),
        .high = _mm512_movepi8_mask(octets),
    };
}

AVX512 static void classify_avx512(const char *data, size_t blocks, struct classify_masks *ret_masks)
{
    classify_by(block_avx512, data, blocks, ret_masks);
}

AVX512 static size_t skim_avx512(const char *data, size_t blocks, struct classify_skim *skim)
{
    return skim_by(block_avx512, data, blocks, skim);
}

static const struct classify avx512 = {classify_avx512, skim_avx512};

const struct classify *classify_best(void)
{
    return __builtin_cpu_supports("avx512bw") ? &avx512 : __builtin_cpu_supports("avx2") ? &avx2 : &sse2;
}

const struct classify *const *classify_all(void)
{
    static const struct classify *const all[] = {&portable, &sse2, &avx2, &avx512, NULL};
    static const struct classify *const without_avx512[] = {&portable, &sse2, &avx2, NULL};
    static const struct classify *const without_avx2[] = {&portable, &sse2, NULL};
    return __builtin_cpu_supports("avx512bw") ? all : __builtin_cpu_supports("avx2") ? without_avx512 : without_avx2;
}

#else

const struct classify *classify_best(void)
{
    return &portable;
}

const struct classify *const *classify_all(void)
{
    static const struct classify *const all[] = {&portable, NULL};
    return all;
}

#endif
