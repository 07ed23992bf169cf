/* Products of small matrices that lie in the cache, summed in float32, of float32 or of bf16 in pairs.
 *
 * VDPBF16PS adds to 16 sums the products of pairs of numbers, so whatever is summed over lies in pairs. A unit of 32 bits is such a
 * pair, or one float32; strides and widths of what is multiplied count units, and `bf16` says of what. */
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

static inline int64_t whole(int64_t count, int64_t of) { return (count + of - 1) / of * of; }

/* A part of a thread's memory that begins with a line of the cache. */
static inline void *part(char **memory, int64_t bytes) {
    char *found = *memory;
    *memory += whole(bytes, 64);
    return found;
}

static inline __m512i unit(const uint32_t *at) {
    int32_t both;
    memcpy(&both, at, 4);
    return _mm512_set1_epi32(both);
}

static inline __attribute__((always_inline)) void tile(
    const int bf16, const int rows, const int vectors, const uint32_t *a, int64_t a_row, int64_t a_step, const uint32_t *b,
    int64_t b_step, int64_t steps, float *c, int64_t c_row, int add) {
    __m512 sum[6][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = add ? _mm512_loadu_ps(c + r * c_row + 16 * v) : _mm512_setzero_ps();
    for (int64_t s = 0; s < steps; s++, a += a_step, b += b_step) {
        __m512i w[4];
        for (int v = 0; v < vectors; v++) w[v] = _mm512_loadu_si512(b + 16 * v);
        for (int r = 0; r < rows; r++) {
            const __m512i x = unit(a + r * a_row);
            for (int v = 0; v < vectors; v++)
                sum[r][v] = bf16 ? _mm512_dpbf16_ps(sum[r][v], (__m512bh)x, (__m512bh)w[v])
                                 : _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w[v]), sum[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(c + r * c_row + 16 * v, sum[r][v]);
}

#define TILE(ROWS, VECTORS) \
    case 8 * VECTORS + ROWS: \
        tile(bf16, ROWS, VECTORS, a + i * a_row, a_row, a_step, b + j, b_step, steps, c + i * c_row + j, c_row, add); break;
#define TILES(VECTORS) TILE(6, VECTORS) TILE(4, VECTORS) TILE(2, VECTORS) TILE(1, VECTORS)

/* c (rows, columns) = the sum over `steps` of the products of a's unit (row, step) with b's unit (step, column); added to what is
 * there where `add`. `columns` is a multiple of 16. */
static inline __attribute__((always_inline)) void multiply_as(
    const int bf16, int64_t rows, int64_t columns, int64_t steps, const uint32_t *a, int64_t a_row, int64_t a_step,
    const uint32_t *b, int64_t b_step, float *c, int64_t c_row, int add) {
    for (int64_t j = 0, vectors; j < columns; j += 16 * vectors) {
        vectors = columns - j >= 64 ? 4 : columns - j >= 32 ? 2 : 1;
        for (int64_t i = 0, height; i < rows; i += height) {
            height = rows - i >= 6 ? 6 : rows - i >= 4 ? 4 : rows - i >= 2 ? 2 : 1;
            switch (8 * vectors + height) { TILES(4) TILES(2) TILES(1) }
        }
    }
}

static __attribute__((noinline)) void multiply_pairs(
    int64_t rows, int64_t columns, int64_t steps, const void *a, int64_t a_row, int64_t a_step, const void *b, int64_t b_step,
    float *c, int64_t c_row, int add) {
    multiply_as(1, rows, columns, steps, a, a_row, a_step, b, b_step, c, c_row, add);
}

static __attribute__((noinline)) void multiply_floats(
    int64_t rows, int64_t columns, int64_t steps, const void *a, int64_t a_row, int64_t a_step, const void *b, int64_t b_step,
    float *c, int64_t c_row, int add) {
    multiply_as(0, rows, columns, steps, a, a_row, a_step, b, b_step, c, c_row, add);
}

/* Numbers side by side (rows, width), `count` rows of `from`, `stride` numbers apart, and zeros: rows that `skip` marks, and what is
 * missing up to `rows` and `whole_width`. */
static inline __attribute__((always_inline)) void gather(
    const int bf16, const void *from, int64_t stride, int64_t count, int64_t width, const uint8_t *skip, void *to, int64_t rows,
    int64_t whole_width) {
    for (int64_t i = 0; i < count; i++) /* first only read: a store whose number is still on its way holds up later reads */
        for (int64_t j = 0; j < width; j += bf16 ? 32 : 16) (void)*((const volatile char *)from + (i * stride + j) * (bf16 ? 2 : 4));
    for (int64_t i = 0; i < rows; i++) {
        const int there = i < count && !(skip && skip[i]);
        for (int64_t j = 0; j < whole_width; j += 16) {
            const int64_t from_ = i * stride + j, to_ = i * whole_width + j;
            const __mmask16 mask = there && width > j ? first(width - j) : 0;
            if (bf16 && mask == 0xFFFF) /* what goes through a mask is slower */
                memcpy((uint16_t *)to + to_, (const uint16_t *)from + from_, 32);
            else if (bf16)
                _mm256_storeu_si256((__m256i *)((uint16_t *)to + to_), _mm256_maskz_loadu_epi16(mask, (const uint16_t *)from + from_));
            else _mm512_storeu_ps((float *)to + to_, load(0, from, from_, mask));
        }
    }
}

/* The other way: rows of floats to `count` rows of `to`, rounded; zeros to those that `skip` marks. */
static inline __attribute__((always_inline)) void scatter(
    const int bf16, const float *from, int64_t whole_width, const uint8_t *skip, int64_t count, int64_t width, void *to,
    int64_t stride) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j += 16) {
            const __mmask16 there = skip && skip[i] ? 0 : 0xFFFF;
            store(bf16, to, i * stride + j, first(width - j), _mm512_maskz_loadu_ps(there, from + i * whole_width + j));
        }
}

/* Floats rounded to what is multiplied, each row times its factor where there are any. */
static inline __attribute__((always_inline)) void settle(
    const int bf16, const float *from, int64_t rows, int64_t width, const float *by, void *to) {
    for (int64_t i = 0; i < rows; i++) {
        const __m512 factor = _mm512_set1_ps(by ? by[i] : 1.0f);
        for (int64_t at = i * width; at < (i + 1) * width; at += 16)
            store(bf16, to, at, 0xFFFF, _mm512_mul_ps(_mm512_loadu_ps(from + at), factor));
    }
}

/* to (ceil(count / 2), width) pairs of the numbers of neighbouring rows, `stride` numbers apart; zero for a row that is missing. */
static inline void paired(const uint16_t *rows, int64_t stride, int64_t count, int64_t width, uint32_t *to) {
    for (int64_t i = 0; i < count; i += 2)
        for (int64_t j = 0; j < width; j += 16) {
            const uint16_t *from = rows + i * stride + j;
            const __m512i one = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
            __m512i two = _mm512_setzero_si512();
            if (i + 1 < count) two = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + stride)));
            _mm512_storeu_si512(to + i / 2 * width + j, _mm512_or_si512(one, _mm512_slli_epi32(two, 16)));
        }
}

/* What is to be summed over rows, dense and even in number: in pairs, in `to`. Of float32 nothing is to do. Returns where it is. */
static inline __attribute__((always_inline)) const void *zipped(
    const int bf16, const void *rows, int64_t count, int64_t width, uint32_t *to) {
    if (!bf16) return rows;
    paired(rows, width, count, width, to);
    return to;
}

/* What is to be summed over columns, as a right factor: to (units, rows) of units (count, units), rows `apart` bytes apart; zeros for
 * the rows from `count` on. `rows` is a multiple of 16. */
static inline void across(const void *from, int64_t apart, int64_t count, int64_t rows, int64_t units, uint32_t *to) {
    for (int64_t g = 0; g < rows; g += 16)
        for (int64_t j = 0; j < units; j += 16) {
            __m512i r[16];
            for (int64_t i = 0; i < 16; i++)
                r[i] = g + i < count ? _mm512_maskz_loadu_epi32(first(units - j), (const char *)from + (g + i) * apart + 4 * j)
                                     : _mm512_setzero_si512();
            turn(r);
            for (int64_t i = 0; i < 16 && j + i < units; i++) _mm512_storeu_si512(to + (j + i) * rows + g, r[i]);
        }
}
