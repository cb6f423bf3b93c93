/* Mixes of types: the rules by which llama.cpp's tool makes the files that people call Q4_K_M and Q5_K_M. */
#include "node/quant/mix.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "node/kernels/type.h"
#include "node/quant/encode.h"

static const struct mix {
    const char *name;
    uint32_t base, more; /* most matrices; those that matter more */
} mixes[] = {
    {"q4_k_m", CF_TYPE_Q4_K, CF_TYPE_Q6_K},
    {"q5_k_m", CF_TYPE_Q5_K, CF_TYPE_Q6_K},
};

/* Never quantised, whatever the mix: too small to save anything, and routers decide too much. */
static const char *const kept[] = {"ffn_gate_inp.weight", "rope_freqs.weight"};

/* Ends with it, as a whole dotted part? */
static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end) && (n == m || s[n - m - 1] == '.');
}

/* The first and the last eighth of the layers, and every third between. */
static bool more_bits(int layer, int n_layers) {
    return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

uint32_t cf_mix_type(const char *mix, const char *tensor, int layer, int n_layers, uint32_t n_dims) {
    const struct cf_type *plain = cf_type_by_name(mix);
    const struct mix *m = NULL;
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        if (!strcasecmp(mix, mixes[i].name)) m = &mixes[i];
    }
    if (!plain && !m) return UINT32_MAX;
    if (n_dims < 2) return CF_TYPE_F32;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (ends_with(tensor, kept[i])) return CF_TYPE_F32;
    }
    if (plain) return plain->id;
    if (!strcmp(tensor, "output.weight")) return m->more;
    bool heavy = ends_with(tensor, "attn_v.weight") || ends_with(tensor, "ffn_down.weight");
    return heavy && layer >= 0 && more_bits(layer, n_layers) ? m->more : m->base;
}

uint32_t cf_fitting_type(uint32_t type, uint64_t columns) {
    const struct cf_type *t = cf_type_by_id(type), *q8 = cf_type_by_id(CF_TYPE_Q8_0);
    if (t && columns % t->block == 0) return type;
    return q8 && columns % q8->block == 0 ? CF_TYPE_Q8_0 : UINT32_MAX;
}
