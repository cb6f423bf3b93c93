/* coffer bench: how fast a model runs on this placement, and how far that is from what the memory can do. The way:
 * options -> (self-launch) -> job, with bandwidth, kernels and links measured before the plan -> for each layout the
 * tests (bench_tests.c) -> lines and tables (bench_print.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/bench/bench.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/commands/shared/supervision.h"
#include "coordinator/decode/launch.h"

struct config {
    const char *synthetic, *ranks, *output;
    struct cf_option_list models, prompts, generates, sequences, depths, pairs, threads;
    int64_t repetitions, delay;
    const char *svg, *csv, *json;
    bool warm_up, no_exchange, cluster;
    struct cf_placement place;
    struct cf_watch watch; /* hosts */
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.ranks = "0",
        .output = "md",
        .place = cf__placement_defaults(),
        .watch = cf__watch_never(),
        .repetitions = 5,
        .warm_up = true};
    ((struct config *)config)->place.wire = NULL; /* f32; of --cluster all that differ */
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_LIST, AT(models), "FILE",
        "GGUF model file (the first of a split set); several take turns, each with an -m of its own", 0, 0, NULL},
    {"synthetic", 0, CF_OPT_STRING, AT(synthetic), "SHAPE:TYPE",
        "random weights in the shape of a known model (llama-1b, llama-8b, llama-70b, llama-405b ...; a wrong name "
        "lists all), of a type of coffer synth (q8_0 unless given), without a file; with -m FILE the model is made "
        "there unless it is there, and stays",
        0, 0, NULL},
    {"n-prompt", 'p', CF_OPT_LIST, AT(prompts), "LIST", "prompt tokens of the prefill tests; 0 none (default 512)", 0,
        0, NULL},
    {"n-gen", 'n', CF_OPT_LIST, AT(generates), "LIST", "tokens per sequence of the decode tests; 0 none (default 128)",
        0, 0, NULL},
    {"pg", 0, CF_OPT_LIST, AT(pairs), "P,G[,P,G...]",
        "tests of a prompt and the tokens generated behind it, in one time (default none)", 0, 0, NULL},
    {"sequences", 'b', CF_OPT_LIST, AT(sequences), "LIST",
        "sequences that decode at once, at most 1024 and --ubatch-size (default 1)", 0, 0, NULL},
    {"n-depth", 'd', CF_OPT_LIST, AT(depths), "LIST", "positions in the cache before a test begins (default 0)", 0, 0,
        NULL},
    {"repetitions", 'r', CF_OPT_INT, AT(repetitions), "N", "repetitions of each test (default 5)", 1,
        CF__BENCH_REPETITIONS, NULL},
    {"delay", 0, CF_OPT_INT, AT(delay), "N",
        "seconds to wait before each test (default 0); virtual machines that give freed memory back stand still now "
        "and "
        "then for some seconds after the bandwidth was measured",
        0, 3600, NULL},
    {"no-warmup", 0, CF_OPT_NO_FLAG, AT(warm_up), NULL,
        "no unmeasured run before each test (a whole prompt, or 4 tokens)", 0, 0, NULL},
    {"output", 'o', CF_OPT_STRING, AT(output), "FORMAT", "md, csv, json or jsonl (default md)", 0, 0, NULL},
    {"layout", 0, CF_OPT_STRING, AT(place.layout), "LIST",
        "auto (what is predicted to be fastest), tensor, layers, hybrid or domain, or several one after the other "
        "(default auto)",
        0, 0, NULL},
    {"ranks", 0, CF_OPT_STRING, AT(ranks), "LIST",
        "without mpirun: start so many ranks here, or several numbers of them one after the other (default one per "
        "slot of the hosts that are named; else one per NUMA node with cores, in a Slurm allocation on each of its "
        "hosts)",
        0, 0, NULL},
    {"threads", 't', CF_OPT_LIST, AT(threads), "LIST",
        "threads per rank, or several numbers one after the other (default the rank's share of physical cores)", 0, 0,
        NULL},
    {"ctx-size", 'c', CF_OPT_INT, AT(place.ctx_size), "N", "context in tokens (default what the tests need)", 0,
        1 << 24, NULL},
    {"no-exchange", 0, CF_OPT_FLAG, AT(no_exchange), NULL,
        "every test once more without the exchange between ranks, to see what it costs; those figures are no results",
        0, 0, NULL},
    {"cluster", 0, CF_OPT_FLAG, AT(cluster), NULL,
        "throughput of all ranks together: decoding with -b 1,2,4,8,16 sequences, under every layout and wire type "
        "that "
        "makes a difference on these ranks, beside rank 0 alone; see below",
        0, 0, NULL},
    {"csv", 0, CF_OPT_STRING, AT(csv), "FILE", "write the result to FILE as CSV, too", 0, 0, NULL},
    {"json", 0, CF_OPT_STRING, AT(json), "FILE", "write the result to FILE as JSON, too", 0, 0, NULL},
    {"svg", 0, CF_OPT_STRING, AT(svg), "FILE", "with --cluster: also plot total tokens/s against sequences", 0, 0,
        NULL},
    {0},
};
static const struct cf_shared_options shared[] = {
    {cf__split_options, AT(place)}, {cf__rank_options, AT(place)}, {cf__host_options, AT(watch)}, {0}};

