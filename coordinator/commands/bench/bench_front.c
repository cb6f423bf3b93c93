/* `coffer bench --ranks 1,2,4`: for each number a run of its own that prints JSON lines (cf_launch adds the words), and
 * here one result out of them all. The lines come in pieces of any size, and mpirun may write between them. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/options.h"
#include "coordinator/commands/bench/bench.h"
#include "coordinator/decode/launch.h"

struct reader {
    struct cf__bench *b;
    char *line; /* [n] the beginning of one; owned */
    size_t n, room;
    struct cf_error e;
};

static bool read_rank(struct cf__bench_rank *r, json_t *from) {
    const char *host;
    int threads;
    double gbps;
    if (json_unpack(from, "{s:s,s:i,s:i,s:F,s:F,s:F,s:F}", "host", &host, "node", &r->node, "threads", &threads,
            "bandwidth_gbps", &gbps, "compute_s", &r->compute, "exchange_s", &r->exchange, "wait_s", &r->wait))
        return false;
    snprintf(r->host, sizeof r->host, "%s", host);
    r->threads = (uint32_t)threads, r->bandwidth = 1e9 * gbps;
    return true;
}

static bool read_probe(struct cf_probe *p, uint32_t n_ranks, json_t *from) {
    int a, b;
    json_t *seconds;
    if (json_unpack(from, "{s:i,s:i,s:o}", "from", &a, "to", &b, "one_way", &seconds)) return false;
    p->a = (uint32_t)a, p->b = (uint32_t)b;
    for (size_t i = 0; i < CF_LINK_SIZES; i++)
        p->seconds[i] = json_number_value(json_object_get(json_array_get(seconds, i), "seconds"));
    return p->a < n_ranks && p->b < n_ranks;
}

static bool read_test(struct cf__bench_test *k, json_t *from) {
    const char *layout, *wire, *kv_type;
    int exchange, ubatch, n[5];
    json_t *seconds, *ranks, *read, *share, *rms, *most;
    if (json_unpack(from, "{s:s,s:s,s:s,s:i,s:o,s:o,s:b,s:i,s:i,s:i,s:i,s:i,s:o,s:o,s:o,s:o}", "layout", &layout,
            "wire", &wire, "kv_type", &kv_type, "n_ubatch", &ubatch, "wire_rms", &rms, "wire_most", &most, "exchange",
            &exchange, "n_prompt", &n[0], "n_gen", &n[1], "depth", &n[2], "sequences", &n[3], "batches", &n[4],
            "seconds", &seconds, "ranks", &ranks, "read_gbps", &read, "roofline_share", &share))
        return false;
    snprintf(k->layout, sizeof k->layout, "%s", layout);
    snprintf(k->wire, sizeof k->wire, "%s", wire);
    snprintf(k->kv_type, sizeof k->kv_type, "%s", kv_type);
    k->ubatch = (uint32_t)ubatch;
    k->wire_rms = json_is_number(rms) ? json_number_value(rms) : NAN;
    k->wire_most = json_is_number(most) ? json_number_value(most) : NAN;
    k->no_exchange = !exchange;
    k->prompt = (uint32_t)n[0], k->generate = (uint32_t)n[1], k->depth = (uint32_t)n[2], k->sequences = (uint32_t)n[3],
    k->batches = (uint32_t)n[4];
    k->n = (uint32_t)json_array_size(seconds);
    if (!k->n || k->n > CF__BENCH_REPETITIONS) return false;
    for (uint32_t i = 0; i < k->n; i++)
        k->seconds[i] = json_number_value(json_array_get(seconds, i));
    for (uint32_t r = 0; r < k->n_ranks; r++)
        if (!read_rank(&k->ranks[r], json_array_get(ranks, r))) return false;
    for (uint32_t i = 0; i < k->n_probes; i++)
        if (!read_probe(&k->probes[i], k->n_ranks, json_array_get(json_object_get(from, "links"), i))) return false;
    double median = cf__bench_median(k);
    k->bytes_read = (uint64_t)(1e9 * json_number_value(read) * median); /* 0 where it is null */
    k->limit = json_number_value(share) * median;
    k->predicted = json_number_value(json_object_get(from, "tps_predicted"));
    return true;
}

static int take_test(struct cf__bench *b, json_t *run, struct cf_error *e) {
    const char *isa;
    json_int_t bytes;
    json_t *test;
    int n_ctx;
    if (json_unpack(run, "{s:s,s:I,s:i,s:o}", "isa", &isa, "model_bytes", &bytes, "n_ctx", &n_ctx, "test", &test))
        return cf_fail(e, CF_ERR_FORMAT, "a line of the ranks is no test");
    b->model_bytes = (uint64_t)bytes, b->n_ctx = (uint32_t)n_ctx;
    snprintf(b->isa, sizeof b->isa, "%s", isa);
    size_t n_ranks = json_array_size(json_object_get(test, "ranks"));
    size_t n_probes = json_array_size(json_object_get(test, "links"));
    struct cf__bench_test *k = n_ranks ? cf__bench_test_new(b, (uint32_t)n_ranks, (uint32_t)n_probes, e) : NULL;
    if (n_ranks && !k) return -1;
    if (!k || !read_test(k, test)) {
        if (k) cf__bench_test_free(k);
        return cf_fail(e, CF_ERR_FORMAT, "a line of the ranks is no test");
    }
    b->n_tests++;
    return (!b->begun && cf__bench_print_head(b, e)) || cf__bench_print_test(b, k, e) ? -1 : 0;
}

static int take_line(struct reader *r) {
    json_error_t unused;
    json_t *run = json_loadb(r->line, r->n, 0, &unused);
    if (!run) { /* not ours */
        fprintf(stderr, "%.*s\n", (int)r->n, r->line);
        return 0;
    }
    int rc = take_test(r->b, run, &r->e);
    json_decref(run);
    return rc;
}

static int take_text(void *ctx, const char *bytes, size_t n) {
    struct reader *r = ctx;
    if (r->n + n > r->room) {
        size_t room = 2 * (r->n + n);
        char *more = realloc(r->line, room);
        if (!more) return cf_fail(&r->e, CF_ERR_MEMORY, "out of memory");
        r->line = more, r->room = room;
    }
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != '\n') {
            r->line[r->n++] = bytes[i];
            continue;
        }
        if (r->n && take_line(r)) {
            errno = r->e.code == CF_ERR_INTERRUPTED ? EPIPE : EIO;
            return -1;
        }
        r->n = 0;
    }
    return 0;
}

int cf__bench_front(struct cf__bench *b, const char *map, const struct cf_watch *watch, struct cf_error *e) {
    struct reader r = {.b = b};
    int status = 0;
    const uint32_t starts = (b->n_models ? b->n_models : 1) * b->ranks.n;
    for (uint32_t i = 0; !status && i < starts; i++) {
        char number[16];
        const uint32_t ranks = b->ranks.v[i % b->ranks.n];
        if (b->n_models) b->model = b->models[i / b->ranks.n];
        snprintf(number, sizeof number, "%u", ranks);
        const char *const more[] = {
            "--ranks", number, "--output", "jsonl", "--csv=", "--json=", b->model ? "--model" : NULL, b->model, NULL};
        struct cf_launch launch = {
            .ranks = ranks, .map = map, .watch = watch, .more = more, .text = take_text, .ctx = &r};
        r.n = 0;
        status = cf_launch(&launch, e);
    }
    free(r.line);
    if (status == 1 && r.e.code) *e = r.e;
    struct cf_error unused;
    if (cf__bench_end(b, status ? &unused : e) && !status) status = cf_exit_status(e);
    return status;
}
