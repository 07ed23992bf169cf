/* One position of what has a state of constant size: fast weights, recurrent cells, a short convolution, and what leads to them.
 *
 * Vectors are bf16 or float32 and are computed with in float32, rounded once; memories are float32. A new state is written beside
 * the old one, which stays as it is. A row of the result depends on that row alone. Every function returns 0.
 */
#include <math.h>

#include "numbers.h"

enum { WIDE = 4 }; /* vectors of 16 numbers of a value that are worked on together */

typedef struct {
    int64_t rows, heads, features, values;
    int64_t q_row, q_head, k_row, k_head, v_row, v_head; /* strides in numbers; the last dimension is dense */
    int64_t decay_row, decay_head, beta_row, beta_head;
    float eps; /* added to what outputs are divided by */
} Shape;

static inline float number(const int bf16, const void *base, int64_t at) { return _mm512_cvtss_f32(load(bf16, base, at, 1)); }

/* Of one memory (features, values), `count` values from `from` on: new = keep old + k w', y = q' new times `less`. */
static inline __attribute__((always_inline)) void write_and_read(
    const Shape *s, const int bf16, const int vectors, const float *q, const float *k, const void *v, int64_t v_at, float keep,
    const float *beta, float less, int64_t from, int64_t count, const float *old, float *new, void *y, int64_t y_at) {
    const __mmask16 last = first(count - 16 * (vectors - 1));
    const __m512 kept = _mm512_set1_ps(keep);
    __m512 write[WIDE], sum[WIDE];
    for (int i = 0; i < vectors; i++) {
        const __mmask16 mask = i == vectors - 1 ? last : 0xFFFF;
        write[i] = load(bf16, v, v_at + from + 16 * i, mask);
        sum[i] = _mm512_setzero_ps();
    }
    if (beta) { /* only the error of what the memory answers to the key */
        for (int64_t f = 0; f < s->features; f++) {
            const __m512 key = _mm512_set1_ps(k[f]);
            for (int i = 0; i < vectors; i++) {
                const __mmask16 mask = i == vectors - 1 ? last : 0xFFFF;
                sum[i] = _mm512_fmadd_ps(key, _mm512_maskz_loadu_ps(mask, old + f * s->values + from + 16 * i), sum[i]);
            }
        }
        for (int i = 0; i < vectors; i++) {
            write[i] = _mm512_mul_ps(_mm512_set1_ps(*beta), _mm512_fnmadd_ps(kept, sum[i], write[i]));
            sum[i] = _mm512_setzero_ps();
        }
    }
    for (int64_t f = 0; f < s->features; f++) {
        const __m512 key = _mm512_set1_ps(k[f]), query = _mm512_set1_ps(q[f]);
        for (int i = 0; i < vectors; i++) {
            const __mmask16 mask = i == vectors - 1 ? last : 0xFFFF;
            const int64_t at = f * s->values + from + 16 * i;
            const __m512 now = _mm512_fmadd_ps(key, write[i], _mm512_mul_ps(kept, _mm512_maskz_loadu_ps(mask, old + at)));
            _mm512_mask_storeu_ps(new + at, mask, now);
            sum[i] = _mm512_fmadd_ps(query, now, sum[i]);
        }
    }
    for (int i = 0; i < vectors; i++) {
        const __mmask16 mask = i == vectors - 1 ? last : 0xFFFF;
        store(bf16, y, y_at + from + 16 * i, mask, _mm512_mul_ps(sum[i], _mm512_set1_ps(less)));
    }
}

/* One position of every row and head: memory (rows, heads, features, values), y (rows, heads, values). decay (logarithms), beta
 * and the sums of keys (rows, heads, features) may be none. */
