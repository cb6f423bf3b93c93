/* See program.h: from the rows of a plan to this rank's instructions. */
#include "node/model/program.h"

#include <stdlib.h>
#include <string.h>

/* Members with something in hand, in the group's order. */
struct group {
    uint32_t n;
    int rank[CF_MAX_PARTS];
    uint32_t first[CF_MAX_PARTS], last[CF_MAX_PARTS];
};

struct compiler {
    struct cf_program *p;
    const struct cf_plan *plan;
    const struct cf_model *m;
    int me;
    uint32_t instr_room, route_room;
    bool failed;
};

const char *cf_step_name(enum cf_step step) {
    static const char *const names[CF_STEP_KINDS] = {"embedding", "query/key/value", "attention heads", "attention sum",
        "attention share", "MLP sum", "MLP share", "hidden state", "logits"};
    return (unsigned)step < CF_STEP_KINDS ? names[step] : "?";
}

static void emit(struct compiler *c, enum cf_op op, uint32_t layer, int32_t route) {
    struct cf_program *p = c->p;
    if (p->n_instrs == c->instr_room) {
        c->instr_room = c->instr_room ? 2 * c->instr_room : 256;
        struct cf_instr *more = realloc(p->instrs, c->instr_room * sizeof *more);
        if (!more) {
            c->failed = true;
            return;
        }
        p->instrs = more;
    }
    p->instrs[p->n_instrs++] = (struct cf_instr){op, layer, route};
}

/* A new route; returns its index. The caller writes through c->p->routes[index]. */
static int32_t add_route(struct compiler *c, enum cf_step step, uint32_t layer, bool wanted_only) {
    struct cf_program *p = c->p;
    if (p->n_routes == c->route_room) {
        uint32_t room = c->route_room ? 2 * c->route_room : 64;
        struct cf_route *more = realloc(p->routes, room * sizeof *more);
        if (!more) {
            c->failed = true;
            return 0;
        }
        p->routes = more;
        c->route_room = room;
    }
    struct cf_route *r = &p->routes[p->n_routes];
    memset(r, 0, sizeof *r);
    r->step = step, r->wanted_only = wanted_only, r->my_share = -1;
    r->x.id = p->n_routes, r->x.layer = layer, r->x.step = (uint32_t)step;
    r->x.max_rows = wanted_only ? c->plan->n_want : c->plan->n_rows;
    return (int32_t)p->n_routes++;
}

static struct group group_of(const struct compiler *c, enum cf_domain domain, uint32_t layer) {
    const struct cf_plan_row *row = cf_plan_find(c->plan, domain, layer);
    struct group g = {0};
    for (uint32_t i = 0; i < row->n; i++) {
        if (row->cuts[i] == row->cuts[i + 1]) continue;
        g.rank[g.n] = row->ranks[i], g.first[g.n] = row->cuts[i], g.last[g.n] = row->cuts[i + 1];
        g.n++;
    }
    return g;
}

static int place_in(const struct group *g, int rank) {
    for (uint32_t i = 0; i < g->n; i++)
        if (g->rank[i] == rank) return (int)i;
    return -1;
}

/* Everybody who keeps the residual stream of a layer: its LEFT_HEMI and RIGHT_HEMI. */
static struct group holders_of(const struct compiler *c, uint32_t layer) {
    struct group g = group_of(c, CF_LEFT_HEMI, layer), right = group_of(c, CF_RIGHT_HEMI, layer);
    for (uint32_t i = 0; i < right.n; i++)
        if (place_in(&g, right.rank[i]) < 0 && g.n < CF_MAX_PARTS) g.rank[g.n++] = right.rank[i];
    return g;
}

static bool within(const struct group *a, const struct group *b) {
    for (uint32_t i = 0; i < a->n; i++)
        if (place_in(b, a->rank[i]) < 0) return false;
    return true;
}

static bool same(const struct group *a, const struct group *b) {
    if (a->n != b->n) return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->rank[i] != b->rank[i] || a->first[i] != b->first[i] || a->last[i] != b->last[i]) return false;
    return true;
}

/* As what a part goes from a to b. Token rows and logits are never rounded: few, and the ends of everything. */
static enum cf_dtype dtype_of(const struct compiler *c, const struct cf_route *r, int a, int b) {
    bool end = r->step == CF_STEP_EMBED || r->step == CF_STEP_LOGITS;
    return end || !c->plan->host || c->plan->host[a] == c->plan->host[b] ? CF_DTYPE_F32 : c->plan->wire;
}

/* Notes the part a -> b with `columns` columns as segment `segment` of b. Returns the index on this rank's side, -1 if
 * it is not this rank's business. */
