/* Domains: every word of every rule, their order, positions, exact GGUF names, and maps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "node/model/domain.h"

struct row {
    const char *name;
    int index, layers;
    enum cf_domain domain;
};

static void check(const struct row *rows, size_t n, enum cf_domain (*rule)(const char *, int, int)) {
    for (size_t i = 0; i < n; i++) {
        enum cf_domain got = rule(rows[i].name, rows[i].index, rows[i].layers);
        if (got != rows[i].domain)
            fail_msg("%s %d/%d: %s, expected %s", rows[i].name, rows[i].index, rows[i].layers, cf_domain_name(got),
                cf_domain_name(rows[i].domain));
    }
}
#define CHECK(rows, rule) check(rows, sizeof rows / sizeof *rows, rule)

static void test_names(void **state) {
    (void)state;
    assert_string_equal(cf_domain_name(CF_PREFRONTAL), "PREFRONTAL");
    assert_string_equal(cf_domain_name(CF_LEFT_HEMI), "LEFT_HEMI");
    assert_string_equal(cf_domain_name(CF_RIGHT_HEMI), "RIGHT_HEMI");
    assert_string_equal(cf_domain_name(CF_TEMPORAL), "TEMPORAL");
    assert_string_equal(cf_domain_name(CF_DOMAINS), "?");
}

static void test_gguf_names(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"token_embd.weight", -1, 0, CF_PREFRONTAL},
        {"output_norm.weight", -1, 0, CF_PREFRONTAL},
        {"output_norm.bias", -1, 0, CF_PREFRONTAL},
        {"output.weight", -1, 0, CF_PREFRONTAL},
        {"output", 0, 12, CF_PREFRONTAL},
        {"rope_freqs.weight", 0, 12, CF_PREFRONTAL},
        {"blk.0.attn_norm.weight", 0, 12, CF_LEFT_HEMI},
        {"blk.11.attn_q.weight", 11, 12, CF_LEFT_HEMI},
        {"blk.11.attn_kv_a_mqa.weight", 11, 12, CF_LEFT_HEMI},
        {"blk.7.attn_k_cache", 7, 12, CF_LEFT_HEMI}, /* exact names come before the words */
        {"blk.7.attn_output.weight", 11, 12, CF_LEFT_HEMI},
        {"blk.0.post_attention_norm.weight", 0, 12, CF_LEFT_HEMI},
        {"blk.0.ffn_norm.weight", 0, 12, CF_RIGHT_HEMI},
        {"blk.123.ffn_gate_inp.weight", 0, 12, CF_RIGHT_HEMI},
        {"blk.0.ffn_down_exps.weight", 0, 12, CF_RIGHT_HEMI},
        {"blk.0.post_ffw_norm.weight", 0, 12, CF_RIGHT_HEMI},
        {"blk.0.exp_probs_b.bias", 0, 12, CF_RIGHT_HEMI},
        /* nearly GGUF names go by the words, or by position */
        {"outputs", 11, 12, CF_PREFRONTAL},
        {"outputs", 0, 12, CF_LEFT_HEMI},
        {"output.extra.weight", 0, 12, CF_LEFT_HEMI},
        {"blk.x.ffn_up", 0, 12, CF_RIGHT_HEMI},
        {"blk.3.other", 5, 12, CF_RIGHT_HEMI},
        {"blk.3.other", -1, 12, CF_LEFT_HEMI},
        {"cache_k_l3", -1, 0, CF_TEMPORAL},
    };
    CHECK(rows, cf_domain_of);
    assert_int_equal(cf_domain_block("blk.17.attn_q.weight"), 17);
    assert_int_equal(cf_domain_block("blk.99999999999.x"), -1);
    assert_int_equal(cf_domain_block("blk.-1.x"), -1);
    assert_int_equal(cf_domain_block("output.weight"), -1);
}

static void test_words(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"a.past_key.b", -1, 0, CF_TEMPORAL},
        {"kv_cache", -1, 0, CF_TEMPORAL},
        {"CACHE", -1, 0, CF_TEMPORAL},
        {"layer.k_cache", -1, 0, CF_TEMPORAL},
        {"layer.v_cache", -1, 0, CF_TEMPORAL},
        {"x.q_proj.weight", -1, 0, CF_LEFT_HEMI},
        {"x.k_proj.weight", -1, 0, CF_LEFT_HEMI},
        {"x.v_proj.weight", -1, 0, CF_LEFT_HEMI},
        {"x.o_proj.weight", -1, 0, CF_LEFT_HEMI},
        {"h.0.attn.c", 11, 12, CF_LEFT_HEMI},
        {"Attention", 11, 12, CF_LEFT_HEMI},
        {"self_attn", 11, 12, CF_LEFT_HEMI},
        {"x.MLP.y", 0, 12, CF_RIGHT_HEMI},
        {"gate_proj", 0, 12, CF_RIGHT_HEMI},
        {"up_proj", 0, 12, CF_RIGHT_HEMI},
        {"down_proj", 0, 12, CF_RIGHT_HEMI},
        {"fc1", 0, 12, CF_RIGHT_HEMI},
        {"fc2", 0, 12, CF_RIGHT_HEMI},
        {"xffnx", 0, 12, CF_RIGHT_HEMI},
        {"feed_forward", 0, 12, CF_RIGHT_HEMI},
        {"embed_tokens", 0, 12, CF_PREFRONTAL},
        {"lm_head.weight", 0, 12, CF_PREFRONTAL},
        {"model.norm", 0, 12, CF_PREFRONTAL},
        {"layer_norm", 0, 12, CF_PREFRONTAL},
        {"ln_f", 0, 12, CF_PREFRONTAL},
        {"wte", 0, 12, CF_PREFRONTAL},
        {"WPE", 0, 12, CF_PREFRONTAL},
        {"", -1, 0, CF_LEFT_HEMI},
    };
    CHECK(rows, cf_domain_of);
    CHECK(rows, cf_domain_of_mlx);
}

