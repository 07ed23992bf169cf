/* Softmax attention in bf16 with its gradient, for training.
 *
 * Queries lie across the vectors, 64 at a time: a maximum, a sum or a factor of a query is then a lane of a vector. The weights are
 * not kept for the backward pass but made again from the greatest score of a query and the inverse of its sum. Scores are in units
 * of ln 2, so that a weight is a power of two.
 *
 * A head is worked on by one thread. Products sum in float32; scores, weights and what comes back are rounded to bf16 between them.
 */
#include "random.h"
#include "tiles.h"

enum {
    LANES = 64,   /* queries across four vectors */
    KEYS = 64,    /* keys of a block in the backward pass */
    BEYOND = 80,  /* numbers behind a bias that may be read and, in its gradient, written */
    APART = 32,   /* numbers between rows more than they need: rows a power of two apart share places in the cache */
};

static const float LOG2E = 1.44269504f;

/* Strides, in numbers, from one batch, head and row to the next; numbers of a row lie side by side. */
typedef int64_t Stride[3];

typedef struct {
    int64_t batch, heads, time, keys, size, causal, window; /* window: keys that a query sees where causal, itself among them */
    int64_t seen_stride;
    int64_t seed, threshold; /* of dropout; a threshold of 0: none */
} Sizes;

static inline int64_t least(int64_t one, int64_t two) { return one < two ? one : two; }

/* scores (keys, 64) of up to 64 keys at the places of the queries: of every 16 keys only with the vectors of queries that see one. */
static void score_later(int64_t keys, int64_t size, const uint16_t *rows, const uint32_t *queries, float *scores) {
    for (int64_t at = 0; at < keys; at += 16)
        multiply_pairs(
            least(keys - at, 16), LANES - at, size / 2, rows + at * size, size / 2, 1, queries + at, LANES, scores + at * LANES + at,
            LANES, 0);
}

/* Add to sums (size, 64) the pairs of such keys times their weights (keys / 2, 64), likewise. */
static void mix_later(int64_t keys, int64_t size, const uint32_t *pairs, const uint32_t *weights, float *sums) {
    for (int64_t at = 0; at < keys; at += 16)
        multiply_pairs(
            size, LANES - at, (least(keys - at, 16) + 1) / 2, pairs + at / 2 * size, 1, size, weights + at / 2 * LANES + at, LANES,
            sums + at, LANES, 1);
}

static void side_by_side(const uint16_t *rows, int64_t stride, int64_t count, int64_t size, uint16_t *to) {
    for (int64_t i = 0; i < count; i++) memcpy(to + i * size, rows + i * stride, 2 * size);
}

/* rows (count, size) in bf16 = columns (size, 64) times a factor for each column. */
static void upright(const float *columns, const float factor[LANES], int64_t count, int64_t size, uint16_t *rows, int64_t stride) {
    for (int64_t g = 0; g < count; g += 16)
        for (int64_t j = 0; j < size; j += 16) {
            __m512i r[16];
            const __m512 by = _mm512_loadu_ps(factor + g);
            for (int i = 0; i < 16; i++)
                r[i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(columns + (j + i) * LANES + g), by));
            turn(r);
            for (int64_t i = 0; i < 16 && g + i < count; i++)
                store(1, rows, (g + i) * stride + j, 0xFFFF, _mm512_castsi512_ps(r[i]));
        }
}

static void rounded(const float *from, float factor, int64_t count, int64_t size, uint16_t *rows, int64_t stride) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < size; j += 16)
            store(1, rows, i * stride + j, 0xFFFF, _mm512_mul_ps(_mm512_loadu_ps(from + i * size + j), _mm512_set1_ps(factor)));
}

/* The number of vectors of 16 queries from `query` on that a causal mask lets see none of the keys from `key` on. */
static inline int unseen(const Sizes *n, int64_t query, int64_t key) {
    return n->causal && key > query ? (int)least(4, (key - query) / 16) : 0;
}

