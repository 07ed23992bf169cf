/* Matrix products in bf16 for training: y = x W', and what comes back to x and to W.
 *
 * VDPBF16PS adds to 16 sums the products of pairs of numbers, so whatever is summed over lies in pairs. The right factor is laid out
 * in panels of 64 columns (pairs, 64), rounded to bf16 on the way; of the left one a pair of a row is read straight from memory, or,
 * where it lies the other way round, from panels of 6 rows. Six rows by 64 columns are summed in registers, in float32.
 *
 * A result is the work of one thread, its sum in an order that does not depend on the number of threads. Every function returns 0,
 * or 1 where there is no memory left.
 */
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

enum {
    WIDE = 64,    /* columns of a panel */
    HIGH = 6,     /* rows that are summed at a time */
    LINE = 48,    /* columns of a left factor that are laid out at a time */
    SLAB = 1536,  /* columns of it that meet all panels before the next ones come */
    DEEP = 256,   /* pairs of rows of a gradient's factors that are summed at a time, so that their panels stay in the cache */
    BLOCK = 240,  /* rows of the left factor that meet all panels before the next ones come */
};

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t parts(int64_t count, int64_t of) { return (count + of - 1) / of; }

/* The mask of the numbers of a vector that lie within `left`. */
static inline __mmask16 within(int64_t left) { return left > 0 ? first(left) : 0; }

/* A term of a sum of products: `steps` pairs of each row of a, by (steps, 64) pairs of a panel. Strides count pairs. */
typedef struct {
    const uint32_t *a, *panel;
    int64_t a_row, a_step, steps;
} Term;

/* Where it goes: `columns` numbers of each row, `row` apart, in bf16, or in float32, where they may be added to what is there. `bias` may
 * be none; so may `plus`, bf16 that lies as the result does: then it is times[0] of the sum and times[1] of that. */
typedef struct {
    void *to;
    const float *bias;
    int64_t row, columns, bf16, add;
    const uint16_t *plus;
    const float *times;
} Result;

static inline __m512i pair(const uint32_t *at) {
    int32_t both;
    memcpy(&both, at, 4);
    return _mm512_set1_epi32(both);
}

static inline __attribute__((always_inline)) void put(const Result *y, int64_t at, __mmask16 mask, __m512 x) {
    if (y->bf16) store(1, y->to, at, mask, x);
    else store(0, y->to, at, mask, y->add ? _mm512_add_ps(x, load(0, y->to, at, mask)) : x);
}

static inline __attribute__((always_inline)) void tile(
    const int rows, const int vectors, const Term *terms, int64_t count, int64_t i, const Result *y) {
    __m512 sum[HIGH][4];
    for (int r = 0; r < rows; r++) { /* the memory is told what is written in the end, or that takes longer than the sums of a few pairs */
        const char *at = (const char *)y->to + (i + r) * y->row * (y->bf16 ? 2 : 4);
        for (int64_t byte = 0; byte < y->columns * (y->bf16 ? 2 : 4); byte += 64) __builtin_prefetch(at + byte, 1);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
    for (const Term *t = terms; t < terms + count; t++) {
        const int64_t a_row = t->a_row, a_step = t->a_step;
        const uint32_t *a = t->a + i * a_row, *b = t->panel;
        for (int64_t s = t->steps; s > 0; s--, a += a_step, b += WIDE) {
            __m512bh w[4];
            for (int v = 0; v < vectors; v++) w[v] = (__m512bh)_mm512_loadu_si512(b + 16 * v);
            for (int r = 0; r < rows; r++) {
                const __m512bh both = (__m512bh)pair(a + r * a_row);
                for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], both, w[v]);
            }
        }
    }
    for (int v = 0; v < vectors; v++) {
        const __mmask16 mask = within(y->columns - 16 * v);
        if (y->bias)
            for (int r = 0; r < rows; r++) sum[r][v] = _mm512_add_ps(sum[r][v], _mm512_maskz_loadu_ps(mask, y->bias + 16 * v));
        for (int r = 0; r < rows; r++) {
            const int64_t at = (i + r) * y->row + 16 * v;
            if (y->plus) {
                const __m512 part = _mm512_mul_ps(_mm512_set1_ps(y->times[1]), load(1, y->plus, at, mask));
                sum[r][v] = _mm512_fmadd_ps(_mm512_set1_ps(y->times[0]), sum[r][v], part);
            }
            if (mask == 0xFFFF) put(y, at, 0xFFFF, sum[r][v]);
            else put(y, at, mask, sum[r][v]);
        }
    }
}

