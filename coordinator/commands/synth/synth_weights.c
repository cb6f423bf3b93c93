/* The tensors of `coffer synth`: names, shapes, types, and the spread of their elements, which keeps activations near
 * one through any number of layers and gives logits a spread of about 2.5. Their bytes: synth_bytes.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/synth/synth.h"
#include "node/kernels/type.h"
#include "node/quant/encode.h"
#include "node/quant/mix.h"

/* Sizes that shapes are made of; each is written as the option that gives it (flags). */
enum size {
    NONE,
    ONE,
    DIM,
    DIM_TWICE,
    Q, /* query heads x their size */
    K,
    V,
    QKV,
    VALUES, /* what attention gives: query heads x size of a value */
    HEADS,
    HEAD_DIM,
    UNTURNED, /* the part of a head that rope leaves alone */
    VALUE_DIM,
    Q_RANK,
    KV_RANK,
    KV_RANK_AND_ROPE,
    KV_B,
    FFN,
    FFN_TWICE,
    EXPERTS,
    EXPERT_FFN,
    EXPERT_FFN_TWICE,
    SHARED_FFN,
    VOCAB,
    N_SIZES
};
static const char *const flags[N_SIZES] = {[DIM] = "--dim",
    [DIM_TWICE] = "--dim",
    [VALUES] = "--heads times the size of a value",
    [UNTURNED] = "--head-dim without --rope-dim",
    [Q_RANK] = "--q-rank",
    [KV_RANK] = "--kv-rank",
    [FFN] = "--ffn",
    [EXPERT_FFN] = "--expert-ffn",
    [SHARED_FFN] = "--expert-ffn"};

static void measure(const struct cf__synth *s, int64_t sizes[N_SIZES]) {
    const int64_t value = s->value_dim ? s->value_dim : s->head_dim;
    const int64_t all[N_SIZES] = {[ONE] = 1,
        [DIM] = s->dim,
        [DIM_TWICE] = 2 * s->dim,
        [Q] = s->heads * s->head_dim,
        [K] = s->kv_heads * s->head_dim,
        [V] = s->kv_heads * value,
        [QKV] = s->heads * s->head_dim + s->kv_heads * (s->head_dim + value),
        [VALUES] = s->heads * value,
        [HEADS] = s->heads,
        [HEAD_DIM] = s->head_dim,
        [UNTURNED] = s->head_dim - s->rope_dim,
        [VALUE_DIM] = value,
        [Q_RANK] = s->q_rank,
        [KV_RANK] = s->kv_rank,
        [KV_RANK_AND_ROPE] = s->kv_rank + s->rope_dim,
        [KV_B] = s->heads * (s->head_dim - s->rope_dim + value),
        [FFN] = s->ffn,
        [FFN_TWICE] = 2 * s->ffn,
        [EXPERTS] = s->experts,
        [EXPERT_FFN] = s->expert_ffn,
        [EXPERT_FFN_TWICE] = 2 * s->expert_ffn,
        [SHARED_FFN] = s->shared_experts * s->expert_ffn,
        [VOCAB] = s->vocab};
    memcpy(sizes, all, sizeof all);
}

enum kind {
    MATRIX,  /* of the type that was asked for; mean 0 */
    EXPERT,  /* likewise, of one matrix per expert */
    FACTORS, /* F32 around `mean` */
    ROUTER,  /* F32; scaled by its columns as a matrix */
};

