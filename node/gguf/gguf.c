/* Opening a GGUF file or a split set, and look-ups. See gguf.h; internal.h lists the other parts. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/gguf/internal.h"

/* ---- one file ---- */

static int open_file(struct cf__file *f, const char *path, struct cf_error *e) {
    struct stat st;
    *f = (struct cf__file){.path = strdup(path), .fd = -1, .direct_fd = -1, .alignment = 32};
    if (!f->path) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory", path);
    /* O_NONBLOCK: a pipe of that name must not hold us up. */
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    if (fstat(f->fd, &st)) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return cf_fail(e, CF_ERR_FILE, "%s: not a regular file", path);
    f->size = (uint64_t)st.st_size;
    return 0;
}

static void close_file(struct cf__file *f) {
    if (f->fd >= 0) close(f->fd);
    if (f->direct_fd >= 0) close(f->direct_fd);
    free(f->path);
    free(f->values);
}

static int read_magic(struct cf__scan *c, struct cf__file *f) {
    char magic[4];
    snprintf(c->field, sizeof c->field, "magic");
    if (cf__take(c, magic, sizeof magic)) return -1;
    if (!memcmp(magic, "FUGG", 4))
        return cf__bad(c, CF_ERR_UNSUPPORTED, "a big-endian GGUF file; only little-endian ones can be read");
    if (memcmp(magic, "GGUF", 4)) {
        return cf__bad(c, CF_ERR_FORMAT, "not a GGUF file (it begins with bytes %02x %02x %02x %02x)",
            (uint8_t)magic[0], (uint8_t)magic[1], (uint8_t)magic[2], (uint8_t)magic[3]);
    }
    snprintf(c->field, sizeof c->field, "version");
    if (cf__take(c, &f->version, sizeof f->version)) return -1;
    if (f->version && !(f->version & 0xffff))
        return cf__bad(c, CF_ERR_UNSUPPORTED, "a big-endian GGUF file; only little-endian ones can be read");
    if (f->version < 2 || f->version > 3)
        return cf__bad(c, CF_ERR_UNSUPPORTED, "GGUF version %" PRIu32 "; versions 2 and 3 can be read", f->version);
    return 0;
}

/* A count, at most limit, of things that take `least` bytes each in the rest of the file. */
static int read_count(struct cf__scan *c, const char *field, uint64_t limit, uint64_t least, uint64_t *n) {
    snprintf(c->field, sizeof c->field, "%s", field);
    if (cf__take(c, n, sizeof *n)) return -1;
    if (*n > limit) return cf__bad(c, CF_ERR_LIMIT, "%" PRIu64 " is above the limit of %" PRIu64, *n, limit);
    if (*n > cf__left(c) / least) {
        return cf__bad(c, CF_ERR_FORMAT,
            "%" PRIu64 " of them cannot stand in the %" PRIu64 " bytes that are left of the file", *n, cf__left(c));
    }
    return 0;
}

static int read_alignment(struct cf__scan *c, struct cf__file *f) {
    snprintf(c->field, sizeof c->field, "value general.alignment");
    int found = cf__file_integer(f, "general.alignment", &f->alignment, c->e);
    if (found < 0) return -1;
    if (f->alignment < 1 || f->alignment > CF__MAX_ALIGNMENT || (f->alignment & (f->alignment - 1))) {
        return cf__bad(
            c, CF_ERR_FORMAT, "%" PRIu64 " is no power of two from 1 to %d", f->alignment, CF__MAX_ALIGNMENT);
    }
    f->data = (c->pos + f->alignment - 1) & ~(f->alignment - 1);
    return 0;
}

static int parse_file(struct cf_gguf *g, uint32_t number, struct cf__scan *c) {
    struct cf__file *f = &g->files[number];
    uint64_t n_tensors, n_values;
    size_t first = g->n_tensors;
    /* The least tensor: length, 1 byte of name, dimensions, one of them, type, offset. The least value: length, 1 byte
     * of key, kind, 1 byte. */
    if (read_magic(c, f) || read_count(c, "tensor count", CF__MAX_TENSORS, 8 + 1 + 4 + 8 + 4 + 8, &n_tensors) ||
        read_count(c, "value count", CF__MAX_VALUES, 8 + 1 + 4 + 1, &n_values) || cf__read_values(c, f, n_values) ||
        cf__read_tensors(c, g, number, n_tensors) || read_alignment(c, f))
        return -1;
    cf__scan_finish(c);
    return cf__place_tensors(c, g, number, first);
}

