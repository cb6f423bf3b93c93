/* `coffer bench --cluster`: what a test says about the cluster beside its speed (bytes on links, the roofline of all
 * ranks together, efficiency against one rank), and how it is printed: markdown for people, CSV and JSON for programs.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/bench/bench.h"
#include "coordinator/decode/measure/measure.h"

enum { DIGITS = 9, MOST_SHARES = 8 };

/* ---- figures ---- */

/* The value below which a share of them lies: the smallest one with at least that many up to it (nearest rank). */
static double percentile(const double *sorted, size_t n, double share) {
    if (!n) return NAN;
    size_t i = (size_t)ceil(share * (double)n);
    return sorted[i ? i - 1 : 0];
}

void cf__cluster_gaps(struct cf__bench_test *k, double *gaps, size_t n) {
    qsort(gaps, n, sizeof *gaps, cf_measure_ascending);
    k->p50 = percentile(gaps, n, 0.5), k->p99 = percentile(gaps, n, 0.99);
}

static double tokens_per_second(const struct cf__bench_test *k) {
    return (double)k->generate * k->sequences / cf__bench_median(k);
}

double cf__cluster_efficiency(const struct cf__bench *b, const struct cf__bench_test *k) {
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const struct cf__bench_test *one = &b->tests[i];
        if (!one->alone || one->sequences != k->sequences || one->generate != k->generate || one->depth != k->depth ||
            one->ranks[0].threads != k->ranks[0].threads)
            continue;
        return tokens_per_second(k) / tokens_per_second(one) / (k->alone ? 1 : k->n_ranks);
    }
    return k->alone ? 1 : NAN; /* itself, while it is printed */
}

static double wait_share(const struct cf__bench_rank *r) {
    double all = r->compute + r->exchange + r->wait;
    return all > 0 ? r->wait / all : NAN;
}

/* Bytes per token on all links. predicted: as simulated; NaN: not known. */
static double sum_of_links(const struct cf__bench_test *k, bool predicted) {
    double sum = 0;
    for (uint32_t i = 0; i < k->n_hosts * k->n_hosts; i++)
        if (i / k->n_hosts != i % k->n_hosts) sum += predicted ? k->links[i].predicted : k->links[i].payload;
    return sum;
}

/* Of ranks of one host among themselves there is a way, too, if there are several. */
static bool is_way(const struct cf__bench_test *k, uint32_t link) {
    uint32_t from = link / k->n_hosts, ranks = 0;
    if (from != link % k->n_hosts) return true;
    for (uint32_t r = 0; r < k->n_ranks; r++)
        ranks += k->ranks[r].host_index == from;
    return ranks > 1;
}

static uint32_t ranks_used(const struct cf__bench_test *k) {
    return k->alone ? 1 : k->n_ranks;
}

static const char *host_of(const struct cf__bench_test *k, uint32_t host) {
    for (uint32_t r = 0; r < k->n_ranks; r++)
        if (k->ranks[r].host_index == host) return k->ranks[r].host;
    return "";
}

/* ---- markdown ---- */

static void print_if(FILE *f, const char *format, double v) {
    if (isnan(v))
        fputs(" |", f);
    else
        fprintf(f, format, v); // NOLINT: all formats are in this file
}

static void head_md(FILE *f, const struct cf__bench *b) {
    char size[32];
    fprintf(f, "model %s, %s; kernels %s; %u tokens for each sequence, %u repetitions\n\n", cf__bench_model_name(b),
        cf__bench_model_size(b->model_bytes, size), b->isa, b->generates.v[0], b->repetitions);
    fprintf(f,
        "| layout | wire | ranks | sequences | tokens/s | min | max | predicted | p50, ms | p99, ms | roofline | "
        "efficiency | waiting | between hosts, bytes/token | rounding, rms |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|\n");
}

