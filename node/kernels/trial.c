/* See trial.h. */
#include "node/kernels/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/kernels/tile.h"

enum {
    COLUMNS = 1024,
    STRIDE = COLUMNS + 64, /* an odd number of lines, as in the engine */
    TILES = 4,
    ROWS = 48, /* what the engine takes at once */
    ROUNDS = 5,
    PATIENCE = 25, /* of the second: as many as a candidate gets that has not won yet */
    BLOCKS = STRIDE / CF_BLOCK,
};

#define TYPE(none, lower, upper) CF_TYPE_##upper,
const uint32_t cf__trial_types[] = {CF__QUANTISED(TYPE, ) CF_TYPE_LIMIT};
#define LAYOUT(none, lower, upper) [CF_TYPE_##upper] = &cf__layouts[CF__##upper],
static const struct cf__layout *const layouts[CF_TYPE_LIMIT] = {CF__QUANTISED(LAYOUT, )};

struct data {
    _Alignas(64) uint8_t tiles[TILES][COLUMNS * CF_TILE + COLUMNS * 8]; /* room for any type */
    int8_t q[ROWS][STRIDE];
    float d[ROWS][BLOCKS], scaled[ROWS][BLOCKS];
    int16_t sum[ROWS][2 * BLOCKS];
    float y[2][ROWS][CF_TILE];
    struct cf_rows x;
    uint64_t seed;
};

static uint32_t random32(struct data *t) {
    t->seed = t->seed * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
    return (uint32_t)(t->seed >> 32);
}

/* Any bytes are a tile, as long as the scales are finite: the top of what is a float is made positive and below 2. */
static void fix_head(const struct cf__layout *l, uint8_t *head) {
    static const uint32_t halves[] = {[CF__PAIR] = 32, [CF__PAIR_MIN] = 64, [CF__K] = 32, [CF__K16] = 32};
    const bool floats = l->head == CF__BY_32 || l->head == CF__BY_16;
    for (uint32_t i = 0; !floats && l->head != CF__E8M0 && i < halves[l->head]; i++)
        head[2 * i + 1] &= 0x3f;
    for (uint32_t i = 0; floats && i < CF_TILE; i++)
        head[4 * i + 3] = 0x3c;
    for (uint32_t i = 0; l->head == CF__E8M0 && i < l->head_bytes; i++)
        head[i] = (uint8_t)(100 + head[i] % 32);
}

static void fill_tiles(struct data *t, const struct cf__layout *l) {
    const size_t bytes = cf__tile_bytes(l, 0, COLUMNS);
    for (int i = 0; i < TILES; i++) {
        for (size_t b = 0; b < bytes; b++)
            t->tiles[i][b] = (uint8_t)random32(t);
        for (uint32_t c = 0; c < COLUMNS; c += l->super)
            fix_head(l, t->tiles[i] + cf__tile_bytes(l, 0, c));
    }
}

static void fill_rows(struct data *t) {
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            t->q[r][c] = (int8_t)(random32(t) % 255 - 127);
            t->sum[r][c / 16] = (int16_t)(t->sum[r][c / 16] + t->q[r][c]);
            t->d[r][c / 32] = (float)(1 + (random32(t) & 0xffff)) * 0x1p-16f;
        }
    cf_scaled_sums(t->d[0], t->sum[0], (size_t)ROWS * STRIDE, t->scaled[0]);
    t->x = (struct cf_rows){.c0 = 0,
        .c1 = COLUMNS,
        .q = t->q[0],
        .d = t->d[0],
        .sum = t->sum[0],
        .q_stride = STRIDE,
        .scaled = t->scaled[0]};
}

static void multiply(struct data *t, cf_product_fn fn, int tile, uint32_t row0, uint32_t n, int to) {
    struct cf_product p = {.tile = t->tiles[tile],
        .tile_c0 = 0,
        .c0 = 0,
        .c1 = COLUMNS,
        .x = &t->x,
        .row0 = row0,
        .n = n,
        .y = t->y[to][0]};
    fn(&p);
}

static bool equal(struct data *t, cf_product_fn known, cf_product_fn candidate) {
    for (uint32_t n = 1; n <= ROWS; n++)
        for (int tile = 0; tile < TILES; tile++) {
            if (n < ROWS && tile != (int)(n % TILES)) continue;
            multiply(t, known, tile, ROWS - n, n, 0);
            multiply(t, candidate, tile, ROWS - n, n, 1);
            if (memcmp(t->y[0], t->y[1], n * sizeof t->y[0][0]) != 0) return false;
        }
    return true;
}

static double seconds(struct data *t, cf_product_fn fn) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int tile = 0; tile < TILES; tile++)
        multiply(t, fn, tile, 0, ROWS, 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
}

/* By the best of a few turns of each, so that an interruption does not decide. A candidate that comes out second gets
 * some more: a machine that is disturbed just now must not choose other products than a minute later. */
static bool faster(struct data *t, cf_product_fn known, cf_product_fn candidate) {
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < ROUNDS || (i < PATIENCE && best[1] >= best[0]); i++) {
        double s[2] = {seconds(t, known), seconds(t, candidate)};
        for (int k = 0; k < 2; k++)
            if (s[k] < best[k]) best[k] = s[k];
    }
    return best[1] < best[0];
}

void cf__trial_name(
    char *name, size_t size, const char *isa, const struct cf_kernels *chosen, const struct cf_kernels *candidate) {
    int types = 0, taken = 0;
    for (const uint32_t *type = cf__trial_types; *type < CF_TYPE_LIMIT; type++, types++)
        taken += chosen->product[*type] == candidate->product[*type];
    const bool few = 2 * taken < types; /* names what is taken, else what is not */
    size_t at = (size_t)snprintf(name, size, "%s", isa), first = at;
    for (const uint32_t *type = cf__trial_types; *type < CF_TYPE_LIMIT && at < size; type++)
        if ((chosen->product[*type] == candidate->product[*type]) == few)
            at += (size_t)snprintf(name + at, size - at, "%c%s",
                !few          ? '-'
                : at == first ? ':'
                              : '+',
                cf_type_name(*type));
}

int cf__trial(struct cf_kernels *chosen, const struct cf_kernels *known, const struct cf_kernels *candidate) {
    *chosen = *known;
    chosen->scaled_sums = candidate->scaled_sums;
    struct data *t = aligned_alloc(64, (sizeof *t + 63) / 64 * 64);
    if (!t) return -1;
    memset(t, 0, sizeof *t);
    t->seed = 1;
    fill_rows(t);
    int taken = 0;
    for (const uint32_t *type = cf__trial_types; *type < CF_TYPE_LIMIT; type++) {
        fill_tiles(t, layouts[*type]);
        cf_product_fn old = known->product[*type], new = candidate->product[*type];
        if (!equal(t, old, new) || !faster(t, old, new)) continue;
        chosen->product[*type] = new;
        taken++;
    }
    free(t);
    return taken;
}
