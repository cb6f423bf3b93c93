/* The object of `run --json` and the dump of logits: right values, valid JSON from any bytes, and no silent loss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "coordinator/decode/dump.h"
#include "coordinator/decode/result.h"

static struct cf_result *make(size_t n_prompt, size_t n_generate, uint32_t n_top, uint32_t n_ranks) {
    struct cf_result *r;
    struct cf_error e;
    const struct cf_result_size size = {n_prompt, n_generate, 4, n_top, n_ranks};
    if (cf_result_new(&r, &size, &e)) fail_msg("%s", e.text);
    return r;
}

static json_t *print(const struct cf_result *r) {
    char *text = NULL;
    size_t n = 0;
    struct cf_error e;
    FILE *f = open_memstream(&text, &n);
    assert_int_equal(cf_result_print_json(r, f, &e), 0);
    fclose(f);
    assert_true(text[n - 1] == '\n');
    assert_null(memchr(text, '\n', n - 1)); /* one line */
    json_error_t where;
    json_t *json = json_loadb(text, n, JSON_ALLOW_NUL, &where);
    if (!json) fail_msg("%s in %s", where.text, text);
    free(text);
    return json;
}

static void test_object(void **state) {
    (void)state;
    static const float rows[2][4] = {{0.1f, 2.5f, -INFINITY, 2.5f}, {1, 2, 3, 4}};
    struct cf_result *r = make(3, 2, 2, 2);
    struct cf_error e;
    cf_result_prompt(r, (const uint32_t[]){1, 403, 407});
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(cf_result_logits(r, rows[i], &e), 0);
        assert_int_equal(cf_result_token(r, 10 + i, "ab", 2, &e), 0);
    }
    assert_int_equal(cf_result_logits(r, rows[0], &e), -1); /* no room: no silent growth */
    assert_int_equal(cf_result_token(r, 1, "", 0, &e), -1);
    cf_result_timings(r, "tensor", 0.5, 100, NAN);
    cf_result_wire(r, &(struct cf_result_wire){"q8", 0.25, NAN});
    for (uint32_t i = 0; i < 2; i++) {
        struct cf_result_rank *k = cf_result_rank(r, i);
        *k = (struct cf_result_rank){
            .host = "h\xff", .node = (int)i, .threads = i + 3, .bytes = 1u << 30, .local_percent = i ? NAN : 100};
        k->compute_s = 1.25;
    }
    assert_null(cf_result_rank(r, 2));

    json_t *json = print(r);
    json_int_t a, b, id, node, bytes;
    double logit, logprob, compute;
    const char *text, *hash, *layout, *host;
    json_t *speed, *local;
    assert_int_equal(json_unpack(json, "{s:[i,i,i], s:[I,I], s:s, s:s}", "prompt_ids", &(int){0}, &(int){0}, &(int){0},
                         "ids", &a, &b, "text", &text, "logits_xxh64", &hash),
        0);
    assert_true(a == 10 && b == 11);
    assert_string_equal(text, "abab");
    char want[17];
    snprintf(want, sizeof want, "%016llx", (unsigned long long)XXH64(rows, sizeof rows, 0));
    assert_string_equal(hash, want);
    assert_int_equal(json_unpack(json, "{s:[[[I,f,f]]]}", "top", &id, &logit, &logprob), 0);
    assert_true(id == 1 && logit == 2.5);
    assert_true(fabs(logprob + log(2 + exp(-2.4))) < 1e-6);
    assert_int_equal(json_array_size(json_object_get(json, "top")), 2);
    assert_int_equal(json_unpack(json, "{s:{s:s, s:[{s:s, s:I, s:I}, {s:o}]}, s:{s:o, s:[{s:f}]}}", "plan", "layout",
                         &layout, "ranks", "host", &host, "node", &node, "bytes", &bytes, "local_percent", &local,
                         "timings", "decode_tps", &speed, "ranks", "compute_s", &compute),
        0);
    assert_string_equal(layout, "tensor");
    const char *wire;
    double rms;
    json_t *most;
    assert_int_equal(
        json_unpack(json, "{s:{s:s, s:f, s:o}}", "plan", "wire", &wire, "wire_rms", &rms, "wire_most", &most), 0);
    assert_string_equal(wire, "q8");
    assert_true(rms == 0.25 && json_is_null(most));
    assert_string_equal(host, "h\xef\xbf\xbd");
    assert_true(node == 0 && bytes == 1 << 30 && compute == 1.25);
    assert_true(json_is_null(speed) && json_is_null(local));
    json_decref(json);
    cf_result_free(r);
}

static void test_empty(void **state) {
    (void)state;
    struct cf_result *r = make(0, 0, 5, 0);
    cf_result_prompt(r, NULL);
    json_t *json = print(r);
    assert_string_equal(json_string_value(json_object_get(json, "text")), "");
    assert_string_equal(json_string_value(json_object_get(json, "logits_xxh64")), "ef46db3751d8e999"); /* XXH64("") */
    json_decref(json);
    cf_result_free(r);
}

