/* See wire.h. */
#include "proto/wire.h"

#include <string.h>

static const unsigned char frame_magic[4] = {'C', 'F', 'R', '1'};

/* ---- scratch ---- */

static void *scratch_alloc(void *data, size_t size) {
    struct cf_scratch *s = data;
    const size_t align = _Alignof(max_align_t);
    size_t start = (s->used + align - 1) / align * align;
    if (start > s->capacity || size > s->capacity - start) {
        s->used = s->capacity + 1; // remembered: unpack() tells "too large" from "malformed" by it
        return NULL;
    }
    s->used = start + size;
    return s->memory + start;
}

static void scratch_free(void *data, void *pointer) {
    (void)data;
    (void)pointer;
}

void cf_scratch_init(struct cf_scratch *s, void *memory, size_t capacity) {
    *s = (struct cf_scratch){.memory = memory, .capacity = capacity};
    s->allocator = (ProtobufCAllocator){.alloc = scratch_alloc, .free = scratch_free, .allocator_data = s};
}

Cf__Envelope *cf_wire_unpack(struct cf_scratch *s, const void *data, size_t bytes, struct cf_error *e) {
    s->used = 0;
    Cf__Envelope *env = cf__envelope__unpack(&s->allocator, bytes, data);
    if (!env) {
        if (s->used > s->capacity)
            cf_fail(e, CF_ERR_LIMIT, "a message of %zu bytes needs more than %zu bytes of memory", bytes, s->capacity);
        else
            cf_fail(e, CF_ERR_FORMAT, "a message of %zu bytes is malformed", bytes);
        return NULL;
    }
    return cf_wire_check(env, e) ? NULL : env;
}

/* ---- what a message may claim ---- */

static int check_text(const char *text, const char *field, struct cf_error *e) {
    if (!text || strnlen(text, CF_WIRE_TEXT_MOST + 1) <= CF_WIRE_TEXT_MOST) return 0;
    return cf_fail(e, CF_ERR_FORMAT, "%s: a text longer than %d bytes", field, CF_WIRE_TEXT_MOST);
}

static int check_error(const Cf__Error *error, struct cf_error *e) {
    if (!error) return 0;
    if (check_text(error->text, "Error.text", e)) return -1;
    return check_text(error->host, "Error.host", e);
}

static int check_hello(const Cf__Hello *hello, struct cf_error *e) {
    if (check_text(hello->program, "Hello.program", e) || check_text(hello->host, "Hello.host", e)) return -1;
    return check_error(hello->error, e);
}

static int check_verdict(const Cf__Verdict *verdict, struct cf_error *e) {
    if (verdict->n_hellos > CF_WIRE_ROWS_MOST) return cf_fail(e, CF_ERR_FORMAT, "Verdict.hellos: too many");
    for (size_t i = 0; i < verdict->n_hellos; i++)
        if (check_hello(verdict->hellos[i], e)) return -1;
    return 0;
}

