/* Rotary position embedding: angles of all pairs for a position. */
#ifndef COFFER_NODE_KERNELS_ROPE_H
#define COFFER_NODE_KERNELS_ROPE_H

#include <stdint.h>

enum cf_rope_scaling { CF_ROPE_NONE, CF_ROPE_LINEAR, CF_ROPE_YARN };

/* As the GGUF keys ARCH.rope.* name them. The llama3 scaling comes as `factors` (tensor rope_freqs.weight). */
struct cf_rope {
    uint32_t n_dims; /* rotated dimensions of a head, even */
    float base;      /* rope.freq_base */
    enum cf_rope_scaling scaling;
    float factor;               /* rope.scaling.factor (1: none) */
    uint32_t original_context;  /* rope.scaling.original_context_length (YaRN) */
    float attn_factor;          /* rope.scaling.attn_factor, 1 */
    float ext_factor;           /* YaRN: 1 */
    float beta_fast, beta_slow; /* YaRN: 32, 1 */
    const float *factors;       /* [n_dims/2] divisors of the frequencies, or NULL */
};

/* freq[n_dims/2]: radians per position of each pair, in double; *mscale: factor of cos and sin. */
void cf_rope_frequencies(const struct cf_rope *r, double *freq, float *mscale);
/* cs[n_dims]: cos, sin of each pair at position, times mscale. */
void cf_rope_angles(float *cs, const double *freq, uint32_t n_dims, float mscale, uint32_t position);

#endif