static const struct weight {
    const char *name; /* ".weight" is understood unless it ends in ".bias" */
    enum size ne[3];  /* columns, rows, matrices */
    enum kind kind;
    float gain; /* spread of a product's output for inputs of spread 1; of factors: about their mean */
    float mean;
    bool residual;    /* its output is added to the hidden state, once per layer */
    enum size inputs; /* how many are added up, where not the columns */
} layer_weights[CF__SYNTH_WEIGHTS] =
    {
        [W_ATTN_NORM] = {"attn_norm", {DIM}, FACTORS, 0.1f, 1},
        [W_Q] = {"attn_q", {DIM, Q}, MATRIX, 1.4f},
        [W_Q_BIAS] = {"attn_q.bias", {Q}, FACTORS, 0.5f},
        [W_K] = {"attn_k", {DIM, K}, MATRIX, 1.4f},
        [W_K_BIAS] = {"attn_k.bias", {K}, FACTORS, 0.5f},
        [W_V] = {"attn_v", {DIM, V}, MATRIX, 1.0f},
        [W_V_BIAS] = {"attn_v.bias", {V}, FACTORS, 0.3f},
        [W_QKV] = {"attn_qkv", {DIM, QKV}, MATRIX, 1.4f},
        [W_Q_NORM] = {"attn_q_norm", {HEAD_DIM}, FACTORS, 0.2f, 1.4f},
        [W_K_NORM] = {"attn_k_norm", {HEAD_DIM}, FACTORS, 0.2f, 1.4f},
        [W_SINKS] = {"attn_sinks", {HEADS}, FACTORS, 1, 1},
        [W_Q_A] = {"attn_q_a", {DIM, Q_RANK}, MATRIX, 1},
        [W_Q_A_NORM] = {"attn_q_a_norm", {Q_RANK}, FACTORS, 0.1f, 1},
        [W_Q_B] = {"attn_q_b", {Q_RANK, Q}, MATRIX, 1.4f},
        [W_KV_A] = {"attn_kv_a_mqa", {DIM, KV_RANK_AND_ROPE}, MATRIX, 1.4f},
        [W_KV_A_NORM] = {"attn_kv_a_norm", {KV_RANK}, FACTORS, 0.1f, 1},
        [W_K_B] = {"attn_k_b", {UNTURNED, KV_RANK, HEADS}, MATRIX, 1.4f, .inputs = KV_RANK},
        [W_V_B] = {"attn_v_b", {KV_RANK, VALUE_DIM, HEADS}, MATRIX, 1},
        [W_KV_B] = {"attn_kv_b", {KV_RANK, KV_B}, MATRIX, 1.2f},
        [W_O] = {"attn_output", {VALUES, DIM}, MATRIX, 2.0f, 0, true},
        [W_O_BIAS] = {"attn_output.bias", {DIM}, FACTORS, 0.2f},
        [W_ATTN_POST_NORM] = {"post_attention_norm", {DIM}, FACTORS, 0.1f, 1},
        [W_FFN_NORM] = {"ffn_norm", {DIM}, FACTORS, 0.1f, 1},
        [W_GATE] = {"ffn_gate", {DIM, FFN}, MATRIX, 1.0f},
        [W_UP] = {"ffn_up", {DIM, FFN}, MATRIX, 1.0f},
        [W_GATE_UP] = {"ffn_up", {DIM, FFN_TWICE}, MATRIX, 1.0f},
        [W_DOWN] = {"ffn_down", {FFN, DIM}, MATRIX, 2.0f, 0, true},
        [W_ROUTER] = {"ffn_gate_inp", {DIM, EXPERTS}, ROUTER, 2},
        [W_ROUTER_BIAS] = {"ffn_gate_inp.bias", {EXPERTS}, FACTORS, 0.5f},
        [W_CHOICE_BIAS] = {"exp_probs_b.bias", {EXPERTS}, FACTORS, 0.2f},
        [W_GATE_EXPS] = {"ffn_gate_exps", {DIM, EXPERT_FFN, EXPERTS}, EXPERT, 1},
        [W_GATE_EXPS_BIAS] = {"ffn_gate_exps.bias", {EXPERT_FFN, EXPERTS}, FACTORS, 0.3f},
        [W_UP_EXPS] = {"ffn_up_exps", {DIM, EXPERT_FFN, EXPERTS}, EXPERT, 1},
        [W_UP_EXPS_BIAS] = {"ffn_up_exps.bias", {EXPERT_FFN, EXPERTS}, FACTORS, 0.3f},
        [W_GATE_UP_EXPS] = {"ffn_gate_up_exps", {DIM, EXPERT_FFN_TWICE, EXPERTS}, EXPERT, 1},
        [W_GATE_UP_EXPS_BIAS] = {"ffn_gate_up_exps.bias", {EXPERT_FFN_TWICE, EXPERTS}, FACTORS, 0.3f},
        [W_DOWN_EXPS] = {"ffn_down_exps", {EXPERT_FFN, DIM, EXPERTS}, EXPERT, 3, 0, true},
        [W_DOWN_EXPS_BIAS] = {"ffn_down_exps.bias", {DIM, EXPERTS}, FACTORS, 0.1f},
        [W_SHARED_ROUTER] = {"ffn_gate_inp_shexp", {DIM}, ROUTER, 1},
        [W_GATE_SHARED] = {"ffn_gate_shexp", {DIM, SHARED_FFN}, MATRIX, 1},
        [W_UP_SHARED] = {"ffn_up_shexp", {DIM, SHARED_FFN}, MATRIX, 1},
        [W_DOWN_SHARED] = {"ffn_down_shexp", {SHARED_FFN, DIM}, MATRIX, 2, 0, true},
        [W_FFN_POST_NORM] = {"post_ffw_norm", {DIM}, FACTORS, 0.1f, 1},
        [W_NEXTN_PROJECTION] = {"nextn.eh_proj", {DIM_TWICE, DIM}, MATRIX, 1},
        [W_NEXTN_EMBD_NORM] = {"nextn.enorm", {DIM}, FACTORS, 0.1f, 1},
        [W_NEXTN_HIDDEN_NORM] = {"nextn.hnorm", {DIM}, FACTORS, 0.1f, 1},
        [W_NEXTN_HEAD_NORM] = {"nextn.shared_head_norm", {DIM}, FACTORS, 0.1f, 1},
},
  embedding = {"token_embd", {DIM, VOCAB}, MATRIX, 2.5f, 0, false, NONE},
  final_norm = {"output_norm", {DIM}, FACTORS, 0.1f, 1, false, NONE},
  head = {"output", {DIM, VOCAB}, MATRIX, 2.5f, 0, false, NONE};

