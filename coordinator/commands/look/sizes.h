/* Bytes of a model file by domain, for the commands that print them (route, inspect). They must work for any GGUF file,
 * also of architectures that this program does not run, so they read names and keys and nothing else.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_SIZES_H
#define COFFER_COORDINATOR_COMMANDS_SIZES_H

#include <stdint.h>
#include <stdio.h>

#include "coordinator/cli/options.h"
#include "node/gguf/gguf.h"
#include "node/model/domain.h"

typedef enum cf_domain cf_domain_rule(const char *name, int index, int n_layers);

struct cf_sizes {
    const char *arch; /* "" if the file does not say */
    int n_layers;     /* 0 if the file does not say */
    uint64_t tensors[CF_DOMAINS];
    uint64_t bytes[CF_DOMAINS]; /* of tensors; the KV cache is apart */
    uint64_t all_tensors, all_bytes;
    uint32_t n_ctx;    /* positions that kv_bytes counts; 0 if the shape of the cache is unknown */
    uint64_t kv_bytes; /* of one sequence of n_ctx positions, F16 */
};

/* The option that gives n_ctx: its config is one int64_t. */
extern const struct cf_option cf__kv_row_options[];

/* n_ctx 0: the model's, capped at 4096. -1 if a key is there but of the wrong kind. */
int cf_sizes_of(struct cf_sizes *s, const struct cf_gguf *g, cf_domain_rule *rule, uint32_t n_ctx, struct cf_error *e);

/* "1.25 GiB", right-aligned in 10 columns; exact bytes below 1 KiB. */
void cf_print_size(FILE *to, uint64_t bytes);
/* "2048 x 32000" into buf, the fastest dimension first, as GGUF orders them. */
void cf_shape_text(const struct cf_gguf_tensor *t, char *buf, size_t size);
/* Name of a tensor type, also of an unknown one ("type 99"). */
const char *cf_type_text(uint32_t type, char buf[24]);

#endif
