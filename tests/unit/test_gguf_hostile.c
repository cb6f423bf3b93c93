/* GGUF files that lie: each class of them gets a message that names the file and the field, and no file, wherever it is
 * cut or whichever of its bytes is changed, makes the reader crash or allocate without measure. The instances behind
 * these classes: CVE-2025-53630, CVE-2026-27940, CVE-2024-21802, CVE-2026-7482, llama.cpp #24884, imp #532. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "node/gguf/gguf.h"

struct blob {
    unsigned char bytes[8192];
    size_t n;
};

static void raw(struct blob *b, const void *from, size_t n) {
    assert_true(n <= sizeof b->bytes - b->n);
    if (n) memcpy(b->bytes + b->n, from, n);
    b->n += n;
}
static void u8(struct blob *b, uint8_t v) {
    raw(b, &v, sizeof v);
}
static void u32(struct blob *b, uint32_t v) {
    raw(b, &v, sizeof v);
}
static void u64(struct blob *b, uint64_t v) {
    raw(b, &v, sizeof v);
}
static void str(struct blob *b, const char *s) {
    u64(b, strlen(s));
    raw(b, s, strlen(s));
}
static void header(struct blob *b, uint64_t n_tensors, uint64_t n_values) {
    raw(b, "GGUF", 4);
    u32(b, 3);
    u64(b, n_tensors);
    u64(b, n_values);
}
static void key(struct blob *b, const char *k, uint32_t kind) {
    str(b, k);
    u32(b, kind);
}
static void number(struct blob *b, const char *k, uint32_t v) {
    key(b, k, CF_GGUF_U32);
    u32(b, v);
}
static void array(struct blob *b, const char *k, uint32_t element, uint64_t n) {
    key(b, k, CF_GGUF_ARRAY);
    u32(b, element);
    u64(b, n);
}
static void tensor(struct blob *b, const char *name, uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset) {
    str(b, name);
    u32(b, 2);
    u64(b, columns);
    u64(b, rows);
    u32(b, type);
    u64(b, offset);
}
/* Zeros up to the data section and n bytes of it. */
static void data(struct blob *b, size_t n) {
    static const unsigned char zeros[4096];
    raw(b, zeros, (32 - b->n % 32) % 32);
    raw(b, zeros, n);
}

/* ---- one class each ---- */

