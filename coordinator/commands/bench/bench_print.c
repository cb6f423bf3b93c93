/* What `coffer bench` prints, line by line as the tests end: markdown for people; CSV (one line per test, the same
 * columns always), JSON and JSON lines for programs. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/bench/bench.h"
#include "coordinator/decode/measure/measure.h"

enum { DIGITS = 9 };

/* The figures of a line. NaN: not known. */
struct line {
    char name[96];
    double median, least, most; /* tokens/s */
    double read;                /* bytes/s of weights and cache; of decode lines */
    double share;               /* of the speed that the measured rates allow */
};

static double bandwidth_sum(const struct cf__bench_test *k) {
    double sum = 0;
    for (uint32_t r = 0; r < k->n_ranks; r++)
        sum += k->ranks[r].bandwidth;
    return sum;
}

const char *cf__bench_model_name(const struct cf__bench *b) {
    if (b->synthetic) return b->synthetic;
    const char *slash = strrchr(b->model, '/');
    return slash ? slash + 1 : b->model;
}

static void test_name(const struct cf__bench_test *k, char *out, size_t size) {
    char prompt[16] = "", generate[16] = "", sequences[16] = "", depth[24] = "";
    if (k->prompt) snprintf(prompt, sizeof prompt, "pp%u", k->prompt);
    if (k->generate) snprintf(generate, sizeof generate, "%stg%u", k->prompt ? "+" : "", k->generate);
    if (k->sequences > 1) snprintf(sequences, sizeof sequences, " x %u", k->sequences);
    if (k->depth) snprintf(depth, sizeof depth, " @ d%u", k->depth);
    snprintf(out, size, "%s%s%s%s%s", prompt, generate, sequences, depth,
        k->no_exchange ? " (no exchange: not a result)" : "");
}

/* The layout, and how it passes numbers between hosts if that is not as they are. */
static const char *layout_name(const struct cf__bench_test *k, char out[32]) {
    bool plain = !strcmp(k->wire, cf_dtype_name(CF_DTYPE_F32));
    snprintf(out, 32, "%s%s%s", k->layout, plain ? "" : ", wire ", plain ? "" : k->wire);
    return out;
}

double cf__bench_median(const struct cf__bench_test *k) {
    return k->n % 2 ? k->seconds[k->n / 2] : (k->seconds[k->n / 2 - 1] + k->seconds[k->n / 2]) / 2;
}

static struct line line_of(const struct cf__bench_test *k) {
    double tokens = (double)k->prompt + (double)k->generate * k->sequences;
    double median = cf__bench_median(k);
    struct line l = {.median = tokens / median,
        .least = tokens / k->seconds[k->n - 1],
        .most = tokens / k->seconds[0],
        .read = NAN,
        .share = NAN};
    test_name(k, l.name, sizeof l.name);
    if (k->generate && !k->prompt) l.read = (double)k->bytes_read / median;
    if (k->limit > 0) l.share = k->limit / median;
    return l;
}

/* ---- markdown ---- */

const char *cf__bench_model_size(uint64_t bytes, char text[32]) {
    bool small = bytes < (uint64_t)1 << 30;
    snprintf(text, 32, "%.2f %s", (double)bytes / (small ? 1 << 20 : 1 << 30), small ? "MiB" : "GiB");
    return text;
}

static void head_md(FILE *f, const struct cf__bench *b) {
    char size[32];
    if (b->n_models > 1)
        fprintf(f, "kernels %s; %u repetitions\n\n| model | size ", b->isa, b->repetitions);
    else
        fprintf(f, "model %s, %s; kernels %s; %u repetitions\n\n", cf__bench_model_name(b),
            cf__bench_model_size(b->model_bytes, size), b->isa, b->repetitions);
    fprintf(f, "| layout | ranks | threads | test | tokens/s | min | max | predicted | read, GB/s | roofline |\n");
    fprintf(f, "%s|---|---:|---:|---|---:|---:|---:|---:|---:|---:|\n", b->n_models > 1 ? "|---|---:" : "");
}

/* Where there are several, the first column. */
static void model_md(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    if (b->n_models > 1) fprintf(f, "| %s ", k->model);
}

static void test_md(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    struct line l = line_of(k);
    char layout[32], size[32];
    model_md(f, b, k);
    if (b->n_models > 1) fprintf(f, "| %s ", cf__bench_model_size(k->model_bytes, size));
    fprintf(f, "| %s | %u | %u | %s | %.2f | %.2f | %.2f |", layout_name(k, layout), k->n_ranks, k->ranks[0].threads,
        l.name, l.median, l.least, l.most);
    if (k->predicted > 0)
        fprintf(f, " %.2f |", k->predicted);
    else
        fprintf(f, " |");
    if (isnan(l.read))
        fprintf(f, " |");
    else
        fprintf(f, " %.2f |", 1e-9 * l.read);
    if (isnan(l.share))
        fprintf(f, " |\n");
    else
        fprintf(f, " %.1f %% |\n", 100 * l.share);
}

