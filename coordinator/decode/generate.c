/* See generate.h. */
#include "coordinator/decode/generate.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/decode/say.h"
#include "coordinator/plan/split.h"
#include "transport/clock.h"

/* Chunks of all[n_all], the prompt and what was generated before a failure, as many in flight as the plan allows; the
 * last one wants its last row's logits. Returns the id of the last batch. After an interruption no more are sent. */
static int prefill(
    struct cf_generate *g, const uint32_t *all, uint32_t n_tokens, uint32_t *last_id, struct cf_error *e) {
    const struct cf_plan *p = &g->job->plan;
    uint32_t n_rows = n_tokens - g->start, rows = cf_split_prompt(p, n_rows), n_flight = p->n_flight,
             n_batches = (n_rows + rows - 1) / rows, n_all = n_batches, done = 0, sent = 0;
    uint32_t *ids = calloc(n_batches, sizeof *ids), *positions = calloc(rows, sizeof *positions);
    uint32_t *sequences = calloc(rows, sizeof *sequences);
    int rc = ids && positions && sequences ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    while (!rc && done < n_batches) {
        if (sent < n_batches && sent - done < n_flight) {
            uint32_t first = g->start + sent * rows, n = n_tokens - first < rows ? n_tokens - first : rows,
                     want = n - 1;
            for (uint32_t i = 0; i < n; i++)
                positions[i] = first + i;
            struct cf_batch b = {.n_rows = n,
                .sequence = sequences,
                .position = positions,
                .token = all + first,
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

/* One more token of the text. *over: it was the last one. */
static int take(struct cf_generate *g, struct cf_say *say, uint32_t id, bool again, bool *over, struct cf_error *e) {
    g->n_generated++;
    if (g->token) g->token(g->ctx, id, again);
    bool end = !g->ignore_eos && cf_tokenizer_is_end(g->job->tokenizer, id);
    if (cf_say_token(say, id, end, e)) return -1;
    *over = end || g->end_now || cf_say_stopped(say) || (g->n_predict >= 0 && g->n_generated >= (uint64_t)g->n_predict);
    return 0;
}

static bool is_full(struct cf_generate *g, uint32_t position) {
    return g->context_full = position >= g->job->plan.n_ctx;
}

/* What was generated before a failure. *over: the text ends with it. */
static int again(struct cf_generate *g, struct cf_say *say, bool *over, struct cf_error *e) {
    const struct cf_replayed *b = g->before;
    *over = false;
    for (size_t i = 0; i < b->n && !*over; i++) {
        cf_sampler_accept(g->sampler, b->ids[i]);
        if (take(g, say, b->ids[i], true, over, e)) return -1;
    }
    if (b->n) cf_sampler_restore(g->sampler, b->state);
    g->n_again = g->n_generated;
    uint32_t position = g->n_prompt + g->n_generated - (g->n_generated > 0);
    if (b->ended) g->interrupt_status = b->status;
    g->n_cached = b->ended && b->n_cached >= 0 ? (uint32_t)b->n_cached : position;
    *over |= b->ended || (b->n && is_full(g, position));
    return 0;
}

static int generate(struct cf_generate *g, struct cf_say *say, uint32_t batch, struct cf_error *e) {
    uint32_t position = g->n_prompt + g->n_generated, sequence = 0, want = 0, id = 0;
    for (;;) {
        bool over;
        if (choose(g, cf_engine_logits(g->job->engine, batch, 0), &id, e)) return -1;
        cf_engine_finish(g->job->engine, batch);
        if (take(g, say, id, false, &over, e)) return -1;
        if (over || (g->interrupted && (g->interrupt_status = g->interrupted())) || is_full(g, position)) break;
        struct cf_batch b = {
            .n_rows = 1, .sequence = &sequence, .position = &position, .token = &id, .n_want = 1, .want = &want};
        if (cf_engine_submit(g->job->engine, &b, e) || cf_engine_wait(g->job->engine, b.id, e)) return -1;
        batch = b.id;
        g->n_cached = ++position;
    }
    return cf_say_end(say, e);
}

/* The prompt, and behind it what was generated before a failure. */
static int prefill_all(struct cf_generate *g, uint32_t *batch, struct cf_error *e) {
    uint32_t n = g->n_prompt + g->n_generated;
    if (!g->n_generated) return prefill(g, g->prompt, n, batch, e);
    uint32_t *all = malloc(n * sizeof *all);
    if (!all) return cf_fail(e, CF_ERR_MEMORY, "no memory for %u ids", n);
    memcpy(all, g->prompt, g->n_prompt * sizeof *all);
    memcpy(all + g->n_prompt, g->before->ids, g->n_generated * sizeof *all);
    int rc = prefill(g, all, n, batch, e);
    free(all);
    return rc;
}

int cf_generate_run(struct cf_generate *g, struct cf_error *e) {
    struct cf_say say = {
        .tokenizer = g->job->tokenizer, .stop = g->stop, .result = g->result, .text = g->text, .ctx = g->ctx};
    for (uint32_t i = g->seen; i < g->n_prompt; i++)
        cf_sampler_accept(g->sampler, g->prompt[i]);
    bool over = false;
    if (g->before && again(g, &say, &over, e)) return -1;
    if (over) return cf_say_end(&say, e);
    g->computed = true;
    double start = cf_now();
    uint32_t batch = 0;
    if (prefill_all(g, &batch, e)) return -1;
    g->prefill_seconds = cf_now() - start;
    if (g->prefilled && g->prefilled(g->ctx, e)) return -1;
    if (g->n_predict == 0 || g->interrupt_status) {
        cf_engine_finish(g->job->engine, batch);
        return g->n_generated ? cf_say_end(&say, e) : 0;
    }
    start = cf_now();
    int rc = generate(g, &say, batch, e);
    g->decode_seconds = cf_now() - start;
    return rc;
}
