/* The tests of `coffer bench`: batches through the engine of a job and a clock beside them. No token is looked at: ids
 * are drawn from a fixed seed, and nothing is sampled.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/bench/bench.h"
#include "coordinator/decode/measure/measure.h"
#include "coordinator/decode/rounding.h"
#include "coordinator/commands/synth/synth.h"
#include "coordinator/plan/split.h"
#include "transport/clock.h"

enum { WARM_UP_TOKENS = 4 };

struct tests {
    struct cf__bench *b;
    struct cf_job *job;
    uint64_t random;
    uint32_t *rows; /* [3][n_rows] sequence, position, token */
    uint32_t *want; /* [n_rows] */
    uint32_t *ids;  /* [n_flight] batches on their way */
    struct cf_rank_counts *before, *after;
    struct cf_traffic *sent; /* [n_ranks][n_ranks] before a repetition */
    double *gaps, *last;     /* [n_gaps] between tokens, of --cluster; [n_flight] when each batch came last */
    size_t n_gaps;
    bool measuring;
    uint32_t done, all; /* repetitions, for the bar */
};

static uint32_t tests_per_layout(const struct cf__bench *b) {
    uint32_t prompts = 0, generates = 0;
    for (uint32_t i = 0; i < b->prompts.n; i++)
        prompts += b->prompts.v[i] > 0;
    for (uint32_t i = 0; i < b->generates.n; i++)
        generates += b->generates.v[i] > 0;
    return b->depths.n * (prompts + generates * b->sequences.n + b->pairs.n / 2);
}

/* Any token but those that end a text. */
static uint32_t draw(struct tests *t) {
    uint32_t id = 0;
    for (int i = 0; i < 100; i++) {
        t->random = t->random * 6364136223846793005u + 1442695040888963407u;
        id = (uint32_t)((t->random >> 32) % t->job->model.n_vocab);
        if (!cf_tokenizer_is_end(t->job->tokenizer, id)) break;
    }
    return id;
}

/* n rows: of n sequences, or (across false) n positions of one. The logits of the last n_want are wanted. */
struct rows {
    uint32_t n, sequence, position;
    bool across;
    uint32_t n_want;
};

static int submit(struct tests *t, const struct rows *r, uint32_t *id, struct cf_error *e) {
    uint32_t room = t->job->plan.n_rows, *s = t->rows, *p = s + room, *k = p + room;
    for (uint32_t i = 0; i < r->n; i++) {
        s[i] = r->sequence + (r->across ? i : 0), p[i] = r->position + (r->across ? 0 : i), k[i] = draw(t);
        if (i < r->n_want) t->want[i] = r->n - r->n_want + i;
    }
    struct cf_batch b = {
        .n_rows = r->n, .sequence = s, .position = p, .token = k, .n_want = r->n_want, .want = t->want};
    int rc = cf_engine_submit(t->job->engine, &b, e);
    *id = b.id;
    return rc;
}

static int take(struct tests *t, uint32_t id, struct cf_error *e) {
    if (cf_engine_wait(t->job->engine, id, e)) return -1;
    cf_engine_finish(t->job->engine, id);
    return 0;
}

static bool is_interrupted(void *ctx) {
    (void)ctx;
    return cf_interrupted() != 0;
}

/* Asked before each batch: what is on its way is waited for, and then the tests end. */
static bool is_over(struct tests *t) {
    if (!t->b->status) t->b->status = cf_interrupted();
    return t->b->status != 0;
}

/* Positions [first, last) of a sequence in chunks, as many in flight as the plan allows. 1: interrupted. */
static int prefill(struct tests *t, uint32_t sequence, uint32_t first, uint32_t last, struct cf_error *e) {
    uint32_t chunk = cf_split_prompt(&t->job->plan, last - first), flight = t->job->plan.n_flight, sent = 0, done = 0;
    while (first < last || done < sent) {
        if (is_over(t)) last = first;
        if (first < last && sent - done < flight) {
            uint32_t n = last - first < chunk ? last - first : chunk;
            struct rows r = {n, sequence, first, false, first + n == last};
            if (submit(t, &r, &t->ids[sent % flight], e)) return -1;
            first += n, sent++;
        } else if (take(t, t->ids[done++ % flight], e)) {
            return -1;
        }
    }
    return is_over(t);
}

