/* The means of rows that lie all over a matrix, in C and for the processor at hand: what no `embed` can do faster.
 *
 * Document i is rows[i * tokens] to rows[(i + 1) * tokens - 1], all of them known; no row is checked. Sums are in double,
 * in the order of rows. Eight rows are added together, a cache line of each, and the same line of each of the eight that
 * follow is asked for meanwhile. `width` is at least 16. */
#include <stdint.h>
#include <string.h>

enum { GROUP = 8, LINE = 16 };

typedef float floats __attribute__((vector_size(4 * LINE)));
typedef double doubles __attribute__((vector_size(8 * LINE)));

static inline void add(double *sums, const float **rows, int count, int64_t at) {
    doubles total;
    memcpy(&total, sums + at, sizeof total);
    for (int k = 0; k < count; k++) {
        floats numbers;
        memcpy(&numbers, rows[k] + at, sizeof numbers);
        total += __builtin_convertvector(numbers, doubles);
    }
    memcpy(sums + at, &total, sizeof total);
}

void pool_rows(const float *vectors, const int64_t *rows, int64_t tokens, int64_t width, int64_t start, int64_t stop,
               float *out) {
    double sums[width];
    for (int64_t document = start; document < stop; document++) {
        memset(sums, 0, sizeof sums);
        for (int64_t i = document * tokens; i < (document + 1) * tokens; i += GROUP) {
            const float *group[GROUP], *next[GROUP];
            int64_t rest = (document + 1) * tokens - i;
            int count = rest < GROUP ? (int)rest : GROUP;
            for (int k = 0; k < GROUP; k++) {
                group[k] = vectors + rows[k < count ? i + k : i] * width;
                next[k] = vectors + rows[i + count + k < stop * tokens ? i + count + k : i] * width;
            }
            /* The last numbers, fewer than a line. */
            for (int k = 0; k < count; k++)
                for (int64_t j = width - width % LINE; j < width; j++)
                    sums[j] += group[k][j];
            for (int64_t at = 0; at + LINE <= width; at += LINE) {
                for (int k = 0; k < GROUP; k++)
                    __builtin_prefetch(next[k] + at);
                if (count == GROUP)
                    add(sums, group, GROUP, at);
                else
                    add(sums, group, count, at);
            }
            for (int k = 0; k < GROUP; k++)
                __builtin_prefetch(next[k] + width - 1);
        }
        for (int64_t j = 0; j < width; j++)
            out[document * width + j] = (float)(sums[j] / (double)tokens);
    }
}
