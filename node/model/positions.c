/* What a model makes of positions: rotation, its scalings and factors, sliding windows. See model.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/model/model.h"

/* YaRN multiplies cos and sin by 1 + L, L = 0.1 ln(factor). Models with a log multiplier say how much of that belongs
 * to the scores instead; with latent attention (DeepSeek-V2) the scores get it in any case, squared, as llama.cpp has
 * it: its files bear the multiplier times 0.1, and both parts are the same. */
static int read_log_multiplier(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_rope *r = &m->rope;
    float multiplier = 0;
    if (cf__model_f32(m, g, "rope.scaling.yarn_log_multiplier", false, &multiplier, e)) return -1;
    bool latent = m->latent.latent, yarn = r->scaling == CF_ROPE_YARN && r->ext_factor != 0;
    double log_factor = r->scaling == CF_ROPE_NONE ? 0 : 0.1 * cf_log((double)r->factor),
           factor = (double)r->attn_factor;
    double all = latent ? (double)multiplier / 0.1 : (double)multiplier, own = latent ? all : 1;
    if (yarn && multiplier != 0) factor *= (1 + own * log_factor) / (1 + all * log_factor) / (1 + log_factor);
    r->attn_factor = (float)factor;
    double scale = factor * (1 + log_factor) * (1 + all * log_factor);
    if (latent) m->attn_scale = (float)((double)m->attn_scale * scale * scale);
    return 0;
}

static int read_scaling(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_rope *r = &m->rope;
    const char *scaling = "linear";
    char key[96];
    float linear = 0.0f;
    snprintf(key, sizeof key, "%s.rope.scaling.type", m->arch);
    if (cf_gguf_str(g, key, false, &scaling, e) || cf__model_f32(m, g, "rope.scale_linear", false, &linear, e) ||
        cf__model_f32(m, g, "rope.scaling.factor", false, &r->factor, e) ||
        cf__model_f32(m, g, "rope.scaling.attn_factor", false, &r->attn_factor, e) ||
        cf__model_u32(m, g, "rope.scaling.original_context_length", false, &r->original_context, e) ||
        cf__model_f32(m, g, "rope.scaling.yarn_attn_factor", false, &r->attn_factor, e) ||
        cf__model_f32(m, g, "rope.scaling.yarn_beta_fast", false, &r->beta_fast, e) ||
        cf__model_f32(m, g, "rope.scaling.yarn_beta_slow", false, &r->beta_slow, e))
        return -1;
    if (r->factor == 0.0f) r->factor = 1.0f;
    if (!strcmp(scaling, "yarn")) {
        r->scaling = CF_ROPE_YARN, r->ext_factor = 1.0f;
        if (cf__model_f32(m, g, "rope.scaling.yarn_ext_factor", false, &r->ext_factor, e)) return -1;
    } else if (!strcmp(scaling, "linear")) {
        if (linear != 0.0f && r->factor == 1.0f) r->factor = linear;
        if (r->factor != 1.0f) r->scaling = CF_ROPE_LINEAR;
    } else if (strcmp(scaling, "none") && strcmp(scaling, "llama3") && strcmp(scaling, "longrope")) {
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: %s is \"%s\"; known: none, linear, llama3, longrope, yarn",
            cf_gguf_path(g), key, scaling);
    }
    if (!(r->base > 0.0f) || !(r->factor > 0.0f) || !isfinite(r->base) || !isfinite(r->factor) || !r->original_context)
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s.rope.* holds a base, factor or context that is not positive",
            cf_gguf_path(g), m->arch);
    return read_log_multiplier(m, g, e);
}

/* rope_freqs.weight, rope_factors_short.weight, rope_factors_long.weight */
bool cf_model_reads_at_open(const char *tensor) {
    return strncmp(tensor, "rope_", 5) == 0;
}

