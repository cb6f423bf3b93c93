/* The model of `coffer bench --synthetic` (commands/shared/shape.h). Without -m it has no file: every rank makes what
 * it reads. */
#include <unistd.h>

#include "coordinator/commands/bench/bench.h"
#include "coordinator/commands/shared/shape.h"

int cf__bench_shape_check(struct cf__bench *b, struct cf_error *e) {
    struct cf__synth s;
    char type[CF__SHAPE_TYPE];
    uint64_t bytes;
    if (cf__shape_read(&s, b->synthetic, type, e)) return -1;
    b->n_layers = (uint32_t)s.layers, b->n_embd = (uint32_t)s.dim;
    return cf__synth_measure(&s, &bytes, e);
}

int cf__bench_model(struct cf__bench *b, bool launched, struct cf_error *e) {
    struct cf__synth s;
    char type[CF__SHAPE_TYPE];
    uint64_t bytes = 0;
    if (!access(b->model, F_OK)) return 0;
    if (launched)
        return cf_fail(e, CF_ERR_USAGE,
            "%s is not there, and under a launcher --synthetic makes no file: leave -m out (the model then needs "
            "none), "
            "or make it with coffer synth where every host sees it",
            b->model);
    if (cf__shape_read(&s, b->synthetic, type, e) || cf__synth_measure(&s, &bytes, e)) return -1;
    s.out = b->model;
    cf_terminal_note(b->terminal, "coffer: making %s, %.2f GB, as %s", b->synthetic, 1e-9 * (double)bytes, b->model);
    return cf__synth_make(&s, &bytes, e);
}

int cf__bench_open(struct cf_gguf **g, void *ctx, struct cf_error *e) {
    struct cf__bench *b = ctx;
    return cf__shape_open(g, &b->weights, b->synthetic, e);
}
