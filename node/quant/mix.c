/* Mixes of types: the rules by which llama.cpp's tool makes the files that people call Q4_K_M, Q3_K_S or IQ4_XS
 * (llama-quant.cpp, as of 2025). See mix.h. */
#include "node/quant/mix.h"

#include <string.h>
#include <strings.h>

#include "node/kernels/type.h"
#include "node/quant/encode.h"

/* The numbers are those of llama.cpp's llama_ftype. */
static const struct cf_mix mixes[] = {
    {"F32", 0, CF_TYPE_F32, true},
    {"F16", 1, CF_TYPE_F16, true},
    {"BF16", 32, CF_TYPE_BF16, true},
    {"Q8_0", 7, CF_TYPE_Q8_0, true},
    {"Q4_0", 2, CF_TYPE_Q4_0, true},
    {"Q4_1", 3, CF_TYPE_Q4_1, true},
    {"Q5_0", 8, CF_TYPE_Q5_0, true},
    {"Q5_1", 9, CF_TYPE_Q5_1, true},
    {"Q2_K", 10, CF_TYPE_Q2_K, true},
    {"Q2_K_S", 21, CF_TYPE_Q2_K, true},
    {"Q3_K_S", 11, CF_TYPE_Q3_K, true},
    {"Q3_K_M", 12, CF_TYPE_Q3_K, true},
    {"Q3_K_L", 13, CF_TYPE_Q3_K, true},
    {"Q4_K_S", 14, CF_TYPE_Q4_K, true},
    {"Q4_K_M", 15, CF_TYPE_Q4_K, true},
    {"Q5_K_S", 16, CF_TYPE_Q5_K, true},
    {"Q5_K_M", 17, CF_TYPE_Q5_K, true},
    {"Q6_K", 18, CF_TYPE_Q6_K, true},
    {"IQ4_NL", 25, CF_TYPE_IQ4_NL, true},
    {"IQ4_XS", 30, CF_TYPE_IQ4_XS, true},
    {"IQ2_XXS", 19, CF_TYPE_IQ2_XXS, false},
    {"IQ2_XS", 20, CF_TYPE_IQ2_XS, false},
    {"IQ2_S", 28, CF_TYPE_IQ2_XS, false},
    {"IQ2_M", 29, CF_TYPE_IQ2_S, false},
    {"IQ3_XXS", 23, CF_TYPE_IQ3_XXS, false},
    {"IQ3_XS", 22, CF_TYPE_IQ3_S, false},
    {"IQ3_S", 26, CF_TYPE_IQ3_S, false},
    {"IQ3_M", 27, CF_TYPE_IQ3_S, false},
};

static const char *const aliases[][2] = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

/* Which layers or models a rule is for. */
enum when { ALWAYS, EXPERTS_8, FIRST_2, FIRST_4, SIXTEENTH, EIGHTH, MORE_BITS, NOT_ENDS, GQA_4 };

/* Of a tensor that matches `part`, the first rule of its mix that applies; else the mix's base. A mix that ends in '*'
 * stands for all that begin so. */
