/* The tensors of `coffer synth`: names, shapes, types, and the spread of their elements, which keeps activations near
 * one through any number of layers and gives logits a spread of about 2.5. Their bytes: synth_bytes.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/synth.h"
#include "node/kernels/type.h"
#include "node/quant/encode.h"
#include "node/quant/mix.h"

enum size { DIM, HEADS, KV, FFN, VOCAB, N_SIZES };

static const struct weight {
    const char *name;
    enum size columns, rows; /* rows of a vector: not used */
    uint32_t n_dims;
    float gain;    /* spread of the product's output for inputs of spread 1; of a vector: about its mean of 1 */
    bool residual; /* its output is added to the hidden state, once per layer */
} layer_weights[] =
    {
        {"attn_norm", DIM, DIM, 1, 0.1f, false},
        {"attn_q", DIM, HEADS, 2, 1.4f, false},
        {"attn_k", DIM, KV, 2, 1.4f, false},
        {"attn_v", DIM, KV, 2, 1.0f, false},
        {"attn_output", HEADS, DIM, 2, 2.0f, true},
        {"ffn_norm", DIM, DIM, 1, 0.1f, false},
        {"ffn_gate", DIM, FFN, 2, 1.0f, false},
        {"ffn_up", DIM, FFN, 2, 1.0f, false},
        {"ffn_down", FFN, DIM, 2, 2.0f, true},
},
  embedding = {"token_embd", DIM, VOCAB, 2, 2.5f, false}, final_norm = {"output_norm", DIM, DIM, 1, 0.1f, false},
  head = {"output", DIM, VOCAB, 2, 2.5f, false};

/* The type of a matrix, or of the output head where `is_head`. NULL after an error that names the flag. */
static const struct cf_type *choose_type(
    const struct cf__synth *s, const struct weight *w, const char *name, int layer, bool is_head, struct cf_error *e) {
    static const char *const flags[N_SIZES] = {[DIM] = "--dim", [HEADS] = "--heads times --head-dim", [FFN] = "--ffn"};
    const int64_t columns = w->columns == DIM ? s->dim : w->columns == FFN ? s->ffn : s->heads * s->head_dim;
    const char *flag = is_head && s->head_type ? "--head-type" : "--type";
    const char *mix = is_head && s->head_type ? s->head_type : s->type;
    uint32_t wanted = cf_mix_type(mix, is_head ? "output.weight" : name, layer, (int)s->layers, w->n_dims);
    if (wanted == UINT32_MAX) {
        cf_fail(e, CF_ERR_USAGE,
            "%s: unknown type \"%s\" (f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k, q4_k_m, q5_k_m)", flag, mix);
        return NULL;
    }
    uint32_t type = w->n_dims < 2 ? wanted : cf_fitting_type(wanted, (uint64_t)columns);
    if (type == UINT32_MAX) {
        cf_fail(e, CF_ERR_USAGE, "%s: %lld is no multiple of 32, which %s %s needs", flags[w->columns],
            (long long)columns, flag, mix);
        return NULL;
    }
    return cf_type_by_id(type);
}

static int add_weight(
    struct cf__synth_tensors *t, const struct cf__synth *s, const struct weight *w, int layer, struct cf_error *e) {
    const uint64_t sizes[N_SIZES] = {[DIM] = (uint64_t)s->dim,
        [HEADS] = (uint64_t)(s->heads * s->head_dim),
        [KV] = (uint64_t)(s->kv_heads * s->head_dim),
        [FFN] = (uint64_t)s->ffn,
        [VOCAB] = (uint64_t)s->vocab};
    struct cf__synth_tensor *x = &t->list[t->n++];
    *x = (struct cf__synth_tensor){
        .role = w->name, .n_dims = w->n_dims, .ne = {sizes[w->columns], w->n_dims > 1 ? sizes[w->rows] : 1}};
    if (layer >= 0)
        snprintf(x->name, sizeof x->name, "blk.%d.%s.weight", layer, w->name);
    else
        snprintf(x->name, sizeof x->name, "%s.weight", w->name);
    bool is_head = w == &head || (w == &embedding && !s->untied);
    x->type = choose_type(s, w, x->name, layer, is_head, e);
    if (!x->type) return -1;
    x->mean = w->n_dims > 1 ? 0.0f : 1.0f;
    x->spread = w->n_dims > 1 ? w->gain / sqrtf((float)x->ne[0]) : w->gain;
    if (w->residual) x->spread /= sqrtf((float)s->layers);
    if (w == &embedding && s->untied) x->spread = 1;
    return 0;
}

