/* All ranks' programs together: every part that one rank expects is sent by exactly one other, in the same shape and
 * with the same meaning; what arrives is what a step needs; and no order of arrival leaves anybody waiting for ever. */
#include "node/model/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "small_model.h"

enum { MOST = 17 };

struct world {
    const struct cf_model *m;
    const struct cf_plan *plan;
    uint32_t n;
    struct cf_program p[MOST];
    char name[128];
};

#define CHECK(w, condition)                                                                                            \
    do {                                                                                                               \
        if (!(condition)) fail_msg("%s: %s", (w)->name, #condition);                                                   \
    } while (0)

static bool same_heads(struct cf_heads a, struct cf_heads b) {
    return a.q0 == b.q0 && a.q1 == b.q1 && a.kv0 == b.kv0 && a.kv1 == b.kv1;
}

/* What one rank sends is what the other one makes room for, for any number of rows. */
static void sizes_match(
    const struct world *w, const struct cf_route *r, uint32_t in, const struct cf_route *s, uint32_t out) {
    uint32_t n_embd = w->m->n_embd;
    for (uint32_t rows = 1; rows <= r->x.max_rows; rows += 1 + rows / 2) {
        struct cf_extent x = cf_route_extent(r, false, in, rows, n_embd),
                         y = cf_route_extent(s, true, out, rows, n_embd);
        CHECK(w, x.rows == y.rows && x.columns == y.columns && x.line == y.line);
        CHECK(w, x.rows == rows || x.rows == 0);
        CHECK(w, cf_extent_line(x) == 0 || x.columns % cf_extent_line(x) == 0);
        size_t bytes = cf_route_bytes(r, false, in, rows, n_embd);
        CHECK(w, bytes == cf_route_bytes(s, true, out, rows, n_embd) && bytes <= r->x.in[in].bytes);
        if (r->x.in[in].dtype == CF_DTYPE_F32) CHECK(w, bytes == (size_t)x.rows * x.columns * 4);
    }
}

/* in-parts of b <-> out-parts of a, one to one. */
static void parts_match(const struct world *w, uint32_t route) {
    uint32_t ins = 0, outs = 0;
    for (uint32_t b = 0; b < w->n; b++) {
        const struct cf_route *r = &w->p[b].routes[route];
        CHECK(w, r->x.id == route && r->x.n_in <= CF_MAX_PARTS && r->x.n_out <= CF_MAX_PARTS);
        CHECK(w, cf_exchange_bytes(&r->x) <= w->p[b].slot_bytes);
        ins += r->x.n_in, outs += r->x.n_out;
        for (uint32_t i = 0; i < r->x.n_in; i++) {
            const struct cf_part *in = &r->x.in[i];
            CHECK(w, in->segment == i && in->rank >= 0 && (uint32_t)in->rank < w->n && (uint32_t)in->rank != b);
            const struct cf_route *s = &w->p[in->rank].routes[route];
            uint32_t found = 0;
            for (uint32_t k = 0; k < s->x.n_out; k++) {
                const struct cf_part *out = &s->x.out[k];
                if ((uint32_t)out->rank != b) continue;
                found++;
                CHECK(w, out->segment == i && out->columns == in->columns && out->columns > 0);
                sizes_match(w, r, i, s, k);
                bool apart = w->plan->host && w->plan->host[b] != w->plan->host[in->rank];
                bool end = r->step == CF_STEP_EMBED || r->step == CF_STEP_LOGITS;
                CHECK(w, in->dtype == (apart && !end ? w->plan->wire : CF_DTYPE_F32));
                if (in->dtype != CF_DTYPE_F32) CHECK(w, s->rounds);
                if (r->step == CF_STEP_HIDDEN) CHECK(w, s->rounds == r->rounds);
                if (r->step == CF_STEP_QKV || r->step == CF_STEP_HEADS)
                    CHECK(w, same_heads(s->out_heads[k], r->in_heads[i]));
                if (r->step == CF_STEP_EMBED || r->step == CF_STEP_LOGITS)
                    CHECK(w, s->own_row0 == r->in_row0[i] && s->own_row1 == r->in_row1[i]);
                if (r->step == CF_STEP_ATTN_SUM || r->step == CF_STEP_FFN_SUM)
                    CHECK(w, r->in_vector[i] == s->own_vector && in->columns == s->n_own * w->m->n_embd);
                if (r->step == CF_STEP_ATTN_SHARE || r->step == CF_STEP_FFN_SHARE)
                    CHECK(w, r->in_vector[i] == (uint32_t)s->my_share &&
                                 in->columns == r->share_cut[s->my_share + 1] - r->share_cut[s->my_share]);
            }
            CHECK(w, found == 1);
        }
        const struct cf_route *zero = &w->p[0].routes[route];
        CHECK(w, r->step == zero->step && r->x.layer == zero->x.layer && r->x.max_rows == zero->x.max_rows &&
                     r->wanted_only == zero->wanted_only && r->n_shares == zero->n_shares);
        CHECK(w, !memcmp(r->share_cut, zero->share_cut, sizeof r->share_cut));
        CHECK(w, r->tree.n_ops == zero->tree.n_ops &&
                     !memcmp(r->tree.ops, zero->tree.ops, r->tree.n_ops * sizeof *r->tree.ops));
    }
    CHECK(w, ins == outs);
}

/* [first, last) of n things, marked once each. */
static void mark(const struct world *w, uint8_t *seen, uint32_t first, uint32_t last, uint32_t from, uint32_t to) {
    CHECK(w, from <= first && last <= to);
    for (uint32_t i = first; i < last; i++) {
        CHECK(w, !seen[i]);
        seen[i] = 1;
    }
}
static bool full(const uint8_t *seen, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++)
        if (!seen[i]) return false;
    return true;
}

