/* Attention of one batch on one layer: new keys and values into their pages, then every query over its pages.
 *
 * The query heads of one KV head, of one row or of a block of rows, go through its pages together, so that a page is
 * read and converted once for all of them. Pages are taken ascending, spans of 1,024 positions start fresh and merge
 * ascending, so that the result is the same whether one thread walks all spans or several share them (few rows, long
 * context), and whoever goes together.
 */
#include <math.h>
#include <string.h>

#include "node/engine/state.h"

enum { APPEND_ROWS = 16, ITEMS_PER_THREAD = 8 };

struct attend_job {
    struct cf_engine *g;
    struct cf_context *c;
    uint32_t layer, heads, per_kv, q0; /* local query heads; query heads per KV head; first query head */
    uint32_t n_kv;                     /* local KV heads */
    uint32_t parts;                    /* into which the query heads of a KV head are divided */
    uint32_t block, blocks;            /* rows that go together; blocks of rows */
    uint32_t spans;                    /* items per block of rows when spans are shared out, else 0 */
    uint32_t window;                   /* keys that a query sees, 0: all */
    uint32_t keep;                     /* and besides these, the first of the sequence */
    float scale;
    const float *sinks; /* [local query heads], or NULL */
};

/* What one item computes: local query heads [head0, head1), all of one KV head, of rows [row0, row1). */
struct item {
    uint32_t kv_head, head0, head1, row0, row1, span;
};

/* Later rows see more keys: they come first, so that the small items end the round. */
static struct item item_of(const struct attend_job *j, uint32_t number) {
    struct item i = {.span = j->spans ? number % j->spans : 0};
    if (j->spans) number /= j->spans;
    i.row0 = (j->blocks - 1 - number % j->blocks) * j->block;
    i.row1 = j->c->n_rows - i.row0 < j->block ? j->c->n_rows : i.row0 + j->block;
    number /= j->blocks;
    uint32_t part = number % j->parts;
    i.kv_head = number / j->parts;
    /* Members may share a KV head: this one has only some of its query heads. */
    uint32_t first = (j->g->kv.kv0[j->layer] + i.kv_head) * j->per_kv, last = first + j->per_kv;
    first = first > j->q0 ? first - j->q0 : 0;
    last = last - j->q0 < j->heads ? last - j->q0 : j->heads;
    i.head0 = first + (last - first) * part / j->parts;
    i.head1 = first + (last - first) * (part + 1) / j->parts;
    return i;
}

static size_t state_floats(const struct cf_engine *g) {
    return 17 + g->kv.d_v;
}

/* Items: (KV head, some rows): what they write of a page stays in the first cache meanwhile. */
static void append_rows(struct attend_job *j, struct cf_team *team, uint32_t thread) {
    struct cf_engine *g = j->g;
    const struct cf_kv *kv = &g->kv;
    uint32_t first, last, n_kv = j->n_kv;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        uint32_t h = first % n_kv, row = first / n_kv * APPEND_ROWS;
        uint32_t end = j->c->n_rows - row < APPEND_ROWS ? j->c->n_rows : row + APPEND_ROWS;
        for (; row < end; row++) {
            struct cf_kv_row r = {kv->type, kv->d_k, kv->d_v_apart, j->c->position[row] % CF_PAGE,
                g->k + ((size_t)row * n_kv + h) * kv->d_k, g->v + ((size_t)row * n_kv + h) * kv->d_v_apart};
            cf_kv_put(
                g->o.kernels, cf_kv_keys(kv, j->c->sequence[row], j->c->position[row] / CF_PAGE, j->layer, h), &r);
        }
    }
}

/* Keys and values of a page as f16: where they lie, or turned back in this thread's room, or turned from keys to values
 * there. */
static void read_page(const struct cf_engine *g, uint32_t thread, const uint16_t *slot, struct cf_attention_page *p) {
    const struct cf_kv *kv = &g->kv;
    uint16_t *room = g->page_room + (size_t)thread * CF_PAGE * (kv->d_k + kv->d_v);
    uint16_t *values = room + (size_t)CF_PAGE * kv->d_k;
    p->k = kv->type == CF_KV_F16 ? slot : room;
    p->v = kv->type == CF_KV_F16 && kv->d_v_apart ? slot + (size_t)CF_PAGE * kv->d_k : values;
    if (kv->type != CF_KV_F16) cf_kv_get(g->o.kernels, kv->type, slot, kv->d_k, kv->d_v_apart, room, values);
    if (!kv->d_v_apart) cf_kv_turn(p->k, kv->d_v, values);
}

