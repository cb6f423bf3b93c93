/* Random weights for `coffer synth` and `coffer bench --synthetic`: the same bytes for the same seed on every machine,
 * any part of a tensor by itself, and about as fast as memory takes them.
 *
 * An element is the sum of the four bytes of a hash of its number (nearly normal, integers only), scaled to the spread
 * of its tensor. Of large tensors only POOL elements are made and encoded, the same for all layers; such a tensor is a
 * random sequence of pieces of these, another one in each layer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "coordinator/commands/synth/synth.h"
#include "node/kernels/type.h"
#include "node/quant/encode.h"

enum {
    POOL = 1 << 20,  /* elements; tensors of more are sequences */
    DRAWN = 1 << 12, /* elements that are encoded at a time: whole blocks of any type */
    PIECE = 1 << 20, /* bytes of one write */
};

/* The finalizer of MurmurHash3 over a counter: no state, and the compiler makes vectors of it. */
static inline uint32_t hash_of(uint32_t key, uint32_t counter) {
    uint32_t x = counter * 0x9e3779b9u + key;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* out[n]: elements first.. of a tensor. Four bytes of 0 to 255 sum to 510 +- 147.8. */
static void draw(const struct cf__synth_tensor *x, uint32_t key, uint32_t first, float *out, uint32_t n) {
    const float scale = x->spread / 147.8f;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t h = hash_of(key, first + i);
        int32_t sum = (int32_t)((h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24)) - 510;
        out[i] = x->mean + scale * (float)sum;
    }
}

/* Elements [first, first + n), n <= DRAWN, as the type encodes them. */
static int encode(
    const struct cf__synth_tensor *x, uint32_t key, uint32_t first, uint32_t n, void *out, struct cf_error *e) {
    float values[DRAWN];
    if (x->given)
        memcpy(values, x->given + first, n * sizeof(float));
    else
        draw(x, key, first, values, n);
    if (!cf_encode(x->type->id, values, out, n)) return 0;
    return cf_fail(e, CF_ERR_UNSUPPORTED, "tensor %s: type %s cannot be written", x->name, x->type->name);
}

/* ---- large tensors ---- */

static int make_pool(
    const struct cf__synth_tensors *t, struct cf__synth_pool *p, const struct cf__synth_tensor *x, struct cf_error *e) {
    const size_t piece = DRAWN / x->type->block * x->type->block_bytes;
    const uint32_t key = (uint32_t)XXH64(x->role, strlen(x->role), t->seed);
    *p = (struct cf__synth_pool){x->role, x->type, malloc(POOL / DRAWN * piece)};
    int status = p->bytes ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory");
    for (uint32_t i = 0; i < POOL / DRAWN && !status; i++)
        status = encode(x, key, i * DRAWN, DRAWN, p->bytes + i * piece, e);
    if (status) free(p->bytes);
    return status;
}

/* The pool of the tensor's role; the thread that comes first makes it. NULL after an error. */
static const unsigned char *pool_of(struct cf__synth_tensors *t, const struct cf__synth_tensor *x, struct cf_error *e) {
    const unsigned char *bytes = NULL;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n_pools && !bytes; i++)
        if (t->pools[i].role == x->role && t->pools[i].type == x->type) bytes = t->pools[i].bytes;
    if (!bytes && t->n_pools == CF__SYNTH_POOLS) {
        cf_fail(e, CF_ERR_LIMIT, "tensor %s: too many roles", x->name);
    } else if (!bytes && !make_pool(t, &t->pools[t->n_pools], x, e)) {
        bytes = t->pools[t->n_pools++].bytes;
    }
    pthread_mutex_unlock(&t->lock);
    return bytes;
}