/* Which of 64 queries from `query` on see this key. */
static inline uint64_t seeing(const Sizes *n, const uint8_t *seen, int64_t query, int64_t key) {
    if (seen && !seen[key]) return 0;
    if (!n->causal) return ~0ull;
    const int64_t early = key - query, late = key + n->window - query; /* the first query that sees it, and the one after the last */
    if (early >= LANES || late <= 0) return 0;
    return (early > 0 ? ~0ull << early : ~0ull) & (late < LANES ? ~0ull >> (LANES - late) : ~0ull);
}

/* Which weights of a key for 64 queries from `query` on stay; by how much those grow. */
static inline uint64_t stay(const Sizes *n, int64_t head, int64_t query, int64_t key) {
    const int64_t blocks = whole(n->time, LANES) / LANES;
    return n->threshold ? staying((head * n->keys + key) * blocks + query / LANES, n->seed, n->threshold) : ~0ull;
}

static inline float growth(const Sizes *n) { return 65536.0f / (65536 - n->threshold); }

static inline __m512i joined(__m512 one, __m512 two) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(one));
    return _mm512_or_si512(low, _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(two)), 16));
}

/* Of a score: its factor, and the cap c of c tanh(score / c), or 0. */
typedef struct {
    float scale, softcap;
} Score;

/* Scores (count, 64) of keys from `key` on for 64 queries from `query` on become logarithms to base 2: capped, and with what a head's
 * `bias` adds by how far the key lies before the query. */
static void shape(
    const Sizes *n, const Score *of, const float *bias, int64_t query, int64_t key, int64_t count, float *scores) {
    const __m512 by = _mm512_set1_ps(of->softcap ? of->scale / of->softcap : of->scale * LOG2E);
    for (int64_t j = 0; j < count; j++)
        for (int64_t i = 0; i < LANES; i += 16) {
            float *at = scores + j * LANES + i;
            __m512 x = _mm512_mul_ps(_mm512_loadu_ps(at), by);
            if (of->softcap) x = _mm512_mul_ps(tangent(x), _mm512_set1_ps(of->softcap * LOG2E));
            if (bias) x = _mm512_add_ps(x, _mm512_loadu_ps(bias + query + i - key - j + n->keys - 1));
            _mm512_storeu_ps(at, x);
        }
}

static int64_t table(const Sizes *n) { return n->time + n->keys - 1 + BEYOND; } /* the length of a head's bias */

/* y (batch, heads, time, size) = softmax(score of q k' + bias) v, with a `bias` (heads, table) in units of ln 2 or none, where `seen`
 * (batch, keys) is given of the keys it marks, and where causal of the keys up to the query's place, in its window. kept (2, batch, heads, time): a query's greatest score and the inverse of its sum. */
