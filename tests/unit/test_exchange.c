/* The mail room: parts in any order and in pieces, refused when full, and nothing gets in that is not expected. */
#include "transport/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 4, SLOTS = 2 };

/* Exchange 0 brings nothing; exchange 1: 3 columns from rank 5 and 2 from rank 7; exchange 2: 4 columns from rank 5. */
static const struct cf_exchange one = {.id = 1,
                                    .max_rows = ROWS,
                                    .n_in = 2,
                                    .in = {{5, 0, 3, false, 0, CF_DTYPE_F32}, {7, 1, 2, false, 0, CF_DTYPE_F32}}},
                                two = {.id = 2, .max_rows = ROWS, .n_in = 1, .in = {{5, 0, 4, false, 0, CF_DTYPE_F32}}};
static const struct cf_exchange *const exchanges[] = {NULL, &one, &two};

struct office {
    struct cf_mailroom m;
    struct cf_mail_slot slots[SLOTS];
    float data[SLOTS][ROWS * 5];
    float guard;
};

static void open_office(struct office *o) {
    memset(o, 0, sizeof *o);
    o->m = (struct cf_mailroom){
        .exchanges = exchanges, .n_exchanges = 3, .n_slots = SLOTS, .slots = o->slots, .slot_bytes = sizeof o->data[0]};
    for (int i = 0; i < SLOTS; i++)
        o->slots[i].data = (char *)o->data[i];
    o->guard = 42.0f;
}

static Cf__Activation header(uint32_t batch, uint32_t exchange, uint32_t segment, uint32_t rows, uint32_t columns) {
    Cf__Activation a = CF__ACTIVATION__INIT;
    a.batch = batch, a.exchange = exchange, a.segment = segment, a.rows = rows, a.columns = columns;
    return a;
}

static int deliver(struct office *o, int from, Cf__Activation a, const float *v) {
    struct cf_error e = {0};
    size_t total = (size_t)a.rows * a.columns * sizeof(float);
    int rc = cf_mail_deliver(&o->m, from, &a, total, v, 0, total, &e);
    if (rc < 0) assert_int_equal(e.code, CF_ERR_PEER);
    assert_true(o->guard == 42.0f);
    return rc;
}

static const float numbers[20] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

static void parts_arrive_in_any_order(void **state) {
    (void)state;
    struct office o;
    struct cf_error e = {0};
    open_office(&o);
    assert_int_equal(cf_exchange_bytes(&one), 5 * ROWS * sizeof(float));
    assert_false(cf_mail_ready(&o.m, &one, 9, 3));
    assert_true(cf_mail_ready(&o.m, &one, 9, 0));
    assert_int_equal(deliver(&o, 7, header(9, 1, 1, 4, 2), numbers), 0);
    assert_false(cf_mail_ready(&o.m, &one, 9, 3));
    assert_true(cf_mail_ready(&o.m, &one, 9, 2));
    assert_null(cf_mail_part(&o.m, &one, 9, 0, 2, 3, &e));
    assert_int_equal(deliver(&o, 5, header(9, 1, 0, 2, 3), numbers + 8), 0);
    assert_true(cf_mail_ready(&o.m, &one, 9, 3));
    assert_false(cf_mail_ready(&o.m, &one, 8, 3)); /* of another batch */
    assert_memory_equal(cf_mail_part(&o.m, &one, 9, 1, 4, 2, &e), numbers, 8 * sizeof(float));
    assert_memory_equal(cf_mail_part(&o.m, &one, 9, 0, 2, 3, &e), numbers + 8, 6 * sizeof(float));
    assert_int_equal(e.code, 0);
    assert_null(cf_mail_part(&o.m, &one, 9, 0, 3, 3, &e)); /* of another size than the step wants */
    assert_int_equal(e.code, CF_ERR_PEER);
    assert_null(cf_mail_part(&o.m, &one, 9, 0, 2, 2, &e));
    cf_mail_release(&o.m, &one, 9);
    assert_null(cf_mail_part(&o.m, &one, 9, 1, 4, 2, &e));
    cf_mail_release(&o.m, &one, 9); /* again: nothing */
}

static void pieces_are_put_together(void **state) {
    (void)state;
    struct office o;
    struct cf_error e = {0};
    open_office(&o);
    Cf__Activation a = header(1, 2, 0, 4, 4);
    for (size_t at = 0; at < 64; at += 24) {
        size_t n = 64 - at < 24 ? 64 - at : 24;
        assert_false(cf_mail_ready(&o.m, &two, 1, 1));
        assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 64, (const char *)numbers + at, at, n, &e), 0);
    }
    assert_true(cf_mail_ready(&o.m, &two, 1, 1));
    assert_memory_equal(cf_mail_part(&o.m, &two, 1, 0, 4, 4, &e), numbers, 64);
    open_office(&o); /* a gap between pieces */
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 64, numbers, 0, 24, &e), 0);
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 64, numbers, 40, 24, &e), -1);
    open_office(&o); /* rows without columns and columns without rows */
    assert_int_equal(deliver(&o, 5, header(3, 2, 0, 0, 4), numbers), 0);
    assert_true(cf_mail_ready(&o.m, &two, 3, 1));
    assert_int_equal(deliver(&o, 5, header(4, 2, 0, 4, 0), numbers), 0);
    assert_true(cf_mail_ready(&o.m, &two, 4, 1));
    o.slots[0].data = o.slots[1].data = NULL; /* a room whose parts all come through the window has no memory */
    struct cf_error none = {0};
    assert_non_null(cf_mail_part(&o.m, &two, 3, 0, 0, 4, &none));
}

