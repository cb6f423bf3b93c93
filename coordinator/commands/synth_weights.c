/* Random weights for `coffer synth`: the same bytes for the same seed on every machine, and fast.
 *
 * An element is the sum of the four bytes of a hash of its number (nearly normal, integers only), scaled to the spread
 * that keeps activations near one through any number of layers and gives logits a spread of about 2.5. Of each tensor
 * at most 2^20 elements are made and encoded; larger tensors are random sequences of those blocks, so that a model is
 * written about as fast as the disk takes it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "coordinator/commands/synth.h"
#include "node/kernels/type.h"
#include "node/quant/encode.h"
#include "node/quant/mix.h"

enum { POOL = 1 << 20, PIECE = 1 << 20 };

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

struct tensor {
    char name[64];
    const struct cf_type *type;
    uint32_t n_dims;
    uint64_t ne[2], elements, bytes;
    float mean, spread;
    const float *given; /* values that are not random, or NULL */
};

struct cf__synth_tensors {
    uint64_t seed, bytes;
    size_t n;
    struct tensor *list;
    float *rope; /* [head_dim / 2] */
};

/* ---- which tensors ---- */

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
    struct tensor *x = &t->list[t->n++];
    *x = (struct tensor){.n_dims = w->n_dims, .ne = {sizes[w->columns], w->n_dims > 1 ? sizes[w->rows] : 1}};
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
    t->list[t->n++] = (struct tensor){.name = "rope_freqs.weight",
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
    if (t) t->list = calloc((size_t)s->layers * (sizeof layer_weights / sizeof *layer_weights) + 4, sizeof *t->list);
    int status = t && t->list ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for the list of tensors");
    if (!status) {
        t->seed = (uint64_t)s->seed;
        status = add_all(t, s, e);
    }
    for (size_t i = 0; !status && i < t->n; i++) {
        struct tensor *x = &t->list[i];
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
    free(t->list);
    free(t->rope);
    free(t);
}

uint64_t cf__synth_tensors_bytes(const struct cf__synth_tensors *t) {
    return t->bytes;
}

/* ---- their bytes ---- */

/* The finalizer of MurmurHash3 over a counter: no state, and the compiler makes vectors of it. */
static inline uint32_t hash_of(uint32_t key, uint32_t counter) {
    uint32_t x = counter * 0x9e3779b9u + key;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* out[n], n <= POOL. Four bytes of 0 to 255 sum to 510 +- 147.8. */
static void draw(const struct tensor *x, uint32_t key, float *out, uint32_t n) {
    const float scale = x->spread / 147.8f;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t h = hash_of(key, i);
        int32_t sum = (int32_t)((h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24)) - 510;
        out[i] = x->mean + scale * (float)sum;
    }
}

struct progress {
    uint64_t done, total;
    double shown; /* seconds */
    bool terminal;
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void show(struct progress *p, uint64_t n) {
    p->done += n;
    double now = seconds();
    if (!p->terminal || now - p->shown < 0.5) return;
    p->shown = now;
    fprintf(stderr, "\r%3.0f %% of %.1f GB", 100.0 * (double)p->done / (double)p->total, 1e-9 * (double)p->total);
}

struct scratch {
    float values[POOL];
    unsigned char encoded[POOL * sizeof(float)];
    unsigned char piece[PIECE];
};

/* A large tensor: units of `unit` elements, each a copy of one of the POOL / unit that are encoded. */
static int write_picks(const struct tensor *x, uint32_t key, struct scratch *b, struct cf_gguf_writer *w,
    struct progress *p, struct cf_error *e) {
    const uint32_t unit = x->type->block > 32 ? x->type->block : 32, mask = POOL / unit - 1;
    const size_t unit_bytes = unit / x->type->block * x->type->block_bytes, units = PIECE / unit_bytes;
    uint64_t left = x->bytes, u = 0;
    while (left) {
        for (size_t i = 0; i < units; i++, u++) {
            uint32_t pick = hash_of(key ^ (uint32_t)(u >> 32), (uint32_t)u) & mask;
            memcpy(b->piece + i * unit_bytes, b->encoded + pick * unit_bytes, unit_bytes);
        }
        size_t n = units * unit_bytes < left ? units * unit_bytes : (size_t)left;
        if (cf_gguf_write_data(w, b->piece, n, e)) return -1;
        show(p, n);
        left -= n;
    }
    return 0;
}

static int write_tensor(const struct tensor *x, uint64_t seed, struct scratch *b, struct cf_gguf_writer *w,
    struct progress *p, struct cf_error *e) {
    uint64_t key = XXH64(x->name, strlen(x->name), seed);
    uint32_t n = x->elements < POOL ? (uint32_t)x->elements : POOL;
    if (x->given)
        memcpy(b->values, x->given, n * sizeof(float));
    else
        draw(x, (uint32_t)key, b->values, n);
    if (cf_encode(x->type->id, b->values, b->encoded, n))
        return cf_fail(e, CF_ERR_UNSUPPORTED, "tensor %s: type %s cannot be written", x->name, x->type->name);
    if (x->elements > POOL) return write_picks(x, (uint32_t)(key >> 32), b, w, p, e);
    show(p, x->bytes);
    return cf_gguf_write_data(w, b->encoded, x->bytes, e);
}

int cf__synth_tensors_write(const struct cf__synth_tensors *t, struct cf_gguf_writer *w, struct cf_error *e) {
    struct progress p = {.total = t->bytes, .shown = seconds(), .terminal = isatty(STDERR_FILENO)};
    for (size_t i = 0; i < t->n; i++) {
        const struct tensor *x = &t->list[i];
        if (cf_gguf_add_tensor(w, x->name, x->type->id, x->n_dims, x->ne, e)) return -1;
    }
    if (cf_gguf_begin_data(w, e)) return -1;
    struct scratch *b = malloc(sizeof *b);
    if (!b) return cf_fail(e, CF_ERR_MEMORY, "no memory");
    int status = 0;
    for (size_t i = 0; i < t->n && !status; i++)
        status = write_tensor(&t->list[i], t->seed, b, w, &p, e);
    free(b);
    if (p.terminal) fprintf(stderr, "\r\033[K");
    return status;
}
