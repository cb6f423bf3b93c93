/* coffer synth: a random model of any shape, from a seed, as a GGUF file that llama.cpp loads too. No test and no
 * benchmark needs a download. This file has the command line and writes the file; see synth.h. */
#include "coordinator/commands/synth/synth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "coordinator/commands/commands.h"
#include "node/quant/mix.h"

#define FIELD(f) offsetof(struct cf__synth, f)

static const struct cf_option options[] = {
    {"arch", 0, CF_OPT_STRING, FIELD(arch), "NAME",
        "architecture: llama qwen2 qwen3 qwen2moe qwen3moe gemma gemma2 gemma3 phi3 gpt-oss glm4moe deepseek2 "
        "(required)",
        0, 0, NULL},
    {"output", 'o', CF_OPT_STRING, FIELD(out), "FILE", "the file to write (required)", 0, 0, NULL},
    {"layers", 0, CF_OPT_INT, FIELD(layers), "N", "number of layers (4)", 1, 4096, NULL},
    {"dim", 0, CF_OPT_INT, FIELD(dim), "N", "width of the hidden state (512)", 2, 262144, NULL},
    {"heads", 0, CF_OPT_INT, FIELD(heads), "N", "number of query heads (width / head size)", 1, 4096, NULL},
    {"kv-heads", 0, CF_OPT_INT, FIELD(kv_heads), "N", "number of key and value heads (heads / 4)", 1, 4096, NULL},
    {"head-dim", 0, CF_OPT_INT, FIELD(head_dim), "N", "size of a head (64; with --heads, width / heads)", 2, 4096,
        NULL},
    {"value-dim", 0, CF_OPT_INT, FIELD(value_dim), "N", "size of a value (64; deepseek2 only)", 1, 4096, NULL},
    {"rope-dim", 0, CF_OPT_INT, FIELD(rope_dim), "N",
        "how much of a head rope turns (all of it; glm4moe: half, deepseek2: a third; also phi3)", 2, 4096, NULL},
    {"window", 0, CF_OPT_INT, FIELD(window), "N", "sliding window (gemma2: 4096, gemma3: 1024, gpt-oss: 128)", 1,
        1 << 30, NULL},
    {"window-pattern", 0, CF_OPT_INT, FIELD(window_pattern), "N",
        "every N-th layer sees all positions (as the architecture has it: 2, gemma3: 6)", 1, 4096, NULL},
    {"q-rank", 0, CF_OPT_INT, FIELD(q_rank), "N", "rank of the queries of deepseek2, 0: plain (96)", 0, 65536, NULL},
    {"kv-rank", 0, CF_OPT_INT, FIELD(kv_rank), "N", "rank of the keys and values of deepseek2 (64)", 1, 65536, NULL},
    {"fused-kv-b", 0, CF_OPT_FLAG, FIELD(fused_kv_b), NULL, "deepseek2 as in older files: attn_kv_b in one", 0, 0,
        NULL},
    {"qk-norm", 0, CF_OPT_FLAG, FIELD(qk_norm), NULL, "give glm4moe norms of queries and keys", 0, 0, NULL},
    {"ffn", 0, CF_OPT_INT, FIELD(ffn), "N", "width of the MLP (4 x width)", 1, 4194304, NULL},
    {"experts", 0, CF_OPT_INT, FIELD(experts), "N", "number of experts (llama: 0, deepseek2: 16, else 8)", 0, 4096,
        NULL},
    {"experts-used", 0, CF_OPT_INT, FIELD(experts_used), "N", "experts per token (llama: 2, deepseek2: 4, else 3)", 1,
        4096, NULL},
    {"expert-ffn", 0, CF_OPT_INT, FIELD(expert_ffn), "N", "width of an expert (an eighth of --ffn; llama: --ffn)", 1,
        4194304, NULL},
    {"fused-gate-up", 0, CF_OPT_FLAG, FIELD(fused_gate_up), NULL,
        "gate and up of the experts in one tensor, ffn_gate_up_exps, as newer files may have them", 0, 0, NULL},
    {"shared-experts", 0, CF_OPT_INT, FIELD(shared_experts), "N",
        "experts that every token takes, in one (1; qwen2moe: 2)", 0, 64, NULL},
    {"expert-groups", 0, CF_OPT_INT, FIELD(groups), "N", "groups of experts, 1: none (deepseek2: 4)", 1, 4096, NULL},
    {"expert-groups-used", 0, CF_OPT_INT, FIELD(groups_used), "N", "groups per token (deepseek2: 2)", 1, 4096, NULL},
    {"dense-layers", 0, CF_OPT_INT, FIELD(dense_layers), "N", "first layers without experts (glm4moe, deepseek2: 1)", 0,
        4096, NULL},
    {"gating", 0, CF_OPT_STRING, FIELD(gating), "KIND",
        "how deepseek2 weighs experts: sigmoid (V3, with a bias) or softmax (V2) (sigmoid)", 0, 0, NULL},
    {"nextn", 0, CF_OPT_INT, FIELD(nextn), "N",
        "layers behind the last that predict more tokens (0; glm4moe, deepseek2)", 0, 8, NULL},
    {"vocab", 0, CF_OPT_INT, FIELD(vocab), "N", "number of tokens (32000)", 300, 1000000, NULL},
    {"ctx", 0, CF_OPT_INT, FIELD(ctx), "N", "context length (4096)", 1, 1 << 30, NULL},
    {"type", 0, CF_OPT_STRING, FIELD(type), "TYPE",
        "type of the matrices: f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4 "
        "iq3_s iq3_xxs "
        "iq2_s iq2_xs iq2_xxs, or a mix: q2_k_s q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_s q5_k_m iq3_xs iq3_m iq2_m "
        "(q8_0)",
        0, 0, NULL},
    {"head-type", 0, CF_OPT_STRING, FIELD(head_type), "TYPE", "type of the output head (as --type says)", 0, 0, NULL},
    {"expert-type", 0, CF_OPT_STRING, FIELD(expert_type), "TYPE", "type of the experts' matrices (as --type says)", 0,
        0, NULL},
    {"untied", 0, CF_OPT_FLAG, FIELD(untied), NULL, "give the output head a matrix of its own", 0, 0, NULL},
    {"tokenizer", 0, CF_OPT_STRING, FIELD(tokenizer), "KIND", "llama (SentencePiece) or gpt2 (byte-level BPE) (llama)",
        0, 0, NULL},
    {"rope-base", 0, CF_OPT_REAL, FIELD(rope_base), "X", "base of the RoPE frequencies (10000, or the family's)", 2,
        1e9, NULL},
    {"rope-scaling", 0, CF_OPT_STRING, FIELD(rope_scaling), "KIND",
        "none, linear, yarn, llama3 (llama) or longrope (phi3) (none; gpt-oss, deepseek2: yarn; phi3: longrope)", 0, 0,
        NULL},
    {"rope-factor", 0, CF_OPT_REAL, FIELD(rope_factor), "X", "how far the scaling stretches the context (8)", 1, 1e4,
        NULL},
    {"seed", 0, CF_OPT_INT, FIELD(seed), "N", "the same seed and shape give the same file on every machine (1)", 0, 0,
        NULL},
    {0},
};