static int add_file(struct cf_gguf *g, const char *path, XXH64_state_t *hash, struct cf_error *e) {
    struct cf__file *grown = realloc(g->files, (g->n_files + 1) * sizeof *grown);
    if (!grown) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory", path);
    g->files = grown;
    uint32_t number = g->n_files++;
    if (open_file(&g->files[number], path, e)) return -1;
    struct cf__scan *c = malloc(sizeof *c);
    if (!c) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory", path);
    c->file = &g->files[number];
    c->pool = &g->pool;
    c->hash = hash;
    c->e = e;
    c->pos = c->at = c->filled = 0;
    int status = parse_file(g, number, c);
    g->bytes += g->files[number].size;
    free(c);
    return status;
}

/* ---- sorted tables: the first member of each item is its name ---- */

static const char *name_of(const void *item) {
    return *(const char *const *)item;
}

static int compare_items(const void *a, const void *b) {
    return strcmp(name_of(*(const void *const *)a), name_of(*(const void *const *)b));
}

static int compare_name(const void *name, const void *b) {
    return strcmp(name, name_of(*(const void *const *)b));
}

/* items[n] of `size` bytes each -> pointers to them, sorted. *twice: an item whose name occurs before, or NULL. */
static const void **sort_items(const void *items, size_t n, size_t size, const void **twice) {
    const void **sorted = malloc((n + 1) * sizeof *sorted);
    *twice = NULL;
    if (!sorted) return NULL;
    for (size_t i = 0; i < n; i++)
        sorted[i] = (const char *)items + i * size;
    qsort(sorted, n, sizeof *sorted, compare_items);
    for (size_t i = 1; i < n; i++) {
        if (!strcmp(name_of(sorted[i - 1]), name_of(sorted[i])))
            *twice = sorted[i - 1] > sorted[i] ? sorted[i - 1] : sorted[i];
    }
    return sorted;
}

static const void *find_item(const void **sorted, size_t n, const char *name) {
    const void **found = n ? bsearch(name, sorted, n, sizeof *sorted, compare_name) : NULL;
    return found ? *found : NULL;
}

static int sort_tables(struct cf_gguf *g, struct cf_error *e) {
    char shown[100];
    const void *twice;
    g->by_key = sort_items(g->files[0].values, g->files[0].n_values, sizeof *g->files[0].values, &twice);
    if (!g->by_key) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory", g->path);
    if (twice) {
        return cf_fail(e, CF_ERR_FORMAT, "%s: value %s occurs twice", g->files[0].path,
            cf__printable(shown, sizeof shown, name_of(twice), strlen(name_of(twice))));
    }
    g->by_name = sort_items(g->tensors, g->n_tensors, sizeof *g->tensors, &twice);
    if (!g->by_name) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory", g->path);
    if (twice) {
        return cf_fail(e, CF_ERR_FORMAT, "%s: tensor %s occurs twice",
            g->files[((const struct cf_gguf_tensor *)twice)->file].path,
            cf__printable(shown, sizeof shown, name_of(twice), strlen(name_of(twice))));
    }
    return 0;
}

/* ---- the set ---- */

/* split.no and split.count of one file; 0 and 1 where it is no part of a set. */
static int split_numbers(const struct cf__file *f, uint64_t *no, uint64_t *count, struct cf_error *e) {
    *no = 0;
    *count = 1;
    if (cf__file_integer(f, "split.no", no, e) < 0 || cf__file_integer(f, "split.count", count, e) < 0) return -1;
    if (*count == 0) *count = 1; /* llama.cpp writes 0 into a merged file */
    if (*count > CF__MAX_FILES)
        return cf_fail(e, CF_ERR_LIMIT, "%s: value split.count: %" PRIu64 " is above the limit of %d", f->path, *count,
            CF__MAX_FILES);
    if (*no >= *count) {
        return cf_fail(e, CF_ERR_FORMAT, "%s: value split.no: %" PRIu64 " is not below split.count, %" PRIu64, f->path,
            *no, *count);
    }
    return 0;
}

static void forget_files(struct cf_gguf *g) {
    for (uint32_t i = 0; i < g->n_files; i++)
        close_file(&g->files[i]);
    g->n_files = 0;
    g->n_tensors = 0;
    g->bytes = 0;
}

