/* See prompt_cache.h. */
#include "coordinator/decode/prompt_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "node/engine/memory/kv.h"

enum { SAMPLE = 4096 /* bytes of each tensor */ };

/* XXH64 over the first bytes of every tensor. */
static int hash_weights(const struct cf_gguf *g, uint64_t *hash, struct cf_error *e) {
    char sample[SAMPLE];
    *hash = 0;
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(g, i);
        size_t n = t->bytes < SAMPLE ? (size_t)t->bytes : SAMPLE;
        if (cf_gguf_read(g, t, 0, sample, n, e)) return -1;
        *hash = XXH64(sample, n, *hash);
    }
    return 0;
}

/* Keys are kept turned: some models turn them otherwise in a long context. */
static int hash_angles(const struct cf_job *j, uint64_t *hash, struct cf_error *e) {
    for (int windowed = 0; windowed < 2; windowed++) {
        struct cf_rope rope = cf_model_rope(&j->model, windowed, j->n_ctx);
        size_t bytes = rope.n_dims / 2 * sizeof(double);
        double *freq = malloc(bytes + 1);
        float scale = 0;
        if (!freq) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
        cf_rope_frequencies(&rope, freq, &scale);
        *hash = XXH64(&scale, sizeof scale, XXH64(freq, bytes, *hash));
        free(freq);
    }
    return 0;
}

static int identify(struct cf_cache_identity *of, const struct cf_job *j, struct cf_error *e) {
    const struct cf_model *m = &j->model;
    cf_gguf_identity(j->gguf, &of->model_bytes, &of->model_hash);
    of->n_layers = m->n_layers, of->n_head_kv = m->n_head_kv, of->d_k = m->d_k, of->d_v = m->d_v_apart;
    of->page = CF_PAGE, of->kv_type = (uint32_t)cf_kv_type_by_name(j->o->place.kv_type);
    return hash_weights(j->gguf, &of->weights_hash, e) || hash_angles(j, &of->weights_hash, e) ? -1 : 0;
}

/* Puts the file's name in front of what the parser says. */
static int named(const struct cf_prompt_cache *c, const struct cf_error *why, struct cf_error *e) {
    return cf_fail(e, why->code, "--prompt-cache %s %.400s", c->path, why->text);
}

static int system_failed(const struct cf_prompt_cache *c, const char *what, struct cf_error *e) {
    return cf_fail(e, CF_ERR_FILE, "--prompt-cache: cannot %s %s: %s", what, c->path, strerror(errno));
}