static int add_part(struct compiler *c, struct cf_route *r, int a, int b, uint32_t segment, uint32_t columns) {
    struct cf_exchange *x = &r->x;
    struct cf_part p = {.segment = segment, .columns = columns, .dtype = dtype_of(c, r, a, b)};
    /* Hidden rows are given by several ranks that have the same, so they all round or none does; of all else only one
     * rank has what it gives. */
    if (p.dtype != CF_DTYPE_F32 && (a == c->me || r->step == CF_STEP_HIDDEN)) r->rounds = true;
    if (a == c->me) {
        p.rank = b;
        x->out[x->n_out] = p;
        return (int)x->n_out++;
    }
    if (b == c->me) {
        p.rank = a;
        x->in[x->n_in] = p;
        return (int)x->n_in++;
    }
    return -1;
}

static uint32_t common_divisor(uint32_t a, uint32_t b) {
    return b ? common_divisor(b, a % b) : a;
}

static struct cf_heads meet(struct cf_heads a, struct cf_heads b) {
    struct cf_heads r = {a.q0 > b.q0 ? a.q0 : b.q0, a.q1 < b.q1 ? a.q1 : b.q1, a.kv0 > b.kv0 ? a.kv0 : b.kv0,
        a.kv1 < b.kv1 ? a.kv1 : b.kv1};
    if (r.q1 <= r.q0) r.q0 = r.q1 = 0;
    if (r.kv1 <= r.kv0) r.kv0 = r.kv1 = 0;
    return r;
}

/* Slices by heads from group a to group b: q, k, v (keys and values from the first member that makes them) or attention
 * output (q heads only). */
static int32_t heads_route(
    struct compiler *c, enum cf_step step, uint32_t layer, const struct group *a, const struct group *b) {
    int32_t index = add_route(c, step, layer, false);
    struct cf_route *r = &c->p->routes[index];
    /* Lines end with heads, so that a head is the same to all who get it, whatever else they get. */
    r->line = step == CF_STEP_HEADS ? c->m->d_v : common_divisor(c->m->d_k, c->m->d_v);
    for (uint32_t j = 0; j < b->n; j++) {
        struct cf_heads want = cf_model_heads(c->m, b->first[j], b->last[j]);
        uint32_t segment = 0, kv_done = 0;
        for (uint32_t i = 0; i < a->n; i++) {
            struct cf_heads have = cf_model_heads(c->m, a->first[i], a->last[i]);
            if (have.kv0 < kv_done) have.kv0 = kv_done;
            if (have.kv1 < have.kv0) have.kv1 = have.kv0;
            kv_done = have.kv1;
            struct cf_heads part = meet(have, want);
            uint32_t columns = (part.q1 - part.q0) * c->m->d_k + (part.kv1 - part.kv0) * (c->m->d_k + c->m->d_v_apart);
            if (step == CF_STEP_HEADS) part.kv0 = part.kv1 = 0, columns = (part.q1 - part.q0) * c->m->d_v;
            if (!columns) continue;
            if (a->rank[i] == b->rank[j]) {
                if (a->rank[i] == c->me) r->self = part, r->self_columns = columns;
                continue;
            }
            int k = add_part(c, r, a->rank[i], b->rank[j], segment++, columns);
            if (k >= 0 && a->rank[i] == c->me) r->out_heads[k] = part;
            if (k >= 0 && b->rank[j] == c->me) r->in_heads[k] = part;
        }
    }
    return index;
}

static bool in_row(const struct cf_plan_row *row, int rank) {
    for (uint32_t i = 0; i < row->n; i++)
        if (row->ranks[i] == rank) return true;
    return false;
}