/* Member `no` (from 0) of the set of `count` files that the caller's path belongs to. */
static int add_member(struct cf_gguf *g, uint64_t no, uint64_t count, XXH64_state_t *hash, struct cf_error *e) {
    uint32_t named;
    char *path = cf__split_path(g->path, (uint32_t)no + 1, &named);
    if (!path || named != count) {
        free(path);
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: value split.count: the model has %" PRIu64 " files, so their names must end in -00001-of-%05" PRIu64
            ".gguf and so on",
            g->path, count, count);
    }
    int status = add_file(g, path, hash, e);
    uint64_t its_no, its_count;
    if (!status) status = split_numbers(&g->files[g->n_files - 1], &its_no, &its_count, e);
    if (!status && (its_no != no || its_count != count)) {
        status = cf_fail(e, CF_ERR_FORMAT,
            "%s: value split.no: the file says that it is number %" PRIu64 " of %" PRIu64
            ", but its name and the set say %" PRIu64 " of %" PRIu64,
            path, its_no, its_count, no, count);
    }
    free(path);
    return status;
}

static int read_set(struct cf_gguf *g, XXH64_state_t *hash, struct cf_error *e) {
    uint64_t no, count, promised;
    if (add_file(g, g->path, hash, e) || split_numbers(&g->files[0], &no, &count, e)) return -1;
    if (count == 1) return 0;
    if (no != 0) {
        /* A later member was named: begin again with the first. */
        forget_files(g);
        XXH64_reset(hash, 0);
        if (add_member(g, 0, count, hash, e)) return -1;
    }
    for (uint64_t i = 1; i < count; i++) {
        if (add_member(g, i, count, hash, e)) return -1;
    }
    int found = cf__file_integer(&g->files[0], "split.tensors.count", &promised, e);
    if (found > 0 && promised != g->n_tensors) {
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: value split.tensors.count: %" PRIu64 " tensors promised, but the %" PRIu64 " files hold %zu",
            g->files[0].path, promised, count, g->n_tensors);
    }
    return found < 0 ? -1 : 0;
}

int cf_gguf_open(struct cf_gguf **out, const char *path, struct cf_error *e) {
    *out = NULL;
    struct cf_gguf *g = calloc(1, sizeof *g);
    XXH64_state_t *hash = XXH64_createState();
    int status = -1;
    if (g) g->path = strdup(path);
    if (g && g->path && hash) {
        XXH64_reset(hash, 0);
        status = read_set(g, hash, e) || sort_tables(g, e) ? -1 : 0;
        g->hash = XXH64_digest(hash);
    } else {
        cf_fail(e, CF_ERR_MEMORY, "%s: no memory", path);
    }
    XXH64_freeState(hash);
    if (status)
        cf_gguf_close(g);
    else
        *out = g;
    return status;
}

void cf_gguf_close(struct cf_gguf *g) {
    if (!g) return;
    forget_files(g);
    cf__pool_free(&g->pool);
    free(g->files);
    free(g->tensors);
    free(g->by_key);
    free(g->by_name);
    free(g->path);
    free(g);
}

/* ---- what is in it ---- */

const char *cf_gguf_path(const struct cf_gguf *g) {
    return g->path;
}
uint32_t cf_gguf_version(const struct cf_gguf *g) {
    return g->files[0].version;
}
uint32_t cf_gguf_files(const struct cf_gguf *g) {
    return g->n_files;
}

struct cf_gguf_file cf_gguf_file(const struct cf_gguf *g, uint32_t i) {
    const struct cf__file *f = &g->files[i];
    return (struct cf_gguf_file){f->path, f->size, f->data < f->size ? f->data : f->size};
}

void cf_gguf_identity(const struct cf_gguf *g, uint64_t *bytes, uint64_t *hash) {
    *bytes = g->bytes;
    *hash = g->hash;
}

size_t cf_gguf_n_values(const struct cf_gguf *g) {
    return g->files[0].n_values;
}

const struct cf_gguf_value *cf_gguf_value_at(const struct cf_gguf *g, size_t i) {
    return i < g->files[0].n_values ? &g->files[0].values[i] : NULL;
}

const struct cf_gguf_value *cf_gguf_value(const struct cf_gguf *g, const char *key) {
    return find_item(g->by_key, g->files[0].n_values, key);
}

size_t cf_gguf_n_tensors(const struct cf_gguf *g) {
    return g->n_tensors;
}

const struct cf_gguf_tensor *cf_gguf_tensor_at(const struct cf_gguf *g, size_t i) {
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const struct cf_gguf_tensor *cf_gguf_tensor(const struct cf_gguf *g, const char *name) {
    return find_item(g->by_name, g->n_tensors, name);
}

void cf_gguf_fill(struct cf_gguf *g, cf_gguf_fill_fn *fill, void *ctx) {
    g->fill = fill, g->fill_ctx = ctx;
}
