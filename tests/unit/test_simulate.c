/* Plans in virtual time: what a run must take by hand-made sums, how many messages it sends, and what limits it. */
#include "coordinator/plan/forecast/simulate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/plan/forecast/cost.h"
#include "coordinator/plan/forecast/seats.h"
#include "small_machines.h"

static struct cf_forecast run(struct fixture *x, int layout, struct cf_workload w) {
    struct cf_plan_wish wish = small_wish(layout);
    struct cf_simulation *s;
    struct cf_forecast out;
    struct cf_error e = {0};
    char note[512];
    cf_plan_free(&x->plan);
    if (cf_planner_make(&x->plan, &wish, &x->s.model, x->s.gguf, x->f.ranks, x->f.n_ranks, note, &e) ||
        cf_simulation_new(&s, &x->plan, &x->s.model, x->s.gguf, &x->f, &e) || cf_simulation_run(s, &w, &out, &e))
        fail_msg("%s", e.text);
    cf_simulation_free(s);
    return out;
}

/* Bytes of all matrices that a token needs, and of the keys and values of `keys` positions in f16. */
static double bytes_of_token(const struct fixture *x, uint32_t keys) {
    const struct cf_model *m = &x->s.model;
    double sum = (double)keys * m->n_layers * m->n_head_kv * (m->d_k + m->d_v) * 2;
    for (uint32_t l = 0; l < m->n_layers; l++)
        for (int role = CF_FIRST_LAYER_ROLE; role < CF_ROLES; role++)
            if (!cf_tensor_specs[role].vector) sum += (double)cf_model_bytes(m, x->s.gguf, (enum cf_role)role, l, true);
    return sum + (double)cf_model_bytes(m, x->s.gguf, CF_W_OUTPUT, 0, true);
}

static void one_rank_reads_its_bytes(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 1);
    struct cf_forecast f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.depth = 10, .generate = 1, .sequences = 1});
    near(f.seconds, bytes_of_token(&x, 11) / BANDWIDTH, 1e-6);
    near(f.ranks[0].compute, f.seconds, 1e-6);
    assert_int_equal(f.messages, 0);
    assert_non_null(strstr(f.bottleneck, "rank 0"));
    cf_forecast_free(&f);
    f = run(&x, CF_LAYOUT_TENSOR,
        (struct cf_workload){.generate = 5, .sequences = 2}); /* two sequences read the weights once */
    near(f.rate, 2 * BANDWIDTH / (bytes_of_token(&x, 6)), 0.02);
    cf_forecast_free(&f);
    x.f.ranks[0].rates[8] = 1e9; /* Q8_0: now products cost more than bytes, which still show by half */
    double products = bytes_of_token(&x, 0) * 32 / 34 / 1e9, read = bytes_of_token(&x, 64) / BANDWIDTH;
    f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.prompt = 64});
    double head = (double)cf_model_bytes(&x.s.model, x.s.gguf, CF_W_OUTPUT, 0, true) * 32 / 34 / 1e9;
    near(f.seconds, CF_COST_STREAMED * (64 * (products - head) + head) + CF_COST_BESIDE * read, 0.02);
    cf_forecast_free(&f);
    tear_down(&x);
}

/* Kernels that take longer to unpack the weights than memory takes to bring them: once for all rows of a step. */
static void weights_are_unpacked_once(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 1);
    double elements = bytes_of_token(&x, 0) * 32 / 34, read = bytes_of_token(&x, 1) / BANDWIDTH;
    x.f.ranks[0].rates[8] = 1e10, x.f.ranks[0].single[8] = 2e8; /* Q8_0: 4.9 ns each, where memory takes 1.06 */
    double unpack = elements * (1 / 2e8 - 1 / 1e10), row = CF_COST_STREAMED * elements / 1e10;
    struct cf_forecast f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 1, .sequences = 1});
    near(f.seconds, unpack + CF_COST_BESIDE * row, 0.01);
    cf_forecast_free(&f);
    f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 1, .sequences = 2});
    near(f.seconds, unpack + CF_COST_BESIDE * 2 * row, 0.01);
    cf_forecast_free(&f);
    x.f.ranks[0].single[8] = 2e9; /* 0.4 ns: that goes on beside reading */
    f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 1, .sequences = 1});
    near(f.seconds, read + CF_COST_BESIDE * row, 0.01);
    cf_forecast_free(&f);
    tear_down(&x);
}

