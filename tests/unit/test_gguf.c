/* The GGUF reader and writer against each other: every kind of value, tensors of several types, split sets, look-ups by
 * type, identity, and the promise that nothing is left behind by a writer that does not finish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "node/gguf/write.h"

static char folder[] = "/tmp/coffer-gguf-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[4][512];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof *path, "%s/%s", folder, name);
    return p;
}

static int count_files(void) {
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *x; (x = readdir(d));)
        n += x->d_name[0] != '.';
    closedir(d);
    return n;
}

static void remove_files(void) {
    DIR *d = opendir(folder);
    for (struct dirent *x; (x = readdir(d));)
        if (x->d_name[0] != '.') unlink(in_folder(x->d_name));
    closedir(d);
}

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        struct cf_error *e_ = &error;                                                                                  \
        e_->text[0] = 0;                                                                                               \
        if ((call) != 0) fail_msg("%s: %s", #call, e_->text);                                                          \
    } while (0)

static struct cf_error error;

/* ---- round trip ---- */

static const float vector[5] = {1, -2, 3.5f, 0, 1e-20f};
static unsigned char matrix[3 * 2 * 34];

static void write_sample(const char *path) {
    struct cf_gguf_writer *w;
    const struct cf_gguf_string words[] = {{"a", 1}, {"", 0}, {"nul\0in", 6}};
    const int16_t numbers[] = {-1, 2, 32767};
    const int64_t wide[] = {INT64_MIN};
    for (size_t i = 0; i < sizeof matrix; i++)
        matrix[i] = (unsigned char)(i * 7);
    OK(cf_gguf_writer_open(&w, path, &error));
    OK(cf_gguf_add_str(w, "general.architecture", "llama", &error));
    OK(cf_gguf_add_u32(w, "n", 4000000000u, &error));
    OK(cf_gguf_add_f32(w, "f", 0.1f, &error));
    OK(cf_gguf_add_bool(w, "yes", true, &error));
    OK(cf_gguf_add_strings(w, "words", words, 3, &error));
    OK(cf_gguf_add_numbers(w, "numbers", CF_GGUF_I16, numbers, 3, &error));
    OK(cf_gguf_add_numbers(w, "wide", CF_GGUF_I64, wide, 1, &error));
    OK(cf_gguf_add_numbers(w, "none", CF_GGUF_U8, NULL, 0, &error));
    OK(cf_gguf_add_tensor(w, "v", CF_TYPE_F32, 1, (uint64_t[]){5}, &error));
    OK(cf_gguf_add_tensor(w, "m", CF_TYPE_Q8_0, 3, (uint64_t[]){64, 3, 1}, &error));
    OK(cf_gguf_begin_data(w, &error));
    /* Pieces need not be tensors. */
    OK(cf_gguf_write_data(w, vector, 3, &error));
    OK(cf_gguf_write_data(w, (const char *)vector + 3, sizeof vector - 3, &error));
    OK(cf_gguf_write_data(w, matrix, sizeof matrix, &error));
    assert_int_equal(access(path, F_OK), -1);
    OK(cf_gguf_writer_close(w, true, &error));
}