static void test_md(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    double tokens = (double)k->generate * k->sequences, least = NAN, most = NAN;
    fprintf(f, "| %s | %s | %u | %u | %.2f | %.2f | %.2f |", k->layout, k->wire, ranks_used(k), k->sequences,
        tokens_per_second(k), tokens / k->seconds[k->n - 1], tokens / k->seconds[0]);
    print_if(f, " %.2f |", k->predicted > 0 ? k->predicted : NAN);
    print_if(f, " %.2f |", 1e3 * k->p50);
    print_if(f, " %.2f |", 1e3 * k->p99);
    print_if(f, " %.1f %% |", k->limit > 0 ? 100 * k->limit / cf__bench_median(k) : NAN);
    print_if(f, " %.2f |", cf__cluster_efficiency(b, k));
    for (uint32_t r = 0; r < ranks_used(k); r++) {
        double share = wait_share(&k->ranks[r]);
        least = fmin(least, share), most = fmax(most, share);
        if (ranks_used(k) <= MOST_SHARES) fprintf(f, "%s%.0f %%", r ? ", " : " ", 100 * share);
    }
    if (ranks_used(k) > MOST_SHARES) fprintf(f, " %.0f to %.0f %%", 100 * least, 100 * most);
    fprintf(f, " | %.0f |", sum_of_links(k, false));
    print_if(f, " %.2g |", k->wire_rms);
    putc('\n', f);
}

static void foot_md(FILE *f, const struct cf__bench *b) {
    fprintf(f, "\n| layout | wire | sequences | link | bytes/token | simulated | with envelopes |\n"
               "|---|---|---:|---|---:|---:|---:|\n");
    for (uint32_t t = 0; t < b->n_tests; t++) {
        const struct cf__bench_test *k = &b->tests[t];
        for (uint32_t i = 0; i < k->n_hosts * k->n_hosts; i++) {
            uint32_t from = i / k->n_hosts, to = i % k->n_hosts;
            const struct cf__bench_link *l = &k->links[i];
            if (!is_way(k, i) || (k->alone && k->n_ranks > 1)) continue;
            fprintf(f, "| %s | %s | %u | ", k->layout, k->wire, k->sequences);
            if (from == to)
                fprintf(f, "within %u (%s) | %.0f |", from, host_of(k, from), l->payload);
            else
                fprintf(f, "%u (%s) to %u (%s) | %.0f |", from, host_of(k, from), to, host_of(k, to), l->payload);
            print_if(f, " %.0f |", l->predicted);
            fprintf(f, " %.0f |\n", l->bytes);
        }
    }
}

/* ---- CSV ---- */

static void head_csv(FILE *f) {
    fputs("model,model_bytes,isa,layout,alone,wire,ranks,hosts,threads,sequences,n_gen,depth,batches,repetitions,tps_"
          "median,tps_min,tps_max,tps_predicted,p50_s,p99_s,roofline_share,efficiency,rank_wait_share,link_bytes_per_"
          "token,link_bytes_per_token_predicted,wire_rms,wire_most\n",
        f);
}

static void csv_known(FILE *f, double v) {
    if (!isnan(v)) fprintf(f, "%.9g", v);
    putc(',', f);
}

/* "0>1=8192;1>0=8192" */
static void csv_links(FILE *f, const struct cf__bench_test *k, bool predicted) {
    const char *between = "";
    for (uint32_t i = 0; i < k->n_hosts * k->n_hosts; i++) {
        double v = predicted ? k->links[i].predicted : k->links[i].payload;
        if (!is_way(k, i) || isnan(v)) continue;
        fprintf(f, "%s%u>%u=%.9g", between, i / k->n_hosts, i % k->n_hosts, v);
        between = ";";
    }
}

