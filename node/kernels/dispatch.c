/* Which arithmetic runs: one table per instruction set, chosen once from what the processor and the operating system
 * offer, or from COFFER_ISA. All tables give the same bits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) || defined(__powerpc64__)
#include <sys/auxv.h>
#endif

#include "node/kernels/kernels.h"
#if defined(__x86_64__)
#include "node/kernels/products/fetch.h"
#endif
#include "node/kernels/products/product.h"
#include "node/kernels/trial.h"
#include "node/kernels/vectors/vector.h"

#define PRODUCT_OF(isa, lower, upper) [CF_TYPE_##upper] = cf__product_##lower##_##isa,
#define CHUNKS_OF(chunks, lower, upper) [CF_TYPE_##upper] = (chunks),

/* Of which instruction set the quantised products are, all other products, the functions that are worth lanes, and the
 * rest; whether the quantised products take several chunks, and whether they read scaled sums. */
#define TABLE_OF(isa_, quantised_, products_, lanes_, rest_, chunks_, scaled_)                                         \
    {                                                                                                                  \
        .isa = #isa_,                                                                                                  \
        .product = {CF__QUANTISED(PRODUCT_OF, quantised_)[CF_TYPE_F32] = cf__product_f32_##products_,                  \
            [CF_TYPE_F16] = cf__product_f16_##products_, [CF_TYPE_BF16] = cf__product_bf16_##products_},               \
        .by_chunks = {CF__QUANTISED(CHUNKS_OF, chunks_)}, .quantise = cf__quantise_##products_,                        \
        .rms_norm = cf__rms_norm_##lanes_, .gate_mul = cf__gate_mul_##lanes_, .add_scaled = cf__add_scaled_##lanes_,   \
        .attend_page = cf__attend_page_##lanes_, .tree_sum = cf__tree_sum_##rest_, .add = cf__add_##rest_,             \
        .rope = cf__rope_##rest_, .attend_merge = cf__attend_merge_##rest_,                                            \
        .attend_finish = cf__attend_finish_##rest_, .to_f16 = cf__to_f16_##rest_, .scaled_sums = (scaled_)             \
    }
#define TABLE(isa_) TABLE_OF(isa_, isa_, isa_, isa_, isa_, false, false)
#define TABLE_128(isa_) TABLE_OF(isa_, isa_, isa_, isa_, scalar, false, false)

/* From the slowest to the best. */
static const struct cf_kernels tables[] = {
    TABLE(scalar),
#if defined(__x86_64__)
    TABLE_128(sse41),
    TABLE_128(avx),
    TABLE(avx2),
    TABLE_OF(avx2_vnni, avx2_vnni, avx2, avx2, avx2, false, false),
    TABLE_OF(avx512, avx512, avx512, avx512, avx512, true, false),
    TABLE_OF(amx, amx, avx512, avx512, avx512, true, true),
#elif defined(__aarch64__)
    TABLE_128(neon),
    TABLE_OF(neon_dot, neon_dot, neon, neon, scalar, false, false),
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
    TABLE_128(vsx),
#endif
};
enum { N_TABLES = sizeof tables / sizeof tables[0] };

#if defined(__x86_64__)
/* Intel's since Granite Rapids: the first with prefetchit0. */
static bool is_granite_rapids(void) {
    const unsigned prefetchi = 1u << 14; /* of leaf 7, 1, edx */
    unsigned a, b, c, d;
    return __builtin_cpu_is("intel") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (d & prefetchi);
}

/* Intel's first level has too few requests in flight to cover the way to memory, so a second prefetch goes further
 * ahead, into the second level; since Granite Rapids not so far that it leaves the page. On AMD's that second one takes
 * the place of a first: README.md, Roofline. */
struct cf__fetch cf__fetch = {4096, 12288};
static void set_fetch(void) {
    if (__builtin_cpu_is("amd")) cf__fetch = (struct cf__fetch){8192, 0};
    if (is_granite_rapids()) cf__fetch = (struct cf__fetch){1024, 3072};
}

/* GCC and Clang ask both the processor and the operating system (cpuid and xgetbv). */
static bool runs_avx2(void) {
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C); /* a name that older Clangs do not know */
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool runs_avx2_vnni(void) {
    const unsigned avx_vnni = 1u << 4; /* of leaf 7, 1: a name that older compilers do not know */
    unsigned a, b, c, d;
    return runs_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avx_vnni);
}

static bool runs_avx512(void) {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

/* Linux grants the 8 KiB of tile state to a process that asks for it (Documentation/arch/x86/xstate.rst); its threads
 * and children have it too. Asking again is harmless. */
static bool runs_amx(void) {
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    const unsigned tile_and_int8 = 1u << 24 | 1u << 25;
    unsigned a, b, c, d;
    if (!runs_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tile_and_int8) != tile_and_int8)
        return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}
