/* Private to `coffer synth` and `coffer bench --synthetic`: the model that was asked for (synth.c), its vocabulary
 * (synth_vocab.c) and its tensors (synth_weights.c). */
#ifndef COFFER_COORDINATOR_COMMANDS_SYNTH_H
#define COFFER_COORDINATOR_COMMANDS_SYNTH_H

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

/* All tensors. _check fails with a usage error that names the flag at fault; _write adds, begins the data and fills. */
struct cf__synth_tensors;
int cf__synth_tensors_new(struct cf__synth_tensors **out, const struct cf__synth *s, struct cf_error *e);
void cf__synth_tensors_free(struct cf__synth_tensors *t);
int cf__synth_tensors_write(const struct cf__synth_tensors *t, struct cf_gguf_writer *w, struct cf_error *e);
uint64_t cf__synth_tensors_bytes(const struct cf__synth_tensors *t);

/* Of the whole command: the defaults of every option, and checking, completing and writing what was asked for. _measure
 * does all but the writing: *bytes of weights. */
void cf__synth_defaults(void *config);
int cf__synth_measure(struct cf__synth *s, uint64_t *bytes, struct cf_error *e);
int cf__synth_make(struct cf__synth *s, uint64_t *bytes, struct cf_error *e);

#endif
