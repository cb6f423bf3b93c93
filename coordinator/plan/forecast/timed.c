/* See timed.h: each rank's program is compiled as the rank itself would do it, read once, and thrown away. */
#include "coordinator/plan/forecast/timed.h"

#include <stdlib.h>
#include <string.h>

#include "node/engine/memory/kv.h"

struct pricing {
    const struct cf_plan *plan;
    const struct cf_model *m;
    const struct cf_gguf *g;
    const struct cf_rank_info *info;
    struct cf_program program;
    struct cf_kv kv;
    uint32_t rank, room;
    struct cf_timed_rank *to;
};

/* The least number of rows at which a sum goes by shares. */
static uint32_t share_rows(const struct pricing *c, const struct cf_route *r) {
    uint32_t low = 1, high = c->plan->n_rows + 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cf_route_by_shares(r, middle, c->m->n_embd))
            high = middle;
        else
            low = middle + 1;
    }
    return low > c->plan->n_rows ? UINT32_MAX : low;
}

static int add_send(struct pricing *c, struct cf_timed_send s, struct cf_error *e) {
    struct cf_timed_rank *t = c->to;
    if (t->n_sends == c->room) {
        c->room = c->room ? 2 * c->room : 64;
        struct cf_timed_send *more = realloc(t->sends, c->room * sizeof *more);
        if (!more) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
        t->sends = more;
    }
    t->sends[t->n_sends++] = s;
    return 0;
}

static bool waits(enum cf_op op) {
    return op == CF_OP_TAKE_EMBED || op == CF_OP_TAKE_QKV || op == CF_OP_TAKE_HEADS || op == CF_OP_ADD ||
           op == CF_OP_SHARE || op == CF_OP_TAKE_HIDDEN || op == CF_OP_TAKE_LOGITS;
}

static bool computes(enum cf_op op) {
    return op == CF_OP_QKV || op == CF_OP_ATTEND || op == CF_OP_OUT || op == CF_OP_MLP || op == CF_OP_HEAD;
}

static bool is_sum(enum cf_step step) {
    return step == CF_STEP_ATTN_SUM || step == CF_STEP_FFN_SUM;
}

/* How many of a batch's rows this rank embeds, on average: it does so for the tokens of its part of the vocabulary. */
static float embeds(const struct pricing *c) {
    uint32_t first, last;
    if (cf_plan_member(cf_plan_find(c->plan, CF_PREFRONTAL, 0), (int)c->rank, &first, &last) < 0) return 0;
    return (float)(last - first) / (float)c->m->vocab_tiles;
}

/* What an instruction sends over a route. The receivers of a sum are numbered as in share_cut, without this rank. */
static int price_sends(
    struct pricing *c, const struct cf_route *r, int32_t route, bool only_shares, struct cf_error *e) {
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        const struct cf_part *p = &r->x.out[k];
        float bytes = (float)cf_extent_bytes((struct cf_extent){1, p->columns, r->line}, p->dtype);
        struct cf_timed_send s = {(uint32_t)p->rank, route, bytes, 0, only_shares, false};
        if (r->step == CF_STEP_EMBED) s.bytes = 4.0f * (float)c->m->n_embd * embeds(c);
        if (is_sum(r->step) && r->n_shares) {
            uint32_t j = cf_route_share(r, true, k), width = r->share_cut[j + 1] - r->share_cut[j];
            s.share_bytes = (float)cf_extent_bytes((struct cf_extent){1, r->n_own * width, width}, p->dtype);
        }
        for (uint32_t i = 0; i < r->x.n_in; i++)
            s.mutual |= r->x.in[i].rank == r->x.out[k].rank;
        if (add_send(c, s, e)) return -1;
    }
    return 0;
}