/* Partial sums of the hidden state from the members of `row` to `to`. */
static int32_t sum_route(struct compiler *c, enum cf_step step, uint32_t layer, enum cf_domain domain,
    const struct group *to, struct cf_error *e) {
    const struct cf_plan_row *row = cf_plan_find(c->plan, domain, layer);
    uint32_t chunks = cf_plan_axis_chunks(c->m, domain, layer), n_embd = c->m->n_embd;
    int32_t index = add_route(c, step, layer, false);
    struct cf_route *r = &c->p->routes[index];
    r->line = n_embd;
    if (cf_tree_compile(&r->tree, chunks, row->cuts, row->n, e)) {
        c->failed = true;
        return index;
    }
    r->my_share = place_in(to, c->me);
    r->receives = r->my_share >= 0;
    if (to->n >= 3) {
        r->n_shares = to->n;
        uint32_t tiles = (n_embd + CF_TILE - 1) / CF_TILE;
        for (uint32_t j = 0; j <= to->n; j++) {
            uint32_t cut = (uint32_t)((uint64_t)tiles * j / to->n) * CF_TILE;
            r->share_cut[j] = cut < n_embd ? cut : n_embd;
        }
        bool apart = false;
        for (uint32_t j = 1; j < to->n && c->plan->host; j++)
            apart |= c->plan->host[to->rank[j]] != c->plan->host[to->rank[0]];
        if (apart) r->share_dtype = c->plan->wire;
        r->share_bytes = cf_route_share_limit(to->n, r->tree.n_vectors, apart);
    }
    if (!r->receives && !in_row(row, c->me)) return index; /* nothing of this passes here */
    struct cf_subtree cover[16];
    uint32_t vector = 0;
    for (uint32_t i = 0; i < row->n; i++) {
        uint32_t n = cf_tree_cover(chunks, row->cuts[i], row->cuts[i + 1], cover);
        if (!n) continue;
        if (row->ranks[i] == c->me) {
            r->own_vector = vector, r->n_own = n;
            memcpy(r->own, cover, n * sizeof *cover);
            if (n > c->p->most_own) c->p->most_own = n;
        }
        for (uint32_t j = 0; j < to->n; j++) {
            if (to->rank[j] == row->ranks[i]) continue;
            uint32_t segment = 0; /* senders before this one, the receiver itself not counted */
            for (uint32_t k = 0; k < i; k++)
                segment += row->cuts[k] != row->cuts[k + 1] && row->ranks[k] != to->rank[j];
            int k = add_part(c, r, row->ranks[i], to->rank[j], segment, n * n_embd);
            if (k >= 0 && to->rank[j] == c->me) r->in_vector[k] = vector;
        }
        vector += n;
    }
    return index;
}

/* The all-gather behind a sum that goes by shares. */
static int32_t share_route(struct compiler *c, enum cf_step step, uint32_t layer, int32_t sum, const struct group *to) {
    int32_t index = add_route(c, step, layer, false);
    struct cf_route *r = &c->p->routes[index];
    const struct cf_route *s = &c->p->routes[sum];
    r->n_shares = s->n_shares, r->my_share = s->my_share, r->receives = s->receives;
    r->share_dtype = s->share_dtype, r->share_bytes = s->share_bytes;
    memcpy(r->share_cut, s->share_cut, sizeof r->share_cut);
    for (uint32_t i = 0; s->n_shares && r->receives && i < to->n; i++)
        for (uint32_t j = 0; j < to->n; j++) {
            uint32_t columns = r->share_cut[i + 1] - r->share_cut[i], segment = 0;
            if (i == j || !columns) continue;
            for (uint32_t k = 0; k < i; k++)
                segment += k != j && r->share_cut[k + 1] != r->share_cut[k];
            int k = add_part(c, r, to->rank[i], to->rank[j], segment, columns);
            if (k >= 0 && to->rank[j] == c->me) r->in_vector[k] = i; /* whose share */
        }
    return index;
}

/* Embedding rows (to holders of layer 0) or logits (to rank 0): whole rows or row slices of the vocabulary. */
static int32_t vocab_route(struct compiler *c, enum cf_step step, const struct group *from, const struct group *to) {
    int32_t index = add_route(c, step, 0, step == CF_STEP_LOGITS);
    struct cf_route *r = &c->p->routes[index];
    for (uint32_t i = 0; i < from->n; i++) {
        struct cf_slice s = cf_model_slice(c->m, CF_W_TOKEN_EMBD, from->first[i], from->last[i]);
        if (from->rank[i] == c->me) r->own_row0 = s.row0, r->own_row1 = s.row1;
        for (uint32_t j = 0; j < to->n; j++) {
            if (to->rank[j] == from->rank[i]) continue;
            uint32_t segment = 0;
            for (uint32_t k = 0; k < i; k++)
                segment += from->rank[k] != to->rank[j];
            uint32_t columns = step == CF_STEP_EMBED ? c->m->n_embd : s.row1 - s.row0;
            if (s.row0 == 0 && columns < c->m->n_embd) columns = c->m->n_embd; /* it may give hidden rows */
            int k = add_part(c, r, from->rank[i], to->rank[j], segment, columns);
            if (k >= 0 && to->rank[j] == c->me) r->in_row0[k] = s.row0, r->in_row1[k] = s.row1;
        }
    }
    r->receives = place_in(to, c->me) >= 0;
    return index;
}

/* Whole hidden rows from the ranks `from` (that have the finished sum) to `to`: each receiver from one sender. */
static void hop(
    struct compiler *c, uint32_t layer, const struct group *from, const struct group *to, bool wanted_only) {
    int32_t index = add_route(c, CF_STEP_HIDDEN, layer, wanted_only);
    struct cf_route *r = &c->p->routes[index];
    bool self = false;
    for (uint32_t j = 0; j < to->n; j++) {
        int sender = place_in(from, to->rank[j]) >= 0 ? to->rank[j] : from->rank[j % from->n];
        if (sender == to->rank[j]) {
            if (sender == c->me) self = true;
            continue;
        }
        add_part(c, r, sender, to->rank[j], 0, c->m->n_embd);
    }
    r->receives = r->x.n_in > 0;
    if (r->x.n_out || self) {
        r->self.q1 = self; /* marks that this rank goes on with its own rows */
        emit(c, CF_OP_HOP, layer, index);
    }
    if (r->receives) emit(c, CF_OP_TAKE_HIDDEN, layer, index);
}