/* Of one sequence: a prompt, and what is generated behind it. */
static int read_pairs(struct cf__bench *b, const struct cf_option_list *texts, long most, struct cf_error *e) {
    struct cf__numbers all = {0};
    for (size_t i = 0; i < texts->n; i++) {
        const struct cf_option_list one = {.at = {texts->at[i]}, .n = 1};
        if (cf__numbers_read_all(&all, "pg", &one, NULL, 1, most, e)) return -1;
        if (all.n % 2)
            return cf_fail(e, CF_ERR_USAGE, "option --pg: %s is no list of pairs, 512,128 is one", texts->at[i]);
    }
    return cf__numbers_read_all(&b->pairs, "pg", texts, NULL, 1, most, e);
}

static uint32_t largest(const struct cf__numbers *l) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < l->n; i++)
        if (l->v[i] > most) most = l->v[i];
    return most;
}

static int check_words(struct config *c, struct cf_error *e) {
    const struct cf_option_list *m = &c->models;
    if (!m->n && !c->synthetic) cf__named_model(&c->models.at[0]), c->models.n = c->models.at[0] != NULL;
    if (!m->n && !c->synthetic) return cf_fail(e, CF_ERR_USAGE, "no model: -m FILE or --synthetic SHAPE:TYPE");
    if (m->n > 1 && cf_terminal_role() == CF_TERMINAL_BEHIND_FRONT) /* it says last whose turn it is */
        c->models.at[0] = m->at[m->n - 1], c->models.n = 1;
    if (m->n > 1 && cf_transport_launched())
        return cf_fail(
            e, CF_ERR_USAGE, "-m %s: a second model; under a launcher there is one for each start", m->at[1]);
    if (m->n > 1 && (c->synthetic || c->cluster))
        return cf_fail(e, CF_ERR_USAGE, "-m %s: a second model; of %s there is one", m->at[1],
            c->synthetic ? "--synthetic" : "--cluster");
    if (strcmp(c->output, "md") && strcmp(c->output, "csv") && strcmp(c->output, "json") && strcmp(c->output, "jsonl"))
        return cf_fail(e, CF_ERR_USAGE, "--output %s is unknown; known: md, csv, json, jsonl", c->output);
    if (c->svg && !c->cluster) return cf_fail(e, CF_ERR_USAGE, "--svg plots what --cluster measures");
    if (!c->cluster) return 0;
    if (c->prompts.n || c->pairs.n) return cf_fail(e, CF_ERR_USAGE, "--cluster measures decoding: without -p and --pg");
    if (c->no_exchange) return cf_fail(e, CF_ERR_USAGE, "--cluster and --no-exchange do not go together");
    if (c->place.map) return cf_fail(e, CF_ERR_USAGE, "--cluster and --map do not go together");
    return 0;
}

/* Before it takes hours: can this file be written? */
static int check_file(const char *path, struct cf_error *e) {
    if (!path || !cf_terminal_speaks()) return 0;
    bool is_there = !access(path, F_OK);
    FILE *f = fopen(path, "a");
    if (!f || fclose(f)) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    if (!is_there) unlink(path);
    return 0;
}

static int check_files(struct config *c, struct cf_error *e) {
    if (c->csv && !*c->csv) c->csv = NULL; /* as bench_front.c says it to ranks of which it asks lines */
    if (c->json && !*c->json) c->json = NULL;
    return check_file(c->svg, e) || check_file(c->csv, e) || check_file(c->json, e) ? -1 : 0;
}