/* Batch g of `sequences` is there with its i-th token. */
static void note_gap(struct tests *t, uint32_t g, uint32_t i, uint32_t sequences) {
    double now = cf_now();
    for (uint32_t s = 0; i > 1 && s < sequences && t->gaps && t->measuring; s++)
        t->gaps[t->n_gaps++] = now - t->last[g];
    t->last[g] = now;
}

/* n tokens of every sequence. The sequences are dealt to the batches in flight; each batch goes round by itself. 1:
 * interrupted. */
static int decode(struct tests *t, const struct cf__bench_test *k, uint32_t n, struct cf_error *e) {
    uint32_t batches = k->batches < k->sequences ? k->batches : k->sequences;
    for (uint32_t i = 0; i <= n; i++) {
        if (is_over(t)) n = i;
        for (uint32_t g = 0; g < batches; g++) {
            uint32_t first, last;
            cf_split_share(k->sequences, batches, g, &first, &last);
            if (i > 0 && take(t, t->ids[g], e)) return -1;
            if (i > 0) note_gap(t, g, i, last - first);
            struct rows r = {last - first, first, k->depth + k->prompt + i, true, last - first};
            if (i < n && submit(t, &r, &t->ids[g], e)) return -1;
        }
    }
    return is_over(t);
}

static int run_once(struct tests *t, const struct cf__bench_test *k, uint32_t generate, struct cf_error *e) {
    int rc = k->prompt ? prefill(t, 0, k->depth, k->depth + k->prompt, e) : 0;
    return !rc && generate ? decode(t, k, generate, e) : rc;
}

static uint64_t bytes_between(const struct tests *t, uint32_t n_ranks) {
    uint64_t sum = 0;
    for (uint32_t r = 0; r < n_ranks; r++)
        for (int d = 0; d < CF_DOMAINS; d++)
            sum += t->after[r].domain[d].bytes_read - t->before[r].domain[d].bytes_read;
    return sum;
}

/* The whole prompt and the first tokens. Where they share a test, what the prompt reads is noted here: nobody asks
 * while the clock runs. */
static int warm_up(struct tests *t, struct cf__bench_test *k, struct cf_error *e) {
    if (k->prompt && k->generate) {
        int rc = cf_engine_counts(t->job->engine, t->before, e);
        if (!rc) rc = run_once(t, k, 0, e);
        if (!rc) rc = cf_engine_counts(t->job->engine, t->after, e);
        if (rc) return rc;
        k->bytes_prompt = bytes_between(t, k->n_ranks);
    } else if (k->prompt) {
        return run_once(t, k, 0, e);
    }
    uint32_t n = k->generate < WARM_UP_TOKENS ? k->generate : WARM_UP_TOKENS;
    return n ? decode(t, k, n, e) : 0;
}

/* Back to the depth. Asking for counters behind it means that every rank has done so. */
static int rewind_all(struct tests *t, const struct cf__bench_test *k, uint32_t position, struct cf_error *e) {
    for (uint32_t s = 0; s < k->sequences; s++)
        if (cf_engine_truncate(t->job->engine, s, position, e)) return -1;
    if (cf_engine_counts(t->job->engine, t->before, e)) return -1;
    for (uint32_t r = 0; r < k->n_ranks; r++)
        memcpy(
            t->sent + (size_t)r * k->n_ranks, cf_engine_traffic(t->job->engine, (int)r), k->n_ranks * sizeof *t->sent);
    return 0;
}

