/* See weights.h. Rows are read in runs of whole tiles; a matrix whose columns are split is read whole and cut in
 * memory. */
#include "node/engine/weights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 1 << 20 }; /* aim of one pread */

static void measure(struct cf_weights *w, const struct cf_model *m, const struct cf_gguf *g, enum cf_role role,
    uint32_t layer, uint32_t first, uint32_t last) {
    if (role == CF_W_OUTPUT && m->tied) return;
    const struct cf_gguf_tensor *t = cf_model_tensor(m, g, role, layer);
    if (!t) return;
    struct cf_weight *k = cf_weight_of(w, role, layer);
    struct cf_slice s = cf_model_slice(m, role, first, last);
    bool vector = t->n_dims < 2 || t->ne[1] == 1;
    k->type = cf_type_by_id(t->type);
    enum cf_domain d = cf_tensor_specs[role].domain;
    if (vector) {
        /* A vector split with the rows of its matrix: the slice's rows are its columns. */
        bool split = cf_tensor_specs[role].split != CF_SPLIT_REPLICATED;
        k->c0 = split ? s.row0 : 0, k->c1 = split ? s.row1 : (uint32_t)t->ne[0];
        w->bytes[d] += (k->c1 - k->c0) * sizeof(float);
    } else {
        k->row0 = s.row0, k->rows = s.row1 - s.row0, k->c0 = s.c0, k->c1 = s.c1;
        k->tile_bytes = k->type->tile_bytes(k->c0, k->c1);
        w->bytes[d] += (uint64_t)cf_weight_tiles(k) * k->tile_bytes;
    }
    w->tensors[d]++;
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
            /* The bias behind a sum is added by whoever receives the sum. */
            if (role == CF_W_O_BIAS && cf_plan_member(cf_plan_find(p, CF_RIGHT_HEMI, l), rank, NULL, NULL) >= 0)
                member = true, first = last = 0;
            if (member) measure(w, m, g, (enum cf_role)role, l, first, last);
        }
    }
    return 0;
}

uint64_t cf_weights_bytes(const struct cf_weights *w) {
    uint64_t sum = 0;
    for (int d = 0; d < CF_DOMAINS; d++)
        sum += w->bytes[d] + w->tensors[d] * 4096ull;
    return sum;
}

/* One run of tiles of one matrix. */
struct load_item {
    struct cf_weight *w;
    const struct cf_gguf_tensor *t;
    uint32_t tile0, tile1;
};

struct load_job {
    const struct cf_gguf *g;
    struct load_item *items;
    uint32_t n_items;
    size_t stage_bytes;
    char **stages; /* [threads] */
    uint64_t total;
    _Atomic uint64_t done;
    atomic_bool failed;
    struct cf_error error; /* of the first that failed */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

static int load_tiles(struct load_job *j, const struct load_item *it, char *stage, struct cf_error *e) {
    const struct cf_weight *w = it->w;
    uint32_t row0 = it->tile0 * CF_TILE, rows = w->rows - row0;
    if (rows > (it->tile1 - it->tile0) * CF_TILE) rows = (it->tile1 - it->tile0) * CF_TILE;
    uint64_t row_bytes = it->t->row_bytes;
    if (cf_gguf_read(j->g, it->t, (w->row0 + row0) * row_bytes, stage, rows * row_bytes, e)) return -1;
    size_t skip = (size_t)(w->c0 / w->type->block) * w->type->block_bytes;
    for (uint32_t r = 0; r < rows; r += CF_TILE) {
        const void *lanes[CF_TILE];
        for (uint32_t i = 0; i < CF_TILE; i++)
            lanes[i] = r + i < rows ? stage + (r + i) * row_bytes + skip : NULL;
        w->type->pack(w->tiles + (it->tile0 + r / CF_TILE) * w->tile_bytes, lanes, w->c0, w->c1);
    }
    atomic_fetch_add(&j->done, rows * row_bytes);
    return 0;
}

static void load_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct load_job *j = ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        if (atomic_load(&j->failed)) continue;
        struct cf_error e = {0};
        if (load_tiles(j, &j->items[first], j->stages[thread], &e)) {
            bool no = false;
            if (atomic_compare_exchange_strong(&j->failed, &no, true)) j->error = e;
        }
        if (thread == 0 && j->progress) j->progress(j->ctx, atomic_load(&j->done), j->total);
    }
}