static const struct rule {
    const char *mix, *part;
    enum when when;
    uint32_t type;
} rules[] = {
    {"Q2_K", "attn_output", EXPERTS_8, CF_TYPE_Q5_K},
    {"Q3_K_S", "attn_output", EXPERTS_8, CF_TYPE_Q5_K},
    {"Q3_K_M", "attn_output", EXPERTS_8, CF_TYPE_Q5_K},
    {"Q3_K_L", "attn_output", EXPERTS_8, CF_TYPE_Q3_K},
    {"Q4_K_*", "attn_output", EXPERTS_8, CF_TYPE_Q5_K},
    {"IQ*", "attn_output", EXPERTS_8, CF_TYPE_Q5_K},
    {"Q4_K_M", "attn_v", MORE_BITS, CF_TYPE_Q6_K},
    {"Q4_K_M", "ffn_down", MORE_BITS, CF_TYPE_Q6_K},
    {"Q5_K_M", "attn_v", MORE_BITS, CF_TYPE_Q6_K},
    {"Q5_K_M", "ffn_down", MORE_BITS, CF_TYPE_Q6_K},
    {"Q4_K_S", "attn_v", FIRST_4, CF_TYPE_Q5_K},
    {"Q4_K_S", "ffn_down", EIGHTH, CF_TYPE_Q5_K},
    {"Q2_K", "attn_v", GQA_4, CF_TYPE_Q4_K},
    {"Q2_K", "attn_v", ALWAYS, CF_TYPE_Q3_K},
    {"Q2_K", "ffn_down", ALWAYS, CF_TYPE_Q3_K},
    {"Q2_K", "attn_output", ALWAYS, CF_TYPE_Q3_K},
    {"Q2_K_S", "attn_v", GQA_4, CF_TYPE_Q4_K},
    {"Q2_K_S", "ffn_down", EIGHTH, CF_TYPE_Q4_K},
    {"Q3_K_M", "attn_v", FIRST_2, CF_TYPE_Q5_K},
    {"Q3_K_M", "attn_v", ALWAYS, CF_TYPE_Q4_K},
    {"Q3_K_M", "ffn_down", SIXTEENTH, CF_TYPE_Q5_K},
    {"Q3_K_M", "ffn_down", ALWAYS, CF_TYPE_Q4_K},
    {"Q3_K_M", "attn_output", ALWAYS, CF_TYPE_Q4_K},
    {"Q3_K_L", "attn_v", ALWAYS, CF_TYPE_Q5_K},
    {"Q3_K_L", "ffn_down", ALWAYS, CF_TYPE_Q5_K},
    {"Q3_K_L", "attn_output", ALWAYS, CF_TYPE_Q5_K},
    {"IQ4_*", "attn_v", GQA_4, CF_TYPE_Q5_K},
    {"IQ4_*", "ffn_down", EIGHTH, CF_TYPE_Q5_K},
    {"IQ3_M", "attn_v", ALWAYS, CF_TYPE_Q4_K},
    {"IQ3_M", "ffn_down", EIGHTH, CF_TYPE_Q4_K},
    {"IQ3_M", "attn_output", ALWAYS, CF_TYPE_Q4_K},
    {"IQ3_*", "attn_v", GQA_4, CF_TYPE_Q4_K},
    {"IQ3_XXS", "attn_v", ALWAYS, CF_TYPE_IQ3_S},
    {"IQ3_XXS", "ffn_down", EIGHTH, CF_TYPE_Q4_K},
    {"IQ3_XXS", "ffn_down", ALWAYS, CF_TYPE_Q3_K},
    {"IQ3_XXS", "attn_output", ALWAYS, CF_TYPE_IQ3_S},
    {"IQ3_XXS", "attn_k", ALWAYS, CF_TYPE_IQ2_S},
    {"IQ3_XXS", "attn_q", ALWAYS, CF_TYPE_IQ2_S},
    {"IQ3_XXS", "token_embd", ALWAYS, CF_TYPE_IQ3_S},
    {"IQ3_XS", "attn_k", ALWAYS, CF_TYPE_IQ3_XXS},
    {"IQ3_XS", "attn_q", ALWAYS, CF_TYPE_IQ3_XXS},
    {"IQ3_XS", "ffn_gate", NOT_ENDS, CF_TYPE_IQ3_XXS},
    {"IQ3_XS", "ffn_up", NOT_ENDS, CF_TYPE_IQ3_XXS},
    {"IQ2_*", "attn_v", GQA_4, CF_TYPE_Q4_K},
    {"IQ2_X*", "attn_v", ALWAYS, CF_TYPE_Q2_K},
    {"IQ2_X*", "ffn_down", EIGHTH, CF_TYPE_Q2_K},
    {"IQ2_X*", "token_embd", ALWAYS, CF_TYPE_Q2_K},
    {"IQ2_*", "attn_v", ALWAYS, CF_TYPE_IQ3_S},
    {"IQ2_*", "ffn_down", EIGHTH, CF_TYPE_IQ3_S},
    {"IQ2_*", "attn_output", ALWAYS, CF_TYPE_IQ3_S},
    {"IQ2_*", "token_embd", ALWAYS, CF_TYPE_IQ3_S},
};

/* Names that hold any of these are never quantised: too small to save anything, and routers decide too much. */
static const char *const kept[] = {"ffn_gate_inp.weight", "rope_freqs", "_norm.weight", "ssm_conv1d", "attn_rel_b"};

const struct cf_mix *cf_mix_find(const char *name) {
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcasecmp(name, aliases[i][0])) name = aliases[i][1];
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (!strcasecmp(name, mixes[i].name)) return &mixes[i];
    return NULL;
}

const struct cf_mix *cf_mix_at(size_t i) {
    return i < sizeof mixes / sizeof *mixes ? &mixes[i] : NULL;
}

bool cf_mix_keeps(const char *tensor, uint32_t n_dims) {
    size_t n = strlen(tensor);
    if (n_dims < 2 || n < 6 || strcmp(tensor + n - 6, "weight") != 0) return true;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (strstr(tensor, kept[i])) return true;
    return false;
}

static bool applies(enum when when, const struct cf_mix_model *m, int layer) {
    const int n = m->n_layers;
    switch (when) {
    case ALWAYS: return true;
    case EXPERTS_8: return m->n_experts == 8;
    case GQA_4: return m->gqa >= 4;
    case FIRST_2: return layer < 2;
    case FIRST_4: return layer < 4;
    case SIXTEENTH: return layer < n / 16;
    case EIGHTH: return layer < n / 8;
    case NOT_ENDS: return layer >= n / 8 && layer < 7 * n / 8;
    case MORE_BITS: return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    }
    return false;
}

