/* What `run --json` prints: one object, collected while the run goes on.
 *
 * The caller allocates with room for everything it will add (cf_result_new), so that nothing is allocated while tokens
 * are made, except when the text outgrows 64 bytes a token. It then calls cf_result_logits and cf_result_token per
 * generated position, fills plan and timings at the end, prints, and frees.
 */
#ifndef COFFER_COORDINATOR_DECODE_RESULT_H
#define COFFER_COORDINATOR_DECODE_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/error.h"

/* One rank's row of `plan` and of `timings`. */
struct cf_result_rank {
    char host[256];
    int node;             /* NUMA node, OS number; -1 where there is none */
    uint64_t bytes;       /* weights and cache that it holds */
    uint32_t threads;     /* that compute */
    double local_percent; /* of its pages on the intended node; NaN where nobody could look: null */
    double compute_s, exchange_s, wait_s;
};

/* How numbers passed between hosts, and what that cost (NaN: nothing was rounded: null). */
struct cf_result_wire {
    const char *type; /* not copied */
    double rms, most;
};

struct cf_result;

struct cf_result_size {
    size_t n_prompt;   /* ids of the prompt */
    size_t n_generate; /* at most so many generated positions */
    uint32_t n_vocab;
    uint32_t n_top; /* --logprobs K; 0: none */
    uint32_t n_ranks;
};

int cf_result_new(struct cf_result **out, const struct cf_result_size *size, struct cf_error *e);
void cf_result_free(struct cf_result *r);

/* ids[size.n_prompt] */
void cf_result_prompt(struct cf_result *r, const uint32_t *ids);

/* The raw logits[n_vocab] of the next generated position: into the hash and the top list. Returns -1 when n_generate
 * positions are there already. */
int cf_result_logits(struct cf_result *r, const float *logits, struct cf_error *e);

/* The id chosen there, and the text[n] that it added (n may be 0, the bytes anything). */
int cf_result_token(struct cf_result *r, uint32_t id, const char *text, size_t n, struct cf_error *e);
/* Text without an id: what a detokenizer held back. */
int cf_result_text(struct cf_result *r, const char *text, size_t n, struct cf_error *e);

/* layout is copied. load_s: seconds; tokens per second NaN where there were none: null. */
void cf_result_timings(struct cf_result *r, const char *layout, double load_s, double prefill_tps, double decode_tps);
void cf_result_wire(struct cf_result *r, const struct cf_result_wire *wire);
/* Row `rank` < n_ranks, for the caller to fill. */
struct cf_result_rank *cf_result_rank(struct cf_result *r, uint32_t rank);

/* XXH64, seed 0, over the bit patterns of all logits so far, little-endian, in order. */
uint64_t cf_result_hash(const struct cf_result *r);

/* Prints the object and a newline, and flushes. Bytes of the text that are no UTF-8 come out as U+FFFD. */
int cf_result_print_json(const struct cf_result *r, FILE *to, struct cf_error *e);

/* One line of the answers to many prompts. */
struct cf_answer {
    uint32_t index;  /* of the prompt, from 0 */
    const char *id;  /* JSON, or NULL */
    const char *end; /* why it ended */
    uint64_t seed;
    bool whole; /* with ids, hash and top list, as the object of --json has them */
};
/* *line is malloc'ed: *n bytes, an object and a newline. */
int cf_result_answer(const struct cf_result *r, const struct cf_answer *a, char **line, size_t *n, struct cf_error *e);

#endif
