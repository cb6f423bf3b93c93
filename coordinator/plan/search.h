/* The choice of a layout: every way to place the model on the ranks at hand that is worth a look is planned, checked
 * against memory and played through (simulate.h); the quickest one wins. The others are kept with their figures, or
 * with what spoke against them, so that a user can see why. Ways that leave ranks or whole hosts out are among them:
 * where a second host makes the answer slower it is not used, and that is said.
 */
#ifndef COFFER_COORDINATOR_PLAN_SEARCH_H
#define COFFER_COORDINATOR_PLAN_SEARCH_H

#include "coordinator/plan/planner.h"
#include "coordinator/plan/forecast/simulate.h"

/* What a user waits for, and what is compared: so many tokens of a prompt, then so many of the answer. */
enum { CF_SEARCH_PROMPT = 128, CF_SEARCH_ANSWER = 128 };

struct cf_candidate {
    char name[96]; /* "hybrid of 2 stages on 4 ranks of 2 hosts, equal, wire f16" */
    enum cf_layout layout;
    enum cf_dtype wire;
    uint32_t stages, n_use, n_hosts;
    bool fits;
    char why[192];               /* why not, or what limits it (its bottleneck) */
    double prefill, decode, all; /* tokens/s: of a prompt, of one sequence, of all sequences together; 0: did not fit */
    double seconds; /* of a prompt and an answer for every sequence: what is compared (several hosts, or not f32: 3 %
                       more) */
};

struct cf_search {
    uint32_t n, best;
    struct cf_candidate *c; /* [n] owned, in the order of their seconds; those that do not fit come last */
};
void cf_search_free(struct cf_search *s);

/* Plans for the wish. Ranks, layout, stages and with any_wire the wire type are the search's to choose; a wish with a
 * layout leaves it the wire type alone, for all ranks. The plan is the best one's. At least
 * one must fit, else *e is what spoke against the first that did not. note: as cf_planner_make(). */
int cf_planner_search(struct cf_search *s, struct cf_plan *plan, const struct cf_plan_wish *wish,
    const struct cf_model *m, const struct cf_gguf *g, const struct cf_figures *f, char note[512], struct cf_error *e);

/* Can anything be predicted: is every rank's bandwidth known? */
bool cf_planner_knows(const struct cf_figures *f);

/* Figures of a plan that is made already. */
int cf_planner_forecast(struct cf_candidate *c, const struct cf_plan *plan, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, struct cf_error *e);

/* The candidates as a table, at most `most` of them (0: all). */
void cf_search_print(FILE *to, const struct cf_search *s, uint32_t most);

#endif
