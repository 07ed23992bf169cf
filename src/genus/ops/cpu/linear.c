/* Products of a few rows with a matrix that is stored for decoding, in bf16 or in 8 or 4 bits.
 *
 * A step of decoding reads every weight once and does little with it, so the weights should arrive in the order in which they
 * are used, and as few bytes as possible. A matrix (outputs, inputs) lies in tiles of 64 outputs, four vectors of 16.
 *
 * bf16: a vector of 512 bits holds the weights of two neighbouring inputs for 16 outputs; VDPBF16PS multiplies them by a pair of
 * numbers of a row.
 *
 * 8 and 4 bits: it holds four neighbouring inputs for 16 outputs, as numbers from 0 on; VPDPBUSD multiplies them by four numbers
 * of a row, which are rounded to 8 bits with a scale for every 32 inputs, or 128. In 4 bits, a byte holds a weight of one vector, and of
 * the next in its upper half. Rows that are given in float32 are not rounded: the integers become bf16, which is exact.
 *
 * A row of the result depends on that row alone, bit for bit: every row is summed in the same order however many there are.
 */
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

enum {
    WIDTH = 64,   /* outputs of a tile */
    VECTORS = 4,  /* of 16 outputs */
    ROWS = 6,     /* rows whose sums fit into registers beside the weights: 6 * 4 of 32 */
    CHUNK = 128,  /* inputs whose weights fit into the first-level cache: 16 KiB in bf16 */
    AGAIN = 2,    /* passes over the rows from which on it pays to unpack weights once for all of them */
    BLOCK = 240,  /* rows for which weights are unpacked once */
    SPAN = 32,    /* inputs of a row that share a scale where the matrix has groups; without, CHUNK */
    AHEAD = 2048, /* bytes; farther or nearer is slower */
};

typedef struct {
    int bits;             /* 16, 8 or 4 */
    int64_t outputs;      /* of the result; the last tile may hold more, which are left out */
    int64_t inputs;       /* of the matrix as it is stored: a multiple of 32, and of the group */
    int64_t group;        /* inputs that share a scale; 0: none but `scales`, one for each output */
    const uint8_t *codes; /* 16 bits: (tiles, inputs / 2, 64, 2); 8: (tiles, inputs / 4, 64, 4); 4: (tiles, inputs / 4, 2, 16, 4) */
    const void *scales;   /* 8 bits: float32 (outputs); 4 bits: bf16 (tiles, inputs / group, 64); else none */
} Matrix;

/* The rows that are multiplied: in bf16, or in 8 bits. */
typedef struct {
    int64_t width;        /* inputs, with the zeros behind them */
    const uint16_t *bf16; /* (rows, width) or none */
    const int8_t *codes;  /* (rows, width) or none, and for every */
    int64_t span, spans;  /* so many of them */
    const float *scales;  /* (rows, spans) what they are multiplied by, and */
    const int32_t *sums;  /* (rows, spans) -8 times their sum */
} Rows;

static inline int zero(int bits) { return bits == 8 ? 128 : 8; } /* the code that stands for 0 */

/* The codes of four inputs for 64 outputs. */
static inline __attribute__((always_inline)) void quads(const int bits, const uint8_t *codes, __m512i w[VECTORS]) {
    const __m512i low = _mm512_set1_epi8(15);
    if (bits == 8) {
        for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(codes + 64 * v);
    } else {
        for (int v = 0; v < VECTORS; v += 2) {
            const __m512i both = _mm512_loadu_si512(codes + 32 * v);
            w[v] = _mm512_and_si512(both, low);
            w[v + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        }
    }
}

/* Ask for weights that come soon, with a single row: the processor fetches ahead by itself, but stops at the end of a page. With
 * more rows there is time enough, and asking costs more than it gains. Into the second-level cache: into the first it is slower. */
static inline __attribute__((always_inline)) void ask(const uint8_t *codes, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) _mm_prefetch((const char *)codes + AHEAD + at, _MM_HINT_T1);
}

