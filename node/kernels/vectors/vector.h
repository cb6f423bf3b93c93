/* The vector functions of struct cf_kernels, once per instruction set: norms, activation, rope, attention.
 *
 * What each does, with shapes, stands in kernels.h; the order of every operation in README.md. The scalar file is the
 * reference and knows no intrinsics; the others give the same bits (a NaN for a NaN, its payload is nobody's promise).
 * Only dispatch.c and the tests call these by name, and only after cpuid says that they can run.
 */
#ifndef COFFER_NODE_KERNELS_VECTOR_H
#define COFFER_NODE_KERNELS_VECTOR_H

#include "node/kernels/kernels.h"

#define CF__LANE_FUNCTIONS(isa)                                                                                        \
    void cf__rms_norm_##isa(float *y, const float *x, const float *w, size_t n, float eps);                            \
    void cf__gate_mul_##isa(enum cf_act act, float *y, const float *g, const float *u, size_t n);                      \
    void cf__add_scaled_##isa(float *y, const float *x, float a, size_t n);                                            \
    void cf__attend_page_##isa(struct cf_attention_state *s, const struct cf_attention_page *p);

#define CF__VECTOR_FUNCTIONS(isa)                                                                                      \
    CF__LANE_FUNCTIONS(isa)                                                                                            \
    void cf__tree_sum_##isa(float *v, size_t n, size_t stride, size_t width);                                          \
    void cf__add_##isa(float *y, const float *x, size_t n);                                                            \
    void cf__rope_##isa(float *x, const float *cs, size_t n_dims, bool neox);                                          \
    void cf__attend_merge_##isa(                                                                                       \
        struct cf_attention_state *total, const struct cf_attention_state *span, uint32_t d_v);                        \
    void cf__attend_finish_##isa(float *out, const struct cf_attention_state *total, uint32_t d_v);                    \
    void cf__to_f16_##isa(uint16_t *y, const float *x, size_t n);

CF__VECTOR_FUNCTIONS(scalar)
CF__VECTOR_FUNCTIONS(avx2)
CF__VECTOR_FUNCTIONS(avx512)
CF__LANE_FUNCTIONS(sse41)
CF__LANE_FUNCTIONS(avx)
CF__LANE_FUNCTIONS(neon)
CF__LANE_FUNCTIONS(vsx)

#undef CF__LANE_FUNCTIONS
#undef CF__VECTOR_FUNCTIONS

/* Keys of a KV page. */
enum { CF__PAGE = 64 };

/* g / (1 + exp(-t)) with t = g (GELU_1 + GELU_3 g^2) is gelu's tanh form: t = 2 sqrt(2/pi) (g + 0.044715 g^3). */
#define CF__GELU_1 0x1.988454p+0f
#define CF__GELU_3 0x1.2444f2p-4f
/* gpt-oss: t = OAI_SLOPE g, g and u cut off at OAI_LIMIT, and u + 1 in place of u. */
#define CF__OAI_SLOPE 1.702f
#define CF__OAI_LIMIT 7.0f

/* Dots of keys first..n-1 -> capped scores. Rare enough to go one by one. */
static inline void cf__cap_scores(float *score, uint32_t first, uint32_t n, float scale, float cap) {
    for (uint32_t j = first; j < n; j++)
        score[j] = cap * cf_tanhf(score[j] * scale / cap);
}

/* What cf_expf is made of, for the lanes that repeat it. Beyond LEAST and MOST the result is 0 and infinity; adding
 * RINT rounds to an integer and leaves it in the low bits. 1 + r + C2 r^2 + ... + C6 r^6 is off by 2^-28 at most (a
 * minimax fit of the relative error over |r| <= 0.347). */
#define CF__EXPF_LEAST -104.0f
#define CF__EXPF_MOST 89.0f
#define CF__EXPF_LOG2E 0x1.715476p+0f
#define CF__EXPF_RINT 0x1.8p23f
#define CF__EXPF_LN2_HI 0x1.62e430p-1f
#define CF__EXPF_LN2_LO -0x1.05c610p-29f
#define CF__EXPF_C2 0x1.fffffcp-2f
#define CF__EXPF_C3 0x1.555490p-3f
#define CF__EXPF_C4 0x1.5558f6p-5f
#define CF__EXPF_C5 0x1.123a8ep-7f
#define CF__EXPF_C6 0x1.6a2318p-10f

#endif
