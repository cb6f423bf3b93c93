/* Products: the scalar table equals a reference that follows DESIGN.md section 6 from the raw rows of a file (it knows
 * no tiles), and every other table equals the scalar one; always by the bits. Also rounding of activations, the tree
 * over chunk sums, and the choice of a table. Where the processor has AVX-512 but no AMX, the products of the amx table
 * run emulated.
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

#include "node/kernels/types/codebook.h"
#include "node/kernels/kernels.h"
#include "node/kernels/products/product.h"
#include "tests/blocks.h"
#include "tests/random.h"
#include "tests/unit/amx_emulator.h"

enum { WIDTH = 1280, MAX_ROWS = 144 };

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

static uint64_t seed = 7;

static uint32_t random32(void) {
    return cf_random32(&seed);
}
static uint32_t below(uint32_t n) {
    return random32() % n;
}
static float uniform(void) {
    return (float)(int32_t)random32() * 0x1p-31f;
}

/* --- one weight of a row of a file, straight from the published layouts --- */

struct weight {
    int w;
    float scale, min; /* value = scale * w - min */
};

static float half_at(const uint8_t *p) {
    return cf_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static struct weight q8_0(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 34;
    return (struct weight){(int8_t)b[2 + c % 32], half_at(b), 0};
}

static struct weight q4_0(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 18;
    int byte = b[2 + c % 16];
    return (struct weight){(c % 32 < 16 ? byte & 15 : byte >> 4) - 8, half_at(b), 0};
}

static struct weight k4_or_k5(const uint8_t *b, uint32_t c, const uint8_t *high, const uint8_t *low) {
    uint32_t s = c / 32;
    const uint8_t *six = b + 4;
    int scale = s < 4 ? six[s] % 64 : six[s + 4] % 16 + six[s - 4] / 64 * 16;
    int min = s < 4 ? six[s + 4] % 64 : six[s + 4] / 16 + six[s] / 64 * 16;
    int byte = low[c / 64 * 32 + c % 32];
    int w = c % 64 < 32 ? byte % 16 : byte / 16;
    if (high && (high[c % 32] >> s) % 2) w += 16;
    return (struct weight){w, half_at(b) * (float)scale, half_at(b + 2) * (float)min};
}

static struct weight q4_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 144;
    return k4_or_k5(b, c % 256, NULL, b + 16);
}

static struct weight q5_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 176;
    return k4_or_k5(b, c % 256, b + 16, b + 48);
}

static struct weight q6_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 210;
    uint32_t in = c % 256, half = in / 128, run = in % 128 / 32, l = in % 32;
    int low = b[half * 64 + (run & 1) * 32 + l], high = b[128 + half * 32 + l];
    int w = (run < 2 ? low % 16 : low / 16) + 16 * (high >> 2 * run & 3);
    return (struct weight){w - 32, half_at(b + 208) * (float)(int8_t)b[192 + in / 16], 0};
}

static struct weight q4_1(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 20;
    int byte = b[4 + c % 16];
    return (struct weight){c % 32 < 16 ? byte % 16 : byte / 16, half_at(b), -half_at(b + 2)};
}

static int five_bits(const uint8_t *fifth, const uint8_t *nibbles, uint32_t c) {
    int byte = nibbles[c % 16];
    return (c < 16 ? byte % 16 : byte / 16) + (fifth[c / 8] >> c % 8 & 1) * 16;
}

static struct weight q5_0(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 22;
    return (struct weight){five_bits(b + 2, b + 6, c % 32) - 16, half_at(b), 0};
}

static struct weight q5_1(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 24;
    return (struct weight){five_bits(b + 4, b + 8, c % 32), half_at(b), -half_at(b + 2)};
}

static struct weight q2_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 84;
    uint32_t in = c % 256, pair = b[16 + in / 128 * 32 + in % 32] >> in % 128 / 32 * 2;
    return (struct weight){
        (int)(pair % 4), half_at(b + 80) * (float)(b[in / 16] % 16), half_at(b + 82) * (float)(b[in / 16] / 16)};
}

static struct weight q3_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 110, *six = b + 96;
    uint32_t in = c % 256, pair = b[32 + in / 128 * 32 + in % 32] >> in % 128 / 32 * 2, i = in / 16;
    int low = i < 8 ? six[i] % 16 : six[i - 8] / 16, scale = low + (six[8 + i % 4] >> i / 4 * 2) % 4 * 16 - 32;
    int third = b[in % 32] >> in / 32 & 1;
    return (struct weight){(int)(pair % 4) - (third ? 0 : 4), half_at(b + 108) * (float)scale, 0};
}

