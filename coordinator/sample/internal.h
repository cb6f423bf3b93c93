/* The state of a sampler and its steps: private to coordinator/sample. A step looks at the list of candidates and
 * changes it: logits (then the order is lost) or how many are left. Temperature only changes `scale`: weights are
 * exp((logit - best) / scale).
 */
#ifndef COFFER_COORDINATOR_SAMPLE_INTERNAL_H
#define COFFER_COORDINATOR_SAMPLE_INTERNAL_H

#include <math.h>

#include "coordinator/sample/list.h"
#include "coordinator/sample/random.h"
#include "coordinator/sample/sampler.h"
#include "node/kernels/kernels.h"

/* The last ids that were accepted, a ring. */
struct cf__window {
    uint32_t n, at, filled;
    uint32_t *ids; /* [n] */
};

/* DRY's working memory. */
struct cf__dry {
    struct cf__window window;
    uint32_t *recent;  /* [window.n] the window, youngest first */
    uint32_t *match;   /* [window.n] */
    uint32_t *repeats; /* [n_vocab]: 1 + the length of the sequence that an id would go on with; 0: none */
};

struct cf_sampler {
    struct cf_sampler_params p;
    uint64_t seed;
    struct cf__random random;
    uint32_t n_vocab;
    struct cf__window window; /* of the penalties */
    uint32_t *count;          /* [n_vocab]: how often an id stands in the window */
    struct cf__dry dry;
    struct cf_logit_bias *bias; /* [p.n_bias] */
    double scale;               /* temperature so far */
    double mu;                  /* mirostat's, bits */
    struct cf__list list;
    struct cf_candidate *other; /* [n_vocab]: of steps that need a second order */
    double *weight;             /* [n_vocab] */
};

/* exp((logit - max) / scale), 1 for the best whatever it is, 0 for the barred. */
static inline double cf__weigh(float logit, float max, double scale) {
    if (logit == max) return 1;
    if (!(logit > -INFINITY)) return 0;
    return cf_exp(((double)logit - (double)max) / scale);
}

/* The weights of all candidates into s->weight, in the order of the list. Returns their sum. */
double cf__weights(struct cf_sampler *s);

/* The temperature so far goes into the logits: for steps that change these. */
void cf__settle(struct cf_sampler *s);

/* One candidate at random, by weight: its place in the list. total: of s->weight[n]. */
uint32_t cf__draw(struct cf_sampler *s, double total);

extern const struct cf__step {
    const char *name, *other[4]; /* as --samplers writes them */
    char letter;
    void (*apply)(struct cf_sampler *s);
} cf__steps[CF_STEPS];

void cf__penalties(struct cf_sampler *s);
void cf__dry(struct cf_sampler *s);
void cf__top_n_sigma(struct cf_sampler *s);
void cf__top_k(struct cf_sampler *s);
void cf__typical(struct cf_sampler *s);
void cf__top_p(struct cf_sampler *s);
void cf__min_p(struct cf_sampler *s);
void cf__xtc(struct cf_sampler *s);
void cf__temperature(struct cf_sampler *s);

/* Cuts the list as version 1 or 2 does; then, when an id was drawn that had the probability p: learns. */
void cf__mirostat_cut(struct cf_sampler *s);
void cf__mirostat_learn(struct cf_sampler *s, double p);

int cf__window_new(struct cf__window *w, uint32_t n);
/* Returns true and the id that left, if one did. */
bool cf__window_push(struct cf__window *w, uint32_t id, uint32_t *left);

#endif
