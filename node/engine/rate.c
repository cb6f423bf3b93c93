/* See rate.h. */
#include "node/engine/rate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "node/engine/memory/kv.h"
#include "transport/clock.h"

/* Rows lie as the engine's do (memory/buffers.c): an odd number of lines apart. */
enum { COLUMNS = 2048, STRIDE = COLUMNS + 64, TILES = 4, PASSES = 10 };
enum { MOST_QUERIES = 32, MEETINGS = 51, LEAST_MEETINGS = 5 };
static const double MEETING_SECONDS = 0.02; /* long enough, where threads wait for processors and not for each other */

struct bench {
    const struct cf_kernels *kernels;
    const struct cf_type *type;
    size_t tile_bytes;
    uint32_t rows;              /* of a product */
    uint32_t d_k, d_v, queries; /* of attention */
    char **room;                /* [threads] */
    uint32_t rounds;
    _Atomic uint64_t ns; /* for which threads had a core */
};

static uint64_t thread_ns(void) {
    return (uint64_t)(1e9 * cf_thread_now());
}

/* Bytes that are an ordinary number in every form: kernels without a fused multiply-add take another, slower way
 * where results are very small (vectors/lanes_sse41.h). As f16 0.016, as bf16 and float 3.6e-17. */
enum { ORDINARY = 0x24 };

/* Large ones in huge pages if there are any, as the engine's buffers. */
static void *ordinary(size_t bytes) {
    const size_t huge = (size_t)2 << 20, line = 64;
    bool large = bytes > huge / 4;
    size_t unit = large ? huge : line, whole = (bytes + unit - 1) / unit * unit;
    void *p = aligned_alloc(unit, whole);
    if (p && large) madvise(p, whole, MADV_HUGEPAGE);
    if (p) memset(p, ORDINARY, bytes);
    return p;
}

/* One thread's room: tiles, outputs, then the rows in the form that the type takes. */
static size_t room_bytes(const struct bench *b) {
    size_t rows = b->type->quantised ? CF_MANY_ROWS * (size_t)(STRIDE + STRIDE / 32 * 4 + STRIDE / 16 * 2)
                                     : CF_MANY_ROWS * STRIDE * sizeof(float);
    return TILES * b->tile_bytes + CF_MANY_ROWS * CF_TILE * sizeof(float) + rows;
}

static void fill(char *to, float value, size_t floats) {
    for (size_t i = 0; i < floats; i++)
        memcpy(to + i * sizeof value, &value, sizeof value);
}

static void multiply(struct cf_team *team, uint32_t thread, void *ctx) {
    struct bench *b = ctx;
    char *tiles = b->room[thread], *y = tiles + TILES * b->tile_bytes, *x = y + CF_MANY_ROWS * CF_TILE * sizeof(float);
    struct cf_rows rows = {.c1 = COLUMNS, .f_stride = STRIDE, .q_stride = STRIDE};
    if (b->type->quantised) {
        char *d = x + (size_t)CF_MANY_ROWS * STRIDE, *sum = d + CF_MANY_ROWS * STRIDE / 32 * sizeof(float);
        rows.q = (const int8_t *)x, rows.d = (const float *)(const void *)d;
        rows.sum = (const int16_t *)(const void *)sum;
        rows.scaled = rows.d; /* as many floats */
        fill(d, 0.01f, CF_MANY_ROWS * STRIDE / 32);
    } else {
        rows.f = (const float *)(const void *)x;
        fill(x, 1.0f, CF_MANY_ROWS * STRIDE);
    }
    uint64_t start = thread_ns();
    for (uint32_t i = 0; i < b->rounds; i++) {
        for (uint32_t t = 0; t < TILES; t++) {
            struct cf_product p = {.tile = tiles + t * b->tile_bytes,
                .tile_c0 = 0,
                .c0 = 0,
                .c1 = COLUMNS,
                .x = &rows,
                .row0 = 0,
                .n = b->rows,
                .y = (float *)(void *)y};
            b->kernels->product[b->type->id](&p);
        }
        cf_team_breathe(team, thread);
    }
    b->ns += thread_ns() - start;
}

/* fn does `work` on each thread, b->rounds times. Work per second, of those in which the threads had cores. */
static double measure(struct bench *b, struct cf_team *team,
    void (*fn)(struct cf_team *team, uint32_t thread, void *ctx), double work, double seconds) {
    double best = 0, pass = 0;
    work *= cf_team_size(team);
    for (int i = 0; i <= PASSES;) { /* rounds grow until a pass is long enough; such passes count */
        b->ns = 0;
        cf_team_do(team, fn, b, 0);
        pass = 1e-9 * (double)b->ns / cf_team_size(team);
        if (pass < 0.5 * seconds / PASSES && b->rounds < 1u << 20) {
            b->rounds *= 2;
            continue;
        }
        if (work * b->rounds / pass > best) best = work * b->rounds / pass;
        i++;
    }
    return best;
}

/* Room for every thread, then the measurement. */
static double in_rooms(struct bench *b, struct cf_team *team, size_t bytes,
    void (*fn)(struct cf_team *team, uint32_t thread, void *ctx), double work, double seconds) {
    uint32_t threads = cf_team_size(team);
    b->room = calloc(threads, sizeof *b->room), b->rounds = 1;
    bool ok = b->room;
    for (uint32_t i = 0; ok && i < threads; i++)
        ok = (b->room[i] = ordinary(bytes)) != NULL;
    double rate = ok ? measure(b, team, fn, work, seconds) : 0;
    for (uint32_t i = 0; b->room && i < threads; i++)
        free(b->room[i]);
    free(b->room);
    return rate;
}

