/* The encoders against the decoders: how far decode(encode(x)) may be from x, what must come back exactly, odd inputs,
 * and the rules of the mixes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "node/kernels/type.h"
#include "node/quant/encode.h"
#include "node/quant/mix.h"
#include "tests/random.h"

enum { N = 64 * 256 };

/* Nearly normal, spread 1: twelve uniform numbers less six. */
static float normal(uint64_t *state) {
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (float)(cf_random(state) >> 40) * 0x1p-24f;
    return sum;
}

static void encode_decode(uint32_t type, const float *x, float *back, size_t n) {
    const struct cf_type *t = cf_type_by_id(type);
    size_t bytes = n / t->block * t->block_bytes;
    unsigned char *file = malloc(bytes + 1);
    file[bytes] = 0xa5;
    assert_int_equal(cf_encode(type, x, file, n), 0);
    assert_int_equal(file[bytes], 0xa5);
    t->decode(file, back, n);
    free(file);
}

/* Root of the mean squared error relative to that of x. */
static double error_of(uint32_t type, const float *x, size_t n) {
    float *back = malloc(n * sizeof *back);
    double e = 0, s = 0;
    encode_decode(type, x, back, n);
    for (size_t i = 0; i < n; i++) {
        e += ((double)x[i] - (double)back[i]) * ((double)x[i] - (double)back[i]);
        s += (double)x[i] * (double)x[i];
    }
    free(back);
    return sqrt(e / s);
}

static const struct {
    uint32_t type;
    double most;
} bounds[] = {
    {CF_TYPE_F32, 0},
    {CF_TYPE_F16, 3e-4},
    {CF_TYPE_BF16, 2e-3},
    {CF_TYPE_Q8_0, 0.006},
    {CF_TYPE_Q6_K, 0.020},
    {CF_TYPE_Q5_K, 0.040},
    {CF_TYPE_Q4_K, 0.080},
    {CF_TYPE_Q4_0, 0.090},
    {CF_TYPE_Q4_1, 0.080},
    {CF_TYPE_Q5_0, 0.045},
    {CF_TYPE_Q5_1, 0.040},
    {CF_TYPE_Q2_K, 0.280},
    {CF_TYPE_Q3_K, 0.150},
    {CF_TYPE_IQ4_NL, 0.080},
    {CF_TYPE_IQ4_XS, 0.080},
    {CF_TYPE_MXFP4, 0.115},
    {CF_TYPE_IQ3_S, 0.145},
    {CF_TYPE_IQ3_XXS, 0.195},
    {CF_TYPE_IQ2_S, 0.27},
    {CF_TYPE_IQ2_XS, 0.315},
    {CF_TYPE_IQ2_XXS, 0.365},
};

static void error_bounds(void **state) {
    (void)state;
    static float x[N];
    static const float scales[] = {1, 0.02f, 300};
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        uint64_t seed = 7;
        for (size_t i = 0; i < N; i++)
            x[i] = scales[s] * normal(&seed);
        for (size_t k = 0; k < sizeof bounds / sizeof *bounds; k++) {
            double e = error_of(bounds[k].type, x, N);
            print_message("%-7s spread %-6g error %.5f\n", cf_type_name(bounds[k].type), (double)scales[s], e);
            assert_true(e <= bounds[k].most);
        }
    }
}

/* Shifted data is what the minimum of Q4_K and Q5_K is for. */
static void shifted(void **state) {
    (void)state;
    static float x[N];
    uint64_t seed = 9;
    for (size_t i = 0; i < N; i++)
        x[i] = normal(&seed) - 4;
    double with_min = error_of(CF_TYPE_Q4_K, x, N), without = error_of(CF_TYPE_Q4_0, x, N);
    assert_true(with_min < 0.02 && with_min < without);
}

/* Values that a type can hold come back as they were. */
static void exact_values(void **state) {
    (void)state;
    float x[256], back[256];
    for (int i = 0; i < 256; i++)
        x[i] = 0.25f * (float)(i % 32 == 0 ? -127 : (i * 37) % 255 - 127);
    encode_decode(CF_TYPE_Q8_0, x, back, 256);
    assert_memory_equal(x, back, sizeof x);
    for (int i = 0; i < 256; i++)
        x[i] = 0.5f * (float)((i * 5) % 16 - 8);
    encode_decode(CF_TYPE_Q4_0, x, back, 256);
    assert_memory_equal(x, back, sizeof x);
    for (int i = 0; i < 256; i++)
        x[i] = 1.0f / 64 * (float)((i * 11 + 3) % 64 - 32);
    for (int i = 0; i < 256; i += 16)
        x[i] = -0.5f; /* each sub-block reaches its end, so that its scale is known */
    encode_decode(CF_TYPE_Q6_K, x, back, 256);
    for (int i = 0; i < 256; i++)
        assert_true(fabsf(x[i] - back[i]) < 2e-4f);
}

