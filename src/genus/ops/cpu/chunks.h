/* A chunk of fast weights (chunks.c): what decays and borders leave of a key, and the operations that both passes are made of. */
#include <math.h>

#include "tiles.h"

enum { CHUNK = 64, HELD = 65536 };

/* Strides, in numbers, from one row, head and position to the next; numbers of a position lie side by side. */
typedef int64_t Stride[3];

typedef struct {
    int64_t rows, heads, time, features, values, chunk; /* positions of a chunk: at most 64, a multiple of 16 */
    Stride q, k, v, y, g, dq, dk, dv;
} Shape;

/* What all positions may have, (rows, heads, time) or (rows, time), dense; none where NULL. */
typedef struct {
    const float *decay, *beta;
    const uint8_t *fresh, *pad;
} Extra;

typedef struct {
    int64_t count, rows, from[CHUNK]; /* positions; rounded up to 16; the first key that a query sees */
    int plain;                        /* nothing decays or begins: all factors are 1 */
    float carry[CHUNK], leave[CHUNK], beta[CHUNK], keep, since[CHUNK];
    const uint8_t *pad;
} Chunk;

static const float STEEPEST = -40.0f; /* as in the chunked path */

static inline const void *at(int bf16, const void *base, int64_t n) { return (const char *)base + n * (bf16 ? 2 : 4); }
static inline int64_t place(const Stride s, int64_t row, int64_t head, int64_t t) { return row * s[0] + head * s[1] + t * s[2]; }

static void begin(const Shape *s, const Extra *x, int64_t head, int64_t t, Chunk *c) {
    const int64_t of_head = head * s->time + t, of_row = head / s->heads * s->time + t;
    int64_t start = -1; /* of the last document that begins in the chunk */
    float sum = 0.0f;
    c->count = s->time - t < s->chunk ? s->time - t : s->chunk, c->rows = whole(c->count, 16);
    c->pad = x->pad ? x->pad + of_row : NULL, c->plain = !x->decay && !x->fresh;
    for (int64_t i = 0; i < c->rows; i++) {
        const int there = i < c->count && !(c->pad && c->pad[i]);
        if (there && x->fresh && x->fresh[of_row + i]) start = i;
        if (there && x->decay) sum += x->decay[of_head + i] < STEEPEST ? STEEPEST : x->decay[of_head + i];
        c->beta[i] = there && x->beta ? x->beta[of_head + i] : 0.0f;
        c->since[i] = sum, c->from[i] = start < 0 ? 0 : start, c->carry[i] = start < 0 ? 0.0f : -INFINITY;
    }
    for (int64_t i = 0; i < c->rows; i += 16) {
        const __m512 since = _mm512_loadu_ps(c->since + i), end = _mm512_set1_ps(sum);
        const __mmask16 last = start > i ? ~first(start - i) : 0xFFFF;
        _mm512_storeu_ps(c->carry + i, exponential(_mm512_add_ps(_mm512_loadu_ps(c->carry + i), since)));
        _mm512_storeu_ps(c->leave + i, _mm512_maskz_mov_ps(last, exponential(_mm512_sub_ps(end, since))));
    }
    c->keep = c->carry[c->rows - 1];
}

/* (rows, 64) times `within`; what no query sees becomes 0. `strict`: times -1, and a query does not see its own key. */
static void weigh(const Chunk *c, int strict, float *x) {
    for (int64_t i = 0; i < c->rows; i++)
        for (int64_t j = 0; j <= i; j += 16) {
            const int64_t low = c->from[i] - j, high = i - j + !strict;
            const __mmask16 see = (high > 0 ? first(high) : 0) & ~(low > 0 ? first(low) : 0);
            __m512 factor = _mm512_set1_ps(strict ? -1.0f : 1.0f);
            if (!c->plain)
                factor = _mm512_mul_ps(factor, exponential(_mm512_sub_ps(_mm512_set1_ps(c->since[i]), _mm512_loadu_ps(c->since + j))));
            float *here = x + i * CHUNK + j;
            _mm512_storeu_ps(here, _mm512_maskz_mul_ps(see, _mm512_loadu_ps(here), factor));
        }
}

