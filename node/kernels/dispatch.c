/* Which arithmetic runs: one table per instruction set, chosen once from what the processor and the operating system
 * offer, or from COFFER_ISA. All tables give the same bits.
 */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "node/kernels/kernels.h"
#include "node/kernels/product.h"
#include "node/kernels/vector.h"

#define TABLE(isa_)                                                                                                    \
    {                                                                                                                  \
        .isa = #isa_,                                                                                                  \
        .product = {[CF_TYPE_F32] = cf__product_f32_##isa_,                                                            \
            [CF_TYPE_F16] = cf__product_f16_##isa_,                                                                    \
            [CF_TYPE_BF16] = cf__product_bf16_##isa_,                                                                  \
            [CF_TYPE_Q8_0] = cf__product_q8_0_##isa_,                                                                  \
            [CF_TYPE_Q4_0] = cf__product_q4_0_##isa_,                                                                  \
            [CF_TYPE_Q4_K] = cf__product_q4_k_##isa_,                                                                  \
            [CF_TYPE_Q5_K] = cf__product_q5_k_##isa_,                                                                  \
            [CF_TYPE_Q6_K] = cf__product_q6_k_##isa_},                                                                 \
        .quantise = cf__quantise_##isa_, .rms_norm = cf__rms_norm_##isa_, .silu_mul = cf__silu_mul_##isa_,             \
        .add = cf__add_##isa_, .rope = cf__rope_##isa_, .attend_page = cf__attend_page_##isa_,                         \
        .attend_merge = cf__attend_merge_##isa_, .attend_finish = cf__attend_finish_##isa_,                            \
        .to_f16 = cf__to_f16_##isa_                                                                                    \
    }

/* From the slowest to the best. */
static const struct cf_kernels tables[] = {
    TABLE(scalar),
#if defined(__x86_64__)
    TABLE(avx2),
    TABLE(avx512),
#endif
};
enum { N_TABLES = sizeof tables / sizeof tables[0] };

#if defined(__x86_64__)
/* GCC and Clang ask both the processor and the operating system (cpuid and xgetbv). */
static bool runs_avx2(void) {
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C); /* a name that older Clangs do not know */
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool runs_avx512(void) {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

/* Whether a table can run on this machine. */
static bool runs(const struct cf_kernels *t) {
#if defined(__x86_64__)
    if (strcmp(t->isa, "avx2") == 0) return runs_avx2();
    if (strcmp(t->isa, "avx512") == 0) return runs_avx512();
#endif
    return strcmp(t->isa, "scalar") == 0;
}

size_t cf_kernels_all(const struct cf_kernels *out[8]) {
    size_t n = 0;
    for (size_t i = 0; i < N_TABLES; i++)
        if (runs(&tables[i])) out[n++] = &tables[i];
    return n;
}

const struct cf_kernels *cf_kernels_choose(const char *isa_or_null) {
    const struct cf_kernels *all[8] = {NULL};
    size_t n = cf_kernels_all(all); /* at least one: scalar */
    const char *isa = isa_or_null ? isa_or_null : getenv("COFFER_ISA");
    if (!isa || !*isa) return all[n - 1];
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i]->isa, isa) == 0) return all[i];
    return NULL;
}
