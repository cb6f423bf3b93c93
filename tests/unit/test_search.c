/* Which layout, hosts, shares and head the search takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/plan/search.h"
#include "small_machines.h"

static struct cf_search search(struct fixture *x) {
    struct cf_plan_wish wish = small_wish(-1);
    struct cf_search s;
    struct cf_error e = {0};
    char note[512];
    wish.n_seqs = 1;
    cf_plan_free(&x->plan);
    if (cf_planner_search(&s, &x->plan, &wish, &x->s.model, x->s.gguf, &x->f, note, &e)) fail_msg("%s", e.text);
    assert_int_equal(cf_plan_check(&x->plan, &x->s.model, (int)x->f.n_ranks, &e), 0);
    return s;
}

static void the_search_leaves_slow_hosts_out(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    struct cf_search s = search(&x); /* 0.1 ms for a layer that takes 3 ms */
    assert_int_equal(s.c[0].n_use, 2);
    assert_int_equal(s.c[0].layout, CF_LAYOUT_TENSOR);
    cf_search_free(&s);
    for (int k = 0; k < 4; k++)
        x.f.links[k] = cf_link_of(0.02, 1e8);
    s = search(&x);
    assert_int_equal(s.c[0].n_use, 1);
    assert_int_equal(cf_plan_member(cf_plan_find(&x.plan, CF_LEFT_HEMI, 0), 1, NULL, NULL), -1);
    double alone = s.c[0].decode;
    for (uint32_t i = 1; i < s.n; i++)
        assert_true(s.c[i].fits && s.c[i].decode <= alone);
    cf_search_free(&s);
    x.f.ranks[0].memory_free = x.f.ranks[1].memory_free = 5 << 20; /* too little for one */
    s = search(&x);
    assert_int_equal(s.c[0].n_use, 2);
    assert_false(s.c[s.n - 1].fits);
    assert_non_null(strstr(s.c[s.n - 1].why, "does not fit"));
    cf_search_free(&s);
    tear_down(&x);
}

/* Where a second host would gain less than 3 % it is left out; where it gains more it is not. */
static void a_second_host_must_be_worth_it(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    int left_out = 0, used = 0;
    for (double latency = 1e-4; latency < 2e-3; latency *= 1.02) {
        for (int k = 0; k < 4; k++)
            x.f.links[k] = cf_link_of(latency, 1e12);
        struct cf_search s = search(&x);
        double two = 0, one = 0;
        for (uint32_t i = 0; i < s.n; i++) {
            double rate = 1 / (1 / s.c[i].prefill + 1 / s.c[i].all);
            double *best = s.c[i].n_hosts > 1 ? &two : &one;
            if (rate > *best) *best = rate;
        }
        if (two > 1.031 * one) assert_int_equal(s.c[0].n_hosts, 2), used++;
        if (two < 1.029 * one) assert_int_equal(s.c[0].n_hosts, 1), left_out += two > one;
        cf_search_free(&s);
    }
    assert_true(left_out && used);
    tear_down(&x);
}

/* Of three hosts the second is slow: the third is used and it is not. */
static void the_search_names_ranks_as_they_are(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 3);
    x.f.ranks[1].bandwidth = BANDWIDTH / 50;
    struct cf_search s = search(&x);
    assert_int_equal(s.c[0].n_use, 2);
    const struct cf_plan_row *r = cf_plan_find(&x.plan, CF_LEFT_HEMI, 0);
    assert_int_equal(r->n, 2);
    assert_int_equal(r->ranks[1], 2);
    cf_search_free(&s);
    tear_down(&x);
}

/* Host `host` has a bad cable. */
static void move_away(struct fixture *x, uint32_t host, double latency) {
    for (uint32_t h = 0; h < x->f.n_hosts; h++)
        x->f.links[host * x->f.n_hosts + h] = x->f.links[h * x->f.n_hosts + host] = cf_link_of(latency, 1e7);
}

static void used_are(const struct fixture *x, const struct cf_search *s, uint32_t n, const char *which) {
    const struct cf_plan_row *r = cf_plan_find(&x->plan, CF_LEFT_HEMI, 0);
    char text[64] = "";
    assert_int_equal(s->c[0].layout, CF_LAYOUT_TENSOR);
    for (uint32_t i = 0; i < r->n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u", i ? " " : "", r->ranks[i]);
    assert_string_equal(text, which);
    assert_int_equal(r->n, n);
}

/* A host that reads most, but stands behind a bad cable, does not hide those that it comes before. */
static void a_bad_cable_hides_nobody(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 4);
    x.f.ranks[1].bandwidth = 1.5 * BANDWIDTH;
    move_away(&x, 1, 0.02);
    struct cf_search s = search(&x);
    used_are(&x, &s, 3, "0 2 3");
    assert_non_null(strstr(s.c[0].name, " on 3 ranks of 3 hosts ("));
    cf_search_free(&s);
    tear_down(&x);
}

