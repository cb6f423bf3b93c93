/* Prints hashes of what the kernels compute from fixed inputs: what, hash, table. Machines that obey the law of one
 * arithmetic (DESIGN, section 6) print the same hash of a thing, whatever the table. tests/cross/kernels compares the
 * host with the machines that it emulates.
 *
 * Inputs come from integers and exact operations; none leads to a NaN, whose payload is nobody's promise.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/kernels/kernels.h"
#include "node/kernels/rope.h"
#include "tests/blocks.h"
#include "tests/random.h"

enum { WIDTH = 768, ROWS = 11, N_MATH = 20000, PAGE = 64, D = 96 };

static uint64_t seed = 1;

static uint32_t random32(void) {
    return cf_random32(&seed);
}

static float uniform(void) { /* within [-1, 1) */
    return (float)(int32_t)(random32() & 0xffffff00u) * 0x1p-31f;
}

static uint64_t hash_of(const void *data, size_t bytes) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return h;
}

static void print(const char *table, const char *what, const char *of, const void *data, size_t bytes) {
    printf("%s%s%s %016llx %s\n", what, *of ? "." : "", of, (unsigned long long)hash_of(data, bytes), table);
}

static void functions(void) {
    static const struct {
        const char *name;
        double (*f)(double);
        double low, high;
    } of[] = {
        {"exp", cf_exp, -760, 720}, {"log", cf_log, 0, 1e9}, {"sin", cf_sin, -1e6, 1e6}, {"cos", cf_cos, -1e6, 1e6}};
    static double y[N_MATH];
    static float z[2][N_MATH];
    for (size_t k = 0; k < sizeof of / sizeof of[0]; k++) {
        for (size_t i = 0; i < N_MATH; i++)
            y[i] = of[k].f(of[k].low + (of[k].high - of[k].low) * (0.5 + 0.5 * (double)uniform()));
        print("-", of[k].name, "", y, sizeof y);
    }
    for (size_t i = 0; i < N_MATH; i++) {
        double base = 1e6 * (1.0 + (double)uniform());
        y[i] = cf_pow(base, 4.0 * (double)uniform());
        z[0][i] = cf_expf(110 * uniform());
        z[1][i] = cf_tanhf(12 * uniform());
    }
    print("-", "pow", "", y, sizeof y);
    print("-", "expf", "", z[0], sizeof z[0]);
    print("-", "tanhf", "", z[1], sizeof z[1]);
}

static void angles(void) {
    static const struct cf_rope ropes[] = {
        {.n_dims = D, .base = 10000, .factor = 1, .attn_factor = 1},
        {.n_dims = D, .base = 500000, .scaling = CF_ROPE_LINEAR, .factor = 4, .attn_factor = 1},
        {.n_dims = D,
            .base = 10000,
            .scaling = CF_ROPE_YARN,
            .factor = 16,
            .original_context = 4096,
            .attn_factor = 1,
            .ext_factor = 1,
            .beta_fast = 32,
            .beta_slow = 1},
    };
    static float cs[3][64][D];
    for (uint32_t k = 0; k < 3; k++) {
        double freq[D / 2];
        float mscale;
        cf_rope_frequencies(&ropes[k], freq, &mscale);
        for (uint32_t i = 0; i < 64; i++)
            cf_rope_angles(cs[k][i], freq, D, mscale, i * i * 31);
    }
    print("-", "angles", "", cs, sizeof cs);
}

/* A row of a file: random bytes, every exponent kept below that of an infinity. */
static void fill_row(const struct cf_type *t, uint8_t *row) {
    for (uint32_t at = 0; at < WIDTH / t->block * t->block_bytes; at++)
        row[at] = (uint8_t)random32();
    for (uint8_t *b = row; b < row + WIDTH / t->block * t->block_bytes; b += t->block_bytes) {
        if (t->quantised)
            cf_block_make_finite(t, b);
        else
            b[t->block_bytes - 1] &= 0xbf;
    }
}

struct inputs {
    float x[ROWS * WIDTH];
    int8_t q[ROWS * WIDTH];
    float d[ROWS * WIDTH / 32];
    int16_t sum[ROWS * WIDTH / 16];
};

