/* The planner: ranks and what they can, a model and what it needs -> a plan that is proven to cover it and to fit.
 *
 * Knows nothing of pages, MPI or kernels: it gets figures and gives rows. See DESIGN.md section 4 for the layouts.
 */
#ifndef COFFER_COORDINATOR_PLAN_PLANNER_H
#define COFFER_COORDINATOR_PLAN_PLANNER_H

#include <stdio.h>

#include "coordinator/plan/forecast/figures.h"
#include "node/model/plan.h"

/* A layout as --layout says it: NULL and "auto" are -1. Returns 0, or -1: unknown, with *e naming those there are.
 */
int cf_layout_wish(const char *name, int *layout, struct cf_error *e);

struct cf_plan_wish {
    enum cf_dtype wire;     /* of activations between hosts */
    bool any_wire;          /* a search may take any type for them */
    int layout;             /* enum cf_layout, or -1: tensor on one host, hybrid on several */
    uint32_t stages;        /* hybrid: 0 default */
    uint32_t micro_batches; /* most batches in flight: 0 one per stage, domain 2, tensor 1 */
    uint32_t n_ctx, n_seqs, n_rows, n_want;
    uint32_t kv_size, kv_keep; /* 0: no rotation; as in struct cf_plan */
    uint32_t kv_type;          /* enum cf_kv_type */
    int map[CF_DOMAINS];       /* NUMA node of each domain (layout domain), -1 none */
    int zero_rank;             /* test hook, -1 none */
    const uint32_t *use;       /* [n_use] these ranks alone, ascending, rank 0 among them; NULL: all */
    uint32_t n_use;
    bool settled; /* a search may choose threads and head_home alone */
    bool equal;   /* equal shares for all, whatever their bandwidths */
    /* tensor: quarters of their share of the head that ranks of other hosts leave to those of rank 0's, which must
     * wait for all logits. */
    uint32_t head_home;
    bool even_head;              /* a search shall not choose that */
    const uint32_t *cut_weights; /* NULL, or [n_ranks] relative shares instead of measured bandwidth */
};

/* The plan, and what should be said about it (ranks without work, weighting): up to 512 bytes of lines. */
int cf_planner_make(struct cf_plan *plan, const struct cf_plan_wish *wish, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_rank_info *ranks, uint32_t n_ranks, char note[512], struct cf_error *e);

/* What a rank needs under a plan. */
struct cf_rank_need {
    uint64_t weights, kv, buffers;
};
int cf_planner_need(const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g, uint32_t rank,
    const struct cf_rank_info *info, struct cf_rank_need *need, struct cf_error *e);

/* Ranks that the plan gives work, and their hosts. */
void cf_planner_count(const struct cf_plan *p, const struct cf_figures *f, uint32_t *ranks, uint32_t *hosts);

/* The table of placements. */
int cf_planner_print(FILE *to, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    const struct cf_rank_info *ranks, uint32_t n_ranks, struct cf_error *e);

#endif