void cf__synth_defaults(void *config) {
    *(struct cf__synth *)config = (struct cf__synth){.layers = 4,
        .dim = 512,
        .vocab = 32000,
        .ctx = 4096,
        .seed = 1,
        .type = "q8_0",
        .tokenizer = "llama",
        .experts = CF__SYNTH_UNSET,
        .shared_experts = CF__SYNTH_UNSET,
        .dense_layers = CF__SYNTH_UNSET,
        .q_rank = CF__SYNTH_UNSET,
        .rope_factor = 8};
}

/* general.file_type, as llama.cpp counts whole files. Here q4_k is that type and no mix. */
static uint32_t file_type(const char *type) {
    static const char *const pure[][2] = {{"q3_k", "q3_k_s"}, {"q4_k", "q4_k_s"}, {"q5_k", "q5_k_s"}};
    for (size_t i = 0; i < sizeof pure / sizeof *pure; i++)
        if (!strcasecmp(type, pure[i][0])) type = pure[i][1];
    const struct cf_mix *mix = cf_mix_find(type);
    return mix ? mix->file_type : 1024; /* llama.cpp's word for a guess */
}

static int write_model(
    struct cf_gguf_writer *w, const struct cf__synth *s, struct cf__synth_tensors *t, bool hole, struct cf_error *e) {
    char name[160];
    /* Without the architecture: llama.cpp takes files that are named phi-3 for those of Microsoft, vocabulary included.
     */
    snprintf(name, sizeof name, "coffer synth, %lld layers of %lld, seed %lld", (long long)s->layers, (long long)s->dim,
        (long long)s->seed);
    return cf_gguf_add_str(w, "general.architecture", s->arch, e) || cf_gguf_add_str(w, "general.name", name, e) ||
                   cf_gguf_add_u32(w, "general.file_type", file_type(s->type), e) ||
                   cf_gguf_add_u32(w, "general.quantization_version", 2, e) || cf__synth_keys(w, s, e) ||
                   cf__synth_vocab(w, s->tokenizer, (uint32_t)s->vocab, e) || cf__synth_tensors_write(t, w, hole, e)
               ? -1
               : 0;
}

