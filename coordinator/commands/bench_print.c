/* What `coffer bench` prints: markdown for people, CSV (one line per test, the same columns always) and JSON for
 * programs. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/bench.h"
#include "coordinator/decode/measure.h"

enum { DIGITS = 9 };

/* The figures of a line. NaN: not known. */
struct line {
    char name[64];
    double median, least, most; /* tokens/s */
    double read;                /* bytes/s of weights and cache; of decode lines */
    double share;               /* of the sum of bandwidths */
};

static double bandwidth_sum(const struct cf__bench *b) {
    double sum = 0;
    for (uint32_t r = 0; r < b->n_ranks; r++)
        sum += b->ranks[r].bandwidth;
    return sum;
}

static const char *model_name(const struct cf__bench *b) {
    if (b->synthetic) return b->synthetic;
    const char *slash = strrchr(b->model, '/');
    return slash ? slash + 1 : b->model;
}

static void test_name(const struct cf__bench_test *k, char *out, size_t size) {
    int n = k->prompt          ? snprintf(out, size, "pp%u", k->prompt)
            : k->sequences > 1 ? snprintf(out, size, "tg%u x %u", k->generate, k->sequences)
                               : snprintf(out, size, "tg%u", k->generate);
    if (k->depth && n > 0 && (size_t)n < size) snprintf(out + n, size - (size_t)n, " @ d%u", k->depth);
}

static struct line line_of(const struct cf__bench *b, const struct cf__bench_test *k) {
    double tokens = k->prompt ? k->prompt : (double)k->generate * k->sequences, sum = bandwidth_sum(b);
    double median = k->n % 2 ? k->seconds[k->n / 2] : (k->seconds[k->n / 2 - 1] + k->seconds[k->n / 2]) / 2;
    struct line l = {.median = tokens / median,
        .least = tokens / k->seconds[k->n - 1],
        .most = tokens / k->seconds[0],
        .read = NAN,
        .share = NAN};
    test_name(k, l.name, sizeof l.name);
    if (k->generate) l.read = (double)k->bytes_read / median;
    if (k->generate && sum > 0) l.share = l.read / sum;
    return l;
}

/* ---- markdown ---- */

static void print_ranks(const struct cf__bench *b) {
    printf(
        "| rank | host | node | threads | read bandwidth, GB/s | link to rank 0: 8 B, us | 16 KiB, us | 1 MiB, us |\n"
        "|---:|---|---:|---:|---:|---:|---:|---:|\n");
    for (uint32_t r = 0; r < b->n_ranks; r++) {
        const struct cf_rank_info *k = &b->ranks[r];
        printf("| %u | %s | %d | %u | %.2f |", r, k->host, k->node, k->threads, 1e-9 * k->bandwidth);
        for (int i = 0; i < CF_LINK_SIZES; i++)
            if (r)
                printf(" %.1f |", 1e6 * b->links[r][i]);
            else
                printf(" |");
        printf("\n");
    }
}

static void print_md(const struct cf__bench *b) {
    printf("model %s, %.2f GiB; kernels %s; %u repetitions\n\n", model_name(b),
        (double)b->model_bytes / (1024.0 * 1024.0 * 1024.0), b->isa, b->repetitions);
    print_ranks(b);
    printf("\n| layout | ranks | test | tokens/s | min | max | read, GB/s | roofline |\n"
           "|---|---:|---|---:|---:|---:|---:|---:|\n");
    for (uint32_t i = 0; i < b->n_tests; i++) {
        struct line l = line_of(b, &b->tests[i]);
        printf(
            "| %s | %u | %s | %.2f | %.2f | %.2f |", b->tests[i].layout, b->n_ranks, l.name, l.median, l.least, l.most);
        if (isnan(l.share))
            printf(" | |\n");
        else
            printf(" %.2f | %.1f %% |\n", 1e-9 * l.read, 100 * l.share);
    }
    printf("\n| layout | test | rank | compute, s | exchange, s | wait, s |\n|---|---|---:|---:|---:|---:|\n");
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const struct cf__bench_test *k = &b->tests[i];
        struct line l = line_of(b, k);
        for (uint32_t r = 0; r < b->n_ranks; r++)
            printf("| %s | %s | %u | %.4f | %.4f | %.4f |\n", k->layout, l.name, r, k->ranks[r].compute,
                k->ranks[r].exchange, k->ranks[r].wait);
    }
}

/* ---- CSV ---- */

/* A field that may hold commas or quotes. */
static void print_quoted(const char *s) {
    putchar('"');
    for (; *s; s++) {
        if (*s == '"') putchar('"');
        putchar(*s);
    }
    putchar('"');
}

/* One value per rank, parted by semicolons, and the comma behind. `at`: offset of a double in `ranks` of `stride`. */
static void print_per_rank(const void *ranks, size_t stride, size_t at, double scale, uint32_t n, const char *end) {
    for (uint32_t r = 0; r < n; r++) {
        double v;
        memcpy(&v, (const char *)ranks + r * stride + at, sizeof v);
        printf("%s%.6g", r ? ";" : "", scale * v);
    }
    fputs(end, stdout);
}

