/* Every instruction set gives the bits of the scalar functions, and those follow the order that README.md of the
 * kernels writes down. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "node/kernels/bits.h"
#include "node/kernels/vectors/vector.h"
#include "tests/random.h"

struct table {
    const char *isa;
    bool runs;
    void (*rms_norm)(float *, const float *, const float *, size_t, float);
    void (*gate_mul)(enum cf_act, float *, const float *, const float *, size_t);
    void (*add)(float *, const float *, size_t);
    void (*add_scaled)(float *, const float *, float, size_t);
    void (*rope)(float *, const float *, size_t, bool);
    void (*attend_page)(struct cf_attention_state *, const struct cf_attention_page *);
    void (*attend_merge)(struct cf_attention_state *, const struct cf_attention_state *, uint32_t);
    void (*attend_finish)(float *, const struct cf_attention_state *, uint32_t);
    void (*to_f16)(uint16_t *, const float *, size_t);
};

enum { TABLES = 8 };
static struct table tables[TABLES]; /* scalar first */

static void find_what_runs(void) {
    const struct cf_kernels *all[TABLES];
    size_t n = cf_kernels_all(all);
    for (size_t t = 0; t < n; t++) {
        const struct cf_kernels *k = all[t];
        tables[t] = (struct table){k->isa, true, k->rms_norm, k->gate_mul, k->add, k->add_scaled, k->rope,
            k->attend_page, k->attend_merge, k->attend_finish, k->to_f16};
    }
}

enum { MOST = 16384 };
static uint64_t random_state = 88172645463325252u;

static uint32_t next(void) {
    return (uint32_t)(cf_xorshift(&random_state) >> 32);
}

/* -scale .. scale */
static void fill(float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++)
        x[i] = ((float)next() * 0x1p-31f - 1.0f) * scale;
}

static void fill_f16(uint16_t *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++)
        x[i] = cf_f32_to_f16(((float)next() * 0x1p-31f - 1.0f) * scale);
}

static void same_bits(const char *isa, const float *got, const float *want, size_t n, size_t size) {
    for (size_t i = 0; i < n; i++) {
        if (cf__bits_of_float(got[i]) == cf__bits_of_float(want[i]) || (isnan(got[i]) && isnan(want[i]))) continue;
        fail_msg("%s, size %zu: element %zu is %a, not %a", isa, size, i, (double)got[i], (double)want[i]);
    }
}

static const size_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 48, 63, 64, 65, 80, 100, 128, 200,
    256, 1000, 4096, 5000, 5120};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* Bytes beyond n must stay as they are: one guard element of this value. */
static const float guard = -12345.0f;

static void rms_norm_equals_scalar(void **state) {
    (void)state;
    static float x[MOST], w[MOST], want[MOST], got[MOST];
    for (size_t i = 0; i < SIZES; i++) {
        size_t n = sizes[i];
        fill(x, n, i % 3 == 0 ? 1e-3f : 5.0f);
        fill(w, n, 2.0f);
        for (int weighted = 0; weighted < 2; weighted++) {
            cf__rms_norm_scalar(want, x, weighted ? w : NULL, n, 1e-5f);
            for (size_t t = 1; t < TABLES; t++) {
                if (!tables[t].runs) continue;
                memcpy(got, x, n * sizeof *x);
                got[n] = guard;
                tables[t].rms_norm(got, got, weighted ? w : NULL, n, 1e-5f); /* in place */
                same_bits(tables[t].isa, got, want, n, n);
                assert_true(got[n] == guard);
            }
        }
    }
}

static void rms_norm_sums_in_sixteen_lanes(void **state) {
    (void)state;
    /* (2^24 + 1) + (1 + 1) = 2^24 + 2, the first sum being rounded to even; one after the other they would give 2^24.
     */
    float x[16] = {[0] = 4096, [4] = 1, [8] = 1, [12] = 1}, y[16];
    float scale = 1.0f / sqrtf(0x1.000002p24f / 16);
    cf__rms_norm_scalar(y, x, NULL, 16, 0);
    assert_true(y[0] == 4096 * scale && y[4] == scale);
}

