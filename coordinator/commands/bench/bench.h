/* Private to `coffer bench`: the command line (bench.c), the model that --synthetic makes (bench_model.c), the tests
 * (bench_tests.c), what the hardware would allow them (bench_limit.c), what is printed of them (bench_print.c; of a
 * whole cluster bench_cluster.c and bench_plot.c), and the process in front of several models or numbers of ranks
 * (bench_front.c). */
#ifndef COFFER_COORDINATOR_COMMANDS_BENCH_H
#define COFFER_COORDINATOR_COMMANDS_BENCH_H

#include <jansson.h>

#include "coordinator/commands/shared/numbers.h"
#include "coordinator/decode/job.h"
#include "node/kernels/kernels.h"

enum { CF__BENCH_REPETITIONS = 100 };

/* A rank of a test: what it can do, and where its first thread's time went, in seconds per repetition. */
struct cf_watch;

struct cf__bench_rank {
    char host[64];
    uint32_t host_index;
    int node;
    uint32_t threads;
    double bandwidth; /* bytes/s */
    double compute, exchange, wait;
};

/* From one host to another, bytes per generated token. */
struct cf__bench_link {
    double payload;   /* activations */
    double bytes;     /* with their envelopes, and all else that was sent */
    double predicted; /* payload, by the planner's simulation; NaN: unknown */
};

/* One line of the result, with all that belongs to it: prompt tokens of one sequence, generated ones of `sequences`, or
 * both of one, behind `depth` positions. */
struct cf__bench_test {
    const char *model; /* its name, as cf__bench_model_name has it */
    uint64_t model_bytes;
    char layout[16], wire[8], kv_type[8];
    uint32_t ubatch;                       /* rows of a batch at most */
    double wire_rms, wire_most;            /* what rounding between hosts changed; NaN: nothing was rounded */
    bool no_exchange;                      /* no result: the run without exchange between ranks */
    uint32_t prompt, generate;             /* one of them may be 0 */
    uint32_t depth, sequences, batches;    /* batches: in flight at once */
    uint32_t n;                            /* repetitions */
    double seconds[CF__BENCH_REPETITIONS]; /* ascending */
    uint64_t bytes_read;                   /* weights and cache, all ranks, per repetition */
    uint64_t bytes_prompt;                 /* of them for the prompt, where both are there; 0: not known */
    double limit;     /* seconds that the measured rates would allow, see bench_limit.c; 0 unknown */
    double predicted; /* tokens/s, by the planner's simulation; 0 unknown */
    uint32_t n_ranks;
    struct cf__bench_rank *ranks; /* [n_ranks] owned */
    struct cf_probe *probes;      /* [n_probes] what messages between them take; owned */
    uint32_t n_probes;

    /* Of --cluster: */
    bool alone;                   /* rank 0 without the others, which these are held against */
    double p50, p99;              /* seconds between two tokens of a sequence; NaN: there were none */
    uint32_t n_hosts;             /* else 0 */
    struct cf__bench_link *links; /* [n_hosts][n_hosts] from (row) to (column); owned */
};

struct cf__synth_tensors;

struct cf__bench {
    /* As asked for: */
    const char *const *models; /* [n_models] files, one after the other; 0: --synthetic without one */
    uint32_t n_models;
    const char *model; /* whose turn it is, or NULL */
    const char *synthetic, *output;
    struct cf__numbers prompts, generates, pairs, sequences, depths, threads, ranks; /* pairs: prompt, generate, ... */
    bool no_exchange;       /* every test once more without the exchange */
    bool cluster;           /* totals, latencies, links and efficiency of all ranks together */
    const char *svg;        /* where its plot shall be; NULL: none */
    const char *csv, *json; /* files that get the result, too; NULL: none */
    uint32_t repetitions;
    uint32_t delay; /* seconds before each test */
    bool warm_up;
    uint32_t n_layers, n_embd; /* of --synthetic: what the file must have; 0: anything */
    uint32_t n_ctx;
    struct cf_terminal *terminal;

