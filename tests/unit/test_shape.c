/* The shapes of --synthetic are those of the published models: as many parameters as their papers and model cards say,
 * and this program can run each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/commands/shared/shape.h"
#include "node/model/model.h"

/* Billions of parameters, as published. Those of gpt-oss, GLM and Kimi are given in three digits. */
static const struct {
    const char *name;
    double billions, tolerance;
} published[] = {
    {"smollm2-135m", 0.1345, 0.0005},
    {"tinyllama-1.1b", 1.100, 0.001},
    {"llama-1b", 1.236, 0.001},
    {"smollm2-1.7b", 1.711, 0.001},
    {"llama-3b", 3.213, 0.001},
    {"llama2-7b", 6.738, 0.001},
    {"mistral-7b", 7.248, 0.001},
    {"qwen2.5-7b", 7.616, 0.001},
    {"llama-8b", 8.030, 0.001},
    {"qwen3-8b", 8.191, 0.001},
    {"llama2-13b", 13.016, 0.001},
    {"phi-4-14b", 14.66, 0.01},
    {"gpt-oss-20b", 20.91, 0.02},
    {"gemma3-27b", 27.0, 0.1}, /* of the text */
    {"qwen3-30b-a3b", 30.53, 0.01},
    {"qwen3-32b", 32.76, 0.01},
    {"mixtral-8x7b", 46.70, 0.01},
    {"llama-70b", 70.55, 0.01},
    {"qwen2.5-72b", 72.71, 0.01},
    {"glm-4.5-air-106b", 106.8, 0.3},
    {"gpt-oss-120b", 116.8, 0.1},
    {"mistral-large-123b", 122.6, 0.1},
    {"mixtral-8x22b", 140.6, 0.1},
    {"qwen3-235b-a22b", 235.1, 0.1},
    {"glm-4.5-355b", 353.0, 3.0},
    {"llama-405b", 405.9, 0.1},
    {"deepseek-v3-671b", 671.0, 0.1},
    {"kimi-k2-1t", 1026, 4},
};

static double expected(const char *name, double *tolerance) {
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (!strcmp(published[i].name, name)) {
            *tolerance = published[i].tolerance;
            return published[i].billions;
        }
    *tolerance = 0.001;
    return strcmp(name, "llama-15m") ? 0 : 0.015191;
}

static void parameters_are_those_published(void **state) {
    (void)state;
    for (size_t i = 0; cf__shape_name(i); i++) {
        struct cf__synth_tensors *t;
        struct cf_gguf *g;
        struct cf_model m;
        struct cf_error e = {0};
        char text[64];
        snprintf(text, sizeof text, "%s:q4_0", cf__shape_name(i));
        if (cf__shape_open(&g, &t, text, &e) || cf_model_open(&m, g, &e)) fail_msg("%s: %s", text, e.text);
        double elements = 0, tolerance;
        for (size_t k = 0; k < t->n; k++)
            elements += (double)t->list[k].elements;
        double want = expected(cf__shape_name(i), &tolerance);
        if (fabs(1e-9 * elements - want) > tolerance)
            fail_msg("%s has %.4f billion parameters, published are %.4f", text, 1e-9 * elements, want);
        cf_model_close(&m);
        cf_gguf_close(g);
        cf__synth_tensors_free(t);
    }
}

static void names_that_are_unknown(void **state) {
    (void)state;
    static const char *const wrong[] = {"llama-9b", "", ":", "llama-8", "llama-8b2:q4_0", "LLAMA"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct cf__synth s;
        struct cf_error e = {0};
        char type[CF__SHAPE_TYPE];
        assert_int_equal(cf__shape_read(&s, wrong[i], type, &e), -1);
        assert_non_null(strstr(e.text, "kimi-k2-1t")); /* the whole list is there */
        assert_int_equal(e.code, CF_ERR_USAGE);
    }
    struct cf__synth_tensors *t;
    struct cf_gguf *g;
    struct cf_error e = {0};
    assert_int_equal(cf__shape_open(&g, &t, "llama-8b:q9", &e), -1);
    assert_non_null(strstr(e.text, "q9"));
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_those_published),
        cmocka_unit_test(names_that_are_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
