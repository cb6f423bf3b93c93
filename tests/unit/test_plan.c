/* The proof of a plan refuses every kind of hole, overlap and stranger; and a plan crosses the wire unchanged. */
#include "node/model/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "small_model.h"

enum { RANKS = 4 };

struct fixture {
    struct small_model s;
    struct cf_plan plan;
};

static void set_up(struct fixture *f) {
    struct cf_error e = {0};
    struct cf_rank_info info[RANKS];
    struct cf_plan_wish wish = small_wish(CF_LAYOUT_HYBRID);
    char note[512];
    wish.stages = 2;
    small_ranks(info, RANKS, 1);
    assert_int_equal(small_model_open(&f->s, &small_shapes[0], &e), 0);
    assert_int_equal(cf_planner_make(&f->plan, &wish, &f->s.model, f->s.gguf, info, RANKS, note, &e), 0);
}

static void tear_down(struct fixture *f) {
    cf_plan_free(&f->plan);
    small_model_close(&f->s);
}

/* The row of a domain in the last stage. */
static struct cf_plan_row *row_of(struct cf_plan *p, enum cf_domain d) {
    for (uint32_t i = p->n_plan_rows; i-- > 0;)
        if (p->rows[i].domain == d) return &p->rows[i];
    return NULL;
}

static void refused(struct fixture *f, const char *why) {
    struct cf_error e = {0};
    assert_int_equal(cf_plan_check(&f->plan, &f->s.model, RANKS, &e), -1);
    assert_int_equal(e.code, CF_ERR_PLAN);
    if (!strstr(e.text, why)) fail_msg("\"%s\" does not say \"%s\"", e.text, why);
}

static void holes_and_overlaps_are_refused(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f);
    assert_int_equal(cf_plan_check(&f.plan, &f.s.model, RANKS, &e), 0);
    for (int d = 0; d < CF_DOMAINS; d++) {
        struct cf_plan_row *r = row_of(&f.plan, (enum cf_domain)d), good = *r;
        r->cuts[r->n]--, refused(&f, "cover"), *r = good;
        r->cuts[r->n]++, refused(&f, "cover"), *r = good;
        r->cuts[0] = 1, refused(&f, "cover"), *r = good;
        r->cuts[1] = r->cuts[r->n] + 1, refused(&f, "overlap"), *r = good;
        r->ranks[0] = RANKS, refused(&f, "names rank 4 of 4"), *r = good;
        r->ranks[0] = -1, refused(&f, "names rank -1 of 4"), *r = good;
        r->ranks[0] = r->ranks[1], refused(&f, "twice"), *r = good;
        r->n = 0, refused(&f, "a group of 0 ranks"), *r = good;
        r->n = 17, refused(&f, "a group of 17 ranks"), *r = good;
        r->n = 0xffffffffu, refused(&f, "a group of"), *r = good;
        r->layer1 = f.s.model.n_layers + 1, refused(&f, "layers"), *r = good;
        r->layer1 = r->layer0, refused(&f, "layers"), *r = good;
        r->layer0++;
        refused(&f, r->layer0 == r->layer1 ? "layers" : "held by 0 groups"), *r = good;
        if (good.layer0 > 0) r->layer0--, refused(&f, "held by 2 groups"), *r = good;
        r->domain = (enum cf_domain)((d + 1) % CF_DOMAINS);
        assert_int_equal(cf_plan_check(&f.plan, &f.s.model, RANKS, &e), -1);
        *r = good;
    }
    f.plan.n_plan_rows--, refused(&f, "held by 0 groups"), f.plan.n_plan_rows++;
    uint32_t *sizes[] = {
        &f.plan.n_layers, &f.plan.n_ctx, &f.plan.n_seqs, &f.plan.n_rows, &f.plan.n_flight, &f.plan.n_want};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t good = *sizes[i];
        *sizes[i] = 0, refused(&f, "empty size"), *sizes[i] = good;
    }
    f.plan.wire = CF_DTYPES, refused(&f, "wire type 3"), f.plan.wire = CF_DTYPE_Q8;
    uint32_t n_hosts = f.plan.n_hosts;
    f.plan.n_hosts = RANKS + 1, refused(&f, "the hosts of 5 ranks where there are 4"), f.plan.n_hosts = n_hosts;
    assert_int_equal(cf_plan_check(&f.plan, &f.s.model, RANKS, &e), 0);
    assert_int_equal(cf_plan_check(&f.plan, &f.s.model, RANKS - 1, &e), -1);
    tear_down(&f);
}

