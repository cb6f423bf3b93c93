/* Private to `coffer synth` and `coffer bench --synthetic`: the model that was asked for (synth.c), its vocabulary
 * (synth_vocab.c), its tensors (synth_weights.c) and their bytes (synth_bytes.c). */
#ifndef COFFER_COORDINATOR_COMMANDS_SYNTH_H
#define COFFER_COORDINATOR_COMMANDS_SYNTH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "node/gguf/write.h"

/* The command line; zero where a number was not given, until synth.c has completed it. */
struct cf__synth {
    const char *arch, *out, *type, *head_type, *tokenizer, *rope_scaling;
    int64_t layers, dim, heads, kv_heads, head_dim, ffn, vocab, ctx, seed;
    double rope_base, rope_factor;
    bool untied;
};

/* The keys tokenizer.*: n_vocab tokens of the kind `model` ("llama" or "gpt2"). */
int cf__synth_vocab(struct cf_gguf_writer *w, const char *model, uint32_t n_vocab, struct cf_error *e);

struct cf__synth_tensor {
    char name[64];
    const char *role; /* name without layer */
    const struct cf_type *type;
    uint32_t n_dims;
    uint64_t ne[2], elements, bytes;
    float mean, spread;
    const float *given; /* values that are not random, or NULL */
};

/* Encoded elements that the large tensors of a role share: such a tensor is a random sequence of pieces of them. */
struct cf__synth_pool {
    const char *role;
    const struct cf_type *type;
    unsigned char *bytes; /* owned */
};

enum { CF__SYNTH_POOLS = 48 };

struct cf__synth_tensors {
    uint64_t seed, bytes;
    size_t n;
    struct cf__synth_tensor *list;
    float *rope; /* [head_dim / 2] */
    pthread_mutex_t lock;
    struct cf__synth_pool pools[CF__SYNTH_POOLS]; /* [n_pools], made when first needed, under the lock */
    size_t n_pools;
};

/* All tensors; a usage error names the flag at fault. */
int cf__synth_tensors_new(struct cf__synth_tensors **out, const struct cf__synth *s, struct cf_error *e);
void cf__synth_tensors_free(struct cf__synth_tensors *t);
uint64_t cf__synth_tensors_bytes(const struct cf__synth_tensors *t);
/* Adds them to w, begins the data and writes it; or (hole) leaves it a hole. */
int cf__synth_tensors_write(struct cf__synth_tensors *t, struct cf_gguf_writer *w, bool hole, struct cf_error *e);
/* Bytes [offset, offset + n) of a tensor: what _write writes there. Any thread. */
int cf__synth_bytes(struct cf__synth_tensors *t, const struct cf__synth_tensor *x, uint64_t offset, void *buf, size_t n,
    struct cf_error *e);

/* Of the whole command: the defaults of every option, and checking, completing and writing what was asked for. _measure
 * does all but the writing: *bytes of weights. */
void cf__synth_defaults(void *config);
int cf__synth_measure(struct cf__synth *s, uint64_t *bytes, struct cf_error *e);
int cf__synth_make(struct cf__synth *s, uint64_t *bytes, struct cf_error *e);
/* The same model without its file: a header in memory, and weights that are made where they are read (cf_gguf_fill). *t
 * must live as long as *g. */
int cf__synth_open(struct cf_gguf **g, struct cf__synth_tensors **t, struct cf__synth *s, struct cf_error *e);

#endif