/* Values at which exp saturates, underflows or changes its quotient, and the plain ones between. */
static void fill_for_exp(float *x, size_t n) {
    static const float edges[] = {0, -0.0f, 1, -1, 88.7f, 88.8f, 89, 90, -87.3f, -87.4f, -103.9f, -104, -105, 1e-40f,
        -1e-40f, 0.34657f, -0.34658f, 1e30f, -1e30f, FLT_MAX, -FLT_MAX, INFINITY, -INFINITY};
    for (size_t i = 0; i < n; i++) {
        uint32_t r = next();
        fill(x + i, 1, r % 3 == 0 ? 1.0f : r % 3 == 1 ? 20.0f : 110.0f);
        if (r % 5 == 0) x[i] = edges[r / 5 % (sizeof edges / sizeof *edges)];
    }
}

/* The published form of each, in double. */
static double gated(enum cf_act act, double g, double u) {
    if (act == CF_ACT_GELU) return 0.5 * g * (1 + tanh(sqrt(2 / 3.14159265358979) * (g + 0.044715 * g * g * g))) * u;
    if (act == CF_ACT_SILU) return g / (1 + exp(-g)) * u;
    g = fmin(g, 7), u = fmax(fmin(u, 7), -7);
    return g / (1 + exp(-1.702 * g)) * (u + 1);
}

static void gate_mul_equals_scalar(void **state) {
    (void)state;
    static float g[MOST], u[MOST], want[MOST], got[MOST];
    for (size_t round = 0; round < 60 * SIZES; round++) {
        size_t n = sizes[round % SIZES];
        enum cf_act act = (enum cf_act)(round / SIZES % 3);
        fill_for_exp(g, n);
        fill(u, n, round % 2 ? 3.0f : 11.0f);
        cf__gate_mul_scalar(act, want, g, u, n);
        for (size_t i = 0; i < n; i++) {
            double exact = gated(act, (double)g[i], (double)u[i]);
            if (fabs((double)g[i]) < 40) assert_true(fabs((double)want[i] - exact) <= 2e-6 * fabs(exact) + 2e-6);
        }
        for (size_t t = 1; t < TABLES; t++) {
            if (!tables[t].runs) continue;
            memcpy(got, g, n * sizeof *g);
            got[n] = guard;
            tables[t].gate_mul(act, got, got, u, n);
            same_bits(tables[t].isa, got, want, n, n);
            assert_true(got[n] == guard);
        }
    }
}

static void add_scaled_equals_scalar(void **state) {
    (void)state;
    static float x[MOST], y[MOST], want[MOST], got[MOST];
    for (size_t round = 0; round < SIZES; round++) {
        size_t n = sizes[round];
        fill(x, n, 3.0f);
        fill(y, n, 3.0f);
        memcpy(want, y, n * sizeof *y);
        cf__add_scaled_scalar(want, x, 0.3f, n);
        for (size_t i = 0; i < n; i++)
            assert_true(want[i] == fmaf(0.3f, x[i], y[i]));
        for (size_t t = 1; t < TABLES; t++) {
            if (!tables[t].runs) continue;
            memcpy(got, y, n * sizeof *y);
            got[n] = guard;
            tables[t].add_scaled(got, x, 0.3f, n);
            same_bits(tables[t].isa, got, want, n, n);
            assert_true(got[n] == guard);
        }
    }
}

static void add_equals_scalar(void **state) {
    (void)state;
    static float x[MOST], y[MOST], want[MOST], got[MOST];
    for (size_t i = 0; i < SIZES; i++) {
        size_t n = sizes[i];
        fill(x, n, 1.0f);
        fill(y, n, 1e3f);
        memcpy(want, y, n * sizeof *y);
        cf__add_scalar(want, x, n);
        for (size_t t = 1; t < TABLES; t++) {
            if (!tables[t].runs) continue;
            memcpy(got, y, n * sizeof *y);
            got[n] = guard;
            tables[t].add(got, x, n);
            same_bits(tables[t].isa, got, want, n, n);
            assert_true(got[n] == guard);
        }
    }
}

static void rope_equals_scalar(void **state) {
    (void)state;
    float x[260], cs[260], want[260], got[260];
    for (size_t n = 2; n <= 256; n += 2) {
        fill(x, n, 4.0f);
        fill(cs, n, 1.0f);
        for (int neox = 0; neox < 2; neox++) {
            memcpy(want, x, n * sizeof *x);
            cf__rope_scalar(want, cs, n, neox);
            size_t a = neox ? 0 : n - 2, b = neox ? n / 2 : n - 1, pair = neox ? 0 : n / 2 - 1;
            assert_true(want[a] == x[a] * cs[2 * pair] - x[b] * cs[2 * pair + 1]);
            assert_true(want[b] == x[a] * cs[2 * pair + 1] + x[b] * cs[2 * pair]);
            for (size_t t = 1; t < TABLES; t++) {
                if (!tables[t].runs) continue;
                memcpy(got, x, n * sizeof *x);
                got[n] = guard;
                tables[t].rope(got, cs, n, neox);
                same_bits(tables[t].isa, got, want, n, n);
                assert_true(got[n] == guard);
            }
        }
    }
}

