/* The slices of the model that one rank holds: measured from the plan (weights.c), then read, cut and packed into its
 * arena (load.c). */
#ifndef COFFER_NODE_ENGINE_WEIGHTS_H
#define COFFER_NODE_ENGINE_WEIGHTS_H

#include "node/memory/arena.h"
#include "node/memory/team.h"
#include "node/model/plan.h"

enum { CF__WEIGHT_ALIGN = 4096 }; /* of a matrix in the arena: no two share a page of the usual size */

/* A matrix slice as tiles of 16 rows, or a vector in f32. Experts and heads are stacks of `parts` matrices (or vectors)
 * of one shape: of each the same rows and columns are held. */
struct cf_weight {
    const struct cf_type *type;
    uint32_t part0, parts; /* of the file's tensor; parts held */
    uint32_t row0, rows;   /* of the role, in each part; rows held */
    struct cf_place place; /* of the role in the file's tensor */
    uint32_t c0, c1;       /* columns held */
    size_t tile_bytes;
    char *tiles;   /* [parts][(rows + 15) / 16][tile_bytes] */
    float *vector; /* [parts][c1 - c0] for vectors, else NULL */
};

/* Tiles of one part. */
static inline uint32_t cf_weight_tiles(const struct cf_weight *w) {
    return (w->rows + CF_TILE - 1) / CF_TILE;
}
static inline uint64_t cf_weight_part_bytes(const struct cf_weight *w) {
    return (uint64_t)cf_weight_tiles(w) * w->tile_bytes;
}
static inline const char *cf_weight_part(const struct cf_weight *w, uint32_t part) {
    return w->tiles + part * cf_weight_part_bytes(w);
}

struct cf_weights {
    uint32_t n_layers;
    struct cf_weight (*w)[CF_ROLES]; /* [n_layers + 1]: the last entry holds the roles without a layer */
    uint64_t bytes[CF_DOMAINS];      /* in memory, by domain */
    uint32_t tensors[CF_DOMAINS];
};

static inline struct cf_weight *cf_weight_of(const struct cf_weights *w, enum cf_role role, uint32_t layer) {
    return &w->w[role < CF_FIRST_LAYER_ROLE ? w->n_layers : layer][role];
}

/* Fills everything but the data pointers: what `rank` must hold. cf_weights_bytes() is then the arena's size,
 * alignment included. */
int cf_weights_measure(struct cf_weights *w, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    int rank, struct cf_error *e);
uint64_t cf_weights_bytes(const struct cf_weights *w);

/* What loading is given. progress (may be NULL) is called by thread 0 now and then with file bytes done and to do. */
struct cf_load {
    const struct cf_model *model;
    const struct cf_gguf *gguf;
    struct cf_arena *arena;
    struct cf_team *team;
    bool zero; /* leave all matrices zero (test hook) */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

/* What it took. read and pack are seconds of the threads' mean; pack includes the first touch of the arena. */
struct cf_load_stats {
    uint64_t bytes; /* read from the file */
    double read, pack;
};

/* Reads and packs with all threads of the team, in the order of the file; thread 0 polls. */
int cf_weights_load(struct cf_weights *w, const struct cf_load *l, struct cf_load_stats *stats, struct cf_error *e);
/* Every part of the file that cf_weights_load() would read, in the order of the file. */
int cf_weights_parts(struct cf_weights *w, const struct cf_model *m, const struct cf_gguf *g,
    int (*visit)(void *ctx, const struct cf_gguf_part *part, struct cf_error *e), void *ctx, struct cf_error *e);
/* Private to weights.c and load.c. */
int cf__weights_place(struct cf_weights *w, const struct cf_model *m, const struct cf_gguf *g, struct cf_arena *arena,
    struct cf_error *e);
void cf_weights_free(struct cf_weights *w);

#endif
