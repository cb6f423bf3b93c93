/* Between the planner's files: members with weights, and rows in the making. */
#ifndef COFFER_COORDINATOR_PLAN_INTERNAL_H
#define COFFER_COORDINATOR_PLAN_INTERNAL_H

#include "coordinator/plan/planner.h"

struct cf_draft {
    struct cf_plan *plan;
    const struct cf_plan_wish *wish;
    const struct cf_model *m;
    const struct cf_gguf *g;
    const struct cf_rank_info *ranks;
    uint32_t n_ranks;
    double *weight; /* [n_ranks] share of the work that each rank should get */
    uint32_t row_room;
    bool few_in_flight; /* memory is short */
};

/* Appends a row: `n` members, chunks of the domain's axis dealt by weight; several rows where layers differ in them. */
int cf__plan_row(struct cf_draft *d, enum cf_domain domain, uint32_t layer0, uint32_t layer1, const int *ranks,
    uint32_t n, struct cf_error *e);

/* The four layouts. */
int cf__layout_tensor(struct cf_draft *d, struct cf_error *e);
int cf__layout_stages(struct cf_draft *d, uint32_t stages, struct cf_error *e);
int cf__layout_domain(struct cf_draft *d, struct cf_error *e);

#endif