/* What one rank gets, with what it has itself, is exactly what the step needs. */
static void parts_suffice(const struct world *w, uint32_t rank, const struct cf_route *r) {
    static uint8_t q[8192], kv[8192];
    memset(q, 0, sizeof q), memset(kv, 0, sizeof kv);
    uint32_t first, last;
    switch (r->step) {
    case CF_STEP_QKV:
    case CF_STEP_HEADS: {
        enum cf_domain d = r->step == CF_STEP_QKV ? CF_TEMPORAL : CF_LEFT_HEMI;
        if (cf_plan_member(cf_plan_find(w->plan, d, r->x.layer), (int)rank, &first, &last) < 0) {
            CHECK(w, r->x.n_in == 0);
            return;
        }
        struct cf_heads need = cf_model_heads(w->m, first, last);
        for (uint32_t i = 0; i <= r->x.n_in; i++) {
            struct cf_heads part = i < r->x.n_in ? r->in_heads[i] : r->self;
            mark(w, q, part.q0, part.q1, part.q1 > part.q0 ? need.q0 : 0, need.q1);
            mark(w, kv, part.kv0, part.kv1, part.kv1 > part.kv0 ? need.kv0 : 0, need.kv1);
        }
        CHECK(w, full(q, need.q0, need.q1));
        if (r->step == CF_STEP_QKV) CHECK(w, full(kv, need.kv0, need.kv1));
        return;
    }
    case CF_STEP_EMBED:
    case CF_STEP_LOGITS:
        if (!r->receives) {
            CHECK(w, r->x.n_in == 0);
            return;
        }
        for (uint32_t i = 0; i < r->x.n_in; i++)
            mark(w, q, r->in_row0[i], r->in_row1[i], 0, w->m->n_vocab);
        mark(w, q, r->own_row0, r->own_row1, 0, w->m->n_vocab);
        CHECK(w, full(q, 0, w->m->n_vocab));
        return;
    case CF_STEP_ATTN_SUM:
    case CF_STEP_FFN_SUM:
        CHECK(w, (r->my_share >= 0) == r->receives);
        if (!r->receives) {
            CHECK(w, r->x.n_in == 0);
            return;
        }
        for (uint32_t i = 0; i < r->x.n_in; i++)
            mark(w, q, r->in_vector[i], r->in_vector[i] + r->x.in[i].columns / w->m->n_embd, 0, r->tree.n_vectors);
        mark(w, q, r->own_vector, r->own_vector + r->n_own, 0, r->tree.n_vectors);
        CHECK(w, full(q, 0, r->tree.n_vectors));
        if (r->n_shares) CHECK(w, r->share_cut[0] == 0 && r->share_cut[r->n_shares] == w->m->n_embd);
        return;
    case CF_STEP_ATTN_SHARE:
    case CF_STEP_FFN_SHARE:
        if (!r->receives || !r->n_shares) {
            CHECK(w, r->x.n_in == 0);
            return;
        }
        for (uint32_t i = 0; i < r->x.n_in; i++)
            mark(w, q, r->share_cut[r->in_vector[i]], r->share_cut[r->in_vector[i] + 1], 0, w->m->n_embd);
        mark(w, q, r->share_cut[r->my_share], r->share_cut[r->my_share + 1], 0, w->m->n_embd);
        CHECK(w, full(q, 0, w->m->n_embd));
        return;
    case CF_STEP_HIDDEN: CHECK(w, r->x.n_in <= 1); return;
    default: fail();
    }
}