/* Divisors of the frequencies, or none. */
static int read_factors(
    const struct cf_model *m, const struct cf_gguf *g, const char *name, float **factors, struct cf_error *e) {
    const struct cf_gguf_tensor *t = cf_gguf_tensor(g, name);
    uint32_t n = m->rope.n_dims / 2;
    if (!t) return 0;
    if (t->type != CF_TYPE_F32 || t->ne[0] != n || t->ne[1] != 1)
        return cf_fail(e, CF_ERR_FORMAT, "%s: tensor %s is not %u f32 numbers", cf_gguf_path(g), name, n);
    *factors = malloc(n * sizeof(float));
    if (!*factors) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    return cf_gguf_read(g, t, 0, *factors, n * sizeof(float), e);
}

static int read_rope(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_rope *r = &m->rope;
    uint32_t head = m->latent.latent ? m->latent.rot : m->d_k;
    *r = (struct cf_rope){.n_dims = head,
        .base = 10000.0f,
        .factor = 1.0f,
        .attn_factor = 1.0f,
        .beta_fast = 32.0f,
        .beta_slow = 1.0f,
        .original_context = m->n_ctx_train};
    if (cf__model_u32(m, g, "rope.dimension_count", false, &r->n_dims, e) ||
        cf__model_f32(m, g, "rope.freq_base", false, &r->base, e))
        return -1;
    if (r->n_dims > head || r->n_dims % 2 || !r->n_dims)
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s.rope.dimension_count is %u with heads of %u", cf_gguf_path(g), m->arch,
            r->n_dims, head);
    if (read_scaling(m, g, e)) return -1;
    if (cf_gguf_tensor(g, "rope_freqs.weight")) return read_factors(m, g, "rope_freqs.weight", &m->rope_factors, e);
    return read_factors(m, g, "rope_factors_short.weight", &m->rope_factors, e) ||
                   read_factors(m, g, "rope_factors_long.weight", &m->rope_long, e)
               ? -1
               : 0;
}

/* attention.sliding_window_pattern: every so manieth layer sees everything, or a truth value per layer. */
static int read_pattern(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    char key[96];
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", m->arch);
    const struct cf_gguf_value *v = cf_gguf_value(g, key);
    uint32_t pattern = m->a->pattern;
    if (v && v->kind == CF_GGUF_ARRAY) {
        if (v->element != CF_GGUF_BOOL || v->count < m->n_layers)
            return cf_fail(e, CF_ERR_FORMAT, "%s: %s is not a truth value per layer", cf_gguf_path(g), key);
        for (uint32_t l = 0; l < m->n_layers; l++)
            m->windowed[l] = ((const uint8_t *)v->array)[l];
        return 0;
    }
    if (cf_gguf_u32(g, key, false, &pattern, e)) return -1;
    for (uint32_t l = 0; l < m->n_layers; l++)
        m->windowed[l] = pattern == 0 || l % pattern < pattern - 1;
    return 0;
}

static int read_windows(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    m->rope_local = m->rope;
    m->window = m->a->window;
    if (!m->a->pattern) return 0;
    if (cf__model_u32(m, g, "attention.sliding_window", false, &m->window, e)) return -1;
    if (!m->window) return 0;
    m->windowed = calloc(m->n_layers, sizeof *m->windowed);
    if (!m->windowed) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (m->a->window_base > 0) {
        m->rope_local.base = m->a->window_base;
        m->rope_local.scaling = CF_ROPE_NONE, m->rope_local.factor = 1.0f;
    }
    if (cf__model_f32(m, g, "rope.freq_base_swa", false, &m->rope_local.base, e)) return -1;
    if (!(m->rope_local.base > 0) || !isfinite(m->rope_local.base))
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s.rope.freq_base_swa is not positive", cf_gguf_path(g), m->arch);
    return read_pattern(m, g, e);
}

int cf__model_positions(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    return read_rope(m, g, e) || read_windows(m, g, e) ? -1 : 0;
}

struct cf_rope cf_model_rope(const struct cf_model *m, bool windowed, uint32_t n_ctx) {
    struct cf_rope r = windowed ? m->rope_local : m->rope;
    r.factors = m->rope_long && n_ctx > r.original_context ? m->rope_long : m->rope_factors;
    return r;
}
