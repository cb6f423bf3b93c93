/* Every layout on any number of ranks and hosts covers every model exactly; weights, memory and maps have their say. */
#include "coordinator/plan/planner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "small_model.h"

enum { MOST = 17 };

struct fixture {
    struct small_model s;
    struct cf_rank_info info[MOST];
    struct cf_plan_wish wish;
    struct cf_plan plan;
    char note[512];
};

static void set_up(struct fixture *f, int shape, uint32_t ranks, int layout) {
    struct cf_error e = {0};
    memset(f, 0, sizeof *f);
    if (small_model_open(&f->s, &small_shapes[shape], &e)) fail_msg("shape %d: %s", shape, e.text);
    small_ranks(f->info, ranks, 1);
    f->wish = small_wish(layout);
}

static int make(struct fixture *f, uint32_t ranks, struct cf_error *e) {
    cf_plan_free(&f->plan);
    return cf_planner_make(&f->plan, &f->wish, &f->s.model, f->s.gguf, f->info, ranks, f->note, e);
}

static void tear_down(struct fixture *f) {
    cf_plan_free(&f->plan);
    small_model_close(&f->s);
}

/* Every element of every tensor is held by somebody, and by one alone unless it is replicated or a shared KV head. */
static void covers_exactly(const struct small_model *s, const struct cf_plan *p, uint32_t ranks) {
    for (int role = 0; role < CF_ROLES; role++) {
        const struct cf_tensor_spec *spec = &cf_tensor_specs[role];
        for (uint32_t l = 0; l < (role < CF_FIRST_LAYER_ROLE ? 1 : s->model.n_layers); l++) {
            const struct cf_gguf_tensor *t = cf_model_tensor(&s->model, s->gguf, (enum cf_role)role, l);
            if (!t || spec->split == CF_SPLIT_REPLICATED) continue;
            uint64_t held = 0;
            uint32_t row = 0, column = 0;
            for (uint32_t r = 0; r < ranks; r++) {
                uint32_t first, last;
                if (cf_plan_member(cf_plan_find(p, spec->domain, l), (int)r, &first, &last) < 0) continue;
                struct cf_slice k = cf_model_slice(&s->model, (enum cf_role)role, first, last);
                assert_true(k.row0 < k.row1 && k.c0 < k.c1 && k.row1 <= t->ne[1] && k.c1 <= t->ne[0]);
                bool columns = spec->split == CF_SPLIT_ATTN_COLUMNS || spec->split == CF_SPLIT_FFN_COLUMNS;
                if (spec->split == CF_SPLIT_KV_ROWS) {
                    assert_true(k.row0 <= row && k.row1 >= row); /* no gap; shared heads overlap */
                    row = k.row1;
                } else if (columns) {
                    assert_int_equal(k.c0, column);
                    column = k.c1;
                    assert_true(k.row0 == 0 && k.row1 == t->ne[1]);
                } else {
                    assert_int_equal(k.row0, row);
                    row = k.row1;
                    assert_true(k.c0 == 0 && k.c1 == t->ne[0]);
                }
                held += (uint64_t)(k.row1 - k.row0) * (k.c1 - k.c0);
            }
            assert_true(held >= t->ne[0] * t->ne[1]);
            if (spec->split != CF_SPLIT_KV_ROWS) assert_true(held == t->ne[0] * t->ne[1]);
        }
    }
}

static bool must_fail(int layout, uint32_t ranks, uint32_t stages) {
    if (layout == CF_LAYOUT_TENSOR) return ranks > 16;
    if (layout != CF_LAYOUT_HYBRID) return false;
    return stages > ranks || (ranks == 17 && stages == 1);
}

