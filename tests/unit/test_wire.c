/* The wire format against honest and hostile messages: bounds, truncation, and a bound on what may be allocated. */
#include "proto/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/random.h"

enum { SCRATCH = 64 * 1024 };

static unsigned char memory[SCRATCH + 16];

static Cf__Envelope *unpack(struct cf_scratch *s, size_t capacity, const void *data, size_t n, struct cf_error *e) {
    cf_scratch_init(s, memory, capacity);
    return cf_wire_unpack(s, data, n, e);
}

static size_t pack_batch(unsigned char *out, size_t capacity, size_t rows, size_t positions, uint32_t want) {
    uint32_t *list = calloc(rows + positions + 1, sizeof *list);
    Cf__Batch batch = CF__BATCH__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    batch.n_token = batch.n_sequence = rows;
    batch.n_position = positions;
    batch.token = batch.sequence = batch.position = list;
    batch.want = &want;
    batch.n_want = 1;
    env.body_case = CF__ENVELOPE__BODY_BATCH;
    env.batch = &batch;
    size_t n = 0;
    struct cf_error e;
    assert_int_equal(cf_wire_pack_body(&env, out, capacity, &n, &e), 0);
    free(list);
    return n;
}

static void frame_carries_head_body_and_payload(void **state) {
    (void)state;
    unsigned char frame[512], body[256];
    Cf__Activation activation = CF__ACTIVATION__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT, head = CF__ENVELOPE__INIT;
    struct cf_error e;
    size_t n;
    activation.layer = 7;
    activation.columns = 4096;
    env.body_case = CF__ENVELOPE__BODY_ACTIVATION;
    env.activation = &activation;
    env.sequence = 99; // of the head: not packed with the body
    assert_int_equal(cf_wire_pack_body(&env, body, sizeof body, &n, &e), 0);
    head.sequence = UINT32_MAX;
    head.credits = 2;
    head.payload_bytes = 100;
    head.piece_offset = 90;
    head.piece_bytes = 10;
    head.piece_inline = 1;
    size_t at = cf_frame_pack(&head, body, n, frame, sizeof frame);
    assert_true(at > 0 && at % CF_FRAME_ALIGN == 0);
    memcpy(frame + at, "0123456789", 10);
    const void *packed, *payload;
    size_t packed_bytes, payload_bytes;
    assert_int_equal(cf_frame_open(frame, at + 10, &packed, &packed_bytes, &payload, &payload_bytes, &e), 0);
    assert_int_equal(payload_bytes, 10);
    assert_memory_equal(payload, "0123456789", 10);
    struct cf_scratch s;
    Cf__Envelope *got = unpack(&s, SCRATCH, packed, packed_bytes, &e);
    assert_non_null(got);
    assert_int_equal(got->sequence, UINT32_MAX);
    assert_int_equal(got->credits, 2);
    assert_int_equal(got->piece_offset, 90);
    assert_int_equal(got->body_case, CF__ENVELOPE__BODY_ACTIVATION);
    assert_int_equal(got->activation->columns, 4096);
}

static void largest_head_fits(void **state) {
    (void)state;
    Cf__Envelope head = CF__ENVELOPE__INIT;
    head.sequence = head.credits = head.piece_bytes = UINT32_MAX;
    head.payload_bytes = head.piece_offset = UINT64_MAX;
    head.piece_inline = 1;
    assert_in_range(cf__envelope__get_packed_size(&head), 1, CF_HEAD_MOST);
}

static void packing_respects_capacity(void **state) {
    (void)state;
    unsigned char out[4096];
    struct cf_error e;
    size_t n, full = pack_batch(out, sizeof out, 300, 300, 0);
    Cf__Envelope env = CF__ENVELOPE__INIT, head = CF__ENVELOPE__INIT;
    Cf__Ready ready = CF__READY__INIT;
    char note[101] = {0};
    memset(note, 'x', 100);
    ready.note = note;
    env.body_case = CF__ENVELOPE__BODY_READY;
    env.ready = &ready;
    assert_int_equal(cf_wire_pack_body(&env, out, 100, &n, &e), -1);
    assert_int_equal(e.code, CF_ERR_LIMIT);
    assert_int_equal(cf_frame_pack(&head, out, full, out + 2048, full + 40), 0);
}

static void every_truncation_is_an_error_or_another_message(void **state) {
    (void)state;
    unsigned char out[4096];
    size_t n = pack_batch(out, sizeof out, 50, 50, 3);
    struct cf_error e;
    struct cf_scratch s;
    assert_non_null(unpack(&s, SCRATCH, out, n, &e));
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *copy = malloc(cut + 1); // of its own, so that a sanitizer sees every byte read too far
        memcpy(copy, out, cut);
        assert_null(unpack(&s, SCRATCH, copy, cut, &e));
        assert_true(e.code == CF_ERR_FORMAT || e.code == CF_ERR_LIMIT);
        free(copy);
    }
}