/* Were these two tests done by the same ranks, which were then measured once? */
static bool same_ranks(const struct cf__bench_test *x, const struct cf__bench_test *y) {
    return x->model == y->model && x->n_ranks == y->n_ranks && x->ranks[0].threads == y->ranks[0].threads &&
           fabs(x->ranks[0].bandwidth - y->ranks[0].bandwidth) <= 1e-6 * x->ranks[0].bandwidth;
}

static void ranks_md(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    for (uint32_t r = 0; r < k->n_ranks; r++) {
        const struct cf__bench_rank *x = &k->ranks[r];
        model_md(f, b, k);
        fprintf(
            f, "| %u | %u | %s | %d | %u | %.2f |\n", k->n_ranks, r, x->host, x->node, x->threads, 1e-9 * x->bandwidth);
    }
}

static void links_md(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    for (uint32_t i = 0; i < k->n_probes; i++) {
        const struct cf_probe *p = &k->probes[i];
        const char *from = k->ranks[p->a].host, *to = k->ranks[p->b].host;
        bool one = !strcmp(from, to);
        model_md(f, b, k);
        fprintf(f, "| %u | %u - %u | %s%s%s |", k->n_ranks, p->a, p->b, from, one ? "" : " - ", one ? "" : to);
        for (int s = 0; s < CF_LINK_SIZES; s++)
            fprintf(f, " %.1f |", 1e6 * p->seconds[s]);
        fprintf(f, "\n");
    }
}

static void foot_md(FILE *f, const struct cf__bench *b) {
    bool links = false, several = b->n_models > 1;
    const char *title = several ? "| model " : "", *rule = several ? "|---" : "";
    fprintf(f, "\n%s| ranks | rank | host | node | threads | read bandwidth, GB/s |\n", title);
    fprintf(f, "%s|---:|---:|---|---:|---:|---:|\n", rule);
    for (uint32_t i = 0; i < b->n_tests; i++) {
        if (i == 0 || !same_ranks(&b->tests[i], &b->tests[i - 1])) ranks_md(f, b, &b->tests[i]);
        links |= b->tests[i].n_probes > 0;
    }
    if (links) {
        fprintf(f, "\n%s| ranks | link | hosts | 8 B, us | 16 KiB, us | 1 MiB, us |\n", title);
        fprintf(f, "%s|---:|---|---|---:|---:|---:|\n", rule);
    }
    for (uint32_t i = 0; i < b->n_tests; i++)
        if (i == 0 || b->tests[i].model != b->tests[i - 1].model || b->tests[i].n_ranks != b->tests[i - 1].n_ranks)
            links_md(f, b, &b->tests[i]);
    fprintf(f, "\n%s| layout | ranks | threads | test | rank | compute, s | exchange, s | wait, s |\n", title);
    fprintf(f, "%s|---|---:|---:|---|---:|---:|---:|---:|\n", rule);
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const struct cf__bench_test *k = &b->tests[i];
        struct line l = line_of(k);
        char layout[32];
        for (uint32_t r = 0; r < k->n_ranks; r++) {
            model_md(f, b, k);
            fprintf(f, "| %s | %u | %u | %s | %u | %.3g | %.3g | %.3g |\n", layout_name(k, layout), k->n_ranks,
                k->ranks[r].threads, l.name, r, k->ranks[r].compute, k->ranks[r].exchange, k->ranks[r].wait);
        }
    }
}

/* ---- CSV ---- */

void cf__bench_print_quoted(FILE *f, const char *s) {
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"') putc('"', f);
        putc(*s, f);
    }
    putc('"', f);
}

/* One value per rank, parted by semicolons, and what comes behind. `at`: offset of a double in a rank. */
static void print_per_rank(FILE *f, const struct cf__bench_test *k, size_t at, double scale, const char *end) {
    for (uint32_t r = 0; r < k->n_ranks; r++) {
        double v;
        memcpy(&v, (const char *)&k->ranks[r] + at, sizeof v);
        fprintf(f, "%s%.6g", r ? ";" : "", scale * v);
    }
    fputs(end, f);
}

static void head_csv(FILE *f) {
    fprintf(f, "model,model_bytes,isa,ranks,threads,layout,test,n_prompt,n_gen,depth,sequences,batches,repetitions,"
               "tps_median,tps_min,tps_max,read_gbps,roofline_share,bandwidth_gbps,rank_bandwidth_gbps,rank_compute_s,"
               "rank_exchange_s,rank_wait_s,tps_predicted,wire,wire_rms,wire_most,link_s,kv_type,n_ubatch\n");
}