static void add_traffic(struct tests *t, struct cf__bench_test *k) {
    double tokens = (double)k->generate * k->sequences * t->b->repetitions;
    for (uint32_t a = 0; a < k->n_ranks && k->links; a++) {
        const struct cf_traffic *now = cf_engine_traffic(t->job->engine, (int)a),
                                *then = t->sent + (size_t)a * k->n_ranks;
        for (uint32_t b = 0; b < k->n_ranks; b++) {
            struct cf__bench_link *l = &k->links[k->ranks[a].host_index * k->n_hosts + k->ranks[b].host_index];
            l->payload += (double)(now[b].payload + now[b].window - then[b].payload - then[b].window) / tokens;
            l->bytes += (double)(now[b].bytes + now[b].window - then[b].bytes - then[b].window) / tokens;
        }
    }
}

static void add_counts(struct tests *t, struct cf__bench_test *k) {
    for (uint32_t r = 0; r < k->n_ranks; r++) {
        const struct cf_rank_counts *x = &t->before[r], *y = &t->after[r];
        k->ranks[r].compute += y->compute - x->compute;
        k->ranks[r].exchange += y->exchange - x->exchange;
        k->ranks[r].wait += y->wait - x->wait;
    }
    k->bytes_read += bytes_between(t, k->n_ranks);
}

/* Of all repetitions; the largest error is that of the plan so far. */
static void add_rounding(const struct tests *t, struct cf__bench_test *k, struct cf_wire_count *sum) {
    struct cf_wire_count x = cf_rounding_total(t->before, k->n_ranks, CF_STEP_KINDS);
    struct cf_wire_count y = cf_rounding_total(t->after, k->n_ranks, CF_STEP_KINDS);
    sum->values += y.values - x.values, sum->error2 += y.error2 - x.error2, sum->value2 += y.value2 - x.value2;
    k->wire_rms = cf_rounding_rms(sum), k->wire_most = sum->values ? y.most : NAN;
}

static void settle(struct cf__bench_test *k) {
    qsort(k->seconds, k->n, sizeof *k->seconds, cf_measure_ascending);
    k->bytes_read /= k->n;
    for (uint32_t r = 0; r < k->n_ranks; r++)
        k->ranks[r].compute /= k->n, k->ranks[r].exchange /= k->n, k->ranks[r].wait /= k->n;
}

/* All repetitions of a test. 1: interrupted. */
static int repeat(struct tests *t, struct cf__bench_test *k, struct cf_error *e) {
    struct cf_wire_count rounding = {0};
    if (t->b->delay && cf_wait_for(t->job->transport, is_interrupted, NULL, t->b->delay, NULL, e)) return -1;
    if (is_over(t)) return 1;
    if (rewind_all(t, k, 0, e)) return -1;
    int rc = 0;
    for (uint32_t s = 0; !rc && s < k->sequences; s++)
        rc = prefill(t, s, 0, k->depth, e);
    if (!rc && t->b->warm_up) rc = warm_up(t, k, e);
    if (rc) return rc;
    while (k->n < t->b->repetitions) {
        if (rewind_all(t, k, k->depth, e)) return -1;
        double start = cf_now();
        t->measuring = true;
        rc = run_once(t, k, k->generate, e);
        t->measuring = false;
        if (rc) return rc;
        k->seconds[k->n++] = cf_now() - start;
        if (cf_engine_counts(t->job->engine, t->after, e)) return -1;
        add_counts(t, k);
        add_traffic(t, k);
        add_rounding(t, k, &rounding);
        cf_terminal_progress(t->b->terminal, (double)++t->done / (double)t->all, "measuring");
    }
    settle(k);
    cf__bench_limit(t->b, k);
    if (t->b->cluster) cf__cluster_gaps(k, t->gaps, t->n_gaps);
    return cf__bench_print_test(t->b, k, e);
}