static void odd_inputs(void **state) {
    (void)state;
    float x[256], back[256];
    static const float odd[] = {0, 1e-38f, -1e-30f, 3e38f, -3e38f, INFINITY, NAN, 65504.0f * 128};
    for (size_t k = 0; k < sizeof bounds / sizeof *bounds; k++) {
        for (size_t o = 0; o < sizeof odd / sizeof *odd; o++) {
            for (int i = 0; i < 256; i++)
                x[i] = i % 7 == 3 ? odd[o] : 0;
            encode_decode(bounds[k].type, x, back, 256);
            bool quantised = cf_type_by_id(bounds[k].type)->quantised;
            for (int i = 0; i < 256; i++)
                assert_true(!quantised || isfinite(back[i]));
            assert_true(o != 0 || (back[0] == 0 && back[3] == 0));
        }
        for (int i = 0; i < 256; i++)
            x[i] = 2.5f;
        encode_decode(bounds[k].type, x, back, 256);
        for (int i = 0; i < 256; i++)
            assert_true(bounds[k].most > 0.09 || fabsf(back[i] - 2.5f) < 0.02f);
    }
}

static void refusals(void **state) {
    (void)state;
    float x[256] = {0};
    unsigned char file[1024];
    assert_int_equal(cf_encode(CF_TYPE_Q4_K, x, file, 128), -1);
    assert_int_equal(cf_encode(19, x, file, 256), -1);
    assert_int_equal(cf_encode(4711, x, file, 256), -1);
}

