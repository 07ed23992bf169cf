/* A causal convolution of every channel by itself over a few positions, and its gradients.
 *
 * x (batch, time, channels) and before it past (batch, width - 1, channels), dense, bf16 or float32; computed with in float32 and
 * rounded once. weight (width, channels) is float32, the oldest position first. Every function returns 0.
 */
#include "numbers.h"

enum {
    MOST = 16,   /* width */
    BLOCK = 128, /* channels of a thread at a time */
    PIECE = 64,  /* positions of a block that are gone through before the next channels, so that few pages are open */
};

typedef struct {
    int64_t batch, time, channels, width, bf16, threads;
} Shape;

/* Where position `t` of a row begins, of those of the past (t < 0) or of now. */
static inline const char *place(const Shape *s, const void *now, const void *past, int64_t b, int64_t t) {
    const int64_t before = s->width - 1, size = s->channels * (s->bf16 ? 2 : 4);
    return t < 0 ? (const char *)past + (b * before + before + t) * size : (const char *)now + (b * s->time + t) * size;
}

static int64_t threads_for(const Shape *s) { return s->batch * s->time * s->channels < LITTLE ? 1 : s->threads; }

static inline __attribute__((always_inline)) void forward(
    const int bf16, const int width, const Shape *s, const void *x, const void *past, const float *weight, void *y) {
#pragma omp parallel for num_threads(threads_for(s)) schedule(static)
    for (int64_t row = 0; row < s->batch * s->time; row++) {
        const int64_t b = row / s->time, t = row % s->time;
        const char *rows[MOST];
        for (int w = 0; w < width; w++) rows[w] = place(s, x, past, b, t - width + 1 + w);
        for (int64_t c = 0; c < s->channels; c += 16) {
            const __mmask16 mask = first(s->channels - c);
            __m512 sum = _mm512_setzero_ps();
            for (int w = 0; w < width; w++)
                sum = _mm512_fmadd_ps(load(bf16, rows[w], c, mask), _mm512_maskz_loadu_ps(mask, weight + w * s->channels + c), sum);
            store(bf16, y, row * s->channels + c, mask, sum);
        }
    }
}

/* One block of channels. A position t is seen by y_u through weight_(t + width - 1 - u), so a window over the gradients of y goes
 * along, of which the newest, u = t + width - 1, is multiplied by weight_0. */
static inline __attribute__((always_inline)) void backward(
    const int bf16, const int width, const Shape *s, const void *x, const void *past, const float *weight, const void *grad,
    void *of_x, void *of_past, float *of_weight, int64_t begin) {
    const int64_t end = begin + BLOCK < s->channels ? begin + BLOCK : s->channels;
    __m512 sums[BLOCK / 16][MOST], tap[MOST], seen[MOST];
    for (int i = 0; i < BLOCK / 16; i++)
        for (int w = 0; w < width; w++) sums[i][w] = _mm512_setzero_ps();
    for (int64_t b = 0; b < s->batch; b++) {
        for (int64_t start = 1 - width; start < s->time; start += PIECE) {
            const int64_t stop = start + PIECE < s->time ? start + PIECE : s->time;
            for (int64_t c = begin; c < end; c += 16) {
                const __mmask16 mask = first(end - c);
                __m512 *total = sums[(c - begin) / 16], sum[MOST];
                for (int w = 0; w < width; w++) {
                    const int64_t u = start + width - 2 - w; /* of the position before */
                    tap[w] = _mm512_maskz_loadu_ps(mask, weight + w * s->channels + c);
                    seen[w] = u < 0 || u >= s->time ? _mm512_setzero_ps() : load(bf16, place(s, grad, NULL, b, u), c, mask);
                    sum[w] = total[w];
                }
                for (int64_t t = start; t < stop; t++) {
                    const int64_t newest = t + width - 1;
                    for (int w = width - 1; w > 0; w--) seen[w] = seen[w - 1];
                    seen[0] = newest < s->time ? load(bf16, place(s, grad, NULL, b, newest), c, mask) : _mm512_setzero_ps();
                    const __m512 own = load(bf16, place(s, x, past, b, t), c, mask);
                    __m512 made = _mm512_setzero_ps();
                    for (int w = 0; w < width; w++) {
                        made = _mm512_fmadd_ps(seen[w], tap[w], made);
                        sum[w] = _mm512_fmadd_ps(seen[w], own, sum[w]);
                    }
                    store(bf16, (char *)place(s, of_x, of_past, b, t), c, mask, made);
                }
                for (int w = 0; w < width; w++) total[w] = sum[w];
            }
        }
    }
    for (int w = 0; w < width; w++)
        for (int64_t c = begin; c < end; c += 16)
            _mm512_mask_storeu_ps(of_weight + w * s->channels + c, first(end - c), sums[(c - begin) / 16][w]);
}

/* The usual width as a constant, so that nothing is counted. */
#define CASES(CALL) \
    if (s->bf16) { \
        if (s->width == 4) CALL(1, 4); \
        else CALL(1, s->width); \
    } else { \
        CALL(0, s->width); \
    }

/* y (batch, time, channels): y_t is the sum of weight_w * x_(t - width + 1 + w). */
int64_t genus_short_conv_forward(const Shape *s, const void *x, const void *past, const float *weight, void *y) {
#define FORWARD(bf16, width) forward(bf16, width, s, x, past, weight, y)
    CASES(FORWARD)
    return 0;
}

/* The gradients of x, past and weight, of the shapes of these, from that of y. */
int64_t genus_short_conv_backward(
    const Shape *s, const void *x, const void *past, const float *weight, const void *grad, void *of_x, void *of_past,
    float *of_weight) {
#pragma omp parallel for num_threads(threads_for(s)) schedule(static)
    for (int64_t begin = 0; begin < s->channels; begin += BLOCK) {
#define BACKWARD(bf16, width) backward(bf16, width, s, x, past, weight, grad, of_x, of_past, of_weight, begin)
        CASES(BACKWARD)
    }
    return 0;
}
