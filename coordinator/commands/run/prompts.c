/* See prompts.h. Answers are written as soon as they are complete, so that nothing of them is lost whatever ends the
 * run. */
#include "coordinator/commands/run/prompts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/run/report.h"
#include "coordinator/decode/schedule.h"

enum { AT_ONCE = 8 }; /* sequences, unless --parallel says otherwise */

static int wrong(
    const struct cf_prompts *p, const struct cf_request *r, const struct cf_error *why, struct cf_error *e) {
    return cf_fail(e, why->code, "%s:%u: %s", p->o.file, r->line, why->text);
}

static int to_ids(const struct cf_prompts *p, struct cf_request *r, const struct cf_job *j, struct cf_error *e) {
    if (r->text && cf_tokenize(j->tokenizer, r->text, r->n_text, true, p->o.special, &r->ids, &r->n_ids, e)) return -1;
    if (!r->n_ids) return cf_fail(e, CF_ERR_USAGE, "the prompt is empty: this model wants at least one token");
    if (r->n_ids > j->n_ctx)
        return cf_fail(e, CF_ERR_LIMIT, "the prompt has %zu tokens, but the context holds %u (-c)", r->n_ids, j->n_ctx);
    for (size_t i = 0; i < r->n_ids; i++)
        if (r->ids[i] >= j->model.n_vocab)
            return cf_fail(e, CF_ERR_USAGE, "token id %u: the model has %u tokens", r->ids[i], j->model.n_vocab);
    return 0;
}

/* What a line says goes together with what all lines share. */
static struct cf_sampler_params params_of(const struct cf_prompts *p, const struct cf_request *r, uint32_t n_ctx) {
    struct cf_sampler_params k = r->params;
    k.order = p->set.params.order;
    k.bias = p->set.params.bias, k.n_bias = p->set.params.n_bias, k.breakers = p->set.params.breakers;
    if (k.repeat_last_n < 0) k.repeat_last_n = n_ctx;
    if (k.dry_last_n < 0) k.dry_last_n = n_ctx;
    return k;
}

/* The samplers of the lines: all are tried out. */
static int open_sampling(struct cf_prompts *p, const struct cf_job *j, struct cf_error *e) {
    struct cf_sampling s = *p->o.sampling;
    for (uint32_t i = 0; i < p->n; i++)
        if (p->requests[i].params.dry_multiplier > 0) s.params.dry_multiplier = p->requests[i].params.dry_multiplier;
    if (cf__sampling_open(&p->set, &s, j->tokenizer, j->model.n_vocab, j->n_ctx, e)) return -1;
    for (uint32_t i = 0; i < p->n; i++) {
        struct cf_request *r = &p->requests[i];
        struct cf_sampler *sampler;
        struct cf_error why;
        if (i && !r->own_params) continue;
        struct cf_sampler_params params = params_of(p, r, j->n_ctx);
        if (cf_sampler_new(&sampler, &params, j->model.n_vocab, &why))
            return r->own_params ? wrong(p, r, &why, e) : (*e = why, -1);
        if (!i && j->o->place.verbose) cf_sampler_print(sampler, stderr);
        cf_sampler_free(sampler);
    }
    return 0;
}

/* A context that holds the longest line, if all of them have an end. */
static void shrink_context(const struct cf_prompts *p, struct cf_job *j) {
    uint64_t most = 1;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct cf_request *r = &p->requests[i];
        uint64_t n = r->n_predict < 0 ? j->n_ctx : r->n_ids + (uint64_t)r->n_predict;
        if (n > most) most = n;
    }
    if (!p->o.ctx_chosen && most < j->n_ctx) j->n_ctx = (uint32_t)most;
}

int cf_prompts_prepare(struct cf_prompts *p, struct cf_job *j, struct cf_error *e) {
    for (uint32_t i = 0; i < p->n; i++) {
        struct cf_error why;
        if (to_ids(p, &p->requests[i], j, &why)) return wrong(p, &p->requests[i], &why, e);
    }
    shrink_context(p, j);
    if (open_sampling(p, j, e)) return -1;
    j->n_seqs = p->o.parallel > 0 ? (uint32_t)p->o.parallel : AT_ONCE;
    if (j->n_seqs > p->n) j->n_seqs = p->n;
    j->n_want = j->n_seqs;
    if (!p->o.output || p->o.replay) return 0;
    p->to = fopen(p->o.output, "wb");
    return p->to ? 0 : cf_fail(e, CF_ERR_FILE, "%s: %s", p->o.output, strerror(errno));
}