int64_t genus_fast_weights(
    const Shape *s, int64_t bf16, const void *q, const void *k, const void *v, const float *decay, const float *beta,
    const float *old, const float *old_total, float *new, float *new_total, void *y, int64_t threads) {
    const int64_t wide = 16 * WIDE, blocks = (s->values + wide - 1) / wide;
    if (s->rows * s->heads * s->features * s->values < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t task = 0; task < s->rows * s->heads * blocks; task++) {
        const int64_t place = task / blocks, row = place / s->heads, head = place % s->heads, from = task % blocks * wide;
        const float keep = decay ? expf(decay[row * s->decay_row + head * s->decay_head]) : 1.0f;
        float query[s->features], key[s->features], less = 1.0f;
        for (int64_t f = 0; f < s->features; f += 16) {
            const __mmask16 mask = first(s->features - f);
            _mm512_mask_storeu_ps(query + f, mask, load(bf16, q, row * s->q_row + head * s->q_head + f, mask));
            _mm512_mask_storeu_ps(key + f, mask, load(bf16, k, row * s->k_row + head * s->k_head + f, mask));
        }
        if (old_total) {
            __m512 sum = _mm512_setzero_ps();
            for (int64_t f = 0; f < s->features; f += 16) {
                const __mmask16 mask = first(s->features - f);
                const __m512 before = _mm512_maskz_loadu_ps(mask, old_total + place * s->features + f);
                const __m512 now = _mm512_fmadd_ps(_mm512_set1_ps(keep), before, _mm512_maskz_loadu_ps(mask, key + f));
                if (from == 0) _mm512_mask_storeu_ps(new_total + place * s->features + f, mask, now);
                sum = _mm512_fmadd_ps(now, _mm512_maskz_loadu_ps(mask, query + f), sum);
            }
            less = 1.0f / (_mm512_reduce_add_ps(sum) + s->eps);
        }
        const float *strength = beta ? beta + row * s->beta_row + head * s->beta_head : 0, *mine = old + place * s->features * s->values;
        float *its = new + place * s->features * s->values;
        const int64_t v_at = row * s->v_row + head * s->v_head, y_at = place * s->values, count = s->values - from;
#define CASE(n) \
    if (bf16) write_and_read(s, 1, n, query, key, v, v_at, keep, strength, less, from, count, mine, its, y, y_at); \
    else write_and_read(s, 0, n, query, key, v, v_at, keep, strength, less, from, count, mine, its, y, y_at);
        if (count > 48) { CASE(4) }
        else if (count > 32) { CASE(3) }
        else if (count > 16) { CASE(2) }
        else { CASE(1) }
#undef CASE
    }
    return 0;
}

enum { ELU_PLUS_ONE, UNIT_LENGTH };

/* y (batch, heads, time, size), dense, of x with strides: the features of linear attention. */
int64_t genus_features(
    int64_t what, const void *x, const int64_t x_stride[3], int64_t batch, int64_t heads, int64_t time, int64_t size,
    const float *eps, int64_t bf16, void *y, int64_t threads) {
    if (batch * heads * time * size < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < batch * heads * time; row++) {
        const int64_t b = row / (heads * time), h = row / time % heads, t = row % time;
        const int64_t from = b * x_stride[0] + h * x_stride[1] + t * x_stride[2];
        __m512 scale = _mm512_setzero_ps();
        if (what == UNIT_LENGTH) {
            for (int64_t i = 0; i < size; i += 16) {
                const __m512 part = load(bf16, x, from + i, first(size - i));
                scale = _mm512_fmadd_ps(part, part, scale);
            }
            scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(scale) + *eps));
        }
        for (int64_t i = 0; i < size; i += 16) {
            const __mmask16 mask = first(size - i);
            __m512 part = load(bf16, x, from + i, mask);
            if (what == UNIT_LENGTH) part = _mm512_mul_ps(part, scale);
            else { /* x + 1 above 0, e^x below */
                const __mmask16 above = _mm512_cmp_ps_mask(part, _mm512_setzero_ps(), _CMP_NLE_UQ);
                const __m512 low = exponential(_mm512_min_ps(part, _mm512_setzero_ps()));
                part = _mm512_mask_add_ps(low, above, part, _mm512_set1_ps(1.0f));
            }
            store(bf16, y, row * size + i, mask, part);
        }
    }
    return 0;
}

/* y (count) = reach sigmoid(x). */
int64_t genus_strength(const void *x, int64_t bf16, int64_t count, const float *reach, float *y) {
    for (int64_t i = 0; i < count; i++) y[i] = *reach / (1.0f + expf(-number(bf16, x, i)));
    return 0;
}