static bool takes(enum cf_op op) {
    return op == CF_OP_TAKE_EMBED || op == CF_OP_TAKE_QKV || op == CF_OP_TAKE_HEADS || op == CF_OP_ADD ||
           op == CF_OP_SHARE || op == CF_OP_TAKE_HIDDEN || op == CF_OP_TAKE_LOGITS;
}
/* Of an instruction that sends: over which route (ADD sends over the route behind its own). */
static int32_t sends(const struct cf_instr *i, bool shares) {
    if (i->op == CF_OP_ADD) return shares ? i->route + 1 : -1;
    return takes(i->op) ? -1 : i->route;
}

/* Runs all ranks by turns, ascending or descending (order & 2), each one step (order & 1) or as far as it gets; fails
 * unless all reach the end. */
static void all_reach_the_end(struct world *w, bool shares, uint32_t order) {
    uint32_t pc[MOST] = {0}, n_routes = w->p[0].n_routes, most_open[MOST] = {0}, open[MOST] = {0};
    uint8_t *arrived = calloc((size_t)n_routes * w->n, 1); /* parts of route at rank */
    bool moved = true;
    while (moved) {
        moved = false;
        for (uint32_t turn = 0; turn < w->n; turn++) {
            uint32_t rank = order & 2 ? w->n - 1 - turn : turn;
            const struct cf_program *p = &w->p[rank];
            for (bool on = true; on && pc[rank] < p->n_instrs;) {
                const struct cf_instr *i = &p->instrs[pc[rank]];
                const struct cf_route *r = i->route >= 0 ? &p->routes[i->route] : NULL;
                bool by_shares = shares && r && r->n_shares;
                bool skip = i->op == CF_OP_SHARE && !by_shares;
                if (r && takes(i->op) && !skip) {
                    uint8_t *here = &arrived[(size_t)i->route * w->n + rank];
                    if (*here < r->x.n_in) break;
                    if (r->x.n_in) open[rank]--;
                    *here = 255;
                }
                int32_t out = sends(i, by_shares);
                for (uint32_t k = 0; out >= 0 && k < p->routes[out].x.n_out; k++) {
                    uint32_t to = (uint32_t)p->routes[out].x.out[k].rank;
                    uint8_t *there = &arrived[(size_t)out * w->n + to];
                    CHECK(w, *there < w->p[to].routes[out].x.n_in); /* not after it was taken, not too many */
                    if (!(*there)++ && ++open[to] > most_open[to]) most_open[to] = open[to];
                }
                pc[rank]++;
                moved = true;
                on = order % 2 == 0;
            }
        }
    }
    for (uint32_t r = 0; r < w->n; r++) {
        if (pc[r] < w->p[r].n_instrs)
            fail_msg(
                "%s: rank %u waits for ever at instruction %u (%d)", w->name, r, pc[r], (int)w->p[r].instrs[pc[r]].op);
        CHECK(w, open[r] == 0);      /* nothing is left over */
        CHECK(w, most_open[r] <= 4); /* the mail room has 2 x batches + 2 slots */
    }
    free(arrived);
}

