/* The quantised products with AMX: dots of 16 weight rows with up to 16 activation rows in one tile instruction.
 *
 * Weights are unpacked, signed, into a panel of a few blocks (the B tiles: their layout in memory is already that of a
 * packed tile), activations are read where they lie (the A tiles), and the exact int32 dots of one block go through a
 * small ring in memory to AVX-512, which scales and adds them in the order of README.md. The adding is the larger part
 * of the work, so tile instructions run AHEAD blocks before it, across groups of rows and panels.
 *
 * Few rows, and everything that is not such a product, are left to the AVX-512 functions. Who may use this file: a
 * process to which the kernel has granted the tile state (dispatch.c asks).
 */
#if defined(__x86_64__)

#include "node/kernels/products/product.h"
#include "node/kernels/products/unpack_avx512.h"

enum {
    LEAST_ROWS = 8, /* fewer go to AVX-512 */
    PASS = 64,      /* rows for which a panel is unpacked once */
    PANEL = 8,      /* blocks */
    AHEAD = 2,      /* dots between the tile instructions and the adding */
    RING = 4,       /* a power of two above AHEAD */
};

/* What LDTILECFG reads (Intel SDM, volume 1, chapter 18), by tile register. */
struct config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Two sets of registers take turns, so that no product waits for the store of the one before. GCC wants plain numbers
 * as names of tiles: 0, 1 dots; 2, 3 activations; 4, 5 weights.
 *
 * The configuration belongs to the thread and outlives the call: a chunk of a few blocks is over sooner than a
 * configuration is loaded (some 200 cycles by Intel's figures), so it is read and loaded only where it differs. Other
 * code that uses tiles loads its own anyway. The asm statements stand in for intrinsics which tell GCC 12 of 8 of the
 * 64 bytes only. */
static void configure(uint32_t rows, uint32_t columns) {
    const uint8_t m = (uint8_t)rows, k = (uint8_t)(columns / 4);
    const uint16_t a = (uint16_t)columns;
    const struct config want = {.palette = 1, .row_bytes = {64, 64, a, a, 64, 64}, .rows = {m, m, m, m, k, k}};
    struct config have;
    __asm__ volatile("sttilecfg %0" : "=m"(have));
    if (memcmp(&have, &want, sizeof have) != 0) __asm__ volatile("ldtilecfg %0" : : "m"(want));
}

/* dots = activations x weights, by register set `set`. */
INLINE void multiply(uint32_t set, const int8_t *q, size_t q_stride, const int8_t *w, int32_t dots[CF_TILE][CF_TILE]) {
    if (set == 0) {
        _tile_loadd(4, w, 64);
        _tile_loadd(2, q, q_stride);
        _tile_zero(0);
        _tile_dpbssd(0, 2, 4);
        _tile_stored(0, dots, 64);
    } else {
        _tile_loadd(5, w, 64);
        _tile_loadd(3, q, q_stride);
        _tile_zero(1);
        _tile_dpbssd(1, 3, 5);
        _tile_stored(1, dots, 64);
    }
}

/* Up to PANEL blocks, ready for tiles and adding. A *dot* is what has a scale of its own: a block, or half of one. */
struct panel {
    _Alignas(64) int8_t w[PANEL][8][64]; /* [block][group][4 * row + column % 4] */
    float scale[2 * PANEL][CF_TILE];     /* [dot] */
    float min[2 * PANEL][CF_TILE];       /* [dot] */
    float sum_x[PASS][2 * PANEL];        /* [row][dot] scale_x * sum(q), for types with a minimum */
};

struct work {
    struct panel panel[2]; /* the one being added, and the next */
    _Alignas(64) int32_t ring[RING][CF_TILE][CF_TILE];
    _Alignas(64) float acc[PASS + CF_TILE][CF_TILE]; /* [group * rows + row], between panels */
};

/* Rows of one pass in groups of equal size: the last one begins early enough to end with the last row, so that a few
 * rows may be computed twice. */
struct groups {
    uint32_t n, rows, last;
};

INLINE uint32_t first_row(const struct groups *g, uint32_t group) {
    return group + 1 < g->n ? group * g->rows : g->last;
}

/* Where the tile instructions stand. */
struct ahead {
    uint32_t block, group, dot, slot; /* block: the first one of the panel */
};

INLINE uint32_t dots_per_block(enum kind kind) {
    return has_halves(kind) ? 2 : 1;
}

/* The next n_blocks blocks at *k. */
INLINE void unpack(enum kind kind, struct panel *to, struct cf__cursor *k, uint32_t n_blocks, bool prefetch) {
    const uint32_t dots = dots_per_block(kind);
    for (uint32_t b = 0; b < n_blocks; b++) {
        if (prefetch) fetch_ahead(kind, k);
#pragma GCC unroll 8
        for (int g = 0; g < 8; g++) {
            const __m512i offset = _mm512_set1_epi8((char)layout_of(kind)->offset);
            _mm512_store_si512(to->w[b][g], _mm512_sub_epi8(weights(kind, k->block, g), offset)); /* signed */
        }
        struct scales s = load_scales(kind, k->head, k->column);
        for (uint32_t i = 0; i < dots; i++) {
            _mm512_storeu_ps(to->scale[b * dots + i], s.scale[i]);
            if (has_min(kind)) _mm512_storeu_ps(to->min[b * dots + i], s.min[i]);
        }
        next_block(kind, k);
    }
}

/* sum_x of blocks [block, block + n_blocks) of n rows from i0 on. */
INLINE void sum_activations(enum kind kind, struct panel *to, const struct cf_product *p, uint32_t i0, uint32_t n,
    uint32_t block, uint32_t n_blocks) {
    const __mmask8 blocks = (__mmask8)((1u << n_blocks) - 1);
    const __mmask16 halves = (__mmask16)((1u << 2 * n_blocks) - 1);
    const float *d = cf__row_d(p, i0) + block;
    const int16_t *sum = cf__row_sum(p, i0) + 2 * block;
    for (uint32_t i = 0; i < n; i++, d += p->x->q_stride / 32, sum += p->x->q_stride / 16) {
        const __m256i sums = _mm256_maskz_loadu_epi16(halves, sum);
        const __m256 scale = _mm256_maskz_loadu_ps(blocks, d);
        if (has_halves(kind)) {
            const __m512i of = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            const __m512 twice = _mm512_permutexvar_ps(of, _mm512_castps256_ps512(scale));
            _mm512_storeu_ps(to->sum_x[i], _mm512_mul_ps(twice, _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(sums))));
        } else {
            const __m256i pairs = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
            _mm256_storeu_ps(to->sum_x[i], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(pairs)));
        }
    }
}

