/* What a user should know of a choice (search.h) without reading its table: ranks, hosts and cores that are not used
 * and what that gains, numbers that are rounded or would better be, and that another host would be the better place for
 * rank 0.
 */
#ifndef COFFER_COORDINATOR_PLAN_ADVICE_H
#define COFFER_COORDINATOR_PLAN_ADVICE_H

#include "coordinator/plan/search.h"

/* Says a line, without a newline. */
typedef void cf_say(void *ctx, const char *line);

/* plan: the best candidate's. before: figures of all threads, as the search got them. */
void cf_search_advise(
    const struct cf_search *s, const struct cf_plan *plan, const struct cf_figures *before, cf_say *say, void *ctx);

/* Rank 0 always works, for it samples: should it be on another host? Tried where another host reads a quarter more than
 * the first one does; said where it gains 3 %. Searches once more: as long as the search itself. */
int cf_search_advise_first(const struct cf_search *s, const struct cf_plan_wish *wish, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, cf_say *say, void *ctx, struct cf_error *e);

/* Numbers between hosts are exact unless the user says otherwise: would halves make a tenth more tokens? Tried where
 * there are several hosts, 64 ranks at most (a run asks with 32). Searches once more. */
void cf_search_advise_halves(const struct cf_search *s, const struct cf_plan_wish *wish, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, cf_say *say, void *ctx);

#endif
