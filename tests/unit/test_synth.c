/* The weights of `coffer synth`: a model without a file (bench --synthetic) reads the same bytes as the file, wherever
 * a read begins and ends; large tensors of one role differ between layers. And of all architectures: what their layers
 * consist of, and which option they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/commands/synth/synth.h"
#include "node/kernels/type.h"

static struct cf_error error;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        error.text[0] = 0;                                                                                             \
        if ((call) != 0) fail_msg("%s: %s", #call, error.text);                                                        \
    } while (0)

static void shape(struct cf__synth *s, const char *type) {
    cf__synth_defaults(s);
    s->arch = "llama", s->out = "", s->type = type;
    s->layers = 2, s->dim = 256, s->heads = 4, s->kv_heads = 2, s->ffn = 4352,
    s->vocab = 5000; /* ffn: 1.1 M elements */
    s->rope_scaling = "llama3";
}

static void compare(const struct cf_gguf *file, const struct cf_gguf *filled, const struct cf_gguf_tensor *t) {
    static const size_t steps[] = {1, 17, 34, 1000, 65537, 1 << 20};
    const struct cf_gguf_tensor *u = cf_gguf_tensor(filled, t->name);
    char *a = malloc(t->bytes), *b = malloc(t->bytes);
    assert_non_null(u);
    assert_int_equal(t->bytes, u->bytes);
    assert_int_equal(t->type, u->type);
    OK(cf_gguf_read(file, t, 0, a, t->bytes, &error));
    OK(cf_gguf_read(filled, u, 0, b, t->bytes, &error));
    if (memcmp(a, b, t->bytes)) fail_msg("%s differs", t->name);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        memset(b, 0, t->bytes);
        uint64_t at = t->bytes * i / 7, end = at + 6 * steps[i] < t->bytes ? at + 6 * steps[i] : t->bytes;
        for (uint64_t k = at; k < end; k += steps[i])
            OK(cf_gguf_read(filled, u, k, b + k, (size_t)(end - k < steps[i] ? end - k : steps[i]), &error));
        if (memcmp(a + at, b + at, end - at)) fail_msg("%s differs in steps of %zu", t->name, steps[i]);
    }
    free(a);
    free(b);
}

static void same_as_the_file(void **state) {
    (void)state;
    static const char *const types[] = {"q8_0", "q4_k_m", "f16", "q4_0"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char path[] = "/tmp/coffer-synth-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        struct cf__synth s;
        struct cf__synth_tensors *tensors;
        struct cf_gguf *file, *filled;
        uint64_t bytes, of[2], hash[2];
        shape(&s, types[i]);
        s.out = path;
        OK(cf__synth_make(&s, &bytes, &error));
        OK(cf_gguf_open(&file, path, &error));
        unlink(path);
        shape(&s, types[i]);
        OK(cf__synth_open(&filled, &tensors, &s, &error));
        cf_gguf_identity(file, &of[0], &hash[0]);
        cf_gguf_identity(filled, &of[1], &hash[1]);
        assert_int_equal(of[0], of[1]);
        assert_int_equal(hash[0], hash[1]);
        assert_int_equal(cf_gguf_n_tensors(file), cf_gguf_n_tensors(filled));
        for (size_t k = 0; k < cf_gguf_n_tensors(file); k++)
            compare(file, filled, cf_gguf_tensor_at(file, k));
        cf_gguf_close(file);
        cf_gguf_close(filled);
        cf__synth_tensors_free(tensors);
    }
}

static void layers_differ(void **state) {
    (void)state;
    static const char *const roles[] = {"attn_q", "attn_v", "ffn_down", "attn_norm"}; /* small ones and a large one */
    struct cf__synth s;
    struct cf__synth_tensors *tensors;
    struct cf_gguf *g;
    shape(&s, "q8_0");
    OK(cf__synth_open(&g, &tensors, &s, &error));
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        char name[64], a[600], b[600];
        for (int l = 0; l < 2; l++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, roles[i]);
            OK(cf_gguf_read(g, cf_gguf_tensor(g, name), 100, l ? b : a, sizeof a, &error));
        }
        assert_memory_not_equal(a, b, sizeof a);
    }
    cf_gguf_close(g);
    cf__synth_tensors_free(tensors);
}

