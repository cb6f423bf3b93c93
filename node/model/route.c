/* The sizes of an exchange: what passes in each of its parts for so many rows, and the memory that takes at most. See
 * program.h. */
#include "node/model/program.h"

/* Sums go by shares when three or more ranks receive them and that saves enough. It costs another round of messages. On
 * one host nothing is sent but word of it, so the size decides. Between hosts a rank sends its k vectors (k on average)
 * to n - 1 others whole, or a share of each and then the finished share: (k + 1) / n vectors to each. What that saves
 * must be worth the round. Measured over deploy/testbed/hosts with 0.1 ms and 1 gbit, f32, 2048 columns: three hosts (9
 * vectors) gained from 2 rows on (16 KiB a vector), four (4 vectors) between 4 rows and 8; by the formula at 14 and 32
 * KiB. */
enum { SHARE_BYTES = 64 * 1024, SAVED_BYTES = 48 * 1024 };

size_t cf_route_share_limit(uint32_t receivers, uint32_t vectors, bool apart) {
    double n = receivers, k = vectors / n, saved = (n - 1) * (k - (k + 1) / n);
    if (!apart || receivers < 2) return SHARE_BYTES;
    return saved * SHARE_BYTES > SAVED_BYTES ? (size_t)(SAVED_BYTES / saved) : SHARE_BYTES;
}

static bool is_sum(enum cf_step step) {
    return step == CF_STEP_ATTN_SUM || step == CF_STEP_FFN_SUM;
}

static bool is_share(enum cf_step step) {
    return step == CF_STEP_ATTN_SHARE || step == CF_STEP_FFN_SHARE;
}

bool cf_program_holds(const struct cf_program *p, uint32_t pc) {
    const struct cf_instr *i = pc < p->n_instrs ? &p->instrs[pc] : NULL;
    return i && i->route >= 0 && p->routes[i->route].x.n_in &&
           (i->op == CF_OP_ADD ? p->routes[i->route].n_own > 0
                               : i->op == CF_OP_SHARE && p->routes[i->route].my_share >= 0);
}

bool cf_route_by_shares(const struct cf_route *r, uint32_t rows, uint32_t n_embd) {
    return r->n_shares && cf_payload_bytes(r->share_dtype, rows, n_embd) > r->share_bytes;
}

/* The receiver's place among the shares. They are numbered as in share_cut: the parts skip this rank itself. */
uint32_t cf_route_share(const struct cf_route *r, bool out, uint32_t k) {
    if (!out) return (uint32_t)r->my_share;
    return r->my_share >= 0 && k >= (uint32_t)r->my_share ? k + 1 : k;
}

struct cf_extent cf_route_extent(const struct cf_route *r, bool out, uint32_t k, uint32_t rows, uint32_t n_embd) {
    struct cf_extent s = {rows, (out ? r->x.out : r->x.in)[k].columns, r->line};
    bool by_shares = cf_route_by_shares(r, rows, n_embd);
    if (is_share(r->step) && !by_shares) s.rows = 0;
    if (is_sum(r->step) && by_shares) {
        uint32_t i = cf_route_share(r, out, k), vectors = s.columns / n_embd;
        s.line = r->share_cut[i + 1] - r->share_cut[i];
        s.columns = vectors * s.line;
    }
    return s;
}

size_t cf_route_bytes(const struct cf_route *r, bool out, uint32_t k, uint32_t rows, uint32_t n_embd) {
    return cf_extent_bytes(cf_route_extent(r, out, k, rows, n_embd), (out ? r->x.out : r->x.in)[k].dtype);
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Of what is rounded for one batch, as it travels. Receivers of whole sums, shares and hidden rows all get the same. */
static size_t packed_bytes(const struct cf_route *r, enum cf_dtype wire, uint32_t rows, uint32_t n_embd) {
    size_t sum = cf_extent_bytes((struct cf_extent){rows, r->self_columns, r->line}, wire), most = 0;
    if (!r->rounds || (!r->x.n_out && !r->self.q1)) return 0;
    if (r->step == CF_STEP_HIDDEN) return cf_extent_bytes((struct cf_extent){rows, n_embd, 0}, wire);
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        size_t bytes = cf_extent_bytes(cf_route_extent(r, true, k, rows, n_embd), wire);
        sum += bytes, most = larger(most, bytes);
    }
    bool same = is_share(r->step) || (is_sum(r->step) && !cf_route_by_shares(r, rows, n_embd));
    return same ? most : sum;
}

void cf__route_measure(struct cf_route *r, enum cf_dtype wire, uint32_t n_embd, struct cf_program *p) {
    /* The most rows, and of sums the most that still go whole: either may need more. */
    size_t few = r->share_bytes / cf_payload_bytes(r->share_dtype, 1, n_embd);
    uint32_t rows[2] = {r->x.max_rows, r->x.max_rows};
    if (r->n_shares && few < rows[0]) rows[0] = (uint32_t)few;
    for (int i = 0; i < 2; i++) {
        size_t floats = 0;
        for (uint32_t k = 0; k < r->x.n_in; k++) {
            struct cf_part *part = &r->x.in[k];
            struct cf_extent s = cf_route_extent(r, false, k, rows[i], n_embd);
            part->bytes = larger(part->bytes, cf_extent_bytes(s, part->dtype));
            if (part->dtype != CF_DTYPE_F32) floats += (size_t)s.rows * s.columns;
        }
        p->unpacked_floats = larger(p->unpacked_floats, floats);
        size_t *packed = is_sum(r->step) ? &p->packed_sums : &p->packed_stage;
        *packed = larger(*packed, packed_bytes(r, wire, rows[i], n_embd));
    }
}
