/* See report.h. */
#include "coordinator/commands/run/report.h"

#include <math.h>
#include <string.h>

#include "coordinator/decode/pace.h"
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

void cf_report_speed(struct cf_terminal *t, const struct cf_job *j, const struct cf_generate *g,
    const struct cf_rank_counts *counts, double prefill, double decode) {
    struct cf_pace p;
    uint32_t n_new = g->n_generated - g->n_again;
    cf_pace_of(&p, j, g);
    if (isnan(decode))
        cf_terminal_note(t, "load %.2f s, prefill %u tokens at %.1f tokens/s%s", j->load_seconds,
            g->n_prompt + g->n_again, prefill, p.prefill);
    else
        cf_terminal_note(t, "load %.2f s, prefill %u tokens at %.1f tokens/s%s, decode %u tokens at %.2f tokens/s%s",
            j->load_seconds, g->n_prompt + g->n_again, prefill, p.prefill, n_new - 1, decode, p.decode);
    cf_pace_say_straggler(&p, t, j, counts, NULL);
    cf_pace_free(&p);
}

void cf_report_schedule(
    struct cf_terminal *t, const struct cf_schedule *s, uint32_t n_answers, const struct cf_rank_counts *counts) {
    struct cf_pace p;
    cf_pace_of_schedule(&p, s);
    cf_terminal_note(t,
        "load %.2f s, %u prompts of %llu tokens, %llu tokens generated in %.2f s at %.1f tokens/s%s, %u sequences at "
        "once",
        s->job->load_seconds, n_answers, (unsigned long long)s->n_prompt, (unsigned long long)s->n_generated,
        s->seconds, s->seconds > 0 ? (double)s->n_generated / s->seconds : 0.0, p.decode, s->job->plan.n_seqs);
    cf_pace_say_straggler(&p, t, s->job, counts, NULL);
    cf_pace_free(&p);
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