static void clear(struct cf_attention_state *s, float *acc, uint32_t d_v) {
    s->max = -INFINITY;
    memset(s->sum, 0, sizeof s->sum);
    memset(acc, 0, d_v * sizeof(float));
    s->acc = acc;
}

static float *output_of(const struct attend_job *j, uint32_t row, uint32_t head) {
    return j->g->wide.f + row * j->g->wide.stride + (size_t)head * j->g->kv.d_v;
}

/* The page that this thread will probably read after `page`: the sequence's next, or the first of the next KV head. */
static const void *page_after(const struct attend_job *j, const struct item *i, uint32_t page, uint32_t last_page) {
    uint32_t sequence = j->c->sequence[i->row0];
    uint32_t next = page < last_page ? page + 1 : 0, head = i->kv_head + (page >= last_page);
    if (head >= j->n_kv || !cf_kv_has(&j->g->kv, sequence, next)) return NULL;
    return cf_kv_keys(&j->g->kv, sequence, next, j->layer, head);
}

/* The first key of the window that ends at a row; 0 where what is kept joins it. */
static uint32_t first_key(const struct attend_job *j, uint32_t row) {
    uint32_t position = j->c->position[row];
    uint32_t first = j->window && position >= j->window ? position - j->window + 1 : 0;
    return first > j->keep ? first : 0;
}

/* Which keys of a page a row sees: of its window, or of those that are kept and do not join it. */
static void see(const struct attend_job *j, struct cf_attention_state *s, uint32_t row, uint32_t page, bool kept) {
    uint32_t from = first_key(j, row), keys = j->c->position[row] + 1, before = page * CF_PAGE;
    if (kept) keys = from ? j->keep : 0, from = 0;
    s->n = keys <= before ? 0 : keys - before < CF_PAGE ? keys - before : CF_PAGE;
    s->first = from <= before ? 0 : from - before;
    if (s->first >= s->n) s->first = s->n = 0;
}

/* The score that takes part in the softmax of a head without a key, after all spans. */
static void add_sink(const struct attend_job *j, struct cf_attention_state *total, uint32_t head, float *zeros) {
    if (!j->sinks) return;
    struct cf_attention_state sink = {.max = j->sinks[head], .sum = {1.0f}, .acc = zeros};
    memset(zeros, 0, j->g->kv.d_v * sizeof(float));
    j->g->o.kernels->attend_merge(total, &sink, j->g->kv.d_v);
}

/* The lowest key that a row of an item sees. */
static uint32_t lowest_of(const struct attend_job *j, const struct item *i) {
    uint32_t lowest = UINT32_MAX;
    for (uint32_t row = i->row0; row < i->row1; row++)
        if (first_key(j, row) < lowest) lowest = first_key(j, row);
    return lowest;
}

/* One page, or what is kept of it, for all queries of an item. */
static void attend_page(struct attend_job *j, struct cf_team *team, uint32_t thread, const struct item *i,
    struct cf_attention_state *s, uint32_t page, bool kept, uint32_t longest) {
    struct cf_engine *g = j->g;
    uint32_t heads = i->head1 - i->head0, n = (i->row1 - i->row0) * heads, sequence = j->c->sequence[i->row0], seen = 0;
    cf_team_breathe(team, thread);
    for (uint32_t q = 0; q < n; q++) {
        see(j, &s[q], i->row0 + q / heads, page, kept);
        seen += s[q].n;
    }
    if (!seen) return;
    struct cf_attention_page p = {.d_k = g->kv.d_k,
        .d_v = g->kv.d_v,
        .scale = j->scale,
        .cap = g->o.model->attn_cap,
        .n_queries = n,
        .next = page_after(j, i, page, longest / CF_PAGE)};
    read_page(g, thread, cf_kv_keys(&g->kv, sequence, page, j->layer, i->kv_head), &p);
    g->o.kernels->attend_page(s, &p);
}

/* One span for all queries of an item whose rows are of one sequence: s[rows][heads]. */
static void attend_span(struct attend_job *j, struct cf_team *team, uint32_t thread, const struct item *i,
    struct cf_attention_state *s, uint32_t longest) {
    struct cf_engine *g = j->g;
    const struct cf_kv *kv = &g->kv;
    uint32_t heads = i->head1 - i->head0, n = (i->row1 - i->row0) * heads;
    const uint32_t pages = CF_SPAN / CF_PAGE;
    for (uint32_t q = 0; q < n; q++)
        s[q].q = g->q + ((size_t)(i->row0 + q / heads) * j->heads + i->head0 + q % heads) * kv->d_k;
    uint32_t first = i->span * pages, lowest = lowest_of(j, i) / CF_PAGE, kept = (j->keep + CF_PAGE - 1) / CF_PAGE;
    for (uint32_t page = first; page < (i->span + 1) * pages && page * CF_PAGE <= longest; page++) {
        if (page < kept) attend_page(j, team, thread, i, s, page, true, longest);
        if (page >= lowest) attend_page(j, team, thread, i, s, page, false, longest);
        if (page + 1 >= kept && page + 1 < lowest) page = lowest - 1;
    }
}