/* acc += one dot of each of `rows` rows; d and sum_x are those of its block. */
INLINE void add_dots(enum kind kind, const uint32_t rows, const struct panel *panel, uint32_t dot,
    int32_t dots[CF_TILE][CF_TILE], const float *d, size_t d_stride, const float *sum_x, __m512 acc[]) {
    const __m512 scale = _mm512_loadu_ps(panel->scale[dot]);
#pragma GCC unroll 16
    for (uint32_t i = 0; i < rows; i++) {
        __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(d[i * d_stride]));
        acc[i] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(_mm512_load_si512(dots[i])), acc[i]);
    }
    if (!has_min(kind)) return;
    const __m512 min = _mm512_loadu_ps(panel->min[dot]);
#pragma GCC unroll 16
    for (uint32_t i = 0; i < rows; i++)
        acc[i] = _mm512_fnmadd_ps(min, _mm512_set1_ps(sum_x[i * 2 * PANEL]), acc[i]);
}

INLINE uint32_t blocks_of_panel(uint32_t block, uint32_t n_blocks) {
    return n_blocks - block < PANEL ? n_blocks - block : PANEL;
}

/* The tile instructions of the next dot, if there is one. q: the activations of the first row. */
INLINE void go_ahead(enum kind kind, struct ahead *a, const struct groups *groups, uint32_t n_blocks, struct work *work,
    const int8_t *q, size_t stride) {
    const uint32_t per_block = dots_per_block(kind), columns = CF_BLOCK / per_block;
    if (a->block >= n_blocks) return;
    const int8_t *w = work->panel[a->block / PANEL % 2].w[0][0] + (size_t)a->dot * columns * CF_TILE;
    const int8_t *row = q + first_row(groups, a->group) * stride + a->block * CF_BLOCK + a->dot * columns;
    multiply(a->slot % 2, row, stride, w, work->ring[a->slot % RING]);
    a->slot++;
    if (++a->dot < blocks_of_panel(a->block, n_blocks) * per_block) return;
    a->dot = 0;
    if (++a->group < groups->n) return;
    a->group = 0;
    a->block += PANEL;
}