static void one_world(const struct small_model *s, int layout, uint32_t ranks, uint32_t hosts, uint32_t stages) {
    static const enum cf_dtype wires[] = {CF_DTYPE_F32, CF_DTYPE_F16, CF_DTYPE_Q8};
    static struct world w;
    struct cf_rank_info info[MOST];
    struct cf_plan_wish wish = small_wish(layout);
    struct cf_plan plan;
    struct cf_error e = {0};
    char note[512];
    small_ranks(info, ranks, hosts);
    for (uint32_t i = 0; i < ranks; i++) /* uneven slices, too */
        info[i].bandwidth = hosts == 3 ? 1e9 * (1 + i % 3) : 0;
    wish.stages = stages, wish.wire = wires[(ranks + hosts) % 3];
    if (cf_planner_make(&plan, &wish, &s->model, s->gguf, info, ranks, note, &e))
        return; /* test_planner.c's business */
    w.m = &s->model, w.plan = &plan, w.n = ranks;
    snprintf(w.name, sizeof w.name, "%u heads, vocabulary %u, %s, %u ranks, %u hosts, %u stages", s->model.n_head,
        s->model.n_vocab, cf_layout_name(plan.layout), ranks, hosts, stages);
    for (uint32_t r = 0; r < ranks; r++) {
        if (cf_program_compile(&w.p[r], &plan, &s->model, (int)r, &e)) fail_msg("%s: %s", w.name, e.text);
        CHECK(&w, w.p[r].n_routes == w.p[0].n_routes);
    }
    for (uint32_t route = 0; route < w.p[0].n_routes; route++) {
        parts_match(&w, route);
        for (uint32_t r = 0; r < ranks; r++)
            parts_suffice(&w, r, &w.p[r].routes[route]);
    }
    for (uint32_t order = 0; order < 4; order++) {
        all_reach_the_end(&w, false, order);
        all_reach_the_end(&w, true, order);
    }
    for (uint32_t r = 0; r < ranks; r++)
        cf_program_free(&w.p[r]);
    cf_plan_free(&plan);
}

static void programs_agree(void **state) {
    (void)state;
    for (int shape = 0; shape < SMALL_SHAPES; shape++) {
        struct small_model s;
        struct cf_error e = {0};
        if (small_model_open(&s, &small_shapes[shape], &e)) fail_msg("%s", e.text);
        for (int layout = 0; layout < CF_LAYOUTS; layout++)
            for (uint32_t ranks = 1; ranks <= MOST; ranks++)
                for (uint32_t hosts = 1; hosts <= 3 && hosts <= ranks; hosts++)
                    for (uint32_t stages = 0; stages <= (layout == CF_LAYOUT_HYBRID ? 4u : 0u);
                         stages += stages ? 1 : 2)
                        one_world(&s, layout, ranks, hosts, stages);
        small_model_close(&s);
    }
}

/* Instructions of rank r at which a batch is held, in a plan of so many ranks of one host. */
static uint32_t held(const struct small_model *s, int layout, uint32_t ranks, uint32_t r) {
    struct cf_rank_info info[4];
    struct cf_plan_wish wish = small_wish(layout);
    struct cf_plan plan;
    struct cf_program p;
    struct cf_error e = {0};
    char note[512];
    small_ranks(info, ranks, 1);
    wish.stages = layout == CF_LAYOUT_HYBRID ? 2 : 0;
    if (cf_planner_make(&plan, &wish, &s->model, s->gguf, info, ranks, note, &e) ||
        cf_program_compile(&p, &plan, &s->model, (int)r, &e))
        fail_msg("%s", e.text);
    uint32_t n = 0;
    for (uint32_t i = 0; i <= p.n_instrs; i++)
        n += cf_program_holds(&p, i);
    cf_program_free(&p);
    cf_plan_free(&plan);
    return n;
}

/* Members of a group hold on to a batch at the two sums of each of their layers. Who waits for what others do while it
 * does nothing does not. */
