/* See tree.h. */
#include "transport/tree.h"

#include <string.h>

static uint32_t cover(uint32_t lo, uint32_t hi, uint32_t a, uint32_t b, struct cf_subtree *out, uint32_t n) {
    if (a >= hi || b <= lo || a >= b) return n;
    if (a <= lo && hi <= b) {
        out[n] = (struct cf_subtree){(uint8_t)lo, (uint8_t)hi};
        return n + 1;
    }
    uint32_t mid = lo + (hi - lo) / 2;
    n = cover(lo, mid, a, b, out, n);
    return cover(mid, hi, a, b, out, n);
}

uint32_t cf_tree_cover(uint32_t n, uint32_t a, uint32_t b, struct cf_subtree *out) {
    return cover(0, n, a, b, out, 0);
}

static void emit(struct cf_tree_program *p, const struct cf_subtree *have, uint32_t lo, uint32_t hi, uint32_t *next) {
    if (have[*next].first == lo && have[*next].last == hi) {
        p->ops[p->n_ops++] = (int16_t)(*next)++;
        return;
    }
    uint32_t mid = lo + (hi - lo) / 2;
    emit(p, have, lo, mid, next);
    emit(p, have, mid, hi, next);
    p->ops[p->n_ops++] = -1;
}

int cf_tree_compile(struct cf_tree_program *p, uint32_t n, const uint32_t *cuts, uint32_t members, struct cf_error *e) {
    memset(p, 0, sizeof *p);
    if (n == 0 || n > CF_MAX_CHUNKS || members > CF_MAX_MEMBERS || cuts[0] != 0 || cuts[members] != n)
        return cf_fail(e, CF_ERR_PLAN, "the members' chunks do not cover the tree of %u chunks", n);
    struct cf_subtree have[CF_MAX_VECTORS];
    for (uint32_t m = 0; m < members; m++) {
        if (cuts[m] > cuts[m + 1]) return cf_fail(e, CF_ERR_PLAN, "the members' chunks are not ascending");
        p->n_vectors += cf_tree_cover(n, cuts[m], cuts[m + 1], have + p->n_vectors);
    }
    uint32_t next = 0;
    emit(p, have, 0, n, &next);
    return 0;
}

void cf_tree_run(const struct cf_tree_program *p, const float *const *v, float *out, uint32_t width) {
    float stack[CF_TREE_DEPTH][64];
    uint32_t top = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i] >= 0) {
            memcpy(stack[top++], v[p->ops[i]], width * sizeof(float));
            continue;
        }
        top--;
        for (uint32_t c = 0; c < width; c++)
            stack[top - 1][c] += stack[top][c];
    }
    memcpy(out, stack[0], width * sizeof(float));
}
