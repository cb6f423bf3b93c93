/* See perplexity.h. */
#include "coordinator/decode/perplexity.h"

#include <math.h>
#include <stdlib.h>

#include "coordinator/plan/split.h"
#include "node/kernels/kernels.h"

/* A group of chunks on its way: rows go out in the order (chunk, position), scores come back in the same. */
struct group {
    struct cf_perplexity *p;
    uint32_t first_chunk, chunks; /* of the text */
    uint32_t rows;                /* most of a batch */
    uint32_t sent_chunk, sent_at; /* the next row */
    uint64_t scored;              /* of the group, so far */
    uint32_t *sequence, *position, *token, *want;
    double *score; /* [n_want] */
    struct {
        uint32_t id, n_want;
    } * in_flight; /* [n_flight] ring */
    uint32_t flight_first, flight_n;
};

/* One batch's rows, shared out over the team. */
struct score_job {
    const struct group *g;
    const float *logits; /* [n][n_vocab] */
    uint32_t n_vocab;
};

uint32_t cf_perplexity_scored(uint32_t n_ctx) {
    return n_ctx - 1 - n_ctx / 2;
}

static double score(const float *logits, uint32_t n, uint32_t token) {
    float max = logits[0];
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > max) max = logits[i];
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)cf_expf(logits[i] - max);
    return cf_log(sum) - (double)(logits[token] - max);
}

/* The token that the k-th scored row of a group should have foretold. */
static uint32_t target_of(const struct group *g, uint64_t k) {
    uint32_t n_ctx = g->p->n_ctx, scored = cf_perplexity_scored(n_ctx);
    uint32_t chunk = g->first_chunk + (uint32_t)(k / scored), at = n_ctx / 2 + (uint32_t)(k % scored);
    return g->p->tokens[(size_t)chunk * n_ctx + at + 1];
}

static void score_rows(struct cf_team *team, uint32_t thread, void *ctx) {
    const struct score_job *j = ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last))
        j->g->score[first] =
            score(j->logits + (size_t)first * j->n_vocab, j->n_vocab, target_of(j->g, j->g->scored + first));
}

/* Adds the scores of the oldest batch; says so where a chunk ends. */
static int take_scores(struct group *g, struct cf_error *e) {
    struct cf_perplexity *p = g->p;
    uint32_t id = g->in_flight[g->flight_first].id, n = g->in_flight[g->flight_first].n_want;
    if (cf_engine_wait(p->job->engine, id, e)) return -1;
    struct score_job j = {g, n ? cf_engine_logits(p->job->engine, id, 0) : NULL, p->job->model.n_vocab};
    if (n) cf_team_do(p->job->team, score_rows, &j, n);
    cf_engine_finish(p->job->engine, id);
    g->flight_first = (g->flight_first + 1) % p->job->plan.n_flight, g->flight_n--;
    for (uint32_t i = 0; i < n; i++) {
        p->sum += g->score[i], p->squares += g->score[i] * g->score[i];
        p->n_scored++;
        if (++g->scored % cf_perplexity_scored(p->n_ctx)) continue;
        p->n_done++;
        if (p->chunk && p->chunk(p->ctx, p->n_done, cf_exp(p->sum / (double)p->n_scored), e)) return -1;
    }
    return 0;
}

/* The next rows of the group as a batch. The last row of a chunk foretells nothing that is scored: it stays away. */
static int send_batch(struct group *g, struct cf_error *e) {
    struct cf_perplexity *p = g->p;
    struct cf_batch b = {.sequence = g->sequence, .position = g->position, .token = g->token, .want = g->want};
    while (b.n_rows < g->rows && g->sent_chunk < g->chunks && b.n_want < p->job->plan.n_want) {
        uint32_t row = b.n_rows++, at = g->sent_at;
        g->sequence[row] = g->sent_chunk, g->position[row] = at;
        g->token[row] = p->tokens[(size_t)(g->first_chunk + g->sent_chunk) * p->n_ctx + at];
        if (at == 0 && p->bos >= 0) g->token[row] = (uint32_t)p->bos;
        if (at >= p->n_ctx / 2) g->want[b.n_want++] = row;
        if (++g->sent_at == p->n_ctx - 1) g->sent_at = 0, g->sent_chunk++;
    }
    if (cf_engine_submit(p->job->engine, &b, e)) return -1;
    uint32_t at = (g->flight_first + g->flight_n++) % p->job->plan.n_flight;
    g->in_flight[at].id = b.id, g->in_flight[at].n_want = b.n_want;
    return 0;
}

static int run_group(struct group *g, struct cf_error *e) {
    struct cf_perplexity *p = g->p;
    for (uint32_t s = 0; s < g->chunks; s++)
        if (cf_engine_truncate(p->job->engine, s, 0, e)) return -1;
    g->sent_chunk = g->sent_at = 0, g->scored = 0;
    while (g->sent_chunk < g->chunks || g->flight_n) {
        bool more = g->sent_chunk < g->chunks && g->flight_n < p->job->plan.n_flight;
        if (more ? send_batch(g, e) : take_scores(g, e)) return -1;
    }
    return 0;
}

int cf_perplexity_run(struct cf_perplexity *p, struct cf_error *e) {
    const struct cf_plan *plan = &p->job->plan;
    struct group g = {.p = p};
    uint32_t together = plan->n_seqs < p->n_chunks ? plan->n_seqs : p->n_chunks;
    g.rows = cf_split_prompt(plan, together * (p->n_ctx - 1));
    g.sequence = calloc(plan->n_rows, 4), g.position = calloc(plan->n_rows, 4), g.token = calloc(plan->n_rows, 4);
    g.want = calloc(plan->n_want, 4), g.score = calloc(plan->n_want, sizeof *g.score);
    g.in_flight = calloc(plan->n_flight, sizeof *g.in_flight);
    int rc = g.sequence && g.position && g.token && g.want && g.score && g.in_flight
                 ? 0
                 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    while (!rc && g.first_chunk < p->n_chunks && !p->interrupt_status) {
        g.chunks = p->n_chunks - g.first_chunk < together ? p->n_chunks - g.first_chunk : together;
        rc = run_group(&g, e);
        g.first_chunk += g.chunks;
        if (p->interrupted) p->interrupt_status = p->interrupted();
    }
    free(g.sequence);
    free(g.position);
    free(g.token);
    free(g.want);
    free(g.score);
    free(g.in_flight);
    return rc;
}

void cf_perplexity_estimate(const struct cf_perplexity *p, double *ppl, double *error) {
    double n = (double)p->n_scored, mean = p->sum / n, variance = p->squares / n - mean * mean;
    *ppl = cf_exp(mean);
    *error = n > 1 && variance > 0 ? *ppl * sqrt(variance / (n - 1)) : NAN;
}