/* Up to eight rows each takes what eight take; the next ones what is left to what 64 take, and that from there on. */
static void few_rows_have_their_own_rate(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 1);
    double elements = bytes_of_token(&x, 0) * 32 / 34, read = bytes_of_token(&x, 1) / BANDWIDTH;
    x.f.ranks[0].rates[8] = 64e7, x.f.ranks[0].single[8] = 1e8, x.f.ranks[0].few[8] = 8 / 4.5e-8;
    const struct {
        uint32_t rows;
        double ns; /* per weight: 10 for one row, 45 for eight, 100 for 64 */
    } cases[] = {{1, 5}, {4, 20}, {8, 40}, {36, 40 + 27.5}, {64, 40 + 55}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_forecast f =
            run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 1, .sequences = cases[i].rows});
        double multiply = CF_COST_STREAMED * elements * 1e-9 * cases[i].ns, unpack = fmax(read, elements * 5e-9);
        near(f.seconds, fmax(multiply, unpack) + CF_COST_BESIDE * fmin(multiply, unpack), 0.01);
        cf_forecast_free(&f);
    }
    tear_down(&x);
}

/* Floats that rows take into products and out of them: of each matrix its columns and its rows, for every row. */
static void rows_pass_between_products(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 1);
    const struct cf_model *m = &x.s.model;
    double floats = 0, seconds[2];
    for (uint32_t l = 0; l < m->n_layers; l++)
        for (int role = CF_FIRST_LAYER_ROLE; role < CF_ROLES; role++) {
            struct cf_shape s = cf_model_shape(m, (enum cf_role)role);
            if (cf_tensor_specs[role].vector || !cf_model_tensor(m, x.s.gguf, (enum cf_role)role, l)) continue;
            floats += ((double)s.columns + (double)s.rows) * (double)s.parts;
        }
    floats += (double)m->n_embd + (double)m->n_vocab;
    for (uint32_t rows = 1; rows <= 16; rows *= 4) {
        for (int i = 0; i < 2; i++) {
            x.f.ranks[0].between = i ? 1e6 : 0;
            struct cf_forecast f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 1, .sequences = rows});
            seconds[i] = f.seconds;
            cf_forecast_free(&f);
        }
        near(seconds[1] - seconds[0], CF_COST_STREAMED * rows * floats / 1e6, 1e-3);
    }
    tear_down(&x);
}

static void layers_pay_with_more_sequences(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    struct cf_forecast one = run(&x, CF_LAYOUT_LAYERS, (struct cf_workload){.generate = 1, .sequences = 1});
    near(one.seconds, bytes_of_token(&x, 1) / BANDWIDTH + 2 * LATENCY, 1e-3); /* there and back */
    assert_int_equal(one.messages, 2);
    assert_int_equal(one.traffic[1], 4 * 256);
    assert_int_equal(one.traffic[2], 4 * 256);
    cf_forecast_free(&one);
    one = run(&x, CF_LAYOUT_LAYERS, (struct cf_workload){.generate = 8, .sequences = 1});
    struct cf_forecast two = run(&x, CF_LAYOUT_LAYERS, (struct cf_workload){.generate = 8, .sequences = 2});
    assert_true(two.rate > 1.6 * one.rate && two.rate < 2.01 * one.rate);
    assert_non_null(strstr(one.bottleneck, "too little in flight: 1 batch for 2 stages"));
    cf_forecast_free(&one);
    cf_forecast_free(&two);
    tear_down(&x);
}

/* Every rank sends its sums of each half of a layer to every other one, logits to rank 0, and its share of embedding
 * rows. */
static void tensor_counts_its_messages(void **state) {
    (void)state;
    for (uint32_t n = 2; n <= 4; n++) {
        struct fixture x;
        set_up(&x, n);
        struct cf_forecast f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 1, .sequences = 1});
        assert_int_equal(f.messages, n * (n - 1) * (2 * 8 + 1) + n - 1);
        double bytes = bytes_of_token(&x, 1) / n / BANDWIDTH, hops = (2 * 8 + 2) * LATENCY;
        assert_true(f.seconds > bytes + hops && f.seconds < 1.3 * bytes + 1.1 * hops);
        for (uint32_t h = 0; h < n; h++)
            assert_true(f.link_busy[h] > 0 && f.traffic[h * n + h] == 0);
        cf_forecast_free(&f);
        tear_down(&x);
    }
}

