/* Fast weights over time with their gradient: chunks of 32 or 64 positions, one after the other, everything of a chunk in the cache.
 *
 *     S_t = a_t S_{t-1} + k_t u_t',  y_t = S_t' q_t,  u = v, or for the delta rule u = beta e, e = v - a S' k
 *
 * Within a chunk what query i gets of key j is `within` (i, j), the decay from j to i, of the memory before the chunk `carry` (i); of
 * key j the memory after the chunk gets `leave` (j). So, with M = (k k') within below the diagonal,
 *
 *     e = v - carry (k S) - M u,  y = ((q k') within) u + carry (q S),  S = keep S + (leave k)' u
 *
 * The errors e are found by substitution, row by row, in float32: powers of M cancel catastrophically once keys repeat. The backward
 * pass has the memory before every chunk, and e; all else it makes again. The memory is float32.
 *
 * A head is worked on by one thread, so results do not depend on the number of threads. Functions return 0, or 1 where there is no
 * memory left.
 */
#include "chunks.h"

/* What the forward pass leaves for the backward pass: the memory before every chunk, rounded, and the sum of keys; e; what outputs
 * were divided by. */
typedef struct {
    void *memory, *errors;
    float *total, *shares;
} Kept;

static inline __attribute__((always_inline)) int64_t forward(
    const int bf16, const Shape *s, const void *q, const void *k, const void *v, const Extra *x, const float *start,
    const float *start_total, float eps, void *y, float *end, float *end_total, const Kept *kept, int64_t threads) {
    const int64_t F = whole(s->features, 16), V = whole(s->values, 16), chunks = (s->time + s->chunk - 1) / s->chunk, per = bf16 ? 2 : 1;
    int64_t failed = 0;
    if (s->rows * s->heads * s->time * F < LITTLE) threads = 1;
    const int64_t parts = groups(s, F * V, threads), most = (s->heads + parts - 1) / parts, size = s->features * s->values;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Work w;
        Chunk c;
        char *memory = aligned_alloc(64, divide(&w, NULL, most, F, V, 0));
        failed |= !memory;
        divide(&w, memory, most, F, V, 0);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s->rows * parts; task++) {
            if (!memory) continue;
            const Group own = group(s, task, parts);
            widened(own.count, start ? start + own.head * size : NULL, s->features, s->values, w.states, F, V);
            widened(own.count, start_total ? start_total + own.head * s->features : NULL, 1, s->features, w.totals, 1, F);
            for (int64_t step = 0; step < chunks * own.count; step++) {
                const int64_t n = step / own.count, t = n * s->chunk, one = step % own.count;
                const int64_t row = own.row, h = own.begin + one, head = own.head + one;
                const int64_t now = head * chunks + n, position = head * s->time + t;
                float *state = w.states + one * F * V, *total = w.totals + one * F;
                begin(s, x, head, t, &c);
                gather(bf16, at(bf16, q, place(s->q, row, h, t)), s->q[2], c.count, s->features, c.pad, w.q, c.rows, F);
                gather(bf16, at(bf16, k, place(s->k, row, h, t)), s->k[2], c.count, s->features, c.pad, w.k, c.rows, F);
                gather(bf16, at(bf16, v, place(s->v, row, h, t)), s->v[2], c.count, s->values, c.pad, w.u, c.rows, V);
                across(w.k, 4 * (F / per), c.rows, c.rows, F / per, w.ka);
                const uint32_t *kz = zipped(bf16, w.k, c.rows, F, w.kz);
                uint32_t *low = kept->memory ? (uint32_t *)kept->memory + now * F * V / per : w.s;
                settle(bf16, state, F, V, NULL, low);
                const uint32_t *sz = zipped(bf16, low, F, V, w.sz);
                if (x->beta) {
                    product(bf16, NEAR, c.rows, 0, F, w.k, F / per, 1, w.ka, c.rows, w.keys, CHUNK, 0);
                    weigh(&c, 1, w.keys);
                    product(bf16, ALL, c.rows, V, F, w.k, F / per, 1, sz, V, w.e, V, 0);
                    for (int64_t i = 0; i < c.rows; i++)
                        for (int64_t j = i * V; j < (i + 1) * V; j += 16)
                            _mm512_storeu_ps(w.e + j, _mm512_fnmadd_ps(
                                _mm512_set1_ps(c.carry[i]), _mm512_loadu_ps(w.e + j), load(bf16, w.u, j, 0xFFFF)));
                    substitute(0, &c, w.keys, w.e, w.w, V);
                    if (kept->errors)
                        scatter(bf16, w.e, V, c.pad, c.count, s->values, (void *)at(bf16, kept->errors, position * s->values), s->values);
                    settle(bf16, w.w, c.rows, V, NULL, w.u);
                }
                const uint32_t *uz = zipped(bf16, w.u, c.rows, V, w.uz);
                product(bf16, NEAR, c.rows, 0, F, w.q, F / per, 1, w.ka, c.rows, w.scores, CHUNK, 0);
                weigh(&c, 0, w.scores);
                settle(bf16, w.scores, c.rows, CHUNK, NULL, w.p);
                product(bf16, ALL, c.rows, V, F, w.q, F / per, 1, sz, V, w.y, V, 0);
                if (!c.plain) scale(w.y, c.carry, c.rows, V);
                product(bf16, PAST, c.rows, V, 0, w.p, CHUNK / per, 1, uz, V, w.y, V, 1);
                if (end_total) {
                    float inverse[CHUNK];
                    if (kept->total) memcpy(kept->total + now * F, total, F * 4);
                    for (int64_t i = 0; i < c.rows; i++) {
                        float share = c.carry[i] * dot(bf16, at(bf16, w.q, i * F), 0, total, F) + eps;
                        for (int64_t j = 0; j <= i; j += 16) share += _mm512_reduce_add_ps(_mm512_loadu_ps(w.scores + i * CHUNK + j));
                        if (kept->shares && i < c.count) kept->shares[position + i] = share;
                        inverse[i] = 1.0f / share;
                    }
                    scale(w.y, inverse, c.rows, V);
                    scale(total, &c.keep, 1, F);
                    for (int64_t i = 0; i < c.rows; i++) add_row(bf16, at(bf16, w.k, i * F), c.leave[i], F, total);
                }
                scatter(bf16, w.y, V, c.pad, c.count, s->values, (void *)at(bf16, y, place(s->y, row, h, t)), s->y[2]);
                if (!c.plain) {
                    scale(state, &c.keep, 1, F * V);
                    fade(bf16, w.u, c.leave, c.rows, V);
                    uz = zipped(bf16, w.u, c.rows, V, w.uz);
                }
                product(bf16, ALL, F, V, c.rows, kz, 1, F, uz, V, state, V, 1);
            }
            narrowed(own.count, w.states, F, V, end + own.head * size, s->features, s->values);
            if (end_total) narrowed(own.count, w.totals, 1, F, end_total + own.head * s->features, 1, s->features);
        }
        free(memory);
    }
    return failed;
}