/* Rows [i0, i0 + n) of the product, n <= PASS, in groups of `rows` <= n. */
INLINE void amx_rows(const struct cf_product *p, uint32_t i0, uint32_t n, const uint32_t rows, const enum kind kind) {
    const uint32_t per_block = dots_per_block(kind), n_blocks = (p->c1 - p->c0) / CF_BLOCK;
    const struct groups groups = {(n + rows - 1) / rows, rows, n - rows};
    const size_t stride = p->x->q_stride;
    const int8_t *q = cf__row_q(p, i0);
    struct cf__cursor k = first_block(kind, p);
    struct ahead a = {0};
    struct work work;

    configure(rows, CF_BLOCK / per_block);
    for (uint32_t next = 0, block = 0, slot = 0; block < n_blocks; block += PANEL) {
        for (; next < n_blocks && next <= block + PANEL; next += PANEL) { /* two panels at first, then one */
            struct panel *to = &work.panel[next / PANEL % 2];
            unpack(kind, to, &k, blocks_of_panel(next, n_blocks), i0 == 0);
            if (has_min(kind)) sum_activations(kind, to, p, i0, n, next, blocks_of_panel(next, n_blocks));
            __asm__ volatile("" : : : "memory"); /* GCC does not know that loading a tile reads memory */
        }
        while (a.slot < AHEAD && a.block < n_blocks)
            go_ahead(kind, &a, &groups, n_blocks, &work, q, stride);
        const struct panel *panel = &work.panel[block / PANEL % 2];
        const uint32_t dots = blocks_of_panel(block, n_blocks) * per_block;
        for (uint32_t g = 0; g < groups.n; g++) {
            const uint32_t row = first_row(&groups, g);
            const float *d = cf__row_d(p, i0 + row) + block;
            __m512 acc[CF_TILE];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < rows; i++)
                acc[i] = block ? _mm512_load_ps(work.acc[g * rows + i]) : _mm512_setzero_ps();
            for (uint32_t dot = 0; dot < dots; dot++, slot++) {
                go_ahead(kind, &a, &groups, n_blocks, &work, q, stride);
                add_dots(kind, rows, panel, dot, work.ring[slot % RING], d + dot / per_block, stride / 32,
                    &panel->sum_x[row][dot], acc);
            }
            float *out = block + PANEL < n_blocks ? work.acc[g * rows] : p->y + (size_t)(i0 + row) * CF_TILE;
#pragma GCC unroll 16
            for (uint32_t i = 0; i < rows; i++)
                _mm512_storeu_ps(out + i * CF_TILE, acc[i]);
        }
    }
}

/* The size of groups that wastes the fewest rows. */
static uint32_t rows_per_group(uint32_t n) {
    uint32_t best = 8;
    for (uint32_t rows = 12; rows <= 16 && rows <= n; rows += 4)
        if ((n + rows - 1) / rows * rows <= (n + best - 1) / best * best) best = rows;
    return best;
}

INLINE void by_passes(const struct cf_product *p, const enum kind kind, cf_product_fn few) {
    if (p->n < LEAST_ROWS) {
        few(p);
        return;
    }
    const uint32_t passes = (p->n + PASS - 1) / PASS, most = passes ? (p->n + passes - 1) / passes : 0;
    for (uint32_t i0 = 0; i0 < p->n; i0 += most) {
        const uint32_t n = p->n - i0 < most ? p->n - i0 : most;
        if (n < LEAST_ROWS) {
            struct cf_product rest = *p;
            rest.row0 += i0, rest.n = n, rest.y += (size_t)i0 * CF_TILE;
            few(&rest);
            continue;
        }
        switch (rows_per_group(n)) {
        case 8: amx_rows(p, i0, n, 8, kind); break;
        case 12: amx_rows(p, i0, n, 12, kind); break;
        default: amx_rows(p, i0, n, 16, kind); break;
        }
    }
}

static bool takes_chunks(const struct cf_product *p) {
    return p->n_chunks == 0 || p->n < LEAST_ROWS; /* few rows: the AVX-512 function walks through all chunks */
}

#define PRODUCT(none, lower, upper)                                                                                    \
    void cf__product_##lower##_amx(const struct cf_product *p) {                                                       \
        if (takes_chunks(p))                                                                                           \
            by_passes(p, upper, cf__product_##lower##_avx512);                                                         \
        else                                                                                                           \
            cf__each_chunk(p, cf_type_by_id(CF_TYPE_##upper), cf__product_##lower##_amx);                              \
    }
CF__QUANTISED(PRODUCT, )

#endif