/* Members of a group send at the same time; the hops of a pipeline do not. */
static void both_ways_at_once(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    double rate[2][2];
    for (int slow = 0; slow < 2; slow++) {
        for (int k = 0; slow && k < 4; k++)
            for (int i = 0; i < CF_LINK_SIZES; i++)
                x.f.links[k].both[i] *= 10;
        const int layouts[2] = {CF_LAYOUT_TENSOR, CF_LAYOUT_LAYERS};
        for (int i = 0; i < 2; i++) {
            struct cf_forecast f = run(&x, layouts[i], (struct cf_workload){.generate = 4, .sequences = 1});
            rate[i][slow] = f.rate;
            cf_forecast_free(&f);
        }
    }
    near(1 / rate[0][1] - 1 / rate[0][0], 2 * 8 * 9 * LATENCY, 0.1);
    near(rate[1][1], rate[1][0], 1e-9);
    tear_down(&x);
}

/* Ranks of one host read each other's parts as fast as the host lets them. */
static void a_slow_way_inside(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    x.f.ranks[1].host_index = 0;
    struct cf_forecast own = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.prompt = 256});
    x.f.links[0].window = 2 * BANDWIDTH; /* it does not slow them down */
    struct cf_forecast same = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.prompt = 256});
    near(same.seconds, own.seconds, 1e-12);
    x.f.links[0].window = 1e6;
    struct cf_forecast slow = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.prompt = 256});
    assert_true(slow.seconds > 2 * own.seconds);
    cf_forecast_free(&own);
    cf_forecast_free(&same);
    cf_forecast_free(&slow);
    tear_down(&x);
}

/* As many batches in flight as there are sequences, where a pipeline is long, and memory is not short. */
static void a_long_pipeline_is_filled(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 8);
    struct cf_plan_wish wish = small_wish(CF_LAYOUT_LAYERS);
    struct cf_error e = {0};
    char note[512];
    static const struct small_shape deep = {24, 256, 8, 4, 32, 512, 1024, true, "q8_0"};
    tear_down(&x);
    if (small_model_open(&x.s, &deep, &e) || cf_figures_new(&x.f, 24, 24, &e)) fail_msg("%s", e.text);
    small_ranks(x.f.ranks, 24, 24);
    for (uint32_t seqs = 1; seqs <= 64; seqs *= 4) {
        wish.n_seqs = seqs;
        if (cf_planner_make(&x.plan, &wish, &x.s.model, x.s.gguf, x.f.ranks, 24, note, &e)) fail_msg("%s", e.text);
        assert_int_equal(x.plan.n_flight, seqs <= 4 ? 8 : seqs == 16 ? 16 : 24);
        struct cf_rank_need need;
        if (cf_planner_need(&x.plan, &x.s.model, x.s.gguf, 1, &x.f.ranks[1], &need, &e)) fail_msg("%s", e.text);
        cf_plan_free(&x.plan);
        if (seqs < 64) continue;
        for (uint32_t r = 0; r < 24; r++)
            x.f.ranks[r].memory_free = need.weights + need.kv + need.buffers - (need.buffers >> 2);
        if (cf_planner_make(&x.plan, &wish, &x.s.model, x.s.gguf, x.f.ranks, 24, note, &e)) fail_msg("%s", e.text);
        assert_int_equal(x.plan.n_flight, 8);
    }
    tear_down(&x);
}