enum { ALL, NEAR, PAST, LATER }; /* of rows and columns or steps that are positions: all; columns, or steps, up to the row; steps from it */

/* c (rows, columns) = a b, summed over `size` numbers. Left factors have their row and step, right ones a width, in units. */
static inline __attribute__((always_inline)) void product(
    const int bf16, const int which, int64_t rows, int64_t columns, int64_t size, const uint32_t *a, int64_t a_row, int64_t a_step,
    const uint32_t *b, int64_t b_step, float *c, int64_t c_row, int add) {
    const int64_t high = which == ALL ? rows : 16, per = bf16 ? 2 : 1;
    for (int64_t i = 0; i < rows; i += high) {
        const int64_t from = which == LATER ? i / per : 0, to = (which == PAST ? i + 16 : size) / per;
        (bf16 ? multiply_pairs : multiply_floats)(
            high, which == NEAR ? i + 16 : columns, to - from, a + i * a_row + from * a_step, a_row, a_step, b + from * b_step, b_step,
            c + i * c_row, c_row, add);
    }
}

/* e (rows, width) += m u, u = beta e, row by row: m (row, step) holds for the rows before it, or where `back` for those after it. */
static inline __attribute__((always_inline)) void substitute(
    const int back, const Chunk *c, const float *m, float *e, float *u, int64_t width) {
    const int64_t row = back ? 1 : CHUNK, step = back ? CHUNK : 1;
    for (int64_t done = 0; done < c->rows; done += 16) {
        const int64_t block = back ? c->rows - 16 - done : done, known = back ? block + 16 : 0;
        if (done)
            multiply_floats(
                16, width, done, m + block * row + known * step, row, step, u + known * width, width, e + block * width, width, 1);
        for (int64_t n = 0; n < 16; n++) {
            const int64_t i = back ? block + 15 - n : block + n;
            for (int64_t w = 0; w < width; w += 64) {
                const int64_t vectors = width - w < 64 ? (width - w) / 16 : 4;
                __m512 sum[4];
                for (int64_t v = 0; v < 4 && v < vectors; v++) sum[v] = _mm512_loadu_ps(e + i * width + w + 16 * v);
                for (int64_t o = 0; o < n; o++) {
                    const int64_t j = back ? block + 15 - o : block + o;
                    const __m512 factor = _mm512_set1_ps(m[i * row + j * step]);
                    for (int64_t v = 0; v < 4 && v < vectors; v++)
                        sum[v] = _mm512_fmadd_ps(factor, _mm512_loadu_ps(u + j * width + w + 16 * v), sum[v]);
                }
                for (int64_t v = 0; v < 4 && v < vectors; v++) {
                    _mm512_storeu_ps(e + i * width + w + 16 * v, sum[v]);
                    _mm512_storeu_ps(u + i * width + w + 16 * v, _mm512_mul_ps(sum[v], _mm512_set1_ps(c->beta[i])));
                }
            }
        }
    }
}

/* x (rows, width) = by (row) x. */
static void scale(float *x, const float *by, int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i * width; j < (i + 1) * width; j += 16)
            _mm512_storeu_ps(x + j, _mm512_mul_ps(_mm512_loadu_ps(x + j), _mm512_set1_ps(by[i])));
}

/* to += factor x, of one row as it is multiplied. */
static inline __attribute__((always_inline)) void add_row(const int bf16, const void *x, float factor, int64_t width, float *to) {
    for (int64_t j = 0; j < width; j += 16)
        _mm512_storeu_ps(to + j, _mm512_fmadd_ps(_mm512_set1_ps(factor), load(bf16, x, j, 0xFFFF), _mm512_loadu_ps(to + j)));
}

static inline __attribute__((always_inline)) float dot(
    const int bf16, const void *x, const int y_bf16, const void *y, int64_t width) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < width; j += 16) sum = _mm512_fmadd_ps(load(bf16, x, j, 0xFFFF), load(y_bf16, y, j, 0xFFFF), sum);
    return _mm512_reduce_add_ps(sum);
}