static void groups_hold_on_to_a_batch(void **state) {
    (void)state;
    struct small_model s;
    struct cf_error e = {0};
    if (small_model_open(&s, &small_shapes[0], &e)) fail_msg("%s", e.text);
    uint32_t layers = s.model.n_layers;
    assert_int_equal(held(&s, CF_LAYOUT_TENSOR, 2, 0), 2 * layers);
    assert_int_equal(held(&s, CF_LAYOUT_HYBRID, 4, 0) + held(&s, CF_LAYOUT_HYBRID, 4, 2), 2 * layers);
    for (uint32_t r = 0; r < 2; r++)
        assert_int_equal(held(&s, CF_LAYOUT_LAYERS, 2, r), 0);
    assert_int_equal(held(&s, CF_LAYOUT_DOMAIN, 3, 0), 0); /* embedding and head alone */
    small_model_close(&s);
}

/* 1,000 columns over three ranks: shares of 320, 336 and 344. */
static void sizes_of_parts(void **state) {
    (void)state;
    struct cf_route r = {.step = CF_STEP_FFN_SUM, .n_shares = 3, .share_cut = {0, 320, 656, 1000}, .my_share = 1};
    r.share_bytes = cf_route_share_limit(3, 9, false);
    r.line = 1000, r.x.n_out = 2, r.x.n_in = 1;
    r.x.out[0] = (struct cf_part){.columns = 2000, .dtype = CF_DTYPE_Q8};
    r.x.out[1] = (struct cf_part){.columns = 2000};
    r.x.in[0] = (struct cf_part){.columns = 1000, .dtype = CF_DTYPE_F16};
    /* Two vectors of a row, whole: 32 blocks, 31 of 32 columns and one of 8. */
    assert_int_equal(cf_route_bytes(&r, true, 0, 1, 1000), 2 * (32 * 4 + 1000));
    assert_int_equal(cf_route_bytes(&r, true, 1, 1, 1000), 2 * 4000);
    assert_int_equal(cf_route_bytes(&r, false, 0, 1, 1000), 2000);
    /* By shares: to receiver 0 the first one, to receiver 1 (share 2) the last one, here this rank's own. */
    assert_int_equal(cf_route_bytes(&r, true, 0, 100, 1000), 100 * 2 * (10 * 4 + 320));
    assert_int_equal(cf_route_bytes(&r, true, 1, 100, 1000), 100 * 2 * 344 * 4);
    assert_int_equal(cf_route_bytes(&r, false, 0, 100, 1000), 100 * 336 * 2);
    r.step = CF_STEP_FFN_SHARE, r.line = 0, r.x.out[0].columns = r.x.out[1].columns = 336;
    assert_int_equal(cf_route_bytes(&r, true, 0, 1, 1000), 0);
    assert_int_equal(cf_route_bytes(&r, true, 0, 100, 1000), 100 * (11 * 4 + 336));
}

static void sums_go_by_shares_when_large(void **state) {
    (void)state;
    struct cf_route r = {.n_shares = 3, .share_bytes = cf_route_share_limit(3, 9, false)};
    assert_false(cf_route_by_shares(&r, 16, 1024)); /* 64 KiB */
    assert_true(cf_route_by_shares(&r, 17, 1024));
    /* On three hosts, three vectors of each: instead of 2 x 3 vectors 2 x 4/3, which saves 10/3; on four hosts, one of
     * each: instead of 3 vectors 3 x 2/4, which saves 3/2. 48 KiB must be saved. */
    assert_int_equal(cf_route_share_limit(3, 9, true), 14745);
    assert_int_equal(cf_route_share_limit(4, 4, true), 32768);
    assert_int_equal(cf_route_share_limit(3, 1, true), 65536); /* saves hardly anything */
    r.share_bytes = 32768, r.share_dtype = CF_DTYPE_Q8;
    assert_false(cf_route_by_shares(&r, 28, 1024)); /* 1152 bytes a row */
    assert_true(cf_route_by_shares(&r, 29, 1024));
    r.n_shares = 0;
    assert_false(cf_route_by_shares(&r, 1000, 1024));
    for (int s = 0; s < CF_STEP_KINDS; s++)
        assert_true(strlen(cf_step_name((enum cf_step)s)) > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(programs_agree), cmocka_unit_test(groups_hold_on_to_a_batch),
        cmocka_unit_test(sizes_of_parts), cmocka_unit_test(sums_go_by_shares_when_large)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