#endif

/* Bits of the auxiliary vector, from Linux's asm/hwcap.h and asm/cputable.h. */
#if defined(__aarch64__)
static bool runs_neon(void) {
    const unsigned long asimd = 1ul << 1;
    return getauxval(AT_HWCAP) & asimd;
}
static bool runs_neon_dot(void) {
    const unsigned long asimddp = 1ul << 20;
    return runs_neon() && (getauxval(AT_HWCAP) & asimddp);
}
#elif defined(__powerpc64__)
static bool runs_vsx(void) {
    const unsigned long has_vsx = 1ul << 7, arch_2_07 = 1ul << 31; /* the second of AT_HWCAP2: POWER8 */
    return (getauxval(AT_HWCAP) & has_vsx) && (getauxval(AT_HWCAP2) & arch_2_07);
}
#endif

/* Whether a table can run on this machine. */
static bool runs(const struct cf_kernels *t) {
#if defined(__x86_64__)
    if (strcmp(t->isa, "sse41") == 0) return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
    if (strcmp(t->isa, "avx") == 0) return __builtin_cpu_supports("avx");
    if (strcmp(t->isa, "avx2") == 0) return runs_avx2();
    if (strcmp(t->isa, "avx2_vnni") == 0) return runs_avx2_vnni();
    if (strcmp(t->isa, "avx512") == 0) return runs_avx512();
    if (strcmp(t->isa, "amx") == 0) return runs_amx();
#elif defined(__aarch64__)
    if (strcmp(t->isa, "neon") == 0) return runs_neon();
    if (strcmp(t->isa, "neon_dot") == 0) return runs_neon_dot();
#elif defined(__powerpc64__)
    if (strcmp(t->isa, "vsx") == 0) return runs_vsx();
#endif
    return strcmp(t->isa, "scalar") == 0;
}

size_t cf_kernels_all(const struct cf_kernels *out[8]) {
    size_t n = 0;
    for (size_t i = 0; i < N_TABLES; i++)
        if (runs(&tables[i])) out[n++] = &tables[i];
    return n;
}

/* amx, as far as a trial on this machine says that it pays; else what it would replace. */
static const struct cf_kernels *try_amx(const struct cf_kernels *avx512, const struct cf_kernels *amx) {
    static struct cf_kernels chosen;
    static int taken = -1;
    if (taken < 0) taken = cf__trial(&chosen, avx512, amx);
    if (taken <= 0) return avx512;
    static char name[CF_ISA_NAME];
    cf__trial_name(name, sizeof name, amx->isa, &chosen, amx);
    chosen.isa = name;
    return &chosen;
}

const struct cf_kernels *cf_kernels_choose(const char *isa_or_null) {
#if defined(__x86_64__)
    set_fetch();
#endif
    const struct cf_kernels *all[8] = {NULL};
    size_t n = cf_kernels_all(all); /* at least one: scalar */
    const char *isa = isa_or_null ? isa_or_null : getenv("COFFER_ISA");
    if (!isa || !*isa) return strcmp(all[n - 1]->isa, "amx") == 0 ? try_amx(all[n - 2], all[n - 1]) : all[n - 1];
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i]->isa, isa) == 0) return all[i];
    return NULL;
}

void cf_scaled_sums(const float *d, const int16_t *sum, size_t n, float *scaled) {
    for (size_t b = 0; b < n / 32; b++)
        scaled[b] = d[b] * (float)(sum[2 * b] + sum[2 * b + 1]);
}

void cf__each_chunk(const struct cf_product *p, const struct cf_type *type, cf_product_fn fn) {
    const char *tile = (const char *)p->tile - type->tile_bytes(p->tile_c0, p->c0);
    for (uint32_t k = 0; k < p->n_chunks; k++) {
        struct cf_product one = {.tile = tile + type->tile_bytes(p->tile_c0, p->cut[k]),
            .tile_c0 = p->tile_c0,
            .c0 = p->cut[k],
            .c1 = p->cut[k + 1],
            .x = p->x,
            .row0 = p->row0,
            .n = p->n,
            .y = p->y + (size_t)k * p->n * CF_TILE};
        fn(&one);
    }
}

void cf_product_run(const struct cf_kernels *k, const struct cf_type *type, const struct cf_product *p) {
    if (p->n_chunks == 0 || k->by_chunks[type->id])
        k->product[type->id](p);
    else
        cf__each_chunk(p, type, k->product[type->id]);
}