static void a_full_room_refuses(void **state) {
    (void)state;
    struct office o;
    struct cf_error e = {0};
    open_office(&o);
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, 1, 3), numbers), 0);
    assert_int_equal(deliver(&o, 5, header(1, 2, 0, 1, 4), numbers), 0);
    assert_int_equal(deliver(&o, 5, header(2, 2, 0, 1, 4), numbers), 1);
    assert_int_equal(deliver(&o, 7, header(1, 1, 1, 1, 2), numbers + 4), 0); /* its slot is there already */
    assert_int_equal(deliver(&o, 5, header(2, 2, 0, 1, 4), numbers), 1);
    cf_mail_release(&o.m, &one, 1);
    assert_int_equal(deliver(&o, 5, header(2, 2, 0, 1, 4), numbers + 9), 0);
    assert_memory_equal(cf_mail_part(&o.m, &two, 2, 0, 1, 4, &e), numbers + 9, 16);
    assert_memory_equal(cf_mail_part(&o.m, &two, 1, 0, 1, 4, &e), numbers, 16);
}

static void strange_mail_is_an_error(void **state) {
    (void)state;
    struct office o;
    struct cf_error e = {0};
    open_office(&o);
    assert_int_equal(deliver(&o, 5, header(1, 0, 0, 1, 3), numbers), -1); /* brings nothing here */
    assert_int_equal(deliver(&o, 5, header(1, 3, 0, 1, 3), numbers), -1); /* no such exchange */
    assert_int_equal(deliver(&o, 5, header(1, 0xffffffffu, 0, 1, 3), numbers), -1);
    assert_int_equal(deliver(&o, 5, header(1, 1, 2, 1, 3), numbers), -1);        /* no such part */
    assert_int_equal(deliver(&o, 7, header(1, 1, 0, 1, 3), numbers), -1);        /* somebody else's part */
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, ROWS + 1, 3), numbers), -1); /* too many rows */
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, 1, 4), numbers), -1);        /* too many columns */
    Cf__Activation a = header(1, 1, 0, 2, 3);
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 20, numbers, 0, 20, &e), -1); /* not its bytes */
    a.dtype = 1;
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 24, numbers, 0, 24, &e), -1); /* not f32 */
    a.dtype = 0, a.window_slot = 1, a.window_offset = CF_WINDOW_CONTROL;        /* there is no window here */
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 0, NULL, 0, 0, &e), -1);
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 24, numbers, 0, 24, &e), -1);
    for (int i = 0; i < SLOTS; i++)
        assert_false(o.slots[i].used);
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, 1, 3), numbers), 0);
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, 1, 3), numbers), -1); /* twice */
    assert_int_equal(deliver(&o, 7, header(1, 1, 1, 0, 0), numbers), 0);
    assert_int_equal(deliver(&o, 7, header(1, 1, 1, 0, 0), numbers), -1); /* twice, and empty */
    o.m.done_batch = 6;
    assert_int_equal(deliver(&o, 5, header(6, 2, 0, 1, 4), numbers), -1); /* late */
    assert_int_equal(deliver(&o, 5, header(7, 2, 0, 1, 4), numbers), 0);
    o.m.done_batch = 0xfffffffeu; /* numbers go round */
    cf_mail_release(&o.m, &two, 7);
    assert_int_equal(deliver(&o, 5, header(3, 2, 0, 1, 4), numbers), 0);
}

/* A part that comes as many rows or as many columns, never as both, takes less room. */
static void a_part_may_be_smaller_than_rows_by_columns(void **state) {
    (void)state;
    static const struct cf_exchange small = {.id = 1,
        .max_rows = ROWS,
        .n_in = 2,
        .in = {{5, 0, 3, false, 24, CF_DTYPE_F32}, {7, 1, 2, false, 0, CF_DTYPE_F32}}};
    static const struct cf_exchange *const both[] = {NULL, &small};
    struct office o;
    struct cf_error e = {0};
    open_office(&o);
    o.m.exchanges = both, o.m.n_exchanges = 2;
    assert_int_equal(cf_exchange_bytes(&small), (6 + 2 * ROWS) * sizeof(float));
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, 3, 3), numbers), -1);
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, 3, 2), numbers), 0);
    assert_int_equal(deliver(&o, 7, header(1, 1, 1, ROWS, 2), numbers + 6), 0);
    assert_memory_equal(cf_mail_part(&o.m, &small, 1, 0, 3, 2, &e), numbers, 24);
    assert_memory_equal(cf_mail_part(&o.m, &small, 1, 1, ROWS, 2, &e), numbers + 6, 32);
    assert_ptr_equal(cf_mail_part(&o.m, &small, 1, 1, ROWS, 2, &e), o.data[0] + 6);
}

