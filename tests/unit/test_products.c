/* Products: the scalar table equals a reference that follows DESIGN.md section 6 from the raw rows of a file (see
 * file_weights.h), and every other table equals the scalar one; always by the bits. Where the processor has AVX-512 but
 * no AMX, the products of the amx table run emulated.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "node/kernels/kernels.h"
#include "node/kernels/products/product.h"
#include "tests/blocks.h"
#include "tests/unit/amx_emulator.h"
#include "tests/unit/file_weights.h"
#include "tests/unit/kernel_data.h"

enum { WIDTH = 1280, MAX_ROWS = 144 };

#define RARE(none, lower, upper) [CF_TYPE_##upper] = true,
static const bool rare[CF_TYPE_LIMIT] = {CF__QUANTISED_MORE(RARE, )};

/* All tables of this machine, and amx if only the tile instructions are missing. */
static size_t all_tables(const struct cf_kernels *out[8]) {
    size_t n = cf_kernels_all(out);
#if defined(__x86_64__) && defined(__linux__)
    static struct cf_kernels amx_table;
    if (strcmp(out[n - 1]->isa, "avx512") == 0) {
        amx_emulate();
        amx_table = *out[n - 1];
        amx_table.isa = "amx, emulated";
#define AMX(none, lower, upper) amx_table.product[CF_TYPE_##upper] = cf__product_##lower##_amx;
        CF__QUANTISED(AMX, )
        out[n++] = &amx_table;
    }
#endif
    return n;
}

/* An f16: mostly ordinary, sometimes 0, -0, denormal or of any exponent. */
static void put_scale(uint8_t *p) {
    uint16_t h = cf_f32_to_f16(uniform() * 0.1f);
    switch (below(12)) {
    case 0: h = 0; break;
    case 1: h = 0x8000; break;
    case 2: h = (uint16_t)below(0x400); break;
    case 3: h = (uint16_t)(random32() & 0xfbff); break;
    }
    memcpy(p, &h, 2);
}

static void fill_weights(const struct cf_type *t, uint8_t *row) {
    size_t bytes = (size_t)WIDTH / t->block * t->block_bytes;
    uint32_t style = below(6);
    for (size_t i = 0; i < bytes; i++)
        row[i] = style == 0 ? 0x80 : style == 1 ? 0xff : style == 2 ? 0 : (uint8_t)random32();
    for (uint8_t *b = row; t->quantised && b < row + bytes; b += t->block_bytes) {
        uint32_t at[2];
        for (int i = cf_block_scales(t->id, at) - 1; i >= 0; i--)
            put_scale(b + at[i]);
        if (t->id == CF_TYPE_MXFP4) b[0] = (uint8_t)(below(4) ? 112 + below(16) : below(200)); /* 0, 1: denormal */
    }
    for (uint32_t c = 0; !t->quantised && c < WIDTH; c++) {
        float f = uniform() * (below(20) ? 1.0f : 0x1p-120f);
        uint16_t h = t->id == CF_TYPE_F16 ? (uint16_t)(random32() & 0xfbff) : cf_f32_to_bf16(f);
        if (t->id == CF_TYPE_F32)
            memcpy(row + 4 * c, &f, 4);
        else
            memcpy(row + 2 * c, &h, 2);
    }
}

struct bench {
    const struct cf_type *type;
    size_t row_bytes;
    uint8_t *file; /* [16][row_bytes] */
    float *values; /* [16][WIDTH] */
    float *x;      /* [MAX_ROWS][WIDTH] */
    int8_t *q;     /* [MAX_ROWS][WIDTH] */
    float *d;      /* [MAX_ROWS][WIDTH / 32] */
    int16_t *sum;  /* [MAX_ROWS][WIDTH / 16] */
    float *scaled; /* [MAX_ROWS][WIDTH / 32] */
};

static struct bench bench_new(uint32_t id) {
    const struct cf_kernels *all[8];
    cf_kernels_all(all);
    struct bench b = {.type = cf_type_by_id(id)};
    b.row_bytes = (size_t)WIDTH / b.type->block * b.type->block_bytes;
    b.file = malloc(CF_TILE * b.row_bytes);
    b.values = malloc(sizeof *b.values * CF_TILE * WIDTH);
    b.x = malloc(sizeof *b.x * MAX_ROWS * WIDTH);
    b.q = malloc(MAX_ROWS * WIDTH);
    b.d = malloc(sizeof *b.d * MAX_ROWS * (WIDTH / 32));
    b.sum = malloc(sizeof *b.sum * MAX_ROWS * (WIDTH / 16));
    b.scaled = malloc(sizeof *b.scaled * MAX_ROWS * (WIDTH / 32));
    for (uint32_t r = 0; r < CF_TILE; r++) {
        fill_weights(b.type, b.file + r * b.row_bytes);
        b.type->decode(b.file + r * b.row_bytes, b.values + r * WIDTH, WIDTH);
    }
    fill_activations(b.x, MAX_ROWS * WIDTH);
    assert_int_equal(all[0]->quantise(b.x, MAX_ROWS * WIDTH, b.q, b.d, b.sum), 0);
    cf_scaled_sums(b.d, b.sum, MAX_ROWS * WIDTH, b.scaled);
    return b;
}

