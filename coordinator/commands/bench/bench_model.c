/* The model of `coffer bench --synthetic`: the shape of a known model with the weights of `coffer synth`. Without -m it
 * has no file: every rank makes what it reads. */
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "coordinator/commands/bench/bench.h"
#include "coordinator/commands/synth/synth.h"

static const struct shape {
    const char *name;
    int64_t layers, dim, heads, kv_heads, ffn, vocab, ctx;
    bool untied;
    double rope_base, rope_factor; /* 1: no scaling */
} shapes[] = {
    {"llama-15m", 6, 288, 6, 6, 768, 32000, 2048, false, 10000, 1},
    {"smollm2-135m", 30, 576, 9, 3, 1536, 49152, 8192, false, 100000, 1},
    {"tinyllama-1.1b", 22, 2048, 32, 4, 5632, 32000, 2048, true, 10000, 1},
    {"llama-1b", 16, 2048, 32, 8, 8192, 128256, 131072, false, 500000, 32},
    {"smollm2-1.7b", 24, 2048, 32, 32, 8192, 49152, 8192, false, 130000, 1},
    {"llama-3b", 28, 3072, 24, 8, 8192, 128256, 131072, false, 500000, 32},
    {"llama2-7b", 32, 4096, 32, 32, 11008, 32000, 4096, true, 10000, 1},
    {"mistral-7b", 32, 4096, 32, 8, 14336, 32768, 32768, true, 1000000, 1},
    {"llama-8b", 32, 4096, 32, 8, 14336, 128256, 131072, true, 500000, 8},
    {"llama2-13b", 40, 5120, 40, 40, 13824, 32000, 4096, true, 10000, 1},
    {"llama-70b", 80, 8192, 64, 8, 28672, 128256, 131072, true, 500000, 8},
    {"mistral-large-123b", 88, 12288, 96, 8, 28672, 32768, 131072, true, 1000000, 1},
    {"llama-405b", 126, 16384, 128, 8, 53248, 128256, 131072, true, 500000, 8},
};

/* "llama-8b:q4_0" -> the command line of synth, all but the file. */
static int read_shape(struct cf__synth *s, const char *text, char type[24], struct cf_error *e) {
    size_t n = strcspn(text, ":");
    char list[320] = "";
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *k = &shapes[i];
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", k->name);
        if (strlen(k->name) != n || strncasecmp(k->name, text, n)) continue;
        cf__synth_defaults(s);
        snprintf(type, 24, "%s", text[n] ? text + n + 1 : "q8_0");
        s->arch = "llama", s->out = "", s->type = type, s->untied = k->untied;
        s->layers = k->layers, s->dim = k->dim, s->heads = k->heads, s->kv_heads = k->kv_heads, s->ffn = k->ffn;
        s->vocab = k->vocab, s->ctx = k->ctx, s->rope_base = k->rope_base, s->rope_factor = k->rope_factor;
        if (k->rope_factor > 1) s->rope_scaling = "llama3";
        return 0;
    }
    return cf_fail(e, CF_ERR_USAGE, "--synthetic: \"%.40s\" is unknown (%s, and :TYPE)", text, list);
}

int cf__bench_shape_check(struct cf__bench *b, struct cf_error *e) {
    struct cf__synth s;
    char type[24];
    uint64_t bytes;
    if (read_shape(&s, b->synthetic, type, e)) return -1;
    b->n_layers = (uint32_t)s.layers, b->n_embd = (uint32_t)s.dim;
    return cf__synth_measure(&s, &bytes, e);
}

int cf__bench_model(struct cf__bench *b, bool launched, struct cf_error *e) {
    struct cf__synth s;
    char type[24];
    uint64_t bytes = 0;
    if (!access(b->model, F_OK)) return 0;
    if (launched)
        return cf_fail(e, CF_ERR_USAGE,
            "%s is not there, and under a launcher --synthetic makes no file: leave -m out (the model then needs "
            "none), "
            "or make it with coffer synth where every host sees it",
            b->model);
    if (read_shape(&s, b->synthetic, type, e) || cf__synth_measure(&s, &bytes, e)) return -1;
    s.out = b->model;
    cf_terminal_note(b->terminal, "coffer: making %s, %.2f GB, as %s", b->synthetic, 1e-9 * (double)bytes, b->model);
    return cf__synth_make(&s, &bytes, e);
}

int cf__bench_open(struct cf_gguf **g, void *ctx, struct cf_error *e) {
    struct cf__bench *b = ctx;
    struct cf__synth s;
    char type[24];
    return read_shape(&s, b->synthetic, type, e) || cf__synth_open(g, &b->weights, &s, e) ? -1 : 0;
}
