/* product_rate [THREADS [ISA [TYPE]]]: how fast the products run, without an engine around them.
 *
 * For each quantised and float type a matrix of random weights is packed and multiplied with
 *   - one row, from memory: 512 MiB per thread, beside a plain streaming sum over the same bytes;
 *   - 1 to 48 rows, tile by tile, from the second-level cache: nanoseconds per block of 32 columns of 16
 *     weight rows and one activation row, and billions of multiplications and additions per second.
 * The best of several passes counts. Run it by hand on a quiet machine; node/kernels/README.md says what to expect.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "node/kernels/kernels.h"
#include "tests/bandwidth/pin.h"
#include "tests/blocks.h"
#include "tests/random.h"
#include "transport/clock.h"

/* Rows lie an odd number of lines apart, as in the engine: take_activation() of node/engine/memory/buffers.c. */
enum { COLUMNS = 2048, STRIDE = COLUMNS + 64, MOST_ROWS = 48, PASSES = 7, HOT_BYTES = 768 << 10 };
static const size_t stream_bytes = (size_t)512 << 20;
static const uint32_t row_counts[] = {1, 2, 4, 8, 12, 16, 24, 32, 48};
enum { N_COUNTS = sizeof row_counts / sizeof row_counts[0] };

struct job {
    pthread_t thread;
    pthread_barrier_t *gate;
    const struct cf_kernels *kernels;
    const struct cf_type *type;
    int number;                     /* of the thread, and of its CPU */
    double sum_rate, stream_rate;   /* bytes/s of this thread */
    double block_seconds[N_COUNTS]; /* per block and row, from cache */
    uint64_t sum;
};

/* One packed tile of random weights with ordinary scales: random floats rounded to the type would need an encoder, so
 * raw blocks are drawn and their f16 scales replaced by small numbers. */
static void pack_tile(const struct cf_type *t, uint64_t *seed, char *tile) {
    size_t row_bytes = (size_t)COLUMNS / t->block * t->block_bytes;
    uint8_t *file = malloc(row_bytes * CF_TILE);
    const void *rows[CF_TILE];
    if (!file) abort();
    for (size_t i = 0; i < row_bytes * CF_TILE; i++)
        file[i] = t->quantised || i % 2 == 0 ? (uint8_t)cf_random32(seed) : 0x3c; /* floats: about 1, or 2^-7 */
    for (size_t at = 0; t->quantised && at < row_bytes * CF_TILE; at += t->block_bytes)
        cf_block_set_scales(t, file + at, 0x2000); /* 2^-7 */
    for (uint32_t r = 0; r < CF_TILE; r++)
        rows[r] = file + r * row_bytes;
    t->pack(tile, rows, 0, COLUMNS);
    free(file);
}

static void multiply(const struct job *j, const char *tiles, size_t n_tiles, size_t tile_bytes, const struct cf_rows *x,
    uint32_t n, float *y) {
    for (size_t t = 0; t < n_tiles; t++) {
        struct cf_product p = {
            .tile = tiles + t * tile_bytes, .tile_c0 = 0, .c0 = 0, .c1 = COLUMNS, .x = x, .row0 = 0, .n = n, .y = y};
        j->kernels->product[j->type->id](&p);
    }
}

typedef uint64_t eight __attribute__((vector_size(64)));

static uint64_t plain_sum(const void *buf, size_t bytes) {
    const eight *v = buf;
    eight sum[4] = {0};
    for (size_t i = 0; i + 4 <= bytes / sizeof *v; i += 4)
        for (size_t k = 0; k < 4; k++)
            sum[k] += v[i + k];
    sum[0] += sum[1] + sum[2] + sum[3];
    return sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3] + sum[0][4] + sum[0][5] + sum[0][6] + sum[0][7];
}

static double meet(struct job *j) {
    pthread_barrier_wait(j->gate);
    return cf_now();
}