/* A cable that carries little takes its time, and messages stand in line for it. */
static void a_thin_cable_is_the_bottleneck(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    for (int k = 0; k < 4; k++)
        x.f.links[k] = cf_link_of(1e-6, 1e5);
    struct cf_forecast f = run(&x, CF_LAYOUT_LAYERS, (struct cf_workload){.prompt = 256});
    assert_true(f.seconds > 256 * 4 * 256 / 1e5);
    assert_non_null(strstr(f.bottleneck, "network of host "));
    cf_forecast_free(&f);
    for (int k = 0; k < 4; k++) /* what comes in takes the cable, too: all logits go to rank 0 */
        x.f.links[k] = cf_link_of(1e-6, k == 2 ? 1e5 : 1e12);
    f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 8, .sequences = 1});
    assert_non_null(strstr(f.bottleneck, "network of host "));
    assert_true(f.link_busy[0] > 0.5 * f.seconds && f.link_busy[1] > 0.5 * f.seconds);
    cf_forecast_free(&f);
    tear_down(&x);
    set_up(&x, 3);
    for (uint32_t h = 0; h < 3; h++) { /* into one host from two: it has the fullest cable, and a name */
        char want[96];
        for (uint32_t k = 0; k < 9; k++)
            x.f.links[k] = cf_link_of(1e-6, k % 3 == h ? 1e5 : 1e12);
        snprintf(want, sizeof want, "network of host %s, busy", x.f.ranks[h].host);
        f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 8, .sequences = 1});
        assert_non_null(strstr(f.bottleneck, want));
        for (uint32_t other = 0; other < 3; other++)
            assert_true(other == h || f.link_busy[other] < f.link_busy[h]);
        cf_forecast_free(&f);
    }
    tear_down(&x);
}

/* One instruction in eight takes three times as long. Alone that costs a quarter; whoever waits for the slower of two
 * in every step pays 47 % (1 - (7/8)^2 of the steps). */
static void noise_costs_a_group_more(void **state) {
    (void)state;
    struct fixture x;
    double rate[2][2];
    for (uint32_t n = 1; n <= 2; n++)
        for (int noisy = 0; noisy < 2; noisy++) {
            set_up(&x, n);
            for (uint32_t k = 0; k < n * n; k++)
                x.f.links[k] = cf_link_of(1e-9, 1e15);
            for (uint32_t r = 0; noisy && r < n; r++)
                for (int i = 0; i < CF_NOISE; i++)
                    x.f.ranks[r].noise[i] = i == CF_NOISE - 1 ? 3 : 1;
            struct cf_forecast f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 200, .sequences = 1});
            rate[n - 1][noisy] = f.rate;
            cf_forecast_free(&f);
            tear_down(&x);
        }
    near(rate[0][0] / rate[0][1], 1.25, 0.04);
    assert_true(rate[1][0] / rate[1][1] > 1.33 && rate[1][0] / rate[1][1] < 1.52);
}

/* Of four ranks the first and the third sit at one core, and were measured while both worked. In a pipeline one works
 * at a time: as fast as if it were alone. In a group the two are as slow as measured, and the others wait for them. */
static void neighbours_share_a_core(void **state) {
    (void)state;
    struct fixture x;
    double rate[2][2];
    set_up(&x, 4);
    x.f.links[0] = cf_link_of(1e-7, 1e12);
    for (int crowded = 0; crowded < 2; crowded++) {
        for (int r = 0; r < 4; r++)
            x.f.ranks[r].host_index = x.f.ranks[r].node = 0, x.f.ranks[r].threads = 1, x.f.ranks[r].seat_cores = 1,
            x.f.ranks[r].seat = crowded && r == 2 ? 0 : (uint32_t)r,
            x.f.ranks[r].bandwidth = crowded && r % 2 == 0 ? BANDWIDTH / 2 : BANDWIDTH;
        for (int i = 0; i < 2; i++) {
            struct cf_forecast f =
                run(&x, i ? CF_LAYOUT_TENSOR : CF_LAYOUT_LAYERS, (struct cf_workload){.generate = 8, .sequences = 1});
            rate[i][crowded] = f.rate;
            cf_forecast_free(&f);
        }
    }
    near(rate[0][1], rate[0][0], 0.01);
    near(rate[1][1], 0.5 * rate[1][0], 0.1);
    tear_down(&x);
}

/* What ranks at one core are told of themselves: half of what they do with a core. And one that
 *  has waited while the other worked wakes up late. */
