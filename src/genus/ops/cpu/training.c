/* What is done between the products of an update, with what comes back: activations and gates, normalisation, dropout.
 *
 * Numbers are bf16 or float32 and are computed with in float32, rounded once. Results do not depend on the number of threads.
 * Every function returns 0.
 */
#include "numbers.h"
#include "random.h"

enum { SILU, GELU_TANH };

/* x sigmoid(v): what sigmoid(v) is, and how fast x sigmoid(v) grows with x. GELU's v is sqrt(8 / pi) (x + 0.044715 x^3). */
static inline __attribute__((always_inline)) __m512 opening(const int what, __m512 x, __m512 *slope) {
    const __m512 unit = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(1.59576912161f), a = _mm512_set1_ps(0.07135481627f);
    const __m512 square = _mm512_mul_ps(x, x);
    const __m512 v = what == SILU ? x : _mm512_mul_ps(_mm512_fmadd_ps(square, a, b), x);
    const __m512 s = sigmoid(v);
    __m512 rise = _mm512_mul_ps(x, _mm512_sub_ps(unit, s)); /* x (1 - s) dv/dx */
    if (what == GELU_TANH) { /* far out 1 - s is nothing, and the square may be infinite */
        const __m512 near = _mm512_min_ps(_mm512_set1_ps(1e4f), square);
        rise = _mm512_mul_ps(rise, _mm512_fmadd_ps(near, _mm512_mul_ps(a, _mm512_set1_ps(3.0f)), b));
    }
    *slope = _mm512_fmadd_ps(s, rise, s);
    return s;
}

static inline __attribute__((always_inline)) void gate(
    const int what, const int bf16, const void *x, const void *up, int64_t at, __mmask16 mask, void *y) {
    __m512 slope;
    const __m512 from = load(bf16, x, at, mask);
    __m512 z = _mm512_mul_ps(from, opening(what, from, &slope));
    if (up) z = _mm512_mul_ps(z, load(bf16, up, at, mask));
    store(bf16, y, at, mask, z);
}

static inline __attribute__((always_inline)) void gate_back(
    const int what, const int bf16, const void *g, const void *x, const void *up, int64_t at, __mmask16 mask, void *dx, void *d_up) {
    __m512 slope, back = load(bf16, g, at, mask);
    const __m512 from = load(bf16, x, at, mask), s = opening(what, from, &slope);
    if (up) {
        store(bf16, d_up, at, mask, _mm512_mul_ps(back, _mm512_mul_ps(from, s)));
        back = _mm512_mul_ps(back, load(bf16, up, at, mask));
    }
    store(bf16, dx, at, mask, _mm512_mul_ps(back, slope));
}

/* CALL for whole vectors on all threads, then for what is left, with `at` and `mask`. */
#define EACH(CALL) \
    { \
        _Pragma("omp parallel for num_threads(threads) schedule(static)") \
        for (int64_t at = 0; at < count / 16 * 16; at += 16) { \
            enum { mask = 0xFFFF }; \
            CALL; \
        } \
        const int64_t at = count / 16 * 16; \
        const __mmask16 mask = first(count - at); \
        if (mask) CALL; \
    }
#define KINDS(CALL) \
    if (count < LITTLE) threads = 1; \
    switch (2 * what + bf16) { CASE(SILU, 0, CALL) CASE(SILU, 1, CALL) CASE(GELU_TANH, 0, CALL) CASE(GELU_TANH, 1, CALL) }
#define CASE(WHAT, BF16, CALL) \
    case 2 * WHAT + BF16: \
        EACH(CALL(WHAT, BF16)) break;

/* y (count) = act(x), times `up` where there is one. All dense. */
int64_t genus_gate(int64_t what, const void *x, const void *up, int64_t count, int64_t bf16, void *y, int64_t threads) {
#define GATE(WHAT, BF16) gate(WHAT, BF16, x, up, at, mask, y)
    KINDS(GATE)
    return 0;
}

/* What comes back to x, and to `up` where there is one, with g, what comes back to y. */
int64_t genus_gate_backward(
    int64_t what, const void *g, const void *x, const void *up, int64_t count, int64_t bf16, void *dx, void *d_up, int64_t threads) {
#define GATE_BACK(WHAT, BF16) gate_back(WHAT, BF16, g, x, up, at, mask, dx, d_up)
    KINDS(GATE_BACK)
    return 0;
}

