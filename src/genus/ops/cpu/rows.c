/* What is done between the products of a step of decoding: normalisation, rotation, what is done number by number, and keeping.
 *
 * Numbers are bf16 or float32 and are computed with in float32, rounded once. A row of the result depends on that row alone.
 * Every function returns 0.
 */
#include <string.h>

#include "numbers.h"

/* y (rows, size) = x / sqrt(mean of squares + eps) * weight + bias, where `centred` less the mean of x before. All dense; `weight`
 * and `bias` float32, bias may be none. kept (rows, 2), or none: the mean, or 0, and the factor of a row. */
int64_t genus_norm(
    const void *x, const float *weight, const float *bias, const float *eps, int64_t centred, int64_t rows, int64_t size,
    int64_t bf16, void *y, float *kept, int64_t threads) {
    if (rows * size < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const int64_t from = r * size;
        __m512 mean = _mm512_setzero_ps(), sum = mean;
        if (centred) {
            for (int64_t i = 0; i < size; i += 16) sum = _mm512_add_ps(sum, load(bf16, x, from + i, first(size - i)));
            mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / size);
            sum = _mm512_setzero_ps();
        }
        for (int64_t i = 0; i < size; i += 16) {
            const __mmask16 mask = first(size - i);
            const __m512 from_mean = _mm512_maskz_sub_ps(mask, load(bf16, x, from + i, mask), mean);
            sum = _mm512_fmadd_ps(from_mean, from_mean, sum);
        }
        const __m512 variance = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / size + *eps);
        const __m512 scale = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(variance));
        if (kept) kept[2 * r] = _mm512_cvtss_f32(mean), kept[2 * r + 1] = _mm512_cvtss_f32(scale);
        for (int64_t i = 0; i < size; i += 16) {
            const __mmask16 mask = first(size - i);
            __m512 z = _mm512_mul_ps(_mm512_sub_ps(load(bf16, x, from + i, mask), mean), scale);
            z = _mm512_mul_ps(z, _mm512_maskz_loadu_ps(mask, weight + i));
            if (bias) z = _mm512_add_ps(z, _mm512_maskz_loadu_ps(mask, bias + i));
            store(bf16, y, from + i, mask, z);
        }
    }
    return 0;
}

/* y (batch, heads, time, size): of every row of x, features i < n and n + i turned by the angle whose cosine and sine stand at i;
 * the rest as it is. `x_stride` and `y_stride` count numbers from one batch, head and time to the next; angles (batch or 1, time, n)
 * lie `turn_stride` apart in batch and time. */
int64_t genus_rotary(
    const void *x, const int64_t x_stride[3], const void *cos, const void *sin, const int64_t turn_stride[2], int64_t batch,
    int64_t heads, int64_t time, int64_t size, int64_t n, int64_t bf16, void *y, const int64_t y_stride[3], int64_t threads) {
    if (batch * heads * time * size < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < batch * heads * time; row++) {
        const int64_t b = row / (heads * time), h = row / time % heads, t = row % time;
        const int64_t from = b * x_stride[0] + h * x_stride[1] + t * x_stride[2], turn = b * turn_stride[0] + t * turn_stride[1];
        const int64_t to = b * y_stride[0] + h * y_stride[1] + t * y_stride[2];
        for (int64_t i = 0; i < n; i += 16) {
            const __mmask16 mask = first(n - i);
            const __m512 one = load(bf16, x, from + i, mask), two = load(bf16, x, from + n + i, mask);
            const __m512 c = load(bf16, cos, turn + i, mask), s = load(bf16, sin, turn + i, mask);
            store(bf16, y, to + i, mask, _mm512_fmsub_ps(one, c, _mm512_mul_ps(two, s)));
            store(bf16, y, to + n + i, mask, _mm512_fmadd_ps(two, c, _mm512_mul_ps(one, s)));
        }
        for (int64_t i = 2 * n; i < size; i += 16) store(bf16, y, to + i, first(size - i), load(bf16, x, from + i, first(size - i)));
    }
    return 0;
}

enum { ADD, MULTIPLY, RELU, GELU };

