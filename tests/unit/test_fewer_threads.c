/* How many threads the search lets the ranks run: all of them, unless a part reads the memory as fast and meets sooner,
 * and gains something by it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/decode/measure/fewer.h"
#include "coordinator/plan/search.h"
#include "small_model.h"

enum { THREADS = 8, TYPE = 8 /* q8_0 */ };
static const double BANDWIDTH = 1e9, STEP = 40e-6;

struct fixture {
    struct small_model s;
    struct cf_figures f;
    struct cf_plan plan;
    struct cf_plan_wish wish;
    struct cf_search found;
    char note[512];
};

/* Ranks of one host each, of 8 threads. With a half, a quarter, an eighth of them: these shares of the bandwidth, and
 * of the seconds that they need to meet. */
static void set_up(struct fixture *x, uint32_t ranks, const double bandwidth[3], const double step[3]) {
    static const struct small_shape shape = {8, 256, 8, 4, 32, 512, 1024, true, "q8_0"};
    struct cf_error e = {0};
    memset(x, 0, sizeof *x);
    if (small_model_open(&x->s, &shape, &e) || cf_figures_new(&x->f, ranks, ranks, &e)) fail_msg("%s", e.text);
    small_ranks(x->f.ranks, ranks, ranks);
    for (uint32_t r = 0; r < ranks; r++) {
        struct cf_rank_info *i = &x->f.ranks[r];
        i->threads = THREADS, i->bandwidth = BANDWIDTH, i->step = STEP, i->rates[TYPE] = 1e13, i->n_fewer = 3;
        for (uint32_t k = 0; k < 3; k++)
            i->fewer[k] = (struct cf_fewer){THREADS >> (k + 1), bandwidth[k] * BANDWIDTH, step[k] * STEP};
    }
    for (uint32_t k = 0; k < ranks * ranks; k++)
        x->f.links[k] = cf_link_of(1e-6, 1e12);
    x->wish = small_wish(-1), x->wish.n_seqs = 1;
}

static void search(struct fixture *x) {
    struct cf_error e = {0};
    cf_plan_free(&x->plan);
    cf_search_free(&x->found);
    if (cf_planner_search(&x->found, &x->plan, &x->wish, &x->s.model, x->s.gguf, &x->f, x->note, &e))
        fail_msg("%s", e.text);
    assert_int_equal(cf_plan_check(&x->plan, &x->s.model, (int)x->f.n_ranks, &e), 0);
}

static void tear_down(struct fixture *x) {
    cf_search_free(&x->found);
    cf_plan_free(&x->plan);
    cf_figures_free(&x->f);
    small_model_close(&x->s);
}

static const struct cf_candidate *named(const struct fixture *x, const char *name) {
    for (uint32_t i = 0; i < x->found.n; i++)
        if (!strcmp(x->found.c[i].name, name)) return &x->found.c[i];
    return NULL;
}

/* Half of the threads read as fast as all, and meet in half of the time; a quarter does not. */
static void half_of_them_win(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2, (double[]){1, 0.4, 0.2}, (double[]){0.5, 0.4, 0.1});
    search(&x);
    assert_string_equal(x.found.c[0].name, "tensor on 2 ranks of 2 hosts, 4 threads each");
    assert_int_equal(x.found.c[0].halved, 1);
    const struct cf_candidate *all = named(&x, "tensor on 2 ranks of 2 hosts");
    assert_non_null(all);
    assert_int_equal(all->halved, 0);
    assert_true(all->seconds > x.found.c[0].seconds && all->decode < x.found.c[0].decode);
    assert_null(named(&x, "tensor on 2 ranks of 2 hosts, 2 threads each")); /* of fewer the best alone stands there */
    /* What is foretold with the figures of half of the threads is what the candidate says. */
    struct cf_candidate again = {0};
    struct cf_error e = {0};
    cf_figures_halve(&x.f, x.found.c[0].halved);
    assert_int_equal(x.f.ranks[1].threads, 4);
    assert_int_equal(cf_planner_forecast(&again, &x.plan, &x.s.model, x.s.gguf, &x.f, &e), 0);
    assert_true(again.decode == x.found.c[0].decode && again.prefill == x.found.c[0].prefill);
    tear_down(&x);
}

/* What was measured of half of them is bad, by chance: one thread is found all the same. */
static void behind_a_hump(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 1, (double[]){0.2, 0.2, 1}, (double[]){2, 2, 0});
    search(&x);
    assert_string_equal(x.found.c[0].name, "tensor on 1 rank of 1 host, 1 thread");
    assert_int_equal(x.found.n, 2);
    tear_down(&x);
}

/* Where each thread brings its share of the bandwidth all of them run. */
static void all_of_them_win(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 1, (double[]){0.5, 0.25, 0.125}, (double[]){0.9, 0.8, 0.7});
    search(&x);
    assert_string_equal(x.found.c[0].name, "tensor on 1 rank of 1 host");
    assert_int_equal(x.found.c[0].halved, 0);
    assert_non_null(named(&x, "tensor on 1 rank of 1 host, 4 threads"));
    tear_down(&x);
}

