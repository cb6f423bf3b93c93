/* See generate.h. */
#include "coordinator/decode/generate.h"

#include <stdlib.h>

#include "coordinator/decode/say.h"
#include "coordinator/plan/split.h"
#include "transport/clock.h"

/* Chunks of the prompt, as many in flight as the plan allows; the last one wants its last row's logits. Returns the id
 * of the last batch. After an interruption no more are sent. */
static int prefill(struct cf_generate *g, uint32_t *last_id, struct cf_error *e) {
    const struct cf_plan *p = &g->job->plan;
    uint32_t n_rows = g->n_prompt - g->start, rows = cf_split_prompt(p, n_rows), n_flight = p->n_flight,
             n_batches = (n_rows + rows - 1) / rows, n_all = n_batches, done = 0, sent = 0;
    uint32_t *ids = calloc(n_batches, sizeof *ids), *positions = calloc(rows, sizeof *positions);
    uint32_t *sequences = calloc(rows, sizeof *sequences);
    int rc = ids && positions && sequences ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    while (!rc && done < n_batches) {
        if (sent < n_batches && sent - done < n_flight) {
            uint32_t first = g->start + sent * rows, n = g->n_prompt - first < rows ? g->n_prompt - first : rows,
                     want = n - 1;
            for (uint32_t i = 0; i < n; i++)
                positions[i] = first + i;
            struct cf_batch b = {.n_rows = n,
                .sequence = sequences,
                .position = positions,
                .token = g->prompt + first,
                .n_want = sent + 1 == n_all,
                .want = &want};
            rc = cf_engine_submit(g->job->engine, &b, e);
            ids[sent++] = b.id;
            g->n_cached = first + n;
            continue;
        }
        rc = cf_engine_wait(g->job->engine, ids[done], e);
        if (!rc && g->interrupted && !g->interrupt_status && (g->interrupt_status = g->interrupted())) n_batches = sent;
        if (!rc && done + 1 < n_batches) cf_engine_finish(g->job->engine, ids[done]);
        done++;
    }
    if (!rc) *last_id = ids[n_batches - 1];
    free(ids);
    free(positions);
    free(sequences);
    return rc;
}

/* Looks at one row of logits: dump, hash, choice. */
static int choose(struct cf_generate *g, const float *logits, uint32_t *id, struct cf_error *e) {
    if (g->dump && cf_dump_row(g->dump, logits, g->job->model.n_vocab, e)) return -1;
    if (g->result && cf_result_logits(g->result, logits, e)) return -1;
    *id = cf_sampler_pick(g->sampler, logits);
    cf_sampler_accept(g->sampler, *id);
    return 0;
}

static int generate(struct cf_generate *g, uint32_t batch, struct cf_error *e) {
    struct cf_say say = {
        .tokenizer = g->job->tokenizer, .stop = g->stop, .result = g->result, .text = g->text, .ctx = g->ctx};
    uint32_t position = g->n_prompt, sequence = 0, want = 0, id = 0;
    for (;;) {
        if (choose(g, cf_engine_logits(g->job->engine, batch, 0), &id, e)) return -1;
        cf_engine_finish(g->job->engine, batch);
        g->n_generated++;
        if (g->token) g->token(g->ctx, id);
        bool end = !g->ignore_eos && cf_tokenizer_is_end(g->job->tokenizer, id);
        if (cf_say_token(&say, id, end, e)) return -1;
        if (end || g->end_now || cf_say_stopped(&say) ||
            (g->n_predict >= 0 && g->n_generated >= (uint64_t)g->n_predict))
            break;
        if (g->interrupted && (g->interrupt_status = g->interrupted())) break;
        if (position >= g->job->plan.n_ctx) {
            g->context_full = true;
            break;
        }
        struct cf_batch b = {
            .n_rows = 1, .sequence = &sequence, .position = &position, .token = &id, .n_want = 1, .want = &want};
        if (cf_engine_submit(g->job->engine, &b, e) || cf_engine_wait(g->job->engine, b.id, e)) return -1;
        batch = b.id;
        g->n_cached = ++position;
    }
    return cf_say_end(&say, e);
}

int cf_generate_run(struct cf_generate *g, struct cf_error *e) {
    for (uint32_t i = g->start; i < g->n_prompt; i++)
        cf_sampler_accept(g->sampler, g->prompt[i]);
    double start = cf_now();
    uint32_t batch = 0;
    if (prefill(g, &batch, e)) return -1;
    g->prefill_seconds = cf_now() - start;
    if (g->prefilled && g->prefilled(g->ctx, e)) return -1;
    if (g->n_predict == 0 || g->interrupt_status) {
        cf_engine_finish(g->job->engine, batch);
        return 0;
    }
    start = cf_now();
    int rc = generate(g, batch, e);
    g->decode_seconds = cf_now() - start;
    return rc;
}
