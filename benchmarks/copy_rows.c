/* Copying rows that lie all over a matrix, in C and for the processor at hand: what no `gather` can do faster.
 *
 * Rows are `width` floats, a multiple of 4; no row is checked. Like a large memcpy, whole cache lines of `out` are written
 * past the caches; while a row is copied, the first lines and the last one of a later row are asked for. */
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { AHEAD = 8, LINES = 10, LINE = 16 };

void copy_rows(const float *vectors, const int64_t *rows, int64_t width, int64_t start, int64_t stop, float *out) {
    for (int64_t i = start; i < stop; i++) {
        if (i + AHEAD < stop) {
            const float *next = vectors + rows[i + AHEAD] * width;
            for (int64_t at = 0; at < width && at < LINES * LINE; at += LINE)
                __builtin_prefetch(next + at);
            __builtin_prefetch(next + width - 1);
        }
        const float *from = vectors + rows[i] * width;
        float *to = out + i * width;
#ifdef __AVX512F__
        int64_t at = 0;
        for (; at < width && ((uintptr_t)(to + at) & 63); at++)
            to[at] = from[at];
        for (; at + LINE <= width; at += LINE)
            _mm512_stream_ps(to + at, _mm512_loadu_ps(from + at));
        for (; at < width; at++)
            to[at] = from[at];
#else
        memcpy(to, from, (size_t)width * sizeof(float));
#endif
    }
#ifdef __AVX512F__
    _mm_sfence();
#endif
}