static int write_file(const struct cf__synth *s, struct cf__synth_tensors *t, struct cf_error *e) {
    struct cf_gguf_writer *w;
    if (cf_gguf_writer_open(&w, s->out, e)) return -1;
    int status = write_model(w, s, t, false, e);
    return cf_gguf_writer_close(w, status == 0, status ? NULL : e) || status ? -1 : 0;
}

/* The header of the model in a file of memory, opened. */
static int open_header(struct cf_gguf **g, const struct cf__synth *s, struct cf__synth_tensors *t, struct cf_error *e) {
    struct cf_gguf_writer *w;
    char path[64];
    int fd = memfd_create("coffer-synth", MFD_CLOEXEC);
    if (fd < 0) return cf_fail(e, CF_ERR_SYSTEM, "no file in memory: %s", strerror(errno));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int status = cf_gguf_writer_open_fd(&w, fd, "synthetic model", e);
    if (!status) {
        status = write_model(w, s, t, true, e);
        if (cf_gguf_writer_close(w, !status, status ? NULL : e)) status = -1;
    }
    if (!status) status = cf_gguf_open(g, path, e);
    close(fd);
    return status;
}

static int fill(
    void *ctx, const struct cf_gguf_tensor *tensor, uint64_t offset, void *buf, size_t n, struct cf_error *e) {
    struct cf__synth_tensors *t = ctx;
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->list[i].name, tensor->name)) return cf__synth_bytes(t, &t->list[i], offset, buf, n, e);
    return cf_fail(e, CF_ERR_FORMAT, "no tensor %s", tensor->name);
}

int cf__synth_open(struct cf_gguf **g, struct cf__synth_tensors **t, struct cf__synth *s, struct cf_error *e) {
    *g = NULL, *t = NULL;
    if (cf__synth_complete(s, e) || cf__synth_tensors_new(t, s, e)) return -1;
    if (!open_header(g, s, *t, e)) {
        cf_gguf_fill(*g, fill, *t);
        return 0;
    }
    cf__synth_tensors_free(*t);
    *t = NULL;
    return -1;
}

int cf__synth_measure(struct cf__synth *s, uint64_t *bytes, struct cf_error *e) {
    struct cf__synth_tensors *t = NULL;
    if (cf__synth_complete(s, e) || cf__synth_tensors_new(&t, s, e)) return -1;
    *bytes = cf__synth_tensors_bytes(t);
    cf__synth_tensors_free(t);
    return 0;
}

int cf__synth_make(struct cf__synth *s, uint64_t *bytes, struct cf_error *e) {
    struct cf__synth_tensors *t = NULL;
    if (cf__synth_complete(s, e) || cf__synth_tensors_new(&t, s, e)) return -1;
    *bytes = cf__synth_tensors_bytes(t);
    int status = write_file(s, t, e);
    cf__synth_tensors_free(t);
    return status;
}

static int run(void *config, int argc, char **argv) {
    struct cf__synth *s = config;
    struct cf_error e = {0};
    uint64_t bytes = 0;
    int status = argc > 0 ? cf_fail(&e, CF_ERR_USAGE, "\"%s\" is not expected", argv[0]) : 0;
    if (!status) status = cf__synth_make(s, &bytes, &e);
    if (status)
        fprintf(stderr, "coffer synth: %s\n", e.text);
    else
        fprintf(stderr, "%s: %.1f MB of random weights, seed %lld\n", s->out, 1e-6 * (double)bytes, (long long)s->seed);
    return status ? cf_exit_status(&e) : 0;
}

const struct cf_command cf_command_synth = {
    .name = "synth",
    .synopsis = "--arch NAME -o FILE [options]",
    .summary = "write a random model of any shape",
    .text =
        "Writes a GGUF file with random weights and a usable vocabulary. The weights are scaled so that activations "
        "stay "
        "near one and logits have a spread of about 2.5; the text that such a model generates means nothing. The same "
        "options and seed give the same file on every machine.\n\n"
        "Layers have what the family's real ones have: biases, norms, experts, windows. The head is tied to the "
        "embedding "
        "unless --untied is given.\n\n"
        "Matrices whose rows are no whole number of a type's blocks of 256 are written as q8_0 instead.",
    .example = "coffer synth --arch llama -o tiny.gguf\n"
               "coffer synth --arch llama --layers 16 --dim 2048 --heads 32 --kv-heads 8 --ffn 8192 --vocab 128256 "
               "--type q8_0 --seed 1 -o model.gguf\n"
               "coffer synth --arch qwen3moe --experts 64 --experts-used 8 --expert-ffn 768 --type q4_k_m -o moe.gguf",
    .options = options,
    .config_size = sizeof(struct cf__synth),
    .defaults = cf__synth_defaults,
    .run = run,
};