static void round_trip(void **state) {
    (void)state;
    struct cf_gguf *g;
    write_sample(in_folder("a.gguf"));
    OK(cf_gguf_open(&g, in_folder("a.gguf"), &error));
    assert_int_equal(cf_gguf_version(g), 3);
    assert_int_equal(cf_gguf_files(g), 1);
    assert_int_equal(cf_gguf_n_values(g), 8);
    assert_int_equal(cf_gguf_n_tensors(g), 2);
    assert_string_equal(cf_gguf_value_at(g, 1)->key, "n");
    assert_null(cf_gguf_value_at(g, 8));
    assert_null(cf_gguf_value(g, "nothing"));

    const struct cf_gguf_value *v = cf_gguf_value(g, "words");
    assert_int_equal(v->kind, CF_GGUF_ARRAY);
    assert_int_equal(v->element, CF_GGUF_STRING);
    assert_int_equal(v->count, 3);
    const struct cf_gguf_string *s = v->array;
    assert_int_equal(s[2].length, 6);
    assert_memory_equal(s[2].text, "nul\0in", 7);
    v = cf_gguf_value(g, "numbers");
    assert_int_equal(((const int16_t *)v->array)[0], -1);
    assert_true(((const int64_t *)cf_gguf_value(g, "wide")->array)[0] == INT64_MIN);
    assert_int_equal(cf_gguf_value(g, "none")->count, 0);

    const struct cf_gguf_tensor *t = cf_gguf_tensor(g, "m");
    assert_ptr_equal(t, cf_gguf_tensor_at(g, 1));
    assert_int_equal(t->type, CF_TYPE_Q8_0);
    assert_int_equal(t->n_dims, 3);
    assert_true(t->ne[0] == 64 && t->ne[1] == 3 && t->ne[2] == 1 && t->ne[3] == 1);
    assert_int_equal(t->row_bytes, 68);
    assert_int_equal(t->bytes, sizeof matrix);
    assert_int_equal(t->offset % 32, 0);
    unsigned char back[sizeof matrix];
    OK(cf_gguf_read(g, t, 0, back, sizeof back, &error));
    assert_memory_equal(back, matrix, sizeof back);
    OK(cf_gguf_read(g, t, 100, back, 7, &error));
    assert_memory_equal(back, matrix + 100, 7);
    float values[5];
    OK(cf_gguf_read(g, cf_gguf_tensor(g, "v"), 0, values, sizeof values, &error));
    assert_memory_equal(values, vector, sizeof values);
    assert_int_equal(cf_gguf_read(g, t, sizeof matrix - 1, back, 2, &error), -1);
    assert_non_null(strstr(error.text, "tensor m"));
    assert_int_equal(cf_gguf_read(g, t, UINT64_MAX, back, 2, &error), -1);
    cf_gguf_close(g);
    remove_files();
}

static void typed_look_ups(void **state) {
    (void)state;
    struct cf_gguf *g;
    uint32_t u = 7;
    float f = 8;
    bool b = false;
    const char *s = "kept";
    write_sample(in_folder("a.gguf"));
    OK(cf_gguf_open(&g, in_folder("a.gguf"), &error));
    OK(cf_gguf_u32(g, "absent", false, &u, &error));
    assert_int_equal(u, 7);
    OK(cf_gguf_u32(g, "n", true, &u, &error));
    assert_int_equal(u, 4000000000u);
    OK(cf_gguf_f32(g, "f", true, &f, &error));
    assert_true(f == 0.1f);
    OK(cf_gguf_f32(g, "n", true, &f, &error));
    assert_true(f == 4e9f);
    OK(cf_gguf_bool(g, "yes", true, &b, &error));
    assert_true(b);
    OK(cf_gguf_str(g, "absent", false, &s, &error));
    assert_string_equal(s, "kept");
    OK(cf_gguf_str(g, "general.architecture", true, &s, &error));
    assert_string_equal(s, "llama");

    const char *file = in_folder("a.gguf");
    assert_int_equal(cf_gguf_u32(g, "absent", true, &u, &error), -1);
    assert_non_null(strstr(error.text, file));
    assert_non_null(strstr(error.text, "absent is missing"));
    assert_int_equal(cf_gguf_u32(g, "f", true, &u, &error), -1);
    assert_non_null(strstr(error.text, "value f: a whole number is needed, not f32"));
    assert_int_equal(cf_gguf_u32(g, "yes", true, &u, &error), -1);
    assert_int_equal(cf_gguf_f32(g, "words", true, &f, &error), -1);
    assert_int_equal(cf_gguf_bool(g, "n", true, &b, &error), -1);
    assert_int_equal(cf_gguf_str(g, "n", false, &s, &error), -1);
    cf_gguf_close(g);
    remove_files();
}

/* ---- split sets ---- */

