/* The arithmetic of one coffer, as a table of functions chosen once from cpuid (or COFFER_ISA).
 *
 * All tables give the same bits: DESIGN.md section 6 fixes every rounding, node/kernels/README.md writes it down. The
 * scalar table is the reference; tests compare every other table with it by ==.
 *
 * Nothing here allocates, knows threads, files or layers. Arrays need no alignment unless said; none overlap unless
 * said.
 */
#ifndef COFFER_NODE_KERNELS_KERNELS_H
#define COFFER_NODE_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/kernels/type.h"

/* Activations of a batch, columns [c0, c1) of a longer row. Either form may be missing. c0 is a multiple of 32 when q
 * is used; blocks are counted from c0. */
struct cf_rows {
    uint32_t c0, c1;
    const float *f; /* [rows][f_stride] */
    size_t f_stride;
    const int8_t *q;    /* [rows][q_stride], q_stride >= columns */
    const float *d;     /* [rows][q_stride / 32]: scale of each block of 32 columns */
    const int16_t *sum; /* [rows][q_stride / 16]: sum of q over each 16 columns */
    size_t q_stride;    /* a multiple of 32 */
    /* [rows][q_stride / 32]: cf_scaled_sums() of d and sum, or NULL. Products may need it to be quick: cf_kernels. */
    const float *scaled;
};

/* scaled[n / 32]: d times the sum of q of each block of 32 columns, what minima are multiplied by. */
void cf_scaled_sums(const float *d, const int16_t *sum, size_t n, float *scaled);

/* y[i][lane] for rows row0 <= row0 + i < row0 + n: the product of one tile, columns [c0, c1) (a chunk, or the whole
 * width), with activation row row0 + i, accumulated in f32 from 0 block after block (quantised) or column after column
 * (float types, one fma each). `tile` points at column c0 of the tile (see cf_type.tile_bytes). For K-types c0 may lie
 * inside a super-block: the tile's layout from there depends on where the tile began, so tile_c0 says where. */
struct cf_product {
    const void *tile; /* at column c0 */
    uint32_t tile_c0; /* first column of the packed tile */
    uint32_t c0, c1;
    const struct cf_rows *x;
    uint32_t row0, n;
    float *y; /* [n][16] */

    /* Several chunks in one walk: y[k][i][lane] is the product of columns [cut[k], cut[k + 1]), none empty, with
     * cut[0] = c0 and cut[n_chunks] = c1. 0: [c0, c1) is one. Only cf_product_run() takes more than one for any table.
     */
    const uint32_t *cut;
    uint32_t n_chunks;
};
typedef void (*cf_product_fn)(const struct cf_product *p);

/* How the two branches of an MLP meet: README.md, "gate_mul". */
enum cf_act {
    CF_ACT_SILU,       /* llama and most */
    CF_ACT_GELU,       /* its tanh form: gemma */
    CF_ACT_SWIGLU_OAI, /* gpt-oss */
};

/* Running state of one query (one head of one row) over the keys of one span. */
struct cf_attention_state {
    const float *q;    /* [d_k]; attend_page only */
    uint32_t first, n; /* keys first..n-1 of the page at hand take part, n <= 64; n = 0: the page changes nothing */
    float max;         /* -INFINITY at first */
    float sum[16];     /* lane = position mod 16 */
    float *acc;        /* [d_v], zeros at first */
};

/* One KV page and the queries that read it: the query heads of one KV head, of one row or of several. */
struct cf_attention_page {
    const uint16_t *k; /* f16 [d_k][64]: transposed, one lane per key */
    const uint16_t *v; /* f16 [64][d_v] */
    uint32_t d_k, d_v;
    float scale;
    float cap; /* scores become cap * tanh(score / cap); 0: they stay */
    uint32_t n_queries;
    const void *next; /* where the next page (k, then v) will be read, to be prefetched; NULL: unknown. A hint only */
};

