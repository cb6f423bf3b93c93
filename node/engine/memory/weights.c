/* See weights.h: what a rank must hold, and where in its arena. load.c fills it. */
#include "node/engine/memory/weights.h"

#include <stdlib.h>
#include <string.h>

static void measure(struct cf_weights *w, const struct cf_model *m, const struct cf_gguf *g, enum cf_role role,
    uint32_t layer, uint32_t first, uint32_t last) {
    if (role == CF_W_OUTPUT && m->tied) return;
    const struct cf_gguf_tensor *t = cf_model_tensor(m, g, role, layer);
    struct cf_slice s = cf_model_slice(m, role, first, last);
    if (!t || s.part0 == s.part1 || s.row0 == s.row1 || s.c0 == s.c1) return;
    struct cf_weight *k = cf_weight_of(w, role, layer);
    const struct cf_tensor_spec *spec = &cf_tensor_specs[role];
    k->place = cf_model_place(m, role), k->type = cf_type_by_id(k->place.transposed ? CF_TYPE_F32 : t->type),
    k->c0 = s.c0, k->c1 = s.c1;
    if (spec->vector) {
        k->part0 = s.row0, k->parts = s.row1 - s.row0, k->rows = 1;
        w->bytes[spec->domain] += (uint64_t)k->parts * (k->c1 - k->c0) * sizeof(float);
    } else {
        k->part0 = s.part0, k->parts = s.part1 - s.part0, k->row0 = s.row0, k->rows = s.row1 - s.row0;
        k->tile_bytes = k->type->tile_bytes(k->c0, k->c1);
        w->bytes[spec->domain] += k->parts * cf_weight_part_bytes(k);
    }
    w->tensors[spec->domain]++;
}

int cf_weights_measure(struct cf_weights *w, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    int rank, struct cf_error *e) {
    memset(w, 0, sizeof *w);
    w->n_layers = m->n_layers;
    w->w = calloc(m->n_layers + 1, sizeof *w->w);
    if (!w->w) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t l = 0; l < m->n_layers; l++) {
        for (int role = l ? CF_FIRST_LAYER_ROLE : 0; role < CF_ROLES; role++) {
            uint32_t first, last;
            const struct cf_plan_row *row = cf_plan_find(p, cf_tensor_specs[role].domain, l);
            bool member = cf_plan_member(row, rank, &first, &last) >= 0;
            if (cf_tensor_specs[role].of_sum && !member) {
                enum cf_domain other = cf_tensor_specs[role].domain == CF_LEFT_HEMI ? CF_RIGHT_HEMI : CF_LEFT_HEMI;
                member = cf_plan_member(cf_plan_find(p, other, l), rank, NULL, NULL) >= 0, first = last = 0;
            }
            if (member) measure(w, m, g, (enum cf_role)role, l, first, last);
        }
    }
    return 0;
}

uint64_t cf_weights_bytes(const struct cf_weights *w) {
    uint64_t sum = 0;
    for (int d = 0; d < CF_DOMAINS; d++)
        sum += w->bytes[d] + w->tensors[d] * (uint64_t)CF__WEIGHT_ALIGN;
    return sum;
}

/* Gives each weight its place in the arena. */
int cf__weights_place(struct cf_weights *w, const struct cf_model *m, const struct cf_gguf *g, struct cf_arena *arena,
    struct cf_error *e) {
    for (uint32_t l = 0; l < m->n_layers; l++) {
        for (int role = l ? CF_FIRST_LAYER_ROLE : 0; role < CF_ROLES; role++) {
            struct cf_weight *k = cf_weight_of(w, (enum cf_role)role, l);
            if (!k->type) continue;
            void *at;
            if (k->tile_bytes)
                at = k->tiles = cf_arena_take(arena, k->parts * cf_weight_part_bytes(k), CF__WEIGHT_ALIGN);
            else
                at = k->vector =
                    cf_arena_take(arena, (size_t)k->parts * (k->c1 - k->c0) * sizeof(float), CF_TILE * sizeof(float));
            if (!at)
                return cf_fail(e, CF_ERR_MEMORY, "the arena is full at tensor %s",
                    cf_model_tensor(m, g, (enum cf_role)role, l)->name);
        }
    }
    return 0;
}

void cf_weights_free(struct cf_weights *w) {
    free(w->w);
    memset(w, 0, sizeof *w);
}