static void ranks_at_one_core(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 3);
    for (int r = 0; r < 3; r++) {
        struct cf_rank_info *i = &x.f.ranks[r];
        i->host_index = i->node = 0, i->threads = i->seat_cores = 1, i->seat = (uint32_t)r % 2;
        i->rates[8] = 1e12, i->attention = 1e11, i->between = 1e9, i->bandwidth = BANDWIDTH;
    }
    cf_figures_crowd(&x.f);
    for (int r = 0; r < 3; r++) {
        near(x.f.ranks[r].rates[8], r == 1 ? 1e12 : 5e11, 1e-9);
        near(x.f.ranks[r].attention, r == 1 ? 1e11 : 5e10, 1e-9);
        near(x.f.ranks[r].between, r == 1 ? 1e9 : 5e8, 1e-9);
        near(x.f.ranks[r].bandwidth, r == 1 ? BANDWIDTH : 0.5 * BANDWIDTH, 1e-9);
    }
    double rate[2];
    for (int late = 0; late < 2; late++) {
        x.f.ranks[0].wake = x.f.ranks[2].wake = late ? 1e-3 : 0;
        struct cf_forecast f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 8, .sequences = 1});
        rate[late] = f.rate;
        cf_forecast_free(&f);
    }
    assert_true(rate[1] < 0.9 * rate[0]);
    tear_down(&x);
}

/* Three ranks that share a memory (on hosts of their own: pods of one machine), measured while all of them read. Alone
 * a rank reads 2.4 times as fast: who has its turn in a pipeline does. Of two that read at once each gets half of what
 * three have. A group is as slow as measured, and so is who multiplies. */
static void ranks_share_a_memory(void **state) {
    (void)state;
    struct fixture x;
    double tensor[2], prompt[2];
    set_up(&x, 3);
    for (int shared = 0; shared < 2; shared++) {
        for (int r = 0; r < 3; r++)
            x.f.ranks[r].alone = shared ? 2.4 : 0, x.f.ranks[r].memory = 0, x.f.ranks[r].threads = 1;
        double bytes = bytes_of_token(&x, 1);
        struct cf_forecast f = run(&x, CF_LAYOUT_LAYERS, (struct cf_workload){.generate = 1, .sequences = 1});
        near(f.seconds, bytes / BANDWIDTH / (shared ? 2.4 : 1) + 3 * LATENCY, 1e-3);
        cf_forecast_free(&f);
        f = run(&x, CF_LAYOUT_TENSOR, (struct cf_workload){.generate = 8, .sequences = 1});
        tensor[shared] = f.rate;
        cf_forecast_free(&f);
        x.f.ranks[0].rates[8] = x.f.ranks[1].rates[8] = x.f.ranks[2].rates[8] = 1e8;
        f = run(&x, CF_LAYOUT_LAYERS, (struct cf_workload){.prompt = 64});
        prompt[shared] = f.rate;
        cf_forecast_free(&f);
        for (int r = 0; r < 3; r++)
            x.f.ranks[r].rates[8] = 0;
    }
    near(tensor[1], tensor[0], 0.1);
    near(prompt[1], prompt[0], 0.03);
    struct cf_seats s;
    assert_int_equal(cf_seats_new(&s, &x.f), 0);
    cf_seats_begin(&s, 1, 1);
    near(cf_seats_pace(&s, 1), 1 / 2.4, 1e-9);
    cf_seats_begin(&s, 2, 1);
    near(cf_seats_pace(&s, 1), 1 / 1.5, 1e-9);
    cf_seats_begin(&s, 0, 0); /* multiplies only */
    near(cf_seats_pace(&s, 0), 1, 1e-9);
    near(cf_seats_pace(&s, 2), 1 / 1.5, 1e-9);
    cf_seats_end(&s, 0);
    cf_seats_begin(&s, 0, 0.5); /* half of its time leaves others half of the time without it */
    near(cf_seats_pace(&s, 2), 2.5 / 3, 1e-9);
    near(cf_seats_pace(&s, 0), 1, 1e-9);
    cf_seats_end(&s, 1), cf_seats_end(&s, 2);
    near(cf_seats_pace(&s, 0), 0.5 + 0.5 / 2.4, 1e-9);
    cf_seats_free(&s);
    tear_down(&x);
}

