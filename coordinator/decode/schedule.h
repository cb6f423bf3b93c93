/* Many sequences at once (continuous batching): whenever one ends, the next takes its place. A batch holds a row of
 * every sequence that decodes, and chunks of the prompts of those that begin; where the plan has several batches in
 * flight, the sequences are dealt to them. What a sequence says does not depend on who shares its batches (DESIGN.md,
 * section 6).
 *
 *     next() -> slot -> prompt in chunks -> token after token, each from its own sampler -> done() -> free slot
 */
#ifndef COFFER_COORDINATOR_DECODE_SCHEDULE_H
#define COFFER_COORDINATOR_DECODE_SCHEDULE_H

#include "coordinator/decode/job.h"
#include "coordinator/decode/say.h"
#include "coordinator/sample/sampler.h"

enum cf_ending { CF_ENDS_NOT, CF_ENDS_AT_EOS, CF_ENDS_AT_STOP, CF_ENDS_AT_LIMIT, CF_ENDS_AT_CONTEXT };

struct cf_sequence {
    void *ctx;              /* the caller's */
    const uint32_t *prompt; /* [n_prompt], at least one, at most the context */
    uint32_t n_prompt;
    int64_t n_predict; /* -1: until the end or the context is full */
    bool ignore_eos;
    struct cf_sampler *sampler; /* has seen nothing yet */
    struct cf_result *result;   /* gets logits, too; NULL: nobody collects */
    struct cf_say say;          /* where the tokens go */

    /* Out: */
    uint32_t n_generated;
    enum cf_ending ending;
};

/* What the batches were like, as far as their time depends on it (pace.h): sums over the rows of prompts, and over
 * those of answers (each a token that was fed back). */
struct cf_schedule_rows {
    uint64_t prompt, answer; /* rows */
    double waiting;          /* sum over prompt rows: how many of them waited when their batch was made */
    double together, depth;  /* sums over answer rows: sequences that were answering then, the row's position */
};

struct cf_schedule {
    struct cf_job *job;
    /* Fills *s with the next sequence. Returns 0, 1 if there is none, or -1. */
    int (*next)(void *ctx, struct cf_sequence *s, struct cf_error *e);
    /* A sequence is over; in order of completion. What s points to may go. With ending CF_ENDS_NOT: it was broken off
     * by an interruption or an error (what it returns then does not count). */
    int (*done)(void *ctx, struct cf_sequence *s, struct cf_error *e);
    int (*interrupted)(void); /* not 0: end now. NULL: never */
    void *ctx;

    /* Out: */
    uint64_t n_sequences;           /* that were begun and have a prompt in rows */
    uint64_t n_prompt, n_generated; /* tokens of all */
    struct cf_schedule_rows rows;
    double seconds;
    int interrupt_status;
};

/* As many sequences at once as the plan has (n_seqs). */
int cf_schedule_run(struct cf_schedule *s, struct cf_error *e);

#endif