static void bench_free(struct bench *b) {
    free(b->file);
    free(b->values);
    free(b->x);
    free(b->q);
    free(b->d);
    free(b->sum);
    free(b->scaled);
}

static float expected(const struct bench *b, uint32_t lane, uint32_t i, uint32_t c0, uint32_t c1) {
    for (size_t t = 0; t < N_QUANTISED; t++)
        if (quantised[t].id == b->type->id)
            return reference(t, b->file + lane * b->row_bytes, b->q + i * WIDTH, b->d + i * (WIDTH / 32), c0, c1);
    return reference_float(b->values + lane * WIDTH, b->x + i * WIDTH, c0, c1);
}

/* Tile of columns [t0, t1) with n_lanes rows; product of its columns [c0, c1) with activations that begin at x0. */
static void check_product(const struct bench *b, uint32_t n_lanes, uint32_t t0, uint32_t t1, uint32_t x0, uint32_t c0,
    uint32_t c1, uint32_t n) {
    const struct cf_type *t = b->type;
    const struct cf_kernels *all[8];
    size_t n_tables = all_tables(all);
    const void *rows[CF_TILE] = {NULL};
    for (uint32_t r = 0; r < n_lanes; r++)
        rows[r] = b->file + r * b->row_bytes + (size_t)(t0 / t->block) * t->block_bytes;
    uint8_t *tile = aligned_alloc(64, t->tile_bytes(t0, t1));
    t->pack(tile, rows, t0, t1);

    uint32_t row0 = below(MAX_ROWS - n + 1);
    struct cf_rows x = {.c0 = x0, .c1 = WIDTH};
    if (t->quantised)
        x.q = b->q + x0, x.d = b->d + x0 / 32, x.sum = b->sum + x0 / 16, x.q_stride = WIDTH,
        x.scaled = below(4) ? b->scaled + x0 / 32 : NULL; /* without them a product is slower, and the same */
    else
        x.f = b->x + x0, x.f_stride = WIDTH;
    float *want = malloc(sizeof *want * n * CF_TILE), *got = malloc(sizeof *got * n * CF_TILE);
    for (uint32_t i = 0; i < n * CF_TILE; i++)
        want[i] = i % CF_TILE < n_lanes ? expected(b, i % CF_TILE, row0 + i / CF_TILE, c0, c1) : 0;
    for (size_t k = 0; k < n_tables; k++) {
        memset(got, 0xff, sizeof *got * n * CF_TILE);
        all[k]->product[t->id](&(struct cf_product){.tile = tile + t->tile_bytes(t0, c0),
            .tile_c0 = t0,
            .c0 = c0,
            .c1 = c1,
            .x = &x,
            .row0 = row0,
            .n = n,
            .y = got});
        assert_same(got, want, (size_t)n * CF_TILE, t->name, all[k]->isa);
    }
    free(tile);
    free(want);
    free(got);
}

/* Chunks [first, last) of the 24 of a row in one run, each compared with the reference. */
static void check_chunks(const struct bench *b, uint32_t first, uint32_t last, uint32_t n) {
    const struct cf_type *t = b->type;
    const struct cf_kernels *all[8];
    size_t n_tables = all_tables(all);
    const void *rows[CF_TILE];
    uint32_t cut[25], n_chunks = last - first;
    for (uint32_t k = first; k <= last; k++)
        cut[k - first] = k * (WIDTH / t->cut) / 24 * t->cut;
    for (uint32_t r = 0; r < CF_TILE; r++)
        rows[r] = b->file + r * b->row_bytes;
    uint8_t *tile = aligned_alloc(64, t->tile_bytes(0, WIDTH));
    t->pack(tile, rows, 0, WIDTH);
    struct cf_rows x = {.c1 = WIDTH, .q = b->q, .d = b->d, .sum = b->sum, .q_stride = WIDTH, .scaled = b->scaled};
    if (!t->quantised) x = (struct cf_rows){.c1 = WIDTH, .f = b->x, .f_stride = WIDTH};
    size_t floats = (size_t)n_chunks * n * CF_TILE;
    float *want = malloc(sizeof *want * floats), *got = malloc(sizeof *got * floats);
    for (size_t i = 0; i < floats; i++) {
        size_t k = i / CF_TILE / n;
        want[i] = expected(b, i % CF_TILE, (uint32_t)(i / CF_TILE % n), cut[k], cut[k + 1]);
    }
    for (size_t k = 0; k < n_tables; k++) {
        memset(got, 0xff, sizeof *got * floats);
        cf_product_run(all[k], t,
            &(struct cf_product){.tile = tile + t->tile_bytes(0, cut[0]),
                .c0 = cut[0],
                .c1 = cut[n_chunks],
                .x = &x,
                .n = n,
                .y = got,
                .cut = cut,
                .n_chunks = n_chunks});
        assert_same(got, want, floats, t->name, all[k]->isa);
    }
    free(tile);
    free(want);
    free(got);
}

