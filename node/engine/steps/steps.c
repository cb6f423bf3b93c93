/* The table of steps: what an instruction waits for, which domain its time belongs to, and who runs it. */
#include "node/engine/steps/job.h"
#include "transport/clock.h"

uint32_t cf__step_expects(const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = i->route >= 0 ? &g->program.routes[i->route] : NULL;
    uint32_t all = r ? (uint32_t)((1ull << r->x.n_in) - 1) : 0, mask = 0;
    switch (i->op) {
    case CF_OP_TAKE_EMBED:
        for (uint32_t k = 0; k < r->x.n_in; k++)
            for (uint32_t row = 0; row < c->n_rows; row++)
                if (cf__holds(c->token[row], r->in_row0[k], r->in_row1[k])) mask |= 1u << k;
        return mask;
    case CF_OP_TAKE_LOGITS:
        for (uint32_t k = 0; k < r->x.n_in; k++)
            if (!c->hidden || (r->in_row0[k] == 0 && c->n_want)) mask |= 1u << k;
        return mask;
    case CF_OP_SHARE: return cf_route_by_shares(r, c->n_rows, g->o.model->n_embd) ? all : 0;
    case CF_OP_ADD:
    case CF_OP_TAKE_QKV:
    case CF_OP_TAKE_HEADS:
    case CF_OP_TAKE_HIDDEN: return all;
    default: return 0;
    }
}

/* What an instruction sends from; NULL: it sends nothing. */
static const struct cf_outlet *outlet_of(
    const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i) {
    switch (i->op) {
    case CF_OP_OUT: return &c->sums_out[CF_SUMS_ATTN];
    case CF_OP_MLP: return &c->sums_out[CF_SUMS_FFN];
    case CF_OP_ADD:
        return cf_route_by_shares(&g->program.routes[i->route], c->n_rows, g->o.model->n_embd) ? &c->stage_out : NULL;
    case CF_OP_QKV:
    case CF_OP_ATTEND: return i->route < 0 ? NULL : &c->stage_out;
    case CF_OP_EMBED:
    case CF_OP_HOP:
    case CF_OP_HEAD: return &c->stage_out;
    default: return NULL;
    }
}

/* Does it leave its result in buffers that all batches share (engine->q, k, v and wide.f)? */
static bool goes_on(const struct cf_instr *i) {
    return i->op == CF_OP_TAKE_QKV || i->op == CF_OP_TAKE_HEADS ||
           (i->route < 0 && (i->op == CF_OP_QKV || i->op == CF_OP_ATTEND));
}

bool cf__step_may_write(const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i) {
    for (;; i++) {
        const struct cf_outlet *o = outlet_of(g, c, i);
        if (o && !cf_mail_sent(&g->mail, o)) return false;
        if (!goes_on(i)) return true; /* else another batch would come between the two if the next one had to wait */
    }
}

/* Which domain an instruction's time belongs to; exchange steps belong to none. */
static int domain_of(enum cf_op op) {
    switch (op) {
    case CF_OP_EMBED:
    case CF_OP_HEAD: return CF_PREFRONTAL;
    case CF_OP_QKV:
    case CF_OP_OUT: return CF_LEFT_HEMI;
    case CF_OP_MLP: return CF_RIGHT_HEMI;
    case CF_OP_ATTEND: return CF_TEMPORAL;
    default: return -1;
    }
}

/* Of experts only those that this batch chose. */
static uint64_t weight_bytes(const struct cf_engine *g, enum cf_role role, uint32_t layer) {
    const struct cf_weight *w = cf_weight_of(&g->weights, role, layer);
    bool experts = role == CF_W_GATE_EXPS || role == CF_W_UP_EXPS || role == CF_W_DOWN_EXPS;
    return (experts ? g->moe.n_active : w->parts) * cf_weight_part_bytes(w);
}

static uint64_t roles_bytes(const struct cf_engine *g, enum cf_role first, enum cf_role last, uint32_t layer) {
    uint64_t sum = 0;
    for (int role = (int)first; role <= (int)last; role++)
        sum += weight_bytes(g, (enum cf_role)role, layer);
    return sum;
}

static uint32_t keys_seen(const struct cf_engine *g, uint32_t layer, uint32_t position) {
    uint32_t window = cf_model_window(g->o.model, layer);
    return window && position >= window ? window : position + 1;
}

/* Bytes of weights or cache that an instruction streams. */
static uint64_t bytes_read(const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i) {
    uint64_t sum = 0;
    switch (i->op) {
    case CF_OP_QKV: return roles_bytes(g, CF_W_Q, CF_W_V, i->layer) + roles_bytes(g, CF_W_Q_A, CF_W_K_B, i->layer);
    case CF_OP_OUT: return weight_bytes(g, CF_W_O, i->layer) + weight_bytes(g, CF_W_V_B, i->layer);
    case CF_OP_MLP: return roles_bytes(g, CF_W_GATE, CF_W_DOWN_SHARED, i->layer);
    case CF_OP_HEAD:
        return c->n_want ? (uint64_t)cf_weight_tiles(cf__head_weight(g)) * cf__head_weight(g)->tile_bytes : 0;
    case CF_OP_ATTEND:
        for (uint32_t r = 0; r < c->n_rows; r++)
            sum += (uint64_t)keys_seen(g, i->layer, c->position[r]) * g->kv.n_kv[i->layer] * g->kv.slot_bytes / CF_PAGE;
        return sum;
    default: return 0;
    }
}

static int dispatch(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    switch (i->op) {
    case CF_OP_EMBED: return cf__step_embed(g, c, i, e);
    case CF_OP_TAKE_EMBED: return cf__step_take_embed(g, c, i, e);
    case CF_OP_QKV: return cf__step_qkv(g, c, i, e);
    case CF_OP_TAKE_QKV: return cf__step_take_qkv(g, c, i, e);
    case CF_OP_ATTEND: return cf__step_attend(g, c, i, e);
    case CF_OP_TAKE_HEADS: return cf__step_take_heads(g, c, i, e);
    case CF_OP_OUT: return cf__step_out(g, c, i, e);
    case CF_OP_MLP: return cf__step_mlp(g, c, i, e);
    case CF_OP_ADD: return cf__step_add(g, c, i, e);
    case CF_OP_SHARE: return cf__step_share(g, c, i, e);
    case CF_OP_HOP: return cf__step_hop(g, c, i, e);
    case CF_OP_TAKE_HIDDEN: return cf__step_take_hidden(g, c, i, e);
    case CF_OP_HEAD: return cf__step_head(g, c, i, e);
    case CF_OP_TAKE_LOGITS: return cf__step_take_logits(g, c, i, e);
    }
    return 0;
}

int cf__step_run(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    int domain = domain_of(i->op);
    /* Where others have the core in between, what thread 0 had of it counts as work. To ask for that is a system call,
     * half a microsecond and more, and a small model takes hundreds of thousands of steps a second. */
    bool shares = cf_team_sleeps_at_once(g->o.team);
    double start = cf_now(), core = shares ? cf_thread_now() : 0;
    g->unpacked_floats = 0;
    int rc = dispatch(g, c, i, e);
    double wall = cf_now() - start, work = shares ? cf_thread_now() - core : wall;
    if (domain < 0) {
        g->own.exchange += work;
        return rc;
    }
    g->own.compute += work;
    struct cf_domain_count *d = &g->own.domain[domain];
    d->hits++, d->seconds += wall, d->bytes_read += bytes_read(g, c, i);
    return rc;
}