static int read_at(const struct cf_prompt_cache *c, uint64_t at, void *out, size_t n, struct cf_error *e) {
    for (char *to = out; n;) {
        ssize_t got = pread(c->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_failed(c, "read", e);
        if (!got) return cf_fail(e, CF_ERR_FORMAT, "--prompt-cache %s ends early", c->path);
        to += got, at += (uint64_t)got, n -= (size_t)got;
    }
    return 0;
}

static int read_head(struct cf_prompt_cache *c, uint64_t bytes, struct cf_error *e) {
    unsigned char first[CF_CACHE_HEAD] = {0};
    struct cf_error why;
    if (read_at(c, 0, first, bytes < sizeof first ? (size_t)bytes : sizeof first, e)) return -1;
    if (cf_cache_read_head(&c->head, first, bytes, &why)) return named(c, &why, e);
    if (memcmp(&c->head.of, &c->of, sizeof c->of))
        return cf_fail(e, CF_ERR_FORMAT,
            "--prompt-cache %s belongs to another model, or to a cache of another kind; name another file, or remove "
            "it",
            c->path);
    unsigned char *all = malloc(c->head.head_bytes);
    c->page_hash = malloc(8ull * c->head.n_pages + 1), c->tokens = malloc(4ull * c->head.n_tokens + 1);
    int rc = all && c->page_hash && c->tokens ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for %s", c->path);
    if (!rc) rc = read_at(c, 0, all, c->head.head_bytes, e);
    if (!rc && cf_cache_read_tables(&c->head, all, c->page_hash, c->tokens, &why)) rc = named(c, &why, e);
    free(all);
    return rc;
}

int cf_prompt_cache_open(struct cf_prompt_cache *c, const char *path, const struct cf_job *j, struct cf_error *e) {
    struct stat st;
    c->path = path;
    c->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (c->fd < 0 && errno != ENOENT) return system_failed(c, "open", e);
    if (identify(&c->of, j, e)) return -1;
    if (c->fd < 0) return 0;
    if (fstat(c->fd, &st)) return system_failed(c, "open", e);
    if (!S_ISREG(st.st_mode)) return cf_fail(e, CF_ERR_FILE, "--prompt-cache %s is not a regular file", path);
    return read_head(c, (uint64_t)st.st_size, e);
}

uint32_t cf_prompt_cache_common(const struct cf_prompt_cache *c, const uint32_t *ids, size_t n) {
    uint32_t common = 0;
    while (common < n && common < c->head.n_tokens && ids[common] == c->tokens[common])
        common++;
    return common;
}

static int page_in(void *ctx, uint32_t page, void *out, struct cf_error *e) {
    const struct cf_prompt_cache *c = ctx;
    if (read_at(c, c->head.data + page * c->head.page_bytes, out, c->head.page_bytes, e)) return -1;
    if (XXH64(out, c->head.page_bytes, 0) == c->page_hash[page]) return 0;
    return cf_fail(
        e, CF_ERR_FORMAT, "--prompt-cache %s is damaged: page %u does not match its checksum", c->path, page);
}

int cf_prompt_cache_load(struct cf_prompt_cache *c, struct cf_job *j, uint32_t n, struct cf_error *e) {
    if (!n) return 0;
    if (c->head.page_bytes != cf_engine_kv_page_bytes(j->engine))
        return cf_fail(e, CF_ERR_FORMAT, "--prompt-cache %s has pages of %llu bytes, not %llu", c->path,
            (unsigned long long)c->head.page_bytes, (unsigned long long)cf_engine_kv_page_bytes(j->engine));
    return cf_engine_kv_import(j->engine, 0, n, page_in, c, e);
}

struct writer {
    const struct cf_prompt_cache *c;
    int fd;
    uint64_t data;
};

static int write_at(const struct writer *w, uint64_t at, const void *data, size_t n, struct cf_error *e) {
    for (const char *from = data; n;) {
        ssize_t put = pwrite(w->fd, from, n, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return system_failed(w->c, "write", e);
        from += put, at += (uint64_t)put, n -= (size_t)put;
    }
    return 0;
}

static int bytes_out(void *ctx, uint64_t offset, const void *data, size_t n, struct cf_error *e) {
    const struct writer *w = ctx;
    return write_at(w, w->data + offset, data, n, e);
}

/* The pages came in pieces and in no order: they are read again for their hashes. */
static int hash_pages(struct cf_prompt_cache *c, const struct cf_cache_head *h, uint64_t *hash, struct cf_error *e) {
    void *page = malloc(h->page_bytes + 1);
    int rc = page ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for a page of %s", c->path);
    for (uint32_t i = 0; !rc && i < h->n_pages; i++) {
        rc = read_at(c, h->data + i * h->page_bytes, page, h->page_bytes, e);
        if (!rc) hash[i] = XXH64(page, h->page_bytes, 0);
    }
    free(page);
    return rc;
}

static int write_all(
    const struct writer *w, struct cf_job *j, const struct cf_cache_head *h, const uint32_t *ids, struct cf_error *e) {
    struct cf_prompt_cache again = {.path = w->c->path, .fd = w->fd};
    uint64_t *hash = malloc(8ull * h->n_pages + 1);
    unsigned char *front = malloc(h->data);
    int rc = hash && front ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for %s", w->c->path);
    union {
        const struct writer *in;
        void *out;
    } ctx = {.in = w};
    if (!rc) rc = cf_engine_kv_export(j->engine, 0, h->n_tokens, bytes_out, ctx.out, e);
    if (!rc) rc = hash_pages(&again, h, hash, e);
    if (!rc) cf_cache_write(h, hash, ids, front);
    if (!rc) rc = write_at(w, 0, front, h->data, e);
    if (!rc && fsync(w->fd)) rc = system_failed(w->c, "write", e);
    free(hash);
    free(front);
    return rc;
}

int cf_prompt_cache_save(
    struct cf_prompt_cache *c, struct cf_job *j, const uint32_t *ids, uint32_t n, struct cf_error *e) {
    struct cf_cache_head h = {.of = c->of, .n_tokens = n, .page_bytes = cf_engine_kv_page_bytes(j->engine)};
    cf_cache_measure(&h);
    size_t room = strlen(c->path) + 16;
    char *name = malloc(room);
    if (!name) return cf_fail(e, CF_ERR_MEMORY, "no memory for the name of %s", c->path);
    snprintf(name, room, "%s.XXXXXX", c->path);
    struct writer w = {c, mkostemp(name, O_CLOEXEC), h.data};
    if (w.fd < 0) {
        free(name);
        return system_failed(c, "write beside", e);
    }
    mode_t mask = umask(0);
    umask(mask);
    int rc = fchmod(w.fd, 0666 & ~mask) ? system_failed(c, "write", e) : 0;
    if (!rc) rc = write_all(&w, j, &h, ids, e);
    if (close(w.fd) && !rc) rc = system_failed(c, "write", e);
    if (!rc && rename(name, c->path)) rc = system_failed(c, "rename", e);
    if (rc) unlink(name);
    free(name);
    return rc;
}

void cf_prompt_cache_close(struct cf_prompt_cache *c) {
    if (c->path && c->fd >= 0) close(c->fd);
    free(c->page_hash);
    free(c->tokens);
    memset(c, 0, sizeof *c);
}
