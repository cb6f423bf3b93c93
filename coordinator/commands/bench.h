/* Private to `coffer bench`: the command line (bench.c), the model that --synthetic makes (bench_model.c), the tests
 * (bench_tests.c), what the hardware would allow them (bench_limit.c) and what is printed of them (bench_print.c). */
#ifndef COFFER_COORDINATOR_COMMANDS_BENCH_H
#define COFFER_COORDINATOR_COMMANDS_BENCH_H

#include "coordinator/decode/job.h"

enum { CF__BENCH_VALUES = 16, CF__BENCH_REPETITIONS = 100 };

/* "1,2,4" of the command line. */
struct cf__bench_list {
    uint32_t n, v[CF__BENCH_VALUES];
};

/* One line of the result: prompt tokens of one sequence, or generated ones of `sequences`, behind `depth` positions. */
struct cf__bench_test {
    char layout[16];
    bool no_exchange;                      /* no result: the run without exchange between ranks */
    uint32_t prompt, generate;             /* one of them is 0 */
    uint32_t depth, sequences, batches;    /* batches: in flight at once */
    uint32_t n;                            /* repetitions */
    double seconds[CF__BENCH_REPETITIONS]; /* ascending */
    uint64_t bytes_read;                   /* weights and cache, all ranks, per repetition */
    double limit;                 /* seconds that the measured rates would allow, see bench_limit.c; 0 unknown */
    struct cf_rank_counts *ranks; /* [n_ranks] compute, exchange, wait per repetition; owned */
};

struct cf__synth_tensors;

struct cf__bench {
    /* As asked for: */
    const char *model, *synthetic, *output;
    struct cf__bench_list prompts, generates, sequences, depths;
    bool no_exchange; /* every test once more without the exchange */
    uint32_t repetitions;
    bool warm_up;
    uint32_t n_layers, n_embd; /* of --synthetic: what the file must have; 0: anything */
    uint32_t n_layouts;
    struct cf_terminal *terminal;

    /* Found on rank 0: */
    struct cf__bench_test *tests; /* [n_tests] owned */
    uint32_t n_tests, n_ranks, n_ctx;
    struct cf_rank_info *ranks;     /* [n_ranks] owned */
    double (*links)[CF_LINK_SIZES]; /* [n_ranks] owned */
    uint64_t model_bytes;
    const char *isa;
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
uint32_t cf__bench_tests_per_layout(const struct cf__bench *b);

/* To stdout, as it comes: what stands above all tests, each test, and what stands below (also after a failure, so that
 * JSON is whole). */
int cf__bench_print_head(const struct cf__bench *b, struct cf_error *e);
int cf__bench_print_test(const struct cf__bench *b, const struct cf__bench_test *k, struct cf_error *e);
int cf__bench_print_foot(const struct cf__bench *b, struct cf_error *e);
void cf__bench_free(struct cf__bench *b);

#endif
