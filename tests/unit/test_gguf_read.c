/* Reading tensor bytes through the page cache and past it, at once and in flight: the same bytes at any offset, and a
 * clear error for a file that shrinks or a disk that fails. pread is this file's own, so that it can fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "node/gguf/write.h"

static int pread_error;   /* errno of every pread; 0: none */
static size_t pread_most; /* bytes that one pread gives; 0: all */

ssize_t pread(int fd, void *buf, size_t n, off_t at) {
    if (pread_error) {
        errno = pread_error;
        return -1;
    }
    return syscall(SYS_pread64, fd, buf, pread_most && n > pread_most ? pread_most : n, at);
}

enum { COLUMNS = 1000, ROWS = 777 };
static float matrix[ROWS][COLUMNS];
static char path[64];
static struct cf_error error;
static struct cf_gguf *g;
static const struct cf_gguf_tensor *t;
static void *buf;

static int write_file(const char *where) {
    struct cf_gguf_writer *w;
    snprintf(path, sizeof path, "%s/coffer-test-read-%d.gguf", where, (int)getpid());
    for (int i = 0; i < ROWS * COLUMNS; i++)
        matrix[i / COLUMNS][i % COLUMNS] = (float)i;
    return cf_gguf_writer_open(&w, path, &error) ||
           cf_gguf_add_tensor(w, "small", CF_TYPE_F32, 1, (uint64_t[]){5}, &error) ||
           cf_gguf_add_tensor(w, "m", CF_TYPE_F32, 2, (uint64_t[]){COLUMNS, ROWS}, &error) ||
           cf_gguf_begin_data(w, &error) || cf_gguf_write_data(w, matrix, 5 * sizeof(float), &error) ||
           cf_gguf_write_data(w, matrix, sizeof matrix, &error) || cf_gguf_writer_close(w, true, &error);
}

static void open_file(bool direct) {
    pread_error = 0, pread_most = 0;
    if (write_file("/var/tmp") || cf_gguf_open(&g, path, &error)) fail_msg("%s", error.text);
    t = cf_gguf_tensor(g, "m");
    assert_non_null(t);
    if (direct && cf_gguf_direct(g, &error)) {
        print_message("no direct reads to test here: %s\n", error.text);
        cf_gguf_close(g);
        unlink(path);
        skip();
    }
    buf = aligned_alloc(cf_gguf_align(g), (sizeof matrix / cf_gguf_align(g) + 3) * cf_gguf_align(g));
    assert_non_null(buf);
}

static void close_file(void) {
    free(buf);
    cf_gguf_close(g);
    unlink(path);
}

static const size_t offsets[] = {0, 1, 31, 4000, 4096, 65536, 1000003, sizeof matrix - 100, sizeof matrix - 1};
static const size_t sizes[] = {1, 7, 512, 4095, 4096, 100000, 1 << 20, sizeof matrix};
enum { N_OFFSETS = sizeof offsets / sizeof *offsets, N_SIZES = sizeof sizes / sizeof *sizes };

static void same_bytes(bool direct) {
    struct cf_gguf_flight *f;
    open_file(direct);
    assert_int_equal(cf_gguf_is_direct(g), direct);
    assert_int_equal(cf_gguf_flight_open(&f, g, &error), 0);
    for (int i = 0; i < N_OFFSETS * N_SIZES * 2; i++) {
        size_t offset = offsets[i % N_OFFSETS], n = sizes[i / N_OFFSETS % N_SIZES];
        struct cf_gguf_part p = {t, offset, n < sizeof matrix - offset ? n : sizeof matrix - offset, i % 2};
        const char *data = NULL;
        if (cf_gguf_fetch(g, &p, buf, &data, &error)) fail_msg("%s", error.text);
        assert_true(data >= (char *)buf && data + p.n <= (char *)buf + p.n + cf_gguf_slack(g));
        assert_memory_equal(data, (char *)matrix + offset, p.n);
        memset(buf, 0, p.n);
        cf_gguf_soon(g, &p);
        cf_gguf_begin(f, &p, buf);
        if (cf_gguf_end(f, &data, &error)) fail_msg("%s", error.text);
        assert_memory_equal(data, (char *)matrix + offset, p.n);
        cf_gguf_done(g, &p);
    }
    struct cf_gguf_part beyond = {t, sizeof matrix - 3, 4, false};
    const char *data;
    assert_int_equal(cf_gguf_fetch(g, &beyond, buf, &data, &error), -1);
    cf_gguf_begin(f, &beyond, buf);
    assert_int_equal(cf_gguf_end(f, &data, &error), -1);
    assert_non_null(strstr(error.text, "tensor m"));
    /* A flight that nobody waits for is over when it is closed. */
    cf_gguf_begin(f, &(struct cf_gguf_part){t, 0, sizeof matrix, false}, buf);
    cf_gguf_flight_close(f);
    close_file();
}

