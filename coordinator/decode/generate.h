/* One sequence from prompt to end: prefill in chunks, then token after token, with everything that looks at logits.
 */
#ifndef COFFER_COORDINATOR_DECODE_GENERATE_H
#define COFFER_COORDINATOR_DECODE_GENERATE_H

#include "coordinator/decode/dump.h"
#include "coordinator/decode/job.h"
#include "coordinator/decode/result.h"
#include "coordinator/sample/sampler.h"
#include "coordinator/sample/stop.h"
#include "coordinator/supervise/replay.h"

struct cf_generate {
    struct cf_job *job;
    const uint32_t *prompt; /* [n_prompt], at least one */
    uint32_t n_prompt;
    uint32_t start; /* < n_prompt: so much of the prompt is in the cache already, and nothing behind it */
    uint32_t seen;  /* so much of the prompt the sampler has been told of already */
    /* What was generated before a failure: it comes first, as if it were generated now, but without a look at logits
     * (so there must be no result and no dump). If it had ended, nothing is computed. NULL: nothing. */
    const struct cf_replayed *before;
    int64_t n_predict; /* -1: until the end or the context is full */
    bool ignore_eos;
    struct cf_sampler *sampler;
    struct cf_stop *stop;     /* strings that end the text (cf_stop_met says which one did), NULL: none */
    struct cf_result *result; /* NULL: nothing is collected */
    struct cf_dump *dump;     /* NULL: no dump */
    /* Text as it comes (whole characters). NULL: none. */
    int (*text)(void *ctx, const char *bytes, size_t n, struct cf_error *e);
    int (*prefilled)(void *ctx, struct cf_error *e); /* n_cached positions are there. NULL: nobody wants to know */
    /* Told of every generated id, before its text; again: it comes from `before`. NULL: nobody. */
    void (*token)(void *ctx, uint32_t id, bool again);
    int (*interrupted)(void); /* not 0: end now */
    void *ctx;

    bool end_now; /* text() and token() may set it: this token is the last */

    /* Out: */
    uint32_t n_generated;
    uint32_t n_again;  /* of them before a failure */
    uint32_t n_cached; /* positions that the cache holds: of the prompt, then of what was generated */
    double prefill_seconds, decode_seconds;
    bool computed; /* the cache holds that in earnest, and not only as it was before a failure */
    bool context_full;
    int interrupt_status;
};

int cf_generate_run(struct cf_generate *g, struct cf_error *e);

#endif
