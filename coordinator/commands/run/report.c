/* See report.h. */
#include "coordinator/commands/run/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan/forecast/straggler.h"

#include "coordinator/decode/rounding.h"

void cf_report_result(struct cf_result *result, const struct cf_job *j, const struct cf_rank_counts *counts,
    double prefill, double decode) {
    cf_result_timings(result, cf_layout_name(j->plan.layout), j->load_seconds, prefill, decode);
    struct cf_wire_count wire = cf_rounding_total(counts, j->n_ranks, CF_STEP_KINDS);
    cf_result_wire(result,
        &(struct cf_result_wire){cf_dtype_name(j->plan.wire), cf_rounding_rms(&wire), wire.values ? wire.most : NAN});
    for (uint32_t r = 0; r < j->n_ranks; r++) {
        const struct cf_rank_ready *k = cf_engine_ready(j->engine, (int)r);
        struct cf_result_rank *row = cf_result_rank(result, r);
        snprintf(row->host, sizeof row->host, "%s", j->ranks[r].host);
        row->node = j->ranks[r].node, row->bytes = k->bytes;
        row->threads = k->threads;
        row->local_percent = k->pages ? 100.0 * (double)k->local / (double)k->pages : NAN;
        row->compute_s = counts[r].compute, row->exchange_s = counts[r].exchange, row->wait_s = counts[r].wait;
    }
}

static void beside(char text[64], double predicted) {
    *text = 0;
    if (predicted > 0) snprintf(text, 64, " (predicted %.*f)", predicted < 100 ? 2 : 1, predicted);
}

/* The rate, and what each rank's work of it should take, times `share`, is added to work[]. */
static double forecast(const struct cf_job *j, struct cf_workload w, double share, double *work) {
    struct cf_forecast f;
    struct cf_error ignored;
    if (cf_job_forecast(j, &w, &f, &ignored)) return 0;
    double rate = f.rate;
    for (uint32_t r = 0; r < f.n_ranks && work; r++)
        work[r] += share * f.ranks[r].compute;
    cf_forecast_free(&f);
    return rate;
}

/* work: what was predicted, [n_ranks]; behind it there is room for as much again. */
static void say_straggler(
    struct cf_terminal *t, const struct cf_job *j, const struct cf_rank_counts *counts, double *work) {
    double ratio, *measured = work + j->n_ranks;
    for (uint32_t r = 0; r < j->n_ranks; r++)
        for (int d = 0; d < CF_DOMAINS; d++)
            measured[r] += counts[r].domain[d].seconds;
    int rank = cf_straggler(work, measured, j->n_ranks, &ratio);
    if (rank >= 0 && j->n_ranks > 1)
        cf_terminal_note(t, "coffer: rank %d (%s node %d): %.1f x slower than predicted, and the others wait for it",
            rank, j->ranks[rank].host, j->ranks[rank].node, ratio);
}

void cf_report_speed(struct cf_terminal *t, const struct cf_job *j, const struct cf_generate *g,
    const struct cf_rank_counts *counts, double prefill, double decode) {
    enum { TOKENS = 16 }; /* of the answer that are played through */
    char before[64], after[64];
    double *work = calloc(2 * (size_t)j->n_ranks, sizeof *work);
    /* What was generated before a failure is part of the prompt. */
    uint32_t all = g->n_prompt + g->n_again, n = all - g->start, n_new = g->n_generated - g->n_again,
             more = n_new ? n_new - 1 : 0;
    beside(before, n ? forecast(j, (struct cf_workload){.depth = g->start, .prompt = n}, 1, work) : 0);
    beside(after, more ? forecast(j, (struct cf_workload){.depth = all + more / 2, .generate = TOKENS, .sequences = 1},
                             (double)more / TOKENS, work)
                       : 0);
    if (isnan(decode))
        cf_terminal_note(t, "load %.2f s, prefill %u tokens at %.1f tokens/s%s", j->load_seconds, all, prefill, before);
    else
        cf_terminal_note(t, "load %.2f s, prefill %u tokens at %.1f tokens/s%s, decode %u tokens at %.2f tokens/s%s",
            j->load_seconds, all, prefill, before, more, decode, after);
    if (work) say_straggler(t, j, counts, work);
    free(work);
}

/* A line for each link that anything has passed over. */
static void say_traffic(struct cf_terminal *t, const struct cf_job *j) {
    for (uint32_t from = 0; from < j->n_ranks; from++) {
        const struct cf_traffic *row = cf_engine_traffic(j->engine, (int)from);
        for (uint32_t to = 0; to < j->n_ranks; to++) {
            const struct cf_traffic *k = &row[to];
            if (!k->messages && !k->bytes) continue;
            bool apart = j->ranks[from].host_index != j->ranks[to].host_index;
            cf_terminal_note(t,
                "%4u -> %u%s: %llu messages, %llu bytes of payload, %llu with envelopes, %llu through the window", from,
                to, apart ? " (another host)" : "", (unsigned long long)k->messages, (unsigned long long)k->payload,
                (unsigned long long)k->bytes, (unsigned long long)k->window);
        }
    }
}

void cf_report_stats(struct cf_terminal *t, const struct cf_job *j, const struct cf_rank_counts *counts) {
    cf_terminal_note(t, "%4s %-16s %4s %-11s %8s %12s %8s %12s %9s", "rank", "host", "node", "domain", "tensors",
        "bytes", "hits", "ms", "GB/s");
    for (uint32_t r = 0; r < j->n_ranks; r++) {
        for (int d = 0; d < CF_DOMAINS; d++) {
            const struct cf_domain_count *k = &counts[r].domain[d];
            if (!k->bytes && !k->hits) continue;
            cf_terminal_note(t, "%4u %-16s %4d %-11s %8u %12llu %8llu %12.2f %9.2f", r, j->ranks[r].host,
                j->ranks[r].node, cf_domain_name((enum cf_domain)d), k->tensors, (unsigned long long)k->bytes,
                (unsigned long long)k->hits, 1e3 * k->seconds,
                k->seconds > 0 ? (double)k->bytes_read / k->seconds / 1e9 : 0.0);
        }
        cf_terminal_note(t,
            "%4u %-16s %4d compute %.3f s, exchange %.3f s, wait %.3f s, resident %.1f MiB, peak %.1f MiB", r,
            j->ranks[r].host, j->ranks[r].node, counts[r].compute, counts[r].exchange, counts[r].wait,
            (double)counts[r].resident / (1024.0 * 1024.0), (double)counts[r].peak / (1024.0 * 1024.0));
    }
    say_traffic(t, j);
    if (!j->o->place.verbose) cf_job_say_loading(j);
}
