/* See shape.h. The numbers are those of the config.json that each model was published with. Layers that predict further
 * tokens (DeepSeek, GLM) are left out: nothing here runs them. */
#include "coordinator/commands/shared/shape.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* A model with experts: how many, how many for a token, shared ones, width of one, first layers without. */
struct moe {
    int64_t n, used, shared, ffn, dense, groups, groups_used;
    const char *gating; /* deepseek2 */
};

static const struct shape {
    const char *name, *arch;
    int64_t layers, dim, heads, kv_heads, head_dim, ffn, vocab, ctx; /* head_dim 0: dim / heads */
    bool untied;
    double rope_base;
    const char *rope_scaling; /* NULL: none */
    double rope_factor;
    struct moe moe;
    int64_t value_dim, rope_dim, q_rank, kv_rank; /* deepseek2; 0: none */
    int64_t window;
    bool qk_norm; /* glm4moe: some have it */
} shapes[] = {
    {"llama-15m", "llama", 6, 288, 6, 6, 0, 768, 32000, 2048, false, .rope_base = 10000},
    {"smollm2-135m", "llama", 30, 576, 9, 3, 0, 1536, 49152, 8192, false, .rope_base = 100000},
    {"tinyllama-1.1b", "llama", 22, 2048, 32, 4, 0, 5632, 32000, 2048, true, .rope_base = 10000},
    {"llama-1b", "llama", 16, 2048, 32, 8, 0, 8192, 128256, 131072, false, .rope_base = 500000,
        .rope_scaling = "llama3", .rope_factor = 32},
    {"smollm2-1.7b", "llama", 24, 2048, 32, 32, 0, 8192, 49152, 8192, false, .rope_base = 130000},
    {"llama-3b", "llama", 28, 3072, 24, 8, 0, 8192, 128256, 131072, false, .rope_base = 500000,
        .rope_scaling = "llama3", .rope_factor = 32},
    {"llama2-7b", "llama", 32, 4096, 32, 32, 0, 11008, 32000, 4096, true, .rope_base = 10000},
    {"mistral-7b", "llama", 32, 4096, 32, 8, 0, 14336, 32768, 32768, true, .rope_base = 1000000},
    {"qwen2.5-7b", "qwen2", 28, 3584, 28, 4, 0, 18944, 152064, 32768, true, .rope_base = 1000000},
    {"llama-8b", "llama", 32, 4096, 32, 8, 0, 14336, 128256, 131072, true, .rope_base = 500000,
        .rope_scaling = "llama3", .rope_factor = 8},
    {"qwen3-8b", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, 40960, true, .rope_base = 1000000},
    {"llama2-13b", "llama", 40, 5120, 40, 40, 0, 13824, 32000, 4096, true, .rope_base = 10000},
    {"phi-4-14b", "phi3", 40, 5120, 40, 10, 0, 17920, 100352, 16384, true, .rope_base = 250000, .rope_scaling = "none"},
    {"gpt-oss-20b", "gpt-oss", 24, 2880, 64, 8, 64, 2880, 201088, 131072, true, .rope_base = 150000,
        .rope_scaling = "yarn", .rope_factor = 32, .moe = {32, 4, -1, 2880, -1}, .window = 128},
    {"gemma3-27b", "gemma3", 62, 5376, 32, 16, 128, 21504, 262208, 131072, false, .rope_base = 1000000,
        .rope_scaling = "linear", .rope_factor = 8, .window = 1024},
    {"qwen3-30b-a3b", "qwen3moe", 48, 2048, 32, 4, 128, 6144, 151936, 40960, true, .rope_base = 1000000,
        .moe = {128, 8, -1, 768, -1}},
    {"qwen3-32b", "qwen3", 64, 5120, 64, 8, 128, 25600, 151936, 40960, true, .rope_base = 1000000},
    {"mixtral-8x7b", "llama", 32, 4096, 32, 8, 0, 14336, 32000, 32768, true, .rope_base = 1000000,
        .moe = {8, 2, -1, 0, -1}},
    {"llama-70b", "llama", 80, 8192, 64, 8, 0, 28672, 128256, 131072, true, .rope_base = 500000,
        .rope_scaling = "llama3", .rope_factor = 8},
    {"qwen2.5-72b", "qwen2", 80, 8192, 64, 8, 0, 29568, 152064, 32768, true, .rope_base = 1000000},
    {"glm-4.5-air-106b", "glm4moe", 46, 4096, 96, 8, 128, 10944, 151552, 131072, true, .rope_base = 1000000,
        .moe = {128, 8, 1, 1408, 1}},
    {"gpt-oss-120b", "gpt-oss", 36, 2880, 64, 8, 64, 2880, 201088, 131072, true, .rope_base = 150000,
        .rope_scaling = "yarn", .rope_factor = 32, .moe = {128, 4, -1, 2880, -1}, .window = 128},
    {"mistral-large-123b", "llama", 88, 12288, 96, 8, 0, 28672, 32768, 131072, true, .rope_base = 1000000},
    {"mixtral-8x22b", "llama", 56, 6144, 48, 8, 0, 16384, 32768, 65536, true, .rope_base = 1000000,
        .moe = {8, 2, -1, 0, -1}},
    {"qwen3-235b-a22b", "qwen3moe", 94, 4096, 64, 4, 128, 12288, 151936, 40960, true, .rope_base = 1000000,
        .moe = {128, 8, -1, 1536, -1}},
    {"glm-4.5-355b", "glm4moe", 92, 5120, 96, 8, 128, 12288, 151552, 131072, true, .rope_base = 1000000,
        .moe = {160, 8, 1, 1536, 3}, .qk_norm = true},
    {"llama-405b", "llama", 126, 16384, 128, 8, 0, 53248, 128256, 131072, true, .rope_base = 500000,
        .rope_scaling = "llama3", .rope_factor = 8},
    {"deepseek-v3-671b", "deepseek2", 61, 7168, 128, 0, 192, 18432, 129280, 163840, true, .rope_base = 10000,
        .rope_scaling = "yarn", .rope_factor = 40, .moe = {256, 8, 1, 2048, 3, 8, 4, "sigmoid"}, .value_dim = 128,
        .rope_dim = 64, .q_rank = 1536, .kv_rank = 512},
    {"kimi-k2-1t", "deepseek2", 61, 7168, 64, 0, 192, 18432, 163840, 131072, true, .rope_base = 50000,
        .rope_scaling = "yarn", .rope_factor = 32, .moe = {384, 8, 1, 2048, 1, 1, 0, "sigmoid"}, .value_dim = 128,
        .rope_dim = 64, .q_rank = 1536, .kv_rank = 512},
};