static void release(struct cf_sequence *s) {
    cf_sampler_free(s->sampler);
    cf_stop_free(s->say.stop);
    cf_result_free(s->say.result);
}

/* The next line becomes a sequence (decode/schedule.h). */
static int next(void *ctx, struct cf_sequence *s, struct cf_error *e) {
    struct cf_prompts *p = ctx;
    for (; p->o.replay && p->next < p->n && cf_replay_answered(p->o.replay, p->next); p->n_answers++)
        p->next++;
    if (p->next == p->n) return 1;
    struct cf_request *r = &p->requests[p->next++];
    uint32_t n_vocab = p->job->model.n_vocab, n_ctx = p->job->plan.n_ctx;
    uint64_t room = n_ctx - r->n_ids + 1;
    if (r->n_predict >= 0 && (uint64_t)r->n_predict < room) room = (uint64_t)r->n_predict;
    const struct cf_result_size size = {r->n_ids, room, n_vocab, p->o.json ? (uint32_t)p->o.logprobs : 0, 0};
    struct cf_sampling_set set = p->set;
    if (r->stop) set.stop = r->stop, set.n_stop = r->n_stop;
    struct cf_sampler_params params = params_of(p, r, n_ctx);
    *s = (struct cf_sequence){.ctx = r,
        .prompt = r->ids,
        .n_prompt = (uint32_t)r->n_ids,
        .n_predict = r->n_predict,
        .ignore_eos = r->ignore_eos,
        .say = {.tokenizer = p->job->tokenizer}};
    int rc = cf__sampling_start(&set, &params, n_vocab, &s->sampler, &s->say.stop, e);
    if (!rc) rc = cf_result_new(&s->say.result, &size, e);
    if (rc) {
        release(s);
        return -1;
    }
    cf_result_prompt(s->say.result, r->ids);
    if (p->o.json) s->result = s->say.result;
    return 0;
}

static int write_line(struct cf_prompts *p, const char *line, size_t n, struct cf_error *e) {
    if (!p->to) return cf_terminal_text(p->terminal, line, n, e);
    errno = 0;
    if (fwrite(line, 1, n, p->to) == n && !fflush(p->to)) return 0;
    return cf_fail(
        e, CF_ERR_FILE, "cannot write the answers to %s: %s", p->o.output, errno ? strerror(errno) : "write error");
}

static int done(void *ctx, struct cf_sequence *s, struct cf_error *e) {
    static const char *const endings[] = {NULL, "eos", "stop", "limit", "context"}; /* enum cf_ending */
    struct cf_prompts *p = ctx;
    const struct cf_request *r = s->ctx;
    char *line = NULL;
    size_t n = 0;
    const struct cf_answer a = {.index = (uint32_t)(r - p->requests),
        .id = r->id,
        .end = endings[s->ending],
        .seed = cf_sampler_seed(s->sampler),
        .whole = p->o.json};
    int rc = s->ending == CF_ENDS_NOT ? 0 : cf_result_answer(s->say.result, &a, &line, &n, e);
    if (line) rc = write_line(p, line, n, e);
    if (!rc && line) p->n_answers++;
    if (!rc && line) cf_terminal_event(p->terminal, "answered", "%u", a.index);
    if (p->o.output) cf_terminal_progress(p->terminal, (double)p->n_answers / p->n, "answering");
    free(line);
    release(s);
    return rc;
}

static int report(const struct cf_prompts *p, const struct cf_schedule *s, struct cf_error *e) {
    struct cf_job *j = s->job;
    struct cf_rank_counts *counts = calloc(j->n_ranks, sizeof *counts);
    int rc = counts ? cf_engine_counts(j->engine, counts, e) : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!rc) cf_report_schedule(p->terminal, s, p->n_answers, counts);
    if (!rc && p->o.stats) cf_report_stats(p->terminal, j, counts);
    free(counts);
    return rc;
}

int cf_prompts_work(
    struct cf_prompts *p, struct cf_job *j, struct cf_terminal *terminal, int *status, struct cf_error *e) {
    struct cf_schedule s = {.job = j, .next = next, .done = done, .interrupted = cf_interrupted, .ctx = p};
    p->job = j, p->terminal = terminal;
    int rc = cf_schedule_run(&s, e);
    if (p->o.output) cf_terminal_progress(terminal, 1, "answering");
    terminal->closing = true;
    *status = s.interrupt_status;
    if (rc || s.interrupt_status)
        cf_terminal_note(
            terminal, "coffer: %s: %u of %u prompts are answered", rc ? "failed" : "interrupted", p->n_answers, p->n);
    return rc ? rc : report(p, &s, e);
}
