/* The trial of products: what is equal and faster is taken, what is slower or differs in one bit is not. "Slower" is a
 * pause that no machine mistakes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "node/kernels/kernels.h"
#include "node/kernels/trial.h"

static const struct cf_kernels *scalar;

/* Pauses only for the rows that are timed, so that the comparison of bits stays short. */
static void rest(const struct cf_product *p) {
    if (p->n == 48) nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}
static void slow_q8_0(const struct cf_product *p) {
    rest(p);
    scalar->product[CF_TYPE_Q8_0](p);
}
static void slow_q4_k(const struct cf_product *p) {
    rest(p);
    scalar->product[CF_TYPE_Q4_K](p);
}
/* The lowest bit of one lane of one row, and only where there are many rows. */
static void wrong_q4_0(const struct cf_product *p) {
    scalar->product[CF_TYPE_Q4_0](p);
    if (p->n < 17) return;
    uint32_t bits;
    memcpy(&bits, &p->y[16 * 16 + 3], sizeof bits);
    bits ^= 1;
    memcpy(&p->y[16 * 16 + 3], &bits, sizeof bits);
}

static void slow_q4_0(const struct cf_product *p) {
    rest(p);
    scalar->product[CF_TYPE_Q4_0](p);
}

static void test_taken(void **state) {
    (void)state;
    struct cf_kernels known = *scalar, candidate = *scalar, chosen;
    candidate.scaled_sums = true;            /* what its products read is made for all */
    known.product[CF_TYPE_Q8_0] = slow_q8_0; /* candidate equal and faster */
    known.product[CF_TYPE_Q4_0] = slow_q4_0; /* candidate faster but wrong */
    candidate.product[CF_TYPE_Q4_0] = wrong_q4_0;
    candidate.product[CF_TYPE_Q4_K] = slow_q4_k; /* equal and slower */
    candidate.product[CF_TYPE_F32] = NULL;       /* not on trial */
    int taken = cf__trial(&chosen, &known, &candidate), n_types = 0;
    while (cf__trial_types[n_types] != CF_TYPE_LIMIT)
        n_types++;
    assert_true(taken >= 1 && taken < n_types - 1); /* the other types are the same function: chance */
    assert_true(chosen.scaled_sums);
    assert_ptr_equal(chosen.product[CF_TYPE_Q8_0], scalar->product[CF_TYPE_Q8_0]);
    assert_ptr_equal(chosen.product[CF_TYPE_Q4_0], slow_q4_0);
    assert_ptr_equal(chosen.product[CF_TYPE_Q4_K], scalar->product[CF_TYPE_Q4_K]);
    assert_ptr_equal(chosen.product[CF_TYPE_F32], scalar->product[CF_TYPE_F32]);
}

static void other(const struct cf_product *p) {
    (void)p;
}

/* The name tells few from most, and any fits. */
static void test_name(void **state) {
    (void)state;
    struct cf_kernels candidate = *scalar, chosen = *scalar;
    char name[CF_ISA_NAME];
    size_t n = 0, longest = 0;
    cf__trial_name(name, sizeof name, "amx", &chosen, &candidate);
    assert_string_equal(name, "amx");
    chosen.product[CF_TYPE_Q2_K] = other;
    cf__trial_name(name, sizeof name, "amx", &chosen, &candidate);
    assert_string_equal(name, "amx-Q2_K");
    chosen.product[CF_TYPE_Q8_0] = other;
    cf__trial_name(name, sizeof name, "amx", &chosen, &candidate);
    assert_string_equal(name, "amx-Q8_0-Q2_K");
    for (const uint32_t *type = cf__trial_types; *type < CF_TYPE_LIMIT; type++, n++)
        chosen.product[*type] = other;
    chosen.product[CF_TYPE_Q8_0] = chosen.product[CF_TYPE_Q4_0] = scalar->product[CF_TYPE_Q8_0];
    candidate.product[CF_TYPE_Q4_0] = candidate.product[CF_TYPE_Q8_0];
    cf__trial_name(name, sizeof name, "amx", &chosen, &candidate);
    assert_string_equal(name, "amx:Q8_0+Q4_0");
    for (size_t out = 0; out <= n; out++) { /* so many left out */
        for (size_t i = 0; i < n; i++)
            chosen.product[cf__trial_types[i]] = i < out ? other : candidate.product[cf__trial_types[i]];
        cf__trial_name(name, sizeof name, "amx", &chosen, &candidate);
        if (strlen(name) > longest) longest = strlen(name);
    }
    assert_true(longest > 40 && longest < sizeof name - 1);
}

/* The tables of this machine are equal on the data of the trial, which holds no infinities: each type of a table that
 * is as fast as can be is taken from it. */
static void test_tables(void **state) {
    (void)state;
    const struct cf_kernels *all[8];
    size_t n = cf_kernels_all(all);
    for (size_t i = 1; i < n; i++) {
        struct cf_kernels known = *scalar, chosen;
        known.product[CF_TYPE_Q8_0] = slow_q8_0;
        known.product[CF_TYPE_Q4_K] = slow_q4_k;
        assert_true(cf__trial(&chosen, &known, all[i]) >= 2);
        assert_ptr_equal(chosen.product[CF_TYPE_Q8_0], all[i]->product[CF_TYPE_Q8_0]);
        assert_ptr_equal(chosen.product[CF_TYPE_Q4_K], all[i]->product[CF_TYPE_Q4_K]);
    }
}

int main(void) {
    const struct cf_kernels *all[8];
    cf_kernels_all(all);
    scalar = all[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken), cmocka_unit_test(test_name), cmocka_unit_test(test_tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