static void print_csv(const struct cf__bench *b) {
    printf("model,model_bytes,isa,ranks,threads,layout,test,n_prompt,n_gen,depth,sequences,batches,repetitions,"
           "tps_median,tps_min,tps_max,read_gbps,roofline_share,bandwidth_gbps,rank_bandwidth_gbps,rank_compute_s,"
           "rank_exchange_s,rank_wait_s\n");
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const struct cf__bench_test *k = &b->tests[i];
        struct line l = line_of(b, k);
        print_quoted(model_name(b));
        printf(",%llu,%s,%u,%u,%s,%s,%u,%u,%u,%u,%u,%u,%.6g,%.6g,%.6g,", (unsigned long long)b->model_bytes, b->isa,
            b->n_ranks, b->ranks[0].threads, k->layout, l.name, k->prompt, k->generate, k->depth, k->sequences,
            k->batches, k->n, l.median, l.least, l.most);
        if (isnan(l.read))
            fputs(",", stdout);
        else
            printf("%.6g,", 1e-9 * l.read);
        if (isnan(l.share))
            fputs(",", stdout);
        else
            printf("%.6g,", l.share);
        printf("%.6g,", 1e-9 * bandwidth_sum(b));
        const size_t stride = sizeof(struct cf_rank_counts);
        print_per_rank(b->ranks, sizeof *b->ranks, offsetof(struct cf_rank_info, bandwidth), 1e-9, b->n_ranks, ",");
        print_per_rank(k->ranks, stride, offsetof(struct cf_rank_counts, compute), 1, b->n_ranks, ",");
        print_per_rank(k->ranks, stride, offsetof(struct cf_rank_counts, exchange), 1, b->n_ranks, ",");
        print_per_rank(k->ranks, stride, offsetof(struct cf_rank_counts, wait), 1, b->n_ranks, "\n");
    }
}

/* ---- JSON ---- */

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *json_ranks(const struct cf__bench *b) {
    json_t *list = json_array();
    for (uint32_t r = 0; r < b->n_ranks; r++) {
        const struct cf_rank_info *k = &b->ranks[r];
        json_t *link = json_array();
        for (int i = 0; r && i < CF_LINK_SIZES; i++)
            json_array_append_new(
                link, json_pack("{s:I,s:f}", "bytes", (json_int_t)cf_link_sizes[i], "seconds", b->links[r][i]));
        json_array_append_new(
            list, json_pack("{s:i,s:s,s:i,s:i,s:f,s:o}", "rank", (int)r, "host", k->host, "node", k->node, "threads",
                      (int)k->threads, "bandwidth_gbps", 1e-9 * k->bandwidth, "link_to_rank_0", link));
    }
    return list;
}

static json_t *json_test(const struct cf__bench *b, const struct cf__bench_test *k) {
    struct line l = line_of(b, k);
    json_t *seconds = json_array(), *ranks = json_array();
    for (uint32_t i = 0; i < k->n; i++)
        json_array_append_new(seconds, json_real(k->seconds[i]));
    for (uint32_t r = 0; r < b->n_ranks; r++)
        json_array_append_new(ranks, json_pack("{s:i,s:f,s:f,s:f}", "rank", (int)r, "compute_s", k->ranks[r].compute,
                                         "exchange_s", k->ranks[r].exchange, "wait_s", k->ranks[r].wait));
    return json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:f,s:o,s:o,s:o,s:o}", "layout", k->layout, "test", l.name,
        "n_prompt", (int)k->prompt, "n_gen", (int)k->generate, "depth", (int)k->depth, "sequences", (int)k->sequences,
        "batches", (int)k->batches, "tps_median", l.median, "tps_min", l.least, "tps_max", l.most, "read_gbps",
        number(1e-9 * l.read), "roofline_share", number(l.share), "seconds", seconds, "ranks", ranks);
}

static int print_json(const struct cf__bench *b, struct cf_error *e) {
    json_t *tests = json_array();
    for (uint32_t i = 0; i < b->n_tests; i++)
        json_array_append_new(tests, json_test(b, &b->tests[i]));
    json_t *all =
        json_pack("{s:s,s:s,s:I,s:s,s:i,s:o,s:o}", "version", COFFER_VERSION, "model", model_name(b), "model_bytes",
            (json_int_t)b->model_bytes, "isa", b->isa, "n_ctx", (int)b->n_ctx, "ranks", json_ranks(b), "tests", tests);
    int rc = all ? json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS)) : -1;
    json_decref(all);
    putchar('\n');
    return rc ? cf_fail(e, CF_ERR_SYSTEM, "cannot print the result as JSON") : 0;
}

int cf__bench_print(const struct cf__bench *b, struct cf_error *e) {
    if (!strcmp(b->output, "json")) {
        if (print_json(b, e)) return -1;
    } else if (!strcmp(b->output, "csv")) {
        print_csv(b);
    } else {
        print_md(b);
    }
    return fflush(stdout) ? cf_fail(e, CF_ERR_FILE, "standard output: %s", strerror(errno)) : 0;
}