static void products(const struct cf_kernels *const *tables, size_t n_tables, const struct cf_type *t) {
    static struct inputs in;
    static float y[ROWS][CF_TILE], plain[CF_TILE][WIDTH];
    const void *rows[CF_TILE];
    uint8_t *file = malloc((size_t)CF_TILE * WIDTH * 4), *tile = aligned_alloc(64, t->tile_bytes(0, WIDTH));
    for (uint32_t r = 0; r < CF_TILE; r++) {
        uint8_t *row = file + (size_t)r * WIDTH * 4;
        rows[r] = row;
        fill_row(t, row);
        t->decode(row, plain[r], WIDTH);
    }
    t->pack(tile, rows, 0, WIDTH);
    print("-", t->name, "decode", plain, sizeof plain);
    print("-", t->name, "pack", tile, t->tile_bytes(0, WIDTH));
    for (uint32_t i = 0; i < ROWS * WIDTH; i++)
        in.x[i] = uniform() * (float)(1 + i / 100 % 7);
    for (size_t k = 0; k < n_tables; k++) {
        tables[k]->quantise(in.x, ROWS * WIDTH, in.q, in.d, in.sum);
        struct cf_rows x = {.c0 = 0, .c1 = WIDTH, .f = in.x, .f_stride = WIDTH};
        x.q = in.q, x.d = in.d, x.sum = in.sum, x.q_stride = WIDTH;
        tables[k]->product[t->id](&(struct cf_product){.tile = tile, .c1 = WIDTH, .x = &x, .n = ROWS, .y = y[0]});
        print(tables[k]->isa, t->name, "q", in.q, sizeof in.q);
        print(tables[k]->isa, t->name, "d", in.d, sizeof in.d);
        print(tables[k]->isa, t->name, "sum", in.sum, sizeof in.sum);
        print(tables[k]->isa, t->name, "product", y, sizeof y);
    }
    free(file);
    free(tile);
}

/* Two spans of one page each, the second partly filled, then their merge. */
static void attention(const struct cf_kernels *k, const float *x) {
    static uint16_t keys[D * PAGE], values[PAGE * D];
    float acc[3][D] = {{0}}, out[D];
    k->to_f16(keys, x, D * PAGE);
    k->to_f16(values, x + D * PAGE, PAGE * D);
    struct cf_attention_state s[3] = {{.max = -INFINITY, .acc = acc[0], .q = x + 17, .n = PAGE},
        {.max = -INFINITY, .acc = acc[1], .q = x + 17, .n = 37}, {.max = -INFINITY, .acc = acc[2]}};
    struct cf_attention_page first = {.k = keys, .v = values, .d_k = D, .d_v = D, .scale = 0.3f, .n_queries = 1};
    struct cf_attention_page second = first;
    second.k = values, second.v = keys;
    k->attend_page(&s[0], &first);
    second.cap = 20.0f, s[1].first = 6;
    k->attend_page(&s[1], &second);
    k->attend_merge(&s[2], &s[0], D);
    k->attend_merge(&s[2], &s[1], D);
    k->attend_finish(out, &s[2], D);
    print(k->isa, "attention", "", out, sizeof out);
}

static void vectors(const struct cf_kernels *k, const float *x) {
    enum { N = 1000 };
    static float y[N];
    k->rms_norm(y, x, x + N, N, 1e-5f);
    print(k->isa, "rms_norm", "", y, sizeof y);
    static const char *const acts[] = {"silu", "gelu", "swiglu_oai"};
    for (int act = CF_ACT_SILU; act <= CF_ACT_SWIGLU_OAI; act++) {
        k->gate_mul((enum cf_act)act, y, x, x + N, N);
        k->add(y, x + 2 * N, N);
        print(k->isa, "gate_mul", acts[act], y, sizeof y);
    }
    for (size_t i = 0; i + D < N; i += D) {
        k->rope(y + i, x + 3 * N, D, i % (2 * D) == 0);
    }
    print(k->isa, "rope", "", y, sizeof y);
    k->add_scaled(y, x, 0.37f, N - 3);
    print(k->isa, "add_scaled", "", y, sizeof y);
}

int main(void) {
    const struct cf_kernels *tables[8];
    size_t n_tables = cf_kernels_all(tables);
    static float x[2 * D * PAGE];
    functions();
    angles();
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++)
        if (cf_type_by_id(id)) products(tables, n_tables, cf_type_by_id(id));
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        x[i] = 3 * uniform();
    for (size_t k = 0; k < n_tables; k++) {
        vectors(tables[k], x);
        attention(tables[k], x);
    }
    static float sums[sizeof x / sizeof x[0]];
    for (size_t k = 0; k < n_tables; k++) {
        memcpy(sums, x, sizeof x);
        tables[k]->tree_sum(sums, 24, 500, 500);
        print(tables[k]->isa, "tree", "", sums, sizeof(float) * 500);
    }
    return 0;
}
