/* The cross-entropy of rows of logits, and what comes back to them, written over them.
 *
 * Logits are bf16 or float32 and are computed with in float32. Results do not depend on the number of threads.
 */
#include "numbers.h"

typedef struct {
    float cap;       /* logits are cap tanh(logit / cap); 0: as they are */
    float smoothing; /* share of the target that is spread evenly */
    float factor;    /* of what comes back */
} Options;

static inline __attribute__((always_inline)) __m512 capped(const int cap, __m512 x, const Options *o) {
    if (!cap) return x; /* tanh(z) = 1 - 2 / (1 + e^2z) */
    const __m512 unit = _mm512_set1_ps(1.0f), twice = _mm512_mul_ps(x, _mm512_set1_ps(2 / o->cap));
    const __m512 e = exponential(_mm512_min_ps(_mm512_set1_ps(88.0f), twice));
    const __m512 tanh = _mm512_sub_ps(unit, _mm512_div_ps(_mm512_set1_ps(2.0f), _mm512_add_ps(unit, e)));
    return _mm512_mul_ps(tanh, _mm512_set1_ps(o->cap));
}

/* How fast a capped logit grows with the logit. */
static inline __attribute__((always_inline)) __m512 slope(const int cap, __m512 z, const Options *o) {
    const __m512 share = _mm512_mul_ps(z, _mm512_set1_ps(cap ? 1 / o->cap : 0));
    return _mm512_fnmadd_ps(share, share, _mm512_set1_ps(1.0f));
}

/* STEP for whole vectors, then for what is left, with `i` and `mask`. */
#define OVER(STEP) \
    for (int64_t i = 0; i < full; i += 16) { \
        enum { mask = 0xFFFF }; \
        STEP \
    } \
    if (full < count) { \
        const int64_t i = full; \
        const __mmask16 mask = first(count - full); \
        STEP \
    }

static inline __attribute__((always_inline)) void row(
    const int bf16, const int cap, void *logits, int64_t count, int64_t target, const Options *o, int64_t back, float found[4]) {
    const int64_t full = count / 16 * 16;
    __m512 most = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps(), total = sum;
    OVER(most = _mm512_mask_max_ps(most, mask, most, capped(cap, load(bf16, logits, i, mask), o));)
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    OVER(const __m512 z = capped(cap, load(bf16, logits, i, mask), o);
         sum = _mm512_mask_add_ps(sum, mask, sum, exponential(_mm512_sub_ps(z, most)));
         total = _mm512_mask_add_ps(total, mask, total, z);)
    const float all = _mm512_reduce_add_ps(sum);
    const __m512 own = capped(cap, load(bf16, logits, target, 1), o);
    found[0] = _mm512_cvtss_f32(most), found[1] = all, found[2] = _mm512_cvtss_f32(own), found[3] = _mm512_reduce_add_ps(total) / count;
    if (!back) return;
    const __m512 part = _mm512_set1_ps(o->smoothing / count), inverse = _mm512_set1_ps(1 / all), factor = _mm512_set1_ps(o->factor);
    OVER(const __m512 z = capped(cap, load(bf16, logits, i, mask), o);
         const __m512 p = _mm512_fmsub_ps(exponential(_mm512_sub_ps(z, most)), inverse, part);
         store(bf16, logits, i, mask, _mm512_mul_ps(_mm512_mul_ps(p, slope(cap, z, o)), factor));)
    /* p - 1, from the sum so that it is exact where p is near 1 */
    const __m512 less = _mm512_sub_ps(exponential(_mm512_sub_ps(own, most)), _mm512_set1_ps(all));
    const __m512 g = _mm512_add_ps(_mm512_mul_ps(less, inverse), _mm512_sub_ps(_mm512_set1_ps(o->smoothing), part));
    store(bf16, logits, target, 1, _mm512_mul_ps(_mm512_mul_ps(g, slope(cap, own, o)), factor));
}

/* found (rows, 4): of every row of logits (rows, count) the greatest, the sum of e^(logit - greatest), the target's, and the mean;
 * 0, 1, 0, 0 where the target is negative. Where `back`, the logits become what comes back to them of the sum of all losses. */
int64_t genus_loss(
    void *logits, const int64_t *targets, int64_t rows, int64_t count, int64_t bf16, const Options *o, int64_t back, float *found,
    int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        char *at = (char *)logits + r * count * (bf16 ? 2 : 4);
        float *own = found + 4 * r;
        if (targets[r] < 0) {
            own[0] = own[2] = own[3] = 0, own[1] = 1;
            if (back) __builtin_memset(at, 0, count * (bf16 ? 2 : 4));
        } else if (o->cap != 0) {
            if (bf16) row(1, 1, at, count, targets[r], o, back, own);
            else row(0, 1, at, count, targets[r], o, back, own);
        } else {
            if (bf16) row(1, 0, at, count, targets[r], o, back, own);
            else row(0, 0, at, count, targets[r], o, back, own);
        }
    }
    return 0;
}
