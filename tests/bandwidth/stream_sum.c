/* stream_sum THREADS [MIB]: a plain streaming sum, written apart from node/memory/bandwidth.c, to hold its figure
 * against. Every thread adds up its own contiguous share of 64-bit numbers; the best of five passes, GB/s, is printed.
 * compare.py runs it beside `coffer bench`.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "transport/clock.h"

enum { PASSES = 5 };

struct share {
    pthread_t thread;
    pthread_barrier_t *gate;
    uint64_t *numbers;
    size_t n;
    int cpu;
    uint64_t sum;
    double seconds[PASSES];
};

static void *work(void *arg) {
    struct share *s = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)s->cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    memset(s->numbers, 1, s->n * sizeof *s->numbers);
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_barrier_wait(s->gate);
        double start = cf_now();
        uint64_t a = 0, b = 0, c = 0, d = 0;
        for (size_t i = 0; i + 32 <= s->n; i += 32)
            for (size_t k = 0; k < 32; k += 4) {
                a += s->numbers[i + k];
                b += s->numbers[i + k + 1];
                c += s->numbers[i + k + 2];
                d += s->numbers[i + k + 3];
            }
        s->sum += a + b + c + d;
        pthread_barrier_wait(s->gate);
        s->seconds[pass] = cf_now() - start;
    }
    return NULL;
}

/* The nth CPU that this process may use. */
static int nth_cpu(int n) {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set) && n-- == 0) return cpu;
    return 0;
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
    size_t each = bytes / 8 / (size_t)threads / 32 * 32;
    for (int i = 0; i < threads; i++) {
        uint64_t *numbers = (uint64_t *)(void *)buf + (size_t)i * each;
        shares[i] = (struct share){.gate = &gate, .numbers = numbers, .n = each, .cpu = nth_cpu(i)};
        if (pthread_create(&shares[i].thread, NULL, work, &shares[i])) return 1;
    }
    uint64_t sum = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(shares[i].thread, NULL);
        sum += shares[i].sum;
    }
    double best = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        double rate = (double)(each * 8 * (size_t)threads) / shares[0].seconds[pass];
        if (rate > best) best = rate;
    }
    printf("%.3f\n", 1e-9 * best);
    fprintf(stderr, "sum %016llx\n", (unsigned long long)sum);
    free(shares);
    return 0;
}