enum { PARTS = 16 }; /* of the rows, each with a sum of its own, so that sums do not depend on the number of threads */

static inline __attribute__((always_inline)) void norm_back(
    const int bf16, int64_t centred, const void *g, const void *x, const float *weight, const float *kept, int64_t begin, int64_t end,
    int64_t size, void *dx, float *sums) {
    for (int64_t r = begin; r < end; r++) {
        const int64_t from = r * size, full = size / 16 * 16;
        const __m512 mean = _mm512_set1_ps(kept[2 * r]), scale = _mm512_set1_ps(kept[2 * r + 1]);
        __m512 along = _mm512_setzero_ps(), total = along;
#define FIRST(MASK) \
    const __m512 back = load(bf16, g, from + i, MASK); \
    const __m512 unit = _mm512_maskz_mul_ps(MASK, _mm512_sub_ps(load(bf16, x, from + i, MASK), mean), scale); \
    const __m512 back_unit = _mm512_mul_ps(back, load(0, weight, i, MASK)); \
    along = _mm512_fmadd_ps(back_unit, unit, along); \
    total = _mm512_add_ps(total, back_unit); \
    store(0, sums, i, MASK, _mm512_fmadd_ps(back, unit, load(0, sums, i, MASK))); \
    store(0, sums, size + i, MASK, _mm512_add_ps(back, load(0, sums, size + i, MASK)));
        for (int64_t i = 0; i < full; i += 16) { FIRST(0xFFFF) }
        if (full < size) {
            const int64_t i = full;
            const __mmask16 mask = first(size - full);
            FIRST(mask)
        }
        along = _mm512_set1_ps(_mm512_reduce_add_ps(along) / size);
        total = _mm512_set1_ps(centred ? _mm512_reduce_add_ps(total) / size : 0);
#define SECOND(MASK) \
    const __m512 unit = _mm512_mul_ps(_mm512_sub_ps(load(bf16, x, from + i, MASK), mean), scale); \
    const __m512 back_unit = _mm512_fmsub_ps(load(bf16, g, from + i, MASK), load(0, weight, i, MASK), total); \
    store(bf16, dx, from + i, MASK, _mm512_mul_ps(scale, _mm512_fnmadd_ps(unit, along, back_unit)));
        for (int64_t i = 0; i < full; i += 16) { SECOND(0xFFFF) }
        if (full < size) {
            const int64_t i = full;
            const __mmask16 mask = first(size - full);
            SECOND(mask)
        }
    }
}

/* What comes back to x (rows, size) of `genus_norm` (rows.c), which left `kept`, with g, what comes back to its result. sums
 * (16, 2, size), which begin with 0: parts of what comes back to its weight and its bias. All dense; weight float32. */
int64_t genus_norm_backward(
    const void *g, const void *x, const float *weight, const float *kept, int64_t centred, int64_t rows, int64_t size, int64_t bf16,
    void *dx, float *sums, int64_t threads) {
    if (rows * size < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < PARTS; p++) {
        const int64_t begin = rows * p / PARTS, end = rows * (p + 1) / PARTS;
        if (bf16) norm_back(1, centred, g, x, weight, kept, begin, end, size, dx, sums + 2 * p * size);
        else norm_back(0, centred, g, x, weight, kept, begin, end, size, dx, sums + 2 * p * size);
    }
    return 0;
}

/* y (count) = x times `scale` where the number stays, else 0. All dense. */
int64_t genus_dropout(
    const void *x, int64_t seed, int64_t threshold, const float *scale, int64_t count, int64_t bf16, void *y, int64_t threads) {
    if (count < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t block = 0; block < (count + 63) / 64; block++) {
        const uint64_t stay = staying(block, seed, threshold);
        for (int i = 0; i < 4 && 64 * block + 16 * i < count; i++) {
            const int64_t at = 64 * block + 16 * i;
            const __mmask16 keep = stay >> 16 * i;
            if (at + 16 <= count) store(bf16, y, at, 0xFFFF, _mm512_maskz_mul_ps(keep, load(bf16, x, at, 0xFFFF), _mm512_set1_ps(*scale)));
            else {
                const __mmask16 mask = first(count - at);
                store(bf16, y, at, mask, _mm512_maskz_mul_ps(keep, load(bf16, x, at, mask), _mm512_set1_ps(*scale)));
            }
        }
    }
    return 0;
}
