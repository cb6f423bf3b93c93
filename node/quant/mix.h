/* Which type a tensor gets: what people call a file's type ("Q4_K_M") is a mix of types of tensors. cf_mix_type, the
 * question that `coffer synth` asks, is in encode.h.
 */
#ifndef COFFER_NODE_QUANT_MIX_H
#define COFFER_NODE_QUANT_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cf_mix {
    const char *name;
    uint32_t file_type; /* general.file_type */
    uint32_t base;      /* of most matrices */
    bool plain;         /* worth encoding without an importance matrix */
};

/* What the rules ask of a model. */
struct cf_mix_model {
    int n_layers, n_experts;
    uint32_t gqa; /* query heads per KV head */
    bool tied;    /* no output.weight: the embedding serves as one */
};

/* Any case; Q3_K, Q4_K and Q5_K stand for their _M. NULL if unknown. */
const struct cf_mix *cf_mix_find(const char *name);
/* All of them; NULL behind the last. */
const struct cf_mix *cf_mix_at(size_t i);
/* Whether a tensor is left as it is, whatever the mix. */
bool cf_mix_keeps(const char *tensor, uint32_t n_dims);
/* The type of any other tensor of layer `layer` (-1: none). */
uint32_t cf_mix_choose(const struct cf_mix *mix, const struct cf_mix_model *m, const char *tensor, int layer);

/* `type`, or where rows of `columns` elements are no whole number of its blocks: Q8_0 if they are of that type's, else
 * UINT32_MAX. */
uint32_t cf_fitting_type(uint32_t type, uint64_t columns);
/* The same as llama.cpp chooses: Q5_0 for Q4_K, Q8_0 for Q6_K and so on, and F16 where nothing fits. */
uint32_t cf_fallback_type(uint32_t type, uint64_t columns);

#endif