static void to_f16_equals_scalar(void **state) {
    (void)state;
    static float x[4100];
    static uint16_t want[4100], got[4100];
    for (uint32_t round = 0; round < 300; round++) {
        size_t n = round < SIZES && sizes[round] < 4096 ? sizes[round] : 4096;
        for (size_t i = 0; i < n; i++) {
            uint32_t u = next(); /* any float, most of them with exponents that f16 has */
            if (i % 4) u = (u & 0x8fffffffu) | 0x30000000u;
            if (i % 16 == 1) u &= 0xfffff000u; /* ties */
            memcpy(x + i, &u, sizeof u);
            if (isnan(x[i])) x[i] = INFINITY;
        }
        cf__to_f16_scalar(want, x, n);
        for (size_t t = 1; t < TABLES; t++) {
            if (!tables[t].runs) continue;
            got[n] = 0x1234;
            tables[t].to_f16(got, x, n);
            if (memcmp(got, want, n * sizeof *got) != 0) fail_msg("%s differs at size %zu", tables[t].isa, n);
            assert_int_equal(got[n], 0x1234);
        }
    }
}

enum { HEAD_MOST = 272, SPAN_PAGES = 3, QUERIES = 33 };
struct head {
    uint32_t d_k, d_v;
    float q[QUERIES][HEAD_MOST];
    uint16_t k[SPAN_PAGES][HEAD_MOST * 64], v[SPAN_PAGES][HEAD_MOST * 64];
};

struct room { /* of a state */
    struct cf_attention_state s;
    float acc[HEAD_MOST + 1];
};

static void begin(struct room *r, uint32_t d_v) {
    memset(r, 0xff, sizeof *r); /* NaN wherever nobody may look */
    memset(r->s.sum, 0, sizeof r->s.sum);
    memset(r->acc, 0, d_v * sizeof(float));
    r->s.first = 0;
    r->s.max = -INFINITY;
    r->s.acc = r->acc;
    r->acc[d_v] = guard;
}

/* Keys from n on are garbage, NaN among it. */
static void fill_head(struct head *h, uint32_t d_k, uint32_t d_v, uint32_t n, float scale) {
    h->d_k = d_k;
    h->d_v = d_v;
    for (int i = 0; i < QUERIES; i++)
        fill(h->q[i], d_k, scale);
    for (int page = 0; page < SPAN_PAGES; page++) {
        fill_f16(h->k[page], (size_t)d_k * 64, scale);
        fill_f16(h->v[page], (size_t)d_v * 64, 1.0f);
    }
    static const uint16_t garbage[] = {0x7e00, 0x7c00, 0xfc00, 0xfe00, 0x7bff, 0x0001, 0xffff};
    for (uint32_t j = n; j < 64; j++) {
        for (uint32_t d = 0; d < d_k; d++)
            h->k[SPAN_PAGES - 1][(size_t)d * 64 + j] = garbage[(j + d) % 7];
        for (uint32_t d = 0; d < d_v; d++)
            h->v[SPAN_PAGES - 1][(size_t)j * d_v + d] = garbage[(j + d) % 7];
    }
}

static void same_state(const char *isa, const struct room *got, const struct room *want, uint32_t d_v, uint32_t n) {
    same_bits(isa, &got->s.max, &want->s.max, 1, n);
    same_bits(isa, got->s.sum, want->s.sum, 16, n);
    same_bits(isa, got->acc, want->acc, d_v, n);
    assert_true(got->acc[d_v] == guard);
}

static struct cf_attention_page page_of(const struct head *h, uint32_t page, float scale) {
    return (struct cf_attention_page){
        .k = h->k[page], .v = h->v[page], .d_k = h->d_k, .d_v = h->d_v, .scale = scale, .n_queries = 1};
}

/* Keys of a page that query i sees. Of the last page the first query sees n, others a few less, down to none; of the
 * others all, but one query comes later. */
