/* One step of a batch as a team job: what its threads see, and the rounds that several steps share.
 *
 * Inside the engine only: layer.c, slices.c, sums.c and ends.c each hold some of the steps, steps.c calls them.
 */
#ifndef COFFER_NODE_ENGINE_JOB_H
#define COFFER_NODE_ENGINE_JOB_H

#include <stdatomic.h>

#include "node/engine/state.h"

enum { CF_PIECE_COLUMNS = 1024 }; /* of a row that one thread rounds at a time */

struct cf__job {
    struct cf_engine *g;
    struct cf_context *c;
    const struct cf_instr *i;
    const struct cf_route *route;
    const struct cf_weight *norm; /* before the step's matrices; of a sum: its bias */
    const struct cf_weight *post; /* of a sum: the norm that it goes through, or NULL */
    bool quantise;
    const float *source; /* rows to normalise: [n_rows][n_embd] */
    uint32_t n_rows;
    bool by_shares;
    atomic_bool not_finite;          /* any thread may find one */
    const float *part[CF_MAX_PARTS]; /* what has arrived, looked up by thread 0 before the job */
};

/* Tiles of tile_bytes each that a thread takes at a time; several blocks of rows pass over each such run of tiles. */
uint32_t cf__grab(const struct cf_engine *g, uint32_t tiles, size_t tile_bytes, uint32_t n_rows);
/* y[n][16] of tile `tile` of w, all columns, rows [row0, row0 + n). */
void cf__product(const struct cf_engine *g, const struct cf_weight *w, uint32_t tile, const struct cf_rows *x,
    uint32_t row0, uint32_t n, float *y);
/* The same of one part of a stack of matrices. */
void cf__product_part(const struct cf_engine *g, const struct cf_weight *w, uint32_t part, uint32_t tile,
    const struct cf_rows *x, uint32_t row0, uint32_t n, float *y);
struct cf_rows cf__rows_of(const struct cf_activation *a, uint32_t c0, uint32_t c1);
/* Asks for the cache lines that cf__store_tile() will write, before the product that it stores: missed lines would hold
 * up the stores of the product behind it. */
void cf__expect_tile(float *out, size_t stride, uint32_t tile, uint32_t row0, uint32_t n);
/* out[row][tile * 16 + lane] = y[row][lane] for the lanes that exist. */
void cf__store_tile(float *out, size_t stride, uint32_t tile, uint32_t rows, const float *y, uint32_t row0, uint32_t n);
/* A thread has done its tiles of the job's instruction: says to the team what it will multiply in the next one. */
void cf__ahead_of_next(const struct cf__job *j, struct cf_team *team, uint32_t thread);
/* The same for its share of a matrix. */
void cf__ahead_of(const struct cf__job *j, struct cf_team *team, uint32_t thread, const struct cf_weight *w);
float *cf__scratch_of(const struct cf_engine *g, uint32_t thread);
/* Round over rows: x = norm(source), rounded if a quantised matrix follows. */
void cf__norm_rows(struct cf__job *j, struct cf_team *team, uint32_t thread);
/* Round over pieces of rows of a.f: rounds them for a quantised product. Items: rows x cf__pieces(columns). */
void cf__quantise_rows(
    struct cf__job *j, struct cf_team *team, uint32_t thread, const struct cf_activation *a, uint32_t columns);
/* Columns [at, at + n) of a, counted from its first row's: rounds what lies there. */
void cf__quantise(struct cf__job *j, const struct cf_activation *a, size_t at, size_t n);
void cf__quantise_piece(struct cf__job *j, const struct cf_activation *a, uint32_t columns, uint32_t item);
static inline uint32_t cf__pieces(uint32_t columns) {
    return (columns + CF_PIECE_COLUMNS - 1) / CF_PIECE_COLUMNS;
}
/* -1, naming step and layer, if a thread found a non-finite activation. */
int cf__not_finite(const struct cf__job *j, const char *step, struct cf_error *e);
const struct cf_weight *cf__head_weight(const struct cf_engine *g);

/* Round over tiles of a matrix whose columns are cut into chunks: chunk sums, then the subtrees that this rank owns. */
void cf__sum_tiles(struct cf__job *j, struct cf_team *team, uint32_t thread, const struct cf_weight *w,
    const struct cf_axis *axis, const struct cf_activation *a);
int cf__send_sums(struct cf_engine *g, struct cf_context *c, const struct cf_route *r, struct cf_error *e);
int cf__send_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);

/* wire.c. Part k of a route, as f32, until the end of the step; NULL with *e if it is of another shape than is due. */
const float *cf__part(struct cf_engine *g, const struct cf_context *c, const struct cf_route *r, uint32_t k,
    struct cf_extent due, struct cf_error *e);
/* Rounds x (lines of shape s) in place as the wire of the plan does it, and leaves at `packed` what travels. */
int cf__round(
    struct cf_engine *g, const struct cf_route *r, float *x, struct cf_extent s, char *packed, struct cf_error *e);
/* The stage as it is (to another host: as cf__round left it) to receiver k. */
int cf__send_stage(struct cf_engine *g, struct cf_context *c, const struct cf_route *r, uint32_t k,
    struct cf_extent shape, struct cf_error *e);

/* Is this token among vocabulary rows [row0, row1)? */
static inline bool cf__holds(uint32_t token, uint32_t row0, uint32_t row1) {
    return row0 <= token && token < row1;
}

/* Does any of these matrices (of those that the layer has) want rounded activations? Ends with CF_ROLES. */
bool cf__any_quantised(const struct cf_engine *g, uint32_t layer, const enum cf_role *roles);

/* choose.c: weights[used] and numbers chosen[used], ascending, of the experts that a row goes to. scores[n] are the
 * router's, choice_bias[n] may be NULL; both scores and scratch[n] are destroyed. */
void cf__choose_experts(const struct cf_experts *x, float *scores, const float *choice_bias, float *scratch,
    uint32_t *chosen, float *weights);
/* latent.c: LEFT_HEMI of layers with latent attention. */
void cf__latent_qkv_thread(struct cf_team *team, uint32_t thread, void *ctx);
void cf__latent_out_thread(struct cf_team *team, uint32_t thread, void *ctx);
/* experts.c */
void cf__experts_thread(struct cf_team *team, uint32_t thread, void *ctx);
/* Where column `column` of vector `v` of row `row` lies among the outgoing sums. */
float *cf__sum_place(const struct cf__job *j, uint32_t v, uint32_t row, uint32_t column);
/* Rotation angles of a row for a layer. */
static inline const float *cf__angles(const struct cf__job *j, uint32_t row) {
    const struct cf_model *m = j->g->o.model;
    size_t table = cf_model_window(m, j->i->layer) ? j->g->plan.n_rows : 0;
    return j->c->rope + (table + row) * m->rope.n_dims;
}

/* The steps, one per cf_op of that name (program.h). */
int cf__step_add(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_share(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_out(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_mlp(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_take_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_attend(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_take_heads(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_embed(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_take_embed(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_hop(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_take_hidden(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_head(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
int cf__step_take_logits(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);

#endif