const char *cf__shape_name(size_t i) {
    return i < sizeof shapes / sizeof *shapes ? shapes[i].name : NULL;
}

static void take(struct cf__synth *s, const struct shape *k) {
    s->arch = k->arch, s->out = "", s->untied = k->untied;
    s->layers = k->layers, s->dim = k->dim, s->heads = k->heads, s->kv_heads = k->kv_heads, s->head_dim = k->head_dim;
    s->ffn = k->ffn, s->vocab = k->vocab, s->ctx = k->ctx;
    s->rope_base = k->rope_base, s->rope_scaling = k->rope_scaling;
    if (k->rope_factor > 1) s->rope_factor = k->rope_factor;
    s->value_dim = k->value_dim, s->rope_dim = k->rope_dim, s->kv_rank = k->kv_rank;
    if (k->kv_rank) s->q_rank = k->q_rank;
    s->window = k->window, s->qk_norm = k->qk_norm;
    if (!k->moe.n) return;
    s->experts = k->moe.n, s->experts_used = k->moe.used, s->expert_ffn = k->moe.ffn;
    s->shared_experts = k->moe.shared, s->dense_layers = k->moe.dense, s->gating = k->moe.gating;
    s->groups = k->moe.groups, s->groups_used = k->moe.groups_used;
}

int cf__shape_read(struct cf__synth *s, const char *text, char type[CF__SHAPE_TYPE], struct cf_error *e) {
    size_t n = strcspn(text, ":"), used = 0;
    char list[640] = "";
    for (size_t i = 0; cf__shape_name(i) && used < sizeof list; i++) {
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", shapes[i].name);
        if (strlen(shapes[i].name) != n || strncasecmp(shapes[i].name, text, n)) continue;
        cf__synth_defaults(s);
        snprintf(type, CF__SHAPE_TYPE, "%s", text[n] ? text + n + 1 : "q8_0");
        take(s, &shapes[i]);
        s->type = type;
        return 0;
    }
    return cf_fail(e, CF_ERR_USAGE, "--synthetic: \"%.40s\" is unknown (%s, and :TYPE)", text, list);
}

int cf__shape_open(struct cf_gguf **g, struct cf__synth_tensors **t, const char *text, struct cf_error *e) {
    struct cf__synth s;
    char type[CF__SHAPE_TYPE];
    *g = NULL, *t = NULL;
    return cf__shape_read(&s, text, type, e) || cf__synth_open(g, t, &s, e) ? -1 : 0;
}