static void empty(struct blob *b) {
    (void)b;
}
static void other_magic(struct blob *b) {
    raw(b, "PK\3\4aaaaaaaaaaaaaaaaaaaaaaaa", 28);
}
static void big_magic(struct blob *b) {
    raw(b, "FUGG\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
}
static void big_version(struct blob *b) {
    raw(b, "GGUF\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
}
static void version_1(struct blob *b) {
    raw(b, "GGUF\1\0\0\0\0\0\0\0\0\0\0\0", 16);
}
static void version_4(struct blob *b) {
    raw(b, "GGUF\4\0\0\0\0\0\0\0\0\0\0\0", 16);
}
static void many_tensors(struct blob *b) {
    header(b, 1000, 0);
}
static void endless_tensors(struct blob *b) {
    header(b, UINT64_MAX, 0);
}
static void many_values(struct blob *b) {
    header(b, 0, 1000);
}
static void endless_values(struct blob *b) {
    header(b, 0, UINT64_MAX / 2);
}
static void zero_key(struct blob *b) {
    header(b, 0, 1);
    number(b, "", 1);
}
static void nul_key(struct blob *b) {
    header(b, 0, 1);
    u64(b, 3);
    raw(b, "a\0b", 3);
    u32(b, CF_GGUF_U32);
    u32(b, 1);
}
static void long_key(struct blob *b) {
    header(b, 0, 1);
    u64(b, UINT64_MAX - 7); /* wraps a sum with the position */
    raw(b, "aaaaaaaaaaaaaaaaaaaaaaaa", 24);
}
static void cut_key(struct blob *b) {
    header(b, 0, 1);
    u64(b, 1000);
    raw(b, "aaaaaaaaaaaaaaaaaaaaaaaa", 24);
}
static void unknown_kind(struct blob *b) {
    header(b, 0, 1);
    key(b, "k", 13);
    u64(b, 0);
}
static void unknown_element(struct blob *b) {
    header(b, 0, 1);
    array(b, "k", 77, 1000000);
}
static void nested_array(struct blob *b) {
    header(b, 0, 1);
    array(b, "k", CF_GGUF_ARRAY, 1);
    u32(b, CF_GGUF_U8);
    u64(b, 0);
}
static void long_array(struct blob *b) {
    header(b, 0, 1);
    array(b, "k", CF_GGUF_U32, 100);
    u32(b, 0);
}
static void endless_array(struct blob *b) {
    header(b, 0, 1);
    array(b, "k", CF_GGUF_U64, (UINT64_MAX >> 3) + 1); /* times 8 is 0 */
}
static void long_string_array(struct blob *b) {
    header(b, 0, 1);
    array(b, "k", CF_GGUF_STRING, 3);
    str(b, "the first");
    str(b, "the second");
}
static void long_string(struct blob *b) {
    header(b, 0, 1);
    key(b, "k", CF_GGUF_STRING);
    u64(b, 100000);
    raw(b, "text", 4);
}
static void endless_string(struct blob *b) {
    header(b, 0, 1);
    key(b, "k", CF_GGUF_STRING);
    u64(b, UINT64_MAX);
}
static void wrong_bool(struct blob *b) {
    header(b, 0, 1);
    key(b, "k", CF_GGUF_BOOL);
    u8(b, 2);
}
static void wrong_bool_array(struct blob *b) {
    header(b, 0, 1);
    array(b, "k", CF_GGUF_BOOL, 2);
    raw(b, "\1\5", 2);
}
static void twice_key(struct blob *b) {
    header(b, 0, 3);
    number(b, "k", 1);
    number(b, "l", 1);
    number(b, "k", 1);
}
static void alignment_zero(struct blob *b) {
    header(b, 0, 1);
    number(b, "general.alignment", 0);
}
static void alignment_odd(struct blob *b) {
    header(b, 0, 1);
    number(b, "general.alignment", 48);
}
static void alignment_huge(struct blob *b) {
    header(b, 0, 1);
    number(b, "general.alignment", 1u << 31);
}
static void alignment_text(struct blob *b) {
    header(b, 0, 1);
    key(b, "general.alignment", CF_GGUF_STRING);
    str(b, "32");
}
static void zero_name(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "", 1, 1, 0, 0);
    data(b, 32);
}
static void long_name(struct blob *b) {
    char name[400] = "";
    memset(name, 'x', sizeof name - 1);
    header(b, 1, 0);
    tensor(b, name, 1, 1, 0, 0);
    data(b, 32);
}
static void twice_name(struct blob *b) {
    header(b, 2, 0);
    tensor(b, "t", 1, 1, 0, 0);
    tensor(b, "t", 1, 1, 0, 32);
    data(b, 64);
}
static void no_dims(struct blob *b) {
    header(b, 1, 0);
    str(b, "t");
    u32(b, 0);
    raw(b, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    data(b, 32);
}
static void five_dims(struct blob *b) {
    header(b, 1, 0);
    str(b, "t");
    u32(b, 5);
    for (int i = 0; i < 6; i++)
        u64(b, 1);
    data(b, 32);
}
static void endless_dims(struct blob *b) {
    header(b, 1, 0);
    str(b, "t");
    u32(b, UINT32_MAX);
    for (int i = 0; i < 6; i++)
        u64(b, 1);
}
static void zero_dim(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 32, 0, 0, 0);
    data(b, 32);
}
static void product(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 1ull << 33, 1ull << 33, 0, 0);
    data(b, 32);
}
static void product_wraps(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 1ull << 32, 1ull << 32, 0, 0); /* the product is 0 in 64 bits */
    data(b, 32);
}
static void row_overflow(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 1ull << 62, 1, 28, 0);
    data(b, 32);
}
static void odd_row(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 100, 1, CF_TYPE_Q8_0, 0);
    data(b, 1024);
}
static void retired_type(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 32, 1, 4, 0);
    data(b, 1024);
}
static void unknown_type(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 32, 1, 4711, 0);
    data(b, 1024);
}
static void odd_offset(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 1, 1, 0, 4);
    data(b, 64);
}
static void far_offset(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 1, 1, 0, 64);
    data(b, 64);
}
static void wrapping_offset(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 32, 1, 0, UINT64_MAX - 31);
    data(b, 64);
}
static void cut_data(struct blob *b) {
    header(b, 1, 0);
    tensor(b, "t", 32, 1, 0, 0);
    data(b, 127);
}
static void overlap(struct blob *b) {
    header(b, 2, 0);
    tensor(b, "s", 32, 1, 0, 32);
    tensor(b, "t", 32, 1, 0, 0);
    data(b, 256);
}
static void split_alone(struct blob *b) {
    header(b, 0, 1);
    number(b, "split.count", 2);
}
static void split_text(struct blob *b) {
    header(b, 0, 1);
    key(b, "split.count", CF_GGUF_STRING);
    str(b, "2");
}
static void split_negative(struct blob *b) {
    header(b, 0, 1);
    key(b, "split.no", CF_GGUF_I32);
    u32(b, UINT32_MAX);
}
static void control_characters(struct blob *b) {
    header(b, 0, 1);
    key(b, "\033[2Jk", 13);
}

