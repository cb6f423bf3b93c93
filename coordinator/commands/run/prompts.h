/* Private to the commands: coffer run --prompts, many prompts from a JSONL file, their answers as JSONL.
 *
 *     prompts_file.c: lines -> requests      prompts.c: requests -> sequences (decode/schedule.h) -> answers
 *
 * Rank 0 alone has them: it reads the file before the ranks meet, and looks at the prompts before a model is loaded.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_PROMPTS_H
#define COFFER_COORDINATOR_COMMANDS_PROMPTS_H

#include "coordinator/cli/terminal.h"
#include "coordinator/commands/shared/sampling.h"
#include "coordinator/decode/job.h"
#include "coordinator/supervise/replay.h"

struct cf_prompts_options {
    const char *file, *output; /* output: NULL stdout */
    int64_t parallel;          /* most sequences at once; 0: choose */
    int64_t predict;           /* of lines that do not say */
    int64_t logprobs;
    bool json;       /* answers with ids, hash and logprobs, too */
    bool special;    /* as of run */
    bool ctx_chosen; /* the user says how large the context is */
    bool on_stdin;   /* the file comes on stdin */
    bool stats;      /* print the table of all ranks at the end */
    /* Under a supervisor: what is answered already; answers then go to stdout, and it writes the file. Else NULL. */
    const struct cf_replay *replay;
    const struct cf_sampling *sampling; /* of lines that do not say. Must outlive the prompts */
};

/* One line. */
struct cf_request {
    uint32_t line;
    char *id;   /* JSON as it stood there, or NULL */
    char *text; /* [n_text], or NULL where the line has ids */
    size_t n_text;
    uint32_t *ids; /* [n_ids] */
    size_t n_ids;
    int64_t n_predict;
    bool ignore_eos, own_params;
    struct cf_sampler_params params; /* without bias and breakers */
    char **stop;                     /* [n_stop] in place of those of the command line; NULL: those */
    size_t n_stop;
};

struct cf_prompts {
    struct cf_prompts_options o;
    struct cf_request *requests; /* [n] */
    uint32_t n, next, n_answers;
    struct cf_sampling_set set;
    struct cf_job *job;
    struct cf_terminal *terminal;
    FILE *to; /* of --output */
};

/* text[n_text]: the file's. What is wrong with a line is said as "FILE:LINE: why". Freed by cf_prompts_free (NULL is
 * fine). */
int cf_prompts_parse(
    struct cf_prompts **out, const struct cf_prompts_options *o, const char *text, size_t n_text, struct cf_error *e);
int cf_prompts_read(struct cf_prompts **out, const struct cf_prompts_options *o, struct cf_error *e);
void cf_prompts_free(struct cf_prompts *p);

/* Before the model is loaded: prompts to ids, samplers tried out, what the plan needs, the output file opened. */
int cf_prompts_prepare(struct cf_prompts *p, struct cf_job *j, struct cf_error *e);

/* All answers, in order of completion. *status: 130 after an interruption. */
int cf_prompts_work(
    struct cf_prompts *p, struct cf_job *j, struct cf_terminal *terminal, int *status, struct cf_error *e);

#endif