/* Nor do one that reads most behind a bad cable, and a slow one that is nearer than all others, together. */
static void two_bad_hosts_hide_nobody(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 5);
    x.f.ranks[1].bandwidth = 1.5 * BANDWIDTH, x.f.ranks[2].bandwidth = BANDWIDTH / 1000;
    for (uint32_t h = 0; h < 5; h++)
        x.f.links[2 * 5 + h] = x.f.links[h * 5 + 2] = cf_link_of(LATENCY / 4, 1e12);
    move_away(&x, 1, 0.02);
    struct cf_search s = search(&x);
    used_are(&x, &s, 3, "0 3 4");
    cf_search_free(&s);
    tear_down(&x);
}

/* More hosts to choose from make no choice worse: nor those of an odd number, nor of many. Six are worth it, a number
 * that is tried at once only where there are no more. */
static void more_hosts_do_not_hurt(void **state) {
    (void)state;
    static const struct small_shape shape = {4, 256, 60, 60, 32, 3840, 1920, true, "q8_0"};
    enum { WORTH_IT = 6 };
    double before = 1e9;
    for (uint32_t n = 1; n <= 9; n++) {
        struct fixture x;
        set_up_with(&x, n, &shape);
        for (uint32_t k = 0; k < n * n; k++)
            x.f.links[k] = cf_link_of(LATENCY / 10, 1e12);
        for (uint32_t h = WORTH_IT; h < n; h++)
            move_away(&x, h, 0.02);
        struct cf_search s = search(&x);
        assert_int_equal(s.c[0].n_hosts, n < WORTH_IT ? n : WORTH_IT);
        assert_true(s.c[0].seconds <= 1.0001 * before);
        before = s.c[0].seconds;
        cf_search_free(&s);
        tear_down(&x);
    }
}

static double seconds_of(const struct cf_search *s, const char *name) {
    for (uint32_t i = 0; i < s->n; i++)
        if (!strcmp(s->c[i].name, name)) return s->c[i].seconds;
    fail_msg("%s was not tried", name);
    return 0;
}

/* On a thin cable it takes long until rank 0 has all logits: it makes more of them itself. With a thick one all make
 * the same number. So does a user's own layout. */
static void the_head_stays_at_home(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    for (int k = 0; k < 4; k++)
        x.f.links[k] = cf_link_of(1e-6, 1e12);
    struct cf_search s = search(&x);
    assert_int_equal(s.c[0].layout, CF_LAYOUT_TENSOR);
    assert_int_equal(s.c[0].head_home, 0);
    cf_search_free(&s);
    for (int k = 0; k < 4; k++)
        x.f.links[k] = cf_link_of(1e-5, 3e7); /* 0.07 ms for half of the logits, which take 0.14 ms to make */
    for (int settled = 0; settled < 2; settled++) {
        struct cf_plan_wish wish = small_wish(CF_LAYOUT_TENSOR);
        struct cf_error e = {0};
        char note[512];
        cf_plan_free(&x.plan);
        wish.n_seqs = 1, wish.settled = settled;
        assert_true(cf_planner_may_search(&wish, &x.f));
        if (cf_planner_search(&s, &x.plan, &wish, &x.s.model, x.s.gguf, &x.f, note, &e)) fail_msg("%s", e.text);
        const struct cf_candidate *best = &s.c[0];
        const struct cf_plan_row *head = cf_plan_find(&x.plan, CF_PREFRONTAL, 0);
        assert_in_range(best->head_home, 1, 3);
        double away = 1 - best->head_home / 4.0;
        near(head->cuts[1], 64 / (1 + away), 0.02); /* of 64 tiles */
        assert_int_equal(cf_plan_find(&x.plan, CF_LEFT_HEMI, 0)->cuts[1], 4);
        assert_true(best->seconds < seconds_of(&s, "tensor on 2 ranks of 2 hosts"));
        cf_search_free(&s);
    }
    tear_down(&x);
}

/* Shares by bandwidth cost more vectors than equal ones: on a thin cable that is more than they save. */
static void the_search_tries_equal_shares(void **state) {
    (void)state;
    static const char by_bandwidth[] = "tensor on 2 ranks of 2 hosts", equal[] = "tensor on 2 ranks of 2 hosts, equal";
    struct fixture x;
    set_up(&x, 2);
    x.f.ranks[1].bandwidth = 1.7 * BANDWIDTH;
    struct cf_search s = search(&x);
    assert_true(seconds_of(&s, by_bandwidth) < seconds_of(&s, equal));
    cf_search_free(&s);
    for (int k = 0; k < 4; k++)
        x.f.links[k] = cf_link_of(LATENCY, 2e7);
    s = search(&x);
    assert_true(seconds_of(&s, by_bandwidth) > seconds_of(&s, equal));
    cf_search_free(&s);
    x.f.ranks[1].bandwidth = BANDWIDTH; /* then they are the same */
    s = search(&x);
    for (uint32_t i = 0; i < s.n; i++)
        assert_null(strstr(s.c[i].name, "equal"));
    cf_search_free(&s);
    tear_down(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_search_leaves_slow_hosts_out),
        cmocka_unit_test(a_second_host_must_be_worth_it),
        cmocka_unit_test(the_search_names_ranks_as_they_are),
        cmocka_unit_test(a_bad_cable_hides_nobody),
        cmocka_unit_test(two_bad_hosts_hide_nobody),
        cmocka_unit_test(more_hosts_do_not_hurt),
        cmocka_unit_test(the_head_stays_at_home),
        cmocka_unit_test(the_search_tries_equal_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