static void lists_must_agree(void **state) {
    (void)state;
    unsigned char out[4096];
    struct cf_error e;
    struct cf_scratch s;
    size_t n = pack_batch(out, sizeof out, 50, 49, 0);
    assert_null(unpack(&s, SCRATCH, out, n, &e));
    assert_non_null(strstr(e.text, "49 positions"));
    n = pack_batch(out, sizeof out, 50, 50, 50);
    assert_null(unpack(&s, SCRATCH, out, n, &e));
    assert_non_null(strstr(e.text, "row 50 of 50"));
}

static void pieces_lie_within_payloads(void **state) {
    (void)state;
    Cf__Heartbeat heartbeat = CF__HEARTBEAT__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    struct cf_error e;
    env.body_case = CF__ENVELOPE__BODY_HEARTBEAT;
    env.heartbeat = &heartbeat;
    assert_int_equal(cf_wire_check(&env, &e), 0);
    env.payload_bytes = 10;
    assert_int_equal(cf_wire_check(&env, &e), -1);
    env.piece_bytes = 10;
    assert_int_equal(cf_wire_check(&env, &e), 0);
    env.piece_offset = 1;
    assert_int_equal(cf_wire_check(&env, &e), -1);
    env.piece_offset = UINT64_MAX - 4; // offset + bytes would wrap around
    assert_int_equal(cf_wire_check(&env, &e), -1);
    env.body_case = CF__ENVELOPE__BODY__NOT_SET;
    assert_int_equal(cf_wire_check(&env, &e), -1);
}

/* Thousands of empty sub-messages: two bytes on the wire, more than a hundred in memory. */
static void memory_is_bounded(void **state) {
    (void)state;
    enum { HELLOS = 20000 };
    static unsigned char out[2 * HELLOS + 16];
    size_t body = 2 * HELLOS, n = 0;
    unsigned tag = 28u << 3 | 2; // Envelope.verdict
    out[n++] = (unsigned char)(tag | 0x80), out[n++] = (unsigned char)(tag >> 7);
    for (; body > 127; body >>= 7)
        out[n++] = (unsigned char)(body | 0x80);
    out[n++] = (unsigned char)body;
    for (int i = 0; i < HELLOS; i++)
        out[n++] = 1 << 3 | 2, out[n++] = 0; // Verdict.hellos, length 0
    struct cf_error e;
    struct cf_scratch s;
    memset(memory + SCRATCH, 0x5a, 16);
    assert_null(unpack(&s, SCRATCH, out, n, &e));
    assert_int_equal(e.code, CF_ERR_LIMIT);
    for (int i = 0; i < 16; i++)
        assert_int_equal(memory[SCRATCH + i], 0x5a);
}

static void garbage_never_harms(void **state) {
    (void)state;
    unsigned char seed[4096], mutant[4096];
    size_t n = pack_batch(seed, sizeof seed, 40, 40, 3);
    uint64_t random = 7;
    struct cf_error e;
    for (int i = 0; i < 20000; i++) {
        memcpy(mutant, seed, n);
        for (int k = 0; k < 4; k++) {
            cf_random(&random);
            mutant[(random >> 33) % n] = (unsigned char)(random >> 20);
        }
        struct cf_scratch s;
        unpack(&s, 4096, mutant, n, &e);
    }
}

static void frames_are_checked(void **state) {
    (void)state;
    unsigned char frame[64] = {'C', 'F', 'R', '1', 48, 0, 0, 0};
    const void *packed, *payload;
    size_t packed_bytes, payload_bytes;
    struct cf_error e;
    assert_int_equal(cf_frame_open(frame, 64, &packed, &packed_bytes, &payload, &payload_bytes, &e), 0);
    assert_int_equal(payload_bytes, 0);
    assert_int_equal(cf_frame_open(frame, 63, &packed, &packed_bytes, &payload, &payload_bytes, &e), -1);
    assert_int_equal(cf_frame_open(frame, 15, &packed, &packed_bytes, &payload, &payload_bytes, &e), -1);
    memset(frame + 4, 0xff, 4);
    assert_int_equal(cf_frame_open(frame, 64, &packed, &packed_bytes, &payload, &payload_bytes, &e), -1);
    frame[3] = '2';
    assert_int_equal(cf_frame_open(frame, 64, &packed, &packed_bytes, &payload, &payload_bytes, &e), -1);
    assert_int_equal(e.code, CF_ERR_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_carries_head_body_and_payload),
        cmocka_unit_test(largest_head_fits),
        cmocka_unit_test(packing_respects_capacity),
        cmocka_unit_test(every_truncation_is_an_error_or_another_message),
        cmocka_unit_test(lists_must_agree),
        cmocka_unit_test(pieces_lie_within_payloads),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(garbage_never_harms),
        cmocka_unit_test(frames_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
