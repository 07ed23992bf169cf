/* Products of a few rows with a matrix that is stored for decoding, in bf16 or in 8 or 4 bits.
 *
 * A step of decoding reads every weight once and does little with it, so the weights should arrive in the order in which they
 * are used, and as few bytes as possible. Integers become bf16 in registers, which is exact, and are multiplied in bf16 with sums
 * in float32; the scale of a group of inputs is applied to the group's sum.
 *
 * A matrix (outputs, inputs) lies in tiles of 64 outputs. In a tile, the weights of every two neighbouring inputs stand together:
 * a pair for each of the 64 outputs. So a vector of 512 bits holds the pairs of 16 outputs, and VDPBF16PS multiplies them by one
 * pair of numbers of a row. In 4 bits, the pairs of all 64 outputs fill one such vector: its 16-bit lane i holds the codes of
 * lane i of the four vectors that it unpacks to, the first in the lowest bits.
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
    CHUNK = 128,  /* inputs whose unpacked weights fit into the first-level cache: 16 KiB */
    MANY = 8,     /* passes over the rows from which on it pays to unpack weights once for all of them */
    BLOCK = 240,  /* rows for which weights are unpacked once */
};

typedef struct {
    int bits;             /* 16, 8 or 4 */
    int64_t outputs;      /* of the result; the last tile may hold more, which are left out */
    int64_t inputs;       /* of the matrix as it is stored: a multiple of 32, and of the group */
    int64_t group;        /* inputs that share a scale; 0: none but `scales`, one for each output */
    const uint8_t *codes; /* (tiles, inputs / 2, 64, 2) */
    const void *scales;   /* 8 bits: float32 (outputs); 4 bits: bf16 (tiles, inputs / group, 64); else none */
} Matrix;

/* The weights of two inputs for 64 outputs. */
static inline __attribute__((always_inline)) void unpack(const int bits, const uint8_t *codes, __m512i w[VECTORS]) {
    if (bits == 16) {
        for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(codes + 64 * v);
    } else if (bits == 8) {
        for (int v = 0; v < VECTORS; v++) {
            const __m128i *half = (const __m128i *)(codes + 32 * v);
            __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(half)));
            __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(half + 1)));
            w[v] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        }
    } else { /* a table of the 16 values as bf16, twice, since a permutation looks at five bits */
        const __m512i values = _mm512_set_epi16(
            0x40E0, 0x40C0, 0x40A0, 0x4080, 0x4040, 0x4000, 0x3F80, 0x0000, 0xBF80, 0xC000, 0xC040, 0xC080, 0xC0A0, 0xC0C0,
            0xC0E0, 0xC100, 0x40E0, 0x40C0, 0x40A0, 0x4080, 0x4040, 0x4000, 0x3F80, 0x0000, 0xBF80, 0xC000, 0xC040, 0xC080,
            0xC0A0, 0xC0C0, 0xC0E0, 0xC100);
        const __m512i lanes = _mm512_loadu_si512(codes);
        w[0] = _mm512_permutexvar_epi16(lanes, values);
        w[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(lanes, 4), values);
        w[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(lanes, 8), values);
        w[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(lanes, 12), values);
    }
}

