/* Which experts a row goes to and with what weights, against numbers worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "node/engine/steps/job.h"

enum { N = 8 };

static void check(const struct cf_experts *x, const float *scores, const float *bias, const uint32_t *numbers,
    const double *weights) {
    float own[N], scratch[N], w[N];
    uint32_t chosen[N];
    memcpy(own, scores, x->n * sizeof *own);
    cf__choose_experts(x, own, bias, scratch, chosen, w);
    for (uint32_t k = 0; k < x->used; k++) {
        assert_int_equal(chosen[k], numbers[k]);
        if (weights) assert_true(fabs((double)w[k] - weights[k]) < 1e-6);
    }
}

/* exp(score) = 1, 4, 2, 1: shares 1/8, 4/8, 2/8, 1/8. */
static const float four[] = {0, 1.3862944f, 0.6931472f, 0};

static void softmax_over_all(void **state) {
    (void)state;
    struct cf_experts x = {.n = 4, .used = 2, .gating = CF_GATING_SOFTMAX, .scale = 1};
    check(&x, four, NULL, (uint32_t[]){1, 2}, (double[]){0.5, 0.25});
    x.norm = true;
    check(&x, four, NULL, (uint32_t[]){1, 2}, (double[]){2 / 3., 1 / 3.});
    x.scale = 2.5f;
    check(&x, four, NULL, (uint32_t[]){1, 2}, (double[]){2.5 * 2 / 3, 2.5 / 3});
    x.used = 3, x.scale = 1, x.norm = false; /* 0 and 3 are equal: the lower number */
    check(&x, four, NULL, (uint32_t[]){0, 1, 2}, (double[]){0.125, 0.5, 0.25});
}

static void softmax_over_the_chosen(void **state) {
    (void)state;
    struct cf_experts x = {.n = 4, .used = 2, .gating = CF_GATING_SOFTMAX_CHOSEN, .scale = 1};
    check(&x, four, NULL, (uint32_t[]){1, 2}, (double[]){2 / 3., 1 / 3.});
}

static void the_choice_has_a_bias_the_weights_have_not(void **state) {
    (void)state;
    struct cf_experts x = {.n = 4, .used = 2, .gating = CF_GATING_SIGMOID, .scale = 1};
    const float scores[] = {0, 1, 2, -1}, bias[] = {0.6f, 0, -0.5f, 0.2f};
    /* sigmoid 0.5, 0.7311, 0.8808, 0.2689; with the bias 1.1, 0.7311, 0.3808, 0.4689 */
    check(&x, scores, bias, (uint32_t[]){0, 1}, (double[]){0.5, 0.7310586});
    check(&x, scores, NULL, (uint32_t[]){1, 2}, (double[]){0.7310586, 0.8807971});
}

static void groups_count_by_their_best_two(void **state) {
    (void)state;
    struct cf_experts x = {.n = 8, .used = 3, .groups = 4, .groups_used = 2, .gating = CF_GATING_SIGMOID, .scale = 1};
    /* Sums of two: the groups with 4 + 0 and 2 + 1.9 in sigmoids. The best single expert's group may be left out. */
    const float scores[] = {4, -9, 2, 1.9f, 1, 1.1f, -1, -1};
    /* sigmoid sums: 0.982 + 0, 0.881 + 0.870, 0.731 + 0.750, 0.269 + 0.269: groups 1 and 2 */
    check(&x, scores, NULL, (uint32_t[]){2, 3, 5}, (double[]){0.8807971, 0.8698915, 0.7502601});
    x.groups = 1;
    check(&x, scores, NULL, (uint32_t[]){0, 2, 3}, NULL);
}

static void what_is_no_number_ends_and_is_chosen_last(void **state) {
    (void)state;
    struct cf_experts x = {.n = 4, .used = 4, .gating = CF_GATING_SIGMOID, .scale = 1};
    const float scores[] = {NAN, 1, NAN, NAN};
    check(&x, scores, NULL, (uint32_t[]){0, 1, 2, 3}, NULL);
    x.used = 1;
    check(&x, scores, NULL, (uint32_t[]){1}, (double[]){0.7310586});
}

static void a_sum_of_nothing_is_held_up(void **state) {
    (void)state;
    struct cf_experts x = {.n = 4, .used = 2, .gating = CF_GATING_SIGMOID, .scale = 1, .norm = true};
    const float scores[] = {-40, -41, -42, -43};
    /* sigmoid(-40) is about 4.2e-18: divided by 2^-14 and not by itself */
    check(&x, scores, NULL, (uint32_t[]){0, 1}, (double[]){0, 0});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_over_all),
        cmocka_unit_test(softmax_over_the_chosen),
        cmocka_unit_test(the_choice_has_a_bias_the_weights_have_not),
        cmocka_unit_test(groups_count_by_their_best_two),
        cmocka_unit_test(what_is_no_number_ends_and_is_chosen_last),
        cmocka_unit_test(a_sum_of_nothing_is_held_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
