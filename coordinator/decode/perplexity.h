/* Perplexity of a text by the method of llama.cpp's tool of that name: the text is cut into chunks of n_ctx tokens,
 * each begins with BOS in place of its first token (if the model wants one) and sees nothing of the others, and the
 * tokens of its second half are scored: -log p(token | those before it in the chunk). So every scored token has at
 * least n_ctx / 2 tokens before it. PPL = exp(mean), and +/- is PPL times the standard error of that mean.
 *
 * Several chunks are in the cache at once as sequences; that changes no bit of the result. A batch carries no more
 * wanted rows than the plan has room for logits (n_want); rows of the first halves need none.
 */
#ifndef COFFER_COORDINATOR_DECODE_PERPLEXITY_H
#define COFFER_COORDINATOR_DECODE_PERPLEXITY_H

#include "coordinator/decode/job.h"

struct cf_perplexity {
    struct cf_job *job;
    const uint32_t *tokens; /* [at least n_chunks * n_ctx] */
    uint32_t n_chunks, n_ctx;
    int64_t bos; /* what begins each chunk; -1: its own first token */
    /* After each chunk, in order: how many are done, and the perplexity of all so far. */
    int (*chunk)(void *ctx, uint32_t done, double ppl, struct cf_error *e);
    int (*interrupted)(void); /* not 0: end after the chunks in hand */
    void *ctx;

    /* Out: */
    uint32_t n_done;
    uint64_t n_scored;
    double sum, squares; /* of -log p and its square, added in the order of the text */
    int interrupt_status;
};

/* Tokens of a chunk that are scored. */
uint32_t cf_perplexity_scored(uint32_t n_ctx);

int cf_perplexity_run(struct cf_perplexity *p, struct cf_error *e);
/* *error: NaN if it cannot be told (fewer than two tokens, or all alike). */
void cf_perplexity_estimate(const struct cf_perplexity *p, double *ppl, double *error);

#endif
