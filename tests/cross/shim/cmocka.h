/* As much of cmocka as the unit tests of node/kernels use, in one header: for machines whose cmocka is not here.
 *
 * Same names, same meaning, own code. A failed assertion prints where and ends its test; the next test runs. No mocks,
 * no fixtures. Like the original it wants <setjmp.h>, <stdarg.h>,
 * <stddef.h> and <stdint.h> before it.
 */
#ifndef COFFER_TESTS_CROSS_CMOCKA_H
#define COFFER_TESTS_CROSS_CMOCKA_H

#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
};
#define cmocka_unit_test(f) ((struct CMUnitTest){#f, f})

static jmp_buf shim_end; /* of the running test: 1 failed, 2 skipped */

static inline void shim_fail(const char *file, int line, const char *what) {
    printf("%s:%d: %s\n", file, line, what);
    longjmp(shim_end, 1);
}

static inline void shim_numbers(
    const char *file, int line, const char *what, unsigned long long a, unsigned long long b) {
    printf("%s:%d: %s: 0x%llx, 0x%llx\n", file, line, what, a, b);
    longjmp(shim_end, 1);
}

#define print_message(...) printf(__VA_ARGS__)
#define fail_msg(...)                                                                                                  \
    do {                                                                                                               \
        printf(__VA_ARGS__);                                                                                           \
        printf("\n");                                                                                                  \
        shim_fail(__FILE__, __LINE__, "fail_msg");                                                                     \
    } while (0)
#define fail() shim_fail(__FILE__, __LINE__, "fail")
#define skip() longjmp(shim_end, 2)

#define assert_true(c) ((c) ? (void)0 : shim_fail(__FILE__, __LINE__, #c))
#define assert_false(c) assert_true(!(c))
#define assert_null(p) assert_true((p) == NULL)
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))

/* Integers of any type, as the original compares them: widened to the largest. */
#define SHIM_COMPARE(a, op, b)                                                                                         \
    do {                                                                                                               \
        const unsigned long long shim_a = (unsigned long long)(a), shim_b = (unsigned long long)(b);                   \
        if (!(shim_a op shim_b)) shim_numbers(__FILE__, __LINE__, #a " " #op " " #b, shim_a, shim_b);                  \
    } while (0)
#define assert_int_equal(a, b) SHIM_COMPARE(a, ==, b)
#define assert_int_not_equal(a, b) SHIM_COMPARE(a, !=, b)

#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int shim_run(const struct CMUnitTest *tests, size_t n) {
    static size_t i;
    static int failed, skipped;
    for (i = 0; i < n; i++) {
        static void *state;
        int ended = setjmp(shim_end);
        if (ended == 0) tests[i].test_func(&state);
        failed += ended == 1, skipped += ended == 2;
        printf("%s: %s\n", tests[i].name, ended == 0 ? "passed" : ended == 1 ? "FAILED" : "skipped");
        fflush(stdout);
    }
    printf("%zu tests, %d failed, %d skipped\n", n, failed, skipped);
    return failed;
}
#define cmocka_run_group_tests(tests, setup, teardown)                                                                 \
    ((void)(setup), (void)(teardown), shim_run(tests, sizeof(tests) / sizeof((tests)[0])))

#endif