static uint32_t keys_of(uint32_t i, uint32_t page, uint32_t n) {
    if (page + 1 < SPAN_PAGES) return i == 6 && page == 0 ? 0 : 64;
    return n < i / 4 * 3 ? 0 : n - i / 4 * 3;
}

/* The first of them, if the queries have windows of a page: none where the window begins behind them. */
static uint32_t first_of(uint32_t i, uint32_t page, bool windows, uint32_t *n) {
    uint32_t first = !windows || page + 1 == SPAN_PAGES ? 0 : page + 2 < SPAN_PAGES ? 64 : 5 * i % 70;
    if (windows && page + 1 == SPAN_PAGES && i % 5 == 4) first = i % 3 + 1;
    if (first >= *n) first = *n = 0;
    return first;
}

static void see(struct cf_attention_state *s, uint32_t i, uint32_t page, uint32_t n, bool windows) {
    s->n = keys_of(i, page, n);
    s->first = first_of(i, page, windows, &s->n);
}

/* The last page with n keys, after `before` full ones: every query alone in scalar, then all in company. */
static void compare_group(
    const struct head *h, uint32_t before, uint32_t n, float scale, uint32_t queries, bool windows, float cap) {
    static struct room want[QUERIES], got[QUERIES];
    for (uint32_t i = 0; i < queries; i++) {
        begin(&want[i], h->d_v);
        want[i].s.q = h->q[i];
        for (uint32_t page = SPAN_PAGES - 1 - before; page < SPAN_PAGES; page++) {
            struct cf_attention_page p = page_of(h, page, scale);
            p.cap = cap;
            see(&want[i].s, i, page, n, windows);
            cf__attend_page_scalar(&want[i].s, &p);
        }
    }
    for (size_t t = 0; t < TABLES; t++) {
        if (!tables[t].runs) continue;
        struct cf_attention_state s[QUERIES];
        for (uint32_t i = 0; i < queries; i++) {
            begin(&got[i], h->d_v);
            s[i] = got[i].s, s[i].q = h->q[i];
        }
        for (uint32_t page = SPAN_PAGES - 1 - before; page < SPAN_PAGES; page++) {
            struct cf_attention_page p = page_of(h, page, scale);
            p.n_queries = queries, p.next = page + 1 < SPAN_PAGES ? h->k[page + 1] : NULL, p.cap = cap;
            for (uint32_t i = 0; i < queries; i++)
                see(&s[i], i, page, n, windows);
            tables[t].attend_page(s, &p);
        }
        for (uint32_t i = 0; i < queries; i++) {
            got[i].s = s[i];
            same_state(tables[t].isa, &got[i], &want[i], h->d_v, n);
        }
    }
}

static void compare_span(const struct head *h, uint32_t before, uint32_t n, float scale) {
    compare_group(h, before, n, scale, 1, false, 0);
    compare_group(h, before, n, scale, n % 4 + 3, false, 0);
    compare_group(h, 2, n, scale, n % 4 + 3, true, 0);
    if (n % 3 == 0) compare_group(h, 2, n, scale, n % 4 + 3, n % 2, 5.0f);
}

/* Bits are proven by the released program; the sanitizers look for reads and writes beyond the ends. */
#ifdef __SANITIZE_ADDRESS__
enum { STEP = 7 };
#else
enum { STEP = 1 };
#endif

static void attend_page_equals_scalar(void **state) {
    (void)state;
    static struct head h;
    static const uint32_t heads[] = {16, 48, 64, 80, 128, 256};
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t n = 0; n <= 64; n += n == 63 ? 1 : STEP) {
            fill_head(&h, heads[i], heads[i], n, n % 2 ? 1.0f : 6.0f);
            compare_span(&h, n % SPAN_PAGES, n, 1.0f / sqrtf((float)heads[i]));
        }
    }
    static const uint32_t odd[][2] = {
        {192, 128}, {1, 1}, {7, 5}, {40, 8}, {64, 72}, {20, 20}, {24, 137}, {128, 200}, {3, 271}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        for (uint32_t n = 1; n <= 64; n += 7) {
            fill_head(&h, odd[i][0], odd[i][1], n, 2.0f);
            compare_span(&h, 2, n, 0.3f);
        }
    }
}