int64_t genus_chunks(
    const Shape *s, int64_t bf16, const void *q, const void *k, const void *v, const float *decay, const float *beta,
    const uint8_t *fresh, const uint8_t *pad, const float *start, const float *start_total, const float *eps, void *y, float *end,
    float *end_total, void *memory, void *errors, float *total, float *shares, int64_t threads) {
    const Extra x = {decay, beta, fresh, pad};
    const Kept kept = {memory, errors, total, shares};
    if (bf16) return forward(1, s, q, k, v, &x, start, start_total, *eps, y, end, end_total, &kept, threads);
    return forward(0, s, q, k, v, &x, start, start_total, *eps, y, end, end_total, &kept, threads);
}

/* What comes back, (rows, heads, time) and memories where they are asked for, dense. */
typedef struct {
    void *q, *k, *v;
    float *decay, *beta, *start, *start_total;
} Gradient;

/* The gradient of logarithms of decays from the gradients of what they are summed to, `flow` (i), and of what of key j is left at the
 * end, `leave` (j), and of the memory, `keep`. */
static void unsum(const Chunk *c, const float *decay, const float *flow, const float *leave, float keep, float *to) {
    float before[CHUNK], sum = keep;
    for (int64_t i = 0; i < c->count; i++) before[i] = sum, sum += leave[i];
    sum = 0.0f;
    for (int64_t i = c->count - 1; i >= 0; i--) {
        sum += flow[i];
        to[i] = (c->pad && c->pad[i]) || decay[i] < STEEPEST ? 0.0f : sum + before[i];
    }
}

