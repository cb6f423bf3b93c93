/* Writing a GGUF file from front to back: the header is gathered in memory, tensor bytes stream behind it. Until close
 * the file has no name (O_TMPFILE) or that of a temporary, so an interrupted run leaves no half a model. What is not a
 * regular file (a pipe, /dev/null) is written as it stands. See write.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/gguf/write.h"

enum { ALIGNMENT = 32, VERSION = 3, BUFFER = 1 << 20 };

struct bytes {
    unsigned char *at;
    size_t n, room;
};

struct cf_gguf_writer {
    char *path;      /* where the file shall appear */
    char *temporary; /* its name until then; NULL: it has none */
    int fd;
    bool direct;     /* `path` is no regular file, or a commit has nothing to rename */
    bool data, lost; /* the header is out; an error has made the file useless */
    struct bytes values, tensors, out;
    uint64_t n_values, n_tensors;
    uint64_t *sizes;        /* [n_tensors] bytes */
    uint64_t total;         /* of tensor data, padding included */
    uint64_t current, done; /* tensor being written, its bytes so far */
};

static int fail(struct cf_gguf_writer *w, struct cf_error *e, enum cf_code code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(struct cf_gguf_writer *w, struct cf_error *e, enum cf_code code, const char *format, ...) {
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    w->lost = true;
    return cf_fail(e, code, "%s: %s", w->path, text);
}

/* ---- the file and its name ---- */

static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static char *beside(const char *path) {
    size_t size = strlen(path) + 16;
    char *name = malloc(size);
    if (name) snprintf(name, size, "%s.part-XXXXXX", path);
    return name;
}

static int open_temporary(struct cf_gguf_writer *w) {
    char *folder = folder_of(w->path);
    if (!folder) return -1;
    w->fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    free(folder);
    if (w->fd >= 0) return 0;
    /* Not every file system knows nameless files. */
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return -1;
    w->temporary = beside(w->path);
    if (!w->temporary) return -1;
    w->fd = mkostemp(w->temporary, O_CLOEXEC);
    if (w->fd < 0) return -1;
    mode_t mask = umask(0);
    umask(mask);
    return fchmod(w->fd, 0666 & ~mask);
}

static int open_target(struct cf_gguf_writer *w, struct cf_error *e) {
    struct stat st;
    if (w->path[0] == 0) return fail(w, e, CF_ERR_FILE, "an empty file name");
    if (!stat(w->path, &st) && !S_ISREG(st.st_mode)) {
        w->direct = true;
        w->fd = open(w->path, O_WRONLY | O_CLOEXEC);
        return w->fd < 0 ? fail(w, e, CF_ERR_FILE, "%s", strerror(errno)) : 0;
    }
    char *real = realpath(w->path, NULL); /* the file behind a link is replaced, not the link */
    if (real) {
        free(w->path);
        w->path = real;
    }
    return open_temporary(w) ? fail(w, e, CF_ERR_FILE, "cannot create it: %s", strerror(errno)) : 0;
}

/* Gives the finished file its name. */
static int appear(struct cf_gguf_writer *w, struct cf_error *e) {
    if (w->direct) return 0;
    if (!w->temporary) {
        char self[64];
        snprintf(self, sizeof self, "/proc/self/fd/%d", w->fd);
        if (!linkat(AT_FDCWD, self, AT_FDCWD, w->path, AT_SYMLINK_FOLLOW)) return 0;
        if (errno != EEXIST) return fail(w, e, CF_ERR_FILE, "cannot name it: %s", strerror(errno));
        /* linkat replaces nothing: a free name first, then rename. */
        char *name = beside(w->path);
        int fd = name ? mkostemp(name, O_CLOEXEC) : -1;
        if (fd >= 0) close(fd);
        if (fd < 0 || unlink(name) || linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) {
            int status = fail(w, e, CF_ERR_FILE, "cannot name it: %s", strerror(errno));
            free(name);
            return status;
        }
        w->temporary = name;
    }
    if (rename(w->temporary, w->path)) return fail(w, e, CF_ERR_FILE, "cannot name it: %s", strerror(errno));
    free(w->temporary);
    w->temporary = NULL;
    return 0;
}

/* ---- bytes ---- */

static int append(struct cf_gguf_writer *w, struct bytes *b, const void *from, size_t n, struct cf_error *e) {
    if (n > b->room - b->n) {
        size_t room = b->room * 2 + n + 256;
        unsigned char *grown = realloc(b->at, room);
        if (!grown) return fail(w, e, CF_ERR_MEMORY, "no memory for its header");
        b->at = grown;
        b->room = room;
    }
    if (n) memcpy(b->at + b->n, from, n);
    b->n += n;
    return 0;
}

static int append_u32(struct cf_gguf_writer *w, struct bytes *b, uint32_t v, struct cf_error *e) {
    return append(w, b, &v, sizeof v, e);
}

static int append_u64(struct cf_gguf_writer *w, struct bytes *b, uint64_t v, struct cf_error *e) {
    return append(w, b, &v, sizeof v, e);
}

static int append_string(struct cf_gguf_writer *w, struct bytes *b, const char *s, size_t n, struct cf_error *e) {
    return append_u64(w, b, n, e) || append(w, b, s, n, e) ? -1 : 0;
}

static int write_all(struct cf_gguf_writer *w, const unsigned char *from, size_t n, struct cf_error *e) {
    while (n) {
        ssize_t put = write(w->fd, from, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail(w, e, CF_ERR_FILE, "cannot write: %s", strerror(errno));
        from += put;
        n -= (size_t)put;
    }
    return 0;
}

static int flush(struct cf_gguf_writer *w, struct cf_error *e) {
    size_t n = w->out.n;
    w->out.n = 0;
    return write_all(w, w->out.at, n, e);
}

static int put(struct cf_gguf_writer *w, const void *from, size_t n, struct cf_error *e) {
    if (w->out.n + n > BUFFER && flush(w, e)) return -1;
    return n >= BUFFER ? write_all(w, from, n, e) : append(w, &w->out, from, n, e);
}

/* ---- values ---- */

static int begin_value(struct cf_gguf_writer *w, const char *key, uint32_t kind, struct cf_error *e) {
    if (w->data) return fail(w, e, CF_ERR_FORMAT, "value %s comes after the tensor data has begun", key);
    w->n_values++;
    return append_string(w, &w->values, key, strlen(key), e) || append_u32(w, &w->values, kind, e) ? -1 : 0;
}

static int add_scalar(
    struct cf_gguf_writer *w, const char *key, uint32_t kind, const void *v, size_t n, struct cf_error *e) {
    return begin_value(w, key, kind, e) || append(w, &w->values, v, n, e) ? -1 : 0;
}

int cf_gguf_add_u32(struct cf_gguf_writer *w, const char *key, uint32_t v, struct cf_error *e) {
    return add_scalar(w, key, CF_GGUF_U32, &v, sizeof v, e);
}

int cf_gguf_add_f32(struct cf_gguf_writer *w, const char *key, float v, struct cf_error *e) {
    return add_scalar(w, key, CF_GGUF_F32, &v, sizeof v, e);
}

int cf_gguf_add_bool(struct cf_gguf_writer *w, const char *key, bool v, struct cf_error *e) {
    uint8_t b = v;
    return add_scalar(w, key, CF_GGUF_BOOL, &b, sizeof b, e);
}

int cf_gguf_add_str(struct cf_gguf_writer *w, const char *key, const char *v, struct cf_error *e) {
    return begin_value(w, key, CF_GGUF_STRING, e) || append_string(w, &w->values, v, strlen(v), e) ? -1 : 0;
}

static int begin_array(struct cf_gguf_writer *w, const char *key, uint32_t kind, size_t n, struct cf_error *e) {
    return begin_value(w, key, CF_GGUF_ARRAY, e) || append_u32(w, &w->values, kind, e) ||
                   append_u64(w, &w->values, n, e)
               ? -1
               : 0;
}

int cf_gguf_add_strings(
    struct cf_gguf_writer *w, const char *key, const struct cf_gguf_string *v, size_t n, struct cf_error *e) {
    if (begin_array(w, key, CF_GGUF_STRING, n, e)) return -1;
    for (size_t i = 0; i < n; i++) {
        if (append_string(w, &w->values, v[i].text, v[i].length, e)) return -1;
    }
    return 0;
}

/* Bytes of a number; 0: the kind is none. */
static size_t width_of(enum cf_gguf_kind kind) {
    static const uint8_t widths[] = {[CF_GGUF_U8] = 1,
        [CF_GGUF_I8] = 1,
        [CF_GGUF_U16] = 2,
        [CF_GGUF_I16] = 2,
        [CF_GGUF_U32] = 4,
        [CF_GGUF_I32] = 4,
        [CF_GGUF_F32] = 4,
        [CF_GGUF_BOOL] = 1,
        [CF_GGUF_U64] = 8,
        [CF_GGUF_I64] = 8,
        [CF_GGUF_F64] = 8};
    return (size_t)kind < sizeof widths ? widths[kind] : 0;
}

int cf_gguf_add_numbers(
    struct cf_gguf_writer *w, const char *key, enum cf_gguf_kind kind, const void *v, size_t n, struct cf_error *e) {
    size_t width = width_of(kind);
    if (!width) return fail(w, e, CF_ERR_FORMAT, "value %s: kind %d is no kind of number", key, (int)kind);
    return begin_array(w, key, kind, n, e) || append(w, &w->values, v, n * width, e) ? -1 : 0;
}

int cf_gguf_add_value(struct cf_gguf_writer *w, const struct cf_gguf_value *v, struct cf_error *e) {
    if (v->kind == CF_GGUF_ARRAY && v->element == CF_GGUF_STRING)
        return cf_gguf_add_strings(w, v->key, v->array, v->count, e);
    if (v->kind == CF_GGUF_ARRAY) return cf_gguf_add_numbers(w, v->key, v->element, v->array, v->count, e);
    if (v->kind == CF_GGUF_STRING)
        return begin_value(w, v->key, v->kind, e) || append_string(w, &w->values, v->s.text, v->s.length, e) ? -1 : 0;
    const float f = (float)v->f;
    const void *bytes = v->kind == CF_GGUF_F32   ? (const void *)&f
                        : v->kind == CF_GGUF_F64 ? (const void *)&v->f
                                                 : &v->u;
    return add_scalar(w, v->key, v->kind, bytes, width_of(v->kind), e); /* the low bytes of u or i come first */
}

/* ---- tensors ---- */

static uint64_t padded(uint64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int tensor_bytes(struct cf_gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
    uint64_t *bytes, struct cf_error *e) {
    const struct cf_type *t = cf_type_by_id(type);
    if (!t) return fail(w, e, CF_ERR_UNSUPPORTED, "tensor %s: type %" PRIu32 " cannot be written", name, type);
    if (n_dims < 1 || n_dims > 4) return fail(w, e, CF_ERR_FORMAT, "tensor %s: %" PRIu32 " dimensions", name, n_dims);
    if (ne[0] % t->block) {
        return fail(w, e, CF_ERR_FORMAT,
            "tensor %s: rows of %" PRIu64 " elements, but type %s comes in blocks of %" PRIu32, name, ne[0], t->name,
            t->block);
    }
    bool over = __builtin_mul_overflow(ne[0] / t->block, (uint64_t)t->block_bytes, bytes);
    for (uint32_t i = 1; i < n_dims; i++)
        over |= __builtin_mul_overflow(*bytes, ne[i], bytes);
    if (over || *bytes > INT64_MAX - w->total - ALIGNMENT || *bytes == 0)
        return fail(w, e, CF_ERR_FORMAT, "tensor %s: its size is zero or too large", name);
    return 0;
}

int cf_gguf_add_tensor(struct cf_gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
    struct cf_error *e) {
    uint64_t bytes = 0;
    if (w->data) return fail(w, e, CF_ERR_FORMAT, "tensor %s comes after the tensor data has begun", name);
    if (tensor_bytes(w, name, type, n_dims, ne, &bytes, e)) return -1;
    uint64_t *sizes = realloc(w->sizes, (w->n_tensors + 1) * sizeof *sizes);
    if (!sizes) return fail(w, e, CF_ERR_MEMORY, "no memory for its header");
    w->sizes = sizes;
    w->sizes[w->n_tensors++] = bytes;
    uint64_t offset = w->total;
    w->total += padded(bytes);
    struct bytes *b = &w->tensors;
    return append_string(w, b, name, strlen(name), e) || append_u32(w, b, n_dims, e) ||
                   append(w, b, ne, n_dims * sizeof *ne, e) || append_u32(w, b, type, e) || append_u64(w, b, offset, e)
               ? -1
               : 0;
}

static int pad(struct cf_gguf_writer *w, uint64_t n, struct cf_error *e) {
    static const unsigned char zeros[ALIGNMENT];
    return put(w, zeros, (size_t)(padded(n) - n), e);
}

int cf_gguf_begin_data(struct cf_gguf_writer *w, struct cf_error *e) {
    struct bytes *out = &w->out;
    if (w->data) return fail(w, e, CF_ERR_FORMAT, "the tensor data has begun already");
    w->data = true;
    if (append(w, out, "GGUF", 4, e) || append_u32(w, out, VERSION, e) || append_u64(w, out, w->n_tensors, e) ||
        append_u64(w, out, w->n_values, e))
        return -1;
    uint64_t header = out->n + w->values.n + w->tensors.n;
    /* Asking for all of it now tells of a full disk before the work and not after it. */
    if (!w->direct && fallocate(w->fd, 0, 0, (off_t)(padded(header) + w->total)) &&
        (errno == ENOSPC || errno == EFBIG)) {
        return fail(
            w, e, CF_ERR_FILE, "cannot write %" PRIu64 " bytes: %s", padded(header) + w->total, strerror(errno));
    }
    if (put(w, w->values.at, w->values.n, e) || put(w, w->tensors.at, w->tensors.n, e)) return -1;
    return pad(w, header, e);
}

int cf_gguf_write_data(struct cf_gguf_writer *w, const void *bytes, size_t n, struct cf_error *e) {
    const unsigned char *from = bytes;
    if (!w->data) return fail(w, e, CF_ERR_FORMAT, "tensor data before its header");
    while (n) {
        if (w->current == w->n_tensors) return fail(w, e, CF_ERR_FORMAT, "more tensor data than the tensors have");
        uint64_t left = w->sizes[w->current] - w->done;
        size_t m = n < left ? n : (size_t)left;
        if (put(w, from, m, e)) return -1;
        from += m;
        n -= m;
        w->done += m;
        if (m < left) break;
        if (pad(w, w->done, e)) return -1;
        w->current++;
        w->done = 0;
    }
    return 0;
}

int cf_gguf_skip_data(struct cf_gguf_writer *w, struct cf_error *e) {
    if (!w->data || w->current || w->done) return fail(w, e, CF_ERR_FORMAT, "no hole: tensor data has been written");
    if (flush(w, e)) return -1;
    off_t header = lseek(w->fd, 0, SEEK_CUR);
    if (header < 0 || ftruncate(w->fd, header + (off_t)w->total))
        return fail(w, e, CF_ERR_FILE, "no hole of %" PRIu64 " bytes: %s", w->total, strerror(errno));
    w->current = w->n_tensors;
    return 0;
}

/* ---- beginning and end ---- */

static struct cf_gguf_writer *new_writer(const char *path, struct cf_error *e) {
    struct cf_gguf_writer *w = calloc(1, sizeof *w);
    if (w) {
        w->fd = -1;
        w->path = strdup(path);
        w->out.at = malloc(w->out.room = BUFFER);
        if (w->path && w->out.at) return w;
    }
    cf_gguf_writer_close(w, false, NULL);
    cf_fail(e, CF_ERR_MEMORY, "%s: no memory", path);
    return NULL;
}

int cf_gguf_writer_open(struct cf_gguf_writer **out, const char *path, struct cf_error *e) {
    *out = new_writer(path, e);
    if (!*out) return -1;
    if (!open_target(*out, e)) return 0;
    cf_gguf_writer_close(*out, false, NULL);
    *out = NULL;
    return -1;
}

int cf_gguf_writer_open_fd(struct cf_gguf_writer **out, int fd, const char *name, struct cf_error *e) {
    *out = new_writer(name, e);
    if (!*out) return -1;
    (*out)->direct = true;
    (*out)->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if ((*out)->fd >= 0 && lseek(fd, 0, SEEK_SET) == 0) return 0;
    cf_fail(e, CF_ERR_FILE, "%s: %s", name, strerror(errno));
    cf_gguf_writer_close(*out, false, NULL);
    *out = NULL;
    return -1;
}

static int finish(struct cf_gguf_writer *w, struct cf_error *e) {
    if (w->lost) return cf_fail(e, CF_ERR_FILE, "%s: not written after an earlier error", w->path);
    if (!w->data || w->current != w->n_tensors) {
        return fail(
            w, e, CF_ERR_FORMAT, "only %" PRIu64 " of %" PRIu64 " tensors have been written", w->current, w->n_tensors);
    }
    return flush(w, e) || appear(w, e) ? -1 : 0;
}

int cf_gguf_writer_close(struct cf_gguf_writer *w, bool commit, struct cf_error *e) {
    if (!w) return 0;
    int status = commit ? finish(w, e) : 0;
    /* Some file systems report a full disk only here. */
    if (w->fd >= 0 && close(w->fd) && commit && !status) {
        status = fail(w, e, CF_ERR_FILE, "cannot write: %s", strerror(errno));
        if (!w->direct) unlink(w->path);
    }
    if (w->temporary) unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    free(w->values.at);
    free(w->tensors.at);
    free(w->out.at);
    free(w->sizes);
    free(w);
    return status;
}