int64_t genus_attention(
    const uint16_t *q, const Stride qs, const uint16_t *k, const Stride ks, const uint16_t *v, const Stride vs, const Sizes *n,
    const Score *of, const uint8_t *seen, const float *bias, uint16_t *y, const Stride ys, float *kept, int64_t threads) {
    const int64_t all = n->batch * n->heads, size = n->size, keys = whole(n->keys, 2);
    const int shaped = bias || of->softcap;
    const __m512 by = _mm512_set1_ps(shaped ? 1.0f : of->scale * LOG2E);
    int64_t failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        char *memory = aligned_alloc(64, 64 * 8 + whole(keys * size * 4 + keys * LANES * 6 + size * LANES * 6, 64)), *free_ = memory;
        failed |= !memory;
        uint16_t *keys_ = part(&free_, keys * size * 2);
        uint32_t *values = part(&free_, keys * size * 2), *queries = part(&free_, size * LANES * 2);
        uint32_t *weights = part(&free_, keys * LANES * 2);
        float *scores = part(&free_, keys * LANES * 4), *sums = part(&free_, size * LANES * 4);
#pragma omp for schedule(dynamic)
        for (int64_t head = 0; head < all; head++) {
            if (!memory) continue;
            const int64_t b = head / n->heads, h = head % n->heads;
            const uint8_t *own = seen ? seen + b * n->seen_stride : NULL;
            side_by_side(k + b * ks[0] + h * ks[1], ks[2], n->keys, size, keys_);
            paired(v + b * vs[0] + h * vs[1], vs[2], n->keys, size, values);
            for (int64_t from = 0; from < n->time; from += LANES) {
                const int64_t count = n->time - from < LANES ? n->time - from : LANES;
                const int64_t last = n->causal && from + count < n->keys ? from + count : n->keys;
                across(q + b * qs[0] + h * qs[1] + from * qs[2], 2 * qs[2], count, LANES, size / 2, queries);
                const int64_t begin = n->causal && from >= n->window ? least(from - n->window + 1, last) / 2 * 2 : 0;
                const int64_t all_see = n->causal && from < last ? from : last; /* the first of the keys that not every query sees */
                multiply_pairs(
                    all_see - begin, LANES, size / 2, keys_ + begin * size, size / 2, 1, queries, LANES, scores + begin * LANES, LANES, 0);
                score_later(last - all_see, size, keys_ + all_see * size, queries, scores + all_see * LANES);
                if (shaped) shape(n, of, bias ? bias + h * table(n) : NULL, from, begin, last - begin, scores + begin * LANES);
                __m512 most[4], sum[4];
                for (int i = 0; i < 4; i++) most[i] = _mm512_set1_ps(-__builtin_inff()), sum[i] = _mm512_setzero_ps();
                for (int64_t key = begin; key < last; key++) {
                    const uint64_t see = seeing(n, own, from, key);
                    for (int i = unseen(n, from, key); i < 4; i++)
                        most[i] = _mm512_mask_max_ps(
                            most[i], see >> 16 * i, most[i], _mm512_mul_ps(_mm512_loadu_ps(scores + key * LANES + 16 * i), by));
                }
                for (int64_t key = begin; key < last; key += 2) {
                    const uint64_t one = seeing(n, own, from, key), two = key + 1 < last ? seeing(n, own, from, key + 1) : 0;
                    const uint64_t stay_one = stay(n, head, from, key), stay_two = stay(n, head, from, key + 1);
                    for (int i = unseen(n, from, key); i < 4; i++) {
                        const float *at = scores + key * LANES + 16 * i;
                        const __m512 a = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(at), by, most[i]));
                        const __m512 c = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(at + LANES), by, most[i]));
                        const __m512 a_ = _mm512_maskz_mov_ps(one >> 16 * i, a), c_ = _mm512_maskz_mov_ps(two >> 16 * i, c);
                        sum[i] = _mm512_add_ps(sum[i], _mm512_add_ps(a_, c_));
                        _mm512_storeu_si512(weights + key / 2 * LANES + 16 * i, joined(_mm512_maskz_mov_ps(stay_one >> 16 * i, a_), _mm512_maskz_mov_ps(stay_two >> 16 * i, c_)));
                    }
                }
                multiply_pairs(
                    size, LANES, (all_see - begin + 1) / 2, values + begin / 2 * size, 1, size, weights + begin / 2 * LANES, LANES, sums,
                    LANES, 0);
                mix_later(last - all_see, size, values + all_see / 2 * size, weights + all_see / 2 * LANES, sums);
                float inverse[LANES];
                for (int i = 0; i < 4; i++) {
                    const __m512 own_inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), sum[i]);
                    const __mmask16 there = first(count > 16 * i ? count - 16 * i : 0);
                    const int64_t at = head * n->time + from + 16 * i;
                    _mm512_storeu_ps(inverse + 16 * i, _mm512_mul_ps(own_inverse, _mm512_set1_ps(growth(n))));
                    _mm512_mask_storeu_ps(kept + at, there, most[i]);
                    _mm512_mask_storeu_ps(kept + all * n->time + at, there, own_inverse);
                }
                upright(sums, inverse, count, size, y + b * ys[0] + h * ys[1] + from * ys[2], ys[2]);
            }
        }
        free(memory);
    }
    return failed;
}

