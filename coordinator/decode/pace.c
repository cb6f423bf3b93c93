/* See pace.h. */
#include "coordinator/decode/pace.h"

#include <stdlib.h>

#include "coordinator/plan/forecast/straggler.h"

enum { TOKENS = 16 }; /* of the answer that are played through */

/* The rate, and what each rank's work of it should take, times `share`, is added to work[]. */
static void foretell(const struct cf_job *j, struct cf_workload w, double share, double *work, char text[48]) {
    struct cf_forecast f;
    struct cf_error ignored;
    if (cf_job_forecast(j, &w, &f, &ignored)) return;
    if (f.rate > 0) snprintf(text, 48, " (predicted %.*f)", f.rate < 100 ? 2 : 1, f.rate);
    for (uint32_t r = 0; r < f.n_ranks && work; r++)
        work[r] += share * f.ranks[r].compute;
    cf_forecast_free(&f);
}

void cf_pace_of(struct cf_pace *p, const struct cf_job *j, const struct cf_generate *g) {
    uint32_t all = g->n_prompt + g->n_again, n_new = g->n_generated - g->n_again, more = n_new ? n_new - 1 : 0;
    *p = (struct cf_pace){.work = calloc(j->n_ranks, sizeof *p->work)};
    if (all > g->start)
        foretell(j, (struct cf_workload){.depth = g->start, .prompt = all - g->start}, 1, p->work, p->prefill);
    if (more)
        foretell(j, (struct cf_workload){.depth = all + more / 2, .generate = TOKENS, .sequences = 1},
            (double)more / TOKENS, p->work, p->decode);
}

void cf_pace_free(struct cf_pace *p) {
    free(p->work);
    p->work = NULL;
}

int cf_pace_straggler(
    const struct cf_pace *p, const struct cf_rank_counts *counts, uint32_t n, double *worked, double *ratio) {
    double *measured = calloc(n, sizeof *measured);
    for (uint32_t r = 0; measured && r < n; r++) {
        double now = 0;
        for (int d = 0; d < CF_DOMAINS; d++)
            now += counts[r].domain[d].seconds;
        measured[r] = now - (worked ? worked[r] : 0);
        if (worked) worked[r] = now;
    }
    int rank = measured && p->work && n > 1 ? cf_straggler(p->work, measured, n, ratio) : -1;
    free(measured);
    return rank;
}

void cf_pace_say_straggler(const struct cf_pace *p, struct cf_terminal *t, const struct cf_job *j,
    const struct cf_rank_counts *counts, double *worked) {
    double ratio;
    int rank = cf_pace_straggler(p, counts, j->n_ranks, worked, &ratio);
    if (rank >= 0)
        cf_terminal_note(t, "coffer: rank %d (%s node %d): %.1f x slower than predicted, and the others wait for it",
            rank, j->ranks[rank].host, j->ranks[rank].node, ratio);
}
