/* Attention of a few new positions per row over keys and values that are kept: softmax(q k' scale + bias) v.
 *
 * A step of decoding reads every key and value of a row once and does little with it. Each pair of a row and a key-value head is a
 * task of its own, which reads its keys where they lie, no more of them than its row has, once for all queries that share them. So
 * a row of the result depends on that row alone, bit for bit, however many there are and however long the others are. Keys may lie
 * in a ring: what a query sees may go on at the first key behind the last.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "numbers.h"

enum {
    MOST = 16,   /* vectors of 16 numbers in a head */
    BLOCK = 128, /* keys that are used for one query after the other while they are in the cache */
};

typedef struct {
    int64_t rows, heads, groups, time, keys, head;
    int64_t q_row, q_head, q_time;         /* strides in numbers; the last dimension is dense */
    int64_t k_row, k_head, k_key;
    int64_t v_row, v_head, v_key;
    int64_t bias_row, bias_head, bias_time;
    float scale, softcap;                  /* softcap 0: none */
} Shape;

/* Scores to weights that are not normalised yet; returns their sum. */
static float soften(const Shape *s, float *scores, const float *bias, int64_t count) {
    const __m512 low = _mm512_set1_ps(-INFINITY), scale = _mm512_set1_ps(s->scale), one = _mm512_set1_ps(1.0f);
    __m512 most = low, sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = first(count - i);
        __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, scores + i), scale);
        if (s->softcap != 0) { /* c tanh(x / c) = c - 2 c / (e^(2 x / c) + 1) */
            const __m512 cap = _mm512_set1_ps(s->softcap), up = _mm512_set1_ps(80.0f);
            const __m512 e = exponential(_mm512_min_ps(up, _mm512_mul_ps(x, _mm512_set1_ps(2.0f / s->softcap))));
            x = _mm512_sub_ps(cap, _mm512_div_ps(_mm512_add_ps(cap, cap), _mm512_add_ps(e, one)));
        }
        if (bias) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, bias + i));
        _mm512_mask_storeu_ps(scores + i, mask, x);
        most = _mm512_mask_max_ps(most, mask, most, x);
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = first(count - i);
        const __m512 p = exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + i), top));
        _mm512_mask_storeu_ps(scores + i, mask, p);
        sum = _mm512_mask_add_ps(sum, mask, sum, p);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Where a block of keys ends that begins at `block`: none goes round. */
static inline int64_t until(int64_t block, int64_t count, int64_t round) {
    const int64_t end = block + BLOCK < count ? block + BLOCK : count;
    return block < round && round < end ? round : end;
}