static const struct {
    void (*build)(struct blob *);
    const char *says[2];
} classes[] = {
    {empty, {"magic", "truncated"}},
    {other_magic, {"magic", "not a GGUF file"}},
    {big_magic, {"magic", "big-endian"}},
    {big_version, {"version", "big-endian"}},
    {version_1, {"version", "GGUF version 1"}},
    {version_4, {"version", "GGUF version 4"}},
    {many_tensors, {"tensor count", "1000"}},
    {endless_tensors, {"tensor count", "limit"}},
    {many_values, {"value count", "1000"}},
    {endless_values, {"value count", "limit"}},
    {zero_key, {"key of value 0", "length zero"}},
    {nul_key, {"key of value 0", "NUL"}},
    {long_key, {"key of value 0", "65535"}},
    {cut_key, {"key of value 0", "left"}},
    {unknown_kind, {"value k", "unknown value type 13"}},
    {unknown_element, {"value k", "unknown array element type 77"}},
    {nested_array, {"value k", "array of arrays"}},
    {long_array, {"value k", "100 elements"}},
    {endless_array, {"value k", "elements"}},
    {long_string_array, {"value k", "truncated"}},
    {long_string, {"value k", "100000 bytes"}},
    {endless_string, {"value k", "string"}},
    {wrong_bool, {"value k", "bool of value 2"}},
    {wrong_bool_array, {"value k", "bool of value 5"}},
    {twice_key, {"value k", "twice"}},
    {alignment_zero, {"general.alignment", "power of two"}},
    {alignment_odd, {"general.alignment", "48"}},
    {alignment_huge, {"general.alignment", "power of two"}},
    {alignment_text, {"general.alignment", "string"}},
    {zero_name, {"name of tensor 0", "length zero"}},
    {long_name, {"name of tensor 0", "399"}},
    {twice_name, {"tensor t", "twice"}},
    {no_dims, {"tensor t", "0 dimensions"}},
    {five_dims, {"tensor t", "5 dimensions"}},
    {endless_dims, {"tensor t", "dimensions"}},
    {zero_dim, {"tensor t", "dimension 1 is zero"}},
    {product, {"tensor t", "overflow"}},
    {product_wraps, {"tensor t", "overflow"}},
    {row_overflow, {"tensor t", "overflow"}},
    {odd_row, {"tensor t", "blocks of 32"}},
    {retired_type, {"tensor t", "type 4, Q4_2"}},
    {unknown_type, {"tensor t", "type 4711"}},
    {odd_offset, {"tensor t", "offset 4"}},
    {far_offset, {"tensor t", "beyond the end"}},
    {wrapping_offset, {"tensor t", "beyond the end"}},
    {cut_data, {"tensor t", "truncated"}},
    {overlap, {"tensor s", "overlap"}},
    {split_alone, {"split.count", "2 files"}},
    {split_text, {"split.count", "string"}},
    {split_negative, {"split.no", "negative"}},
    {control_characters, {"value ?[2Jk", "unknown"}},
};

/* ---- opening bytes as a file ---- */

static int fd;
static char path[64];

static void put_file(const void *bytes, size_t n) {
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, bytes, n, 0), n);
}

static int try_open(struct cf_error *e) {
    struct cf_gguf *g;
    memset(e, 0, sizeof *e);
    int status = cf_gguf_open(&g, path, e);
    assert_true((status == 0) == (g != NULL));
    cf_gguf_close(g);
    return status;
}

static void each_class(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        struct blob b = {.n = 0};
        struct cf_error e;
        classes[i].build(&b);
        put_file(b.bytes, b.n);
        if (try_open(&e) != -1) fail_msg("case %zu (\"%s\") was accepted", i, classes[i].says[1]);
        for (int k = 0; k < 2; k++) {
            if (!strstr(e.text, classes[i].says[k]))
                fail_msg("case %zu: \"%s\" lacks \"%s\"", i, e.text, classes[i].says[k]);
        }
        if (!strstr(e.text, path)) fail_msg("case %zu: \"%s\" does not name the file", i, e.text);
        assert_true(e.code != CF_OK);
    }
}

