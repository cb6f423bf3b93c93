/* What a step does where its parts cross hosts as something else than f32 (--wire): it rounds what it gives, once, and
 * goes on itself with what the others will see; and turns what has come into f32. Counts the error on the way.
 */
#include <math.h>
#include <string.h>

#include "node/engine/payload.h"
#include "node/engine/steps/job.h"

/* Numbers that one thread is done with before the others have woken up. */
enum { ALONE = 32768, RUN = 512, LANES = 16 };

/* Lines of a payload, and the same as f32. */
struct lines {
    struct cf_engine *g;
    enum cf_dtype dtype;
    float *x;
    char *packed;
    const char *came;
    uint32_t columns;
    size_t bytes; /* of a packed line */
    atomic_bool not_finite;
};

/* Sums and largest values of up to RUN numbers, in lanes. */
struct error_lanes {
    float error2[LANES], value2[LANES], error[LANES], value[LANES];
};

/* x := y, and what that changed. */
static void replace(float *x, const float *y, uint32_t n, struct error_lanes *l) {
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (uint32_t k = 0; k < LANES; k++) {
            float v = x[i + k], d = y[i + k] - v, a = fabsf(v), b = fabsf(d);
            l->error2[k] += d * d, l->value2[k] += v * v;
            l->error[k] = b > l->error[k] ? b : l->error[k], l->value[k] = a > l->value[k] ? a : l->value[k];
        }
    }
    for (; i < n; i++) {
        float v = x[i], d = y[i] - v;
        l->error2[0] += d * d, l->value2[0] += v * v;
        l->error[0] = fmaxf(l->error[0], fabsf(d)), l->value[0] = fmaxf(l->value[0], fabsf(v));
    }
    memcpy(x, y, n * sizeof *x);
}

static void round_line(struct lines *s, uint32_t line, struct cf_wire_count *count) {
    float *x = s->x + (size_t)line * s->columns, y[RUN];
    char *packed = s->packed + line * s->bytes;
    int64_t cut = cf_payload_pack(s->g->o.kernels, s->dtype, x, s->columns, packed);
    double error = 0, value = 0;
    if (cut < 0) {
        s->not_finite = true;
        return;
    }
    for (uint32_t at = 0; at < s->columns; at += RUN) {
        uint32_t n = s->columns - at < RUN ? s->columns - at : RUN;
        struct error_lanes l = {0};
        cf_payload_unpack(s->dtype, packed, s->columns, at, n, y);
        replace(x + at, y, n, &l);
        for (int k = 0; k < LANES; k++) {
            count->error2 += (double)l.error2[k], count->value2 += (double)l.value2[k];
            error = fmax(error, (double)l.error[k]), value = fmax(value, (double)l.value[k]);
        }
    }
    count->values += s->columns, count->cut += (uint64_t)cut;
    if (value > 0) count->most = fmax(count->most, error / value);
}

static void round_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct lines *s = ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++)
            round_line(s, first, &s->g->wire_counts[thread]);
}

static struct lines lines_of(struct cf_engine *g, enum cf_dtype dtype, struct cf_extent s) {
    uint32_t columns = cf_extent_line(s);
    return (struct lines){.g = g, .dtype = dtype, .columns = columns, .bytes = cf_payload_bytes(dtype, 1, columns)};
}

static bool few(struct cf_extent s) {
    return (size_t)s.rows * s.columns <= ALONE;
}

int cf__round(
    struct cf_engine *g, const struct cf_route *r, float *x, struct cf_extent shape, char *packed, struct cf_error *e) {
    uint32_t lines = (uint32_t)cf_extent_lines(shape), threads = cf_team_size(g->o.team);
    struct lines s = lines_of(g, g->plan.wire, shape);
    if (g->mail.nothing || !lines) return 0; /* the exchange is left out */
    s.x = x, s.packed = packed;
    memset(g->wire_counts, 0, threads * sizeof *g->wire_counts);
    if (few(shape))
        for (uint32_t i = 0; i < lines; i++)
            round_line(&s, i, &g->wire_counts[0]);
    else
        cf_team_do(g->o.team, round_thread, &s, lines);
    for (uint32_t i = 0; i < threads; i++)
        cf_wire_count_add(&g->own.wire[r->step], &g->wire_counts[i]);
    if (!s.not_finite) return 0;
    return cf_fail(e, CF_ERR_NUMERIC, "layer %u: a non-finite activation on its way to another host (%s)", r->x.layer,
        cf_step_name(r->step));
}

static void unpack_lines(const struct lines *s, uint32_t first, uint32_t last) {
    for (uint32_t i = first; i < last; i++)
        cf_payload_unpack(s->dtype, s->came + i * s->bytes, s->columns, 0, s->columns, s->x + (size_t)i * s->columns);
}

static void unpack_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last))
        unpack_lines(ctx, first, last);
}

const float *cf__part(struct cf_engine *g, const struct cf_context *c, const struct cf_route *r, uint32_t k,
    struct cf_extent due, struct cf_error *e) {
    enum cf_dtype dtype = r->x.in[k].dtype;
    const void *came = cf_mail_packed(&g->mail, &r->x, c->id, k, due, e);
    if (!came || dtype == CF_DTYPE_F32) return came;
    struct lines s = lines_of(g, dtype, due);
    uint32_t lines = (uint32_t)cf_extent_lines(due);
    s.came = came, s.x = g->unpacked + g->unpacked_floats;
    g->unpacked_floats += (size_t)due.rows * due.columns;
    if (few(due))
        unpack_lines(&s, 0, lines);
    else
        cf_team_do(g->o.team, unpack_thread, &s, lines);
    return s.x;
}

int cf__send_stage(struct cf_engine *g, struct cf_context *c, const struct cf_route *r, uint32_t k,
    struct cf_extent shape, struct cf_error *e) {
    bool packs = r->x.out[k].dtype != CF_DTYPE_F32;
    struct cf_parcel p = {c->id, k, packs ? (const void *)c->stage_out.packed : c->stage, shape};
    return cf_mail_send(&g->mail, &r->x, &p, &c->stage_out, e);
}