/* Lists and what follows from them. */
static int fill(struct cf__bench *b, struct config *c, struct cf_error *e) {
    const char *prompts = c->cluster ? "0" : "512", *sequences = c->cluster ? "1,2,4,8,16" : "1";
    const long most = 1 << 24, most_sequences = c->place.ubatch < 1024 ? (long)c->place.ubatch : 1024;
    if (cf__numbers_read_all(&b->prompts, "n-prompt", &c->prompts, prompts, 0, most, e) ||
        cf__numbers_read_all(&b->generates, "n-gen", &c->generates, "128", 0, most, e) ||
        cf__numbers_read_all(&b->sequences, "sequences", &c->sequences, sequences, 1, most_sequences, e) ||
        cf__numbers_read_all(&b->depths, "n-depth", &c->depths, "0", 0, most, e) ||
        cf__placement_check(&c->place, true, e))
        return -1;
    if (read_pairs(b, &c->pairs, most, e) ||
        cf__numbers_read_all(&b->threads, "threads", &c->threads, "0", 0, 4096, e) ||
        cf__numbers_read(&b->ranks, "ranks", c->ranks, 0, 1024, e))
        return -1;
    if (c->cluster && (b->ranks.n > 1 || b->generates.n > 1 || !b->generates.v[0]))
        return cf_fail(e, CF_ERR_USAGE, "--cluster: one number of ranks, and one of tokens (-n), not 0");
    if (b->ranks.n > 1 && cf_transport_launched())
        return cf_fail(e, CF_ERR_USAGE,
            "--ranks %s: the launcher has chosen the number of ranks; several take turns only without one", c->ranks);
    uint32_t p = largest(&b->prompts), n = largest(&b->generates), both = 0;
    for (uint32_t i = 0; i < b->pairs.n; i += 2)
        if (b->pairs.v[i] + b->pairs.v[i + 1] > both) both = b->pairs.v[i] + b->pairs.v[i + 1];
    if (!p && !n && !both) return cf_fail(e, CF_ERR_USAGE, "nothing to measure: -p and -n are 0");
    b->n_ctx = largest(&b->depths) + (p > n ? p : n);
    if (largest(&b->depths) + both > b->n_ctx) b->n_ctx = largest(&b->depths) + both;
    if (b->n_ctx > most) return cf_fail(e, CF_ERR_USAGE, "the tests need a context of %u tokens: too many", b->n_ctx);
    if (c->place.ctx_size && c->place.ctx_size < b->n_ctx)
        return cf_fail(e, CF_ERR_USAGE, "--ctx-size %lld is less than the %u that the tests need",
            (long long)c->place.ctx_size, b->n_ctx);
    if (c->place.ctx_size) b->n_ctx = (uint32_t)c->place.ctx_size;
    b->models = c->models.at, b->n_models = (uint32_t)c->models.n, b->model = c->models.n ? c->models.at[0] : NULL;
    b->synthetic = c->synthetic, b->output = c->output;
    b->repetitions = (uint32_t)c->repetitions, b->delay = (uint32_t)c->delay, b->warm_up = c->warm_up;
    b->no_exchange = c->no_exchange, b->cluster = c->cluster, b->svg = c->svg;
    b->csv = c->csv, b->json = c->json;
    return c->synthetic ? cf__bench_shape_check(b, e) : 0;
}

/* A file that --synthetic shall be is the one it says. */
static int check_model(struct cf_job *j, void *ctx, struct cf_error *e) {
    const struct cf__bench *b = ctx;
    if (!b->synthetic || (j->model.n_layers == b->n_layers && j->model.n_embd == b->n_embd)) return 0;
    return cf_fail(e, CF_ERR_USAGE, "%s has %u layers of %u, but --synthetic %s has %u of %u", b->model,
        j->model.n_layers, j->model.n_embd, b->synthetic, b->n_layers, b->n_embd);
}

static int run_here(const struct config *c, struct cf__bench *b, struct cf_error *e) {
    struct cf_job_options o = {.command = "bench",
        .prepare = check_model,
        .model = b->model,
        .open = b->model ? NULL : cf__bench_open,
        .place = c->place,
        .threads = b->threads.v,
        .n_threads = b->threads.n,
        .n_seqs = largest(&b->sequences),
        .n_want = largest(&b->sequences),
        .measure = true,
        .no_exchange_too = c->no_exchange,
        .sweep = c->cluster,
        .terminal = b->terminal};
    o.place.ctx_size = b->n_ctx;
    int rc = cf_job_run(&o, cf__bench_tests, b, e);
    struct cf_error unused;
    if (cf__bench_end(b, rc ? &unused : e) && !rc) {
        cf_terminal_note(b->terminal, "coffer bench: %s", e->text);
        b->status = cf_exit_status(e);
    }
    if (!rc && b->svg && o.terminal->is_rank0 && cf__bench_plot(b, b->svg, e)) {
        cf_terminal_note(b->terminal, "coffer bench: %s", e->text);
        b->status = cf_exit_status(e);
    }
    if (rc) return cf_exit_status(e);
    cf_terminal_status(b->terminal, b->status);
    return b->status;
}