/* Python's bytes.decode("utf-8", "replace") gives the same. */
static void test_text(void **state) {
    (void)state;
#define R "\xef\xbf\xbd"
    static const struct {
        const char *in;
        size_t n;
        const char *out;
        size_t n_out;
    } cases[] = {
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 14, "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 14},
        {"a\0b", 3, "a\0b", 3},
        {"\xff\xfe", 2, R R, 6},
        {"\xc0\x80", 2, R R, 6}, /* overlong */
        {"\xe2\x82", 2, R, 3},   /* cut off */
        {"\xe2\x82z", 3, R "z", 4},
        {"\xed\xa0\x80", 3, R R R, 9}, /* surrogate */
        {"\xf0\x9f\x98", 3, R, 3},
        {"\xf4\x90\x80\x80", 4, R R R R, 12}, /* beyond U+10FFFF */
        {"\xe2\xe2\x82\xac", 4, R "\xe2\x82\xac", 6},
        {"\"\\\n\x01", 4, "\"\\\n\x01", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_result *r = make(0, 1, 0, 0);
        struct cf_error e;
        assert_int_equal(cf_result_token(r, 0, cases[i].in, cases[i].n, &e), 0);
        json_t *json = print(r), *text = json_object_get(json, "text");
        assert_null(json_object_get(json, "top"));
        assert_int_equal(json_string_length(text), cases[i].n_out);
        assert_memory_equal(json_string_value(text), cases[i].out, cases[i].n_out);
        json_decref(json);
        cf_result_free(r);
    }
}

static void test_long_text(void **state) {
    (void)state;
    struct cf_result *r = make(0, 3, 0, 0);
    struct cf_error e;
    static char piece[50000];
    memset(piece, 'x', sizeof piece);
    for (int i = 0; i < 3; i++)
        assert_int_equal(cf_result_token(r, 7, piece, sizeof piece, &e), 0);
    assert_int_equal(cf_result_text(r, "!", 1, &e), 0);
    json_t *json = print(r);
    assert_int_equal(json_string_length(json_object_get(json, "text")), 3 * sizeof piece + 1);
    json_decref(json);
    cf_result_free(r);
}

static void test_full_disk(void **state) {
    (void)state;
    struct cf_result *r = make(0, 1, 0, 0);
    struct cf_error e;
    FILE *f = fopen("/dev/full", "w");
    assert_int_equal(cf_result_print_json(r, f, &e), -1);
    assert_int_equal(e.code, CF_ERR_FILE);
    assert_non_null(strstr(e.text, "No space left"));
    fclose(f);
    cf_result_free(r);

    static float row[4096];
    struct cf_dump *d;
    assert_int_equal(cf_dump_open(&d, "/dev/full", &e), 0);
    int failed = 0;
    for (int i = 0; i < 4; i++)
        failed |= cf_dump_row(d, row, 4096, &e);
    failed |= cf_dump_close(d, &e);
    assert_int_equal(failed, -1);
    assert_string_equal(e.text, "cannot write the logits to /dev/full: No space left on device");
    assert_int_equal(access("/dev/full", F_OK), 0);
    assert_int_equal(cf_dump_open(&d, "/dev/full", &e), 0);
    assert_int_equal(cf_dump_row(d, row, 3, &e), 0); /* still in the buffer */
    assert_int_equal(cf_dump_close(d, &e), -1);
    assert_int_equal(cf_dump_open(&d, "/no/such/folder/x", &e), -1);
    assert_non_null(strstr(e.text, "/no/such/folder/x: No such file"));
}

static void test_dump(void **state) {
    (void)state;
    char path[] = "/tmp/coffer-dump-XXXXXX";
    struct cf_error e;
    struct cf_dump *d;
    float back[4];
    struct stat st;
    close(mkstemp(path));
    assert_int_equal(cf_dump_open(&d, path, &e), 0);
    assert_int_equal(cf_dump_row(d, (const float[]){1, 2}, 2, &e), 0);
    assert_int_equal(cf_dump_row(d, (const float[]){3, -0.0f}, 2, &e), 0);
    assert_int_equal(cf_dump_close(d, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 16);
    FILE *f = fopen(path, "rb");
    assert_int_equal(fread(back, 4, 4, f), 4);
    fclose(f);
    assert_true(back[0] == 1 && back[2] == 3 && signbit(back[3]));
    assert_int_equal(cf_dump_open(&d, path, &e), 0);
    cf_dump_abandon(d);
    assert_int_equal(access(path, F_OK), -1);
    cf_dump_abandon(NULL);
    assert_int_equal(cf_dump_close(NULL, &e), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_object), cmocka_unit_test(test_empty),
        cmocka_unit_test(test_text), cmocka_unit_test(test_long_text), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_dump)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