/* Member i of n; `promised` tensors in all; tensor name and one number of its data. */
static void write_member(int i, int n, int no, uint32_t promised, const char *tensor, float v) {
    struct cf_gguf_writer *w;
    char name[64];
    const uint16_t numbers[2] = {(uint16_t)no, (uint16_t)n};
    snprintf(name, sizeof name, "s-%05d-of-%05d.gguf", i, n);
    OK(cf_gguf_writer_open(&w, in_folder(name), &error));
    OK(cf_gguf_add_u32(w, "split.no", numbers[0], &error));
    OK(cf_gguf_add_u32(w, "split.count", numbers[1], &error));
    OK(cf_gguf_add_u32(w, "split.tensors.count", promised, &error));
    if (i == 1) OK(cf_gguf_add_str(w, "general.architecture", "llama", &error));
    OK(cf_gguf_add_tensor(w, tensor, CF_TYPE_F32, 1, (uint64_t[]){1}, &error));
    OK(cf_gguf_begin_data(w, &error));
    OK(cf_gguf_write_data(w, &v, sizeof v, &error));
    OK(cf_gguf_writer_close(w, true, &error));
}

static void write_set(void) {
    write_member(1, 3, 0, 3, "a", 1);
    write_member(2, 3, 1, 3, "b", 2);
    write_member(3, 3, 2, 3, "c", 3);
}

static void expect_failure(const char *name, const char *what) {
    struct cf_gguf *g;
    assert_int_equal(cf_gguf_open(&g, in_folder(name), &error), -1);
    assert_null(g);
    if (!strstr(error.text, what)) fail_msg("\"%s\" lacks \"%s\"", error.text, what);
}

static void split_set(void **state) {
    (void)state;
    uint64_t bytes[3], hash[3];
    write_set();
    for (int i = 0; i < 3; i++) {
        struct cf_gguf *g;
        char name[64];
        const char *s = NULL;
        snprintf(name, sizeof name, "s-%05d-of-00003.gguf", i + 1);
        OK(cf_gguf_open(&g, in_folder(name), &error)); /* any member will do */
        assert_int_equal(cf_gguf_files(g), 3);
        assert_int_equal(cf_gguf_n_tensors(g), 3);
        OK(cf_gguf_str(g, "general.architecture", true, &s, &error));
        for (int k = 0; k < 3; k++) {
            const struct cf_gguf_tensor *t = cf_gguf_tensor(g, (const char[2]){(char)('a' + k), 0});
            float v = 0;
            assert_int_equal(t->file, k);
            OK(cf_gguf_read(g, t, 0, &v, sizeof v, &error));
            assert_true(v == (float)(k + 1));
        }
        cf_gguf_identity(g, &bytes[i], &hash[i]);
        cf_gguf_close(g);
    }
    assert_true(hash[0] == hash[1] && hash[1] == hash[2] && bytes[0] == bytes[1] && bytes[1] == bytes[2]);
    remove_files();
}

static void broken_split_sets(void **state) {
    (void)state;
    const char *first = "s-00001-of-00003.gguf";
    write_set();
    unlink(in_folder("s-00003-of-00003.gguf"));
    expect_failure(first, "s-00003-of-00003.gguf: No such file");
    write_member(3, 3, 1, 3, "c", 3);
    expect_failure(first, "split.no");
    write_member(3, 3, 2, 3, "a", 3);
    expect_failure(first, "tensor a occurs twice");
    write_member(3, 3, 2, 3, "c", 3);
    write_member(1, 3, 0, 4, "a", 3);
    expect_failure(first, "split.tensors.count");
    rename(in_folder(first), in_folder("renamed.gguf"));
    expect_failure("renamed.gguf", "split.count");
    write_member(1, 600, 0, 4, "a", 3);
    expect_failure("s-00001-of-00600.gguf", "split.count");
    write_member(1, 2, 2, 4, "a", 3);
    expect_failure("s-00001-of-00002.gguf", "split.no");
    remove_files();
}

/* ---- identity and speed ---- */

static void identity(void **state) {
    (void)state;
    struct cf_gguf *g;
    uint64_t bytes, hash, changed;
    write_sample(in_folder("a.gguf"));
    OK(cf_gguf_open(&g, in_folder("a.gguf"), &error));
    cf_gguf_identity(g, &bytes, &hash);
    const uint64_t data = cf_gguf_tensor_at(g, 0)->offset;
    cf_gguf_close(g);
    FILE *f = fopen(in_folder("a.gguf"), "r+b");
    fseek(f, 0, SEEK_END);
    assert_int_equal(bytes, ftell(f));
    /* Tensor bytes do not count, header bytes do. */
    fseek(f, (long)data, SEEK_SET);
    fputc(1, f);
    fflush(f);
    OK(cf_gguf_open(&g, in_folder("a.gguf"), &error));
    cf_gguf_identity(g, &bytes, &changed);
    cf_gguf_close(g);
    assert_true(hash == changed);
    fseek(f, 4 + 4 + 8 + 8 + 8 + 20 + 4 + 8, SEEK_SET); /* "llama" */
    fputc('L', f);
    fclose(f);
    OK(cf_gguf_open(&g, in_folder("a.gguf"), &error));
    cf_gguf_identity(g, &bytes, &changed);
    cf_gguf_close(g);
    assert_true(hash != changed);
    remove_files();
}

