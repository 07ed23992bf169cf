/* Calls of the other kernels, one after the other, without a way back to Python between them. */
#include <stdint.h>

enum { MOST = 14 }; /* arguments; all are 64 bits wide, so that those that a kernel does not have do no harm */

typedef int64_t (*Kernel)(
    int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);

/* calls (count, 1 + MOST): the address of a kernel and its arguments. Returns 0, or what the first kernel returned that failed. */
int64_t genus_replay(int64_t count, const int64_t *calls) {
    for (const int64_t *a = calls; a < calls + count * (1 + MOST); a += 1 + MOST) {
        const int64_t failed =
            ((Kernel)a[0])(a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14]);
        if (failed) return failed;
    }
    return 0;
}