static int check_checkup(const Cf__Checkup *c, struct cf_error *e) {
    const struct {
        const char *text, *field;
    } texts[] = {{c->program, "Checkup.program"}, {c->mpi, "Checkup.mpi"}, {c->kernel, "Checkup.kernel"},
        {c->isa, "Checkup.isa"}, {c->governor, "Checkup.governor"}, {c->thp, "Checkup.thp"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (check_text(texts[i].text, texts[i].field, e)) return -1;
    if (c->n_cpus > CF_WIRE_ROWS_MOST || c->n_links > CF_WIRE_ROWS_MOST)
        return cf_fail(e, CF_ERR_FORMAT, "Checkup: %zu cores and %zu links are too many", c->n_cpus, c->n_links);
    return check_error(c->model_error, e) || check_error(c->error, e) ? -1 : 0;
}

static int check_ship_model(const Cf__ShipModel *m, struct cf_error *e) {
    if (m->n_files > CF_WIRE_ROWS_MOST || m->n_lacking > CF_WIRE_ROWS_MOST)
        return cf_fail(e, CF_ERR_FORMAT, "ShipModel: %zu files, %zu ranks", m->n_files, m->n_lacking);
    for (size_t i = 0; i < m->n_files; i++)
        if (check_text(m->files[i]->name, "ShipFile.name", e)) return -1;
    return 0;
}

static int check_batch(const Cf__Batch *batch, struct cf_error *e) {
    size_t rows = batch->n_token;
    if (rows > CF_WIRE_ROWS_MOST) return cf_fail(e, CF_ERR_FORMAT, "Batch: %zu rows", rows);
    if (batch->n_sequence != rows || batch->n_position != rows)
        return cf_fail(e, CF_ERR_FORMAT, "Batch: %zu tokens, but %zu sequences and %zu positions", rows,
            batch->n_sequence, batch->n_position);
    if (batch->n_want > rows) return cf_fail(e, CF_ERR_FORMAT, "Batch: logits of %zu of %zu rows", batch->n_want, rows);
    for (size_t i = 0; i < batch->n_want; i++)
        if (batch->want[i] >= rows) return cf_fail(e, CF_ERR_FORMAT, "Batch.want: row %u of %zu", batch->want[i], rows);
    return 0;
}

int cf_wire_check(const Cf__Envelope *env, struct cf_error *e) {
    if (env->piece_offset > env->payload_bytes || env->piece_bytes > env->payload_bytes - env->piece_offset)
        return cf_fail(e, CF_ERR_FORMAT, "a piece lies outside of its payload");
    if (env->piece_bytes == 0 && env->payload_bytes != 0) return cf_fail(e, CF_ERR_FORMAT, "a piece is empty");
    switch (env->body_case) {
    case CF__ENVELOPE__BODY_HELLO: return check_hello(env->hello, e);
    case CF__ENVELOPE__BODY_VERDICT: return check_verdict(env->verdict, e);
    case CF__ENVELOPE__BODY_BATCH: return check_batch(env->batch, e);
    case CF__ENVELOPE__BODY_CHECKUP: return check_checkup(env->checkup, e);
    case CF__ENVELOPE__BODY_SHIP_MODEL: return check_ship_model(env->ship_model, e);
    case CF__ENVELOPE__BODY_READY: return check_text(env->ready->note, "Ready.note", e);
    case CF__ENVELOPE__BODY_WINDOW: return check_text(env->window->note, "Window.note", e);
    case CF__ENVELOPE__BODY_ERROR: return check_error(env->error, e);
    case CF__ENVELOPE__BODY__NOT_SET: return cf_fail(e, CF_ERR_FORMAT, "a message without a body that is known here");
    default: return 0;
    }
}

/* ---- packing ---- */

/* The envelope without its head: a copy that shares the body. */
static Cf__Envelope body_of(const Cf__Envelope *env) {
    Cf__Envelope body = *env;
    body.sequence = body.credits = body.piece_bytes = 0;
    body.payload_bytes = body.piece_offset = 0;
    body.piece_inline = 0;
    return body;
}

size_t cf_wire_body_bytes(const Cf__Envelope *env) {
    Cf__Envelope body = body_of(env);
    return cf__envelope__get_packed_size(&body);
}

int cf_wire_pack_body(const Cf__Envelope *env, void *buffer, size_t capacity, size_t *bytes, struct cf_error *e) {
    Cf__Envelope body = body_of(env);
    size_t n = cf__envelope__get_packed_size(&body);
    if (n > capacity) return cf_fail(e, CF_ERR_LIMIT, "a message of %zu bytes; at most %zu fit", n, capacity);
    *bytes = cf__envelope__pack(&body, buffer);
    return 0;
}

/* ---- frames ---- */

size_t cf_frame_payload_offset(size_t envelope_bytes) {
    return (CF_FRAME_PREFIX + envelope_bytes + CF_FRAME_ALIGN - 1) / CF_FRAME_ALIGN * CF_FRAME_ALIGN;
}

size_t cf_frame_pack(const Cf__Envelope *head, const void *body, size_t body_bytes, void *buffer, size_t capacity) {
    unsigned char *out = buffer;
    if (capacity < CF_FRAME_PREFIX + CF_HEAD_MOST + CF_FRAME_ALIGN ||
        body_bytes > capacity - CF_FRAME_PREFIX - CF_HEAD_MOST - CF_FRAME_ALIGN)
        return 0;
    Cf__Envelope bare = *head;
    bare.body_case = CF__ENVELOPE__BODY__NOT_SET;
    size_t envelope_bytes = cf__envelope__pack(&bare, out + CF_FRAME_PREFIX);
    if (body_bytes) memcpy(out + CF_FRAME_PREFIX + envelope_bytes, body, body_bytes);
    envelope_bytes += body_bytes;
    memset(out, 0, CF_FRAME_PREFIX);
    memcpy(out, frame_magic, sizeof frame_magic);
    for (unsigned i = 0; i < 4; i++)
        out[4 + i] = (unsigned char)(envelope_bytes >> (8 * i));
    size_t end = cf_frame_payload_offset(envelope_bytes);
    memset(out + CF_FRAME_PREFIX + envelope_bytes, 0, end - CF_FRAME_PREFIX - envelope_bytes);
    return end;
}

int cf_frame_open(const void *frame, size_t bytes, const void **envelope, size_t *envelope_bytes, const void **payload,
    size_t *payload_bytes, struct cf_error *e) {
    const unsigned char *in = frame;
    if (bytes < CF_FRAME_PREFIX || memcmp(in, frame_magic, sizeof frame_magic) != 0)
        return cf_fail(e, CF_ERR_FORMAT, "%zu bytes that are no message of coffer's", bytes);
    size_t n = (size_t)in[4] | (size_t)in[5] << 8 | (size_t)in[6] << 16 | (size_t)in[7] << 24;
    if (n > bytes - CF_FRAME_PREFIX || cf_frame_payload_offset(n) > bytes)
        return cf_fail(e, CF_ERR_FORMAT, "a message of %zu bytes claims an envelope of %zu", bytes, n);
    *envelope = in + CF_FRAME_PREFIX;
    *envelope_bytes = n;
    *payload = in + cf_frame_payload_offset(n);
    *payload_bytes = bytes - cf_frame_payload_offset(n);
    return 0;
}