    /* Found on rank 0, or read from its lines: */
    bool begun, ended;            /* the head is printed; the foot is */
    struct cf__bench_test *tests; /* [n_tests] owned */
    uint32_t n_tests;
    uint64_t model_bytes;
    char isa[CF_ISA_NAME];
    double row_seconds, head_seconds;  /* at the measured rates, per prompt token and per row of logits; 0 unknown */
    struct cf__synth_tensors *weights; /* of a model without a file; owned */
    int status;                        /* 130 after Ctrl-C: the tests that are there are whole */
};

/* --synthetic. _shape_check looks at the name alone and sets n_layers and n_embd. _model: the file b->model, made
 * unless it is there (launched: it must be). _open: the model without a file (cf_job_options.open). */
int cf__bench_shape_check(struct cf__bench *b, struct cf_error *e);
int cf__bench_model(struct cf__bench *b, bool launched, struct cf_error *e);
int cf__bench_open(struct cf_gguf **g, void *ctx, struct cf_error *e);

/* What the measured rates allow: sets row_seconds and head_seconds; then the limit of a test. */
void cf__bench_limits(struct cf__bench *b, const struct cf_job *j);
void cf__bench_limit(const struct cf__bench *b, struct cf__bench_test *k);

/* Work of a job (job.h): all tests under the job's layout. ctx: struct cf__bench. */
int cf__bench_tests(struct cf_job *j, void *ctx, struct cf_error *e);

/* Room for one more test of the model whose turn it is, and of n_ranks ranks, behind tests[n_tests - 1]; it counts once
 * n_tests does. NULL: no memory. */
struct cf__bench_test *cf__bench_test_new(struct cf__bench *b, uint32_t n_ranks, uint32_t n_probes, struct cf_error *e);
void cf__bench_test_free(struct cf__bench_test *k);

/* Several models or numbers of ranks: starts ranks for each, one after the other, reads their JSON lines, and prints
 * what they say as one result. Returns the exit status. Text of *e: what is left to say. */
int cf__bench_front(struct cf__bench *b, const char *map, const struct cf_watch *watch, struct cf_error *e);

/* --cluster (bench_cluster.c). Sets p50 and p99 from the gaps between tokens, which are sorted; tokens/s against those
 * of rank 0 alone with as many sequences, per rank: 1 where nothing is lost, NaN where rank 0 alone was not measured.
 */
void cf__cluster_gaps(struct cf__bench_test *k, double *gaps, size_t n);
double cf__cluster_efficiency(const struct cf__bench *b, const struct cf__bench_test *k);
/* Markdown or CSV, part by part; a test as a JSON object (NULL: no memory). */
void cf__cluster_head(FILE *f, const struct cf__bench *b);
void cf__cluster_test(FILE *f, const struct cf__bench *b, const struct cf__bench_test *k);
void cf__cluster_foot(FILE *f, const struct cf__bench *b);
json_t *cf__cluster_json(const struct cf__bench *b, const struct cf__bench_test *k);

/* Tokens/s against sequences, as SVG (bench_plot.c). */
int cf__bench_plot(const struct cf__bench *b, const char *path, struct cf_error *e);

/* The model whose turn it is, as tables name it: its file without folders, or --synthetic's word; a size for people; a
 * field of CSV that may hold commas or quotes. */
const char *cf__bench_model_name(const struct cf__bench *b);
const char *cf__bench_model_size(uint64_t bytes, char text[32]);
void cf__bench_print_quoted(FILE *f, const char *s);

/* Of the repetitions, seconds. */
double cf__bench_median(const struct cf__bench_test *k);

/* To stdout, as it comes: what stands above all tests, each test, and what stands below (also after a failure, so that
 * JSON is whole: cf__bench_end). */
int cf__bench_print_head(struct cf__bench *b, struct cf_error *e);
int cf__bench_print_test(const struct cf__bench *b, const struct cf__bench_test *k, struct cf_error *e);
/* The foot, and all of it once more into --csv and --json; nothing where there is no head, or a second time. */
int cf__bench_end(struct cf__bench *b, struct cf_error *e);
void cf__bench_free(struct cf__bench *b);

#endif