static void mixes(void **state) {
    (void)state;
    static const struct {
        const char *mix, *tensor;
        int layer, n_layers;
        uint32_t n_dims, type;
    } rules[] = {
        {"q4_k_m", "output.weight", -1, 32, 2, CF_TYPE_Q6_K},
        {"Q4_K_M", "token_embd.weight", -1, 32, 2, CF_TYPE_Q4_K},
        {"q4_k_m", "blk.3.attn_v.weight", 3, 32, 2, CF_TYPE_Q6_K},
        {"q4_k_m", "blk.4.attn_v.weight", 4, 32, 2, CF_TYPE_Q4_K},
        {"q4_k_m", "blk.6.attn_v.weight", 6, 32, 2, CF_TYPE_Q6_K},
        {"q4_k_m", "blk.7.ffn_down.weight", 7, 32, 2, CF_TYPE_Q4_K},
        {"q4_k_m", "blk.9.ffn_down.weight", 9, 32, 2, CF_TYPE_Q6_K},
        {"q4_k_m", "blk.28.ffn_down.weight", 28, 32, 2, CF_TYPE_Q6_K},
        {"q4_k_m", "blk.28.ffn_up.weight", 28, 32, 2, CF_TYPE_Q4_K},
        {"q5_k_m", "blk.0.attn_q.weight", 0, 32, 2, CF_TYPE_Q5_K},
        {"q5_k_m", "blk.0.attn_v.weight", 0, 32, 2, CF_TYPE_Q6_K},
        {"q5_k_m", "blk.0.attn_norm.weight", 0, 32, 1, CF_TYPE_F32},
        {"q5_k_m", "blk.0.ffn_gate_inp.weight", 0, 32, 2, CF_TYPE_F32},
        {"q8_0", "output.weight", -1, 32, 2, CF_TYPE_Q8_0},
        {"Q4_K", "blk.0.attn_v.weight", 0, 32, 2, CF_TYPE_Q4_K},
        {"bf16", "blk.0.attn_v.weight", 0, 32, 2, CF_TYPE_BF16},
        {"f16", "output_norm.weight", -1, 32, 1, CF_TYPE_F32},
        {"q4_k_x", "output.weight", -1, 32, 2, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        uint32_t type = cf_mix_type(rules[i].mix, rules[i].tensor, rules[i].layer, rules[i].n_layers, rules[i].n_dims);
        if (type != rules[i].type)
            fail_msg("%s %s: type %u, not %u", rules[i].mix, rules[i].tensor, type, rules[i].type);
    }
    assert_int_equal(cf_fitting_type(CF_TYPE_Q4_K, 512), CF_TYPE_Q4_K);
    assert_int_equal(cf_fitting_type(CF_TYPE_Q6_K, 288), CF_TYPE_Q8_0);
    assert_int_equal(cf_fitting_type(CF_TYPE_Q6_K, 100), UINT32_MAX);
    assert_int_equal(cf_fitting_type(CF_TYPE_F16, 3), CF_TYPE_F16);
}

/* What the rules ask of a model beside the layer. llama-quantize gives the same (compared by hand for whole files). */
static void mixes_of_models(void **state) {
    (void)state;
    static const struct cf_mix_model plain = {.n_layers = 32, .gqa = 1}, gqa = {.n_layers = 80, .gqa = 8, .tied = true},
                                     mixtral = {.n_layers = 32, .gqa = 4, .n_experts = 8};
    static const struct {
        const char *mix, *tensor;
        int layer;
        const struct cf_mix_model *model;
        uint32_t type;
    } rules[] = {
        {"Q3_K", "blk.1.attn_v.weight", 1, &plain, CF_TYPE_Q5_K},
        {"Q3_K_M", "blk.2.attn_v.weight", 2, &plain, CF_TYPE_Q4_K},
        {"Q3_K_M", "blk.1.ffn_down.weight", 1, &plain, CF_TYPE_Q5_K},
        {"Q3_K_S", "blk.1.ffn_down.weight", 1, &plain, CF_TYPE_Q3_K},
        {"Q2_K", "blk.9.attn_output.weight", 9, &plain, CF_TYPE_Q3_K},
        {"Q4_K_S", "blk.3.attn_v.weight", 3, &plain, CF_TYPE_Q5_K},
        {"Q4_K_M", "blk.31.attn_qkv.weight", 31, &plain, CF_TYPE_Q6_K},
        {"Q4_K_M", "blk.31.ffn_down_exps.weight", 31, &plain, CF_TYPE_Q6_K},
        {"Q4_K_M", "token_embd.weight", -1, &plain, CF_TYPE_Q4_K},
        {"Q4_K_M", "token_embd.weight", -1, &gqa, CF_TYPE_Q6_K},
        {"Q4_0", "output.weight", -1, &plain, CF_TYPE_Q6_K},
        {"Q8_0", "output.weight", -1, &plain, CF_TYPE_Q8_0},
        {"F16", "output.weight", -1, &plain, CF_TYPE_F16},
        {"Q4_K_M", "blk.20.attn_v.weight", 20, &gqa, CF_TYPE_Q5_K},
        {"IQ4_XS", "blk.20.attn_v.weight", 20, &gqa, CF_TYPE_Q5_K},
        {"Q4_K_M", "blk.1.attn_k.weight", 1, &mixtral, CF_TYPE_Q8_0},
        {"Q4_K_M", "blk.1.attn_output.weight", 1, &mixtral, CF_TYPE_Q5_K},
        {"Q5_K_M", "blk.1.attn_output.weight", 1, &mixtral, CF_TYPE_Q5_K},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const struct cf_mix *mix = cf_mix_find(rules[i].mix);
        assert_non_null(mix);
        uint32_t type = cf_mix_choose(mix, rules[i].model, rules[i].tensor, rules[i].layer);
        if (type != rules[i].type) fail_msg("%s %s: type %u, not %u", mix->name, rules[i].tensor, type, rules[i].type);
    }
    assert_null(cf_mix_find("Q4_K_X"));
    assert_true(cf_mix_keeps("blk.0.attn_norm.weight", 2) && cf_mix_keeps("blk.0.attn_q.bias", 2));
    assert_true(cf_mix_keeps("output.weight", 1) && !cf_mix_keeps("output.weight", 2));
    assert_int_equal(cf_fallback_type(CF_TYPE_Q4_K, 288), CF_TYPE_Q5_0);
    assert_int_equal(cf_fallback_type(CF_TYPE_Q5_K, 288), CF_TYPE_Q5_1);
    assert_int_equal(cf_fallback_type(CF_TYPE_Q6_K, 512), CF_TYPE_Q6_K);
    assert_int_equal(cf_fallback_type(CF_TYPE_Q8_0, 100), CF_TYPE_F16);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mixes_of_models), cmocka_unit_test(error_bounds),
        cmocka_unit_test(shifted), cmocka_unit_test(exact_values), cmocka_unit_test(odd_inputs),
        cmocka_unit_test(refusals), cmocka_unit_test(mixes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
