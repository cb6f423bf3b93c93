/* Where columns may be cut: an axis is the run of columns that a matrix product adds up over several ranks.
 *
 * `units` are cuts that the model alone allows; n = min(24, units) chunks lie at floor(i * units / n) units; the last
 * unit takes what is left. Everything that is split by heads, MLP columns or vocabulary is split at these cuts.
 */
#ifndef COFFER_NODE_MODEL_AXIS_H
#define COFFER_NODE_MODEL_AXIS_H

#include <stdint.h>

struct cf_axis {
    uint32_t columns, unit, units, n_chunks;
};

static inline struct cf_axis cf_axis_make(uint32_t columns, uint32_t unit, uint32_t most) {
    struct cf_axis a = {columns, unit, columns / unit ? columns / unit : 1, 0};
    a.n_chunks = a.units < most ? a.units : most;
    return a;
}

/* First column of chunk i; i == n_chunks gives the end. */
static inline uint32_t cf_axis_cut(const struct cf_axis *a, uint32_t i) {
    if (i >= a->n_chunks) return a->columns;
    return (uint32_t)((uint64_t)i * a->units / a->n_chunks) * a->unit;
}

#endif
