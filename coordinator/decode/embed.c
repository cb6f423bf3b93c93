/* See embed.h. */
#include "coordinator/decode/embed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan/split.h"
#include "node/kernels/kernels.h"

int cf_pooling_by_name(const char *name) {
    static const char *const names[CF_POOLINGS] = {"none", "mean", "cls", "last"};
    for (int i = 0; i < CF_POOLINGS; i++)
        if (!strcmp(name, names[i])) return i;
    return -1;
}

uint64_t cf_embed_rows(const struct cf_embed_text *texts, uint32_t n_texts, enum cf_pooling pooling) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_texts && pooling == CF_POOL_NONE; i++)
        n += texts[i].n;
    return pooling == CF_POOL_NONE ? n : n_texts;
}

/* Texts on their way: rows go out in the order (text, position), wanted ones come back in the same. */
struct group {
    struct cf_embed *m;
    uint32_t first, texts;
    uint32_t sent_text, sent_at; /* the next row */
    uint32_t done_text, done_at; /* the next wanted row to come back */
    uint64_t row;                /* of the result, NONE */
    double *sum;                 /* [n_embd], MEAN */
    uint32_t *sequence, *position, *token, *want;
    struct {
        uint32_t id, n_want;
    } * in_flight; /* [n_flight] ring */
    uint32_t flight_first, flight_n;
};

static bool wanted(const struct group *g, uint32_t text, uint32_t at) {
    return g->m->pooling == CF_POOL_CLS    ? at == 0
           : g->m->pooling == CF_POOL_LAST ? at + 1 == g->m->texts[text].n
                                           : true;
}

static int send_batch(struct group *g, struct cf_error *e) {
    const struct cf_plan *p = &g->m->job->plan;
    struct cf_batch b = {
        .sequence = g->sequence, .position = g->position, .token = g->token, .want = g->want, .hidden = true};
    while (b.n_rows < p->n_rows && g->sent_text < g->texts && b.n_want < p->n_want) {
        uint32_t row = b.n_rows++, at = g->sent_at, text = g->first + g->sent_text;
        g->sequence[row] = g->sent_text, g->position[row] = at, g->token[row] = g->m->texts[text].ids[at];
        if (wanted(g, text, at)) g->want[b.n_want++] = row;
        if (++g->sent_at == g->m->texts[text].n) g->sent_at = 0, g->sent_text++;
    }
    if (cf_engine_submit(g->m->job->engine, &b, e)) return -1;
    uint32_t at = (g->flight_first + g->flight_n++) % p->n_flight;
    g->in_flight[at].id = b.id, g->in_flight[at].n_want = b.n_want;
    return 0;
}

static void take_row(struct group *g, const float *x) {
    struct cf_embed *m = g->m;
    size_t n = m->job->model.n_embd;
    uint32_t text = g->first + g->done_text, length = m->texts[text].n;
    float *out = m->rows + (m->pooling == CF_POOL_NONE ? g->row++ : text) * n;
    for (size_t i = 0; i < n && m->pooling == CF_POOL_MEAN; i++) {
        g->sum[i] = (double)x[i] + (g->done_at ? g->sum[i] : 0);
        out[i] = (float)(g->sum[i] / (double)length);
    }
    if (m->pooling != CF_POOL_MEAN) memcpy(out, x, n * sizeof *out);
    bool one = m->pooling == CF_POOL_CLS || m->pooling == CF_POOL_LAST;
    if (one || ++g->done_at == length) g->done_at = 0, g->done_text++;
}

static int take_batch(struct group *g, struct cf_error *e) {
    struct cf_engine *engine = g->m->job->engine;
    uint32_t id = g->in_flight[g->flight_first].id, n = g->in_flight[g->flight_first].n_want;
    if (cf_engine_wait(engine, id, e)) return -1;
    for (uint32_t i = 0; i < n; i++)
        take_row(g, cf_engine_hidden(engine, id, i));
    cf_engine_finish(engine, id);
    g->flight_first = (g->flight_first + 1) % g->m->job->plan.n_flight, g->flight_n--;
    return 0;
}

static int run_group(struct group *g, struct cf_error *e) {
    const struct cf_job *j = g->m->job;
    for (uint32_t s = 0; s < g->texts; s++)
        if (cf_engine_truncate(j->engine, s, 0, e)) return -1;
    g->sent_text = g->sent_at = g->done_text = g->done_at = 0;
    while (g->sent_text < g->texts || g->flight_n) {
        bool more = g->sent_text < g->texts && g->flight_n < j->plan.n_flight;
        if (more ? send_batch(g, e) : take_batch(g, e)) return -1;
    }
    return 0;
}

int cf_embed_run(struct cf_embed *m, struct cf_error *e) {
    const struct cf_plan *p = &m->job->plan;
    struct group g = {.m = m};
    g.sequence = calloc(p->n_rows, 4), g.position = calloc(p->n_rows, 4), g.token = calloc(p->n_rows, 4);
    g.want = calloc(p->n_want, 4), g.sum = calloc(m->job->model.n_embd, sizeof *g.sum);
    g.in_flight = calloc(p->n_flight, sizeof *g.in_flight);
    int rc = g.sequence && g.position && g.token && g.want && g.sum && g.in_flight
                 ? 0
                 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    while (!rc && g.first < m->n_texts && !m->interrupt_status) {
        g.texts = m->n_texts - g.first < p->n_seqs ? m->n_texts - g.first : p->n_seqs;
        rc = run_group(&g, e);
        g.first += g.texts;
        if (m->interrupted) m->interrupt_status = m->interrupted();
    }
    free(g.sequence);
    free(g.position);
    free(g.token);
    free(g.want);
    free(g.sum);
    free(g.in_flight);
    return rc;
}

void cf_embed_normalise(float *x, uint32_t n, int64_t kind) {
    double sum = kind < 0 ? 1 : 0;
    for (uint32_t i = 0; i < n && kind >= 0; i++) {
        double a = fabs((double)x[i]);
        if (kind == 0)
            sum = a > sum ? a : sum;
        else
            sum += kind == 1 ? a : kind == 2 ? a * a : a > 0 ? cf_pow(a, (double)kind) : 0;
    }
    if (kind == 0) sum /= 32760.0;
    if (kind == 2) sum = sqrt(sum);
    if (kind > 2 && sum > 0) sum = cf_pow(sum, 1.0 / (double)kind);
    float scale = sum > 0 ? (float)(1.0 / sum) : 0.0f;
    for (uint32_t i = 0; i < n; i++)
        x[i] *= scale;
}

double cf_embed_similarity(const float *a, const float *b, uint32_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < n; i++)
        ab += (double)a[i] * (double)b[i], aa += (double)a[i] * (double)a[i], bb += (double)b[i] * (double)b[i];
    if (aa == 0 || bb == 0) return aa == bb ? 1 : 0;
    return ab / (sqrt(aa) * sqrt(bb));
}