/* Of 16 outputs, the weights of inputs `at` and `at` + 1 of four, as pairs of bf16. */
static inline __m512i pair(__m512i codes, int at, int bits) {
    const __m512i byte = _mm512_set1_epi32(255), none = _mm512_set1_epi32(zero(bits));
    const __m512i a = _mm512_and_si512(_mm512_srlv_epi32(codes, _mm512_set1_epi32(8 * at)), byte);
    const __m512i b = _mm512_and_si512(_mm512_srlv_epi32(codes, _mm512_set1_epi32(8 * at + 8)), byte);
    const __m512i x = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_sub_epi32(a, none)));
    const __m512i y = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_sub_epi32(b, none)));
    return _mm512_or_si512(_mm512_srli_epi32(x, 16), _mm512_and_si512(y, _mm512_set1_epi32(0xFFFF0000)));
}

/* Add to `sums` (rows, 64) what inputs contribute in bf16: `groups` times `pairs` pairs, each group times its scale. */
static inline __attribute__((always_inline)) void multiply_bf16(
    const int rows, const uint16_t *x, int64_t stride, const uint8_t *codes, int64_t groups, int64_t pairs, const uint16_t *scales,
    float *sums) {
    for (int64_t g = 0; g < groups; g++) {
        __m512 sum[ROWS][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_setzero_ps();
        for (int64_t p = 0; p < pairs; p++, x += 2, codes += 256) {
            __m512bh w[VECTORS];
            if (rows == 1) ask(codes, 256);
            for (int v = 0; v < VECTORS; v++) w[v] = (__m512bh)_mm512_loadu_si512(codes + 64 * v);
            for (int r = 0; r < rows; r++) {
                int32_t two;
                memcpy(&two, x + r * stride, 4);
                const __m512bh both = (__m512bh)_mm512_set1_epi32(two);
                for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], w[v], both);
            }
        }
        for (int v = 0; v < VECTORS; v++) {
            const uint16_t *own = scales + g * WIDTH + 16 * v;
            const __m512 scale = scales ? widen(_mm256_loadu_si256((const __m256i *)own)) : _mm512_set1_ps(1.0f);
            for (int r = 0; r < rows; r++) {
                float *to = sums + r * WIDTH + 16 * v;
                _mm512_storeu_ps(to, _mm512_fmadd_ps(sum[r][v], scale, _mm512_loadu_ps(to)));
            }
        }
    }
}

/* Add to `sums` (rows, 64) what `inputs` contribute in integers. `bits` is how the codes lie; of the matrix itself, `own` bits. The
 * inputs of a row that share a scale are summed in integers, and these sums scaled. The sums have names, because a compiler keeps
 * an array of so many in memory. */
static inline __attribute__((always_inline)) void add_products(__m512i *sum, __m512i unsigned_, __m512i signed_) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(unsigned_), "v"(signed_)); /* the intrinsic makes gcc 12 copy every sum */
}

