/* Private to node/gguf: what the parts of the reader share.
 *
 *   gguf.c     opening, the set of files, look-ups           pool.c     memory that lives as long as the reader
 *   cursor.c   the bytes of one header, in order             values.c   keys and values
 *   tensors.c  the tensor table and its proofs               split.c    names and numbers of split sets
 *   read.c     tensor bytes, through the page cache or not   flight.c   the same, while the caller works
 */
#ifndef COFFER_NODE_GGUF_INTERNAL_H
#define COFFER_NODE_GGUF_INTERNAL_H

#include <stdint.h>
#include <xxhash.h>

#include "node/gguf/gguf.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF files are little-endian, and so must the machine be"
#endif

/* Bounds of our own, all far above any real model; the remaining bytes of the file bound everything a second time. */
enum {
    CF__MAX_KEY = 65535,        /* bytes, as in the specification */
    CF__MAX_NAME = 255,         /* bytes of a tensor name; llama.cpp allows 63 */
    CF__MAX_STRING = 256 << 20, /* bytes */
    CF__MAX_ARRAY = 256 << 20,  /* elements */
    CF__MAX_VALUES = 1 << 20,
    CF__MAX_TENSORS = 1 << 20,
    CF__MAX_ALIGNMENT = 1 << 20,
    CF__MAX_FILES = 512,
};

/* Memory that is given back only as a whole. */
struct cf__pool {
    struct cf__pool_chunk *chunks;
};
/* NULL if memory is short. The address is a multiple of align (a power of two up to 16). */
void *cf__pool_alloc(struct cf__pool *p, size_t n, size_t align);
void cf__pool_free(struct cf__pool *p);

struct cf__file {
    char *path;
    int fd;
    int direct_fd; /* opened with O_DIRECT, or -1 */
    uint64_t size;
    uint32_t version;
    uint64_t alignment;
    uint64_t data; /* where tensor bytes begin; tensor offsets in the file count from here */
    struct cf_gguf_value *values;
    size_t n_values;
};

struct cf_gguf {
    char *path; /* as the caller gave it */
    struct cf__file *files;
    uint32_t n_files;
    struct cf_gguf_tensor *tensors;
    size_t n_tensors;
    const void **by_key;  /* [files[0].n_values] sorted by key */
    const void **by_name; /* [n_tensors] sorted by name */
    uint64_t bytes, hash;
    size_t direct_align;   /* of addresses, offsets and sizes of direct reads; 0: none are done */
    cf_gguf_fill_fn *fill; /* where tensor bytes come from; NULL: the files */
    void *fill_ctx;
    struct cf__pool pool;
};

/* Reads one file from its beginning, in order. Every failure names the file and `field`. */
struct cf__scan {
    const struct cf__file *file;
    struct cf__pool *pool;
    XXH64_state_t *hash; /* takes all bytes that were read */
    struct cf_error *e;
    char field[128]; /* what is being read, for messages */
    uint64_t pos;    /* of the next byte */
    size_t at, filled;
    unsigned char buffer[1 << 18];
};

int cf__take(struct cf__scan *c, void *dst, size_t n);
/* A length of 8 bytes and that many bytes; length at most limit. Lives in the pool. */
int cf__take_string(struct cf__scan *c, size_t limit, struct cf_gguf_string *s);
/* Hands the bytes read so far to the hash. */
void cf__scan_finish(struct cf__scan *c);
static inline uint64_t cf__left(const struct cf__scan *c) {
    return c->file->size - c->pos;
}
/* "FILE: FIELD: text"; returns -1. */
int cf__bad(const struct cf__scan *c, enum cf_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A stranger's text, fit for a terminal: at most size - 1 bytes, no control characters. Returns buf. */
const char *cf__printable(char *buf, size_t size, const char *text, size_t length);

/* n values -> f->values. */
int cf__read_values(struct cf__scan *c, struct cf__file *f, uint64_t n);
/* An integer value of one file, of any integer kind. 1: found, 0: absent, -1: not an integer or negative. */
int cf__file_integer(const struct cf__file *f, const char *key, uint64_t *v, struct cf_error *e);
/* A value as a number; false if its kind is no integer, or it is negative. */
bool cf__value_unsigned(const struct cf_gguf_value *v, uint64_t *out);

/* n tensors of file number `file`, appended to g->tensors. */
int cf__read_tensors(struct cf__scan *c, struct cf_gguf *g, uint32_t file, uint64_t n);
/* After the table: offsets become absolute, and every tensor is proven to lie in the file and apart from the others. */
int cf__place_tensors(struct cf__scan *c, struct cf_gguf *g, uint32_t file, size_t first);

/* The whole blocks around a part, as a direct read takes them; the part begins `before` bytes into them. -1: there are
 * no direct reads, or the tensor has no such part. */
struct cf__span {
    int fd;
    uint64_t at;
    size_t bytes, before;
};
int cf__span_of(const struct cf_gguf *g, const struct cf_gguf_part *part, struct cf__span *s);

/* PREFIX-0000i-of-0000n.gguf -> the path of member `want` (from 1), malloc'ed; NULL if the name has another form, or i
 * is not in 1..n. *count is n. */
char *cf__split_path(const char *path, uint32_t want, uint32_t *count);

#endif