static void every_layout_covers(void **state) {
    (void)state;
    for (int shape = 0; shape < SMALL_SHAPES; shape++) {
        struct fixture f;
        set_up(&f, shape, 1, 0);
        for (int layout = -1; layout < CF_LAYOUTS; layout++)
            for (uint32_t ranks = 1; ranks <= MOST; ranks++)
                for (uint32_t hosts = 1; hosts <= 3 && hosts <= ranks; hosts++)
                    for (uint32_t stages = 0; stages <= (layout == CF_LAYOUT_HYBRID ? 5u : 0u); stages++) {
                        struct cf_error e = {0};
                        small_ranks(f.info, ranks, hosts);
                        f.wish = small_wish(layout);
                        f.wish.stages = stages;
                        int expected = layout >= 0 ? layout : hosts > 1 ? CF_LAYOUT_HYBRID : CF_LAYOUT_TENSOR;
                        int rc = make(&f, ranks, &e);
                        if (must_fail(expected, ranks, stages)) {
                            assert_int_equal(rc, -1);
                            assert_int_equal(e.code, CF_ERR_PLAN);
                            assert_null(f.plan.rows);
                            continue;
                        }
                        if (rc)
                            fail_msg("shape %d layout %d ranks %u hosts %u stages %u: %s", shape, layout, ranks, hosts,
                                stages, e.text);
                        assert_int_equal(f.plan.layout, expected);
                        assert_int_equal(cf_plan_check(&f.plan, &f.s.model, (int)ranks, &e), 0);
                        covers_exactly(&f.s, &f.plan, ranks);
                        const struct cf_plan_row *head = cf_plan_find(&f.plan, CF_PREFRONTAL, 0);
                        assert_int_equal(head->ranks[0], 0);
                        if (expected == CF_LAYOUT_LAYERS) assert_int_equal(head->n, 1);
                    }
        tear_down(&f);
    }
}

/* Ranks without work are named. */
static void idle_ranks_are_named(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, 1, 7, CF_LAYOUT_LAYERS); /* three layers */
    assert_int_equal(make(&f, 7, &e), 0);
    assert_non_null(strstr(f.note, "holds nothing"));
    f.wish.layout = CF_LAYOUT_DOMAIN;
    assert_int_equal(make(&f, 2, &e), 0);
    assert_non_null(strstr(f.note, "two or more batches in flight"));
    f.wish.layout = CF_LAYOUT_TENSOR;
    assert_int_equal(make(&f, 2, &e), 0);
    assert_string_equal(f.note, "");
    tear_down(&f);
}

static void too_little_memory_fails_and_says_by_how_much(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, 5, 3, CF_LAYOUT_TENSOR);
    for (int i = 0; i < 3; i++)
        f.info[i].memory_free = 1 << 20;
    for (int layout = 0; layout < CF_LAYOUTS; layout++) {
        f.wish.layout = layout;
        memset(&e, 0, sizeof e);
        assert_int_equal(make(&f, 3, &e), -1);
        assert_int_equal(e.code, CF_ERR_MEMORY);
        assert_non_null(strstr(e.text, "MiB short"));
        assert_non_null(strstr(e.text, "does not fit"));
        assert_null(f.plan.rows);
    }
    tear_down(&f);
}

/* With whatever little memory: somebody else takes the rest, be it all of it. Not in layout domain, where two ranks
 * share out whole domains: the cache is one rank's. */
static void a_rank_with_next_to_nothing_stops_nobody(void **state) {
    (void)state;
    static const int layouts[] = {CF_LAYOUT_TENSOR, CF_LAYOUT_LAYERS, CF_LAYOUT_HYBRID};
    for (size_t k = 0; k < sizeof layouts / sizeof *layouts; k++) {
        const int layout = layouts[k];
        struct fixture f;
        struct cf_error e = {0};
        struct cf_rank_need need;
        set_up(&f, 5, 2, layout);
        assert_int_equal(make(&f, 2, &e), 0);
        assert_int_equal(cf_planner_need(&f.plan, &f.s.model, f.s.gguf, 1, &f.info[1], &need, &e), 0);
        uint64_t equal = need.weights + need.kv + need.buffers;
        for (uint32_t part = 99; part > 1; part -= 2) {
            f.info[0].memory_free = 10 * equal;
            f.info[1].memory_free = need.buffers + (equal - need.buffers) * part / 100;
            if (make(&f, 2, &e)) fail_msg("layout %d, %u %%: %s", layout, part, e.text);
            struct cf_rank_need now;
            assert_int_equal(cf_planner_need(&f.plan, &f.s.model, f.s.gguf, 1, &f.info[1], &now, &e), 0);
            assert_true(now.weights + now.kv + now.buffers <= f.info[1].memory_free);
        }
        tear_down(&f);
    }
}