/* base^(2 / n_dims), the ratio of neighbouring wavelengths, by Newton's method: libm's pow differs between machines. */
static double ratio(double base, int64_t n_dims) {
    int64_t n = n_dims / 2;
    double r = base;
    for (int i = 0; i < 200 + 40 * (int)n; i++) {
        double power = 1;
        for (int64_t k = 1; k < n; k++)
            power *= r;
        double next = ((double)(n - 1) * r + base / power) / (double)n;
        if (!(next < r)) break; /* from above it falls until it has arrived */
        r = next;
    }
    return r;
}

/* Divisors of the RoPE frequencies as for Llama 3.1: long waves are stretched by `factor`, short ones kept. */
static void llama3_factors(const struct cf__synth *s, float *factors) {
    const double low = 1, high = 4, context = (double)s->ctx / s->rope_factor;
    double wave = 6.283185307179586, step = ratio(s->rope_base, s->head_dim);
    for (int64_t i = 0; i < s->head_dim / 2; i++, wave *= step) {
        double turns = context / wave;
        double smooth = (turns - low) / (high - low);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        factors[i] = (float)(1 / ((1 - smooth) / s->rope_factor + smooth));
    }
}

static int add_rope(struct cf__synth_tensors *t, const struct cf__synth *s, struct cf_error *e) {
    t->rope = calloc((size_t)s->head_dim, sizeof *t->rope);
    if (!t->rope) return cf_fail(e, CF_ERR_MEMORY, "no memory");
    llama3_factors(s, t->rope);
    t->list[t->n++] = (struct cf__synth_tensor){.name = "rope_freqs.weight",
        .type = cf_type_by_id(CF_TYPE_F32),
        .n_dims = 1,
        .ne = {(uint64_t)s->head_dim / 2, 1},
        .given = t->rope};
    return 0;
}

static int add_all(struct cf__synth_tensors *t, const struct cf__synth *s, struct cf_error *e) {
    if (add_weight(t, s, &embedding, -1, e)) return -1;
    if (!strcmp(s->rope_scaling, "llama3") && add_rope(t, s, e)) return -1;
    for (int layer = 0; layer < (int)s->layers; layer++) {
        for (size_t i = 0; i < sizeof layer_weights / sizeof *layer_weights; i++) {
            if (add_weight(t, s, &layer_weights[i], layer, e)) return -1;
        }
    }
    if (add_weight(t, s, &final_norm, -1, e)) return -1;
    return s->untied ? add_weight(t, s, &head, -1, e) : 0;
}

int cf__synth_tensors_new(struct cf__synth_tensors **out, const struct cf__synth *s, struct cf_error *e) {
    struct cf__synth_tensors *t = calloc(1, sizeof *t);
    if (t) pthread_mutex_init(&t->lock, NULL);
    if (t) t->list = calloc((size_t)s->layers * (sizeof layer_weights / sizeof *layer_weights) + 4, sizeof *t->list);
    int status = t && t->list ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for the list of tensors");
    if (!status) {
        t->seed = (uint64_t)s->seed;
        status = add_all(t, s, e);
    }
    for (size_t i = 0; !status && i < t->n; i++) {
        struct cf__synth_tensor *x = &t->list[i];
        x->elements = x->ne[0] * x->ne[1];
        x->bytes = x->elements / x->type->block * x->type->block_bytes;
        t->bytes += x->bytes;
    }
    if (status) {
        cf__synth_tensors_free(t);
        t = NULL;
    }
    *out = t;
    return status;
}

void cf__synth_tensors_free(struct cf__synth_tensors *t) {
    if (!t) return;
    for (size_t i = 0; i < t->n_pools; i++)
        free(t->pools[i].bytes);
    pthread_mutex_destroy(&t->lock);
    free(t->list);
    free(t->rope);
    free(t);
}

uint64_t cf__synth_tensors_bytes(const struct cf__synth_tensors *t) {
    return t->bytes;
}