/* The type of a matrix, or of the output head where `is_head`. NULL after an error that names the flag. */
static const struct cf_type *choose_type(const struct cf__synth *s, const struct weight *w,
    const struct cf__synth_tensor *x, int layer, struct cf_error *e) {
    bool is_head = w == &head || (w == &embedding && !s->untied), is_expert = w->kind == EXPERT;
    const char *flag = "--type", *mix = s->type;
    if (is_head && s->head_type) flag = "--head-type", mix = s->head_type;
    if (is_expert && s->expert_type) flag = "--expert-type", mix = s->expert_type;
    bool matrix = w->kind == MATRIX || is_expert;
    uint32_t wanted =
        cf_mix_type(mix, is_head ? "output.weight" : x->name, layer, (int)s->layers, matrix ? x->n_dims : 1);
    if (wanted == UINT32_MAX) {
        cf_fail(e, CF_ERR_USAGE,
            "%s: unknown type \"%s\" (f16, q8_0, q4_0, q4_k_m, iq4_xs and others: coffer synth --help)", flag, mix);
        return NULL;
    }
    uint32_t type = matrix ? cf_fitting_type(wanted, x->ne[0]) : wanted;
    if (type == UINT32_MAX) {
        cf_fail(e, CF_ERR_USAGE, "%s: %llu is no multiple of 32, which %s %s needs", flags[w->ne[0]],
            (unsigned long long)x->ne[0], flag, mix);
        return NULL;
    }
    return cf_type_by_id(type);
}

static void name_weight(struct cf__synth_tensor *x, const struct weight *w, int layer) {
    const char *end = strchr(w->name, '.') && !strncmp(strrchr(w->name, '.'), ".bias", 5) ? "" : ".weight";
    if (layer >= 0)
        snprintf(x->name, sizeof x->name, "blk.%d.%s%s", layer, w->name, end);
    else
        snprintf(x->name, sizeof x->name, "%s%s", w->name, end);
}

