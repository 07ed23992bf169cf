/* Random numbers that belong to a place and a seed: the same on any number of threads, and made again instead of kept. */
#include <immintrin.h>
#include <stdint.h>

/* Philox4x32-10 (Salmon et al. 2011): four vectors of random numbers of 32 bits, in the lower halves of 64, of eight counters. */
static inline void philox(__m512i counter, uint64_t seed, __m512i c[4]) {
    const __m512i a = _mm512_set1_epi64(0xD2511F53), b = _mm512_set1_epi64(0xCD9E8D57);
    uint32_t k0 = seed, k1 = seed >> 32;
    c[0] = counter, c[1] = _mm512_srli_epi64(counter, 32), c[2] = c[3] = _mm512_setzero_si512();
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        const __m512i x = _mm512_mul_epu32(c[0], a), y = _mm512_mul_epu32(c[2], b);
        c[0] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(y, 32), c[1], _mm512_set1_epi64(k0), 0x96);
        c[2] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(x, 32), c[3], _mm512_set1_epi64(k1), 0x96);
        c[1] = y, c[3] = x;
    }
}

/* Which of 64 numbers stay: those whose 16 random bits are no less than `threshold`. The bits belong to eight counters. */
static inline uint64_t staying(int64_t block, int64_t seed, int64_t threshold) {
    const __m256i least = _mm256_set1_epi16((short)threshold);
    uint64_t found = 0;
    __m512i c[4];
    philox(_mm512_add_epi64(_mm512_set1_epi64(8 * block), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)), seed, c);
    for (int i = 0; i < 4; i++) found |= (uint64_t)_mm256_cmpge_epu16_mask(_mm512_cvtepi64_epi32(c[i]), least) << 16 * i;
    return found;
}