/* One rank has too little for an equal share: the others take more. */
static void a_small_rank_gets_a_small_slice(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    struct cf_rank_need need;
    set_up(&f, 5, 3, CF_LAYOUT_TENSOR);
    f.wish.n_rows = 8, f.wish.n_want = 1;
    assert_int_equal(make(&f, 3, &e), 0);
    assert_int_equal(cf_planner_need(&f.plan, &f.s.model, f.s.gguf, 1, &f.info[1], &need, &e), 0);
    uint64_t equal = need.weights + need.kv + need.buffers;
    f.info[0].memory_free = f.info[2].memory_free = 10 * equal;
    f.info[1].memory_free = equal * 7 / 10;
    if (make(&f, 3, &e)) fail_msg("%s", e.text);
    assert_int_equal(cf_planner_need(&f.plan, &f.s.model, f.s.gguf, 1, &f.info[1], &need, &e), 0);
    assert_true(need.weights + need.kv + need.buffers <= f.info[1].memory_free);
    const struct cf_plan_row *r = cf_plan_find(&f.plan, CF_RIGHT_HEMI, 0);
    assert_true(r->cuts[2] - r->cuts[1] < r->cuts[1] - r->cuts[0]);
    covers_exactly(&f.s, &f.plan, 3);
    tear_down(&f);
}

static void bandwidth_shifts_cuts(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, 5, 2, CF_LAYOUT_TENSOR);
    f.info[0].bandwidth = 30e9, f.info[1].bandwidth = 10e9;
    assert_int_equal(make(&f, 2, &e), 0);
    const struct cf_plan_row *r = cf_plan_find(&f.plan, CF_RIGHT_HEMI, 0);
    assert_int_equal(r->cuts[1], 18);                                        /* three quarters of 24 */
    assert_int_equal(cf_plan_find(&f.plan, CF_PREFRONTAL, 0)->cuts[1], 192); /* of 256 tiles */
    f.info[0].bandwidth = 12e9;                                              /* within a quarter: noise */
    assert_int_equal(make(&f, 2, &e), 0);
    assert_int_equal(cf_plan_find(&f.plan, CF_RIGHT_HEMI, 0)->cuts[1], 12);
    f.info[0].bandwidth = 0; /* unknown */
    assert_int_equal(make(&f, 2, &e), 0);
    assert_int_equal(cf_plan_find(&f.plan, CF_RIGHT_HEMI, 0)->cuts[1], 12);
    const uint32_t shares[2] = {1, 5};
    f.wish.cut_weights = shares;
    assert_int_equal(make(&f, 2, &e), 0);
    assert_int_equal(cf_plan_find(&f.plan, CF_RIGHT_HEMI, 0)->cuts[1], 4);
    f.wish.cut_weights = NULL, f.wish.layout = CF_LAYOUT_LAYERS;
    f.info[0].bandwidth = 10e9, f.info[1].bandwidth = 30e9;
    assert_int_equal(make(&f, 2, &e), 0);
    const struct cf_plan_row *left = cf_plan_find(&f.plan, CF_LEFT_HEMI, 0);
    assert_int_equal(left->ranks[0], 0);
    assert_true(left->layer1 >= 1 && left->layer1 <= 5); /* a quarter of 20, less the head */
    tear_down(&f);
}

static void domains_share_and_grow(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, 5, MOST, CF_LAYOUT_DOMAIN);
    for (uint32_t ranks = 1; ranks <= MOST; ranks++) {
        uint32_t holders[MOST] = {0}, members = 0;
        assert_int_equal(make(&f, ranks, &e), 0);
        assert_int_equal(f.plan.n_plan_rows, CF_DOMAINS);
        for (uint32_t i = 0; i < CF_DOMAINS; i++) {
            members += f.plan.rows[i].n;
            for (uint32_t k = 0; k < f.plan.rows[i].n; k++)
                holders[f.plan.rows[i].ranks[k]]++;
        }
        assert_int_equal(members, ranks < 4 ? 4 : ranks);
        for (uint32_t r = 0; r < ranks; r++)
            assert_true(ranks < 4 ? holders[r] > 0 : holders[r] == 1);
        if (ranks > 4)
            assert_true(cf_plan_find(&f.plan, CF_TEMPORAL, 0)->n > 1); /* the heaviest here: 40 MiB of cache */
        if (ranks > 7) assert_int_equal(cf_plan_find(&f.plan, CF_PREFRONTAL, 0)->n, 1); /* the lightest */
    }
    tear_down(&f);
}