/* Add to `sums` (rows, 64) what inputs contribute: `groups` times `pairs` pairs, each group times its scale for each output. */
static inline __attribute__((always_inline)) void multiply(
    const int bits, const int rows, const uint16_t *x, int64_t stride, const uint8_t *codes, int64_t groups, int64_t pairs,
    const uint16_t *scales, float *sums) {
    for (int64_t g = 0; g < groups; g++) {
        __m512 sum[ROWS][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_setzero_ps();
        for (int64_t p = 0; p < pairs; p++, x += 2, codes += 16 * bits) {
            __m512i w[VECTORS];
            unpack(bits, codes, w);
            for (int r = 0; r < rows; r++) {
                int32_t pair;
                memcpy(&pair, x + r * stride, 4);
                const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)w[v], both);
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

/* `multiply` with constants, so that the sums stay in registers. */
static void multiply_rows(
    int bits, int rows, const uint16_t *x, int64_t stride, const uint8_t *codes, int64_t groups, int64_t pairs, const uint16_t *scales,
    float *sums) {
#define CASE(b, r) \
    case 8 * b + r: multiply(b, r, x, stride, codes, groups, pairs, scales, sums); break;
#define CASES(b) CASE(b, 1) CASE(b, 2) CASE(b, 3) CASE(b, 4) CASE(b, 5) CASE(b, 6)
    switch (8 * bits + rows) { CASES(16) CASES(8) CASES(4) }
}

/* `sums` (rows, 64) of one tile. */
static void tile(const Matrix *m, int64_t index, const uint16_t *x, int64_t rows, float *sums) {
    _Alignas(64) uint8_t scratch[CHUNK * WIDTH * 2];
    const uint8_t *codes = m->codes + index * m->inputs * 8 * m->bits;
    const uint16_t *scales = m->group ? (const uint16_t *)m->scales + index * (m->inputs / m->group) * WIDTH : NULL;
    const int64_t passes = (rows + ROWS - 1) / ROWS;
    memset(sums, 0, rows * WIDTH * sizeof *sums);
    for (int64_t start = 0; start < m->inputs; start += CHUNK) {
        const int64_t inputs = m->inputs - start < CHUNK ? m->inputs - start : CHUNK, step = m->group ? m->group : inputs;
        const uint8_t *from = codes + start * 8 * m->bits;
        int bits = m->bits;
        if (bits < 16 && passes > MANY) {
            for (int64_t p = 0; p < inputs / 2; p++) {
                __m512i w[VECTORS];
                bits == 8 ? unpack(8, from + p * 128, w) : unpack(4, from + p * 64, w);
                for (int v = 0; v < VECTORS; v++) _mm512_store_si512(scratch + 256 * p + 64 * v, w[v]);
            }
            from = scratch;
            bits = 16;
        }
        for (int64_t pass = 0; pass < passes; pass++) { /* of about the same number of rows */
            const int64_t r = pass * rows / passes, next = (pass + 1) * rows / passes;
            multiply_rows(
                bits, next - r, x + r * m->inputs + start, m->inputs, from, inputs / step, step / 2,
                scales ? scales + start / step * WIDTH : NULL, sums + r * WIDTH);
        }
    }
}

/* A row of a tile's sums, scaled and with its bias, to where the result wants it. */
static void finish(
    const Matrix *m, const float *bias, int64_t index, const float *sums, const float *more, int bf16, void *y) {
    for (int v = 0; v < VECTORS; v++) {
        const int64_t at = index * WIDTH + 16 * v, left = m->outputs - at;
        if (left <= 0) return;
        const __mmask16 mask = left < 16 ? (1u << left) - 1 : 0xFFFF;
        __m512 sum = _mm512_loadu_ps(sums + 16 * v);
        if (more) sum = _mm512_add_ps(sum, _mm512_loadu_ps(more + 16 * v));
        if (m->bits == 8) sum = _mm512_mul_ps(sum, _mm512_maskz_loadu_ps(mask, (const float *)m->scales + at));
        if (bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias + at));
        if (bf16)
            _mm256_mask_storeu_epi16((uint16_t *)y + at, mask, (__m256i)_mm512_cvtneps_pbh(sum));
        else
            _mm512_mask_storeu_ps((float *)y + at, mask, sum);
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
 * stored with the same number of inputs. Returns 0, or 1 without memory. */
int64_t genus_linears(
    int64_t count, const Matrix *const *matrices, const float *const *biases, const void *x, int64_t bf16, int64_t rows,
    int64_t inputs, void *const *ys, int64_t threads) {
    const int64_t width = matrices[0]->inputs, size = bf16 ? 2 : 4;
    uint16_t *own = NULL;
    const uint16_t *from = x;
    const int parts = bf16 ? 1 : 2; /* rows for each row of x */
    if (!bf16 || inputs != width) {
        own = malloc(rows * parts * width * 2);
        if (own == NULL) return 1;
        spread(x, bf16, rows, inputs, width, own);
        from = own;
    }
    int64_t tiles = 0, bytes = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t of = (matrices[i]->outputs + WIDTH - 1) / WIDTH;
        tiles += of;
        bytes += of * width * 8 * matrices[i]->bits;
    }
    if (bytes * (rows < 16 ? 1 : rows / 8) < 32768) threads = 1; /* waking another takes longer */
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < tiles; task++) {
        int64_t i = 0, t = task;
        for (int64_t of; t >= (of = (matrices[i]->outputs + WIDTH - 1) / WIDTH); i++) t -= of;
        const Matrix *m = matrices[i];
        float sums[BLOCK * WIDTH];
        for (int64_t start = 0; start < rows * parts; start += BLOCK) {
            const int64_t block = rows * parts - start < BLOCK ? rows * parts - start : BLOCK;
            tile(m, t, from + start * width, block, sums);
            for (int64_t r = 0; r < block; r += parts)
                finish(
                    m, biases[i], t, sums + r * WIDTH, parts == 2 ? sums + (r + 1) * WIDTH : NULL, bf16,
                    (char *)ys[i] + (start + r) / parts * m->outputs * size);
        }
    }
    free(own);
    return 0;
}
