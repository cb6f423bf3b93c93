/* A plan in virtual time: the message-driven schedule of the engine (node/engine/engine.c) played through with the
 * costs of cost.h, event by event, for any number of ranks and without any of them. It is what every prediction is made
 * of: the planner's choice, the line at the end of a run, and `coffer simulate`.
 *
 * What is simulated: each rank runs a batch until it must wait, then the oldest whose inputs have arrived; messages
 * take the time of their link, and those that leave or enter a host do so one after the other; ranks that share cores
 * or a memory are faster while their neighbours wait (seats.h). What is not: several cables of a host count as one.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_SIMULATE_H
#define COFFER_COORDINATOR_PLAN_FORECAST_SIMULATE_H

#include "coordinator/plan/forecast/figures.h"
#include "node/model/plan.h"

/* Behind `depth` positions: the prompt of one sequence, in chunks, or else `generate` tokens of each of `sequences`,
 * dealt to the batches in flight as decode/split.h says. */
struct cf_workload {
    uint32_t depth, prompt, generate, sequences;
    uint32_t scored; /* of a prompt: the last so many tokens want logits, 0: the last one */
};

/* Where a rank's time went, seconds. The rest it waited. */
struct cf_forecast_rank {
    double compute, exchange;
    uint64_t messages, bytes; /* that it sent */
};

struct cf_forecast {
    double seconds; /* of the whole workload */
    double rate;    /* tokens/s: of the prompt, or of all sequences together once they are under way */
    uint32_t n_ranks, n_hosts;
    struct cf_forecast_rank *ranks; /* [n_ranks] owned */
    double *link_busy; /* [n_hosts] owned: seconds that bytes were leaving the host, or entering it: the longer */
    uint64_t *traffic; /* [n_hosts][n_hosts] owned: bytes from (row) to (column); diagonal: within the host */
    uint64_t messages, bytes; /* all, and all their payload */
    char bottleneck[128];     /* what a faster run would have to be rid of, in words */
};
void cf_forecast_free(struct cf_forecast *f); /* also of a zeroed one */

/* A plan that is compiled and priced once, and then run as often as one likes. Model, plan and figures must stay. */
struct cf_simulation;
int cf_simulation_new(struct cf_simulation **out, const struct cf_plan *p, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, struct cf_error *e);
int cf_simulation_run(
    struct cf_simulation *s, const struct cf_workload *w, struct cf_forecast *out, struct cf_error *e);
void cf_simulation_free(struct cf_simulation *s); /* also NULL */

#endif
