/* Every buffer that batches need, sized from the plan and taken from the arena before the first batch. */
#include "node/engine/state.h"

/* Rows and columns that this rank's steps need at most. */
struct extent {
    uint32_t q, k, v, att, out, heads, ffn, exps, chunks,
        vocab; /* att, out: before and behind the values' projection */
};
static void raise(uint32_t *most, uint32_t n) {
    if (n > *most) *most = n;
}

static struct extent extent_of(const struct cf_engine *g) {
    struct extent x = {0};
    const struct cf_model *m = g->o.model;
    uint32_t first, last;
    for (uint32_t l = 0; l < m->n_layers; l++) {
        for (int d = CF_LEFT_HEMI; d < CF_DOMAINS; d++) {
            if (cf_plan_member(cf_plan_find(&g->plan, (enum cf_domain)d, l), g->rank, &first, &last) < 0) continue;
            if (d == CF_RIGHT_HEMI) {
                bool experts = cf_model_has_experts(m, l);
                const struct cf_axis *wide = experts ? &m->shared : &m->ffn;
                raise(&x.ffn, cf_axis_cut(wide, last) - cf_axis_cut(wide, first));
                if (experts)
                    raise(&x.exps, m->experts.whole ? m->experts.n_ff
                                                    : cf_axis_cut(&m->exps, last) - cf_axis_cut(&m->exps, first));
                if (experts) raise(&x.chunks, last - first);
                continue;
            }
            struct cf_heads h = cf_model_heads(m, first, last);
            raise(&x.heads, h.q1 - h.q0);
            raise(&x.k, (h.kv1 - h.kv0) * m->d_k);
            raise(&x.v, (h.kv1 - h.kv0) * m->d_v_apart);
        }
    }
    x.q = x.heads * m->d_k, x.att = x.heads * m->d_v, x.out = x.heads * m->d_o;
    if (cf_plan_member(cf_plan_find(&g->plan, CF_PREFRONTAL, 0), g->rank, &first, &last) >= 0)
        x.vocab = (last - first) * CF_TILE;
    return x;
}

/* Adds up sizes, or takes memory from the arena when there is one. */
struct taker {
    struct cf_arena *arena;
    uint64_t bytes;
    bool failed;
};
static void *take(struct taker *t, uint64_t bytes) {
    t->bytes += (bytes + 127) & ~63ull;
    if (!t->arena || !bytes) return NULL;
    void *p = cf_arena_take(t->arena, bytes, 64);
    if (!p) t->failed = true;
    return p;
}

static size_t most(size_t a, size_t b) {
    return a > b ? a : b;
}

/* floats: whether anybody reads the form before rounding. Rows lie an odd number of 64-byte lines apart, so that those
 * which a product takes together lie in different sets of the caches: 16 rows of 8192 columns, one behind the other,
 * would share a set of 12 places. */
static struct cf_activation take_activation(struct taker *t, uint32_t rows, uint32_t columns, bool floats) {
    size_t stride = ((columns + 63u) & ~(size_t)63u) | 64u;
    struct cf_activation a = {.stride = stride};
    if (!columns) return a;
    if (floats) a.f = take(t, rows * stride * sizeof(float));
    a.q = take(t, rows * stride);
    a.d = take(t, rows * stride / 32 * sizeof(float));
    a.sum = take(t, rows * stride / 16 * sizeof(int16_t));
    a.scaled = take(t, rows * stride / 32 * sizeof(float));
    return a;
}

static struct cf_outlet take_outlet(struct taker *t, size_t floats, bool window, uint32_t slot) {
    return (struct cf_outlet){.data = take(t, floats * sizeof(float)), .window = window, .slot = slot};
}

/* Do partial sums of this rank go to others at all? In layout layers they do not. */
static bool sums_leave(const struct cf_engine *g) {
    for (uint32_t i = 0; i < g->program.n_routes; i++) {
        const struct cf_route *r = &g->program.routes[i];
        if ((r->step == CF_STEP_ATTN_SUM || r->step == CF_STEP_FFN_SUM) && r->x.n_out) return true;
    }
    return false;
}