static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static struct weight iq4_nl(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 18;
    int byte = b[2 + c % 16];
    return (struct weight){iq4[c % 32 < 16 ? byte % 16 : byte / 16], half_at(b), 0};
}

static struct weight iq4_xs(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 136;
    uint32_t s = c % 256 / 32, high = (uint32_t)(b[2] | b[3] << 8) >> 2 * s & 3;
    int byte = b[8 + 16 * s + c % 16], scale = (int)((s % 2 ? b[4 + s / 2] / 16 : b[4 + s / 2] % 16) + 16 * high) - 32;
    return (struct weight){iq4[c % 32 < 16 ? byte % 16 : byte / 16], half_at(b) * (float)scale, 0};
}

static struct weight mxfp4(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 17;
    int byte = b[1 + c % 16];
    return (struct weight){fp4[c % 32 < 16 ? byte % 16 : byte / 16], ldexpf(1, b[0] - 128), 0};
}

/* Sign j of 8: of 7 bits and their parity, or of 8. */
static int sign_of(uint32_t bits, bool parity, uint32_t j) {
    if (parity && j == 7) return __builtin_popcount(bits & 127) % 2 ? -1 : 1;
    return bits >> j & 1 ? -1 : 1;
}

static uint32_t word_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static struct weight iq3_xxs(const uint8_t *row, uint32_t c) {
    static const int magnitudes[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const uint8_t *b = row + c / 256 * 98;
    uint32_t in = c % 256, word = word_at(b + 66 + in / 32 * 4);
    int magnitude = magnitudes[cf__grid_iq3xxs[b[2 + in / 4]] >> c % 4 * 3 & 7];
    return (struct weight){
        magnitude * sign_of(word >> in % 32 / 8 * 7, true, c % 8), half_at(b) * (0.5f + (float)(word >> 28)) * 0.5f, 0};
}

static struct weight iq3_s(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 110;
    uint32_t in = c % 256, number = b[2 + in / 4] | (uint32_t)(b[66 + in / 32] >> in % 32 / 4 & 1) << 8;
    int magnitude = 2 * (cf__grid_iq3s[number] >> c % 4 * 3 & 7) + 1, scale = b[106 + in / 64] >> in / 32 % 2 * 4 & 15;
    return (struct weight){magnitude * sign_of(b[74 + in / 8], false, c % 8), half_at(b) * (float)(1 + 2 * scale), 0};
}

static int iq2_magnitude(uint16_t entry, uint32_t j) {
    static const int magnitudes[4] = {8, 25, 43, 0};
    return magnitudes[entry >> 2 * j & 3];
}

static struct weight iq2_xxs(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 66, *words = b + 2 + c % 256 / 32 * 8;
    uint32_t word = word_at(words + 4), i = c % 32 / 8;
    int w = iq2_magnitude(cf__grid_iq2xxs[words[i]], c % 8) * sign_of(word >> 7 * i, true, c % 8);
    return (struct weight){w, half_at(b) * (0.5f + (float)(word >> 28)) * 0.25f, 0};
}

static struct weight iq2_scaled(const uint8_t *b, const uint8_t *scales, uint32_t in, int w) {
    int scale = scales[in / 32] >> in / 16 % 2 * 4 & 15;
    return (struct weight){w, half_at(b) * (0.5f + (float)scale) * 0.25f, 0};
}

static struct weight iq2_xs(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 74;
    uint32_t in = c % 256, word = b[2 + in / 8 * 2] | (uint32_t)b[3 + in / 8 * 2] << 8;
    int w = iq2_magnitude(cf__grid_iq2xs[word % 512], c % 8) * sign_of(word >> 9, true, c % 8);
    return iq2_scaled(b, b + 66, in, w);
}

static struct weight iq2_s(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 82;
    uint32_t in = c % 256, number = b[2 + in / 8] | (uint32_t)(b[66 + in / 32] >> in % 32 / 8 * 2 & 3) << 8;
    int w = iq2_magnitude(cf__grid_iq2s[number], c % 8) * sign_of(b[34 + in / 8], false, c % 8);
    return iq2_scaled(b, b + 74, in, w);
}

static const struct {
    uint32_t id, block; /* block: columns under one scale */
    bool mins;
    struct weight (*at)(const uint8_t *row, uint32_t c);
} quantised[] = {
    {CF_TYPE_Q8_0, 32, false, q8_0},
    {CF_TYPE_Q4_0, 32, false, q4_0},
    {CF_TYPE_Q4_K, 32, true, q4_k},
    {CF_TYPE_Q5_K, 32, true, q5_k},
    {CF_TYPE_Q6_K, 16, false, q6_k},
    {CF_TYPE_Q4_1, 32, true, q4_1},
    {CF_TYPE_Q5_0, 32, false, q5_0},
    {CF_TYPE_Q5_1, 32, true, q5_1},
    {CF_TYPE_Q2_K, 16, true, q2_k},
    {CF_TYPE_Q3_K, 16, false, q3_k},
    {CF_TYPE_IQ4_NL, 32, false, iq4_nl},
    {CF_TYPE_IQ4_XS, 32, false, iq4_xs},
    {CF_TYPE_MXFP4, 32, false, mxfp4},
    {CF_TYPE_IQ3_S, 32, false, iq3_s},
    {CF_TYPE_IQ3_XXS, 32, false, iq3_xxs},
    {CF_TYPE_IQ2_S, 16, false, iq2_s},
    {CF_TYPE_IQ2_XS, 16, false, iq2_xs},
    {CF_TYPE_IQ2_XXS, 32, false, iq2_xxs},
};
#define RARE(none, lower, upper) [CF_TYPE_##upper] = true,
static const bool rare[CF_TYPE_LIMIT] = {CF__QUANTISED_MORE(RARE, )};
enum { N_QUANTISED = sizeof quantised / sizeof quantised[0] };

/* q and d: an activation row from column 0 of the matrix. */
static float reference(size_t t, const uint8_t *row, const int8_t *q, const float *d, uint32_t c0, uint32_t c1) {
    float acc = 0;
    for (uint32_t c = c0; c < c1; c += quantised[t].block) {
        struct weight first = quantised[t].at(row, c);
        int32_t dot = 0, sum = 0;
        for (uint32_t j = c; j < c + quantised[t].block; j++) {
            dot += quantised[t].at(row, j).w * q[j];
            sum += q[j];
        }
        acc = fmaf(first.scale * d[c / 32], (float)dot, acc);
        if (quantised[t].mins) acc = fmaf(-first.min, d[c / 32] * (float)sum, acc);
    }
    return acc;
}

static float reference_float(const float *w, const float *x, uint32_t c0, uint32_t c1) {
    float acc = 0;
    for (uint32_t c = c0; c < c1; c++)
        acc = fmaf(w[c], x[c], acc);
    return acc;
}

/* --- random matrices and activations --- */

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

static void fill_activations(float *x, uint32_t n) {
    static const float sizes[] = {1, 1, 1, 1, 30000, 0, 0x1p-101f, 0x1p-99f, 0x1p-140f, 0x1p60f};
    for (uint32_t c = 0; c < n; c += 32) {
        float size = sizes[below(sizeof sizes / sizeof sizes[0])];
        bool extreme = below(4) == 0; /* all q = -127 or 127 */
        for (uint32_t j = c; j < c + 32; j++)
            x[j] = extreme ? (below(2) ? -size : size) : size * uniform();
    }
}

static void assert_same(const float *a, const float *b, size_t n, const char *what, const char *isa) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], 4) != 0)
            fail_msg("%s, %s: element %zu is %a, not %a", what, isa, i, (double)a[i], (double)b[i]);
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
    for (uint32_t r = 0; r < CF_TILE; r++) {
        fill_weights(b.type, b.file + r * b.row_bytes);
        b.type->decode(b.file + r * b.row_bytes, b.values + r * WIDTH, WIDTH);
    }
    fill_activations(b.x, MAX_ROWS * WIDTH);
    assert_int_equal(all[0]->quantise(b.x, MAX_ROWS * WIDTH, b.q, b.d, b.sum), 0);
    return b;
}