static void look_ups(void **state) {
    (void)state;
    struct fixture f;
    uint32_t first, last;
    set_up(&f);
    const struct cf_plan_row *r = cf_plan_find(&f.plan, CF_LEFT_HEMI, f.s.model.n_layers - 1);
    assert_int_equal(cf_plan_member(r, 0, &first, &last), -1);
    assert_int_equal(cf_plan_member(r, 3, &first, &last), 1);
    assert_int_equal(last, cf_plan_axis_chunks(&f.s.model, CF_LEFT_HEMI, 0));
    row_of(&f.plan, CF_LEFT_HEMI)->cuts[1] = last; /* now the second member is empty */
    assert_int_equal(cf_plan_member(r, 3, NULL, NULL), -1);
    assert_null(cf_plan_find(&f.plan, CF_LEFT_HEMI, f.s.model.n_layers));
    assert_int_equal(cf_plan_axis_chunks(&f.s.model, CF_PREFRONTAL, 0), (700 + 15) / 16);
    assert_int_equal(cf_plan_axis_chunks(&f.s.model, CF_RIGHT_HEMI, 0), 11);
    assert_int_equal(cf_plan_axis_chunks(&f.s.model, CF_TEMPORAL, 0), 8);
    for (int l = 0; l < CF_LAYOUTS; l++)
        assert_true(strlen(cf_layout_name((enum cf_layout)l)) > 4);
    assert_string_equal(cf_layout_name((enum cf_layout)99), "?");
    tear_down(&f);
}

/* Packed to bytes and back. */
static Cf__Plan *through_bytes(const struct cf_plan *p) {
    Cf__Plan *msg = cf_plan_to_message(p);
    assert_non_null(msg);
    size_t n = cf__plan__get_packed_size(msg);
    uint8_t *bytes = malloc(n + 1);
    assert_int_equal(cf__plan__pack(msg, bytes), n);
    cf__plan__free_unpacked(msg, NULL);
    msg = cf__plan__unpack(NULL, n, bytes);
    free(bytes);
    assert_non_null(msg);
    return msg;
}

static void a_plan_crosses_the_wire(void **state) {
    (void)state;
    for (int zero = -1; zero < 3; zero++) {
        struct fixture f;
        struct cf_plan got;
        struct cf_error e = {0};
        set_up(&f);
        f.plan.zero_rank = zero;
        free(f.plan.host);
        f.plan.wire = CF_DTYPE_Q8, f.plan.n_hosts = zero > 0 ? RANKS : 0;
        f.plan.host = zero > 0 ? calloc(RANKS, sizeof *f.plan.host) : NULL;
        if (f.plan.host) f.plan.host[RANKS - 1] = 7;
        Cf__Plan *msg = through_bytes(&f.plan);
        assert_int_equal(cf_plan_from_message(&got, msg, &e), 0);
        cf__plan__free_unpacked(msg, NULL);
        assert_int_equal(got.zero_rank, zero);
        assert_int_equal(got.n_plan_rows, f.plan.n_plan_rows);
        assert_memory_equal(got.rows, f.plan.rows, got.n_plan_rows * sizeof *got.rows);
        assert_true(got.wire == CF_DTYPE_Q8 && got.n_hosts == f.plan.n_hosts && !got.host == !f.plan.host);
        if (got.host) assert_memory_equal(got.host, f.plan.host, RANKS * sizeof *got.host);
        struct cf_plan a = got, b = f.plan;
        a.rows = b.rows = NULL;
        assert_true(a.layout == b.layout && a.n_layers == b.n_layers && a.n_ctx == b.n_ctx && a.n_seqs == b.n_seqs &&
                    a.n_rows == b.n_rows && a.n_flight == b.n_flight && a.n_want == b.n_want);
        cf_plan_free(&got);
        tear_down(&f);
    }
}

/* What a stranger may write into a well-formed message. Refused, or at least caught by the check; never out of bounds.
 */
static void hostile_messages_are_refused(void **state) {
    (void)state;
    struct fixture f;
    struct cf_plan got;
    struct cf_error e = {0};
    set_up(&f);
    Cf__Plan *msg = through_bytes(&f.plan);
    Cf__PlanRow *row = msg->row[1], good = *row;
    Cf__Plan whole = *msg;
    msg->layout = CF_LAYOUTS, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *msg = whole;
    msg->n_row = 0, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *msg = whole;
    msg->n_row = (1u << 16) + 1, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *msg = whole;
    row->domain = CF_DOMAINS, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *row = good;
    row->n_ranks = 17, row->n_cuts = 18, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *row = good;
    row->n_cuts--, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *row = good;
    row->n_ranks = 0, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *row = good;
    row->n_ranks = SIZE_MAX, row->n_cuts = 0, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *row = good;
    msg->wire = CF_DTYPES, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *msg = whole;
    msg->n_host = (1u << 16) + 1, assert_int_equal(cf_plan_from_message(&got, msg, &e), -1), *msg = whole;
    assert_true(!got.rows && !got.host);
    uint32_t ranks[2] = {0xffffffffu, 1}, cuts[3] = {0, 0xffffffffu, 8};
    for (int i = 0; i < 4; i++) { /* what only the check can see */
        if (i == 0) row->ranks = ranks;
        if (i == 1) row->cuts = cuts;
        if (i == 2) row->layer_last = 0xffffffffu;
        if (i == 3) row->layer_first = 0xfffffffeu;
        assert_int_equal(cf_plan_from_message(&got, msg, &e), 0);
        assert_int_equal(cf_plan_check(&got, &f.s.model, RANKS, &e), -1);
        cf_plan_free(&got);
        *row = good;
    }
    cf__plan__free_unpacked(msg, NULL);
    tear_down(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(holes_and_overlaps_are_refused), cmocka_unit_test(look_ups),
        cmocka_unit_test(a_plan_crosses_the_wire), cmocka_unit_test(hostile_messages_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