/* What the backward pass holds of a head. */
typedef struct {
    uint32_t *queries, *grads;             /* (blocks of 64, size / 2, 64) */
    uint32_t *query_pairs, *grad_pairs;    /* (time / 2, size) */
    float *most, *inverse, *dot;           /* (time) */
    float *d_queries;                      /* (blocks of 64, size, 64) */
    uint16_t *keys, *values;               /* (KEYS, size) */
    uint32_t *key_pairs;                   /* (KEYS / 2, size) */
    float *scores, *d_weights;             /* (KEYS, 64) */
    uint16_t *weights, *d_scores;          /* (KEYS, time + APART) */
    uint32_t *d_score_pairs;               /* (blocks of 64, KEYS / 2, 64) */
    float *sums;                           /* (KEYS, size) */
} Work;

static int64_t divide(Work *w, char *memory, int64_t time, int64_t size) {
    char *free_ = memory;
    const int64_t row = time + APART;
    w->queries = part(&free_, time * size * 2), w->grads = part(&free_, time * size * 2);
    w->query_pairs = part(&free_, time * size * 2), w->grad_pairs = part(&free_, time * size * 2);
    w->most = part(&free_, time * 4), w->inverse = part(&free_, time * 4), w->dot = part(&free_, time * 4);
    w->d_queries = part(&free_, time * size * 4);
    w->keys = part(&free_, KEYS * size * 2), w->values = part(&free_, KEYS * size * 2), w->key_pairs = part(&free_, KEYS * size * 2);
    w->scores = part(&free_, KEYS * LANES * 4), w->d_weights = part(&free_, KEYS * LANES * 4);
    w->weights = part(&free_, KEYS * row * 2), w->d_scores = part(&free_, KEYS * row * 2);
    w->d_score_pairs = part(&free_, KEYS * time * 2);
    w->sums = part(&free_, KEYS * size * 4);
    return free_ - memory;
}

/* Sums of vectors along their diagonals: a number of one key and the next number of the next key belong to the same distance. */
typedef struct {
    __m512 low, high;
} Diagonals;

/* Add the vector of key number `j` of `count` to what stands at `to` - j and behind; in memory every 16 keys. */
static inline __attribute__((always_inline)) void along(Diagonals *sums, __m512 x, float *to, int64_t j, int64_t count) {
    const __m512i none = _mm512_setzero_si512(), low = _mm512_castps_si512(sums->low), high = _mm512_castps_si512(sums->high);
    sums->high = _mm512_castsi512_ps(_mm512_alignr_epi32(high, low, 15));
    sums->low = _mm512_add_ps(_mm512_castsi512_ps(_mm512_alignr_epi32(low, none, 15)), x);
    if (j % 16 != 15 && j + 1 < count) return;
    _mm512_storeu_ps(to - j, _mm512_add_ps(_mm512_loadu_ps(to - j), sums->low));
    _mm512_storeu_ps(to - j + 16, _mm512_add_ps(_mm512_loadu_ps(to - j + 16), sums->high));
    sums->low = sums->high = _mm512_setzero_ps();
}

/* The weights of a block of keys from `key` on for 64 queries from `query` on, and what comes back to their scores, which
 * become logarithms to base 2 times `factor`; added to d_bias or to none. */