/* y (rows, heads) = -e^rate log(1 + e^(x + shift)); rate and shift (heads). */
int64_t genus_fade(const void *x, int64_t bf16, int64_t rows, int64_t heads, const float *rate, const float *shift, float *y) {
    for (int64_t i = 0; i < rows * heads; i++) {
        const float z = number(bf16, x, i) + shift[i % heads];
        y[i] = -expf(rate[i % heads]) * ((z > 0 ? z : 0) + log1pf(expf(-fabsf(z))));
    }
    return 0;
}

/* y (rows, channels) = sum over w of weight (channels, width) and the window that ends with x, each channel by itself; next
 * (rows, width - 1, channels): the newest inputs. All dense, the weight float32. */
int64_t genus_short_conv(
    const void *x, const void *past, const float *weight, int64_t bf16, int64_t rows, int64_t channels, int64_t width, void *y,
    void *next) {
    const __m512i places = _mm512_mullo_epi32(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(width));
    for (int64_t row = 0; row < rows; row++) {
        const int64_t before = row * (width - 1) * channels;
        for (int64_t c = 0; c < channels; c += 16) {
            const __mmask16 mask = first(channels - c);
            __m512 sum = _mm512_setzero_ps();
            for (int64_t w = 0; w < width; w++) {
                const __m512 tap = _mm512_mask_i32gather_ps(sum, mask, places, weight + c * width + w, 4);
                const int newest = w == width - 1;
                const __m512 input = load(bf16, newest ? x : past, newest ? row * channels + c : before + w * channels + c, mask);
                sum = _mm512_fmadd_ps(tap, input, sum);
                if (w) store(bf16, next, before + (w - 1) * channels + c, mask, input);
            }
            store(bf16, y, row * channels + c, mask, sum);
        }
    }
    return 0;
}

enum { RNN, LSTM, GRU };

/* One step of a cell: h (rows, hidden) of what the input says, x (rows, gates * hidden), rows `x_row` apart, what the state says,
 * r (rows, gates * hidden), and `old` (rows, hidden): of an LSTM its cell, whose next one is `cell`, of a GRU the state. */
int64_t genus_cell(
    int64_t what, const void *x, int64_t x_row, const void *r, const void *old, int64_t bf16, int64_t rows, int64_t hidden, void *h,
    void *cell) {
    const int64_t gates = what == LSTM ? 4 : what == GRU ? 3 : 1;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < hidden; i += 16) {
            const __mmask16 mask = first(hidden - i);
            const int64_t at = row * x_row + i, from = row * gates * hidden + i, to = row * hidden + i;
#define X(gate) load(bf16, x, at + (gate) * hidden, mask)
#define R(gate) load(bf16, r, from + (gate) * hidden, mask)
#define BOTH(gate) _mm512_add_ps(X(gate), R(gate))
            __m512 y;
            if (what == LSTM) {
                const __m512 kept = _mm512_mul_ps(sigmoid(BOTH(1)), load(bf16, old, to, mask));
                const __m512 now = _mm512_fmadd_ps(sigmoid(BOTH(0)), tangent(BOTH(2)), kept);
                store(bf16, cell, to, mask, now);
                y = _mm512_mul_ps(sigmoid(BOTH(3)), tangent(now));
            } else if (what == GRU) {
                const __m512 stay = sigmoid(BOTH(1)), new = tangent(_mm512_fmadd_ps(sigmoid(BOTH(0)), R(2), X(2)));
                y = _mm512_fmadd_ps(stay, _mm512_sub_ps(load(bf16, old, to, mask), new), new);
            } else y = tangent(BOTH(0));
            store(bf16, h, to, mask, y);
        }
    return 0;
}

/* y (rows, outputs) = x (rows, inputs) times the rows of weight (outputs, inputs): a matrix of a few outputs. */
int64_t genus_dots(
    const void *x, int64_t x_bf16, const void *weight, int64_t weight_bf16, int64_t rows, int64_t inputs, int64_t outputs, void *y) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t o = 0; o < outputs; o++) {
            __m512 sum = _mm512_setzero_ps();
            for (int64_t i = 0; i < inputs; i += 16) {
                const __mmask16 mask = first(inputs - i);
                sum = _mm512_fmadd_ps(load(x_bf16, x, row * inputs + i, mask), load(weight_bf16, weight, o * inputs + i, mask), sum);
            }
            store(x_bf16, y, row * outputs + o, 1, _mm512_set1_ps(_mm512_reduce_add_ps(sum)));
        }
    return 0;
}
