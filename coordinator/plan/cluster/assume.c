/* What is assumed of a machine that nobody has measured, and the words that say so. Rates of kernels are those of the
 * tables in node/kernels/README.md, of one core (virtual, Emerald Rapids): nanoseconds for a block of 512 weights and a
 * row of activations, weights in cache. */
#include <string.h>

#include "coordinator/plan/cluster/cluster.h"

/* AVX-512: 48 rows where the first table has the type, else 16 rows of the second one. AVX2: 16 rows of the second
 * table; the float types, Q4_0, Q5_K and Q6_K by `build/tests/product_rate 1 avx2 TYPE` on the same machine while it
 * was busy, the best of 8 to 48 rows. */
static const struct rate {
    uint32_t type;
    double avx512, avx2; /* nanoseconds */
} rates[] = {
    {CF_TYPE_F32, 6.77, 13.94},
    {CF_TYPE_F16, 7.08, 14.33},
    {CF_TYPE_BF16, 6.17, 14.56},
    {CF_TYPE_Q8_0, 1.83, 9.99},
    {CF_TYPE_Q4_0, 1.93, 7.18},
    {CF_TYPE_Q4_1, 2.56, 6.02},
    {CF_TYPE_Q5_0, 2.54, 6.66},
    {CF_TYPE_Q5_1, 2.87, 6.81},
    {CF_TYPE_Q2_K, 3.58, 7.86},
    {CF_TYPE_Q3_K, 3.43, 7.77},
    {CF_TYPE_Q4_K, 2.09, 6.08},
    {CF_TYPE_Q5_K, 2.24, 8.37},
    {CF_TYPE_Q6_K, 2.77, 8.32},
    {CF_TYPE_IQ4_NL, 2.43, 10.29},
    {CF_TYPE_IQ4_XS, 2.51, 10.21},
    {CF_TYPE_MXFP4, 2.55, 6.50},
    {CF_TYPE_IQ3_S, 2.50, 6.50},
    {CF_TYPE_IQ3_XXS, 2.50, 9.10},
    {CF_TYPE_IQ2_S, 3.58, 9.78},
    {CF_TYPE_IQ2_XS, 3.59, 9.80},
    {CF_TYPE_IQ2_XXS, 2.66, 9.43},
};
static const double block = 512e9; /* weights, in nanoseconds per second */
/* Seconds of a float between products, of one core of a Granite Rapids: `coffer calibrate --isa all -t 1` has 0.39 to
 * 0.42 and 0.58 to 0.63 ns. */
static const double between_avx512 = 0.42e-9, between_avx2 = 0.62e-9;

static const double core_bandwidth = 17e9, node_bandwidth = 100e9, free_share = 0.95, meeting = 1e-6;

bool cf_assume_knows(const char *isa) {
    return !strcmp(isa, "avx512") || !strcmp(isa, "avx2");
}

uint64_t cf_assume_free(uint64_t memory, unsigned *assumed) {
    *assumed |= CF_ASSUMED_MEMORY;
    return (uint64_t)(free_share * (double)memory);
}

uint64_t cf_assume_built_in(uint64_t free) {
    return (uint64_t)((double)free / free_share);
}

void cf_assume_bandwidth(struct cf_rank_info *r, unsigned *assumed) {
    if (r->bandwidth > 0) return;
    *assumed |= CF_ASSUMED_BANDWIDTH;
    r->bandwidth = core_bandwidth * r->threads;
    if (r->bandwidth > node_bandwidth) r->bandwidth = node_bandwidth;
}

/* As in a tree. */
static double meets(uint32_t threads) {
    double step = meeting;
    for (uint32_t met = 1; met < threads; met *= 2)
        step += meeting;
    return step;
}

int cf_assume_rates(struct cf_rank_info *r, const char *isa, unsigned *assumed, struct cf_error *e) {
    if (!*isa) *assumed |= CF_ASSUMED_ISA;
    if (!*isa) isa = "avx2";
    if (!cf_assume_knows(isa))
        return cf_fail(e, CF_ERR_UNSUPPORTED, "nobody has measured the kernels of %s: avx512 or avx2", isa);
    bool wide = !strcmp(isa, "avx512");
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        double *rate = &r->rates[rates[i].type];
        if (*rate > 0) continue;
        *rate = r->threads * block / (wide ? rates[i].avx512 : rates[i].avx2);
        *assumed |= CF_ASSUMED_RATES;
    }
    if (r->attention <= 0) r->attention = r->rates[CF_TYPE_F16], *assumed |= CF_ASSUMED_ATTENTION;
    if (r->between <= 0) {
        r->between = r->threads / (wide ? between_avx512 : between_avx2);
        *assumed |= CF_ASSUMED_BETWEEN;
    }
    if (r->step > 0) return 0;
    *assumed |= CF_ASSUMED_STEP;
    r->step = meets(r->threads);
    return 0;
}

void cf_assume_fewer(struct cf_rank_info *r, unsigned *assumed) {
    double share = r->bandwidth / r->threads, core = share > core_bandwidth ? share : core_bandwidth;
    r->n_fewer = 0;
    for (uint32_t n = r->threads / 2; n && r->n_fewer < CF_FEWER; n /= 2) {
        double most = core * n;
        r->fewer[r->n_fewer++] = (struct cf_fewer){n, most < r->bandwidth ? most : r->bandwidth, meets(n)};
        *assumed |= CF_ASSUMED_FEWER;
    }
}

static const char *const words[] = {
    "of the memory of a node 95 % is free for Coffer",
    "read bandwidth, where it is not given: 17 GB/s a core, as README.md measured, but at most 100 GB/s a NUMA node "
    "(coffer bench measures it)",
    "instruction set, where it is not given: avx2",
    "multiply-adds per second of a core, where they are not given: those that node/kernels/README.md measured",
    "attention multiplies as fast as a product of F16 weights",
    "the threads of a rank meet in 1 us, and in 1 us more for every time that there are twice as many",
    "latency between hosts, where it is not given: 150 us, uneven arrival included",
    "bandwidth between hosts, where it is not given: that of gigabit Ethernet, 117 MB/s",
    "between NUMA nodes of a host, where it is not given: 15 us, and bytes as fast as a node reads its own memory",
    "nobody else works on the machines: no step takes longer than it must",
    "fewer threads than cores read 17 GB/s each (or their share of what all read, where that is more), but not more "
    "than all",
    "a core takes 0.42 ns (AVX-512) or 0.62 ns (AVX2) for each float of a row between products",
};

void cf_cluster_say_assumed(FILE *to, const char *prefix, unsigned assumed) {
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (assumed >> i & 1) fprintf(to, "%s%s\n", prefix, words[i]);
}