/* In front of ranks, or as one. */
static int launch_or_run(const struct config *c, struct cf__bench *b, struct cf_error *e) {
    struct cf_launch launch = {.ranks = b->ranks.v[0], .map = c->place.map, .watch = &c->watch};
    bool turns = b->ranks.n > 1 || b->n_models > 1;
    int status = turns ? cf__bench_front(b, c->place.map, &c->watch, e) : cf_launch(&launch, e);
    if (status >= 0) {
        if (e->code) cf__command_failed(&cf_command_bench, e);
        return status;
    }
    enum cf_terminal_role role = cf_terminal_role();
    cf_interrupt_install(role == CF_TERMINAL_BEHIND_FRONT);
    cf_terminal_open(b->terminal, role, cf_terminal_speaks());
    return run_here(c, b, e);
}

static int command(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    struct cf_terminal terminal = {0};
    struct cf__bench b = {.terminal = &terminal};
    if (argc) cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]);
    cf_terminal_open(&terminal, cf_terminal_role(), cf_terminal_speaks());
    if (!e.code && !check_words(c, &e) && !check_files(c, &e) && !fill(&b, c, &e) && c->synthetic && b.model)
        cf__bench_model(&b, cf_transport_launched(), &e);
    if (e.code) return cf__command_failed(&cf_command_bench, &e);
    int status = launch_or_run(c, &b, &e);
    cf__bench_free(&b);
    return status;
}

const struct cf_command cf_command_bench = {
    .name = "bench",
    .synopsis = "-m FILE [-m FILE ...] [-p 512] [-n 128] [-b 1,2,4] [-t 1,2] [--ranks 1,2] [--layout LIST] [-r 5] [-o "
                "md|csv|json|jsonl] ...",
    .summary = "measure prefill and decode speed, beside what the memory can do",
    .text =
        "Measures like llama-bench: ppN is the prefill of N random tokens, tgN the decoding of N tokens, tgN x B the "
        "same with B sequences at once, ppP+tgG (-pg) the one and then the other in one time, @ dD behind D positions "
        "in the cache. Each figure is the median of the "
        "repetitions, with the least and the most beside it; a sampler and texts take no part.\n\n"
        "Before the tests every rank measures the read bandwidth of its node with all its threads: the best of five "
        "passes through the larger of 2 GiB and four last-level caches, but never more than half of the free memory. "
        "All ranks read at the same time, so those that share a node share its bandwidth. Then all multiply tiles of "
        "the "
        "model's types that stay in their caches. The roofline column is the time that a test would take if nothing "
        "but these bounded it, over the time it took: reading its weights and cache at the sum of these bandwidths, "
        "or its matrix products at the sum of these rates, whichever is longer; of -pg, prompt and answer one after "
        "the other (what each reads is told apart in the warm-up). Attention, norms and exchanges are in neither. The "
        "link columns are one-way times between every two ranks (of more than 16: rank 0 and each other one), one pair "
        "after the other. Compute, exchange and wait are seconds of each rank's first thread per repetition.\n\n"
        "With --no-exchange, and several ranks, each layout is loaded and measured a second time, and every rank goes "
        "on with zeros for what the others should have sent. Such lines are marked \"no exchange: not a result\"; what "
        "lies between them "
        "and the others is what the exchange and waiting for it cost.\n\n"
        "-p, -n, -b, -d, -t and -pg may also be given several times. Models, and lists of --ranks, --threads and "
        "--layout, are gone through in this order, the last one fastest, and what the machine can do is measured anew "
        "for each model and number of ranks and threads (links once for each model and number of ranks). Under a "
        "launcher there is one model and one number of ranks.\n\n"
        "B sequences share one batch in layout tensor; in the others they are dealt to as many micro-batches as are in "
        "flight (--micro-batches), and so are the chunks of a prompt, which then shrink to 64 rows if need be.\n\n"
        "--cluster: rank 0 alone under layout tensor, then all ranks under each layout (and between several hosts each "
        "wire type) that makes a difference here; what does not fit the memory is passed over. Tokens/s are those of "
        "all "
        "sequences together. p50 and p99 are of the times between two tokens of a sequence; waiting is the share of "
        "each rank's time; the roofline is that of all ranks together, memory or products, whichever takes longer; "
        "efficiency is tokens/s against those of rank 0 alone with as many sequences, per rank. Bytes per token are "
        "those "
        "of activations between hosts, beside what the planner's simulation says.\n\n"
        "--synthetic needs no download and no disk: every rank makes the weights that it holds, in its memory.",
    .example = "coffer bench -m model.gguf -p 512 -n 128 -b 1,2,4,8,16\n"
               "coffer bench -m model.gguf --cluster -n 64 --svg cluster.svg\n"
               "coffer bench --synthetic llama-1b:q4_k_m --ranks 1,2 -t 1,2 --layout tensor,layers -o csv",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