static void large_tables_open_fast(void **state) {
    (void)state;
    enum { STRINGS = 256000, TENSORS = 5000 };
    struct cf_gguf_writer *w;
    struct cf_gguf *g;
    struct cf_gguf_string *words = malloc(STRINGS * sizeof *words);
    for (size_t i = 0; i < STRINGS; i++)
        words[i] = (struct cf_gguf_string){"a token", 7};
    OK(cf_gguf_writer_open(&w, in_folder("a.gguf"), &error));
    OK(cf_gguf_add_strings(w, "words", words, STRINGS, &error));
    for (int i = 0; i < TENSORS; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.weight", i);
        OK(cf_gguf_add_tensor(w, name, CF_TYPE_F32, 1, (uint64_t[]){1}, &error));
    }
    OK(cf_gguf_begin_data(w, &error));
    for (int i = 0; i < TENSORS; i++)
        OK(cf_gguf_write_data(w, &(float){0}, sizeof(float), &error));
    OK(cf_gguf_writer_close(w, true, &error));
    free(words);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    OK(cf_gguf_open(&g, in_folder("a.gguf"), &error));
    clock_gettime(CLOCK_MONOTONIC, &to);
    double ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) * 1e-6;
    print_message("open: %.1f ms\n", ms);
    assert_true(ms < 1000); /* about 10; sanitizers and busy machines have room */
    assert_string_equal(cf_gguf_tensor(g, "blk.4321.weight")->name, "blk.4321.weight");
    cf_gguf_close(g);
    remove_files();
}

/* ---- a writer that does not finish ---- */

static void nothing_left_behind(void **state) {
    (void)state;
    struct cf_gguf_writer *w;
    const char *path = in_folder("a.gguf");
    OK(cf_gguf_writer_open(&w, path, &error));
    OK(cf_gguf_add_tensor(w, "v", CF_TYPE_F32, 1, (uint64_t[]){5}, &error));
    OK(cf_gguf_begin_data(w, &error));
    OK(cf_gguf_writer_close(w, false, &error));
    assert_int_equal(count_files(), 0);

    /* Too little data is an error, and too much. */
    OK(cf_gguf_writer_open(&w, path, &error));
    OK(cf_gguf_add_tensor(w, "v", CF_TYPE_F32, 1, (uint64_t[]){5}, &error));
    OK(cf_gguf_begin_data(w, &error));
    assert_int_equal(cf_gguf_writer_close(w, true, &error), -1);
    OK(cf_gguf_writer_open(&w, path, &error));
    OK(cf_gguf_begin_data(w, &error));
    assert_int_equal(cf_gguf_write_data(w, "x", 1, &error), -1);
    assert_int_equal(cf_gguf_writer_close(w, true, &error), -1);
    assert_int_equal(count_files(), 0);

    assert_int_equal(cf_gguf_writer_open(&w, in_folder("no/such/folder.gguf"), &error), -1);
    assert_non_null(strstr(error.text, "folder.gguf"));
    OK(cf_gguf_writer_open(&w, "/dev/full", &error));
    OK(cf_gguf_begin_data(w, &error));
    assert_int_equal(cf_gguf_writer_close(w, true, &error), -1);
    assert_non_null(strstr(error.text, "/dev/full: cannot write"));

    /* An old file is replaced as a whole. */
    write_sample(path);
    unlink(path);
    FILE *f = fopen(path, "w");
    fputs("old", f);
    fclose(f);
    OK(cf_gguf_writer_open(&w, path, &error));
    OK(cf_gguf_begin_data(w, &error));
    OK(cf_gguf_writer_close(w, true, &error));
    assert_int_equal(count_files(), 1);
    struct cf_gguf *g;
    OK(cf_gguf_open(&g, path, &error));
    cf_gguf_close(g);
    remove_files();
}