static uint32_t longest_of(const struct attend_job *j, const struct item *i) {
    uint32_t longest = 0;
    for (uint32_t row = i->row0; row < i->row1; row++)
        if (j->c->position[row] > longest) longest = j->c->position[row];
    return longest;
}

/* All spans of an item whose rows are of one sequence, by one thread. */
static void attend_whole(struct attend_job *j, struct cf_team *team, uint32_t thread, struct item i) {
    const struct cf_kernels *k = j->g->o.kernels;
    uint32_t d_v = j->g->kv.d_v, heads = i.head1 - i.head0, n = (i.row1 - i.row0) * heads, longest = longest_of(j, &i);
    float *scratch = j->g->thread_scratch + thread * j->g->thread_floats;
    struct cf_attention_state total[CF_QUERY_BLOCK], part[CF_QUERY_BLOCK];
    for (uint32_t q = 0; q < n; q++)
        clear(&total[q], scratch + (size_t)q * d_v, d_v);
    uint32_t lowest = lowest_of(j, &i) / CF_SPAN;
    for (i.span = j->keep ? 0 : lowest; i.span * CF_SPAN <= longest; i.span++) {
        if (i.span * CF_SPAN >= j->keep && i.span < lowest) i.span = lowest;
        for (uint32_t q = 0; q < n; q++)
            clear(&part[q], scratch + (size_t)(CF_QUERY_BLOCK + q) * d_v, d_v);
        attend_span(j, team, thread, &i, part, longest);
        for (uint32_t q = 0; q < n; q++)
            k->attend_merge(&total[q], &part[q], d_v);
    }
    for (uint32_t q = 0; q < n; q++) {
        add_sink(j, &total[q], i.head0 + q % heads, scratch + (size_t)CF_QUERY_BLOCK * d_v);
        k->attend_finish(output_of(j, i.row0 + q / heads, i.head0 + q % heads), &total[q], d_v);
    }
}

/* Items: (KV head, part of its query heads, block of rows). Rows of one sequence that follow each other go together. */
static void whole_heads(struct attend_job *j, struct cf_team *team, uint32_t thread) {
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        struct item all = item_of(j, first), i = all;
        for (; i.row0 < all.row1; i.row0 = i.row1) {
            for (i.row1 = i.row0 + 1; i.row1 < all.row1; i.row1++)
                if (j->c->sequence[i.row1] != j->c->sequence[i.row0]) break;
            attend_whole(j, team, thread, i);
        }
    }
}

/* Items: (KV head, part of its query heads, row, span); then (row, head) merges. */
static void shared_spans(struct attend_job *j, struct cf_team *team, uint32_t thread) {
    struct cf_engine *g = j->g;
    const struct cf_kernels *k = g->o.kernels;
    uint32_t first, last, d_v = g->kv.d_v;
    size_t floats = state_floats(g);
    struct cf_attention_state s[CF_QUERY_BLOCK];
    while (cf_team_next(team, thread, 1, &first, &last)) {
        struct item i = item_of(j, first);
        if (i.span * CF_SPAN > j->c->position[i.row0]) continue;
        float *store = g->span_states + ((size_t)(i.row0 * j->heads + i.head0) * j->spans + i.span) * floats;
        size_t apart = j->spans * floats; /* from head to head */
        for (uint32_t h = 0; h < i.head1 - i.head0; h++)
            clear(&s[h], store + h * apart + 17, d_v);
        attend_span(j, team, thread, &i, s, j->c->position[i.row0]);
        for (uint32_t h = 0; h < i.head1 - i.head0; h++) {
            store[h * apart] = s[h].max;
            memcpy(store + h * apart + 1, s[h].sum, sizeof s[h].sum);
        }
    }
    cf_team_again(team, thread, j->heads * j->c->n_rows);
    while (cf_team_next(team, thread, 4, &first, &last)) {
        for (uint32_t item = first; item < last; item++) {
            uint32_t row = item / j->heads, head = item % j->heads;
            struct cf_attention_state total;
            clear(&total, g->thread_scratch + thread * g->thread_floats, d_v);
            for (uint32_t span = 0; span * CF_SPAN <= j->c->position[row]; span++) {
                float *store = g->span_states + ((size_t)item * j->spans + span) * floats;
                s->max = store[0], s->acc = store + 17;
                memcpy(s->sum, store + 1, sizeof s->sum);
                k->attend_merge(&total, s, d_v);
            }
            add_sink(j, &total, head, total.acc + d_v);
            k->attend_finish(output_of(j, row, head), &total, d_v);
        }
    }
}