static void test_order(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"self_attn.kv_cache", -1, 0, CF_TEMPORAL},                                             /* 1 before 2 */
        {"mlp.cache", -1, 0, CF_TEMPORAL},                                                      /* 1 before 3 */
        {"norm_cache", -1, 0, CF_TEMPORAL},                                                     /* 1 before 4 */
        {"mlp.attention", -1, 0, CF_LEFT_HEMI},                                                 /* 2 before 3 */
        {"attention_norm", -1, 0, CF_LEFT_HEMI},                                                /* 2 before 4 */
        {"mlp.norm", -1, 0, CF_RIGHT_HEMI},                                                     /* 3 before 4 */
        {"post_feed_forward_layernorm", 0, 12, CF_RIGHT_HEMI}, {"embed", 0, 12, CF_PREFRONTAL}, /* 4 before 5 */
    };
    CHECK(rows, cf_domain_of);
    CHECK(rows, cf_domain_of_mlx);
}

static void test_position(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"x", 0, 100, CF_LEFT_HEMI},
        {"x", 32, 100, CF_LEFT_HEMI},
        {"x", 33, 100, CF_RIGHT_HEMI}, /* 0.33 is not below 0.33 */
        {"x", 65, 100, CF_RIGHT_HEMI},
        {"x", 66, 100, CF_PREFRONTAL},
        {"x", 99, 100, CF_PREFRONTAL},
        {"x", 100, 100, CF_PREFRONTAL},
        {"x", 3, 12, CF_LEFT_HEMI},
        {"x", 4, 12, CF_RIGHT_HEMI}, /* 0.3333 */
        {"x", 7, 12, CF_RIGHT_HEMI},
        {"x", 8, 12, CF_PREFRONTAL}, /* 0.6667 */
        {"x", -1, 12, CF_LEFT_HEMI},
        {"x", 8, 0, CF_LEFT_HEMI},
    };
    CHECK(rows, cf_domain_of);
    CHECK(rows, cf_domain_of_mlx);
}

/* MLX Coffers knows no GGUF names: the words decide about those as well. */
static void test_mlx(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"token_embd.weight", 0, 12, CF_LEFT_HEMI}, /* "embd" is not "embed" */
        {"token_embd.weight", 11, 12, CF_PREFRONTAL},
        {"output.weight", -1, 0, CF_LEFT_HEMI},
        {"output_norm.weight", -1, 0, CF_PREFRONTAL},
        {"blk.0.attn_q.weight", 0, 12, CF_LEFT_HEMI},
        {"blk.7.attn_k_cache", 7, 12, CF_TEMPORAL},
        {"blk.0.ffn_norm.weight", 0, 12, CF_RIGHT_HEMI},
        {"blk.0.post_ffw_norm.weight", 0, 12, CF_PREFRONTAL},
    };
    CHECK(rows, cf_domain_of_mlx);
}

static void test_map(void **state) {
    (void)state;
    int node[CF_DOMAINS];
    struct cf_error e;
    assert_int_equal(cf_domain_map_parse("s824", node, &e), 0);
    assert_int_equal(node[CF_PREFRONTAL], 3);
    assert_int_equal(node[CF_LEFT_HEMI], 1);
    assert_int_equal(node[CF_RIGHT_HEMI], 0);
    assert_int_equal(node[CF_TEMPORAL], 2);
    assert_int_equal(cf_domain_map_parse("Left=4,RIGHT_HEMI=5,temporal=6,prefrontal=1023", node, &e), 0);
    assert_int_equal(node[CF_LEFT_HEMI], 4);
    assert_int_equal(node[CF_RIGHT_HEMI], 5);
    assert_int_equal(node[CF_TEMPORAL], 6);
    assert_int_equal(node[CF_PREFRONTAL], 1023);
    assert_int_equal(cf_domain_map_parse("left_hemi=0", node, &e), 0);
    assert_int_equal(node[CF_LEFT_HEMI], 0);
    assert_int_equal(node[CF_TEMPORAL], -1);
    static const char *const bad[] = {"", "left", "left=", "left=x", "left=-1", "left=1,", ",left=1", "left=1,left=2",
        "left=1,LEFT_HEMI=1", "middle=1", "left=1024", "left=99999999999", "left =1", "s824,left=1", "left=1 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e.code = CF_OK;
        if (!cf_domain_map_parse(bad[i], node, &e)) fail_msg("\"%s\" was accepted", bad[i]);
        assert_int_equal(e.code, CF_ERR_USAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_gguf_names),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_position),
        cmocka_unit_test(test_mlx),
        cmocka_unit_test(test_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