static void a_map_places_domains(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, 0, 4, CF_LAYOUT_DOMAIN);
    assert_int_equal(cf_domain_map_parse("s824", f.wish.map, &e), 0);
    assert_int_equal(make(&f, 4, &e), 0);
    assert_int_equal(cf_plan_find(&f.plan, CF_PREFRONTAL, 0)->ranks[0], 3);
    assert_int_equal(cf_plan_find(&f.plan, CF_LEFT_HEMI, 0)->ranks[0], 1);
    assert_int_equal(cf_plan_find(&f.plan, CF_RIGHT_HEMI, 0)->ranks[0], 0);
    assert_int_equal(cf_plan_find(&f.plan, CF_TEMPORAL, 0)->ranks[0], 2);
    for (int i = 0; i < 4; i++)
        f.info[i].node = i / 2; /* two ranks a node */
    assert_int_equal(cf_domain_map_parse("left=1,right=0,temporal=1,prefrontal=0", f.wish.map, &e), 0);
    assert_int_equal(make(&f, 4, &e), 0);
    assert_int_equal(cf_plan_find(&f.plan, CF_LEFT_HEMI, 0)->n, 2);
    assert_int_equal(cf_plan_find(&f.plan, CF_LEFT_HEMI, 0)->ranks[0], 2);
    f.wish.map[CF_TEMPORAL] = 5;
    assert_int_equal(make(&f, 4, &e), -1);
    assert_non_null(strstr(e.text, "no rank runs on that node"));
    f.wish.map[CF_TEMPORAL] = -1;
    assert_int_equal(make(&f, 4, &e), -1);
    assert_non_null(strstr(e.text, "TEMPORAL"));
    tear_down(&f);
}

/* As many micro-batches as stages have work, two for ping-pong, one where all ranks work on all; or what is wished. */
static void batches_in_flight_follow_the_layout(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    static const struct {
        int layout;
        uint32_t ranks, stages, flight;
    } cases[] = {{CF_LAYOUT_TENSOR, 4, 0, 1}, {CF_LAYOUT_LAYERS, 1, 0, 1}, {CF_LAYOUT_LAYERS, 2, 0, 2},
        {CF_LAYOUT_LAYERS, 6, 0, 6}, {CF_LAYOUT_LAYERS, 12, 0, 8}, {CF_LAYOUT_HYBRID, 6, 3, 3},
        {CF_LAYOUT_HYBRID, 6, 1, 1}, {CF_LAYOUT_DOMAIN, 1, 0, 1}, {CF_LAYOUT_DOMAIN, 3, 0, 2}};
    set_up(&f, 5, MOST, 0); /* twenty layers */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t wish = 0; wish <= 9; wish += 3) {
            f.wish.layout = cases[i].layout, f.wish.stages = cases[i].stages, f.wish.micro_batches = wish;
            assert_int_equal(make(&f, cases[i].ranks, &e), 0);
            assert_int_equal(f.plan.n_flight, wish ? wish : cases[i].flight);
        }
    tear_down(&f);
    set_up(&f, 1, 7, CF_LAYOUT_LAYERS); /* three layers */
    assert_int_equal(make(&f, 7, &e), 0);
    assert_int_equal(f.plan.n_flight, 3);
    tear_down(&f);
}