#define TILE(ROWS, VECTORS) \
    case 8 * VECTORS + ROWS: tile(ROWS, VECTORS, terms, count, i, y); break;
#define TILES(ROWS) TILE(ROWS, 4) TILE(ROWS, 2) TILE(ROWS, 1)

/* The rows from `i` up to `last`. */
static void sums(int64_t i, int64_t last, const Term *terms, int64_t count, const Result *y) {
    const int64_t vectors = y->columns > 32 ? 4 : y->columns > 16 ? 2 : 1;
    for (int64_t high; i < last; i += high) {
        high = last - i >= 6 ? 6 : last - i >= 4 ? 4 : last - i >= 2 ? 2 : 1;
        switch (8 * vectors + high) { TILES(6) TILES(4) TILES(2) TILES(1) }
    }
}

/* 32 numbers in bf16. */
static inline __m512i numbers(int64_t bf16, const void *base, int64_t at, int64_t count) {
    const __mmask32 mask = count < 32 ? (1u << count) - 1 : 0xFFFFFFFF;
    if (bf16) return _mm512_maskz_loadu_epi16(mask, (const uint16_t *)base + at);
    const __m512 low = _mm512_maskz_loadu_ps(mask, (const float *)base + at), high = _mm512_maskz_loadu_ps(mask >> 16, (const float *)base + at + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* A panel (size / 2, 64) of `columns` rows of `from`, each `size` numbers, even: the pairs of a row become a column. */
static void upright(int64_t bf16, const void *from, int64_t columns, int64_t size, uint32_t *panel) {
    for (int64_t c = 0; c < WIDE; c += 16)
        for (int64_t j = 0; j < size; j += 32) {
            __m512i r[16];
            for (int64_t i = 0; i < 16; i++) r[i] = c + i < columns ? numbers(bf16, from, (c + i) * size + j, size - j) : _mm512_setzero_si512();
            turn(r);
            for (int64_t i = 0; i < 16 && j + 2 * i < size; i++) _mm512_storeu_si512(panel + (j / 2 + i) * WIDE + c, r[i]);
        }
}

/* A panel (rows / 2, 64) of `columns` columns of `from`, `stride` numbers from row to row: neighbouring rows become pairs. */
static void zipped(int64_t bf16, const void *from, int64_t stride, int64_t rows, int64_t columns, uint32_t *panel) {
    const __m512i low = _mm512_set_epi16(
        47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (int64_t i = 0; i < rows; i += 2)
        for (int64_t c = 0; c < WIDE; c += 32) {
            const int64_t left = columns > c ? columns - c : 0;
            const __m512i one = numbers(bf16, from, i * stride + c, left);
            const __m512i two = i + 1 < rows ? numbers(bf16, from, (i + 1) * stride + c, left) : _mm512_setzero_si512();
            _mm512_storeu_si512(panel + i / 2 * WIDE + c, _mm512_permutex2var_epi16(one, low, two));
            _mm512_storeu_si512(panel + i / 2 * WIDE + c + 16, _mm512_permutex2var_epi16(one, high, two));
        }
}

/* Panels (rows / 2, 6) of `columns` columns of `from`, at most 48, the panels one after the other: neighbouring rows become pairs. */
static void sixes(const uint16_t *from, int64_t stride, int64_t rows, int64_t columns, uint32_t *panels) {
    const int64_t size = parts(rows, 2) * HIGH;
    for (int64_t i = 0; i < rows; i += 2, from += 2 * stride, panels += HIGH) {
        uint32_t *to = panels;
        for (int64_t c = 0; c < columns; c += HIGH, to += size) {
            const __mmask8 mask = (1u << least(HIGH, columns - c)) - 1;
            const __m128i one = _mm_maskz_loadu_epi16(mask, from + c);
            const __m128i two = i + 1 < rows ? _mm_maskz_loadu_epi16(mask, from + stride + c) : _mm_setzero_si128();
            _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(one, two));
            _mm_storel_epi64((__m128i *)(to + 4), _mm_unpackhi_epi16(one, two));
        }
    }
}

/* sums (columns), at most 48, and of every column the numbers of `rows` rows of `from`. */
static void sum_rows(const uint16_t *from, int64_t stride, int64_t rows, int64_t columns, float *sums) {
    __m512 even[LINE / 16], odd[LINE / 16];
    for (int v = 0; v < LINE / 16; v++) even[v] = odd[v] = _mm512_setzero_ps();
    for (int64_t i = 0; i < rows; i += 2)
        for (int v = 0; v < LINE / 16; v++) {
            const __mmask16 mask = within(columns - 16 * v);
            even[v] = _mm512_add_ps(even[v], load(1, from, i * stride + 16 * v, mask));
            odd[v] = _mm512_add_ps(odd[v], load(1, from, (i + 1) * stride + 16 * v, i + 1 < rows ? mask : 0));
        }
    for (int v = 0; v < LINE / 16; v++) {
        const __mmask16 mask = within(columns - 16 * v);
        store(0, sums, 16 * v, mask, _mm512_add_ps(load(0, sums, 16 * v, mask), _mm512_add_ps(even[v], odd[v])));
    }
}

/* A left factor (rows, size) in bf16, its rows `stride` numbers apart (even), and a right one, bf16 or float32: (columns, size) where
 * `across`, or else (size, columns). `size` is even. */
typedef struct {
    const uint32_t *a;
    const void *b;
    int64_t stride, size, bf16, across;
} Factors;

/* The rows of panel p of y (size, size) become the columns of the panels before it. */
static void mirror(uint16_t *y, int64_t size, int64_t p) {
    for (int64_t i = p * WIDE; i < least(size, (p + 1) * WIDE); i += 16)
        for (int64_t j = 0; j < p * WIDE; j += 16) {
            __m512i r[16];
            for (int64_t k = 0; k < 16; k++)
                r[k] = i + k < size ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(y + (i + k) * size + j))) : _mm512_setzero_si512();
            turn(r);
            for (int64_t k = 0; k < 16; k++) _mm256_mask_storeu_epi16(y + (j + k) * size + i, first(size - i), _mm512_cvtepi32_epi16(r[k]));
        }
}