/* ---- a header without a file of weights ---- */

static int count_up(
    void *ctx, const struct cf_gguf_tensor *t, uint64_t offset, void *buf, size_t n, struct cf_error *e) {
    (void)e;
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)buf)[i] = (unsigned char)(offset + i + (t->name[0] == 'b' ? *(unsigned *)ctx : 0));
    return 0;
}

static void filled_from_elsewhere(void **state) {
    (void)state;
    struct cf_gguf_writer *w;
    struct cf_gguf *g;
    char path[64];
    unsigned shift = 7;
    unsigned char got[4];
    const uint64_t ne[2] = {32, 1ull << 30}; /* 36 GB: only a hole has room for them */
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    OK(cf_gguf_writer_open_fd(&w, fd, "test", &error));
    OK(cf_gguf_add_str(w, "general.architecture", "llama", &error));
    OK(cf_gguf_add_tensor(w, "a", CF_TYPE_F32, 1, (uint64_t[]){5}, &error));
    OK(cf_gguf_add_tensor(w, "b", CF_TYPE_Q8_0, 2, ne, &error));
    assert_int_equal(cf_gguf_skip_data(w, &error), -1); /* before the header */
    OK(cf_gguf_writer_close(w, false, NULL));
    OK(cf_gguf_writer_open_fd(&w, fd, "test", &error));
    OK(cf_gguf_add_tensor(w, "a", CF_TYPE_F32, 1, (uint64_t[]){5}, &error));
    OK(cf_gguf_add_tensor(w, "b", CF_TYPE_Q8_0, 2, ne, &error));
    OK(cf_gguf_begin_data(w, &error));
    OK(cf_gguf_skip_data(w, &error));
    OK(cf_gguf_writer_close(w, true, &error));
    OK(cf_gguf_open(&g, path, &error));
    close(fd);
    const struct cf_gguf_tensor *b = cf_gguf_tensor(g, "b");
    assert_int_equal(b->bytes, 34ull << 30);
    OK(cf_gguf_read(g, b, b->bytes - 4, got, 4, &error));
    assert_memory_equal(got, "\0\0\0\0", 4);
    cf_gguf_fill(g, count_up, &shift);
    OK(cf_gguf_read(g, b, 250, got, 4, &error));
    assert_memory_equal(got, "\x01\x02\x03\x04", 4);
    assert_int_equal(cf_gguf_read(g, b, b->bytes - 3, got, 4, &error), -1); /* bounds are looked at first */
    cf_gguf_close(g);
    assert_int_equal(cf_gguf_writer_open_fd(&w, -1, "nowhere", &error), -1);
    assert_non_null(strstr(error.text, "nowhere"));
}

static void refused_tensors(void **state) {
    (void)state;
    struct cf_gguf_writer *w;
    OK(cf_gguf_writer_open(&w, in_folder("a.gguf"), &error));
    assert_int_equal(cf_gguf_add_tensor(w, "t", CF_TYPE_Q8_0, 1, (uint64_t[]){33}, &error), -1);
    assert_int_equal(cf_gguf_add_tensor(w, "t", 99, 1, (uint64_t[]){32}, &error), -1);
    assert_int_equal(cf_gguf_add_tensor(w, "t", 0, 2, (uint64_t[]){1ull << 40, 1ull << 40}, &error), -1);
    assert_int_equal(cf_gguf_add_tensor(w, "t", 0, 5, (uint64_t[]){1, 1, 1, 1, 1}, &error), -1);
    assert_int_equal(cf_gguf_writer_close(w, true, &error), -1);
    assert_int_equal(count_files(), 0);
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(typed_look_ups),
        cmocka_unit_test(split_set), cmocka_unit_test(broken_split_sets), cmocka_unit_test(identity),
        cmocka_unit_test(large_tables_open_fast), cmocka_unit_test(nothing_left_behind),
        cmocka_unit_test(filled_from_elsewhere), cmocka_unit_test(refused_tensors)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
