/* Fills the arena: tensor bytes come from the file by pread into a small stage of each thread and go from there,
 * packed, to their place. See weights.h.
 *
 * The work is cut into items of about a megabyte, taken one by one by whichever thread is free, in the order of the
 * file: the disk sees one stream, and ranks of one host walk through the file together, so that what one has brought
 * into the page cache the others find there.
 *
 * A matrix whose columns are split is read whole and cut in memory. With direct reads each rank of the host would fetch
 * it from the disk: such a matrix goes through the page cache even then, and is dropped from it behind the readers. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "node/engine/memory/weights.h"
#include "transport/clock.h"

enum {
    READ_BYTES = 1 << 20,    /* aim of one pread: stays in the second cache until it is packed */
    DIRECT_BYTES = 4 << 20,  /* past the page cache: more at once, for the disk's queue */
    STAGES_BYTES = 32 << 20, /* all stages together, unless there are a great many threads */
    LEAST_BYTES = 256 << 10,
    AHEAD_BYTES = 16 << 20,   /* hinted before it is read */
    BEHIND_BYTES = 512 << 20, /* what slower ranks of this host may lag behind before they read again */
    STAGE_ALIGN = 64,
};

/* A run of tiles of one part of a matrix, or a whole vector. */
struct item {
    struct cf_weight *w;
    struct cf_gguf_part part;
    uint32_t index;        /* of the part, among those held */
    uint32_t tile0, tiles; /* tiles 0: a vector */
};

/* One thread's. */
struct worker {
    struct {
        struct cf_gguf_flight *flight;
        char *stage; /* [room] as the file has it */
    } part[2];       /* the one in hand and, with direct reads, the one behind it */
    float *row;      /* [vector_columns] a decoded vector, all parts */
    double read, pack;
};

struct job {
    const struct cf_load *l;
    struct item *items; /* in the order of the file */
    uint32_t n_items, room_items;
    uint32_t most_bytes; /* of an item */
    size_t stage_bytes;
    uint64_t vector_columns;
    struct worker *workers; /* [threads] */
    uint64_t total;
    _Atomic uint64_t done;
    _Atomic uint32_t next;
    atomic_bool failed;
    struct cf_error error; /* of the first that failed */
};

/* ---- what is to be read ---- */

static int add(struct job *j, const struct item *it, struct cf_error *e) {
    if (j->n_items == j->room_items) {
        uint32_t room = j->room_items ? 2 * j->room_items : 1024;
        struct item *more = realloc(j->items, room * sizeof *more);
        if (!more) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
        j->items = more, j->room_items = room;
    }
    j->items[j->n_items++] = *it;
    j->total += it->part.n;
    if (it->part.n > j->stage_bytes) j->stage_bytes = it->part.n;
    return 0;
}

static int add_matrix(
    struct job *j, struct cf_weight *k, uint32_t part, const struct cf_gguf_tensor *t, struct cf_error *e) {
    bool direct = cf_gguf_is_direct(j->l->gguf), cut = k->c1 - k->c0 < t->ne[0];
    uint32_t aim = direct && !cut ? DIRECT_BYTES : READ_BYTES, tiles = cf_weight_tiles(k);
    if (aim > j->most_bytes) aim = j->most_bytes;
    uint32_t step = (uint32_t)(aim / (t->row_bytes * CF_TILE));
    if (!step) step = 1;
    for (uint32_t tile = 0; tile < tiles; tile += step) {
        uint32_t n = tiles - tile < step ? tiles - tile : step, row = tile * CF_TILE;
        uint32_t rows = k->rows - row < n * CF_TILE ? k->rows - row : n * CF_TILE;
        uint64_t at = (uint64_t)(k->part0 + part) * k->place.part_rows + k->place.row + k->row0 + row;
        struct item it = {k, {t, at * t->row_bytes, rows * t->row_bytes, direct && cut}, part, tile, n};
        if (add(j, &it, e)) return -1;
    }
    return 0;
}

/* A part whose columns are rows of the file: read whole. */
static int add_transposed(
    struct job *j, struct cf_weight *k, uint32_t part, const struct cf_gguf_tensor *t, struct cf_error *e) {
    uint32_t columns = k->c1 - k->c0;
    uint64_t floats = (uint64_t)columns * (t->ne[0] + CF_TILE);
    if (floats > j->vector_columns) j->vector_columns = floats;
    uint64_t at = (uint64_t)(k->part0 + part) * k->place.part_rows + k->place.row;
    return add(
        j, &(struct item){k, {t, at * t->row_bytes, columns * t->row_bytes, false}, part, 0, cf_weight_tiles(k)}, e);
}

static int add_vector(struct job *j, struct cf_weight *k, const struct cf_gguf_tensor *t, struct cf_error *e) {
    if (t->ne[0] * t->ne[1] > j->vector_columns) j->vector_columns = t->ne[0] * t->ne[1];
    return add(j, &(struct item){k, {t, 0, t->bytes, false}, 0, 0, 0}, e);
}