/* Reading costs nothing, but the kernels do: half of the threads multiply half as fast. */
static void kernels_want_all_of_them(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 1, (double[]){1, 1, 1}, (double[]){0.5, 0.4, 0.3});
    x.f.ranks[0].rates[TYPE] = 1e9;
    search(&x);
    assert_int_equal(x.found.c[0].halved, 0);
    tear_down(&x);
}

/* A gain of less than 3 % leaves all of them running; more does not. */
static void it_must_be_worth_it(void **state) {
    (void)state;
    int all = 0, half = 0;
    for (double share = 1; share > 0.3 && half < 4; share -= 0.01) {
        struct fixture x;
        set_up(&x, 1, (double[]){1, 0.1, 0.1}, (double[]){share, share, share});
        search(&x);
        const struct cf_candidate *a = named(&x, "tensor on 1 rank of 1 host");
        const struct cf_candidate *b = named(&x, "tensor on 1 rank of 1 host, 4 threads");
        assert_true(a && b);
        double gain = (1 / a->prefill + 1 / a->all) / (1 / b->prefill + 1 / b->all);
        if (gain > 1.031) assert_int_equal(x.found.c[0].halved, 1), half++;
        if (gain < 1.029) assert_int_equal(x.found.c[0].halved, 0), all += gain > 1.001;
        tear_down(&x);
    }
    assert_true(all && half);
}

/* One thread, where threads that meet cost more than everything else; a rank that has but one keeps it, and one whose
 * number was insisted on too. */
static void one_thread_each(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 3, (double[]){1, 1, 1}, (double[]){0.5, 0.25, 0.01});
    x.f.ranks[1].threads = 2, x.f.ranks[1].n_fewer = 1;
    x.f.ranks[1].fewer[0] = (struct cf_fewer){1, BANDWIDTH, 0.01 * STEP};
    x.f.ranks[2].threads = 1, x.f.ranks[2].n_fewer = 0, x.f.ranks[2].step = 0;
    search(&x);
    assert_int_equal(x.found.c[0].halved, 3);
    assert_non_null(strstr(x.found.c[0].name, ", 1 thread each"));
    x.f.ranks[0].fewer[2].bandwidth = 0.1 * BANDWIDTH, x.f.ranks[0].fewer[1].step = 0;
    search(&x); /* two threads of the first rank, one of the others: no one number */
    assert_int_equal(x.found.c[0].halved, 2);
    assert_non_null(strstr(x.found.c[0].name, ", 1/4 of the threads"));
    x.f.ranks[0].n_fewer = x.f.ranks[1].n_fewer = 0;
    search(&x);
    for (uint32_t i = 0; i < x.found.n; i++)
        assert_true(!x.found.c[i].halved && !strstr(x.found.c[i].name, "thread"));
    tear_down(&x);
}

/* A wish that leaves nothing but threads to choose: its layout stays, on all ranks. */
static void a_settled_wish_keeps_its_layout(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2, (double[]){1, 0.1, 0.1}, (double[]){0.5, 0.5, 0.5});
    x.wish.layout = CF_LAYOUT_DOMAIN, x.wish.settled = true;
    assert_true(cf_planner_may_search(&x.wish, &x.f));
    search(&x);
    assert_int_equal(x.plan.layout, CF_LAYOUT_DOMAIN);
    assert_string_equal(x.found.c[0].name, "domain on 2 ranks of 2 hosts, 4 threads each");
    assert_int_equal(x.found.n, 2); /* all, and the best of fewer */
    x.f.ranks[0].n_fewer = x.f.ranks[1].n_fewer = 0;
    assert_false(cf_planner_may_search(&x.wish, &x.f));
    x.wish.settled = false;
    assert_true(cf_planner_may_search(&x.wish, &x.f));
    x.f.ranks[0].memory_free = x.f.ranks[1].memory_free = 1 << 20; /* nothing fits: the way that was tried says why */
    cf_plan_free(&x.plan);
    cf_search_free(&x.found);
    struct cf_error e = {0};
    assert_int_equal(cf_planner_search(&x.found, &x.plan, &x.wish, &x.s.model, x.s.gguf, &x.f, x.note, &e), -1);
    assert_non_null(strstr(e.text, "does not fit"));
    assert_true(x.found.n == 1 && !x.found.c[0].fits && *x.found.c[0].why && !x.plan.rows);
    cf_search_free(&x.found);
    x.f.ranks[1].bandwidth = 0; /* nobody has measured it */
    assert_false(cf_planner_may_search(&x.wish, &x.f));
    tear_down(&x);
}