/* Columns of all slices by heads that wait in the stage in one step, at most. */
static size_t slices_columns(const struct cf_engine *g) {
    size_t columns = 0;
    for (uint32_t i = 0; i < g->program.n_routes; i++) {
        const struct cf_route *r = &g->program.routes[i];
        if (r->step != CF_STEP_QKV && r->step != CF_STEP_HEADS) continue;
        size_t all = r->self_columns;
        for (uint32_t k = 0; k < r->x.n_out; k++)
            all += r->x.out[k].columns;
        columns = most(columns, all);
    }
    return columns;
}

/* What a context sends from: `out`, or `own` for what nobody else reads. */
static void take_outlets(const struct cf_engine *g, struct cf_context *c, uint32_t number, struct taker *own,
    struct taker *out, const struct extent *x) {
    size_t rows = g->plan.n_rows, n_embd = g->o.model->n_embd;
    uint32_t slot = number * (CF_SUMS + 1);
    bool window = g->window.base;
    size_t sums = rows * g->program.most_own * n_embd;
    if (sums_leave(g))
        for (int i = 0; i < CF_SUMS; i++)
            c->sums_out[i] = take_outlet(out, sums, window, slot++),
            c->sums_out[i].packed = take(own, g->program.packed_sums);
    else
        c->sums_out[CF_SUMS_ATTN] = c->sums_out[CF_SUMS_FFN] = take_outlet(own, sums, false, 0);
    size_t stage = most(rows * n_embd, g->rank == 0 ? 0 : (size_t)g->plan.n_want * x->vocab);
    stage = most(stage, rows * slices_columns(g));
    c->stage_out = take_outlet(out, stage, window, slot);
    c->stage_out.packed = take(own, g->program.packed_stage);
    c->sums = c->sums_out[0].data, c->stage = c->stage_out.data;
}

uint64_t cf__outlet_bytes(const struct cf_engine *g) {
    struct extent x = extent_of(g);
    struct taker out = {0}, own = {0};
    struct cf_context none;
    for (uint32_t i = 0; i < g->plan.n_flight; i++)
        take_outlets(g, &none, i, &own, &out, &x);
    return out.bytes;
}

static void take_context(struct cf_engine *g, struct cf_context *c, struct taker *t, const struct extent *x) {
    const struct cf_model *m = g->o.model;
    size_t rows = g->plan.n_rows, want = g->plan.n_want, n_embd = m->n_embd;
    c->sequence = take(t, rows * 4), c->position = take(t, rows * 4), c->token = take(t, rows * 4),
    c->want = take(t, want * 4);
    c->h = take(t, most(rows, want) * n_embd * sizeof(float));
    c->rope = take(t, x->q ? rows * m->rope.n_dims * sizeof(float) * (m->windowed ? 2 : 1) : 0);
    c->logits = take(t, g->rank == 0 ? want * most(m->n_vocab, n_embd) * sizeof(float) : 0);
}

/* Everything for layers with experts. A batch makes `used` pairs of each row. */
static void take_moe(struct cf_engine *g, struct taker *t, const struct extent *x, uint32_t threads) {
    const struct cf_experts *e = &g->o.model->experts;
    struct cf_moe *m = &g->moe;
    size_t rows = g->plan.n_rows, pairs = rows * e->used;
    if (!x->exps) return;
    m->score_stride = (e->n + CF_TILE - 1) / CF_TILE * CF_TILE;
    m->scores = take(t, rows * m->score_stride * sizeof(float));
    m->chosen = take(t, pairs * 4), m->weights = take(t, pairs * 4), m->shared = take(t, rows * 4);
    m->first = take(t, (e->n + 1) * 4), m->active = take(t, e->n * 4);
    m->pair_row = take(t, pairs * 4), m->pair_weight = take(t, pairs * 4);
    if (rows > 1) m->in = take_activation(t, (uint32_t)pairs, g->o.model->n_embd, e->floats);
    m->inner = take_activation(t, (uint32_t)pairs, x->exps, true);
    m->sum_floats = (size_t)x->chunks * CF_MOE_ROWS * CF_TILE;
    m->sums = take(t, threads * m->sum_floats * sizeof(float));
}

