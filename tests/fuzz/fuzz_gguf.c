/* Fuzz target of the GGUF reader: the input is a file. Whatever opens is walked whole: every value, every tensor, and
 * the bytes of the tensors, so that a wrong bound shows up as a bad access and not only as a wrong number. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "node/gguf/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth) {
    if (!truth) abort();
}

/* A number that depends on every byte, so that none of the reads can be left out. */
static uint64_t sum_of(const void *bytes, size_t n) {
    const uint8_t *at = bytes;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + at[i];
    return sum;
}

static uint64_t walk_value(const struct cf_gguf *g, const struct cf_gguf_value *v) {
    static const uint8_t widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t sum = sum_of(v->key, strlen(v->key));
    uint32_t u;
    float f;
    bool b;
    const char *s = "";
    struct cf_error e;
    require(cf_gguf_value(g, v->key) == v);
    (void)cf_gguf_u32(g, v->key, true, &u, &e);
    (void)cf_gguf_f32(g, v->key, true, &f, &e);
    (void)cf_gguf_bool(g, v->key, true, &b, &e);
    if (!cf_gguf_str(g, v->key, true, &s, &e)) sum += strlen(s);
    if (v->kind == CF_GGUF_STRING) sum += sum_of(v->s.text, v->s.length + 1);
    if (v->kind != CF_GGUF_ARRAY) return sum;
    if (v->element != CF_GGUF_STRING) return sum + sum_of(v->array, v->count * widths[v->element]);
    const struct cf_gguf_string *strings = v->array;
    for (size_t i = 0; i < v->count; i++)
        sum += sum_of(strings[i].text, strings[i].length + 1);
    return sum;
}

static uint64_t walk_tensor(const struct cf_gguf *g, const struct cf_gguf_tensor *t, size_t size) {
    struct cf_error e;
    require(cf_gguf_tensor(g, t->name) == t);
    require(t->n_dims >= 1 && t->n_dims <= 4 && t->bytes > 0 && t->bytes <= size && t->offset <= size - t->bytes);
    require(t->bytes == t->row_bytes * t->ne[1] * t->ne[2] * t->ne[3]);
    unsigned char *bytes = malloc(t->bytes);
    require(bytes && cf_gguf_read(g, t, 0, bytes, t->bytes, &e) == 0);
    require(cf_gguf_read(g, t, t->bytes, bytes, 1, &e) == -1);
    uint64_t sum = sum_of(bytes, t->bytes);
    free(bytes);
    return sum;
}

static void walk(const struct cf_gguf *g, size_t size) {
    uint64_t sum, hash;
    cf_gguf_identity(g, &sum, &hash);
    for (size_t i = 0; i < cf_gguf_n_values(g); i++)
        sum += walk_value(g, cf_gguf_value_at(g, i));
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++)
        sum += walk_tensor(g, cf_gguf_tensor_at(g, i), size);
    volatile uint64_t kept = sum;
    (void)kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz.gguf", MFD_CLOEXEC);
        require(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    struct cf_gguf *g;
    struct cf_error e = {0};
    if (cf_gguf_open(&g, path, &e)) {
        require(g == NULL && e.code != CF_OK && strstr(e.text, path));
        return 0;
    }
    walk(g, size);
    cf_gguf_close(g);
    return 0;
}