/* What it reads of what others wrote: all parts, of a sum by shares this rank's columns of each. */
static void price_reads(struct pricing *c, struct cf_timed_instr *t, const struct cf_route *r) {
    uint32_t n_embd = c->m->n_embd;
    for (uint32_t k = 0; k < r->x.n_in; k++)
        t->read += 4.0 * r->x.in[k].columns;
    t->share_read = t->read;
    if (is_sum(r->step) && r->n_shares && r->my_share >= 0)
        t->share_read = t->read * (r->share_cut[r->my_share + 1] - r->share_cut[r->my_share]) / n_embd;
}

static int price(struct pricing *c, uint32_t at, struct cf_error *e) {
    const struct cf_instr *i = &c->program.instrs[at];
    struct cf_timed_instr *t = &c->to->instrs[at];
    const struct cf_route *r = i->route >= 0 ? &c->program.routes[i->route] : NULL;
    cf_cost_of(&t->cost, c->plan, c->m, c->g, &c->kv, i, c->rank, c->info);
    t->send0 = c->to->n_sends, t->share_rows = UINT32_MAX, t->computes = computes(i->op);
    t->wanted = i->op == CF_OP_HEAD || i->op == CF_OP_TAKE_LOGITS || (r && r->wanted_only);
    t->only_shares = i->op == CF_OP_SHARE, t->holds = cf_program_holds(&c->program, at);
    if (r && r->n_shares) t->share_rows = share_rows(c, r);
    if (r && waits(i->op)) t->n_in = r->x.n_in, c->to->takes[i->route] = (int32_t)at, price_reads(c, t, r);
    if (i->op == CF_OP_ADD) { /* its columns go to the others in the route behind it */
        const struct cf_instr *next = i + 1;
        if (at + 1 < c->program.n_instrs && next->op == CF_OP_SHARE &&
            price_sends(c, &c->program.routes[next->route], next->route, true, e))
            return -1;
    } else if (r && !waits(i->op) && price_sends(c, r, i->route, false, e)) {
        return -1;
    }
    t->n_sends = c->to->n_sends - t->send0;
    return 0;
}

static int price_rank(struct cf_timed *all, struct pricing *c, struct cf_error *e) {
    struct cf_timed_rank *t = c->to;
    all->n_routes = c->program.n_routes;
    t->n = c->program.n_instrs;
    t->instrs = calloc(t->n + 1, sizeof *t->instrs);
    t->takes = malloc((c->program.n_routes + 1) * sizeof *t->takes);
    if (!t->instrs || !t->takes) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < c->program.n_routes; i++)
        t->takes[i] = -1;
    for (uint32_t i = 0; i < t->n; i++)
        if (price(c, i, e)) return -1;
    return 0;
}

int cf_timed_new(struct cf_timed *t, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    const struct cf_figures *f, struct cf_error *e) {
    memset(t, 0, sizeof *t);
    t->ranks = calloc(f->n_ranks, sizeof *t->ranks);
    if (!t->ranks) return cf_fail(e, CF_ERR_MEMORY, "no memory for the programs of %u ranks", f->n_ranks);
    t->n_ranks = f->n_ranks;
    int rc = 0;
    for (uint32_t r = 0; !rc && r < f->n_ranks; r++) {
        struct pricing c = {.plan = p, .m = m, .g = g, .info = &f->ranks[r], .rank = r, .to = &t->ranks[r]};
        rc = cf_program_compile(&c.program, p, m, (int)r, e);
        if (!rc) rc = cf_kv_measure(&c.kv, p, m, (int)r, e);
        if (!rc) rc = price_rank(t, &c, e);
        cf_kv_free(&c.kv);
        cf_program_free(&c.program);
    }
    if (rc) cf_timed_free(t);
    return rc;
}

void cf_timed_free(struct cf_timed *t) {
    for (uint32_t r = 0; r < t->n_ranks && t->ranks; r++) {
        free(t->ranks[r].instrs);
        free(t->ranks[r].sends);
        free(t->ranks[r].takes);
    }
    free(t->ranks);
    memset(t, 0, sizeof *t);
}