/* Scores of both zeros, huge ones, and pages in which a later key raises the maximum far: bits again. */
static void attend_page_at_the_edges(void **state) {
    (void)state;
    static struct head h;
    for (uint32_t n = 1; n <= 64; n += 3) {
        fill_head(&h, 64, 64, n, 1.0f);
        for (uint32_t i = 0; i < QUERIES; i++)
            for (uint32_t d = 0; d < 64; d++)
                h.q[i][d] = d % 2 ? 0.0f : -0.0f;
        compare_span(&h, 2, n, -1.0f);
        for (uint32_t i = 0; i < QUERIES; i++)
            fill(h.q[i], 64, 3000.0f);
        compare_span(&h, 2, n, 1.0f);
        for (uint32_t i = 0; i < QUERIES; i++)
            fill(h.q[i], 64, 1e-38f);
        compare_span(&h, 2, n, 1e-3f);
    }
}

/* Groups of every size, also when their queries see different numbers of keys. */
static void company_changes_no_bit(void **state) {
    (void)state;
    static struct head h;
    static const uint32_t heads[][2] = {{64, 64}, {128, 128}, {80, 72}, {24, 137}};
    static const uint32_t n[] = {1, 13, 16, 37, 48, 61, 64};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        for (uint32_t queries = 1; queries <= QUERIES; queries += queries < 9 ? 1 : STEP) {
            uint32_t keys = n[(queries + i) % (sizeof n / sizeof *n)];
            fill_head(&h, heads[i][0], heads[i][1], keys, 2.0f);
            compare_group(&h, 2, keys, 0.2f, queries, false, 0);
        }
    }
}

/* No query, and queries without keys: nothing is written. */
static void no_keys_change_nothing(void **state) {
    (void)state;
    static struct head h;
    fill_head(&h, 64, 64, 64, 1.0f);
    for (size_t t = 0; t < TABLES; t++) {
        if (!tables[t].runs) continue;
        struct room r, before;
        begin(&r, 64);
        r.s.q = h.q[0], r.s.n = 0;
        before = r;
        struct cf_attention_page p = page_of(&h, 0, 1.0f);
        tables[t].attend_page(&r.s, &p);
        p.n_queries = 0, r.s.n = before.s.n = 64;
        tables[t].attend_page(&r.s, &p);
        assert_memory_equal(&r, &before, sizeof r);
    }
}

/* The order of README.md once more, straight. */
static void attend_page_follows_the_order(void **state) {
    (void)state;
    static struct head h;
    enum { D = 24, N = 37 };
    fill_head(&h, D, D, N, 3.0f);
    struct room r;
    begin(&r, D);
    struct cf_attention_page p = page_of(&h, 0, 0.2f);
    r.s.q = h.q[0], r.s.n = 64;
    cf__attend_page_scalar(&r.s, &p);
    struct room want = r;
    float score[N], max = want.s.max;
    for (int j = 0; j < N; j++) {
        float dot = 0;
        for (int d = 0; d < D; d++)
            dot = fmaf(h.q[0][d], cf_f16_to_f32(h.k[2][d * 64 + j]), dot);
        score[j] = dot * 0.2f;
        max = fmaxf(max, score[j]);
    }
    float correction = cf_expf(want.s.max - max);
    for (int l = 0; l < 16; l++) {
        want.s.sum[l] *= correction;
        for (int j = l; j < N; j += 16)
            want.s.sum[l] += cf_expf(score[j] - max);
    }
    for (int d = 0; d < D; d++) {
        want.acc[d] *= correction;
        for (int j = 0; j < N; j++)
            want.acc[d] = fmaf(cf_expf(score[j] - max), cf_f16_to_f32(h.v[2][j * D + d]), want.acc[d]);
    }
    want.s.max = max;
    p = page_of(&h, 2, 0.2f);
    r.s.n = N;
    cf__attend_page_scalar(&r.s, &p);
    same_state("scalar", &r, &want, D, N);
}

