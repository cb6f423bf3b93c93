/* A small model and machines with figures made for sums by hand, for tests of what the planner foretells and chooses.
 */
#ifndef COFFER_TESTS_SMALL_MACHINES_H
#define COFFER_TESTS_SMALL_MACHINES_H

#include <math.h>
#include <string.h>

#include "coordinator/plan/planner.h"
#include "small_model.h"

static const double BANDWIDTH = 1e9, LATENCY = 1e-4;

struct fixture {
    struct small_model s;
    struct cf_figures f;
    struct cf_plan plan;
};

/* As many hosts as ranks; kernels and threads cost nothing, so that every second is a byte or a message. */
static inline void set_up_with(struct fixture *x, uint32_t ranks, const struct small_shape *shape) {
    struct cf_error e = {0};
    memset(x, 0, sizeof *x);
    if (small_model_open(&x->s, shape, &e) || cf_figures_new(&x->f, ranks, ranks, &e)) fail_msg("%s", e.text);
    small_ranks(x->f.ranks, ranks, ranks);
    for (uint32_t r = 0; r < ranks; r++)
        x->f.ranks[r].bandwidth = BANDWIDTH;
    for (uint32_t k = 0; k < ranks * ranks; k++)
        x->f.links[k] = cf_link_of(LATENCY, 1e12);
}

static inline void set_up(struct fixture *x, uint32_t ranks) {
    static const struct small_shape shape = {8, 256, 8, 4, 32, 512, 1024, true, "q8_0"};
    set_up_with(x, ranks, &shape);
}

static inline void tear_down(struct fixture *x) {
    cf_plan_free(&x->plan);
    cf_figures_free(&x->f);
    small_model_close(&x->s);
}

static inline void near(double got, double want, double share) {
    if (fabs(got - want) > share * want) fail_msg("%.9g instead of %.9g", got, want);
}

#endif