/* A stage takes as long as the bytes that it reads: the head counts, an embedding of its own does not. */
static void stages_read_equal_bytes(void **state) {
    (void)state;
    for (int untied = 0; untied < 2; untied++) {
        struct small_shape shape = {16, 256, 8, 2, 32, 1024, 12800, untied, "q8_0"};
        struct fixture f;
        struct cf_error e = {0};
        memset(&f, 0, sizeof f);
        assert_int_equal(small_model_open(&f.s, &shape, &e), 0);
        small_ranks(f.info, 2, 1);
        f.wish = small_wish(CF_LAYOUT_LAYERS);
        assert_int_equal(make(&f, 2, &e), 0);
        double head = 12800.0 * 256, layer = 256.0 * (256 + 64 + 64 + 256) + 3.0 * 256 * 1024;
        uint32_t first = cf_plan_find(&f.plan, CF_LEFT_HEMI, 0)->layer1;
        double least = head + first * layer, most = (16 - first) * layer;
        assert_true(least - most <= layer && most - least <= layer);
        tear_down(&f);
    }
}

static void the_table_prints(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    char *text = NULL;
    size_t n = 0;
    set_up(&f, 0, 4, CF_LAYOUT_HYBRID);
    assert_int_equal(make(&f, 4, &e), 0);
    FILE *to = open_memstream(&text, &n);
    assert_int_equal(cf_planner_print(to, &f.plan, &f.s.model, f.s.gguf, f.info, 4, &e), 0);
    fclose(to);
    assert_non_null(strstr(text, "replicated"));
    assert_non_null(strstr(text, "TEMPORAL"));
    assert_non_null(strstr(text, "at most 2 micro-batches in flight"));
    free(text);
    tear_down(&f);
}

/* A part of the hosts, with a gap in their numbers and unlike ones: a stage is still a host. */
static void stages_are_hosts_of_any_set(void **state) {
    (void)state;
    static const int host_of[] = {0, 0, 1, 1, 2, 2, 2, 2, 3, 3};
    static const uint32_t use[] = {0, 1, 4, 5, 6, 7, 8, 9}, first[] = {0, 4, 8}, count[] = {2, 4, 2};
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, 0, 10, CF_LAYOUT_HYBRID);
    for (int r = 0; r < 10; r++)
        f.info[r].host_index = host_of[r];
    f.wish.use = use, f.wish.n_use = 8, f.wish.stages = 3;
    if (make(&f, 10, &e)) fail_msg("%s", e.text);
    uint32_t layer = 0;
    for (int s = 0; s < 3; s++) {
        const struct cf_plan_row *r = cf_plan_find(&f.plan, CF_LEFT_HEMI, layer);
        assert_non_null(r);
        assert_int_equal(r->n, count[s]);
        for (uint32_t i = 0; i < r->n; i++)
            assert_int_equal(r->ranks[i], first[s] + i);
        layer = r->layer1;
    }
    tear_down(&f);
}

/* A cgroup's limit holds for all ranks of a host, not for those of each node. */
static void a_limit_is_of_the_host(void **state) {
    (void)state;
    const uint64_t gib = (uint64_t)1 << 30;
    assert_true(cf_memory_share(64 * gib, 1, UINT64_MAX, 8) == 64 * gib);
    assert_true(cf_memory_share(64 * gib, 2, 0, 8) == 0); /* nothing is granted any more */
    assert_true(cf_memory_share(12 * gib, 1, 12 * gib, 8) == 12 * gib / 8);
    assert_true(cf_memory_share(4 * gib, 4, 64 * gib, 8) == gib);
    assert_true(cf_memory_share(4 * gib, 0, 2 * gib, 0) == 2 * gib);
    assert_true(cf_memory_share(64 * gib, 2, UINT64_MAX, 8) == 32 * gib);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_layout_covers), cmocka_unit_test(idle_ranks_are_named),
        cmocka_unit_test(too_little_memory_fails_and_says_by_how_much),
        cmocka_unit_test(a_rank_with_next_to_nothing_stops_nobody), cmocka_unit_test(a_small_rank_gets_a_small_slice),
        cmocka_unit_test(bandwidth_shifts_cuts), cmocka_unit_test(domains_share_and_grow),
        cmocka_unit_test(a_map_places_domains), cmocka_unit_test(batches_in_flight_follow_the_layout),
        cmocka_unit_test(stages_read_equal_bytes), cmocka_unit_test(the_table_prints),
        cmocka_unit_test(stages_are_hosts_of_any_set), cmocka_unit_test(a_limit_is_of_the_host)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