/* The queries of one row and time that share a key-value head. `scratch` has room for their scores and sums. */
static inline __attribute__((always_inline)) void attend(
    const Shape *s, const int bf16, const int vectors, int64_t row, int64_t group, int64_t t, int64_t start, int64_t stop,
    const void *q, const void *k, const void *v, const float *bias, void *y, float *scratch) {
    const int64_t count = stop - start, share = s->heads / s->groups, leader = group * share, size = bf16 ? 2 : 4;
    const __mmask16 last = first(s->head - 16 * (vectors - 1));
    const char *keys = (const char *)k + (row * s->k_row + group * s->k_head + start * s->k_key) * size;
    const char *values = (const char *)v + (row * s->v_row + group * s->v_head + start * s->v_key) * size;
    float *sums = scratch + share * count;
    const int64_t round = s->keys - start; /* the first that lies at the beginning of the ring */
    for (int64_t block = 0, end; block < count; block = end) {
        end = until(block, count, round);
        const char *from = block < round ? keys : keys - s->keys * s->k_key * size;
        for (int64_t r = 0; r < share; r++) {
            const int64_t at = row * s->q_row + (leader + r) * s->q_head + t * s->q_time;
            __m512 query[MOST];
            for (int i = 0; i < vectors; i++) query[i] = load(bf16, q, at + 16 * i, i == vectors - 1 ? last : 0xFFFF);
            for (int64_t n = block; n < end; n++) {
                const char *key = from + n * s->k_key * size;
                __m512 a = _mm512_setzero_ps(), b = a;
                for (int i = 0; i < vectors; i++) {
                    const __m512 x = load(bf16, key, 16 * i, i == vectors - 1 ? last : 0xFFFF);
                    if (i % 2) b = _mm512_fmadd_ps(query[i], x, b);
                    else a = _mm512_fmadd_ps(query[i], x, a);
                }
                scratch[r * count + n] = _mm512_reduce_add_ps(_mm512_add_ps(a, b));
            }
        }
    }
    float *totals = sums + share * MOST * 16;
    for (int64_t r = 0; r < share; r++) {
        const int64_t at = row * s->bias_row + (leader + r) * s->bias_head + t * s->bias_time + start;
        totals[r] = soften(s, scratch + r * count, bias ? bias + at : NULL, count);
    }
    memset(sums, 0, share * MOST * 16 * sizeof *sums);
    for (int64_t block = 0, end; block < count; block = end) {
        end = until(block, count, round);
        const char *from = block < round ? values : values - s->keys * s->v_key * size;
        for (int64_t r = 0; r < share; r++) {
            __m512 sum[MOST];
            for (int i = 0; i < vectors; i++) sum[i] = _mm512_loadu_ps(sums + (r * MOST + i) * 16);
            for (int64_t n = block; n < end; n++) {
                const char *value = from + n * s->v_key * size;
                const __m512 p = _mm512_set1_ps(scratch[r * count + n]);
                for (int i = 0; i < vectors; i++)
                    sum[i] = _mm512_fmadd_ps(p, load(bf16, value, 16 * i, i == vectors - 1 ? last : 0xFFFF), sum[i]);
            }
            for (int i = 0; i < vectors; i++) _mm512_storeu_ps(sums + (r * MOST + i) * 16, sum[i]);
        }
    }
    for (int64_t r = 0; r < share; r++) {
        const __m512 less = _mm512_set1_ps(1.0f / totals[r]);
        const int64_t to = ((row * s->time + t) * s->heads + leader + r) * s->head;
        for (int i = 0; i < vectors; i++) {
            const __mmask16 mask = i == vectors - 1 ? last : 0xFFFF;
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(sums + (r * MOST + i) * 16), less);
            store(bf16, y, to + 16 * i, mask, x);
        }
    }
}

/* `attend` with constants, so that queries and sums stay in registers. */
static void attend_any(
    const Shape *s, int bf16, int64_t row, int64_t group, int64_t t, int64_t start, int64_t stop, const void *q, const void *k,
    const void *v, const float *bias, void *y, float *scratch) {
#define CASE(n) \
    case n: \
        if (bf16) attend(s, 1, n, row, group, t, start, stop, q, k, v, bias, y, scratch); \
        else attend(s, 0, n, row, group, t, start, stop, q, k, v, bias, y, scratch); \
        return;
    switch ((s->head + 15) / 16) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(10) CASE(12) CASE(16)
    default:
        attend(s, bf16, (s->head + 15) / 16, row, group, t, start, stop, q, k, v, bias, y, scratch);
    }
}

/* q (rows, heads, time, head), k and v (rows, groups, keys, head), y (rows, time, heads, head), all bf16 or all float32;
 * spans (rows, time, 2): the first key that a query sees, and the one after the last, counted on behind the last of all where it
 * goes round, which is not for use with a bias; bias float32. Returns 0, or 1 without
 * memory. */
int64_t genus_decode_attention(
    const Shape *s, int64_t bf16, const void *q, const void *k, const void *v, const int64_t *spans, const float *bias, void *y,
    int64_t threads) {
    int64_t longest = 0, all = 0;
    for (int64_t i = 0; i < s->rows * s->time; i++) {
        const int64_t count = spans[2 * i + 1] - spans[2 * i];
        longest = count > longest ? count : longest;
        all += count;
    }
    const int64_t share = s->heads / s->groups, room = share * (longest + MOST * 16 + 1);
    if (all * s->heads * s->head < 16384) threads = 1; /* waking another takes longer */
    float *scratch = malloc(threads * room * sizeof *scratch);
    if (scratch == NULL) return 1;
#pragma omp parallel num_threads(threads)
    {
        int64_t me = 0;
#ifdef _OPENMP
        me = omp_get_thread_num();
#endif
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s->rows * s->groups; task++) {
            const int64_t row = task / s->groups, group = task % s->groups;
            for (int64_t t = 0; t < s->time; t++) {
                const int64_t *span = spans + 2 * (row * s->time + t);
                attend_any(s, bf16, row, group, t, span[0], span[1], q, k, v, bias, y, scratch + me * room);
            }
        }
    }
    free(scratch);
    return 0;
}
