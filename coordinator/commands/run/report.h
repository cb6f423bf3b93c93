/* What a run says about itself at its end: the JSON object's plan and timings, one line of speed, the table of --stats.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_REPORT_H
#define COFFER_COORDINATOR_COMMANDS_REPORT_H

#include "coordinator/decode/generate.h"
#include "coordinator/decode/schedule.h"

void cf_report_result(struct cf_result *result, const struct cf_job *j, const struct cf_rank_counts *counts,
    double prefill, double decode);
/* Measured beside predicted, and a rank that is much slower than it should be. Tokens per second, NaN: nothing
 * measured. */
void cf_report_speed(struct cf_terminal *t, const struct cf_job *j, const struct cf_generate *g,
    const struct cf_rank_counts *counts, double prefill, double decode);
/* The same of many prompts, of which n_answers are answered. */
void cf_report_schedule(
    struct cf_terminal *t, const struct cf_schedule *s, uint32_t n_answers, const struct cf_rank_counts *counts);
void cf_report_stats(struct cf_terminal *t, const struct cf_job *j, const struct cf_rank_counts *counts);

#endif
