/* A file of raw logits: little-endian f32, [generated][n_vocab], full vocabulary, before bias and penalties. */
#ifndef COFFER_COORDINATOR_DECODE_DUMP_H
#define COFFER_COORDINATOR_DECODE_DUMP_H

#include <stddef.h>

#include "proto/error.h"

struct cf_dump;

/* Creates or empties `path` (which must stay valid until the dump is closed). */
int cf_dump_open(struct cf_dump **out, const char *path, struct cf_error *e);

/* Appends one row. On failure (disk full) the file is removed, and the error names it. */
int cf_dump_row(struct cf_dump *d, const float *logits, size_t n_vocab, struct cf_error *e);

/* Writes what is left and frees d, whatever happens. On failure the file is removed. NULL is fine. */
int cf_dump_close(struct cf_dump *d, struct cf_error *e);

/* Frees d and removes the file: the run failed, and half a dump must not look like a whole one. NULL is fine. */
void cf_dump_abandon(struct cf_dump *d);

#endif
