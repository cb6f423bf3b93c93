/* What one instruction of a rank's program (node/model/program.h) costs: the bytes that it streams, the products that
 * it makes, the times that its threads meet; and, at a rank's measured rates, how long that takes. The formulas are
 * explained in ../README.md.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_COST_H
#define COFFER_COORDINATOR_PLAN_FORECAST_COST_H

#include "coordinator/plan/forecast/figures.h"
#include "node/model/program.h"

struct cf_kv;

/* Seconds that products with some weights take, weights in cache: once for any number of rows, then for each row up to
 * CF_FEW_ROWS (node/engine/rate.h), for each one more up to CF_MANY_ROWS, and for each one beyond. */
struct cf_cost_work {
    double unpacking, few, more, many;
};

struct cf_cost {
    double bytes; /* weights that are streamed once, for any number of rows */
    struct cf_cost_work work;
    double expert_bytes;             /* all experts of which this rank holds a part, its part; rows choose among them */
    struct cf_cost_work expert_work; /* of all of them, as if every row went through every one */
    double chosen;                   /* share of the experts that one row chooses */
    double row_seconds;              /* of what a row takes into products and out of them */
    double key_bytes;                /* of the cache, per key that a sequence has */
    double key_seconds;              /* scores and values of one row and key, cache in cache */
    uint32_t window;                 /* keys that a row sees at most, 0: all */
    double rounds;                   /* times that the rank's threads meet */
};

/* Of instruction `i` on `rank`. kv: the rank's cache as measured (cf_kv_measure). */
void cf_cost_of(struct cf_cost *c, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    const struct cf_kv *kv, const struct cf_instr *i, uint32_t rank, const struct cf_rank_info *info);

/* Rows of a batch: of `sequences` sequences, each with `keys` positions in the cache at the end. */
struct cf_cost_rows {
    double rows, sequences, keys;
};
/* times: so many times as fast as its figures say the rank reads. */
double cf_cost_seconds(
    const struct cf_cost *c, const struct cf_cost_rows *r, const struct cf_rank_info *info, double times);

/* Reading and multiplying go on together, but not perfectly: the longer of the two and this share of the other. */
#define CF_COST_BESIDE 0.5

/* What an instruction costs beside its products and its threads' meetings: norms and rotations of a row, mailboxes, the
 * clock. An estimate: on an AMD EPYC 9005 a token of the story model (1.7 MB, one thread) takes 44 us, about half of it
 * outside of products as perf sees it, in some 26 instructions. Counted where `step` is known. README.md has what runs
 * make of it. */
#define CF_COST_INSTRUCTION 0.8e-6

/* Products whose weights and rows come from memory, and whose results go there, against the same in cache. */
#define CF_COST_STREAMED 1.15

#endif
