/* stream_sum THREADS [MIB]: a plain streaming sum, written apart from node/memory/bandwidth.c, to hold its figure
 * against. Every thread adds up its own contiguous share of 64-bit numbers, once in each of a few plain ways (one, two
 * or four streams through the share, with or without software prefetch), because no single one is best everywhere: one
 * that leaves it all to the hardware prefetcher of one stream falls short of the memory on some machines. The best of
 * five passes of each way counts; GB/s of the best way is printed, and of all on stderr. compare.py runs it beside
 * `coffer bench`.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/bandwidth/pin.h"
#include "transport/clock.h"

enum { PASSES = 5, WAYS = 9, MOST_STREAMS = 4 };

/* 64 bytes: the widest loads of any machine; the compiler splits them where there are none. */
typedef uint64_t line __attribute__((vector_size(64)));

struct share {
    pthread_t thread;
    pthread_barrier_t *gate;
    line *lines;
    size_t n;   /* a multiple of 4 * MOST_STREAMS */
    int number; /* of the thread, and of its CPU */
    uint64_t sum;
    double seconds[WAYS][PASSES];
};

/* `streams` equal parts of the share, side by side; prefetch: lines ahead, 0 none. */
static inline __attribute__((always_inline)) uint64_t add_up(
    const line *lines, size_t n, const size_t streams, const size_t prefetch) {
    const size_t part = n / streams;
    line sum[MOST_STREAMS] = {0};
    for (size_t i = 0; i < part; i += 4)
        for (size_t s = 0; s < streams; s++) {
            const line *p = lines + s * part + i;
            for (size_t k = 0; k < 4; k++) {
                if (prefetch) __builtin_prefetch(p + k + prefetch);
                sum[(s + k) % MOST_STREAMS] += p[k];
            }
        }
    line all = sum[0] + sum[1] + sum[2] + sum[3];
    return all[0] + all[1] + all[2] + all[3] + all[4] + all[5] + all[6] + all[7];
}

static uint64_t add_up_way(int way, const line *p, size_t n) {
    switch (way) {
    case 0: return add_up(p, n, 1, 0);
    case 1: return add_up(p, n, 1, 16);
    case 2: return add_up(p, n, 1, 64);
    case 3: return add_up(p, n, 2, 0);
    case 4: return add_up(p, n, 2, 16);
    case 5: return add_up(p, n, 2, 64);
    case 6: return add_up(p, n, 4, 0);
    case 7: return add_up(p, n, 4, 16);
    default: return add_up(p, n, 4, 64);
    }
}

static void *work(void *arg) {
    struct share *s = arg;
    cf_pin_to_nth_cpu(s->number);
    memset(s->lines, 1, s->n * sizeof *s->lines);
    for (int i = 0; i < PASSES * WAYS; i++) {
        pthread_barrier_wait(s->gate);
        double start = cf_now();
        s->sum += add_up_way(i % WAYS, s->lines, s->n);
        pthread_barrier_wait(s->gate);
        s->seconds[i % WAYS][i / WAYS] = cf_now() - start;
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    size_t bytes = (size_t)(argc > 2 ? atoi(argv[2]) : 2048) << 20;
    if (threads < 1 || threads > 1024 || !bytes) return 2;
    char *buf = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct share *shares = calloc((size_t)threads, sizeof *shares);
    if (buf == MAP_FAILED || !shares) return 1;
    madvise(buf, bytes, MADV_HUGEPAGE);
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, NULL, (unsigned)threads);
    size_t unit = 4 * MOST_STREAMS, each = bytes / sizeof(line) / (size_t)threads / unit * unit;
    for (int i = 0; i < threads; i++) {
        line *lines = (line *)(void *)buf + (size_t)i * each;
        shares[i] = (struct share){.gate = &gate, .lines = lines, .n = each, .number = i};
        if (pthread_create(&shares[i].thread, NULL, work, &shares[i])) return 1;
    }
    uint64_t sum = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(shares[i].thread, NULL);
        sum += shares[i].sum;
    }
    double best = 0;
    for (int way = 0; way < WAYS; way++) {
        double of_way = 0;
        for (int pass = 0; pass < PASSES; pass++) {
            double rate = (double)(each * sizeof(line) * (size_t)threads) / shares[0].seconds[way][pass];
            if (rate > of_way) of_way = rate;
        }
        fprintf(stderr, "%d streams, prefetch %d lines ahead: %.2f GB/s\n", 1 << way / 3,
            way % 3 == 2 ? 64 : way % 3 * 16, 1e-9 * of_way);
        if (of_way > best) best = of_way;
    }
    printf("%.3f\n", 1e-9 * best);
    fprintf(stderr, "sum %016llx\n", (unsigned long long)sum);
    free(shares);
    return 0;
}