static int add_weight(
    struct cf__synth_tensors *t, const struct cf__synth *s, const struct weight *w, int layer, struct cf_error *e) {
    int64_t sizes[N_SIZES];
    measure(s, sizes);
    struct cf__synth_tensor *x = &t->list[t->n++];
    *x = (struct cf__synth_tensor){.role = w->name, .ne = {1, 1, 1}};
    for (; x->n_dims < 3 && w->ne[x->n_dims] != NONE; x->n_dims++)
        x->ne[x->n_dims] = (uint64_t)sizes[w->ne[x->n_dims]];
    name_weight(x, w, layer);
    x->type = choose_type(s, w, x, layer, e);
    if (!x->type) return -1;
    x->mean = w->mean, x->spread = w->gain;
    if (w->kind != FACTORS) x->spread /= sqrtf((float)sizes[w->inputs ? w->inputs : w->ne[0]]);
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
static void llama3_factors(const struct cf__synth *s, int64_t n, float *factors) {
    const double low = 1, high = 4, context = (double)s->ctx / s->rope_factor;
    double wave = 6.283185307179586, step = ratio(s->rope_base, 2 * n);
    for (int64_t i = 0; i < n; i++, wave *= step) {
        double turns = context / wave;
        double smooth = (turns - low) / (high - low);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        factors[i] = (float)(1 / ((1 - smooth) / s->rope_factor + smooth));
    }
}

/* Divisors that grow with the wavelength from 1 to `most`. (Those of Phi-3 were found by search.) */
static void growing_factors(double most, int64_t n, float *factors) {
    for (int64_t i = 0; i < n; i++)
        factors[i] = (float)(1 + (most - 1) * (double)i / (double)n);
}

static void add_factors(struct cf__synth_tensors *t, const char *name, int64_t n, const float *factors) {
    struct cf__synth_tensor *x = &t->list[t->n++];
    *x = (struct cf__synth_tensor){.type = cf_type_by_id(CF_TYPE_F32), .n_dims = 1, .ne = {(uint64_t)n, 1, 1}};
    snprintf(x->name, sizeof x->name, "%s", name);
    x->given = factors;
}

static int add_rope(struct cf__synth_tensors *t, const struct cf__synth *s, struct cf_error *e) {
    const int64_t n = (s->rope_dim ? s->rope_dim : s->head_dim) / 2;
    t->rope = calloc(2 * (size_t)n, sizeof *t->rope);
    if (!t->rope) return cf_fail(e, CF_ERR_MEMORY, "no memory");
    if (!strcmp(s->rope_scaling, "llama3")) {
        llama3_factors(s, n, t->rope);
        add_factors(t, "rope_freqs.weight", n, t->rope);
        return 0;
    }
    growing_factors(s->rope_factor, n, t->rope);
    growing_factors(1.2, n, t->rope + n);
    add_factors(t, "rope_factors_long.weight", n, t->rope);
    add_factors(t, "rope_factors_short.weight", n, t->rope + n);
    return 0;
}

static int add_layer(
    struct cf__synth_tensors *t, const struct cf__synth *s, uint64_t set, int layer, struct cf_error *e) {
    for (size_t i = 0; i < CF__SYNTH_WEIGHTS; i++)
        if (set >> i & 1 && add_weight(t, s, &layer_weights[i], layer, e)) return -1;
    return 0;
}

static int add_all(struct cf__synth_tensors *t, const struct cf__synth *s, struct cf_error *e) {
    const struct cf__synth_arch *arch = cf__synth_arch(s->arch);
    bool factors = arch->rope_factors && !strcmp(s->rope_scaling, arch->rope_factors);
    if (add_weight(t, s, &embedding, -1, e)) return -1;
    if (factors && add_rope(t, s, e)) return -1;
    for (int layer = 0; layer < (int)(s->layers + s->nextn); layer++)
        if (add_layer(t, s, cf__synth_layer(arch, s, layer), layer, e)) return -1;
    if (add_weight(t, s, &final_norm, -1, e)) return -1;
    return s->untied ? add_weight(t, s, &head, -1, e) : 0;
}

int cf__synth_tensors_new(struct cf__synth_tensors **out, const struct cf__synth *s, struct cf_error *e) {
    struct cf__synth_tensors *t = calloc(1, sizeof *t);
    if (t) pthread_mutex_init(&t->lock, NULL);
    if (t) t->list = calloc((size_t)(s->layers + s->nextn) * CF__SYNTH_WEIGHTS + 6, sizeof *t->list);
    int status = t && t->list ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for the list of tensors");
    if (!status) {
        t->seed = (uint64_t)s->seed;
        status = add_all(t, s, e);
    }
    for (size_t i = 0; !status && i < t->n; i++) {
        struct cf__synth_tensor *x = &t->list[i];
        x->elements = x->ne[0] * x->ne[1] * x->ne[2];
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
