/* See rounding.h. */
#include "coordinator/decode/rounding.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct cf_wire_count cf_rounding_total(const struct cf_rank_counts *counts, uint32_t n_ranks, int step) {
    struct cf_wire_count sum = {0};
    for (uint32_t r = 0; r < n_ranks; r++)
        for (int s = 0; s < CF_STEP_KINDS; s++)
            if (step == CF_STEP_KINDS || s == step) cf_wire_count_add(&sum, &counts[r].wire[s]);
    return sum;
}

double cf_rounding_rms(const struct cf_wire_count *k) {
    return k->value2 > 0 ? sqrt(k->error2 / k->value2) : NAN;
}

static void say(const struct cf_job *j, const char *what, const struct cf_wire_count *k) {
    char cut[96] = "";
    if (!k->values) return;
    if (k->cut) snprintf(cut, sizeof cut, "; %llu were beyond 65504 and cut there", (unsigned long long)k->cut);
    cf_terminal_note(j->o->terminal,
        "coffer: wire %s, %s: %llu numbers rounded, error %.4f %% (rms), at most %.4f %% of the largest of a line%s",
        cf_dtype_name(j->plan.wire), what, (unsigned long long)k->values, 100 * cf_rounding_rms(k), 100 * k->most, cut);
}

int cf_rounding_say(struct cf_job *j, struct cf_error *e) {
    if (j->plan.wire == CF_DTYPE_F32 || !j->plan.host || j->no_exchange) return 0;
    struct cf_rank_counts *counts = calloc(j->n_ranks, sizeof *counts);
    if (!counts) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    int rc = cf_engine_counts(j->engine, counts, e);
    for (int step = 0; !rc && step <= CF_STEP_KINDS; step++) {
        struct cf_wire_count k = cf_rounding_total(counts, j->n_ranks, step);
        if (step == CF_STEP_KINDS || j->o->place.verbose)
            say(j, step == CF_STEP_KINDS ? "all" : cf_step_name((enum cf_step)step), &k);
    }
    free(counts);
    return rc;
}