/* A figure and the comma behind; nothing where it is not known. */
static void print_known(FILE *f, double v) {
    if (isnan(v))
        fputs(",", f);
    else
        fprintf(f, "%.6g,", v);
}

/* From-to: seconds one way of each size, parted by colons; the next after a semicolon. */
static void print_links(FILE *f, const struct cf__bench_test *k) {
    for (uint32_t i = 0; i < k->n_probes; i++) {
        fprintf(f, "%s%u-%u", i ? ";" : "", k->probes[i].a, k->probes[i].b);
        for (int s = 0; s < CF_LINK_SIZES; s++)
            fprintf(f, ":%.3g", k->probes[i].seconds[s]);
    }
}

static void test_csv(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    struct line l = line_of(k);
    cf__bench_print_quoted(f, k->model);
    fprintf(f, ",%llu,%s,%u,%u,%s,%s,%u,%u,%u,%u,%u,%u,%.6g,%.6g,%.6g,", (unsigned long long)k->model_bytes, b->isa,
        k->n_ranks, k->ranks[0].threads, k->layout, l.name, k->prompt, k->generate, k->depth, k->sequences, k->batches,
        k->n, l.median, l.least, l.most);
    print_known(f, 1e-9 * l.read);
    print_known(f, l.share);
    fprintf(f, "%.6g,", 1e-9 * bandwidth_sum(k));
    print_per_rank(f, k, offsetof(struct cf__bench_rank, bandwidth), 1e-9, ",");
    print_per_rank(f, k, offsetof(struct cf__bench_rank, compute), 1, ",");
    print_per_rank(f, k, offsetof(struct cf__bench_rank, exchange), 1, ",");
    print_per_rank(f, k, offsetof(struct cf__bench_rank, wait), 1, ",");
    print_known(f, k->predicted > 0 ? k->predicted : NAN);
    fprintf(f, "%s,", k->wire);
    print_known(f, k->wire_rms);
    print_known(f, k->wire_most);
    print_links(f, k);
    fprintf(f, ",%s,%u\n", k->kv_type, k->ubatch);
}

/* ---- JSON ---- */

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *json_rank(const struct cf__bench_test *k, uint32_t r) {
    const struct cf__bench_rank *x = &k->ranks[r];
    return json_pack("{s:i,s:s,s:i,s:i,s:f,s:f,s:f,s:f}", "rank", (int)r, "host", x->host, "node", x->node, "threads",
        (int)x->threads, "bandwidth_gbps", 1e-9 * x->bandwidth, "compute_s", x->compute, "exchange_s", x->exchange,
        "wait_s", x->wait);
}

static json_t *json_probe(const struct cf_probe *p) {
    json_t *one_way = json_array();
    for (int i = 0; i < CF_LINK_SIZES; i++)
        json_array_append_new(
            one_way, json_pack("{s:I,s:f}", "bytes", (json_int_t)cf_link_sizes[i], "seconds", p->seconds[i]));
    return json_pack("{s:i,s:i,s:o}", "from", (int)p->a, "to", (int)p->b, "one_way", one_way);
}

static json_t *json_test(const struct cf__bench_test *k) {
    struct line l = line_of(k);
    json_t *seconds = json_array(), *ranks = json_array(), *links = json_array();
    for (uint32_t i = 0; i < k->n_probes; i++)
        json_array_append_new(links, json_probe(&k->probes[i]));
    for (uint32_t i = 0; i < k->n; i++)
        json_array_append_new(seconds, json_real(k->seconds[i]));
    for (uint32_t r = 0; r < k->n_ranks; r++)
        json_array_append_new(ranks, json_rank(k, r));
    return json_pack(
        "{s:s,s:I,s:s,s:s,s:o,s:o,s:i,s:i,s:s,s:b,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:f,s:o,s:o,s:o,s:o,s:o,s:o,s:s,s:i}",
        "model", k->model, "model_bytes", (json_int_t)k->model_bytes, "layout", k->layout, "wire", k->wire, "wire_rms",
        number(k->wire_rms), "wire_most", number(k->wire_most), "n_ranks", (int)k->n_ranks, "n_threads",
        (int)k->ranks[0].threads, "test", l.name, "exchange", !k->no_exchange, "n_prompt", (int)k->prompt, "n_gen",
        (int)k->generate, "depth", (int)k->depth, "sequences", (int)k->sequences, "batches", (int)k->batches,
        "tps_median", l.median, "tps_min", l.least, "tps_max", l.most, "tps_predicted",
        number(k->predicted > 0 ? k->predicted : NAN), "read_gbps", number(1e-9 * l.read), "roofline_share",
        number(l.share), "seconds", seconds, "ranks", ranks, "links", links, "kv_type", k->kv_type, "n_ubatch",
        (int)k->ubatch);
}