static void test_csv(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    double tokens = (double)k->generate * k->sequences;
    cf__bench_print_quoted(f, cf__bench_model_name(b));
    fprintf(f, ",%llu,%s,%s,%d,%s,%u,%u,%u,%u,%u,%u,%u,%u,", (unsigned long long)b->model_bytes, b->isa, k->layout,
        k->alone, k->wire, ranks_used(k), k->n_hosts, k->ranks[0].threads, k->sequences, k->generate, k->depth,
        k->batches, k->n);
    csv_known(f, tokens_per_second(k));
    csv_known(f, tokens / k->seconds[k->n - 1]);
    csv_known(f, tokens / k->seconds[0]);
    csv_known(f, k->predicted > 0 ? k->predicted : NAN);
    csv_known(f, k->p50);
    csv_known(f, k->p99);
    csv_known(f, k->limit > 0 ? k->limit / cf__bench_median(k) : NAN);
    csv_known(f, cf__cluster_efficiency(b, k));
    for (uint32_t r = 0; r < k->n_ranks; r++)
        fprintf(f, "%s%.6g", r ? ";" : "", wait_share(&k->ranks[r]));
    putc(',', f);
    csv_links(f, k, false);
    putc(',', f);
    csv_links(f, k, true);
    putc(',', f);
    csv_known(f, k->wire_rms);
    if (!isnan(k->wire_most)) fprintf(f, "%.9g", k->wire_most);
    putc('\n', f);
}

/* ---- JSON ---- */

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *cf__cluster_json(const struct cf__bench *b, const struct cf__bench_test *k) {
    double tokens = (double)k->generate * k->sequences;
    json_t *ranks = json_array(), *links = json_array();
    for (uint32_t r = 0; r < k->n_ranks; r++) {
        const struct cf__bench_rank *x = &k->ranks[r];
        json_array_append_new(
            ranks, json_pack("{s:i,s:s,s:i,s:i,s:i,s:f,s:f,s:f,s:f,s:o}", "rank", (int)r, "host", x->host, "host_index",
                       (int)x->host_index, "node", x->node, "threads", (int)x->threads, "bandwidth_gbps",
                       1e-9 * x->bandwidth, "compute_s", x->compute, "exchange_s", x->exchange, "wait_s", x->wait,
                       "wait_share", number(wait_share(x))));
    }
    for (uint32_t i = 0; i < k->n_hosts * k->n_hosts; i++)
        if (is_way(k, i))
            json_array_append_new(
                links, json_pack("{s:i,s:i,s:f,s:o,s:f}", "from", (int)(i / k->n_hosts), "to", (int)(i % k->n_hosts),
                           "bytes_per_token", k->links[i].payload, "bytes_per_token_predicted",
                           number(k->links[i].predicted), "bytes_per_token_with_envelopes", k->links[i].bytes));
    json_t *speed =
        json_pack("{s:f,s:f,s:f,s:o}", "tps_median", tokens_per_second(k), "tps_min", tokens / k->seconds[k->n - 1],
            "tps_max", tokens / k->seconds[0], "tps_predicted", number(k->predicted > 0 ? k->predicted : NAN));
    json_t *rest = json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "wire_rms", number(k->wire_rms), "wire_most",
        number(k->wire_most), "p50_s", number(k->p50), "p99_s", number(k->p99), "roofline_share",
        number(k->limit > 0 ? k->limit / cf__bench_median(k) : NAN), "efficiency", number(cf__cluster_efficiency(b, k)),
        "ranks", ranks, "links", links);
    json_t *all = json_pack("{s:s,s:s,s:b,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "layout", k->layout, "wire", k->wire, "alone",
        k->alone, "n_ranks", (int)ranks_used(k), "n_hosts", (int)k->n_hosts, "sequences", (int)k->sequences, "n_gen",
        (int)k->generate, "depth", (int)k->depth, "batches", (int)k->batches, "repetitions", (int)k->n);
    if (json_object_update(all, speed) || json_object_update(all, rest)) {
        json_decref(all);
        all = NULL;
    }
    json_decref(speed);
    json_decref(rest);
    return all;
}

/* ---- as it comes ---- */

void cf__cluster_head(FILE *f, const struct cf__bench *b) {
    if (!strcmp(b->output, "csv"))
        head_csv(f);
    else
        head_md(f, b);
}

void cf__cluster_test(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    if (!strcmp(b->output, "csv"))
        test_csv(f, b, k);
    else
        test_md(f, b, k);
}

void cf__cluster_foot(FILE *f, const struct cf__bench *b) {
    if (strcmp(b->output, "csv") != 0) foot_md(f, b);
}