static void *work(void *arg) {
    struct job *j = arg;
    cf_pin_to_nth_cpu(j->number);
    uint64_t seed = 1;
    size_t tile_bytes = j->type->tile_bytes(0, COLUMNS), n_tiles = stream_bytes / tile_bytes;
    size_t hot = HOT_BYTES / tile_bytes;
    char *tiles = mmap(NULL, stream_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    float *x = malloc(sizeof *x * MOST_ROWS * STRIDE), *y = aligned_alloc(64, sizeof *y * MOST_ROWS * CF_TILE);
    int8_t *q = aligned_alloc(64, MOST_ROWS * STRIDE);
    float *d = malloc(sizeof *d * MOST_ROWS * STRIDE / 32), *scaled = malloc(sizeof *d * MOST_ROWS * STRIDE / 32);
    int16_t *sum = malloc(sizeof *sum * MOST_ROWS * STRIDE / 16);
    if (tiles == MAP_FAILED || !x || !y || !q || !d || !scaled || !sum) abort();
    madvise(tiles, stream_bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < MOST_ROWS * STRIDE; i++)
        x[i] = (float)(int32_t)cf_random32(&seed) * 0x1p-31f;
    j->kernels->quantise(x, MOST_ROWS * STRIDE, q, d, sum);
    for (size_t t = 0; t < n_tiles; t++)
        if (t < 8)
            pack_tile(j->type, &seed, tiles + t * tile_bytes);
        else
            memcpy(tiles + t * tile_bytes, tiles + t % 8 * tile_bytes, tile_bytes);
    cf_scaled_sums(d, sum, MOST_ROWS * STRIDE, scaled);
    struct cf_rows rows = {0, COLUMNS, x, STRIDE, q, d, sum, STRIDE, scaled};

    for (int pass = 0; pass < PASSES; pass++) {
        double start = meet(j);
        j->sum += plain_sum(tiles, n_tiles * tile_bytes);
        double middle = meet(j);
        multiply(j, tiles, n_tiles, tile_bytes, &rows, 1, y);
        double end = meet(j), bytes = (double)(n_tiles * tile_bytes);
        if (bytes / (middle - start) > j->sum_rate) j->sum_rate = bytes / (middle - start);
        if (bytes / (end - middle) > j->stream_rate) j->stream_rate = bytes / (end - middle);
    }
    for (size_t k = 0; k < N_COUNTS; k++) {
        double blocks = (double)hot * (COLUMNS / 32) * row_counts[k];
        j->block_seconds[k] = 1;
        for (int pass = 0; pass < 3 * PASSES; pass++) {
            double start = cf_now();
            multiply(j, tiles, hot, tile_bytes, &rows, row_counts[k], y);
            double each = (cf_now() - start) / blocks;
            if (each < j->block_seconds[k]) j->block_seconds[k] = each;
        }
    }
    munmap(tiles, stream_bytes);
    free(x), free(y), free(q), free(d), free(scaled), free(sum);
    return NULL;
}

static void measure(const struct cf_kernels *kernels, const struct cf_type *type, int threads, struct job *jobs) {
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        jobs[i] = (struct job){.gate = &gate, .kernels = kernels, .type = type, .number = i};
        if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i])) abort();
    }
    for (int i = 0; i < threads; i++)
        pthread_join(jobs[i].thread, NULL);
    double plain = 0, stream = 0, block_bytes = (double)type->tile_bytes(0, COLUMNS) / (COLUMNS / 32);
    for (int i = 0; i < threads; i++)
        plain += jobs[i].sum_rate, stream += jobs[i].stream_rate;
    printf("%-7s %-7s %6.1f %7.2f %7.2f %6.1f", kernels->isa, type->name, block_bytes, 1e-9 * plain, 1e-9 * stream,
        100 * stream / plain);
    for (size_t k = 0; k < N_COUNTS; k++)
        printf(" %6.2f", 1e9 * jobs[0].block_seconds[k]);
    printf(" %6.0f\n", 1e-9 * 2 * 16 * 32 / jobs[0].block_seconds[N_COUNTS - 1]);
    fflush(stdout);
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    const struct cf_kernels *kernels = cf_kernels_choose(argc > 2 ? argv[2] : NULL);
    if (threads < 1 || threads > 1024 || !kernels) return 2;
    struct job *jobs = calloc((size_t)threads, sizeof *jobs);
    if (!jobs) return 1;
    printf("isa     type     bytes  plain  stream  share  ns per block and row, from cache: rows");
    printf("\n                 /block  GB/s    GB/s      %%");
    for (size_t k = 0; k < N_COUNTS; k++)
        printf(" %6u", row_counts[k]);
    printf("   GOPS\n");
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        const struct cf_type *type = cf_type_by_id(id);
        if (type && (argc < 4 || strcmp(argv[3], type->name) == 0)) measure(kernels, type, threads, jobs);
    }
    free(jobs);
    return 0;
}