/* Half of the threads read alone at most half of what all of them did. */
static void fewer_threads_read_less_alone(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    for (int r = 0; r < 2; r++) {
        struct cf_rank_info *i = &x.f.ranks[r];
        i->threads = 4, i->alone = r ? 1.2 : 3, i->n_fewer = 1;
        i->fewer[0] = (struct cf_fewer){.threads = 2, .bandwidth = 0.9 * BANDWIDTH};
    }
    cf_figures_halve(&x.f, 1);
    near(x.f.ranks[0].alone, 3 * 0.5 / 0.9, 1e-9);
    near(x.f.ranks[1].alone, 1, 1e-9);
    /* One of two gains by being alone and the other does not. */
    for (uint32_t first = 0; first < 2; first++) {
        x.f.ranks[first].alone = 1, x.f.ranks[!first].alone = 1.5;
        for (int i = 0; i < 2; i++) {
            struct cf_forecast f =
                run(&x, i ? CF_LAYOUT_TENSOR : CF_LAYOUT_LAYERS, (struct cf_workload){.generate = 4, .sequences = 1});
            assert_true(isfinite(f.rate) && f.rate > 0);
            cf_forecast_free(&f);
        }
    }
    tear_down(&x);
}

/* Three ranks on two cores that share a memory, too: the first and the third at one core. Two cores at work are all
 * that there is; one at work reads faster, the more if its rank need not share it. */
static void ranks_share_cores_and_a_memory(void **state) {
    (void)state;
    struct fixture x;
    struct cf_seats s;
    set_up(&x, 3);
    for (int r = 0; r < 3; r++) {
        struct cf_rank_info *i = &x.f.ranks[r];
        i->host_index = i->node = 0, i->threads = i->seat_cores = 1, i->seat = (uint32_t)r % 2, i->alone = 1.6;
    }
    assert_int_equal(cf_seats_new(&s, &x.f), 0);
    cf_seats_begin(&s, 0, 1);
    near(cf_seats_pace(&s, 0), 0.5 / 1.6, 1e-9);
    cf_seats_begin(&s, 2, 1); /* two ranks, but one core */
    near(cf_seats_pace(&s, 0), 1 / 1.6, 1e-9);
    cf_seats_begin(&s, 1, 1);
    for (uint32_t r = 0; r < 3; r++)
        near(cf_seats_pace(&s, r), 1, 1e-9);
    cf_seats_end(&s, 2);
    near(cf_seats_pace(&s, 0), 0.5, 1e-9); /* a core for itself, and half of the memory */
    near(cf_seats_pace(&s, 1), 1, 1e-9);
    cf_seats_free(&s);
    tear_down(&x);
}

/* What is over of a rehearsed sum (test_figures.c) stands behind every sum. */
static void a_rehearsed_sum_leaves_a_rest(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 3);
    double plain[2], rest[2];
    const int layouts[2] = {CF_LAYOUT_TENSOR, CF_LAYOUT_LAYERS};
    for (int i = 0; i < 2; i++) {
        struct cf_forecast f = run(&x, layouts[i], (struct cf_workload){.generate = 1, .sequences = 1});
        plain[i] = f.seconds;
        cf_forecast_free(&f);
    }
    for (int k = 0; k < 9; k++)
        x.f.links[k].apart[0] = x.f.links[k].apart[1] = k % 4 ? 3e-4 : 0;
    for (int i = 0; i < 2; i++) {
        struct cf_forecast f = run(&x, layouts[i], (struct cf_workload){.generate = 1, .sequences = 1});
        rest[i] = f.seconds - plain[i];
        cf_forecast_free(&f);
    }
    near(rest[0], (2 * 8 + 1) * 3e-4, 1e-4); /* of sums, and of embedding rows; logits and hops go one way */
    assert_true(rest[1] < 1e-12);
    tear_down(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_reads_its_bytes),
        cmocka_unit_test(weights_are_unpacked_once),
        cmocka_unit_test(few_rows_have_their_own_rate),
        cmocka_unit_test(rows_pass_between_products),
        cmocka_unit_test(layers_pay_with_more_sequences),
        cmocka_unit_test(tensor_counts_its_messages),
        cmocka_unit_test(both_ways_at_once),
        cmocka_unit_test(a_thin_cable_is_the_bottleneck),
        cmocka_unit_test(a_slow_way_inside),
        cmocka_unit_test(a_long_pipeline_is_filled),
        cmocka_unit_test(noise_costs_a_group_more),
        cmocka_unit_test(neighbours_share_a_core),
        cmocka_unit_test(ranks_at_one_core),
        cmocka_unit_test(ranks_share_a_memory),
        cmocka_unit_test(fewer_threads_read_less_alone),
        cmocka_unit_test(ranks_share_cores_and_a_memory),
        cmocka_unit_test(a_rehearsed_sum_leaves_a_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