static void through_the_cache(void **state) {
    (void)state;
    same_bytes(false);
}

static void past_the_cache(void **state) {
    (void)state;
    same_bytes(true);
}

static void reads_cut_short_go_on(void **state) {
    (void)state;
    for (int direct = 0; direct < 2; direct++) {
        open_file(direct);
        pread_most = direct ? cf_gguf_align(g) + 512 : 5000; /* inside a block: it is read again */
        const char *data;
        struct cf_gguf_part p = {t, 100, 1 << 20, false};
        if (cf_gguf_fetch(g, &p, buf, &data, &error)) fail_msg("%s", error.text);
        assert_memory_equal(data, (char *)matrix + 100, p.n);
        close_file();
    }
}

static void a_file_that_shrinks(void **state) {
    (void)state;
    for (int direct = 0; direct < 2; direct++) {
        struct cf_gguf_flight *f;
        const char *data;
        open_file(direct);
        assert_int_equal(cf_gguf_flight_open(&f, g, &error), 0);
        assert_int_equal(truncate(path, 1000000), 0);
        struct cf_gguf_part p = {t, 900000, 500000, false};
        assert_int_equal(cf_gguf_fetch(g, &p, buf, &data, &error), -1);
        assert_int_equal(error.code, CF_ERR_FILE);
        assert_non_null(strstr(error.text, "tensor m: the file became shorter"));
        memset(&error, 0, sizeof error);
        cf_gguf_begin(f, &p, buf);
        assert_int_equal(cf_gguf_end(f, &data, &error), -1);
        assert_non_null(strstr(error.text, path));
        assert_non_null(strstr(error.text, "tensor m: the file became shorter"));
        cf_gguf_flight_close(f);
        close_file();
    }
}

static void a_disk_that_fails(void **state) {
    (void)state;
    for (int direct = 0; direct < 2; direct++) {
        const char *data;
        open_file(direct);
        pread_error = EIO;
        struct cf_gguf_part p = {t, 0, sizeof matrix, false};
        assert_int_equal(cf_gguf_fetch(g, &p, buf, &data, &error), -1);
        assert_int_equal(error.code, CF_ERR_FILE);
        assert_non_null(strstr(error.text, path));
        assert_non_null(strstr(error.text, "tensor m: Input/output error"));
        close_file();
    }
}

/* Refused by the file system, at open or at the first read: said, and reads stay as they were. */
static void refused(void **state) {
    (void)state;
    const char *data;
    open_file(false);
    pread_error = EINVAL;
    assert_int_equal(cf_gguf_direct(g, &error), -1);
    assert_non_null(strstr(error.text, "no direct reads"));
    assert_false(cf_gguf_is_direct(g));
    pread_error = 0;
    struct cf_gguf_part p = {t, 5, 500000, false};
    assert_int_equal(cf_gguf_fetch(g, &p, buf, &data, &error), 0);
    assert_ptr_equal(data, buf);
    assert_memory_equal(data, (char *)matrix + 5, p.n);
    close_file();
    if (access("/dev/shm", W_OK) || write_file("/dev/shm")) return;
    assert_int_equal(cf_gguf_open(&g, path, &error), 0);
    assert_int_equal(cf_gguf_direct(g, &error), -1);
    assert_non_null(strstr(error.text, "lies in memory"));
    cf_gguf_close(g);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(through_the_cache),
        cmocka_unit_test(past_the_cache),
        cmocka_unit_test(reads_cut_short_go_on),
        cmocka_unit_test(a_file_that_shrinks),
        cmocka_unit_test(a_disk_that_fails),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
