/* See sizes.h. */
#include "coordinator/commands/look/sizes.h"

#include <inttypes.h>
#include <string.h>

#include "node/model/model.h"

enum { DEFAULT_MAX_CTX = 4096, F16_BYTES = 2 };

const struct cf_option cf__kv_row_options[] = {
    {"ctx-size", 'c', CF_OPT_INT, 0, "N",
        "Positions that the KV cache's row counts; default the model's, capped at 4096.", 1, 1 << 30, NULL},
    {0},
};

static int read_u32(const struct cf_gguf *g, const char *arch, const char *name, uint32_t *v, struct cf_error *e) {
    char key[160];
    snprintf(key, sizeof key, "%.100s.%s", arch, name);
    return cf_gguf_u32(g, key, false, v, e);
}

/* The sum over all layers; the key is a number, or an array with one for each layer. */
static int sum_kv_heads(
    const struct cf_gguf *g, const char *arch, uint32_t n_layers, uint32_t n_head, uint64_t *sum, struct cf_error *e) {
    char key[160];
    snprintf(key, sizeof key, "%.100s.attention.head_count_kv", arch);
    const struct cf_gguf_value *v = cf_gguf_value(g, key);
    *sum = 0;
    if (v && v->kind == CF_GGUF_ARRAY && (v->element == CF_GGUF_I32 || v->element == CF_GGUF_U32)) {
        for (size_t i = 0; i < v->count && i < n_layers; i++)
            *sum += ((const uint32_t *)v->array)[i];
        return 0;
    }
    uint32_t heads = n_head;
    if (cf_gguf_u32(g, key, false, &heads, e)) return -1;
    *sum = (uint64_t)heads * n_layers;
    return 0;
}

static int read_kv(struct cf_sizes *s, const struct cf_gguf *g, uint32_t n_ctx, struct cf_error *e) {
    uint32_t layers = 0, embd = 0, head = 0, trained = 0;
    if (read_u32(g, s->arch, "block_count", &layers, e) || read_u32(g, s->arch, "embedding_length", &embd, e) ||
        read_u32(g, s->arch, "attention.head_count", &head, e) || read_u32(g, s->arch, "context_length", &trained, e))
        return -1;
    s->n_layers = layers < 100000 ? (int)layers : 0;
    uint32_t d_k = head ? embd / head : 0, d_v = d_k;
    uint64_t heads = 0;
    if (read_u32(g, s->arch, "attention.key_length", &d_k, e) ||
        read_u32(g, s->arch, "attention.value_length", &d_v, e) || sum_kv_heads(g, s->arch, layers, head, &heads, e))
        return -1;
    if (!n_ctx) n_ctx = trained < DEFAULT_MAX_CTX ? trained : DEFAULT_MAX_CTX;
    struct cf_model m;
    if (!cf_model_open(&m, g, &(struct cf_error){0})) { /* one that runs here: as the cache will be */
        d_k = m.d_k, d_v = m.d_v_apart, heads = (uint64_t)m.n_layers * m.n_head_kv;
        cf_model_close(&m);
    }
    uint64_t bytes, row = ((uint64_t)d_k + d_v) * F16_BYTES;
    if (__builtin_mul_overflow(heads, row, &bytes) || __builtin_mul_overflow(bytes, n_ctx, &bytes) || !bytes) return 0;
    s->n_ctx = n_ctx;
    s->kv_bytes = bytes;
    return 0;
}

int cf_sizes_of(struct cf_sizes *s, const struct cf_gguf *g, cf_domain_rule *rule, uint32_t n_ctx, struct cf_error *e) {
    *s = (struct cf_sizes){.arch = ""};
    if (cf_gguf_str(g, "general.architecture", false, &s->arch, e) || read_kv(s, g, n_ctx, e)) return -1;
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(g, i);
        enum cf_domain domain = rule(t->name, cf_domain_block(t->name), s->n_layers);
        s->tensors[domain]++;
        s->bytes[domain] += t->bytes;
        s->all_tensors++;
        s->all_bytes += t->bytes;
    }
    return 0;
}

void cf_print_size(FILE *to, uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024) {
        fprintf(to, "%8" PRIu64 " B", bytes);
        return;
    }
    double v = (double)bytes / 1024;
    size_t unit = 0;
    for (; v >= 1000 && unit + 1 < sizeof units / sizeof *units; unit++)
        v /= 1024;
    fprintf(to, "%6.2f %s", v, units[unit]);
}

void cf_shape_text(const struct cf_gguf_tensor *t, char *buf, size_t size) {
    size_t used = 0;
    if (size) *buf = '\0';
    for (uint32_t i = 0; i < t->n_dims && i < 4 && used < size; i++) {
        int n = snprintf(buf + used, size - used, "%s%" PRIu64, i ? " x " : "", t->ne[i]);
        if (n > 0) used += (size_t)n;
    }
}

const char *cf_type_text(uint32_t type, char buf[24]) {
    const char *name = cf_type_name(type);
    if (name) return name;
    snprintf(buf, 24, "type %" PRIu32, type);
    return buf;
}
