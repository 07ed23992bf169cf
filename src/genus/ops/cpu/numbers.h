/* What the kernels share: vectors of 16 numbers that lie in memory as bf16 or float32 and are computed with as float32. */
#include <immintrin.h>
#include <stdint.h>

enum { LITTLE = 65536 }; /* numbers for which another thread is not woken */

static inline __m512 widen(__m256i bf16) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16)); }

static inline __attribute__((always_inline)) __m512 load(const int bf16, const void *base, int64_t at, __mmask16 mask) {
    if (__builtin_constant_p(mask) && mask == 0xFFFF) { /* what goes through a mask is slower */
        if (bf16) return widen(_mm256_loadu_si256((const __m256i *)((const uint16_t *)base + at)));
        return _mm512_loadu_ps((const float *)base + at);
    }
    if (bf16) return widen(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)base + at));
    return _mm512_maskz_loadu_ps(mask, (const float *)base + at);
}

static inline __attribute__((always_inline)) void store(const int bf16, void *base, int64_t at, __mmask16 mask, __m512 x) {
    if (__builtin_constant_p(mask) && mask == 0xFFFF) {
        if (bf16) _mm256_storeu_si256((__m256i *)((uint16_t *)base + at), (__m256i)_mm512_cvtneps_pbh(x));
        else _mm512_storeu_ps((float *)base + at, x);
    } else if (bf16) _mm256_mask_storeu_epi16((uint16_t *)base + at, mask, (__m256i)_mm512_cvtneps_pbh(x));
    else _mm512_mask_storeu_ps((float *)base + at, mask, x);
}

/* The mask of the first `count` of 16 numbers. */
static inline __mmask16 first(int64_t count) { return count < 16 ? (1u << count) - 1 : 0xFFFF; }

/* e^x to a few units in the last place; 0 far below 0; not a number where x is not. (Cephes' polynomial.) */
static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.9875691500e-4f);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.3981999507e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(8.3334519073e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(4.1665795894e-2f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.6666665459e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.0000001201e-1f));
    y = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), y, r), _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

/* 2^x for x up to 0, to 3 millionths of it, for what is rounded to bf16 next; 1 at 0; not a number where x is not. */
static inline __m512 power_of_two(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-150.0f), x);
    const __m512 n = _mm512_roundscale_ps(x, 8), r = _mm512_sub_ps(x, n);
    __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(9.58285362e-3f), r, _mm512_set1_ps(5.59064248e-2f)); /* minimax on half to either side */
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(2.40240986e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(6.93124193e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

/* Of what is not a number, neither: the minimum of two is the second where one is none. */
static inline __attribute__((always_inline)) __m512 sigmoid(__m512 x) {
    const __m512 unit = _mm512_set1_ps(1.0f);
    const __m512 e = exponential(_mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_sub_ps(_mm512_setzero_ps(), x)));
    return _mm512_div_ps(unit, _mm512_add_ps(unit, e));
}

static inline __attribute__((always_inline)) __m512 tangent(__m512 x) { /* tanh x = 2 sigmoid 2x - 1 */
    return _mm512_fmsub_ps(_mm512_set1_ps(2.0f), sigmoid(_mm512_add_ps(x, x)), _mm512_set1_ps(1.0f));
}

/* Rows become columns: of 16 vectors of 16 numbers of 32 bits. */
static inline __attribute__((always_inline)) void turn(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++)
        for (int half = 0; half < 16; half += 8) {
            t[half + c] = _mm512_shuffle_i32x4(r[half + c], r[half + 4 + c], 0x88);
            t[half + 4 + c] = _mm512_shuffle_i32x4(r[half + c], r[half + 4 + c], 0xdd);
        }
    for (int c = 0; c < 4; c++) {
        r[c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0x88);
        r[4 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0x88);
        r[8 + c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0xdd);
        r[12 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0xdd);
    }
}