/* Units of `unit` elements, each a copy of one of the POOL / unit that are encoded. */
static void copy_units(const struct cf__synth_tensor *x, uint32_t key, const unsigned char *pool, uint64_t offset,
    unsigned char *out, size_t n) {
    const uint32_t unit = x->type->block > 32 ? x->type->block : 32, mask = POOL / unit - 1;
    const size_t unit_bytes = unit / x->type->block * x->type->block_bytes;
    size_t skip = (size_t)(offset % unit_bytes);
    for (uint64_t u = offset / unit_bytes; n; u++) {
        uint32_t pick = hash_of(key ^ (uint32_t)(u >> 32), (uint32_t)u) & mask;
        size_t m = unit_bytes - skip < n ? unit_bytes - skip : n;
        memcpy(out, pool + pick * unit_bytes + skip, m);
        out += m, n -= m, skip = 0;
    }
}

/* ---- any tensor ---- */

static int encode_part(
    const struct cf__synth_tensor *x, uint32_t key, uint64_t offset, unsigned char *out, size_t n, struct cf_error *e) {
    unsigned char encoded[DRAWN * sizeof(float)];
    const uint64_t piece = DRAWN / x->type->block * x->type->block_bytes;
    while (n) {
        uint64_t at = offset / piece, skip = offset % piece, first = at * DRAWN, left = x->elements - first;
        size_t m = (size_t)(piece - skip) < n ? (size_t)(piece - skip) : n;
        if (encode(x, key, (uint32_t)first, left < DRAWN ? (uint32_t)left : DRAWN, encoded, e)) return -1;
        memcpy(out, encoded + skip, m);
        out += m, offset += m, n -= m;
    }
    return 0;
}

int cf__synth_bytes(struct cf__synth_tensors *t, const struct cf__synth_tensor *x, uint64_t offset, void *buf, size_t n,
    struct cf_error *e) {
    uint64_t key = XXH64(x->name, strlen(x->name), t->seed);
    if (x->elements <= POOL) return encode_part(x, (uint32_t)key, offset, buf, n, e);
    const unsigned char *pool = pool_of(t, x, e);
    if (!pool) return -1;
    copy_units(x, (uint32_t)(key >> 32), pool, offset, buf, n);
    return 0;
}

/* ---- into a file ---- */

struct progress {
    uint64_t done, total;
    double shown; /* seconds */
    bool terminal;
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void show(struct progress *p, uint64_t n) {
    p->done += n;
    double now = seconds();
    if (!p->terminal || now - p->shown < 0.5) return;
    p->shown = now;
    fprintf(stderr, "\r%3.0f %% of %.1f GB", 100.0 * (double)p->done / (double)p->total, 1e-9 * (double)p->total);
}

static int write_tensor(struct cf__synth_tensors *t, const struct cf__synth_tensor *x, char *piece,
    struct cf_gguf_writer *w, struct progress *p, struct cf_error *e) {
    for (uint64_t at = 0; at < x->bytes;) {
        size_t n = x->bytes - at < PIECE ? (size_t)(x->bytes - at) : PIECE;
        if (cf__synth_bytes(t, x, at, piece, n, e) || cf_gguf_write_data(w, piece, n, e)) return -1;
        show(p, n);
        at += n;
    }
    return 0;
}

int cf__synth_tensors_write(struct cf__synth_tensors *t, struct cf_gguf_writer *w, bool hole, struct cf_error *e) {
    struct progress p = {.total = t->bytes, .shown = seconds(), .terminal = isatty(STDERR_FILENO)};
    for (size_t i = 0; i < t->n; i++) {
        const struct cf__synth_tensor *x = &t->list[i];
        if (cf_gguf_add_tensor(w, x->name, x->type->id, x->n_dims, x->ne, e)) return -1;
    }
    if (cf_gguf_begin_data(w, e)) return -1;
    if (hole) return cf_gguf_skip_data(w, e);
    char *piece = malloc(PIECE);
    if (!piece) return cf_fail(e, CF_ERR_MEMORY, "no memory");
    int status = 0;
    for (size_t i = 0; i < t->n && !status; i++)
        status = write_tensor(t, &t->list[i], piece, w, &p, e);
    free(piece);
    if (p.terminal) fprintf(stderr, "\r\033[K");
    return status;
}
