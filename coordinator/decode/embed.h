/* Embeddings: the hidden rows of a text as they would enter the output head, pooled and scaled, by the definitions of
 * llama.cpp's tool of that name. Several texts go together as sequences; that changes no bit.
 */
#ifndef COFFER_COORDINATOR_DECODE_EMBED_H
#define COFFER_COORDINATOR_DECODE_EMBED_H

#include "coordinator/decode/job.h"

enum cf_pooling { CF_POOL_NONE, CF_POOL_MEAN, CF_POOL_CLS, CF_POOL_LAST, CF_POOLINGS };
/* -1 unknown. */
int cf_pooling_by_name(const char *name);

struct cf_embed_text {
    uint32_t *ids; /* [n], at least one */
    uint32_t n;
};

struct cf_embed {
    struct cf_job *job;
    const struct cf_embed_text *texts;
    uint32_t n_texts;
    enum cf_pooling pooling;
    int (*interrupted)(void);
    float *rows; /* out: [cf_embed_rows()][n_embd], the caller's; a row for each text, or for each token (NONE) */
    int interrupt_status;
};

/* Rows of the result. */
uint64_t cf_embed_rows(const struct cf_embed_text *texts, uint32_t n_texts, enum cf_pooling pooling);
int cf_embed_run(struct cf_embed *m, struct cf_error *e);

/* x[n] /= its norm. kind -1: as it is; 0: so that the largest is 32760; 1: sum of magnitudes; 2: Euclidean; more:
 * p-norm.
 */
void cf_embed_normalise(float *x, uint32_t n, int64_t kind);
/* Cosine of the angle; 0 with a zero row, 1 with two. */
double cf_embed_similarity(const float *a, const float *b, uint32_t n);

#endif
