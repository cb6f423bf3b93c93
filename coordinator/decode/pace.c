/* See pace.h. */
#include "coordinator/decode/pace.h"

#include <math.h>
#include <stdlib.h>

#include "coordinator/plan/forecast/straggler.h"

enum { TOKENS = 16 }; /* of the answer that are played through */

/* Tokens/s, 0: unknown. What each rank's work of it should take, times `share`, is added to work[]. */
static double foretell(const struct cf_job *j, struct cf_workload w, double share, double *work) {
    struct cf_forecast f;
    struct cf_error ignored;
    if (cf_job_forecast(j, &w, &f, &ignored)) return 0;
    double rate = f.rate;
    for (uint32_t r = 0; r < f.n_ranks && work; r++)
        work[r] += share * f.ranks[r].compute;
    cf_forecast_free(&f);
    return rate > 0 ? rate : 0;
}

static void say(char text[48], double rate) {
    if (rate > 0) snprintf(text, 48, " (predicted %.*f)", rate < 100 ? 2 : 1, rate);
}

void cf_pace_of(struct cf_pace *p, const struct cf_job *j, const struct cf_generate *g) {
    uint32_t all = g->n_prompt + g->n_again, n_new = g->n_generated - g->n_again, more = n_new ? n_new - 1 : 0;
    *p = (struct cf_pace){.work = calloc(j->n_ranks, sizeof *p->work)};
    if (all > g->start)
        say(p->prefill, foretell(j, (struct cf_workload){.depth = g->start, .prompt = all - g->start}, 1, p->work));
    if (more)
        say(p->decode, foretell(j, (struct cf_workload){.depth = all + more / 2, .generate = TOKENS, .sequences = 1},
                           (double)more / TOKENS, p->work));
}

/* A prompt as long as those that were read at once, so that it makes batches like theirs; but no longer than one of
 * them needs to, for it looks back at all of itself. */
static uint32_t prompt_like(const struct cf_schedule *s) {
    const struct cf_plan *p = &s->job->plan;
    double waiting = s->rows.waiting / (double)s->rows.prompt, own = (double)s->n_prompt / (double)s->n_sequences;
    double batches = (double)p->n_rows * p->n_flight, most = own > batches ? own : batches;
    return (uint32_t)((waiting < most ? waiting : most) + 0.5);
}

void cf_pace_of_schedule(struct cf_pace *p, const struct cf_schedule *s) {
    const struct cf_schedule_rows *k = &s->rows;
    double seconds = 0;
    *p = (struct cf_pace){.work = calloc(s->job->n_ranks, sizeof *p->work)};
    if (k->prompt) {
        struct cf_workload w = {.prompt = prompt_like(s)};
        seconds += (double)k->prompt / foretell(s->job, w, (double)k->prompt / w.prompt, p->work);
    }
    if (k->answer) {
        double n = (double)k->answer;
        struct cf_workload w = {
            .depth = (uint32_t)(k->depth / n), .generate = TOKENS, .sequences = (uint32_t)(k->together / n + 0.5)};
        seconds += n / foretell(s->job, w, n / (TOKENS * w.sequences), p->work);
    }
    if (seconds > 0 && isfinite(seconds)) say(p->decode, (double)s->n_generated / seconds);
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