struct cf__bench_test *cf__bench_test_new(
    struct cf__bench *b, uint32_t n_ranks, uint32_t n_probes, struct cf_error *e) {
    struct cf__bench_test *more = realloc(b->tests, (b->n_tests + 1) * sizeof *more);
    if (more) b->tests = more;
    struct cf__bench_test k = {.model = cf__bench_model_name(b),
        .model_bytes = b->model_bytes,
        .n_ranks = n_ranks,
        .n_probes = n_probes,
        .ranks = calloc(n_ranks, sizeof *k.ranks),
        .probes = calloc(n_probes + 1, sizeof *k.probes)};
    if (more && k.ranks && k.probes) {
        more[b->n_tests] = k;
        return &more[b->n_tests];
    }
    cf__bench_test_free(&k);
    cf_fail(e, CF_ERR_MEMORY, "out of memory");
    return NULL;
}

void cf__bench_test_free(struct cf__bench_test *k) {
    free(k->ranks);
    free(k->probes);
    free(k->links);
}

/* What was measured of the ranks before the tests. */
static void describe_ranks(struct cf__bench_test *k, const struct cf_job *j) {
    for (uint32_t r = 0; r < k->n_ranks; r++) {
        const struct cf_rank_info *from = &j->ranks[r];
        struct cf__bench_rank *to = &k->ranks[r];
        snprintf(to->host, sizeof to->host, "%s", from->host);
        to->host_index = (uint32_t)from->host_index;
        to->node = from->node, to->threads = from->threads, to->bandwidth = j->streamed[r];
    }
    if (k->n_probes) memcpy(k->probes, j->probes, k->n_probes * sizeof *k->probes);
}

/* Room for what --cluster wants to know, and what the simulation says of it. */
static int open_cluster(struct tests *t, struct cf__bench_test *k, struct cf_error *e) {
    struct cf_workload w = {.depth = k->depth, .generate = k->generate, .sequences = k->sequences};
    struct cf_forecast f;
    struct cf_error ignored;
    k->alone = t->job->alone, k->n_hosts = t->job->figures.n_hosts;
    k->links = calloc((size_t)k->n_hosts * k->n_hosts, sizeof *k->links);
    t->n_gaps = 0;
    t->gaps = calloc((size_t)k->generate * k->sequences, t->b->repetitions * sizeof *t->gaps);
    if (!k->links || !t->gaps) return cf_fail(e, CF_ERR_MEMORY, "no memory for the times of all tokens");
    bool known = !cf_job_forecast(t->job, &w, &f, &ignored);
    for (uint32_t i = 0; i < k->n_hosts * k->n_hosts; i++)
        k->links[i].predicted = known ? (double)f.traffic[i] / ((double)k->generate * k->sequences) : NAN;
    if (known) cf_forecast_free(&f);
    return 0;
}

/* Tokens/s; 0: not known. */
static double predict(const struct cf_job *j, const struct cf__bench_test *k) {
    struct cf_workload prompt = {.depth = k->depth, .prompt = k->prompt};
    struct cf_workload answer = {.depth = k->depth + k->prompt, .generate = k->generate, .sequences = k->sequences};
    double reads = k->prompt ? cf_job_predict(j, &prompt) : 0, writes = k->generate ? cf_job_predict(j, &answer) : 0;
    if (!k->prompt || !k->generate) return reads + writes;
    return reads > 0 && writes > 0 ? (k->prompt + k->generate) / (k->prompt / reads + k->generate / writes) : 0;
}