static void weigh(
    const Sizes *n, const Work *w, const uint8_t *seen, float factor, float softcap, float *d_bias, int64_t head, int64_t key, int64_t count,
    int64_t query, int64_t row) {
    const __m512 grow = _mm512_set1_ps(growth(n)), part_of_cap = _mm512_set1_ps(softcap ? 1.0f / (softcap * LOG2E) : 0.0f);
    uint64_t stays[KEYS];
    for (int64_t j = 0; j < count; j++) stays[j] = stay(n, head, query, key + j);
    for (int i = 0; i < LANES; i += 16) {
        const int64_t last = n->causal ? least(count, query + i + 16 - key) : count; /* of the keys: what is behind it is not read */
        const __m512 most = _mm512_loadu_ps(w->most + query + i), inverse = _mm512_loadu_ps(w->inverse + query + i);
        const __m512 dot = _mm512_loadu_ps(w->dot + query + i), by = _mm512_set1_ps(factor);
        Diagonals d_of = {.low = _mm512_setzero_ps(), .high = _mm512_setzero_ps()};
        for (int64_t j = 0; j < whole(last, 2); j += 2) {
            __m512 d[2];
            for (int two = 0; two < 2; two++) {
                const int64_t at = (j + two) * LANES + i;
                const __mmask16 see = j + two < count ? seeing(n, seen, query, key + j + two) >> i : 0;
                const __m512 e = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(w->scores + at), by, most));
                const __mmask16 stay_ = j + two < count ? stays[j + two] >> i : 0;
                const __m512 p = _mm512_maskz_mul_ps(see, e, inverse);
                const __m512 d_p = _mm512_maskz_mul_ps(stay_, _mm512_loadu_ps(w->d_weights + at), grow);
                d[two] = _mm512_maskz_mul_ps(see, p, _mm512_sub_ps(d_p, dot));
                if (softcap) { /* the slope of tanh */
                    const __m512 t = _mm512_mul_ps(_mm512_loadu_ps(w->scores + at), part_of_cap);
                    d[two] = _mm512_maskz_mul_ps(see, d[two], _mm512_fnmadd_ps(t, t, _mm512_set1_ps(1.0f)));
                }
                if (j + two == count) continue;
                if (d_bias) along(&d_of, d[two], d_bias + query + i - key + n->keys - 1, j + two, last);
                store(1, w->weights, (j + two) * row + query + i, 0xFFFF, _mm512_maskz_mul_ps(stay_, p, grow));
                store(1, w->d_scores, (j + two) * row + query + i, 0xFFFF, d[two]);
            }
            _mm512_storeu_si512(w->d_score_pairs + query * (KEYS / 2) + j / 2 * LANES + i, joined(d[0], d[1]));
        }
    }
}

/* The end of the blocks of 64 queries that may see one of `count` keys from `key` on. */
static int64_t seers(const Sizes *n, int64_t key, int64_t count, int64_t time) {
    return n->causal ? least(time, whole(key + count - 1 + least(n->window, time), LANES)) : time;
}

/* sums (count, size) over the queries before `end` that may see a key, from the block of the first on, of its row of `weights` times
 * their pairs. */
static void sum_queries(
    const Sizes *n, const Work *w, const uint16_t *weights, const uint32_t *pairs, int64_t key, int64_t count, int64_t end) {
    const int64_t size = n->size, row = whole(n->time, LANES) + APART;
    for (int64_t at = 0, together = n->causal ? 16 : count; at < count; at += together) {
        const int64_t begin = n->causal ? least(key + at, end) : 0;
        multiply_pairs(
            least(count - at, together), size, (end - begin) / 2, weights + at * row + begin, row / 2, 1, pairs + begin / 2 * size, size,
            w->sums + at * size, size, 0);
    }
}