static uint32_t items_of(const struct attend_job *j) {
    return j->n_kv * j->parts * j->blocks * (j->spans ? j->spans : 1);
}

static void attend_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct attend_job *j = ctx;
    append_rows(j, team, thread);
    cf_team_again(team, thread, items_of(j));
    if (j->spans)
        shared_spans(j, team, thread);
    else
        whole_heads(j, team, thread);
}

/* Large blocks share most, small items balance best: rows are parted first, then spans, then the heads of a group. */
static void share_out(struct attend_job *j, uint32_t longest) {
    uint32_t threads = cf_team_size(j->g->o.team), rows = j->c->n_rows, spans = longest / CF_SPAN + 1;
    uint32_t enough = threads > 1 ? ITEMS_PER_THREAD * threads : 1;
    j->parts = (j->per_kv + CF_QUERY_BLOCK - 1) / CF_QUERY_BLOCK;
    j->block = j->per_kv < CF_QUERY_BLOCK ? CF_QUERY_BLOCK / j->per_kv : 1;
    if (j->block > rows) j->block = rows;
    j->blocks = (rows + j->block - 1) / j->block;
    while (j->block > 1 && items_of(j) < enough) {
        j->block = (j->block + 1) / 2;
        j->blocks = (rows + j->block - 1) / j->block;
    }
    bool rotates = j->g->plan.kv_size; /* then most spans are empty */
    if (j->block == 1 && spans > 1 && !rotates && items_of(j) < enough &&
        (size_t)j->heads * rows * spans * state_floats(j->g) <= j->g->span_floats)
        j->spans = spans;
    while (threads > 1 && items_of(j) < threads && j->parts < j->per_kv)
        j->parts = 2 * j->parts < j->per_kv ? 2 * j->parts : j->per_kv;
}

/* Pages that no row in flight here sees, and so no later one. */
static void forget(struct cf_engine *g, uint32_t sequence, uint32_t moving) {
    uint32_t lowest = UINT32_MAX;
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        const struct cf_context *o = &g->contexts[i];
        for (uint32_t r = 0; o->used && !o->done && r < o->n_rows; r++)
            if (o->sequence[r] == sequence && o->position[r] < lowest) lowest = o->position[r];
    }
    if (lowest >= moving) cf_kv_forget(&g->kv, sequence, g->plan.kv_keep, lowest - moving + 1);
}

int cf__attend(struct cf_engine *g, struct cf_context *c, uint32_t layer, struct cf_error *e) {
    const struct cf_model *m = g->o.model;
    uint32_t first = 0, last = 0, longest = 0;
    cf_plan_member(cf_plan_find(&g->plan, CF_TEMPORAL, layer), g->rank, &first, &last);
    struct cf_heads h = cf_model_heads(m, first, last);
    uint32_t moving = g->plan.kv_size - g->plan.kv_keep, window = cf_model_window(m, layer);
    if (moving && (!window || window > moving)) window = moving;
    for (uint32_t r = 0; r < c->n_rows; r++) {
        if (moving && (!r || c->sequence[r] != c->sequence[r - 1])) forget(g, c->sequence[r], moving);
        if (cf_kv_reserve(&g->kv, c->sequence[r], c->position[r], e)) return -1;
        if (c->position[r] > longest) longest = c->position[r];
    }
    struct attend_job j = {.g = g,
        .c = c,
        .layer = layer,
        .heads = h.q1 - h.q0,
        .per_kv = m->n_head / m->n_head_kv,
        .q0 = h.q0,
        .n_kv = g->kv.n_kv[layer],
        .window = window,
        .keep = moving && !cf_model_window(m, layer) ? g->plan.kv_keep : 0,
        .scale = m->attn_scale,
        .sinks = cf_weight_of(&g->weights, CF_W_SINKS, layer)->vector};
    if (j.heads == 0 || c->n_rows == 0) return 0;
    share_out(&j, longest);
    cf_team_do(g->o.team, attend_thread, &j, (c->n_rows + APPEND_ROWS - 1) / APPEND_ROWS * j.n_kv);
    return 0;
}