static bool is_mix(const char *pattern, const char *name) {
    size_t n = strcspn(pattern, "*");
    return pattern[n] ? !strncmp(pattern, name, n) : !strcmp(pattern, name);
}

/* What decides of a tensor: its name without "blk.N." and what follows. Fused and latent V count as V. */
static bool is_part(const char *tensor, const char *part) {
    const char *name = strncmp(tensor, "blk.", 4) == 0 ? strchr(tensor + 4, '.') : NULL;
    name = name ? name + 1 : tensor;
    if (!strcmp(part, "attn_v") &&
        (!strcmp(name, "attn_qkv.weight") || !strcmp(name, "attn_kv_b.weight") || !strcmp(name, "attn_v.weight")))
        return true;
    size_t n = strlen(part);
    return !strncmp(name, part, n) && (name[n] == '.' || !strncmp(part, "ffn_", 4));
}

static uint32_t of_head(const struct cf_mix *mix) {
    const struct cf_type *base = cf_type_by_id(mix->base);
    if (!base->quantised || base->id == CF_TYPE_Q8_0) return base->id;
    return is_mix("IQ2_*", mix->name) || is_mix("IQ3_XXS", mix->name) ? CF_TYPE_Q5_K : CF_TYPE_Q6_K;
}

uint32_t cf_mix_choose(const struct cf_mix *mix, const struct cf_mix_model *m, const char *tensor, int layer) {
    if (!strcmp(tensor, "output.weight") || (m->tied && !strcmp(tensor, "token_embd.weight"))) return of_head(mix);
    const struct cf_type *base = cf_type_by_id(mix->base);
    uint32_t type = mix->base;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const struct rule *r = &rules[i];
        if (!is_mix(r->mix, mix->name) || !is_part(tensor, r->part) || !applies(r->when, m, layer)) continue;
        if (layer < 0 && r->when != ALWAYS) continue;
        type = r->type;
        break;
    }
    if (!base->quantised) return type;
    const bool v = is_part(tensor, "attn_v");
    if (v && m->n_layers == 80 && m->gqa > 1 && (type == CF_TYPE_Q3_K || type == CF_TYPE_Q4_K)) type = CF_TYPE_Q5_K;
    if (m->n_experts == 8 && (v || is_part(tensor, "attn_k")) && !is_mix("IQ2_*", mix->name)) type = CF_TYPE_Q8_0;
    return type;
}

uint32_t cf_mix_type(const char *mix, const char *tensor, int layer, int n_layers, uint32_t n_dims) {
    const struct cf_type *plain = cf_type_by_name(mix);
    const struct cf_mix *m = plain ? NULL : cf_mix_find(mix);
    const struct cf_mix_model model = {.n_layers = n_layers};
    if (!plain && !m) return UINT32_MAX;
    if (cf_mix_keeps(tensor, n_dims)) return CF_TYPE_F32;
    return plain ? plain->id : cf_mix_choose(m, &model, tensor, layer);
}

uint32_t cf_fitting_type(uint32_t type, uint64_t columns) {
    const struct cf_type *t = cf_type_by_id(type), *q8 = cf_type_by_id(CF_TYPE_Q8_0);
    if (t && columns % t->block == 0) return type;
    return q8 && columns % q8->block == 0 ? CF_TYPE_Q8_0 : UINT32_MAX;
}

uint32_t cf_fallback_type(uint32_t type, uint64_t columns) {
    static const uint32_t to[CF_TYPE_LIMIT] = {
        [CF_TYPE_IQ2_XXS] = CF_TYPE_IQ4_NL,
        [CF_TYPE_IQ2_XS] = CF_TYPE_IQ4_NL,
        [CF_TYPE_IQ2_S] = CF_TYPE_IQ4_NL,
        [CF_TYPE_IQ3_XXS] = CF_TYPE_IQ4_NL,
        [CF_TYPE_IQ3_S] = CF_TYPE_IQ4_NL,
        [CF_TYPE_IQ4_XS] = CF_TYPE_IQ4_NL,
        [CF_TYPE_Q2_K] = CF_TYPE_Q4_0,
        [CF_TYPE_Q3_K] = CF_TYPE_Q4_0,
        [CF_TYPE_Q4_K] = CF_TYPE_Q5_0,
        [CF_TYPE_Q5_K] = CF_TYPE_Q5_1,
        [CF_TYPE_Q6_K] = CF_TYPE_Q8_0,
    };
    const struct cf_type *t = cf_type_by_id(type);
    if (columns % t->block == 0) return type;
    uint32_t other = t->block > 32 ? to[type] : type;
    return columns % 32 == 0 ? other : CF_TYPE_F16;
}
