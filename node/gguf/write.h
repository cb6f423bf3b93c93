/* Writing a GGUF version 3 file: values first, then tensor descriptions, then tensor bytes in the same order.
 *
 * cf_gguf_writer_open -> values -> cf_gguf_add_tensor for all -> cf_gguf_begin_data -> cf_gguf_write_data in order, any
 * piece size -> cf_gguf_writer_close. The file appears under its name only when close succeeds (a temporary beside it
 * before), so a full disk leaves nothing half-written behind.
 */
#ifndef COFFER_NODE_GGUF_WRITE_H
#define COFFER_NODE_GGUF_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "node/gguf/gguf.h"

struct cf_gguf_writer;

int cf_gguf_writer_open(struct cf_gguf_writer **out, const char *path, struct cf_error *e);
/* Into an open file (a memfd) instead of a path: written from its beginning at once, and as it stands. fd stays the
 * caller's; `name` is for messages. */
int cf_gguf_writer_open_fd(struct cf_gguf_writer **out, int fd, const char *name, struct cf_error *e);
int cf_gguf_add_u32(struct cf_gguf_writer *w, const char *key, uint32_t v, struct cf_error *e);
int cf_gguf_add_f32(struct cf_gguf_writer *w, const char *key, float v, struct cf_error *e);
int cf_gguf_add_bool(struct cf_gguf_writer *w, const char *key, bool v, struct cf_error *e);
int cf_gguf_add_str(struct cf_gguf_writer *w, const char *key, const char *v, struct cf_error *e);
int cf_gguf_add_strings(
    struct cf_gguf_writer *w, const char *key, const struct cf_gguf_string *v, size_t n, struct cf_error *e);
/* kind: a number kind; v: n numbers of that width. */
int cf_gguf_add_numbers(
    struct cf_gguf_writer *w, const char *key, enum cf_gguf_kind kind, const void *v, size_t n, struct cf_error *e);
/* Any value of a file that was read, under its own key. */
int cf_gguf_add_value(struct cf_gguf_writer *w, const struct cf_gguf_value *v, struct cf_error *e);
int cf_gguf_add_tensor(
    struct cf_gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, struct cf_error *e);
int cf_gguf_begin_data(struct cf_gguf_writer *w, struct cf_error *e);
/* After cf_gguf_begin_data(), in place of all writing: the data is a hole of the file, which takes no room and reads as
 * zeros. For headers whose tensors come from elsewhere (cf_gguf_fill). */
int cf_gguf_skip_data(struct cf_gguf_writer *w, struct cf_error *e);
/* Bytes of the current tensor; moves on to the next (with padding) when it is complete. */
int cf_gguf_write_data(struct cf_gguf_writer *w, const void *bytes, size_t n, struct cf_error *e);
/* commit false: forget everything. Frees w in any case. */
int cf_gguf_writer_close(struct cf_gguf_writer *w, bool commit, struct cf_error *e);

#endif
