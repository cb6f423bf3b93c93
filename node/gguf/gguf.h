/* Reading GGUF files, version 2 and 3, one file or a split set (-00001-of-0000N.gguf).
 *
 * A file is data from a stranger: every count, length, offset and product is bounded before it is used, and each
 * refusal names the file and the field. Only header and tensor table are read at open; tensor bytes come by pread, any
 * part, when somebody asks.
 *
 * Lifetimes: all pointers that these functions return live until cf_gguf_close().
 */
#ifndef COFFER_NODE_GGUF_GGUF_H
#define COFFER_NODE_GGUF_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/kernels/type.h"
#include "proto/error.h"

struct cf_gguf;

/* Value types, numbers as in the specification. */
enum cf_gguf_kind {
    CF_GGUF_U8,
    CF_GGUF_I8,
    CF_GGUF_U16,
    CF_GGUF_I16,
    CF_GGUF_U32,
    CF_GGUF_I32,
    CF_GGUF_F32,
    CF_GGUF_BOOL,
    CF_GGUF_STRING,
    CF_GGUF_ARRAY,
    CF_GGUF_U64,
    CF_GGUF_I64,
    CF_GGUF_F64
};

struct cf_gguf_string {
    const char *text;
    size_t length;
}; /* also NUL-terminated */

struct cf_gguf_value {
    const char *key;
    enum cf_gguf_kind kind;
    enum cf_gguf_kind element; /* of an array */
    size_t count;              /* of an array, else 1 */
    union {
        uint64_t u; /* unsigned kinds and bool */
        int64_t i;  /* signed kinds */
        double f;   /* F32, F64 */
        struct cf_gguf_string s;
        const void *array; /* numbers in their own width (aligned), or struct cf_gguf_string[count] */
    };
};

struct cf_gguf_tensor {
    const char *name;
    uint32_t type; /* GGUF number; supported or not: cf_type_by_id() */
    uint32_t n_dims;
    uint64_t ne[4];     /* ne[0] columns (fastest), ne[1] rows, ne[2] experts; unused are 1 */
    uint64_t row_bytes; /* of ne[0] elements */
    uint64_t bytes;     /* whole tensor */
    uint32_t file;      /* which of the split files */
    uint64_t offset;    /* absolute in that file */
};

int cf_gguf_open(struct cf_gguf **out, const char *path, struct cf_error *e);
void cf_gguf_close(struct cf_gguf *g);

const char *cf_gguf_path(const struct cf_gguf *g);
uint32_t cf_gguf_version(const struct cf_gguf *g);
uint32_t cf_gguf_files(const struct cf_gguf *g);
/* File i of the set: header is how many bytes stand in front of those of the tensors. */
struct cf_gguf_file {
    const char *path;
    uint64_t bytes, header;
};
struct cf_gguf_file cf_gguf_file(const struct cf_gguf *g, uint32_t i);
/* Size of all files and XXH64 over headers and tensor tables: what the hello round compares. */
void cf_gguf_identity(const struct cf_gguf *g, uint64_t *bytes, uint64_t *hash);

size_t cf_gguf_n_values(const struct cf_gguf *g);
const struct cf_gguf_value *cf_gguf_value_at(const struct cf_gguf *g, size_t i);
const struct cf_gguf_value *cf_gguf_value(const struct cf_gguf *g, const char *key); /* NULL if absent */

/* Typed look-ups: any integer kind that fits converts. Absent: `*v` keeps its value and 0 is returned, unless required.
 * Wrong kind or out of range: -1, naming file and key. */
int cf_gguf_u32(const struct cf_gguf *g, const char *key, bool required, uint32_t *v, struct cf_error *e);
int cf_gguf_f32(const struct cf_gguf *g, const char *key, bool required, float *v, struct cf_error *e);
int cf_gguf_bool(const struct cf_gguf *g, const char *key, bool required, bool *v, struct cf_error *e);
int cf_gguf_str(const struct cf_gguf *g, const char *key, bool required, const char **v, struct cf_error *e);

size_t cf_gguf_n_tensors(const struct cf_gguf *g);
const struct cf_gguf_tensor *cf_gguf_tensor_at(const struct cf_gguf *g, size_t i);
const struct cf_gguf_tensor *cf_gguf_tensor(const struct cf_gguf *g, const char *name); /* NULL if absent */

/* Reads n bytes from byte `offset` of the tensor into buf (pread; any thread; -1 names tensor and file). */
int cf_gguf_read(
    const struct cf_gguf *g, const struct cf_gguf_tensor *t, uint64_t offset, void *buf, size_t n, struct cf_error *e);

/* The same with bytes of file `file` itself, whatever they are. */
int cf_gguf_read_file(const struct cf_gguf *g, uint32_t file, uint64_t at, void *buf, size_t n, struct cf_error *e);

/* From now on cf_gguf_fetch() can read past the page cache (O_DIRECT), and what reading the header left in it is
 * dropped. -1 with the reason if a file's file system cannot: reads then stay as they were. */
int cf_gguf_direct(struct cf_gguf *g, struct cf_error *e);
bool cf_gguf_is_direct(const struct cf_gguf *g);

/* A part of a tensor for a loader. */
struct cf_gguf_part {
    const struct cf_gguf_tensor *t;
    uint64_t offset; /* of the tensor */
    size_t n;
    bool cached; /* through the page cache even after cf_gguf_direct() */
};

/* As cf_gguf_read(), but wherever in the buffer suits the way of reading: *data is set to the first byte. buf must be
 * aligned to cf_gguf_align() and have room for n + cf_gguf_slack() bytes. */
int cf_gguf_fetch(
    const struct cf_gguf *g, const struct cf_gguf_part *part, void *buf, const char **data, struct cf_error *e);
size_t cf_gguf_align(const struct cf_gguf *g);
size_t cf_gguf_slack(const struct cf_gguf *g);

/* One cf_gguf_fetch() at a time that may go on while the caller works: begin, then end, which waits for it. Between the
 * two, and until the close, buf belongs to the flight. One flight is for one thread. */
struct cf_gguf_flight;
int cf_gguf_flight_open(struct cf_gguf_flight **out, const struct cf_gguf *g, struct cf_error *e);
void cf_gguf_flight_close(struct cf_gguf_flight *f);
void cf_gguf_begin(struct cf_gguf_flight *f, const struct cf_gguf_part *part, void *buf);
int cf_gguf_end(struct cf_gguf_flight *f, const char **data, struct cf_error *e);

/* Hints about the page cache; the kernel may ignore them. Soon: begin to read now. Done: nobody here needs it again. */
void cf_gguf_soon(const struct cf_gguf *g, const struct cf_gguf_part *part);
void cf_gguf_done(const struct cf_gguf *g, const struct cf_gguf_part *part);

/* Where the bytes of tensors come from if not from a file: writes bytes [offset, offset + n) of t, which has them, into
 * buf. Any thread. */
typedef int cf_gguf_fill_fn(
    void *ctx, const struct cf_gguf_tensor *t, uint64_t offset, void *buf, size_t n, struct cf_error *e);
/* From now on all tensor bytes of g come from `fill`. ctx must live as long as g. */
void cf_gguf_fill(struct cf_gguf *g, cf_gguf_fill_fn *fill, void *ctx);

#endif