static int add_role(struct job *j, struct cf_weight *k, enum cf_role role, uint32_t layer, struct cf_error *e) {
    const struct cf_gguf_tensor *t = cf_model_tensor(j->l->model, j->l->gguf, role, layer);
    if (!k->tile_bytes) return add_vector(j, k, t, e);
    bool apart = cf_model_parts_apart(j->l->model, role);
    for (uint32_t part = 0; part < k->parts && !j->l->zero; part++) {
        if (apart) t = cf_model_part_tensor(j->l->model, j->l->gguf, role, layer, k->part0 + part);
        if ((k->place.transposed ? add_transposed : add_matrix)(j, k, part, t, e)) return -1;
    }
    return 0;
}

static int compare(const void *a, const void *b) {
    const struct cf_gguf_part *p = &((const struct item *)a)->part, *q = &((const struct item *)b)->part;
    if (p->t->file != q->t->file) return p->t->file < q->t->file ? -1 : 1;
    uint64_t x = p->t->offset + p->offset, y = q->t->offset + q->offset;
    return x < y ? -1 : x > y;
}

static int list(struct job *j, struct cf_weights *w, struct cf_error *e) {
    for (uint32_t l = 0; l < w->n_layers; l++) {
        for (int role = l ? CF_FIRST_LAYER_ROLE : 0; role < CF_ROLES; role++) {
            struct cf_weight *k = cf_weight_of(w, (enum cf_role)role, l);
            if (!k->type) continue;
            if (add_role(j, k, (enum cf_role)role, l, e)) return -1;
        }
    }
    if (j->n_items) qsort(j->items, j->n_items, sizeof *j->items, compare);
    return 0;
}

/* ---- reading it ---- */

static void pack(const struct item *it, const char *data) {
    const struct cf_weight *w = it->w;
    uint64_t row_bytes = it->part.t->row_bytes, rows = it->part.n / row_bytes;
    size_t skip = (size_t)(w->c0 / w->type->block) * w->type->block_bytes;
    for (uint32_t tile = 0; tile < it->tiles; tile++) {
        const void *lanes[CF_TILE];
        for (uint64_t i = 0, row = (uint64_t)tile * CF_TILE; i < CF_TILE; i++, row++)
            lanes[i] = row < rows ? data + row * row_bytes + skip : NULL;
        w->type->pack(
            w->tiles + it->index * cf_weight_part_bytes(w) + (it->tile0 + tile) * w->tile_bytes, lanes, w->c0, w->c1);
    }
}

/* Rows of the file are decoded into k->row, their columns then become rows of f32. */
static void pack_transposed(const struct item *it, const char *data, struct worker *k) {
    const struct cf_weight *w = it->w;
    uint32_t columns = w->c1 - w->c0;
    size_t n = it->part.t->ne[0];
    cf_type_by_id(it->part.t->type)->decode(data, k->row, columns * n);
    float *turned = k->row + columns * n;
    for (uint32_t tile = 0; tile < it->tiles; tile++) {
        const void *lanes[CF_TILE];
        for (uint32_t i = 0; i < CF_TILE; i++) {
            size_t row = (size_t)tile * CF_TILE + i;
            float *to = turned + i * columns;
            lanes[i] = row < w->rows ? to : NULL;
            for (uint32_t c = 0; c < columns && lanes[i]; c++)
                to[c] = k->row[c * n + row];
        }
        w->type->pack(w->tiles + it->index * cf_weight_part_bytes(w) + tile * w->tile_bytes, lanes, 0, columns);
    }
}

static int load_item(const struct item *it, struct worker *k, int part, struct cf_error *e) {
    const char *data;
    double start = cf_now();
    if (cf_gguf_end(k->part[part].flight, &data, e)) return -1;
    double middle = cf_now();
    if (it->w->place.transposed) {
        pack_transposed(it, data, k);
    } else if (it->tiles) {
        pack(it, data);
    } else {
        const struct cf_weight *w = it->w;
        size_t length = it->part.t->ne[0], n = w->c1 - w->c0;
        w->type->decode(data, k->row, length * it->part.t->ne[1]);
        for (uint32_t i = 0; i < w->parts; i++)
            memcpy(w->vector + i * n, k->row + (w->part0 + i) * length + w->place.row + w->c0, n * sizeof(float));
    }
    k->read += middle - start, k->pack += cf_now() - middle;
    return 0;
}

/* Each item passes here once: tells the kernel of the item that lies AHEAD of it, and of the one far BEHIND. */
static void hint(const struct job *j, uint32_t i) {
    const struct item *it = j->items;
    bool direct = cf_gguf_is_direct(j->l->gguf);
    uint32_t ahead = cf_team_size(j->l->team) + AHEAD_BYTES / READ_BYTES;
    uint32_t behind = BEHIND_BYTES / (j->most_bytes < READ_BYTES ? j->most_bytes : READ_BYTES);
    if (j->n_items - i > ahead && (!direct || it[i + ahead].part.cached)) cf_gguf_soon(j->l->gguf, &it[i + ahead].part);
    if (i >= behind && direct) cf_gguf_done(j->l->gguf, &it[i - behind].part);
}