static void nothing_takes_the_place_of_the_exchange(void **state) {
    (void)state;
    static const float zeros[20];
    static const struct cf_exchange end = {
        .id = 1, .max_rows = ROWS, .always = true, .n_in = 1, .in = {{5, 0, 3, false, 0, CF_DTYPE_F32}}};
    static const struct cf_exchange *const both[] = {&two, &end};
    struct office o;
    struct cf_error e = {0};
    struct cf_outlet out = {0};
    open_office(&o);
    o.m.exchanges = both, o.m.n_exchanges = 2, o.m.nothing = zeros;
    assert_true(cf_mail_ready(&o.m, &two, 1, 1));
    assert_ptr_equal(cf_mail_part(&o.m, &two, 1, 0, 4, 4, &e), zeros);
    assert_int_equal(
        cf_mail_send(&o.m, &two, &(struct cf_parcel){1, 0, numbers, {4, 4, 0}}, &out, &e), 0); /* to nobody */
    assert_true(cf_mail_sent(&o.m, &out));
    assert_false(cf_mail_ready(&o.m, &end, 1, 1));
    assert_int_equal(deliver(&o, 5, header(1, 1, 0, 0, 0), numbers), 0);
    assert_true(cf_mail_ready(&o.m, &end, 1, 1));
}

/* Other types than f32 take the room that they need, and only what is due gets in. */
static void types_are_what_was_agreed(void **state) {
    (void)state;
    static const struct cf_exchange packed = {.id = 1,
        .max_rows = ROWS,
        .n_in = 2,
        .in = {{5, 0, 3, false, 8 * ROWS, CF_DTYPE_F16}, {7, 1, 6, false, 64, CF_DTYPE_Q8}}};
    static const struct cf_exchange *const both[] = {NULL, &packed};
    struct office o;
    struct cf_error e = {0};
    open_office(&o);
    o.m.exchanges = both, o.m.n_exchanges = 2, o.m.slot_bytes = 8 * ROWS + 64;
    assert_int_equal(cf_exchange_bytes(&packed), 8 * ROWS + 64);
    Cf__Activation a = header(1, 1, 0, 2, 3), b = header(1, 1, 1, 2, 6);
    /* 2 x 3 halves in lines of 3: 8 bytes each. */
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 24, numbers, 0, 24, &e), -1); /* f32, and as many bytes */
    assert_non_null(strstr(e.text, "rank 5 sent activations of type 0 (f32) where f16 was due"));
    a.dtype = 77;
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 16, numbers, 0, 16, &e), -1);
    assert_non_null(strstr(e.text, "type 77 (?) where f16 was due"));
    a.dtype = CF_DTYPE_F16, a.line = 3;
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 24, numbers, 0, 24, &e), -1); /* too many bytes */
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 12, numbers, 0, 12, &e), -1); /* too few */
    a.line = 2;                                                                 /* lines that do not make rows */
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 16, numbers, 0, 16, &e), -1);
    a.line = 4;
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 16, numbers, 0, 16, &e), -1);
    a.line = 3;
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 16, numbers, 0, 8, &e), 0); /* in pieces */
    assert_int_equal(cf_mail_deliver(&o.m, 5, &a, 16, numbers + 2, 8, 8, &e), 0);
    assert_memory_equal(cf_mail_packed(&o.m, &packed, 1, 0, (struct cf_extent){2, 3, 0}, &e), numbers, 16);
    assert_null(cf_mail_part(&o.m, &packed, 1, 0, 2, 3, &e)); /* those would not be floats */
    /* 2 x 6 numbers of q8 in lines of 3: 4 bytes for the scale, 3, and 1 to fill up. */
    b.dtype = CF_DTYPE_Q8, b.line = 3;
    assert_int_equal(cf_mail_deliver(&o.m, 7, &b, 32, numbers, 0, 32, &e), 0);
    assert_memory_equal(cf_mail_packed(&o.m, &packed, 1, 1, (struct cf_extent){2, 6, 3}, &e), numbers, 32);
    e.code = 0;
    assert_null(cf_mail_packed(&o.m, &packed, 1, 1, (struct cf_extent){2, 6, 6}, &e)); /* other lines than are due */
    assert_int_equal(e.code, CF_ERR_PEER);
    b.batch = 2, b.rows = 4, b.line = 1; /* 24 lines of 8 bytes: more than there is room for */
    assert_int_equal(cf_mail_deliver(&o.m, 7, &b, 192, numbers, 0, 64, &e), -1);
    assert_true(o.guard > 41.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts_arrive_in_any_order),
        cmocka_unit_test(pieces_are_put_together), cmocka_unit_test(a_full_room_refuses),
        cmocka_unit_test(strange_mail_is_an_error), cmocka_unit_test(types_are_what_was_agreed),
        cmocka_unit_test(a_part_may_be_smaller_than_rows_by_columns),
        cmocka_unit_test(nothing_takes_the_place_of_the_exchange)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