static void figures_of_fewer(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2, (double[]){0.9, 0.5, 0.25}, (double[]){0.6, 0.3, 0.1});
    x.f.ranks[0].attention = 8e9, x.f.ranks[1].n_fewer = 1;
    assert_int_equal(cf_figures_halvings(&x.f), 3);
    cf_figures_halve(&x.f, 0);
    assert_int_equal(x.f.ranks[0].threads, THREADS);
    assert_int_equal(cf_figures_halvings(&x.f), 3);
    cf_figures_halve(&x.f, 2);
    assert_int_equal(x.f.ranks[0].threads, 2);
    assert_int_equal(x.f.ranks[1].threads, 4); /* it knows of no fewer */
    assert_true(x.f.ranks[0].bandwidth == 0.5 * BANDWIDTH && x.f.ranks[1].bandwidth == 0.9 * BANDWIDTH);
    assert_true(x.f.ranks[0].step == 0.3 * STEP && x.f.ranks[1].step == 0.6 * STEP);
    assert_true(x.f.ranks[0].rates[TYPE] == 0.25e13 && x.f.ranks[0].attention == 2e9);
    assert_int_equal(cf_figures_halvings(&x.f), 0); /* that was the choice */
    cf_figures_halve(&x.f, 1);
    assert_int_equal(x.f.ranks[0].threads, 2);
    tear_down(&x);
}

struct look {
    struct cf_rank_info *info;
    struct cf_reader reader;
    double all;
};
static int read_it(struct cf_team *team, void *ctx) {
    struct look *l = ctx;
    struct cf_error e = {0};
    if (cf_reader_open(&l->reader, team, 5 << 20, 0, &e)) return -1;
    for (int pass = 0; pass < 2; pass++)
        cf_fewer_read(l->info, &l->reader, team, pass, &l->all);
    cf_reader_close(&l->reader);
    return 0;
}

/* What a rank of five cores measures of itself: two threads and one. Its cores need not be there. */
static void a_rank_looks_at_fewer(void **state) {
    (void)state;
    struct cf_seat seat = {.n_cores = 5, .cores = {10, 11, 12, 13, 14}};
    struct cf_rank_info info = {0};
    struct look l = {.info = &info};
    struct cf_error e = {0};
    uint32_t cores[CF_MAX_CORES];
    if (cf_fewer_meet(&info, &seat, &e)) fail_msg("%s", e.text);
    assert_int_equal(info.n_fewer, 2);
    assert_true(info.fewer[0].threads == 2 && info.fewer[1].threads == 1);
    assert_true(info.fewer[0].step > 0 && info.fewer[1].step > 0 && info.fewer[0].bandwidth == 0);
    struct cf_team_options o = cf_fewer_team(&seat, 5, cores);
    if (cf_team_run(&o, read_it, &l, &e)) fail_msg("%s", e.text);
    assert_true(info.fewer[0].bandwidth > 0 && info.fewer[1].bandwidth > 0 && l.all > 0);
    double two = info.fewer[0].bandwidth / l.all;
    cf_fewer_scale(&info, l.all, 7e9);
    assert_true(fabs(info.fewer[0].bandwidth / (7e9 * two) - 1) < 1e-9);
    o = cf_fewer_team(&seat, 3, cores); /* evenly among its cores */
    assert_true(o.n_threads == 3 && o.n_cores == 3 && !o.sleep_at_once);
    assert_true(o.cores[0] == 10 && o.cores[1] == 11 && o.cores[2] == 13);
    o = cf_fewer_team(&seat, 9, cores); /* more than cores: all of them, and no spinning */
    assert_true(o.n_threads == 9 && o.n_cores == 5 && o.sleep_at_once && o.cores[4] == 14);
    seat.crowded = true; /* others use the cores, too */
    assert_int_equal(cf_fewer_meet(&info, &seat, &e), 0);
    assert_int_equal(info.n_fewer, 0);
    seat.crowded = false, seat.n_cores = 1;
    assert_int_equal(cf_fewer_meet(&info, &seat, &e), 0);
    assert_int_equal(info.n_fewer, 0);
}

/* The threads of a team that read where only so many are to: as many, and others than those never. */
static void a_part_of_a_team(void **state) {
    (void)state;
    for (uint32_t all = 1; all <= 40; all++)
        for (uint32_t some = 1; some <= all; some++) {
            assert_int_equal(cf_team_spread(0, some, all), 0); /* thread 0 is always one: it waits for the others */
            for (uint32_t i = 1; i < some; i++)
                assert_true(cf_team_spread(i, some, all) > cf_team_spread(i - 1, some, all));
            assert_true(cf_team_spread(some - 1, some, all) < all);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_of_them_win),
        cmocka_unit_test(behind_a_hump),
        cmocka_unit_test(all_of_them_win),
        cmocka_unit_test(kernels_want_all_of_them),
        cmocka_unit_test(it_must_be_worth_it),
        cmocka_unit_test(one_thread_each),
        cmocka_unit_test(a_settled_wish_keeps_its_layout),
        cmocka_unit_test(figures_of_fewer),
        cmocka_unit_test(a_rank_looks_at_fewer),
        cmocka_unit_test(a_part_of_a_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