static void add_sum(struct compiler *c, enum cf_step step, uint32_t layer, int32_t sum, const struct group *to) {
    int32_t share = share_route(c, step, layer, sum, to);
    if (place_in(to, c->me) < 0) return;
    emit(c, CF_OP_ADD, layer, sum);
    if (c->p->routes[share].n_shares) emit(c, CF_OP_SHARE, layer, share);
}

static struct group first_members(const struct group *g, uint32_t most) {
    struct group r = *g;
    if (r.n > most) r.n = most;
    return r;
}

static void compile_layer(struct compiler *c, uint32_t l, struct cf_error *e) {
    struct group left = group_of(c, CF_LEFT_HEMI, l), temporal = group_of(c, CF_TEMPORAL, l);
    struct group right = group_of(c, CF_RIGHT_HEMI, l), holders = holders_of(c, l);
    bool in_left = place_in(&left, c->me) >= 0, in_temporal = place_in(&temporal, c->me) >= 0;
    bool aligned = same(&left, &temporal);
    int32_t qkv = aligned ? -1 : heads_route(c, CF_STEP_QKV, l, &left, &temporal);
    int32_t heads = aligned ? -1 : heads_route(c, CF_STEP_HEADS, l, &temporal, &left);
    if (in_left) emit(c, CF_OP_QKV, l, qkv);
    if (in_temporal && !aligned) emit(c, CF_OP_TAKE_QKV, l, qkv);
    if (in_temporal) emit(c, CF_OP_ATTEND, l, heads);
    if (in_left && !aligned) emit(c, CF_OP_TAKE_HEADS, l, heads);
    int32_t sum = sum_route(c, CF_STEP_ATTN_SUM, l, CF_LEFT_HEMI, &holders, e);
    if (in_left) emit(c, CF_OP_OUT, l, sum);
    add_sum(c, CF_STEP_ATTN_SHARE, l, sum, &holders);

    bool last = l + 1 == c->m->n_layers;
    struct group next = last ? group_of(c, CF_PREFRONTAL, 0) : holders_of(c, l + 1);
    bool stays = within(&next, &holders);
    struct group to = stays ? next : first_members(&right, next.n);
    sum = sum_route(c, CF_STEP_FFN_SUM, l, CF_RIGHT_HEMI, &to, e);
    if (place_in(&right, c->me) >= 0) emit(c, CF_OP_MLP, l, sum);
    add_sum(c, CF_STEP_FFN_SHARE, l, sum, &to);
    if (!stays) hop(c, l, &to, &next, last);
}

int cf_program_compile(
    struct cf_program *p, const struct cf_plan *plan, const struct cf_model *m, int rank, struct cf_error *e) {
    memset(p, 0, sizeof *p);
    struct compiler c = {.p = p, .plan = plan, .m = m, .me = rank};
    struct group prefrontal = group_of(&c, CF_PREFRONTAL, 0), first = holders_of(&c, 0), coordinator = {.n = 1};
    int32_t embed = vocab_route(&c, CF_STEP_EMBED, &prefrontal, &first);
    if (place_in(&prefrontal, rank) >= 0) emit(&c, CF_OP_EMBED, 0, embed);
    if (place_in(&first, rank) >= 0) emit(&c, CF_OP_TAKE_EMBED, 0, embed);
    for (uint32_t l = 0; l < m->n_layers && !c.failed; l++)
        compile_layer(&c, l, e);
    int32_t logits = vocab_route(&c, CF_STEP_LOGITS, &prefrontal, &coordinator);
    if (place_in(&prefrontal, rank) >= 0) emit(&c, CF_OP_HEAD, 0, logits);
    if (rank == 0) emit(&c, CF_OP_TAKE_LOGITS, 0, logits);
    p->exchanges = calloc(p->n_routes + 1, sizeof *p->exchanges);
    if (c.failed || !p->exchanges) {
        cf_program_free(p);
        return e->code ? -1 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < p->n_routes; i++) {
        const struct cf_exchange *x = &p->routes[i].x;
        p->exchanges[i] = x;
        cf__route_measure(&p->routes[i], plan->wire, m->n_embd, p);
        size_t bytes = cf_exchange_bytes(x);
        if (bytes > p->slot_bytes) p->slot_bytes = bytes;
    }
    return 0;
}

void cf_program_free(struct cf_program *p) {
    free(p->instrs);
    free(p->routes);
    free(p->exchanges);
    memset(p, 0, sizeof *p);
}
