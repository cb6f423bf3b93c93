/* Bringing up a run: every rank finds its seat, opens the model, says hello, gets its part of the plan, loads, and then
 * rank 0 does the caller's work while the others serve it.
 *
 *     cf_job_run(options, work, ctx) = transport -> machine, model -> hello -> seat, team -> plan -> load -> work
 *
 * Commands that generate (run, bench, later chat, serve) are `work` functions.
 */
#ifndef COFFER_COORDINATOR_DECODE_JOB_H
#define COFFER_COORDINATOR_DECODE_JOB_H

#include "coordinator/cli/terminal.h"
#include "coordinator/plan/search.h"
#include "coordinator/text/tokenizer.h"
#include "node/memory/topology.h"
#include "node/engine/engine.h"
#include "node/engine/ship/ship.h"
#include "node/engine/memory/kv_type.h"

struct cf_job;

/* Where and how a model runs, as the command line says it: the options that commands share
 * (commands/shared/placement.h). */
struct cf_placement {
    /* Name, NULL: default for the hosts at hand. Several, parted by commas: plan, load, work once for each, in order.
     */
    const char *layout;
    const char *map;         /* domain=node,... or NULL */
    int64_t stages;          /* 0: default */
    int64_t ctx_size;        /* 0: the model's, at most 4096 */
    const char *kv_type;     /* "f16" (also NULL), "q8_0", "q4_0" */
    const char *kv_k, *kv_v; /* the same as llama.cpp's two options, or NULL */
    int64_t ubatch;          /* most rows of a batch */
    int64_t micro_batches;   /* most batches in flight; 0: what the layout wants */
    const char *experts;     /* "sliced" (also NULL), "whole" */
    const char *numa;        /* "default", "strict", "off" */
    const char *exchange;    /* "auto" (also NULL), "window", "messages" */
    const char *
        wire; /* "f32" (also NULL), "f16", "q8", "auto"; several, parted by commas: as with layouts, for each of them */
    double timeout; /* seconds; 0: default */
    bool huge;
    bool direct; /* read the weights past the page cache */
    bool ship;   /* hosts without the model get what they need from rank 0 */
    bool verbose;
};

struct cf_job_options {
    const char *command; /* whose name error messages begin with: "run" */
    /* May be NULL. Rank 0, before anything is loaded: looks at the input (model, tokenizer and n_ctx of the job are
     * there), so that a mistake there does not cost the loading of a model. */
    int (*prepare)(struct cf_job *job, void *ctx, struct cf_error *e);
    const char *model; /* path */
    /* May be NULL. Opens the model on every rank in place of `model`: one without a file. ctx is that of the work. */
    int (*open)(struct cf_gguf **g, void *ctx, struct cf_error *e);
    struct cf_placement place;
    /* Works once more for each layout, with every rank going on without the others (cf_engine_options). */
    bool no_exchange_too;
    /* Works for rank 0 alone (job.alone), then, with place.layout and place.wire NULL, for each layout and wire type
     * that makes a difference on these ranks. A layout that does not fit is passed over. */
    bool sweep;
    /* Per rank; 0: its share of physical cores. Several: measure, plan, load, work once for each, in order. */
    const uint32_t *threads;
    uint32_t n_threads;
    bool fewer_threads;        /* where a rank's number is 0 the planner may take fewer, if answers come sooner so */
    uint32_t n_seqs, n_want;   /* see struct cf_job */
    uint32_t kv_size, kv_keep; /* the cache rotates, see struct cf_plan; 0: it does not */
    bool measure; /* before the plan: bandwidth, kernels and links in earnest (measure.h), instead of a quick look */
    /* May be NULL. All ranks, each with its seat and its team: instead of plan, load and work. Nothing is loaded. */
    int (*instead)(struct cf_job *job, void *ctx, struct cf_error *e);
    struct cf_terminal *terminal;
};

/* What a message takes between two ranks, measured in earnest (measure.h). */
struct cf_probe {
    uint32_t a, b;                 /* a < b */
    double seconds[CF_LINK_SIZES]; /* one way */
};

struct cf_job {
    const struct cf_job_options *o;
    struct cf_transport *transport;
    struct cf_machine machine;
    struct cf_seat seat;
    struct cf_gguf *gguf;
    struct cf_ship *ship; /* with --ship */
    struct cf_model model;
    bool model_open;
    struct cf_tokenizer *tokenizer; /* rank 0 */
    const struct cf_kernels *kernels;
    struct cf_team *team;
    struct cf_engine *engine;
    struct cf_plan plan;        /* rank 0 */
    struct cf_figures figures;  /* of all ranks, on every rank */
    struct cf_rank_info *ranks; /* [n_ranks] those of figures */
    struct cf_rank_info own;    /* of this rank, while it is measured */
    uint32_t n_ranks;
    uint32_t n_ctx;
    uint32_t n_seqs, n_want;             /* for the plan: those of the options, unless prepare() knows better */
    double *streamed;                    /* [n_ranks] bytes/s of each rank, measured in earnest; owned; NULL: not */
    struct cf_probe *probes;             /* [n_probes] pairs of ranks, by a, then b; owned */
    uint32_t n_probes;                   /* 0: not measured */
    bool placed;                         /* rank 0: the plan in hand was made when threads were chosen */
    uint32_t halved;                     /* rank 0: with that plan all ranks halve their threads so often */
    bool alone;                          /* the plan in hand is for rank 0 alone, see sweep */
    bool no_exchange;                    /* the work in hand is that without exchange: no result */
    bool over;                           /* set by the work: no other layout, wire type or number of threads */
    int wire;                            /* enum cf_dtype that the plan in hand is to have, -1: the search chooses */
    char layout[32];                     /* that of the plan in hand, as asked for; "": default */
    double product_rates[CF_TYPE_LIMIT]; /* of all ranks, by type, multiply-adds/s; 0: not measured */
    double load_seconds;                 /* from start to ready */
    double load_start;                   /* when loading began, on the clock of cf_now() */
    char note[CF_NOTE_BYTES];            /* about this rank, for everybody to see */
};

/* Runs `work` on rank 0. Returns 0, or -1 with *e (on every rank; the text names the rank at fault). A failure has then
 * been said on stderr, by one rank: before the ranks part, because mpirun kills all when the first one ends. */
int cf_job_run(const struct cf_job_options *o, int (*work)(struct cf_job *job, void *ctx, struct cf_error *e),
    void *ctx, struct cf_error *e);

/* How many ranks a plain `coffer run` should start by itself here: one per NUMA node with cores, or one per node that
 * --map names. 1: run in place. */
int cf_job_ranks_here(const char *map, int *ranks, struct cf_error *e);

/* Tokens/s that the plan in hand should reach at a workload, played through (plan/simulate.h). 0 unknown. Rank 0. */
double cf_job_predict(const struct cf_job *j, const struct cf_workload *w);

/* The same with all that there is to know; -1: it cannot be predicted. *f: cf_forecast_free(). */
int cf_job_forecast(const struct cf_job *j, const struct cf_workload *w, struct cf_forecast *f, struct cf_error *e);

/* One line per rank on stderr: how long its loading took, and what of it. Rank 0, from `work`. */
void cf_job_say_loading(const struct cf_job *j);

/* enum cf_exchange_way by name. -1 unknown. */
int cf_exchange_by_name(const char *name);

#endif
