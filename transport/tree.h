/* The one order of addition: chunk sums are added as a fixed binary tree (halves by floor), whoever holds the chunks.
 *
 * A member that owns the run of chunks [a, b) sends the sums of the few subtrees that cover the run; the receiver adds
 * those in the tree's order. The result depends on the number of chunks alone (DESIGN.md section 6).
 */
#ifndef COFFER_TRANSPORT_TREE_H
#define COFFER_TRANSPORT_TREE_H

#include <stdint.h>

#include "proto/error.h"

enum { CF_MAX_CHUNKS = 24, CF_MAX_MEMBERS = 16, CF_MAX_PARTS = 32, CF_MAX_VECTORS = 160, CF_TREE_DEPTH = 8 };

struct cf_subtree {
    uint8_t first, last;
}; /* chunks [first, last) */

/* The subtrees that cover [a, b) of a tree over n chunks, ascending. Returns how many (at most 2*log2(24) = 9). */
uint32_t cf_tree_cover(uint32_t n, uint32_t a, uint32_t b, struct cf_subtree *out);

/* How to add vectors 0..n_vectors-1 (the covers of all members, ascending): postfix, v >= 0 pushes vector v, -1 adds
 * the two on top. */
struct cf_tree_program {
    uint32_t n_vectors, n_ops;
    int16_t ops[2 * CF_MAX_VECTORS];
};

/* cuts[members + 1]: member i owns chunks [cuts[i], cuts[i+1]). */
int cf_tree_compile(struct cf_tree_program *p, uint32_t n, const uint32_t *cuts, uint32_t members, struct cf_error *e);

/* out[width] = the tree over vectors v[i][0..width). width at most 64. */
void cf_tree_run(const struct cf_tree_program *p, const float *const *v, float *out, uint32_t width);

#endif