#define BEGIN(r) \
    __m512i s##r##0 = _mm512_set1_epi32(x->sums[(row + r) * x->spans + number]); \
    if (own == 8) s##r##0 = _mm512_slli_epi32(s##r##0, 4); \
    __m512i s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define STEP(r) \
    memcpy(&four, from + r * x->width + q, 4); \
    all = _mm512_set1_epi32(four); \
    add_products(&s##r##0, w[0], all); \
    add_products(&s##r##1, w[1], all); \
    add_products(&s##r##2, w[2], all); \
    add_products(&s##r##3, w[3], all);
#define ADD(r, v) \
    factor = own == 8 ? times : _mm512_mul_ps(times, widen(_mm256_loadu_si256((const __m256i *)(scales + 16 * v)))); \
    _mm512_storeu_ps(to + 16 * v, _mm512_fmadd_ps(_mm512_cvtepi32_ps(s##r##v), factor, _mm512_loadu_ps(to + 16 * v)));
#define END(r) \
    times = _mm512_set1_ps(x->scales[(row + r) * x->spans + number]); \
    to = sums + r * WIDTH; \
    ADD(r, 0) ADD(r, 1) ADD(r, 2) ADD(r, 3)
#define UP_TO_1(M) M(0)
#define UP_TO_2(M) UP_TO_1(M) M(1)
#define UP_TO_3(M) UP_TO_2(M) M(2)
#define UP_TO_4(M) UP_TO_3(M) M(3)
#define UP_TO_5(M) UP_TO_4(M) M(4)
#define UP_TO_6(M) UP_TO_5(M) M(5)
#define MULTIPLY(ROWS_, UP_TO) \
    static inline __attribute__((always_inline)) void multiply_int_##ROWS_( \
        const int bits, const int own, const Rows *x, int64_t row, int64_t start, const uint8_t *codes, int64_t inputs, \
        const uint16_t *scales, int64_t group, float *sums) { \
        int64_t number = start / x->span, left = group; \
        for (int64_t at = 0; at < inputs; at += x->span, number++) { \
            const int64_t end = inputs - at < x->span ? inputs - at : x->span; \
            const int8_t *from = x->codes + row * x->width + start + at; \
            UP_TO(BEGIN) \
            for (int64_t q = 0; q < end; q += 4, codes += 32 * bits) { \
                __m512i w[VECTORS], all; \
                int32_t four; \
                if (ROWS_ == 1) ask(codes, 32 * bits); \
                quads(bits, codes, w); \
                UP_TO(STEP) \
            } \
            __m512 times, factor; \
            float *to; \
            UP_TO(END) \
            left -= x->span; \
            if (own == 4 && left == 0) { \
                left = group; \
                scales += WIDTH; \
            } \
        } \
    }
MULTIPLY(1, UP_TO_1)
MULTIPLY(2, UP_TO_2)
MULTIPLY(3, UP_TO_3)
MULTIPLY(4, UP_TO_4)
MULTIPLY(5, UP_TO_5)
MULTIPLY(6, UP_TO_6)

/* The two with constants, so that the sums stay in registers. */
static void some_bf16(
    int rows, const uint16_t *x, int64_t stride, const uint8_t *codes, int64_t groups, int64_t pairs, const uint16_t *scales,
    float *sums) {
#define CASE(r) \
    case r: multiply_bf16(r, x, stride, codes, groups, pairs, scales, sums); break;
    switch (rows) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) }
#undef CASE
}

static void some_int(
    int bits, int rows, const Rows *x, int64_t row, int64_t start, const uint8_t *codes, int own, int64_t inputs,
    const uint16_t *scales, int64_t group, float *sums) {
#define CASE(kind, b, o, r) \
    case 8 * kind + r: multiply_int_##r(b, o, x, row, start, codes, inputs, scales, group, sums); break;
#define CASES(k, b, o) CASE(k, b, o, 1) CASE(k, b, o, 2) CASE(k, b, o, 3) CASE(k, b, o, 4) CASE(k, b, o, 5) CASE(k, b, o, 6)
    switch (8 * (own == 8 ? 0 : bits == 8 ? 1 : 2) + rows) { CASES(0, 8, 8) CASES(1, 8, 4) CASES(2, 4, 4) }
}

/* `sums` (rows, 64) of one tile, from row number `row` on. */
static void tile(const Matrix *m, int64_t index, const Rows *x, int64_t row, int64_t rows, float *sums) {
    _Alignas(64) uint8_t scratch[CHUNK * WIDTH * 2];
    const uint8_t *codes = m->codes + index * m->inputs * 8 * m->bits;
    const uint16_t *scales = m->group ? (const uint16_t *)m->scales + index * (m->inputs / m->group) * WIDTH : NULL;
    const int64_t passes = (rows + ROWS - 1) / ROWS;
    memset(sums, 0, rows * WIDTH * sizeof *sums);
    for (int64_t start = 0; start < m->inputs; start += CHUNK) {
        const int64_t inputs = m->inputs - start < CHUNK ? m->inputs - start : CHUNK, step = m->group ? m->group : inputs;
        const uint16_t *own = scales ? scales + start / step * WIDTH : NULL;
        const uint8_t *from = codes + start * 8 * m->bits;
        const int64_t ahead = (m->inputs - start - inputs < CHUNK ? m->inputs - start - inputs : CHUNK) * 8 * m->bits;
        int bits = m->bits;
        if (bits < 16 && (x->bf16 || (bits == 4 && passes > AGAIN))) {
            for (int64_t q = 0; q < inputs / 4; q++) {
                __m512i w[VECTORS];
                m->bits == 8 ? quads(8, from + 256 * q, w) : quads(4, from + 128 * q, w);
                for (int v = 0; v < VECTORS; v++) {
                    if (x->bf16) {
                        _mm512_store_si512(scratch + 512 * q + 64 * v, pair(w[v], 0, m->bits));
                        _mm512_store_si512(scratch + 512 * q + 256 + 64 * v, pair(w[v], 2, m->bits));
                    } else {
                        _mm512_store_si512(scratch + 256 * q + 64 * v, w[v]);
                    }
                }
            }
            from = scratch;
            bits = x->bf16 ? 16 : 8;
        }
        for (int64_t pass = 0; pass < passes; pass++) { /* of about the same number of rows */
            const int64_t r = pass * rows / passes, next = (pass + 1) * rows / passes;
            if (passes > AGAIN) /* the weights that come next arrive meanwhile; few passes read steadily enough */
                for (int64_t at = pass * ahead / passes / 64 * 64; at < (pass + 1) * ahead / passes; at += 64)
                    _mm_prefetch((const char *)codes + (start + inputs) * 8 * m->bits + at, _MM_HINT_T1);
            if (bits == 16)
                some_bf16(
                    next - r, x->bf16 + (row + r) * m->inputs + start, m->inputs, from, inputs / step, step / 2, own,
                    sums + r * WIDTH);
            else
                some_int(bits, next - r, x, row + r, start, from, m->bits, inputs, own, m->group, sums + r * WIDTH);
        }
    }
}

/* A row of a tile's sums, scaled and with its bias, to where the result wants it. */
static void finish(
    const Matrix *m, const float *bias, int64_t index, const float *sums, const float *more, int bf16, void *y) {
    for (int v = 0; v < VECTORS; v++) {
        const int64_t at = index * WIDTH + 16 * v, left = m->outputs - at;
        if (left <= 0) return;
        const __mmask16 mask = first(left);
        __m512 sum = _mm512_loadu_ps(sums + 16 * v);
        if (more) sum = _mm512_add_ps(sum, _mm512_loadu_ps(more + 16 * v));
        if (m->bits == 8) sum = _mm512_mul_ps(sum, _mm512_maskz_loadu_ps(mask, (const float *)m->scales + at));
        if (bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias + at));
        store(bf16, y, at, mask, sum);
    }
}

/* A row of bf16 in 8 bits, with zeros behind: a scale for every `span` numbers. What is not finite makes the scale so. */
static void quantise(const uint16_t *x, int64_t inputs, int64_t width, int64_t span, int8_t *codes, float *scales, int32_t *sums) {
    for (int64_t start = 0; start < width; start += span, scales++, sums++) {
        const int64_t end = width - start < span ? width - start : span;
        __m512 most = _mm512_setzero_ps(), nothing = most, part[CHUNK / 16];
        __m512i sum = _mm512_setzero_si512();
        for (int64_t i = 0; i < end; i += 16) {
            const int64_t left = inputs - start - i;
            part[i / 16] = load(1, x, start + i, left > 0 ? first(left) : 0);
            most = _mm512_max_ps(most, _mm512_abs_ps(part[i / 16]));
            nothing = _mm512_fmadd_ps(part[i / 16], _mm512_setzero_ps(), nothing);
        }
        const float top = _mm512_reduce_max_ps(most);
        const __m512 less = _mm512_set1_ps(top > 0 ? 127.0f / top : 0.0f);
        for (int64_t i = 0; i < end; i += 16) {
            const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(part[i / 16], less));
            _mm_storeu_si128((__m128i *)(codes + start + i), _mm512_cvtsepi32_epi8(whole));
            sum = _mm512_add_epi32(sum, whole);
        }
        *scales = top / 127.0f + _mm512_reduce_add_ps(nothing);
        *sums = -8 * _mm512_reduce_add_epi32(sum);
    }
}

static uint16_t round_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FC0; /* not a number */
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
}

/* Rows of float32 as pairs of rows of bf16, the number and what its rounding left over; bf16 as it is. Both with zeros behind. */
static void spread(const void *x, int bf16, int64_t rows, int64_t inputs, int64_t width, uint16_t *to) {
    for (int64_t r = 0; r < rows; r++) {
        uint16_t *high = to + r * width * (bf16 ? 1 : 2), *low = high + width;
        if (bf16) {
            memcpy(high, (const uint16_t *)x + r * inputs, inputs * 2);
        } else {
            for (int64_t i = 0; i < inputs; i++) {
                const float value = ((const float *)x)[r * inputs + i];
                high[i] = round_bf16(value);
                const uint32_t bits = (uint32_t)high[i] << 16;
                float rounded;
                memcpy(&rounded, &bits, 4);
                low[i] = round_bf16(value - rounded);
            }
            memset(low + inputs, 0, (width - inputs) * 2);
        }
        memset(high + inputs, 0, (width - inputs) * 2);
    }
}

/* For each of `count` matrices, y (rows, outputs) = x (rows, inputs) W' + bias; x and y all bf16 or all float32. All matrices are
 * stored with the same number of inputs, in the same bits and groups. Returns 0, or 1 without memory. */
int64_t genus_linears(
    int64_t count, const Matrix *const *matrices, const float *const *biases, const void *x, int64_t bf16, int64_t rows,
    int64_t inputs, void *const *ys, int64_t threads) {
    const int64_t width = matrices[0]->inputs, size = bf16 ? 2 : 4;
    const int64_t span = matrices[0]->group ? SPAN : CHUNK, spans = (width + span - 1) / span;
    const int parts = bf16 ? 1 : 2; /* rows for each row of x */
    const int integers = bf16 && matrices[0]->bits < 16;
    Rows all = {.width = width, .bf16 = x};
    char *own = NULL;
    int64_t tiles = 0, bytes = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t of = (matrices[i]->outputs + WIDTH - 1) / WIDTH;
        tiles += of;
        bytes += of * width * 8 * matrices[i]->bits;
    }
    if (bytes * (rows < 16 ? 1 : rows / 8) < 32768) threads = 1; /* waking another takes longer */
    if (integers || !bf16 || inputs != width) {
        own = malloc(integers ? rows * (width + spans * 8) : rows * parts * width * 2);
        if (own == NULL) return 1;
    }
    if (integers) {
        float *scales = (float *)own;
        int32_t *sums = (int32_t *)(scales + rows * spans);
        int8_t *codes = (int8_t *)(sums + rows * spans);
#pragma omp parallel for num_threads(rows < 16 ? 1 : threads) schedule(static)
        for (int64_t r = 0; r < rows; r++)
            quantise((const uint16_t *)x + r * inputs, inputs, width, span, codes + r * width, scales + r * spans, sums + r * spans);
        all = (Rows){.width = width, .codes = codes, .span = span, .spans = spans, .scales = scales, .sums = sums};
    } else if (own) {
        spread(x, bf16, rows, inputs, width, (uint16_t *)own);
        all.bf16 = (const uint16_t *)own;
    }
#pragma omp parallel for num_threads(threads) schedule(guided) /* long streams of weights, short ones at the end */
    for (int64_t task = 0; task < tiles; task++) {
        int64_t i = 0, t = task;
        for (int64_t of; t >= (of = (matrices[i]->outputs + WIDTH - 1) / WIDTH); i++) t -= of;
        const Matrix *m = matrices[i];
        float sums[BLOCK * WIDTH];
        for (int64_t start = 0; start < rows * parts; start += BLOCK) {
            const int64_t block = rows * parts - start < BLOCK ? rows * parts - start : BLOCK;
            tile(m, t, &all, start, block, sums);
            for (int64_t r = 0; r < block; r += parts)
                finish(
                    m, biases[i], t, sums + r * WIDTH, parts == 2 ? sums + (r + 1) * WIDTH : NULL, bf16,
                    (char *)ys[i] + (start + r) / parts * m->outputs * size);
        }
    }
    free(own);
    return 0;
}
