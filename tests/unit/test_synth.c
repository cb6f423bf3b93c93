/* The weights of `coffer synth`: a model without a file (bench --synthetic) reads the same bytes as the file, wherever
 * a read begins and ends; large tensors of one role differ between layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/commands/synth.h"

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_the_file), cmocka_unit_test(layers_differ), cmocka_unit_test(large_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
