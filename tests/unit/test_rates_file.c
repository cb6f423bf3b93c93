/* The file that keeps kernel rates: what is set comes back, from a file that others write too; a broken or forbidden
 * one is as good as none. */
#include "coordinator/decode/measure/rates_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[128];

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/coffer_rates_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/a/b/rates.json", folder);
    return setenv("COFFER_CALIBRATION", path, 1);
}

static int tear_down(void **state) {
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void put(const char *name, double rate) {
    struct cf_rates_file f;
    cf_rates_open(&f);
    cf_rates_set(&f, name, rate);
    cf_rates_close(&f);
}

static double get(const char *name) {
    struct cf_rates_file f;
    double rate = -1;
    cf_rates_open(&f);
    bool there = cf_rates_get(&f, name, &rate);
    cf_rates_close(&f);
    return there ? rate : -1;
}

static void what_is_set_comes_back(void **state) {
    (void)state;
    struct stat s;
    assert_true(get("avx2, 2 threads, Q4_0") < 0);
    assert_int_equal(stat(path, &s), -1); /* nothing was set: nothing is written */
    put("avx2, 2 threads, Q4_0", 1.5e11);
    put("avx2, 1 threads, Q4_0", 8e10);
    assert_true(get("avx2, 2 threads, Q4_0") == 1.5e11 && get("avx2, 1 threads, Q4_0") == 8e10);
    put("avx2, 2 threads, Q4_0", 0); /* not a rate */
    assert_true(get("avx2, 2 threads, Q4_0") == 1.5e11);
}

static void write_file(const char *text) {
    put("x", 1); /* makes the folders */
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void what_is_no_rate_is_ignored(void **state) {
    (void)state;
    static const char *const texts[] = {
        "", "{", "[1]", "{\"x\": \"fast\"}", "{\"x\": -3}", "{\"x\": 1e300}", "\xff\xfe"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_file(texts[i]);
        assert_true(get("x") < 0);
        put("y", 2e9); /* and it can be written again */
        assert_true(get("y") == 2e9);
    }
}

static void no_file_no_word(void **state) {
    (void)state;
    setenv("COFFER_CALIBRATION", "", 1);
    put("x", 1e9);
    assert_true(get("x") < 0);
    setenv("COFFER_CALIBRATION", "/proc/nowhere/rates.json", 1);
    put("x", 1e9);
    assert_true(get("x") < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_set_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_rate_is_ignored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_file_no_word, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