/* Memories (rows, width), one for each head, into such of whole vectors, and back; zeros where there are none. */
static void widened(int64_t heads, const float *from, int64_t rows, int64_t width, float *to, int64_t whole_rows, int64_t whole_width) {
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < whole_rows; i++, to += whole_width)
            for (int64_t j = 0; j < whole_width; j += 16) {
                const __mmask16 there = from && i < rows && j < width ? first(width - j) : 0;
                _mm512_storeu_ps(to + j, load(0, from, (h * rows + i) * width + j, there));
            }
}

static void narrowed(int64_t heads, const float *from, int64_t whole_rows, int64_t whole_width, float *to, int64_t rows, int64_t width) {
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < rows; i++)
            memcpy(to + (h * rows + i) * width, from + (h * whole_rows + i) * whole_width, width * sizeof *to);
}

/* Rows as they are multiplied, each times its factor. */
static inline __attribute__((always_inline)) void fade(const int bf16, void *x, const float *by, int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i * width; j < (i + 1) * width; j += 16)
            store(bf16, x, j, 0xFFFF, _mm512_mul_ps(load(bf16, x, j, 0xFFFF), _mm512_set1_ps(by[i])));
}

/* How many groups the heads of a row make: as many as give all threads equally much to do and keep a group's memories, `size` numbers
 * each, in the cache. Heads of a group take turns, chunk by chunk: their vectors lie side by side, on the same pages. */
static int64_t groups(const Shape *s, int64_t size, int64_t threads) {
    int64_t count = (s->heads * size + HELD - 1) / HELD;
    while (count < s->heads && s->rows * count % threads) count++;
    return count < s->heads ? count : s->heads;
}

/* The heads of a task: `count` of a row from `begin` on, of all from `head` on. */
typedef struct {
    int64_t row, begin, head, count;
} Group;

static Group group(const Shape *s, int64_t task, int64_t parts) {
    const int64_t row = task / parts, part = task % parts, begin = part * s->heads / parts;
    return (Group){row, begin, row * s->heads + begin, (part + 1) * s->heads / parts - begin};
}

/* What a thread holds of a chunk. Names end in `z` of pairs of rows, in `a` of pairs of columns; those of gradients begin with d. */
typedef struct {
    uint32_t *q, *k, *v, *u, *g, *p, *h, *x, *s, *d;             /* as gathered or settled: (rows, units) */
    uint32_t *qz, *kz, *uz, *gz, *pz, *hz, *sz, *dz, *ka, *ua, *sa, *da;
    float *scores, *keys, *e, *y, *w, *dq, *dk, *dr;             /* (rows, rows) twice, (rows, width) */
    float *states, *totals;                                      /* of each head (features, values), and the sum of keys */
} Work;

static int64_t divide(Work *w, char *memory, int64_t heads, int64_t features, int64_t values, int back) {
    char *free_ = memory;
    const int64_t f = CHUNK * features * 4, v = CHUNK * values * 4, c = CHUNK * CHUNK * 4, s = features * values * 4;
    w->states = part(&free_, heads * s), w->totals = part(&free_, heads * features * 4);
    w->q = part(&free_, f), w->k = part(&free_, f), w->kz = part(&free_, f), w->ka = part(&free_, f);
    w->v = part(&free_, v), w->u = part(&free_, v), w->uz = part(&free_, v), w->p = part(&free_, c);
    w->s = part(&free_, s), w->sz = part(&free_, s);
    w->scores = part(&free_, c), w->keys = part(&free_, c), w->e = part(&free_, v), w->w = part(&free_, v), w->y = part(&free_, v);
    if (!back) return free_ - memory;
    w->g = part(&free_, v), w->gz = part(&free_, v), w->x = part(&free_, v), w->ua = part(&free_, v);
    w->h = part(&free_, c), w->pz = part(&free_, c), w->hz = part(&free_, c), w->qz = part(&free_, f);
    w->d = part(&free_, s), w->dz = part(&free_, s), w->sa = part(&free_, s), w->da = part(&free_, s);
    w->dq = part(&free_, f), w->dk = part(&free_, f), w->dr = part(&free_, f);
    return free_ - memory;
}