static inline __attribute__((always_inline)) int64_t backward(
    const int bf16, const Shape *s, const void *q, const void *k, const void *v, const Extra *x, const void *y, const Kept *kept,
    const void *g, const float *end, const float *end_total, const Gradient *to, int64_t threads) {
    const int64_t F = whole(s->features, 16), V = whole(s->values, 16), chunks = (s->time + s->chunk - 1) / s->chunk, per = bf16 ? 2 : 1;
    const int64_t fu = F / per, vu = V / per, cu = CHUNK / per;
    int64_t failed = 0;
    if (s->rows * s->heads * s->time * F < LITTLE) threads = 1;
    const int64_t parts = groups(s, F * V, threads), most = (s->heads + parts - 1) / parts, size = s->features * s->values;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Work w;
        Chunk c;
        char *memory = aligned_alloc(64, divide(&w, NULL, most, F, V, 1));
        failed |= !memory;
        divide(&w, memory, most, F, V, 1);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s->rows * parts; task++) {
            if (!memory) continue;
            const Group own = group(s, task, parts);
            widened(own.count, end ? end + own.head * size : NULL, s->features, s->values, w.states, F, V);
            widened(own.count, end_total ? end_total + own.head * s->features : NULL, 1, s->features, w.totals, 1, F);
            for (int64_t step = 0; step < chunks * own.count; step++) {
                const int64_t n = chunks - 1 - step / own.count, t = n * s->chunk, one = step % own.count;
                const int64_t row = own.row, h = own.begin + one, head = own.head + one;
                const int64_t now = head * chunks + n, position = head * s->time + t;
                float *state = w.states + one * F * V, *total = w.totals + one * F;
                begin(s, x, head, t, &c);
                const int64_t r = c.rows;
                float slope[CHUNK] = {0}, less[CHUNK], flow[CHUNK], left[CHUNK];
                gather(bf16, at(bf16, q, place(s->q, row, h, t)), s->q[2], c.count, s->features, c.pad, w.q, r, F);
                gather(bf16, at(bf16, k, place(s->k, row, h, t)), s->k[2], c.count, s->features, c.pad, w.k, r, F);
                gather(bf16, at(bf16, g, place(s->g, row, h, t)), s->g[2], c.count, s->values, c.pad, w.g, r, V);
                if (x->beta) {
                    gather(bf16, at(bf16, kept->errors, position * s->values), s->values, c.count, s->values, c.pad, w.v, r, V);
                    memcpy(w.u, w.v, r * vu * 4);
                    fade(bf16, w.u, c.beta, r, V);
                } else gather(bf16, at(bf16, v, place(s->v, row, h, t)), s->v[2], c.count, s->values, c.pad, w.u, r, V);
                if (kept->shares) {
                    gather(bf16, at(bf16, y, place(s->y, row, h, t)), s->y[2], c.count, s->values, c.pad, w.x, r, V);
                    for (int64_t i = 0; i < r; i++) less[i] = i < c.count ? 1.0f / kept->shares[position + i] : 0.0f;
                    fade(bf16, w.g, less, r, V);
                    for (int64_t i = 0; i < r; i++) slope[i] = -dot(bf16, at(bf16, w.g, i * V), bf16, at(bf16, w.x, i * V), V);
                }
                const uint32_t *low = (const uint32_t *)kept->memory + now * F * vu;
                settle(bf16, state, F, V, NULL, w.d);
                const uint32_t *qz = zipped(bf16, w.q, r, F, w.qz), *kz = zipped(bf16, w.k, r, F, w.kz);
                const uint32_t *gz = zipped(bf16, w.g, r, V, w.gz), *dz = zipped(bf16, w.d, F, V, w.dz);
                across(w.k, 4 * fu, r, r, fu, w.ka), across(w.u, 4 * vu, r, r, vu, w.ua);
                across(low, 4 * vu, F, F, vu, w.sa), across(w.d, 4 * vu, F, F, vu, w.da);

                /* To u, w.w, and through the errors to v, w.e. */
                product(bf16, NEAR, r, 0, F, w.q, fu, 1, w.ka, r, w.scores, CHUNK, 0);
                weigh(&c, 0, w.scores);
                settle(bf16, w.scores, r, CHUNK, NULL, w.p);
                const uint32_t *pz = zipped(bf16, w.p, r, CHUNK, w.pz);
                product(bf16, ALL, r, V, F, w.k, fu, 1, dz, V, w.w, V, 0);
                if (!c.plain) scale(w.w, c.leave, r, V);
                product(bf16, LATER, r, V, r, pz, 1, CHUNK, gz, V, w.w, V, 1);
                if (x->beta) {
                    product(bf16, NEAR, r, 0, F, w.k, fu, 1, w.ka, r, w.keys, CHUNK, 0);
                    weigh(&c, 1, w.keys);
                    substitute(1, &c, w.keys, w.w, w.e, V);
                    for (int64_t i = 0; i < c.count; i++)
                        to->beta[position + i] = dot(bf16, at(bf16, w.v, i * V), 0, w.w + i * V, V);
                    settle(bf16, w.e, r, V, NULL, w.x);
                }
                scatter(
                    bf16, x->beta ? w.e : w.w, V, c.pad, c.count, s->values, (void *)at(bf16, to->v, place(s->dv, row, h, t)), s->dv[2]);

                /* To q: through what it reads of the chunk and of the memory before it. */
                product(bf16, NEAR, r, 0, V, w.g, vu, 1, w.ua, r, w.scores, CHUNK, 0);
                for (int64_t i = 0; kept->shares && i < r; i++)
                    for (int64_t j = 0; j <= i; j++) w.scores[i * CHUNK + j] += slope[i];
                weigh(&c, 0, w.scores);
                settle(bf16, w.scores, r, CHUNK, NULL, w.p);
                pz = zipped(bf16, w.p, r, CHUNK, w.pz);
                product(bf16, ALL, r, F, V, w.g, vu, 1, w.sa, F, w.dq, F, 0);
                for (int64_t i = 0; kept->shares && i < r; i++) add_row(0, kept->total + now * F, slope[i], F, w.dq + i * F);
                if (!c.plain) scale(w.dq, c.carry, r, F);
                product(bf16, PAST, r, F, 0, w.p, cu, 1, kz, F, w.dq, F, 1);
                scatter(bf16, w.dq, F, c.pad, c.count, s->features, (void *)at(bf16, to->q, place(s->dq, row, h, t)), s->dq[2]);

                /* To k: of what is left at the end, of what is read within the chunk, and of what the delta rule reads, w.dr. */
                product(bf16, ALL, r, F, V, w.u, vu, 1, w.da, F, w.dk, F, 0);
                for (int64_t i = 0; kept->shares && i < r; i++) add_row(0, total, 1.0f, F, w.dk + i * F);
                if (!c.plain) scale(w.dk, c.leave, r, F);
                for (int64_t i = 0; i < r; i++) left[i] = x->decay ? dot(bf16, at(bf16, w.k, i * F), 0, w.dk + i * F, F) : 0.0f;
                product(bf16, LATER, r, F, r, pz, 1, CHUNK, qz, F, w.dk, F, 1);
                if (x->beta) {
                    for (int64_t i = 0; i < r; i++) less[i] = -c.carry[i];
                    product(bf16, NEAR, r, 0, V, w.x, vu, 1, w.ua, r, w.keys, CHUNK, 0);
                    weigh(&c, 1, w.keys);
                    settle(bf16, w.keys, r, CHUNK, NULL, w.h);
                    const uint32_t *hz = zipped(bf16, w.h, r, CHUNK, w.hz);
                    product(bf16, LATER, r, F, r, hz, 1, CHUNK, kz, F, w.dk, F, 1);
                    product(bf16, ALL, r, F, V, w.x, vu, 1, w.sa, F, w.dr, F, 0);
                    scale(w.dr, less, r, F);
                    product(bf16, PAST, r, F, 0, w.h, cu, 1, kz, F, w.dr, F, 1);
                }
                if (x->decay) {
                    for (int64_t i = 0; i < r; i++) {
                        const void *key = at(bf16, w.k, i * F);
                        flow[i] = dot(bf16, at(bf16, w.q, i * F), 0, w.dq + i * F, F) - (dot(bf16, key, 0, w.dk + i * F, F) - left[i]);
                        if (x->beta) flow[i] += dot(bf16, key, 0, w.dr + i * F, F);
                    }
                    float keep = dot(bf16, low, 0, state, F * V);
                    if (kept->shares) keep += dot(0, kept->total + now * F, 0, total, F);
                    unsum(&c, x->decay + position, flow, left, keep * c.keep, to->decay + position);
                }
                for (int64_t i = 0; x->beta && i < r; i++) add_row(0, w.dr + i * F, 1.0f, F, w.dk + i * F);
                scatter(bf16, w.dk, F, c.pad, c.count, s->features, (void *)at(bf16, to->k, place(s->dk, row, h, t)), s->dk[2]);

                /* To the memory before the chunk. */
                if (!c.plain) {
                    scale(state, &c.keep, 1, F * V);
                    fade(bf16, w.g, c.carry, r, V);
                    gz = zipped(bf16, w.g, r, V, w.gz);
                }
                product(bf16, ALL, F, V, r, qz, 1, F, gz, V, state, V, 1);
                if (x->beta) {
                    fade(bf16, w.x, less, r, V);
                    product(bf16, ALL, F, V, r, kz, 1, F, zipped(bf16, w.x, r, V, w.gz), V, state, V, 1);
                }
                if (kept->shares) {
                    scale(total, &c.keep, 1, F);
                    for (int64_t i = 0; i < r; i++) add_row(bf16, at(bf16, w.q, i * F), c.carry[i] * slope[i], F, total);
                }
            }
            if (to->start) narrowed(own.count, w.states, F, V, to->start + own.head * size, s->features, s->values);
            if (to->start_total) narrowed(own.count, w.totals, 1, F, to->start_total + own.head * s->features, 1, s->features);
        }
        free(memory);
    }
    return failed;
}

int64_t genus_chunks_back(
    const Shape *s, int64_t bf16, const void *q, const void *k, const void *v, const float *decay, const float *beta,
    const uint8_t *fresh, const uint8_t *pad, const void *y, void *memory, void *errors, float *total, float *shares, const void *g,
    const float *end, const float *end_total, void *dq, void *dk, void *dv, float *d_decay, float *d_beta, float *start,
    float *start_total, int64_t threads) {
    const Extra x = {decay, beta, fresh, pad};
    const Kept kept = {memory, errors, total, shares};
    const Gradient to = {dq, dk, dv, d_decay, d_beta, start, start_total};
    if (bf16) return backward(1, s, q, k, v, &x, y, &kept, g, end, end_total, &to, threads);
    return backward(0, s, q, k, v, &x, y, &kept, g, end, end_total, &to, threads);
}
