/* Answers beside what the planner foretold of them: their speed, and a rank that was much slower than it should be.
 */
#ifndef COFFER_COORDINATOR_DECODE_PACE_H
#define COFFER_COORDINATOR_DECODE_PACE_H

#include "coordinator/decode/generate.h"
#include "coordinator/decode/schedule.h"

struct cf_pace {
    char prefill[48], decode[48]; /* " (predicted 12.3)", tokens/s; "": nothing was predicted, or nothing measured */
    double *work;                 /* [n_ranks] predicted seconds of work; owned; NULL: no memory */
};

/* Of the answer that g has made. What came before a failure counts as a part of its prompt. */
void cf_pace_of(struct cf_pace *p, const struct cf_job *j, const struct cf_generate *g);
/* Of the answers of a schedule, from what its batches were like; `decode` is of all that was generated in all its
 * time. */
void cf_pace_of_schedule(struct cf_pace *p, const struct cf_schedule *s);
void cf_pace_free(struct cf_pace *p);

/* A rank that was much slower than foretold, and held the others up (plan/forecast/straggler.h), or -1. counts: what n
 * ranks have done by now. worked: [n] seconds of work that is not the answer's, done before it; what has been done by
 * now stands in it afterwards; NULL: none. */
int cf_pace_straggler(
    const struct cf_pace *p, const struct cf_rank_counts *counts, uint32_t n, double *worked, double *ratio);
/* The same for all ranks of the job, in words. */
void cf_pace_say_straggler(const struct cf_pace *p, struct cf_terminal *t, const struct cf_job *j,
    const struct cf_rank_counts *counts, double *worked);

#endif
