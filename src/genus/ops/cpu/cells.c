/* What an LSTM and a GRU do between their matrix products, forward and backward, for one step of time.
 *
 * Numbers are bf16 or float32 and are computed with in float32, rounded once; the LSTM's cell is float32. All dense. A row of the
 * result depends on that row alone. Every function returns 0.
 */
#include "numbers.h"

static inline __m512 slope(__m512 s) { return _mm512_fnmadd_ps(s, s, s); } /* of the sigmoid that is s: s (1 - s) */

static inline __m512 bend(__m512 t) { return _mm512_fnmadd_ps(t, t, _mm512_set1_ps(1.0f)); } /* of the tanh that is t: 1 - t^2 */

#define EACH_ROW_AND_PART \
    if (4 * rows * size < LITTLE) threads = 1; /* about the numbers of the gates */ \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") \
    for (int64_t r = 0; r < rows; r++) \
        for (int64_t i = 0; i < size; i += 16)

/* gates (rows, 4 size), in the order i, f, g, o: what the products say; becomes what the gates are. c = f * before + i * g,
 * h = o * tanh(c). */
int64_t genus_lstm(void *gates, const float *before, float *c, void *h, int64_t rows, int64_t size, int64_t bf16, int64_t threads) {
    EACH_ROW_AND_PART {
        const __mmask16 mask = first(size - i);
        const int64_t at = r * size + i, gate = 4 * r * size + i;
        const __m512 in = sigmoid(load(bf16, gates, gate, mask)), forget = sigmoid(load(bf16, gates, gate + size, mask));
        const __m512 new = tangent(load(bf16, gates, gate + 2 * size, mask)), out = sigmoid(load(bf16, gates, gate + 3 * size, mask));
        const __m512 cell = _mm512_fmadd_ps(forget, _mm512_maskz_loadu_ps(mask, before + at), _mm512_mul_ps(in, new));
        store(bf16, gates, gate, mask, in);
        store(bf16, gates, gate + size, mask, forget);
        store(bf16, gates, gate + 2 * size, mask, new);
        store(bf16, gates, gate + 3 * size, mask, out);
        _mm512_mask_storeu_ps(c + at, mask, cell);
        store(bf16, h, at, mask, _mm512_mul_ps(out, tangent(cell)));
    }
    return 0;
}

/* The gates of genus_lstm become the gradients of what the products said. The gradient of h is y_grad + h_grad; c_grad, that of c,
 * becomes that of `before`. */
int64_t genus_lstm_back(
    void *gates, const float *before, const float *c, const void *y_grad, const void *h_grad, float *c_grad, int64_t rows,
    int64_t size, int64_t bf16, int64_t threads) {
    EACH_ROW_AND_PART {
        const __mmask16 mask = first(size - i);
        const int64_t at = r * size + i, gate = 4 * r * size + i;
        const __m512 in = load(bf16, gates, gate, mask), forget = load(bf16, gates, gate + size, mask);
        const __m512 new = load(bf16, gates, gate + 2 * size, mask), out = load(bf16, gates, gate + 3 * size, mask);
        const __m512 past = _mm512_maskz_loadu_ps(mask, before + at), seen = tangent(_mm512_maskz_loadu_ps(mask, c + at));
        const __m512 grad = _mm512_add_ps(load(bf16, y_grad, at, mask), load(bf16, h_grad, at, mask));
        const __m512 cell = _mm512_fmadd_ps(_mm512_mul_ps(grad, out), bend(seen), _mm512_maskz_loadu_ps(mask, c_grad + at));
        store(bf16, gates, gate, mask, _mm512_mul_ps(_mm512_mul_ps(cell, new), slope(in)));
        store(bf16, gates, gate + size, mask, _mm512_mul_ps(_mm512_mul_ps(cell, past), slope(forget)));
        store(bf16, gates, gate + 2 * size, mask, _mm512_mul_ps(_mm512_mul_ps(cell, in), bend(new)));
        store(bf16, gates, gate + 3 * size, mask, _mm512_mul_ps(_mm512_mul_ps(grad, seen), slope(out)));
        _mm512_mask_storeu_ps(c_grad + at, mask, _mm512_mul_ps(cell, forget));
    }
    return 0;
}

/* given and said (rows, 3 size), in the order r, z, n: what the products of the input and of the state say. h = (1 - z) * n +
 * z * before, n = tanh(given + r * said). `given` becomes what the gates are. */
int64_t genus_gru(
    void *given, const void *said, const void *before, void *h, int64_t rows, int64_t size, int64_t bf16, int64_t threads) {
    EACH_ROW_AND_PART {
        const __mmask16 mask = first(size - i);
        const int64_t at = r * size + i, gate = 3 * r * size + i;
        const __m512 reset = sigmoid(_mm512_add_ps(load(bf16, given, gate, mask), load(bf16, said, gate, mask)));
        const __m512 keep = sigmoid(_mm512_add_ps(load(bf16, given, gate + size, mask), load(bf16, said, gate + size, mask)));
        const __m512 new = tangent(
            _mm512_fmadd_ps(reset, load(bf16, said, gate + 2 * size, mask), load(bf16, given, gate + 2 * size, mask)));
        store(bf16, given, gate, mask, reset);
        store(bf16, given, gate + size, mask, keep);
        store(bf16, given, gate + 2 * size, mask, new);
        store(bf16, h, at, mask, _mm512_fmadd_ps(keep, _mm512_sub_ps(load(bf16, before, at, mask), new), new));
    }
    return 0;
}

/* The gates of genus_gru and `said` become the gradients of what the products said. The gradient of h is y_grad + h_grad; h_grad
 * becomes the part of that of `before` which does not go through the products. */
int64_t genus_gru_back(
    void *given, void *said, const void *before, const void *y_grad, void *h_grad, int64_t rows, int64_t size, int64_t bf16,
    int64_t threads) {
    EACH_ROW_AND_PART {
        const __mmask16 mask = first(size - i);
        const int64_t at = r * size + i, gate = 3 * r * size + i;
        const __m512 reset = load(bf16, given, gate, mask), keep = load(bf16, given, gate + size, mask);
        const __m512 new = load(bf16, given, gate + 2 * size, mask), past = load(bf16, before, at, mask);
        const __m512 grad = _mm512_add_ps(load(bf16, y_grad, at, mask), load(bf16, h_grad, at, mask));
        const __m512 of_new = _mm512_mul_ps(_mm512_fnmadd_ps(grad, keep, grad), bend(new));
        const __m512 of_keep = _mm512_mul_ps(_mm512_mul_ps(grad, _mm512_sub_ps(past, new)), slope(keep));
        const __m512 of_reset = _mm512_mul_ps(_mm512_mul_ps(of_new, load(bf16, said, gate + 2 * size, mask)), slope(reset));
        for (int both = 0; both < 2; both++) {
            void *to = both ? said : given;
            store(bf16, to, gate, mask, of_reset);
            store(bf16, to, gate + size, mask, of_keep);
            store(bf16, to, gate + 2 * size, mask, both ? _mm512_mul_ps(of_new, reset) : of_new);
        }
        store(bf16, h_grad, at, mask, _mm512_mul_ps(grad, keep));
    }
    return 0;
}