static void merge_and_finish_equal_scalar(void **state) {
    (void)state;
    for (uint32_t d_v = 1; d_v <= 256; d_v += d_v < 20 ? 1 : 12) {
        struct room spans[4];
        for (int i = 0; i < 4; i++) {
            begin(&spans[i], d_v);
            if (i == 2) continue; /* a span without keys */
            fill(spans[i].acc, d_v, 9.0f);
            fill(spans[i].s.sum, 16, 9.0f);
            for (int l = 0; l < 16; l++)
                spans[i].s.sum[l] = fabsf(spans[i].s.sum[l]);
            fill(&spans[i].s.max, 1, 10.0f);
        }
        struct room want, got;
        float want_out[HEAD_MOST], got_out[HEAD_MOST];
        begin(&want, d_v);
        for (int i = 0; i < 4; i++)
            cf__attend_merge_scalar(&want.s, &spans[i].s, d_v);
        cf__attend_finish_scalar(want_out, &want.s, d_v);
        for (size_t t = 1; t < TABLES; t++) {
            if (!tables[t].runs) continue;
            begin(&got, d_v);
            for (int i = 0; i < 4; i++)
                tables[t].attend_merge(&got.s, &spans[i].s, d_v);
            same_bits(tables[t].isa, &got.s.max, &want.s.max, 1, d_v);
            same_bits(tables[t].isa, got.s.sum, want.s.sum, 1, d_v);
            same_bits(tables[t].isa, got.acc, want.acc, d_v, d_v);
            assert_true(got.acc[d_v] == guard);
            got_out[d_v] = guard;
            tables[t].attend_finish(got_out, &got.s, d_v);
            same_bits(tables[t].isa, got_out, want_out, d_v, d_v);
            assert_true(got_out[d_v] == guard);
        }
    }
}

static void a_span_without_keys_changes_nothing(void **state) {
    (void)state;
    for (size_t t = 0; t < TABLES; t++) {
        if (!tables[t].runs) continue;
        struct room total, empty, before;
        begin(&total, 32);
        begin(&empty, 32);
        tables[t].attend_merge(&total.s, &empty.s, 32); /* nothing into nothing: no NaN */
        assert_true(total.s.max == -INFINITY && total.s.sum[0] == 0 && total.acc[0] == 0);
        total.s.max = 3;
        total.s.sum[0] = 7;
        fill(total.acc, 32, 1.0f);
        before = total;
        tables[t].attend_merge(&total.s, &empty.s, 32);
        assert_memory_equal(&total.acc, &before.acc, sizeof total.acc);
        assert_true(total.s.max == 3 && total.s.sum[0] == 7);
    }
}

/* Two spans against softmax in double. */
static void attention_is_softmax(void **state) {
    (void)state;
    static struct head h;
    enum { D = 64, N = 50 };
    fill_head(&h, D, D, N, 1.5f);
    double out[D] = {0}, sum = 0;
    for (int page = 0; page < SPAN_PAGES; page++) {
        for (int j = 0; j < (page + 1 < SPAN_PAGES ? 64 : N); j++) {
            double dot = 0;
            for (int d = 0; d < D; d++)
                dot += (double)h.q[0][d] * (double)cf_f16_to_f32(h.k[page][d * 64 + j]);
            double p = exp(dot * 0.125);
            sum += p;
            for (int d = 0; d < D; d++)
                out[d] += p * (double)cf_f16_to_f32(h.v[page][j * D + d]);
        }
    }
    for (size_t t = 0; t < TABLES; t++) {
        if (!tables[t].runs) continue;
        struct room total, first, second;
        float got[D];
        begin(&total, D), begin(&first, D), begin(&second, D);
        first.s.q = second.s.q = h.q[0], first.s.n = 64, second.s.n = N;
        for (uint32_t page = 0; page < SPAN_PAGES; page++) {
            struct cf_attention_page p = page_of(&h, page, 0.125f);
            tables[t].attend_page(page < 2 ? &first.s : &second.s, &p);
        }
        tables[t].attend_merge(&total.s, &first.s, D);
        tables[t].attend_merge(&total.s, &second.s, D);
        tables[t].attend_finish(got, &total.s, D);
        for (int d = 0; d < D; d++)
            assert_true(fabs((double)got[d] - out[d] / sum) < 2e-6);
    }
}

int main(void) {
    find_what_runs();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_norm_equals_scalar),
        cmocka_unit_test(rms_norm_sums_in_sixteen_lanes),
        cmocka_unit_test(gate_mul_equals_scalar),
        cmocka_unit_test(add_equals_scalar),
        cmocka_unit_test(add_scaled_equals_scalar),
        cmocka_unit_test(rope_equals_scalar),
        cmocka_unit_test(to_f16_equals_scalar),
        cmocka_unit_test(attend_page_equals_scalar),
        cmocka_unit_test(attend_page_at_the_edges),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(no_keys_change_nothing),
        cmocka_unit_test(attend_page_follows_the_order),
        cmocka_unit_test(merge_and_finish_equal_scalar),
        cmocka_unit_test(a_span_without_keys_changes_nothing),
        cmocka_unit_test(attention_is_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