/* A file with every kind of value and two tensors; returns the length of its header. */
static size_t valid(struct blob *b) {
    b->n = 0;
    header(b, 2, 14);
    for (uint32_t kind = 0; kind <= CF_GGUF_F64; kind++) {
        static const uint8_t widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
        char k[8];
        snprintf(k, sizeof k, "k%u", kind);
        if (kind == CF_GGUF_STRING) {
            key(b, k, kind);
            str(b, "text");
        } else if (kind == CF_GGUF_ARRAY) {
            array(b, k, CF_GGUF_STRING, 2);
            str(b, "one");
            str(b, "");
        } else {
            key(b, k, kind);
            raw(b, "\1\0\0\0\0\0\0\0", widths[kind]);
        }
    }
    array(b, "numbers", CF_GGUF_U16, 3);
    raw(b, "abcdef", 6);
    tensor(b, "first", 32, 2, CF_TYPE_Q8_0, 0);
    tensor(b, "second", 3, 1, CF_TYPE_F32, 96);
    size_t n = b->n;
    data(b, 96 + 12);
    return n;
}

static void cut_anywhere(void **state) {
    (void)state;
    struct blob b;
    struct cf_error e;
    size_t head = valid(&b);
    put_file(b.bytes, b.n);
    if (try_open(&e)) fail_msg("%s", e.text);
    for (size_t n = 0; n < b.n; n++) {
        put_file(b.bytes, n);
        if (try_open(&e) != -1) fail_msg("cut at byte %zu of %zu (header %zu) was accepted", n, b.n, head);
        if (!strstr(e.text, path) || strlen(e.text) < strlen(path) + 10) fail_msg("cut at %zu: \"%s\"", n, e.text);
    }
}

static void change_any_byte(void **state) {
    (void)state;
    static const uint8_t masks[] = {0xff, 0x80, 0x01, 0x10, 0x7f};
    struct blob b;
    size_t head = valid(&b), refused = 0;
    for (size_t i = 0; i < head; i++) {
        for (size_t k = 0; k < sizeof masks; k++) {
            struct cf_error e;
            b.bytes[i] ^= masks[k];
            put_file(b.bytes, b.n);
            if (try_open(&e)) {
                refused++;
                assert_true(e.code != CF_OK && strstr(e.text, path));
            }
            b.bytes[i] ^= masks[k];
        }
    }
    print_message("%zu of %zu changed files refused\n", refused, head * sizeof masks);
    assert_true(refused > head);
}

/* Version 2 has the layout of version 3. Types that this program cannot decode stand in the table all the same. */
static void accepted(void **state) {
    (void)state;
    struct blob b;
    struct cf_error e;
    valid(&b);
    b.bytes[4] = 2;
    put_file(b.bytes, b.n);
    if (try_open(&e)) fail_msg("%s", e.text);
    b.n = 0;
    header(&b, 1, 0);
    tensor(&b, "t", 256, 2, 21, 0);
    data(&b, 220);
    put_file(b.bytes, b.n);
    if (try_open(&e)) fail_msg("%s", e.text);
    b.n = 0;
    header(&b, 0, 0);
    put_file(b.bytes, b.n);
    if (try_open(&e)) fail_msg("%s", e.text);
}

/* A sparse file looks endless: what it promises must still not be allocated. */
static void sparse_promises(void **state) {
    (void)state;
    struct blob b = {.n = 0};
    struct cf_error e;
    header(&b, 0, 1);
    array(&b, "k", CF_GGUF_STRING, 1ull << 40);
    put_file(b.bytes, b.n);
    assert_int_equal(ftruncate(fd, 1ll << 44), 0);
    assert_int_equal(try_open(&e), -1);
    assert_non_null(strstr(e.text, "value k"));
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    print_message("%ld MB at most\n", use.ru_maxrss >> 10);
}

static void not_files(void **state) {
    (void)state;
    struct cf_gguf *g;
    struct cf_error e;
    static const char *const names[] = {"/", "/dev/null", "/nowhere/model.gguf", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(cf_gguf_open(&g, names[i], &e), -1);
        assert_int_equal(e.code, CF_ERR_FILE);
        assert_non_null(strstr(e.text, names[i]));
    }
}

int main(void) {
    fd = memfd_create("hostile.gguf", MFD_CLOEXEC);
    if (fd < 0) return 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_class), cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(change_any_byte), cmocka_unit_test(accepted), cmocka_unit_test(sparse_promises),
        cmocka_unit_test(not_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