/* y (rows, columns), bf16 or float32 = the sum of `count` products, and `bias` (columns) where there is one; `add`: and y, float32.
 * `plus`, as in Result, or none. `symmetric`: y is known to be so, and in bf16; half of it is computed. */
int64_t genus_product(
    const Factors *factors, int64_t count, int64_t rows, int64_t columns, const float *bias, void *y, int64_t bf16, int64_t add,
    const uint16_t *plus, const float *times, int64_t symmetric, int64_t threads) {
    if (rows < 1 || columns < 1) return 0;
    const int64_t panels = parts(columns, WIDE), shares = parts(parts(rows, symmetric ? BLOCK / 2 : BLOCK), threads) * threads;
    const int64_t high = parts(parts(rows, shares), HIGH) * HIGH;
    int64_t pairs = 0;
    for (const Factors *f = factors; f < factors + count; f++) pairs += f->size / 2;
    uint32_t *packed = aligned_alloc(64, panels * pairs * WIDE * 4);
    if (!packed) return 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t p = 0; p < panels; p++) {
            uint32_t *panel = packed + p * pairs * WIDE;
            const int64_t from = p * WIDE, wide = least(WIDE, columns - from);
            for (const Factors *f = factors; f < factors + count; panel += f++->size / 2 * WIDE) {
                const char *b = (const char *)f->b + from * (f->across ? f->size : 1) * (f->bf16 ? 2 : 4);
                if (f->across) upright(f->bf16, b, wide, f->size, panel);
                else zipped(f->bf16, b, columns, f->size, wide, panel);
            }
        }