static int test(
    struct tests *t, uint32_t depth, uint32_t prompt, uint32_t generate, uint32_t sequences, struct cf_error *e) {
    struct cf__bench *b = t->b;
    const struct cf_plan *p = &t->job->plan;
    struct cf__bench_test *k = cf__bench_test_new(b, t->job->n_ranks, t->job->n_probes, e);
    if (!k) return -1;
    uint32_t chunks = prompt ? (prompt - 1) / cf_split_prompt(p, prompt) + 1 : 0;
    k->prompt = prompt, k->generate = generate, k->depth = depth, k->sequences = sequences;
    k->batches = cf_split_sequences(p, prompt ? chunks : sequences);
    k->no_exchange = t->job->no_exchange;
    const char *asked = t->job->o->place.layout; /* of several, what auto has taken is told from what was named */
    bool took = !t->job->alone && asked && strchr(asked, ',') && (!*t->job->layout || !strcmp(t->job->layout, "auto"));
    snprintf(k->layout, sizeof k->layout, "%s%s", took ? "auto: " : "", cf_layout_name(p->layout));
    snprintf(k->wire, sizeof k->wire, "%s", cf_dtype_name(p->wire));
    snprintf(k->kv_type, sizeof k->kv_type, "%s", cf_kv_type_name((enum cf_kv_type)p->kv_type));
    k->ubatch = p->n_rows;
    describe_ranks(k, t->job);
    if (!k->no_exchange) k->predicted = predict(t->job, k);
    int rc = b->cluster ? open_cluster(t, k, e) : 0;
    if (!rc) rc = repeat(t, k, e);
    free(t->gaps);
    t->gaps = NULL;
    if (rc)
        cf__bench_test_free(k);
    else
        b->n_tests++;
    return rc;
}

static int all_tests(struct tests *t, struct cf_error *e) {
    const struct cf__bench *b = t->b;
    int rc = 0;
    for (uint32_t d = 0; !rc && d < b->depths.n; d++) {
        for (uint32_t i = 0; !rc && i < b->prompts.n; i++)
            if (b->prompts.v[i]) rc = test(t, b->depths.v[d], b->prompts.v[i], 0, 1, e);
        for (uint32_t i = 0; i < b->generates.n; i++)
            for (uint32_t s = 0; !rc && b->generates.v[i] && s < b->sequences.n; s++)
                rc = test(t, b->depths.v[d], 0, b->generates.v[i], b->sequences.v[s], e);
        for (uint32_t i = 0; !rc && i < b->pairs.n; i += 2)
            rc = test(t, b->depths.v[d], b->pairs.v[i], b->pairs.v[i + 1], 1, e);
    }
    cf_terminal_progress(b->terminal, 1.0, "measuring");
    return rc < 0 ? -1 : 0;
}

/* What the job knows and the tables want, before the job is gone. */
static int remember(struct cf__bench *b, struct cf_job *j, struct cf_error *e) {
    uint64_t hash;
    cf__bench_limits(b, j);
    if (b->begun) return 0;
    b->n_ctx = j->n_ctx;
    snprintf(b->isa, sizeof b->isa, "%s", j->kernels->isa);
    cf_gguf_identity(j->gguf, &b->model_bytes, &hash);
    return cf__bench_print_head(b, e);
}

int cf__bench_tests(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct tests t = {.b = ctx, .job = j, .random = 1};
    uint32_t n_rows = j->plan.n_rows;
    t.all = t.b->repetitions * tests_per_layout(t.b);
    t.rows = calloc(n_rows, 3 * sizeof *t.rows), t.want = calloc(n_rows, sizeof *t.want);
    t.ids = calloc(j->plan.n_flight, sizeof *t.ids);
    t.before = calloc(j->n_ranks, sizeof *t.before), t.after = calloc(j->n_ranks, sizeof *t.after);
    t.sent = calloc((size_t)j->n_ranks * j->n_ranks, sizeof *t.sent);
    t.last = calloc(j->plan.n_flight, sizeof *t.last);
    bool ok = t.rows && t.want && t.ids && t.before && t.after && t.sent && t.last;
    int rc = ok ? remember(t.b, j, e) : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!rc) rc = all_tests(&t, e);
    /* An mpirun of the user's own kills within a second: less than ending the job may take. */
    if (!rc && (j->over = t.b->status != 0)) rc = cf__bench_end(t.b, e);
    free(t.rows);
    free(t.want);
    free(t.ids);
    free(t.before);
    free(t.after);
    free(t.sent);
    free(t.last);
    return rc;
}

void cf__bench_free(struct cf__bench *b) {
    for (uint32_t i = 0; i < b->n_tests; i++)
        cf__bench_test_free(&b->tests[i]);
    free(b->tests);
    cf__synth_tensors_free(b->weights);
}