/* The next item, with its reading begun; NULL: none is left. */
static const struct item *take(struct job *j, struct worker *k, int part) {
    uint32_t i = atomic_load(&j->failed) ? j->n_items : atomic_fetch_add(&j->next, 1);
    if (i >= j->n_items) return NULL;
    hint(j, i);
    cf_gguf_begin(k->part[part].flight, &j->items[i].part, k->part[part].stage);
    return &j->items[i];
}

static void load_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct job *j = ctx;
    struct worker *k = &j->workers[thread];
    int parts = cf_gguf_is_direct(j->l->gguf) ? 2 : 1, part = 0;
    for (const struct item *it = take(j, k, 0), *next = NULL; it; it = next) {
        struct cf_error e = {0};
        if (parts == 2) next = take(j, k, !part);
        if (load_item(it, k, part, &e)) {
            bool no = false;
            if (atomic_compare_exchange_strong(&j->failed, &no, true)) j->error = e;
            return;
        }
        atomic_fetch_add(&j->done, it->part.n);
        if (thread == 0 && j->l->progress) j->l->progress(j->l->ctx, atomic_load(&j->done), j->total);
        cf_team_breathe(team, thread);
        if (parts == 2)
            part = !part;
        else
            next = take(j, k, 0);
    }
}

/* The stages are touched by nobody but their threads, so they lie on the node. */
static int open_worker(const struct job *j, struct worker *k, struct cf_error *e) {
    const struct cf_gguf *g = j->l->gguf;
    size_t align = cf_gguf_align(g) > STAGE_ALIGN ? cf_gguf_align(g) : STAGE_ALIGN;
    size_t room = (j->stage_bytes + cf_gguf_slack(g)) / align * align + align;
    for (int i = 0; i < (cf_gguf_is_direct(g) ? 2 : 1); i++) {
        if (cf_gguf_flight_open(&k->part[i].flight, g, e)) return -1;
        k->part[i].stage = aligned_alloc(align, room);
        if (!k->part[i].stage) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    k->row = calloc(j->vector_columns + 1, sizeof *k->row);
    return k->row ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
}

static int open_workers(struct job *j, uint32_t threads, struct cf_error *e) {
    j->workers = calloc(threads, sizeof *j->workers);
    if (!j->workers) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < threads; i++)
        if (open_worker(j, &j->workers[i], e)) return -1;
    return 0;
}

static void close_worker(struct worker *k) {
    for (int i = 0; i < 2; i++) {
        cf_gguf_flight_close(k->part[i].flight); /* before its stage goes */
        free(k->part[i].stage);
    }
    free(k->row);
}

static void close_job(struct job *j, uint32_t threads) {
    for (uint32_t i = 0; i < j->n_items && cf_gguf_is_direct(j->l->gguf); i++)
        cf_gguf_done(j->l->gguf, &j->items[i].part); /* also what somebody else had read into the cache before */
    for (uint32_t i = 0; j->workers && i < threads; i++)
        close_worker(&j->workers[i]);
    free(j->workers);
    free(j->items);
}

int cf_weights_load(struct cf_weights *w, const struct cf_load *l, struct cf_load_stats *stats, struct cf_error *e) {
    struct job j = {.l = l};
    uint32_t threads = cf_team_size(l->team);
    j.most_bytes = STAGES_BYTES / threads / (cf_gguf_is_direct(l->gguf) ? 2 : 1);
    if (j.most_bytes < LEAST_BYTES) j.most_bytes = LEAST_BYTES;
    *stats = (struct cf_load_stats){0};
    int rc = cf__weights_place(w, l->model, l->gguf, l->arena, e) || list(&j, w, e) || open_workers(&j, threads, e);
    if (!rc) {
        cf_team_do(l->team, load_thread, &j, 0);
        stats->bytes = j.total;
        for (uint32_t i = 0; i < threads; i++)
            stats->read += j.workers[i].read / threads, stats->pack += j.workers[i].pack / threads;
        if (atomic_load(&j.failed)) {
            *e = j.error;
            rc = -1;
        }
    }
    close_job(&j, threads);
    return rc ? -1 : 0;
}

int cf_weights_parts(struct cf_weights *w, const struct cf_model *m, const struct cf_gguf *g,
    int (*visit)(void *ctx, const struct cf_gguf_part *part, struct cf_error *e), void *ctx, struct cf_error *e) {
    struct cf_load l = {.model = m, .gguf = g};
    struct job j = {.l = &l, .most_bytes = READ_BYTES};
    int rc = list(&j, w, e);
    for (uint32_t i = 0; i < j.n_items && !rc; i++)
        rc = visit(ctx, &j.items[i].part, e);
    free(j.items);
    return rc;
}