static void bench_free(struct bench *b) {
    free(b->file);
    free(b->values);
    free(b->x);
    free(b->q);
    free(b->d);
    free(b->sum);
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
        x.q = b->q + x0, x.d = b->d + x0 / 32, x.sum = b->sum + x0 / 16, x.q_stride = WIDTH;
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
    struct cf_rows x = {.c1 = WIDTH, .q = b->q, .d = b->d, .sum = b->sum, .q_stride = WIDTH};
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
    return !rare[id] || n <= 9 || n == 16 || n == 17 || n == 33 || n == 70;
}

static void test_chunks(void **state) {
    (void)state;
    static const uint32_t rows[] = {1, 2, 5, 7, 16, 17, 48};
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

static void test_quantise(void **state) {
    (void)state;
    enum { N = 32 * 400 };
    const struct cf_kernels *all[8];
    size_t n_tables = cf_kernels_all(all);
    float *x = malloc(sizeof(float) * N), *d = malloc(sizeof(float) * N / 32);
    int8_t *q = malloc(N);
    int16_t *sum = malloc(sizeof(int16_t) * N / 16);
    fill_activations(x, N);
    x[5 * 32] = 3.4e38f;
    for (uint32_t j = 0; j < 32; j++)
        x[6 * 32 + j] = (float)j + 0.5f, x[7 * 32 + j] = j == 3 ? 0x1p-100f : -0.0f; /* ties; the least block kept */
    x[6 * 32 + 31] = 127;
    for (size_t k = 0; k < n_tables; k++) {
        assert_int_equal(all[k]->quantise(x, N, q, d, sum), 0);
        for (uint32_t c = 0; c < N; c += 32) {
            float absmax = 0;
            for (uint32_t j = c; j < c + 32; j++)
                absmax = fmaxf(absmax, fabsf(x[j]));
            bool tiny = absmax < 0x1p-100f;
            float want = tiny ? 0 : absmax / 127.0f;
            int sums[2] = {0, 0};
            assert_same(&d[c / 32], &want, 1, "scale", all[k]->isa);
            for (uint32_t j = c; j < c + 32; j++) {
                assert_int_equal(q[j], tiny ? 0 : (int)rintf(x[j] * (127.0f / absmax)));
                sums[j % 32 / 16] += q[j];
            }
            assert_int_equal(sum[c / 16], sums[0]);
            assert_int_equal(sum[c / 16 + 1], sums[1]);
        }
        static const float bad[] = {INFINITY, -INFINITY, NAN};
        for (uint32_t i = 0; i < 96; i++) {
            float y[64] = {0};
            y[i % 64] = bad[i % 3];
            assert_int_equal(all[k]->quantise(y, 64, q, d, sum), -1);
        }
    }
    free(x);
    free(d);
    free(q);
    free(sum);
}

static float tree(const float *v, size_t n, size_t stride) {
    return n == 1 ? v[0] : tree(v, n / 2, stride) + tree(v + n / 2 * stride, n - n / 2, stride);
}

static void test_tree_sum(void **state) {
    (void)state;
    const struct cf_kernels *all[8];
    size_t n_tables = cf_kernels_all(all);
    for (size_t n = 1; n <= 32; n++) {
        size_t width = 1 + below(700), stride = width + below(20);
        float *v = malloc(sizeof(float) * n * stride), *want = malloc(sizeof(float) * width);
        float *sums = malloc(sizeof(float) * n * stride);
        for (size_t i = 0; i < n * stride; i++)
            v[i] = uniform();
        for (size_t i = 0; i < width; i++)
            want[i] = tree(v + i, n, stride);
        for (size_t k = 0; k < n_tables; k++) {
            memcpy(sums, v, sizeof(float) * n * stride);
            all[k]->tree_sum(sums, n, stride, width);
            assert_same(sums, want, width, "tree", all[k]->isa);
        }
        free(v);
        free(want);
        free(sums);
    }
}

static void test_choose(void **state) {
    (void)state;
    const struct cf_kernels *all[8];
    size_t n = cf_kernels_all(all);
    assert_true(n >= 1);
    assert_string_equal(all[0]->isa, "scalar");
    for (size_t i = 0; i < n; i++)
        assert_ptr_equal(cf_kernels_choose(all[i]->isa), all[i]);
    assert_null(cf_kernels_choose("mmx"));
    unsetenv("COFFER_ISA");
    assert_ptr_equal(cf_kernels_choose(NULL), all[n - 1]);
    setenv("COFFER_ISA", "scalar", 1);
    assert_ptr_equal(cf_kernels_choose(NULL), all[0]);
    setenv("COFFER_ISA", "sse9", 1);
    assert_null(cf_kernels_choose(NULL));
    unsetenv("COFFER_ISA");
    for (size_t i = 0; i < n; i++)
        for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++)
            assert_int_equal(all[i]->product[id] != NULL, cf_type_by_id(id) != NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_missing_rows),
        cmocka_unit_test(test_quantise),
        cmocka_unit_test(test_tree_sum),
        cmocka_unit_test(test_choose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