enum { CF_ISA_NAME = 256 }; /* bytes that the name of any table fits into */

struct cf_kernels {
    const char *isa; /* "scalar", "avx2", ...: what COFFER_ISA says; or what a trial left of a table: "amx-Q2_K" */
    cf_product_fn product[CF_TYPE_LIMIT]; /* by type id; NULL where the type is not supported */
    bool by_chunks[CF_TYPE_LIMIT];        /* whether that product takes several chunks */
    bool scaled_sums;                     /* whether products of types with minima read cf_rows.scaled */

    /* Rounds x[n] (n a multiple of 32) to q[n], d[n/32], sum[n/16] as DESIGN.md says: d = absmax/127, q =
     * rint(x * (127/absmax)), absmax < 2^-100 gives zeros. Returns 0, or -1 if x holds a non-finite value. */
    int (*quantise)(const float *x, size_t n, int8_t *q, float *d, int16_t *sum);

    /* y = x / sqrt(mean(x^2) + eps) * w: squares summed in 16 lanes (x*x, then +), scale = 1/sqrt(mean+eps), then
     * (x * scale) * w. y may be x. w may be NULL (ones). */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);

    /* y = act(g) * u; with CF_ACT_SILU (g / (1 + exp(-g))) * u. y may be g. */
    void (*gate_mul)(enum cf_act act, float *y, const float *g, const float *u, size_t n);

    /* y += x */
    void (*add)(float *y, const float *x, size_t n);

    /* y = fma(a, x, y) */
    void (*add_scaled)(float *y, const float *x, float a, size_t n);

    /* v[0] = the tree over v[0..n-1], vectors of `width` elements that lie `stride` elements apart: n vectors are the
     * sum of the first floor(n / 2) plus the sum of the rest. The others are destroyed. */
    void (*tree_sum)(float *v, size_t n, size_t stride, size_t width);

    /* Rotates n_dims/2 pairs in place: NORM (neox = false) pairs (2i, 2i+1), NEOX pairs (i, i + n_dims/2):
     * (a*c - b*s, a*s + b*c), two products and one sum each, no fma. cs[2i] = cos, cs[2i+1] = sin. */
    void (*rope)(float *x, const float *cs, size_t n_dims, bool neox);

    /* Adds one KV page to each of s[p->n_queries]: keys s[i].first..s[i].n-1 of the page, online softmax (README of
     * kernels). score = (fma over d ascending) * scale. The company changes no bit of a state: queries share what is
     * read, and that is all. */
    void (*attend_page)(struct cf_attention_state *s, const struct cf_attention_page *p);

    /* out[d_v] (+)= merge: total := total merged with span, ascending. total.sum[0] holds the reduced sum. */
    void (*attend_merge)(struct cf_attention_state *total, const struct cf_attention_state *span, uint32_t d_v);
    /* out = total.acc / total.sum[0] */
    void (*attend_finish)(float *out, const struct cf_attention_state *total, uint32_t d_v);

    /* f32 -> f16, round to nearest even. */
    void (*to_f16)(uint16_t *y, const float *x, size_t n);
};

/* The best table for this machine, or the one that COFFER_ISA names (NULL if that one cannot run here or is unknown).
 */
const struct cf_kernels *cf_kernels_choose(const char *isa_or_null);
/* All tables that can run here, scalar first. Returns how many. */
size_t cf_kernels_all(const struct cf_kernels *out[8]);

/* Any product with this machine's table `k`, in as many calls as its function wants; p->tile at column c0. */
void cf_product_run(const struct cf_kernels *k, const struct cf_type *type, const struct cf_product *p);

/* Our own functions: the same bits on every machine (only + - * / sqrt fma). Relative error below 2 ulp in their type.
 */
float cf_expf(float x);
float cf_tanhf(float x);
double cf_exp(double x);
double cf_log(double x);
double cf_pow(double base, double exponent);
double cf_sin(double x); /* |x| up to 1e9 */
double cf_cos(double x);

#endif
