/* What a plan looks like: the table of placements. */
#include <string.h>

#include "coordinator/plan/planner.h"

static const double MIB = 1024.0 * 1024.0;

static const char *axis_name(enum cf_domain d) {
    return d == CF_PREFRONTAL ? "vocabulary tiles" : d == CF_RIGHT_HEMI ? "MLP chunks" : "attention chunks";
}

static void print_rows(FILE *to, const struct cf_plan *p, const struct cf_model *m) {
    fprintf(to, "%-11s %-9s slices (rank: chunks of the domain's axis)\n", "domain", "layers");
    for (uint32_t i = 0; i < p->n_plan_rows; i++) {
        const struct cf_plan_row *r = &p->rows[i];
        char layers[32];
        snprintf(layers, sizeof layers, "%u-%u", r->layer0, r->layer1 - 1);
        fprintf(to, "%-11s %-9s", cf_domain_name(r->domain), layers);
        for (uint32_t k = 0; k < r->n; k++)
            fprintf(to, " %d:[%u,%u)", r->ranks[k], r->cuts[k], r->cuts[k + 1]);
        fprintf(to, " of %u %s\n", cf_plan_axis_chunks(m, r->domain, r->layer0), axis_name(r->domain));
    }
}

int cf_planner_print(FILE *to, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    const struct cf_rank_info *ranks, uint32_t n_ranks, struct cf_error *e) {
    fprintf(to, "layout %s, %u rank%s, context %u, %u sequence%s, at most %u micro-batch%s in flight\n\n",
        cf_layout_name(p->layout), n_ranks, n_ranks == 1 ? "" : "s", p->n_ctx, p->n_seqs, p->n_seqs == 1 ? "" : "s",
        p->n_flight, p->n_flight == 1 ? "" : "es");
    print_rows(to, p, m);
    fprintf(to, "\n%4s  %-16s %4s %7s %12s %12s %12s %12s\n", "rank", "host", "node", "threads", "weights MiB",
        "KV MiB", "buffers MiB", "free MiB");
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n_ranks; i++) {
        struct cf_rank_need n;
        if (cf_planner_need(p, m, g, i, &ranks[i], &n, e)) return -1;
        sum += n.weights;
        fprintf(to, "%4u  %-16s %4d %7u %12.1f %12.1f %12.1f %12.1f\n", i, ranks[i].host, ranks[i].node,
            ranks[i].threads, (double)n.weights / MIB, (double)n.kv / MIB, (double)n.buffers / MIB,
            (double)ranks[i].memory_free / MIB);
    }
    struct cf_plan one = *p;
    struct cf_plan_row rows[2 * CF_DOMAINS];
    memset(rows, 0, sizeof rows);
    one.rows = rows, one.n_plan_rows = 0;
    for (int d = 0; d < CF_DOMAINS; d++) {
        /* Leading layers without experts have rows of their own. */
        uint32_t dense = m->experts.n && m->experts.dense < m->n_layers ? m->experts.dense : 0;
        for (uint32_t l = 0; l < m->n_layers; l = l || !dense ? m->n_layers : dense) {
            struct cf_plan_row *r = &rows[one.n_plan_rows++];
            r->domain = (enum cf_domain)d, r->layer0 = l, r->layer1 = l || !dense ? m->n_layers : dense, r->n = 1;
            r->cuts[1] = cf_plan_axis_chunks(m, r->domain, l);
        }
    }
    struct cf_rank_need n;
    if (cf_planner_need(&one, m, g, 0, &ranks[0], &n, e)) return -1;
    fprintf(to, "\nweights %.1f MiB in all, %.1f MiB of them replicated\n", (double)sum / MIB,
        sum > n.weights ? (double)(sum - n.weights) / MIB : 0.0);
    return 0;
}
