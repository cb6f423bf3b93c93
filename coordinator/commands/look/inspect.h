/* Between the two halves of `coffer inspect`: the text for people (inspect.c) and JSON (inspect_json.c). */
#ifndef COFFER_COORDINATOR_COMMANDS_INSPECT_H
#define COFFER_COORDINATOR_COMMANDS_INSPECT_H

#include <stdbool.h>
#include <stdio.h>

#include "coordinator/commands/look/sizes.h"
#include "node/gguf/gguf.h"

/* "u32", "string", "array", ... */
const char *cf_gguf_kind_name(enum cf_gguf_kind kind);
/* Element i of an array as a value of its own; false for an array of arrays. */
bool cf_gguf_element(const struct cf_gguf_value *v, size_t i, struct cf_gguf_value *out);

/* One object: file, files, bytes, hash, version, architecture, metadata, tensors, sizes. Of arrays at most max_elements
 * elements are printed; a longer one is {"type", "count", "first": [...]}. */
int cf_inspect_json(
    const struct cf_gguf *g, const struct cf_sizes *sizes, size_t max_elements, FILE *to, struct cf_error *e);

#endif
