/* The choice of a layout: every way to place the model on the ranks at hand that is worth a look is planned, checked
 * against memory and played through (simulate.h); the quickest one wins. The others are kept with their figures, or
 * with what spoke against them, so that a user can see why. Ways that leave ranks or whole hosts out are among them:
 * where a second host makes the answer slower it is not used, and that is said. The quickest ways are then weighed
 * again with fewer threads: where a part of them reads the memory as fast as all, fewer meet sooner.
 */
#ifndef COFFER_COORDINATOR_PLAN_SEARCH_H
#define COFFER_COORDINATOR_PLAN_SEARCH_H

#include "coordinator/plan/planner.h"
#include "coordinator/plan/forecast/simulate.h"

/* What a user waits for, and what is compared: so many tokens of a prompt, then so many of the answer. */
enum { CF_SEARCH_PROMPT = 128, CF_SEARCH_ANSWER = 128 };

struct cf_candidate {
    char name[192]; /* "tensor on 4 ranks of 2 hosts, equal, wire f16, 75 % of head away, 4 threads each" */
    char hosts[64]; /* which, where they are not those that read most: " (a, c)"; else "" */
    uint32_t set;   /* of hosts; the search's own number */
    enum cf_layout layout;
    enum cf_dtype wire;
    uint32_t stages, n_use, n_hosts;
    uint32_t n_work, n_work_hosts; /* of these ranks and hosts, those that hold anything; 0: it did not fit */
    uint32_t halved;               /* how often the threads of all ranks are halved; 0: all threads */
    bool equal;                    /* shares, whatever the bandwidths */
    uint32_t head_home;            /* as in struct cf_plan_wish */
    bool fits;
    char why[192];               /* why not, or what limits it (its bottleneck) */
    double prefill, decode, all; /* tokens/s: of a prompt, of one sequence, of all sequences together; 0: did not fit */
    double seconds; /* of a prompt and an answer for every sequence: what is compared (several hosts, not f32, fewer
                       threads: 3 % more each) */
};

struct cf_search {
    uint32_t n, best;
    struct cf_candidate *c; /* [n] owned, in the order of their seconds; those that do not fit come last */
};
void cf_search_free(struct cf_search *s);

/* Plans for the wish. Ranks, layout, stages and with any_wire the wire type are the search's to choose, and how many of
 * the ranks' threads run; a wish with a layout leaves it the wire type and threads, for all ranks, one that is
 * `settled` threads and the head's cuts alone. The plan is the best one's, for figures whose threads are halved as
 * often as the best candidate says (cf_figures_halve). At least one must fit, else *e says what is short, and *s what
 * was tried; it is freed by cf_search_free in any case. note: as cf_planner_make(). */
int cf_planner_search(struct cf_search *s, struct cf_plan *plan, const struct cf_plan_wish *wish,
    const struct cf_model *m, const struct cf_gguf *g, const struct cf_figures *f, char note[512], struct cf_error *e);

/* Says what is short where no way fits: memory of all ranks together, or else what spoke against one of the ways.
 * Returns -1. */
int cf_planner_short(const struct cf_model *m, const struct cf_gguf *g, const struct cf_figures *f,
    const struct cf_error *why, struct cf_error *e);

/* Is there anything for a search to choose? Of a wish that is settled only threads, and in layout tensor on
 * several hosts how the head is cut. */
bool cf_planner_may_search(const struct cf_plan_wish *wish, const struct cf_figures *f);

/* Can anything be predicted: is every rank's bandwidth known? */
bool cf_planner_knows(const struct cf_figures *f);

/* Of a prompt and an answer, for each of its sequences, by its rates. */
double cf_candidate_seconds(const struct cf_candidate *c);

/* Figures of a plan that is made already. */
int cf_planner_forecast(struct cf_candidate *c, const struct cf_plan *plan, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, struct cf_error *e);

/* Its name, from the rest of it. any_wire: there is a choice. f: with the threads that are meant. plan: NULL if it did
 * not fit. */
void cf__candidate_describe(
    struct cf_candidate *c, const struct cf_plan *plan, bool any_wire, const struct cf_figures *f);

/* The candidates as a table, of so many sequences. */
void cf_search_print(FILE *to, const struct cf_search *s, uint32_t n_seqs);

#endif
