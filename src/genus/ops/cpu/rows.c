/* What is done to every row of numbers by itself between the products of a step of decoding: normalisation and rotation.
 *
 * Numbers are bf16 or float32 and are computed with in float32, rounded once. A row of the result depends on that row alone.
 */
#include <immintrin.h>
#include <stdint.h>

enum { LITTLE = 65536 }; /* numbers for which another thread is not woken */

static inline __m512 widen(__m256i bf16) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16)); }

static inline __m512 load(int bf16, const void *base, int64_t at, __mmask16 mask) {
    if (bf16) return widen(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)base + at));
    return _mm512_maskz_loadu_ps(mask, (const float *)base + at);
}

static inline void store(int bf16, void *base, int64_t at, __mmask16 mask, __m512 x) {
    if (bf16) _mm256_mask_storeu_epi16((uint16_t *)base + at, mask, (__m256i)_mm512_cvtneps_pbh(x));
    else _mm512_mask_storeu_ps((float *)base + at, mask, x);
}

static inline __mmask16 first(int64_t count) { return count < 16 ? (1u << count) - 1 : 0xFFFF; }

/* y (rows, size) = x / sqrt(mean of squares + eps) * weight + bias, where `centred` less the mean of x before. All dense; `weight`
 * and `bias` float32, bias may be none. */
void genus_norm(
    const void *x, const float *weight, const float *bias, float eps, int centred, int64_t rows, int64_t size, int bf16, void *y,
    int threads) {
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
        const __m512 variance = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / size + eps);
        const __m512 scale = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(variance));
        for (int64_t i = 0; i < size; i += 16) {
            const __mmask16 mask = first(size - i);
            __m512 z = _mm512_mul_ps(_mm512_sub_ps(load(bf16, x, from + i, mask), mean), scale);
            z = _mm512_mul_ps(z, _mm512_maskz_loadu_ps(mask, weight + i));
            if (bias) z = _mm512_add_ps(z, _mm512_maskz_loadu_ps(mask, bias + i));
            store(bf16, y, from + i, mask, z);
        }
    }
}

/* y (batch, heads, time, size): of every row of x, features i < n and n + i turned by the angle whose cosine and sine stand at i;
 * the rest as it is. `x_stride` and `y_stride` count numbers from one batch, head and time to the next; angles (batch or 1, time, n)
 * lie `turn_stride` apart in batch and time. */
void genus_rotary(
    const void *x, const int64_t x_stride[3], const void *cos, const void *sin, const int64_t turn_stride[2], int64_t batch,
    int64_t heads, int64_t time, int64_t size, int64_t n, int bf16, void *y, const int64_t y_stride[3], int threads) {
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
}