static double product_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, uint32_t rows, double seconds) {
    if (!type || type->id >= CF_TYPE_LIMIT || !kernels->product[type->id]) return 0;
    struct bench b = {.kernels = kernels, .type = type, .tile_bytes = type->tile_bytes(0, COLUMNS), .rows = rows};
    return in_rooms(&b, team, room_bytes(&b), multiply, (double)TILES * CF_TILE * COLUMNS * rows, seconds);
}

double cf_team_product_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds) {
    return product_rate(team, kernels, type, CF_MANY_ROWS, seconds);
}

double cf_team_single_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds) {
    return product_rate(team, kernels, type, 1, seconds);
}

double cf_team_few_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds) {
    return product_rate(team, kernels, type, CF_FEW_ROWS, seconds);
}

/* Results of one product on their way into the next: stored tile by tile, gated, normed, rounded, added. */
static void pass_on(struct cf_team *team, uint32_t thread, void *ctx) {
    struct bench *b = ctx;
    const struct cf_kernels *k = b->kernels;
    const size_t all = (size_t)CF_MANY_ROWS * STRIDE;
    float *y = (float *)(void *)b->room[thread], *out = y + CF_MANY_ROWS * CF_TILE, *up = out + all, *h = up + all;
    float *w = h + all, *d = w + STRIDE;
    int16_t *sum = (int16_t *)(void *)(d + all / 32);
    int8_t *q = (int8_t *)(sum + all / 16);
    fill(b->room[thread], 1, CF_MANY_ROWS * CF_TILE + 3 * all + STRIDE);
    uint64_t start = thread_ns();
    for (uint32_t i = 0; i < b->rounds; i++) {
        for (size_t t = 0; t < COLUMNS; t += CF_TILE)
            for (size_t r = 0; r < CF_MANY_ROWS; r++)
                memcpy(out + r * STRIDE + t, y + r * CF_TILE, CF_TILE * sizeof *y);
        for (size_t r = 0, at = 0; r < CF_MANY_ROWS; r++, at += STRIDE) {
            k->gate_mul(CF_ACT_SILU, out + at, out + at, up + at, COLUMNS);
            k->add(h + at, out + at, COLUMNS);
            k->rms_norm(out + at, h + at, w, COLUMNS, 1e-5f);
            k->quantise(out + at, COLUMNS, q + at, d + at / 32, sum + at / 16);
        }
        cf_team_breathe(team, thread);
    }
    b->ns += thread_ns() - start;
}

double cf_team_between_rate(struct cf_team *team, const struct cf_kernels *kernels, double seconds) {
    struct bench b = {.kernels = kernels};
    const size_t all = (size_t)CF_MANY_ROWS * STRIDE;
    size_t bytes =
        sizeof(float) * (CF_MANY_ROWS * CF_TILE + 3 * all + STRIDE + all / 32) + sizeof(int16_t) * all / 16 + all;
    return in_rooms(&b, team, bytes, pass_on, 2.0 * CF_MANY_ROWS * COLUMNS, seconds);
}

static void look(struct cf_team *team, uint32_t thread, void *ctx) {
    struct bench *b = ctx;
    uint64_t start = thread_ns();
    char *at = b->room[thread];
    struct cf_attention_state states[MOST_QUERIES];
    struct cf_attention_page page = {.d_k = b->d_k, .d_v = b->d_v, .scale = 1, .n_queries = b->queries};
    page.k = (const uint16_t *)(const void *)at, page.v = page.k + (size_t)CF_PAGE * b->d_k;
    float *q = (float *)(void *)(at + sizeof(uint16_t) * CF_PAGE * (b->d_k + b->d_v)), *acc = q + b->queries * b->d_k;
    for (uint32_t i = 0; i < b->queries; i++)
        states[i] = (struct cf_attention_state){
            .q = q + (size_t)i * b->d_k, .n = CF_PAGE, .max = -INFINITY, .acc = acc + (size_t)i * b->d_v};
    for (uint32_t i = 0; i < b->rounds; i++) {
        b->kernels->attend_page(states, &page);
        cf_team_breathe(team, thread);
    }
    b->ns += thread_ns() - start;
}

double cf_team_attention_rate(struct cf_team *team, const struct cf_kernels *kernels, uint32_t d_k, uint32_t d_v,
    uint32_t heads, double seconds) {
    struct bench b = {
        .kernels = kernels, .d_k = d_k, .d_v = d_v, .queries = heads < MOST_QUERIES ? heads : MOST_QUERIES};
    size_t bytes = sizeof(uint16_t) * CF_PAGE * (d_k + d_v) + sizeof(float) * b.queries * ((size_t)d_k + d_v);
    return in_rooms(&b, team, bytes, look, (double)b.queries * CF_PAGE * (d_k + d_v), seconds);
}

static void meet(struct cf_team *team, uint32_t thread, void *ctx) {
    const uint32_t *rounds = ctx;
    for (uint32_t i = 1; i < *rounds; i++)
        cf_team_again(team, thread, 0);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cf_team_round_seconds(struct cf_team *team) {
    double times[MEETINGS];
    uint32_t rounds = 4; /* as in a step */
    double begin = cf_now();
    size_t n = 0;
    while (n < MEETINGS && (n < LEAST_MEETINGS || cf_now() - begin < MEETING_SECONDS)) {
        double start = cf_now();
        cf_team_do(team, meet, &rounds, 0);
        times[n++] = (cf_now() - start) / rounds;
    }
    qsort(times, n, sizeof *times, compare);
    return times[n / 2];
}
