/* A small llama model of any shape as an open GGUF file, for tests of plans and programs. No vocabulary, no MPI. */
#ifndef COFFER_TESTS_SMALL_MODEL_H
#define COFFER_TESTS_SMALL_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/commands/synth/synth.h"
#include "coordinator/plan/planner.h"

struct small_model {
    struct cf_gguf *gguf;
    struct cf_model model;
};

struct small_shape {
    int64_t layers, dim, heads, kv_heads, head_dim, ffn, vocab;
    bool untied;
    const char *type;
};

/* 0, or -1 with *e. The file is gone from its directory when this returns. */
static inline int small_model_open(struct small_model *s, const struct small_shape *shape, struct cf_error *e) {
    char path[] = "/tmp/coffer_small_XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) return cf_fail(e, CF_ERR_FILE, "mkstemp");
    close(fd);
    struct cf__synth y = {.arch = "llama",
        .out = path,
        .type = shape->type,
        .tokenizer = "llama",
        .rope_scaling = "none",
        .layers = shape->layers,
        .dim = shape->dim,
        .heads = shape->heads,
        .kv_heads = shape->kv_heads,
        .head_dim = shape->head_dim,
        .ffn = shape->ffn,
        .vocab = shape->vocab,
        .ctx = 4096,
        .seed = 1,
        .rope_base = 10000,
        .rope_factor = 8,
        .untied = shape->untied};
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {{"llama.context_length", 4096}, {"llama.embedding_length", y.dim}, {"llama.block_count", y.layers},
        {"llama.feed_forward_length", y.ffn}, {"llama.attention.head_count", y.heads},
        {"llama.attention.head_count_kv", y.kv_heads}, {"llama.attention.key_length", y.head_dim},
        {"llama.attention.value_length", y.head_dim}, {"llama.rope.dimension_count", y.head_dim}};
    struct cf_gguf_writer *w = NULL;
    struct cf__synth_tensors *t = NULL;
    memset(s, 0, sizeof *s);
    int rc = cf__synth_tensors_new(&t, &y, e);
    if (!rc) rc = cf_gguf_writer_open(&w, path, e);
    if (!rc) rc = cf_gguf_add_str(w, "general.architecture", "llama", e);
    for (size_t i = 0; !rc && i < sizeof numbers / sizeof *numbers; i++)
        rc = cf_gguf_add_u32(w, numbers[i].key, (uint32_t)numbers[i].value, e);
    if (!rc) rc = cf_gguf_add_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, e);
    if (!rc) rc = cf__synth_tensors_write(t, w, false, e);
    if (w && cf_gguf_writer_close(w, !rc, rc ? NULL : e)) rc = -1;
    cf__synth_tensors_free(t);
    if (!rc) rc = cf_gguf_open(&s->gguf, path, e);
    if (!rc) rc = cf_model_open(&s->model, s->gguf, e);
    unlink(path);
    return rc;
}

static inline void small_model_close(struct small_model *s) {
    cf_model_close(&s->model);
    cf_gguf_close(s->gguf);
}

/* Shapes with everything that divides badly: 3 heads, one KV head for all, heads of 48, 25 and 28 MLP units, one unit.
 */
static const struct small_shape small_shapes[] = {
    {4, 256, 8, 2, 32, 704, 700, false, "q8_0"},
    {3, 48, 3, 3, 16, 200, 300, false, "f32"},
    {5, 64, 2, 1, 32, 32, 300, true, "q4_0"},
    {2, 160, 6, 2, 48, 1792, 517, true, "q8_0"}, /* chunks of two heads straddle KV heads of three */
    {2, 80, 5, 1, 48, 1600, 333, false, "f32"},  /* the last chunk takes three heads */
    {20, 128, 24, 8, 64, 1536, 4096, false, "q8_0"},
};
enum { SMALL_SHAPES = sizeof small_shapes / sizeof *small_shapes };

/* n equal ranks on `hosts` hosts, one node each. */
static inline void small_ranks(struct cf_rank_info *ranks, uint32_t n, uint32_t hosts) {
    memset(ranks, 0, n * sizeof *ranks);
    for (uint32_t i = 0; i < n; i++) {
        ranks[i].host_index = (int)(i * hosts / n), ranks[i].node = (int)i, ranks[i].threads = 2;
        snprintf(ranks[i].host, sizeof ranks[i].host, "host%d", ranks[i].host_index);
    }
}

static inline struct cf_plan_wish small_wish(int layout) {
    return (struct cf_plan_wish){.layout = layout,
        .n_ctx = 512,
        .n_seqs = 2,
        .n_rows = 64,
        .n_want = 4,
        .map = {-1, -1, -1, -1},
        .zero_rank = -1};
}

#endif