/* Small models of every architecture: shapes as llama.cpp has them, columns first. */
static void architectures(void **state) {
    (void)state;
    static const struct {
        const char *arch, *tensor;
        uint32_t n_dims, type;
        uint64_t ne[3];
        const char *not_there;
    } rows[] = {
        {"llama", "blk.1.ffn_down.weight", 2, CF_TYPE_Q8_0, {512, 128, 1}, "blk.1.attn_q.bias"},
        {"qwen2", "blk.0.attn_k.bias", 1, CF_TYPE_F32, {64, 1, 1}, "blk.0.attn_q_norm.weight"},
        {"qwen3", "blk.1.attn_q_norm.weight", 1, CF_TYPE_F32, {32, 1, 1}, "blk.1.ffn_gate_inp.weight"},
        {"qwen2moe", "blk.0.ffn_gate_inp_shexp.weight", 1, CF_TYPE_F32, {128, 1, 1}, "blk.0.ffn_gate.weight"},
        {"qwen3moe", "blk.0.ffn_gate_exps.weight", 3, CF_TYPE_Q8_0, {128, 64, 8}, "blk.0.ffn_up_shexp.weight"},
        {"gemma", "blk.0.ffn_gate.weight", 2, CF_TYPE_Q8_0, {128, 512, 1}, "blk.0.post_ffw_norm.weight"},
        {"gemma2", "blk.0.post_ffw_norm.weight", 1, CF_TYPE_F32, {128, 1, 1}, "output.weight"},
        {"gemma3", "blk.1.attn_k_norm.weight", 1, CF_TYPE_F32, {32, 1, 1}, "rope_freqs.weight"},
        {"phi3", "blk.0.attn_qkv.weight", 2, CF_TYPE_Q8_0, {128, 256, 1}, "blk.0.ffn_gate.weight"},
        {"phi3", "rope_factors_long.weight", 1, CF_TYPE_F32, {16, 1, 1}, "blk.0.attn_q.weight"},
        {"gpt-oss", "blk.0.ffn_down_exps.bias", 2, CF_TYPE_F32, {128, 8, 1}, "blk.0.ffn_norm.weight"},
        {"gpt-oss", "blk.0.ffn_gate_up_exps.bias", 2, CF_TYPE_F32, {128, 8, 1}, "blk.0.ffn_up_exps.bias"},
        {"qwen3moe", "blk.1.ffn_gate_up_exps.weight", 3, CF_TYPE_Q8_0, {128, 128, 8}, "blk.1.ffn_gate_exps.weight"},
        {"glm4moe", "blk.1.exp_probs_b.bias", 1, CF_TYPE_F32, {8, 1, 1}, "blk.0.exp_probs_b.bias"},
        {"deepseek2", "blk.1.attn_k_b.weight", 3, CF_TYPE_Q8_0, {64, 64, 4}, "blk.1.attn_kv_b.weight"},
        {"deepseek2", "blk.0.attn_kv_a_mqa.weight", 2, CF_TYPE_Q8_0, {128, 96, 1}, "blk.0.attn_q.weight"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cf__synth s;
        struct cf__synth_tensors *tensors;
        struct cf_gguf *g;
        cf__synth_defaults(&s);
        s.arch = rows[i].arch, s.out = "", s.layers = 2, s.dim = 128, s.heads = 4, s.kv_heads = 2, s.vocab = 320;
        s.fused_gate_up = strstr(rows[i].tensor, "ffn_gate_up_exps");
        uint64_t bytes;
        OK(cf__synth_measure(&s, &bytes, &error));
        OK(cf__synth_open(&g, &tensors, &s, &error)); /* what was completed stays as it is */
        const struct cf_gguf_tensor *t = cf_gguf_tensor(g, rows[i].tensor);
        if (!t || t->n_dims != rows[i].n_dims || t->type != rows[i].type ||
            memcmp(t->ne, rows[i].ne, sizeof rows[i].ne))
            fail_msg("%s: %s", rows[i].arch, rows[i].tensor);
        if (cf_gguf_tensor(g, rows[i].not_there)) fail_msg("%s has %s", rows[i].arch, rows[i].not_there);
        for (size_t k = 0; k < cf_gguf_n_tensors(g); k++)
            compare(g, g, cf_gguf_tensor_at(g, k));
        cf_gguf_close(g);
        cf__synth_tensors_free(tensors);
    }
}

static void refused(const char *arch, const char *word, int64_t experts, int64_t window, int64_t groups) {
    struct cf__synth s;
    uint64_t bytes;
    cf__synth_defaults(&s);
    s.fused_gate_up = !strcmp(word, "--fused-gate-up");
    s.arch = arch, s.out = "", s.experts = experts, s.window = window, s.groups = groups;
    assert_int_not_equal(cf__synth_measure(&s, &bytes, &error), 0);
    if (!strstr(error.text, word)) fail_msg("%s: \"%s\" does not name %s", arch, error.text, word);
}

static void refusals(void **state) {
    (void)state;
    refused("gpt2", "gemma3", -1, 0, 0);
    refused("qwen2", "--experts", 4, 0, 0);
    refused("llama", "--window", -1, 64, 0);
    refused("qwen3moe", "--expert-groups", -1, 0, 2);
    refused("deepseek2", "--expert-groups", -1, 0, 5);
    refused("gpt-oss", "--experts", 0, 0, 0);
    refused("llama", "--fused-gate-up", -1, 0, 0);
    refused("phi3", "--fused-gate-up", -1, 0, 0);
}

/* 230 GB: neither disk nor memory is asked for. */
static void large_model(void **state) {
    (void)state;
    struct cf__synth s;
    struct cf__synth_tensors *tensors;
    struct cf_gguf *g;
    unsigned char got[64];
    cf__synth_defaults(&s);
    s.arch = "llama", s.out = "", s.type = "q4_0", s.untied = true;
    s.layers = 126, s.dim = 16384, s.heads = 128, s.kv_heads = 8, s.ffn = 53248, s.vocab = 2000;
    OK(cf__synth_open(&g, &tensors, &s, &error));
    const struct cf_gguf_tensor *t = cf_gguf_tensor(g, "blk.125.ffn_up.weight");
    assert_true(cf__synth_tensors_bytes(tensors) > 200000000000u);
    OK(cf_gguf_read(g, t, t->bytes - sizeof got, got, sizeof got, &error));
    cf_gguf_close(g);
    cf__synth_tensors_free(tensors);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_the_file), cmocka_unit_test(layers_differ),
        cmocka_unit_test(large_model), cmocka_unit_test(architectures), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
