/* See rate.h. */
#include "node/engine/rate.h"

#include <stdlib.h>
#include <string.h>

#include "transport/clock.h"

enum { COLUMNS = 2048, TILES = 4, ROWS = 64, PASSES = 10 };

struct bench {
    const struct cf_kernels *kernels;
    const struct cf_type *type;
    size_t tile_bytes;
    char **room; /* [threads] */
    uint32_t rounds;
};

/* Zeros do: no kernel looks at the values. */
static void *zeros(size_t bytes) {
    bytes = (bytes + 63) & ~(size_t)63;
    void *p = aligned_alloc(64, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

/* One thread's room: tiles, outputs, then the rows in the form that the type takes. */
static size_t room_bytes(const struct bench *b) {
    size_t rows = b->type->quantised ? ROWS * (size_t)(COLUMNS + COLUMNS / 32 * 4 + COLUMNS / 16 * 2)
                                     : ROWS * COLUMNS * sizeof(float);
    return TILES * b->tile_bytes + ROWS * CF_TILE * sizeof(float) + rows;
}

static void multiply(struct cf_team *team, uint32_t thread, void *ctx) {
    const struct bench *b = ctx;
    char *tiles = b->room[thread], *y = tiles + TILES * b->tile_bytes, *x = y + ROWS * CF_TILE * sizeof(float);
    struct cf_rows rows = {.c1 = COLUMNS, .f_stride = COLUMNS, .q_stride = COLUMNS};
    if (b->type->quantised) {
        char *d = x + (size_t)ROWS * COLUMNS, *sum = d + ROWS * COLUMNS / 32 * sizeof(float);
        rows.q = (const int8_t *)x, rows.d = (const float *)(const void *)d;
        rows.sum = (const int16_t *)(const void *)sum;
    } else {
        rows.f = (const float *)(const void *)x;
    }
    for (uint32_t i = 0; i < b->rounds; i++) {
        for (uint32_t t = 0; t < TILES; t++) {
            struct cf_product p = {.tile = tiles + t * b->tile_bytes,
                .tile_c0 = 0,
                .c0 = 0,
                .c1 = COLUMNS,
                .x = &rows,
                .row0 = 0,
                .n = ROWS,
                .y = (float *)(void *)y};
            b->kernels->product[b->type->id](&p);
        }
        cf_team_breathe(team, thread);
    }
}

static double measure(struct bench *b, struct cf_team *team, double seconds) {
    const double work = (double)cf_team_size(team) * TILES * CF_TILE * COLUMNS * ROWS;
    double best = 0, pass = 0;
    for (int i = 0; i <= PASSES;) { /* rounds grow until a pass is long enough; such passes count */
        double start = cf_now();
        cf_team_do(team, multiply, b, 0);
        pass = cf_now() - start;
        if (pass < 0.5 * seconds / PASSES && b->rounds < 1u << 20) {
            b->rounds *= 2;
            continue;
        }
        if (work * b->rounds / pass > best) best = work * b->rounds / pass;
        i++;
    }
    return best;
}

double cf_team_product_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds) {
    if (!type || type->id >= CF_TYPE_LIMIT || !kernels->product[type->id]) return 0;
    uint32_t threads = cf_team_size(team);
    struct bench b = {kernels, type, type->tile_bytes(0, COLUMNS), calloc(threads, sizeof *b.room), 1};
    bool ok = b.room;
    for (uint32_t i = 0; ok && i < threads; i++)
        ok = (b.room[i] = zeros(room_bytes(&b))) != NULL;
    double rate = ok ? measure(&b, team, seconds) : 0;
    for (uint32_t i = 0; b.room && i < threads; i++)
        free(b.room[i]);
    free(b.room);
    return rate;
}