enum { COMPACT = JSON_COMPACT | JSON_REAL_PRECISION(DIGITS) };

/* What the run has in common for all tests, and so the model where there is but one: an object. NULL: no memory. */
static json_t *json_run(const struct cf__bench *b) {
    if (b->n_models > 1)
        return json_pack("{s:s,s:s,s:i}", "version", COFFER_VERSION, "isa", b->isa, "n_ctx", (int)b->n_ctx);
    return json_pack("{s:s,s:s,s:I,s:s,s:i}", "version", COFFER_VERSION, "model", cf__bench_model_name(b),
        "model_bytes", (json_int_t)b->model_bytes, "isa", b->isa, "n_ctx", (int)b->n_ctx);
}

/* The object of the run, left open for its tests. */
static int head_json(FILE *f, const struct cf__bench *b) {
    json_t *run = json_run(b);
    char *text = run ? json_dumps(run, COMPACT) : NULL;
    json_decref(run);
    if (!text) return -1;
    fprintf(f, "%.*s,\"tests\":[\n", (int)strlen(text) - 1, text);
    free(text);
    return 0;
}

/* Each test a whole line, so that a reader of lines has it when it ends: the comma comes before the next one. */
static int test_json(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    json_t *test = b->cluster ? cf__cluster_json(b, k) : json_test(k);
    fputs(k == b->tests ? " " : ",", f);
    int rc = test ? json_dumpf(test, f, COMPACT) : -1;
    json_decref(test);
    putc('\n', f);
    return rc;
}

/* Each line an object of its own, with the run in it. */
static int test_jsonl(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k) {
    json_t *run = json_run(b), *test = b->cluster ? cf__cluster_json(b, k) : json_test(k);
    int rc = run && test && !json_object_set_new(run, "test", test) ? json_dumpf(run, f, COMPACT) : -1;
    json_decref(run);
    putc('\n', f);
    return rc;
}

/* ---- as it comes ---- */

enum part { HEAD, TEST, FOOT };

static int write_part(FILE *f, enum part part, const struct cf__bench *b, const struct cf__bench_test *k) {
    if (!strcmp(b->output, "json"))
        return part == HEAD ? head_json(f, b) : part == TEST ? test_json(f, b, k) : fputs("]}\n", f) < 0 ? -1 : 0;
    if (!strcmp(b->output, "jsonl")) return part == TEST ? test_jsonl(f, b, k) : 0;
    if (b->cluster) {
        if (part == HEAD) cf__cluster_head(f, b);
        if (part == TEST) cf__cluster_test(f, b, k);
        if (part == FOOT) cf__cluster_foot(f, b);
        return 0;
    }
    if (!strcmp(b->output, "csv")) {
        if (part == HEAD) head_csv(f);
        if (part == TEST) test_csv(f, b, k);
        return 0;
    }
    if (part == HEAD) head_md(f, b);
    if (part == TEST) test_md(f, b, k);
    if (part == FOOT) foot_md(f, b);
    return 0;
}

static int print(enum part part, const struct cf__bench *b, const struct cf__bench_test *k, struct cf_error *e) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    int rc = f ? write_part(f, part, b, k) : -1;
    if (f && fclose(f)) rc = -1;
    rc = rc ? cf_fail(e, CF_ERR_MEMORY, "no memory to print the result") : cf_terminal_text(b->terminal, text, n, e);
    free(text);
    return rc;
}

int cf__bench_print_head(struct cf__bench *b, struct cf_error *e) {
    b->begun = true;
    return print(HEAD, b, NULL, e);
}

int cf__bench_print_test(const struct cf__bench *b, const struct cf__bench_test *k, struct cf_error *e) {
    return print(TEST, b, k, e);
}

static int write_file(const struct cf__bench *b, const char *path, const char *form, struct cf_error *e) {
    struct cf__bench as = *b;
    as.output = form;
    FILE *f = fopen(path, "we");
    if (!f) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    int rc = write_part(f, HEAD, &as, NULL);
    for (uint32_t i = 0; !rc && i < b->n_tests; i++)
        rc = write_part(f, TEST, &as, &b->tests[i]);
    if (!rc) rc = write_part(f, FOOT, &as, NULL);
    bool bad = ferror(f);
    if (fclose(f) || bad) return cf_fail(e, CF_ERR_FILE, "%s cannot be written: %s", path, strerror(errno));
    return rc ? cf_fail(e, CF_ERR_MEMORY, "no memory to write %s", path) : 0;
}

int cf__bench_end(struct cf__bench *b, struct cf_error *e) {
    if (!b->begun || b->ended) return 0;
    b->ended = true;
    if (print(FOOT, b, NULL, e) || (b->csv && write_file(b, b->csv, "csv", e))) return -1;
    return b->json ? write_file(b, b->json, "json", e) : 0;
}