/* What comes back to q, k and v, and to d_bias (batch, heads, table) or none, which are given with y, `kept` and g, what comes back to y. Strides: of q, k, v, y, g, dq, dk, dv. */
int64_t genus_attention_backward(
    const uint16_t *q, const uint16_t *k, const uint16_t *v, const uint16_t *y, const uint16_t *g, const Stride strides[8],
    const Sizes *n, const Score *of, const uint8_t *seen, const float *bias, float *d_bias, const float *kept, uint16_t *dq,
    uint16_t *dk, uint16_t *dv,
    int64_t threads) {
    const int64_t all = n->batch * n->heads, size = n->size, time = whole(n->time, LANES), row = time + APART;
    const int shaped = bias || of->softcap;
    const float by = shaped ? 1.0f : of->scale * LOG2E;
    int64_t failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Work w;
        char *memory = aligned_alloc(64, divide(&w, NULL, time, size));
        failed |= !memory;
        divide(&w, memory, time, size);
#pragma omp for schedule(dynamic)
        for (int64_t head = 0; head < all; head++) {
            if (!memory) continue;
            int64_t at[8];
            for (int i = 0; i < 8; i++) at[i] = head / n->heads * strides[i][0] + head % n->heads * strides[i][1];
            const uint8_t *own = seen ? seen + head / n->heads * n->seen_stride : NULL;
            const float *own_bias = bias ? bias + head % n->heads * table(n) : NULL;
            float *d_own = d_bias ? d_bias + head * table(n) : NULL;
            for (int64_t from = 0; from < n->time; from += LANES) {
                const int64_t count = n->time - from < LANES ? n->time - from : LANES;
                across(q + at[0] + from * strides[0][2], 2 * strides[0][2], count, LANES, size / 2, w.queries + from * size / 2);
                across(g + at[4] + from * strides[4][2], 2 * strides[4][2], count, LANES, size / 2, w.grads + from * size / 2);
            }
            memset(w.query_pairs + (time - LANES) * size / 2, 0, LANES * size * 2);
            memset(w.grad_pairs + (time - LANES) * size / 2, 0, LANES * size * 2);
            paired(q + at[0], strides[0][2], n->time, size, w.query_pairs);
            paired(g + at[4], strides[4][2], n->time, size, w.grad_pairs);
            memset(w.d_queries, 0, time * size * 4);
            for (int64_t i = 0; i < time; i++) {
                const int there = i < n->time;
                w.most[i] = there ? kept[head * n->time + i] : 0;
                w.inverse[i] = there ? kept[(all + head) * n->time + i] : 0;
                __m512 dot = _mm512_setzero_ps();
                for (int64_t j = 0; there && j < size; j += 16)
                    dot = _mm512_fmadd_ps(
                        load(1, y, at[3] + i * strides[3][2] + j, 0xFFFF), load(1, g, at[4] + i * strides[4][2] + j, 0xFFFF), dot);
                w.dot[i] = _mm512_reduce_add_ps(dot);
            }
            for (int64_t key = 0; key < n->keys; key += KEYS) {
                const int64_t count = n->keys - key < KEYS ? n->keys - key : KEYS, pairs = (count + 1) / 2;
                const int64_t begin = n->causal ? key / LANES * LANES : 0, end = seers(n, key, count, time);
                side_by_side(k + at[1] + key * strides[1][2], strides[1][2], count, size, w.keys);
                side_by_side(v + at[2] + key * strides[2][2], strides[2][2], count, size, w.values);
                paired(w.keys, size, count, size, w.key_pairs);
                for (int64_t from = begin; from < end; from += LANES) {
                    const uint32_t *queries = w.queries + from * size / 2, *grads = w.grads + from * size / 2;
                    uint32_t *d_scores = w.d_score_pairs + from * (KEYS / 2);
                    float *d_queries = w.d_queries + from * size;
                    if (n->causal && from == key) {
                        score_later(count, size, w.keys, queries, w.scores);
                        score_later(count, size, w.values, grads, w.d_weights);
                        if (shaped) shape(n, of, own_bias, from, key, count, w.scores);
                        weigh(n, &w, own, by, of->softcap, d_own, head, key, count, from, row);
                        mix_later(count, size, w.key_pairs, d_scores, d_queries);
                        continue;
                    }
                    multiply_pairs(count, LANES, size / 2, w.keys, size / 2, 1, queries, LANES, w.scores, LANES, 0);
                    multiply_pairs(count, LANES, size / 2, w.values, size / 2, 1, grads, LANES, w.d_weights, LANES, 0);
                    if (shaped) shape(n, of, own_bias, from, key, count, w.scores);
                    weigh(n, &w, own, by, of->softcap, d_own, head, key, count, from, row);
                    multiply_pairs(size, LANES, pairs, w.key_pairs, 1, size, d_scores, LANES, d_queries, LANES, 1);
                }
                sum_queries(n, &w, w.weights, w.grad_pairs, key, count, end);
                rounded(w.sums, 1.0f, count, size, dv + at[7] + key * strides[7][2], strides[7][2]);
                sum_queries(n, &w, w.d_scores, w.query_pairs, key, count, end);
                rounded(w.sums, of->scale, count, size, dk + at[6] + key * strides[6][2], strides[6][2]);
            }
            float factor[LANES];
            for (int i = 0; i < LANES; i++) factor[i] = of->scale;
            for (int64_t from = 0; from < n->time; from += LANES) {
                const int64_t count = n->time - from < LANES ? n->time - from : LANES;
                upright(w.d_queries + from * size, factor, count, size, dq + at[5] + from * strides[5][2], strides[5][2]);
            }
        }
        free(memory);
    }
    return failed;
}