static inline __attribute__((always_inline)) __m512 one(const int64_t what, __m512 a, __m512 b) {
    switch (what) {
    case ADD:
        return _mm512_add_ps(a, b);
    case MULTIPLY:
        return _mm512_mul_ps(a, b);
    case RELU: /* what is not a number stays so */
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NLE_UQ), a);
    default: { /* GELU: the normal distribution to 1e-7 (Abramowitz & Stegun 7.1.26), from the side where it is small */
        const __m512 unit = _mm512_set1_ps(1.0f), z = _mm512_mul_ps(_mm512_abs_ps(a), _mm512_set1_ps(0.70710678118f));
        const __m512 t = _mm512_div_ps(unit, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), unit));
        __m512 y = _mm512_fmadd_ps(t, _mm512_set1_ps(0.5307027145f), _mm512_set1_ps(-0.7265760135f));
        y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.7107068705f));
        y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.142248368f));
        y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.127414796f));
        y = _mm512_mul_ps(_mm512_mul_ps(y, t), exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z))));
        const __mmask16 above = _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ);
        return _mm512_mul_ps(a, _mm512_mask_sub_ps(y, above, unit, y));
    }
    }
}

#define EACH(WHAT) \
    case WHAT: \
        _Pragma("omp parallel for num_threads(threads) schedule(static)") \
        for (int64_t i = 0; i < (count + 15) / 16; i++) { \
            const __mmask16 mask = first(count - 16 * i); \
            const __m512 x = load(bf16, a, 16 * i, mask); \
            store(bf16, y, 16 * i, mask, one(WHAT, x, b ? load(bf16, b, 16 * i, mask) : x)); \
        } \
        break;

/* y (count) of a, and where `what` needs it b. All dense. */
int64_t genus_pointwise(int64_t what, const void *a, const void *b, int64_t count, int64_t bf16, void *y, int64_t threads) {
    if (count < LITTLE) threads = 1;
    switch (what) { EACH(ADD) EACH(MULTIPLY) EACH(RELU) EACH(GELU) }
    return 0;
}

/* kept[rows[i], :, columns[i]] = new[i] of (count, groups, size): `kept_stride` from one row, group and column to the next,
 * `new_stride` from one i and group to the next; strides and size in bytes. */
int64_t genus_keep(
    void *kept, const int64_t kept_stride[3], const int64_t *rows, const int64_t *columns, const void *new,
    const int64_t new_stride[2], int64_t count, int64_t groups, int64_t size) {
    for (int64_t i = 0; i < count; i++) {
        char *to = (char *)kept + rows[i] * kept_stride[0] + columns[i] * kept_stride[2];
        const char *from = (const char *)new + i * new_stride[0];
        for (int64_t g = 0; g < groups; g++) memcpy(to + g * kept_stride[1], from + g * new_stride[1], size);
    }
    return 0;
}

/* Copies of `size` bytes, `count` of them, `to_stride` and `from_stride` bytes apart. */
int64_t genus_copy(void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t count, int64_t size) {
    for (int64_t i = 0; i < count; i++) memcpy((char *)to + i * to_stride, (const char *)from + i * from_stride, size);
    return 0;
}

/* y (count) = a times a number. All dense. */
int64_t genus_scale(const void *a, const float *times, int64_t count, int64_t bf16, void *y) {
    for (int64_t i = 0; i < count; i += 16)
        store(bf16, y, i, first(count - i), _mm512_mul_ps(load(bf16, a, i, first(count - i)), _mm512_set1_ps(*times)));
    return 0;
}

/* y (count) = cap tanh(x / cap), float32. */
int64_t genus_softcap(const float *x, const float *cap, int64_t count, float *y, int64_t threads) {
    const __m512 most = _mm512_set1_ps(*cap), less = _mm512_set1_ps(1.0f / *cap);
    if (count < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < (count + 15) / 16; i++) {
        const __mmask16 mask = first(count - 16 * i);
        const __m512 part = tangent(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + 16 * i), less));
        _mm512_mask_storeu_ps(y + 16 * i, mask, _mm512_mul_ps(part, most));
    }
    return 0;
}

/* y (count), float32 of bf16 or bf16 of float32. */
int64_t genus_convert(const void *x, int64_t bf16, int64_t count, void *y) {
    for (int64_t i = 0; i < count; i += 16) store(!bf16, y, i, first(count - i), load(bf16, x, i, first(count - i)));
    return 0;
}