#pragma omp for schedule(static, 1)
        for (int64_t share = 0; share < shares; share++)
            for (int64_t p = 0; p < panels; p++) {
                const int64_t from = p * WIDE, above = symmetric ? from : 0, begin = share * high;
                const Result part = {
                    (char *)y + from * (bf16 ? 2 : 4), bias ? bias + from : NULL, columns, least(WIDE, columns - from), bf16, add,
                    plus ? plus + from : NULL, times};
                Term terms[count];
                const uint32_t *panel = packed + p * pairs * WIDE;
                for (int64_t f = 0; f < count; panel += factors[f++].size / 2 * WIDE)
                    terms[f] = (Term){factors[f].a, panel, factors[f].stride / 2, 1, factors[f].size / 2};
                sums(begin > above ? begin : above, least(rows, begin + high), terms, count, &part);
            }
#pragma omp for schedule(static, 1)
        for (int64_t p = 1; p < (symmetric ? panels : 1); p++) mirror(y, columns, p);
    }
    free(packed);
    return 0;
}

/* sums (columns), float32, and what the columns of a (rows, columns) sum to; rows `stride` numbers apart. */
int64_t genus_sum_rows(const uint16_t *a, int64_t stride, int64_t rows, int64_t columns, float *sums, int64_t threads) {
    if (rows * columns < LITTLE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < columns; c += LINE)
        for (int64_t from = 0; from < rows; from += 2 * DEEP)
            sum_rows(a + from * stride + c, stride, least(2 * DEEP, rows - from), least(LINE, columns - c), sums + c);
    return 0;
}

/* y (rows, columns), float32 = a' b of a (size, rows) and b (size, columns), rows `a_stride` and `b_stride` numbers apart; `add`: and
 * what is there. What the columns of a sum to is added to `totals` (rows), or to none. */
int64_t genus_product_back(
    const uint16_t *a, int64_t a_stride, const uint16_t *b, int64_t b_stride, int64_t size, int64_t rows, int64_t columns, float *y,
    float *totals, int64_t add, int64_t threads) {
    if (size < 1 && !add) memset(y, 0, rows * columns * sizeof *y);
    if (size < 1 || rows < 1 || columns < 1) return 0;
    const int64_t panels = parts(columns, WIDE), deep = least(DEEP, parts(size, 2));
    uint32_t *left = aligned_alloc(64, parts(least(parts(rows, HIGH) * HIGH, SLAB) * deep * 4, 64) * 64);
    uint32_t *right = aligned_alloc(64, panels * deep * WIDE * 4);
    const int64_t failed = !left || !right;
#pragma omp parallel num_threads(threads)
    for (int64_t from = 0; from < size && !failed; from += 2 * DEEP) {
        const int64_t now = least(2 * DEEP, size - from), pairs = parts(now, 2);
#pragma omp for schedule(static) nowait
        for (int64_t p = 0; p < panels; p++)
            zipped(1, b + from * b_stride + p * WIDE, b_stride, now, least(WIDE, columns - p * WIDE), right + p * pairs * WIDE);
        for (int64_t slab = 0; slab < rows; slab += SLAB) {
            const int64_t high = least(SLAB, rows - slab), count = parts(high, HIGH);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < high; i += LINE) {
                const uint16_t *at = a + from * a_stride + slab + i;
                if (totals) sum_rows(at, a_stride, now, least(LINE, high - i), totals + slab + i);
                sixes(at, a_stride, now, least(LINE, high - i), left + i * pairs);
            }
#pragma omp for schedule(static)
            for (int64_t share = 0; share < threads; share++)
                for (int64_t p = 0; p < panels; p++)
                    for (int64_t s = count * share / threads; s < count * (share + 1) / threads; s++) {
                        const Term term = {left + s * pairs * HIGH, right + p * pairs * WIDE, 1, HIGH, pairs};
                        const Result part = {
                            y + (slab + s * HIGH) * columns + p * WIDE, NULL, columns, least(WIDE, columns - p * WIDE), 0, add || from > 0};
                        sums(0, least(HIGH, high - s * HIGH), &term, 1, &part);
                    }
        }
    }
    free(left);
    free(right);
    return failed;
}