/* Of the types that share their text with others fewer numbers of rows are tried: emulated machines are slow. */
static bool tries(uint32_t id, uint32_t n) {
    return !rare[id] || n <= 9 || n == 16 || n == 17 || n == 24 || n == 33 || n == 70;
}

static void test_chunks(void **state) {
    (void)state;
    static const uint32_t rows[] = {1, 2, 5, 7, 16, 17, 24, 48, 80}; /* AMX: in groups of 12, of 16, in two passes */
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        if (!cf_type_by_id(id)) continue;
        struct bench b = bench_new(id);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            if (!tries(id, rows[i])) continue;
            check_chunks(&b, 0, 24, rows[i]);
            uint32_t first = below(23);
            check_chunks(&b, first, first + 1 + below(24 - first), rows[i]);
        }
        bench_free(&b);
    }
}

static void test_products(void **state) {
    (void)state;
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        if (!cf_type_by_id(id)) continue;
        struct bench b = bench_new(id);
        for (uint32_t n = 1; n <= 70; n++) {
            if (!tries(id, n)) continue;
            if (n % 10 == 0) bench_free(&b), b = bench_new(id);
            uint32_t cut = b.type->cut, units = WIDTH / cut;
            if (n == 1) check_product(&b, CF_TILE, 0, WIDTH, 0, 0, WIDTH, 1);
            uint32_t t0 = below(units), t1 = t0 + 1 + below(units - t0); /* the tile */
            uint32_t c0 = t0 + below(t1 - t0), c1 = c0 + 1 + below(t1 - c0);
            if (c1 - c0 > 320 / cut) c1 = c0 + 320 / cut;
            uint32_t x0 = below(c0 + 1);
            check_product(&b, 1 + below(CF_TILE), t0 * cut, t1 * cut, x0 * cut, c0 * cut, c1 * cut, n);
            check_product(&b, CF_TILE, t0 * cut, t1 * cut, t0 * cut, t0 * cut, c1 * cut, n % 9 + 1);
        }
        bench_free(&b);
    }
}

/* More rows than a kernel takes at once, a matrix wider than what it unpacks at once, and every chunk of one tile. */
static void test_many_rows(void **state) {
    (void)state;
    static const uint32_t rows[] = {8, 16, 32, 64, 65, 71, 128, 130};
    for (size_t t = 0; t < N_QUANTISED; t++) {
        struct bench b = bench_new(quantised[t].id);
        const bool thin = rare[quantised[t].id];
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i += thin ? 5 : 1) /* 8 and 71 */
            check_product(&b, CF_TILE, 0, WIDTH, 0, 0, WIDTH, rows[i]);
        for (uint32_t n = 24, k = 0; k < n; k += thin ? 9 : 1) {
            uint32_t c0 = k * (WIDTH / 32) / n * 32, c1 = (k + 1) * (WIDTH / 32) / n * 32;
            check_product(&b, 13, 0, WIDTH, 0, c0, c1, 32);
            check_product(&b, 16, c0, c1, 0, c0, c1, 17);
        }
        bench_free(&b);
    }
#if defined(__x86_64__) && defined(__linux__)
    print_message("tile instructions emulated: %llu\n", (unsigned long long)amx.executed);
#endif
}

/* A row of zeros adds nothing, whatever the activations are. */
static void test_missing_rows(void **state) {
    (void)state;
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        if (!cf_type_by_id(id)) continue;
        struct bench b = bench_new(id);
        check_product(&b, 0, 0, WIDTH, 0, 0, WIDTH, 3);
        check_product(&b, 5, 32, 96, 32, 64, 96, 9);
        bench_free(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_missing_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