static void take_latent(struct cf_engine *g, struct taker *t, const struct extent *x) {
    const struct cf_latent *l = &g->o.model->latent;
    struct cf_latent_room *m = &g->latent;
    uint32_t rows = g->plan.n_rows;
    if (!l->latent || !x->heads) return;
    m->query = take_activation(t, rows, l->query, true);
    m->q = take(t, (uint64_t)rows * x->heads * (l->plain + l->rot) * sizeof(float));
    m->kv = take(t, (uint64_t)rows * (l->latent + l->rot) * sizeof(float));
    m->plain = take_activation(t, rows, x->heads * ((l->plain + 31) / 32 * 32), true);
    m->out = take_activation(t, rows, x->out, true);
}

int cf__buffers(struct cf_engine *g, uint32_t threads, struct cf_arena *arena, uint64_t *bytes, struct cf_error *e) {
    const struct cf_model *m = g->o.model;
    struct taker t = {.arena = arena}, out = {.arena = arena && g->window.base ? &g->window : arena};
    struct extent x = extent_of(g);
    uint32_t rows = g->plan.n_rows;
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        struct cf_context none = {0}, *c = arena ? &g->contexts[i] : &none;
        take_context(g, c, &t, &x);
        take_outlets(g, c, i, &t, &out, &x);
    }
    for (uint32_t i = 0; i < g->queue_room; i++) {
        struct cf_queued none = {0}, *q = arena ? &g->queue[i] : &none;
        q->sequence = take(&t, rows * 4ull), q->position = take(&t, rows * 4ull), q->token = take(&t, rows * 4ull);
        q->want = take(&t, g->plan.n_want * 4ull);
    }
    g->unpacked = take(&t, g->program.unpacked_floats * sizeof(float));
    g->wire_counts = take(&t, threads * sizeof *g->wire_counts);
    for (uint32_t i = 0; i < g->mail.n_slots && g->size > 1; i++) {
        char *data = take(&t, g->program.slot_bytes);
        if (arena) g->mail.slots[i].data = data;
    }
    if (g->o.no_exchange) g->mail.nothing = take(&t, most(g->program.slot_bytes, 64));
    g->x = take_activation(&t, (uint32_t)most(rows, g->plan.n_want), m->n_embd, true);
    g->wide = take_activation(&t, rows, x.att > x.ffn ? x.att : x.ffn, true);
    g->q = take(&t, (uint64_t)rows * x.q * sizeof(float));
    g->k = take(&t, (uint64_t)rows * x.k * sizeof(float));
    g->v = take(&t, (uint64_t)rows * x.v * sizeof(float));
    bool post = m->a->needs & (CF_ROLE_BIT(CF_W_ATTN_POST_NORM) | CF_ROLE_BIT(CF_W_FFN_POST_NORM));
    g->post = take(&t, post ? (uint64_t)rows * m->n_embd * sizeof(float) : 0);
    take_moe(g, &t, &x, threads);
    take_latent(g, &t, &x);
    size_t attention = 2 * (size_t)CF_QUERY_BLOCK * m->d_v;
    g->thread_floats = most((CF_MAX_CHUNKS + 1) * CF_ROW_BLOCK * CF_TILE, most(attention, CF_MAX_EXPERTS)) + 64;
    g->thread_scratch = take(&t, threads * g->thread_floats * sizeof(float));
    size_t queries = 8ull * threads * (m->n_head / m->n_head_kv), heads = x.heads;
    queries = queries < most(heads, 1024) ? queries : most(heads, 1024);
    g->span_floats = g->plan.kv_size ? 0 : queries * (g->plan.n_ctx / CF_SPAN + 1) * (17 + m->d_v);
    bool as_it_lies = g->plan.kv_type == CF_KV_F16 && m->d_v_apart;
    size_t page = CF_PAGE * (size_t)(m->d_k + m->d_v);
    g->page_room = take(&t, x.heads && !as_it_lies ? threads * page * sizeof(uint16_t) : 0);
    g->span_states = take(&t, g->span_floats * sizeof(float));
    for (int i = 0; i < 2; i++)
        g->rope_freq[i] = take(&t, m->rope.n_dims / 2 * sizeof(double));
    g->vectors = take(&t, (uint64_t)threads * 2 * CF_MAX_VECTORS * sizeof(float *));
    *bytes = t.bytes + out.bytes;
    return t.failed || out.failed ? cf_fail(e, CF_ERR_MEMORY, "the arena is full at the buffers") : 0;
}