static int load_vector(
    struct cf_weight *w, const struct cf_gguf *g, const struct cf_gguf_tensor *t, struct cf_error *e) {
    char *raw = malloc(t->bytes ? t->bytes : 1);
    float *all = malloc((t->ne[0] + 1) * sizeof(float));
    int rc = -1;
    if (!raw || !all) {
        cf_fail(e, CF_ERR_MEMORY, "out of memory");
    } else if (!cf_gguf_read(g, t, 0, raw, t->bytes, e)) {
        w->type->decode(raw, all, t->ne[0]);
        memcpy(w->vector, all + w->c0, (w->c1 - w->c0) * sizeof(float));
        rc = 0;
    }
    free(raw);
    free(all);
    return rc;
}

/* Gives each weight its place; loads vectors; lists the tile runs. */
static int place(struct cf_weights *w, const struct cf_model *m, struct load_job *j, struct cf_arena *arena, bool zero,
    struct cf_error *e) {
    uint32_t room = 0;
    for (uint32_t l = 0; l < m->n_layers; l++) {
        for (int role = l ? CF_FIRST_LAYER_ROLE : 0; role < CF_ROLES; role++) {
            struct cf_weight *k = cf_weight_of(w, (enum cf_role)role, l);
            if (!k->type) continue;
            const struct cf_gguf_tensor *t = cf_model_tensor(m, j->g, (enum cf_role)role, l);
            if (!k->tile_bytes) {
                k->vector = cf_arena_take(arena, (k->c1 - k->c0) * sizeof(float), 64);
                if (!k->vector) return cf_fail(e, CF_ERR_MEMORY, "the arena is full at tensor %s", t->name);
                if (load_vector(k, j->g, t, e)) return -1;
                continue;
            }
            uint32_t tiles = cf_weight_tiles(k);
            k->tiles = cf_arena_take(arena, tiles * k->tile_bytes, 4096);
            if (!k->tiles) return cf_fail(e, CF_ERR_MEMORY, "the arena is full at tensor %s", t->name);
            if (zero) continue;
            uint32_t step = (uint32_t)(READ_BYTES / (t->row_bytes * CF_TILE));
            if (!step) step = 1;
            if (step * CF_TILE * t->row_bytes > j->stage_bytes) j->stage_bytes = step * CF_TILE * t->row_bytes;
            for (uint32_t tile = 0; tile < tiles; tile += step) {
                if (j->n_items == room) {
                    room = room ? 2 * room : 1024;
                    struct load_item *more = realloc(j->items, room * sizeof *more);
                    if (!more) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
                    j->items = more;
                }
                j->items[j->n_items++] = (struct load_item){k, t, tile, tile + step < tiles ? tile + step : tiles};
            }
            j->total += (uint64_t)k->rows * t->row_bytes;
        }
    }
    return 0;
}

int cf_weights_load(struct cf_weights *w, const struct cf_model *m, const struct cf_gguf *g, struct cf_arena *arena,
    struct cf_team *team, bool zero, void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
    struct cf_error *e) {
    struct load_job j = {.g = g, .progress = progress, .ctx = ctx};
    uint32_t threads = cf_team_size(team);
    int rc = place(w, m, &j, arena, zero, e);
    j.stages = calloc(threads, sizeof *j.stages);
    for (uint32_t i = 0; !rc && j.stages && i < threads; i++)
        if (!(j.stages[i] = malloc(j.stage_bytes ? j.stage_bytes : 1))) rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!j.stages) rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!rc) {
        cf_team_do(team, load_thread, &j, j.n_items);
        if (atomic_load(&j.failed)) {
            *e = j.error;
            rc = -1;
        }
    }
    for (uint32_t i = 0; j.stages && i < threads; i++)
        free(j.stages[i]);
    free(j.stages);
    free(j.items);
    return rc;
}

void cf_weights_free(struct cf_weights *w) {
    free(w->w);
    memset(w, 0, sizeof *w);
}
