/* The quantised products with AMX: dots of 16 weight rows with up to 16 activation rows in one tile instruction.
 *
 * Weights are unpacked, signed, into a panel of a few blocks (the B tiles: their layout in memory is already that of a
 * packed tile), activations are read where they lie (the A tiles), and the exact int32 dots go through four tiles in
 * memory to AVX-512, which scales and adds them in the order of README.md. The adding is the larger part of the work:
 * tile instructions run two dots before it, across groups of rows and panels, and the next panel is filled beside it.
 *
 * Few rows, and everything that is not such a product, are left to the AVX-512 functions. Who may use this file: a
 * process to which the kernel has granted the tile state (dispatch.c asks).
 */
#if defined(__x86_64__)

#include "node/kernels/products/product.h"
#include "node/kernels/products/unpack_avx512.h"

enum {
    PASS = 64, /* rows for which a panel is unpacked once */
    PANEL = 8, /* dots */
};

/* What LDTILECFG reads (Intel SDM, volume 1, chapter 18), by tile register. */
struct config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Two sets of registers take turns, so that no product waits for the store of the one before: 0, 1 dots; 2, 3
 * activations; 4, 5 weights.
 *
 * The configuration belongs to the thread and outlives the call. Loading one takes 50 ns, reading it next to nothing,
 * so it is loaded only where it differs. Other code that uses tiles loads its own anyway. The asm statements stand in
 * for intrinsics which tell GCC 12 of 8 of the 64 bytes only. */
static void configure(uint32_t rows, uint32_t columns) {
    const uint8_t m = (uint8_t)rows, k = (uint8_t)(columns / 4);
    const uint16_t a = (uint16_t)columns;
    const struct config want = {.palette = 1, .row_bytes = {64, 64, a, a, 64, 64}, .rows = {m, m, m, m, k, k}};
    struct config have;
    __asm__ volatile("sttilecfg %0" : "=m"(have));
    if (memcmp(&have, &want, sizeof have) != 0) __asm__ volatile("ldtilecfg %0" : : "m"(want));
}

/* Register set `set` = the activations at q, rows `stride` bytes apart, x the weights at w. */
INLINE void multiply(const uint32_t set, const int8_t *w, const int8_t *q, size_t stride) {
    if (set == 0)
        __asm__ volatile("movl $64, %%eax\n\t"
                         "tileloadd (%0,%%rax,1), %%tmm4\n\t"
                         "tileloadd (%1,%2,1), %%tmm2\n\t"
                         "tilezero %%tmm0\n\t"
                         "tdpbssd %%tmm4, %%tmm2, %%tmm0"
                         :
                         : "r"(w), "r"(q), "r"(stride)
                         : "rax", "memory");
    else
        __asm__ volatile("movl $64, %%eax\n\t"
                         "tileloadd (%0,%%rax,1), %%tmm5\n\t"
                         "tileloadd (%1,%2,1), %%tmm3\n\t"
                         "tilezero %%tmm1\n\t"
                         "tdpbssd %%tmm5, %%tmm3, %%tmm1"
                         :
                         : "r"(w), "r"(q), "r"(stride)
                         : "rax", "memory");
}

INLINE void store(const uint32_t set, int32_t dots[CF_TILE][CF_TILE]) {
    if (set == 0)
        __asm__ volatile("movl $64, %%eax\n\ttilestored %%tmm0, (%0,%%rax,1)" : : "r"(dots) : "rax", "memory");
    else
        __asm__ volatile("movl $64, %%eax\n\ttilestored %%tmm1, (%0,%%rax,1)" : : "r"(dots) : "rax", "memory");
}

/* A panel is up to PANEL dots of 16 rows of weights. A *dot* is what has a scale of its own: a block, or half of one.
 * Everything here fits a part of the first cache on purpose: stores that miss it hold up those of the tiles. */
struct panel {
    _Alignas(64) int8_t w[PANEL * CF_BLOCK * CF_TILE]; /* [dot][group of 4 columns][4 * row + column % 4] */
    float scale[PANEL][CF_TILE];
    float min[PANEL][CF_TILE];
    float sum_x[PASS][PANEL]; /* [activation row][dot] d * sum(q), for types with a minimum of each 16 columns */
};

struct work {
    uint32_t turn;                                     /* of the pair that is added */
    struct panel panel[2];                             /* the one in use, and the one being filled */
    _Alignas(64) int32_t dots[2][2][CF_TILE][CF_TILE]; /* [pair][dot][activation row][weight row] */
    _Alignas(64) float acc[PASS + CF_TILE][CF_TILE];   /* [group * rows + row], between panels */
};

INLINE uint32_t dots_per_block(enum kind kind) {
    return has_halves(kind) ? 2 : 1;
}

INLINE uint32_t dot_columns(enum kind kind) {
    return CF_BLOCK / dots_per_block(kind);
}

/* A panel on its way from packed weights and rows. */
struct filling {
    const struct cf_product *p;
    struct cf__cursor k;
    uint32_t i0, n_rows; /* the rows of the pass */
    uint32_t dot, n;     /* the panel's first dot, and how many it has */
    uint32_t at, row;    /* what is done: dots, rows */
    uint32_t blocks_at_once, rows_at_once;
    struct panel *to;
};

/* Begins with the panel behind the one that was filled. */
INLINE void fill_next(struct filling *f, struct work *work, uint32_t n_dots) {
    f->dot += f->n;
    f->n = n_dots - f->dot < PANEL ? n_dots - f->dot : PANEL;
    f->at = 0;
    f->row = f->n ? 0 : f->n_rows;
    f->to = &work->panel[f->dot / PANEL % 2];
}

/* The next block of weights. */
INLINE void fill_block(enum kind kind, struct filling *f) {
    int8_t *to = f->to->w + f->at * dot_columns(kind) * CF_TILE;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        const __m512i offset = _mm512_set1_epi8((char)layout_of(kind)->offset);
        _mm512_store_si512(to + 64 * g, _mm512_sub_epi8(weights(kind, f->k.block, g), offset)); /* signed */
    }
    if (f->i0 == 0) fetch_ahead(kind, &f->k);
    const struct scales s = load_scales(kind, f->k.head, f->k.column);
    for (uint32_t i = 0; i < dots_per_block(kind); i++, f->at++) {
        _mm512_store_ps(f->to->scale[f->at], s.scale[i]);
        if (has_min(kind)) _mm512_store_ps(f->to->min[f->at], s.min[i]);
    }
    next_block(kind, &f->k);
}

/* Whether a panel has sums of its rows; for minima of 32 columns they lie beside the rows. */
INLINE bool has_sums(enum kind kind) {
    return has_min(kind) && has_halves(kind);
}

/* The sums of the next rows, up to `last`. */
INLINE void fill_rows(struct filling *f, uint32_t last) {
    const __mmask8 blocks = (__mmask8)((1u << f->n / 2) - 1), halves = (__mmask8)((1u << f->n) - 1);
    const size_t d_stride = f->p->x->q_stride / 32, sum_stride = f->p->x->q_stride / 16;
    const float *d = cf__row_d(f->p, f->i0 + f->row) + f->dot / 2;
    const int16_t *sum = cf__row_sum(f->p, f->i0 + f->row) + f->dot;
    for (uint32_t row = f->row; row < last; row++, d += d_stride, sum += sum_stride) {
        const __m256 scale =
            _mm256_permutevar8x32_ps(_mm256_maskz_loadu_ps(blocks, d), _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
        const __m256i sums = _mm256_cvtepi16_epi32(_mm_maskz_loadu_epi16(halves, sum));
        _mm256_storeu_ps(f->to->sum_x[row], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sums)));
    }
    f->row = last;
}

/* Some more of the panel. The adding waits for one port, of which this needs little; so that moving *f does not need it
 * either, GCC is made to keep it in memory, and not in mask registers. */
INLINE void fill_some(enum kind kind, struct filling *f) {
    __asm__ volatile("" : : "r"(f) : "memory");
    for (uint32_t left = f->blocks_at_once; left > 0 && f->at < f->n; left--)
        fill_block(kind, f);
    const uint32_t rows = f->n_rows - f->row;
    if (has_sums(kind) && rows > 0) fill_rows(f, f->row + (rows < f->rows_at_once ? rows : f->rows_at_once));
    __asm__ volatile("" : : "r"(f) : "memory"); /* it does not know that loading a tile reads memory, either */
}

/* sum += scale * d * dot for four rows; rcx: where the first one's d lies, rdx: three strides. */
#define FOUR(sum0, sum1, sum2, sum3, at)                                                                               \
    "vcvtdq2ps " at "(%[dots]), %%zmm28\n\t"                                                                           \
    "vmulps (%%rcx)%{1to16%}, %[scale], %%zmm24\n\t"                                                                   \
    "vcvtdq2ps 64+" at "(%[dots]), %%zmm29\n\t"                                                                        \
    "vmulps (%%rcx,%[stride],1)%{1to16%}, %[scale], %%zmm25\n\t"                                                       \
    "vcvtdq2ps 128+" at "(%[dots]), %%zmm30\n\t"                                                                       \
    "vmulps (%%rcx,%[stride],2)%{1to16%}, %[scale], %%zmm26\n\t"                                                       \
    "vcvtdq2ps 192+" at "(%[dots]), %%zmm31\n\t"                                                                       \
    "vmulps (%%rcx,%%rdx,1)%{1to16%}, %[scale], %%zmm27\n\t"                                                           \
    "leaq (%%rcx,%[stride],4), %%rcx\n\t"                                                                              \
    "vfmadd231ps %%zmm28, %%zmm24, " sum0 "\n\t"                                                                       \
    "vfmadd231ps %%zmm29, %%zmm25, " sum1 "\n\t"                                                                       \
    "vfmadd231ps %%zmm30, %%zmm26, " sum2 "\n\t"                                                                       \
    "vfmadd231ps %%zmm31, %%zmm27, " sum3 "\n\t"
#define BEGIN                                                                                                          \
    "movq %[d], %%rcx\n\t"                                                                                             \
    "leaq (%[stride],%[stride],2), %%rdx\n\t"
#define TO_ROW_8 "leaq (%%rcx,%[stride],8), %%rcx\n\t"
#define SUMS(r) "+v"(acc[r]), "+v"(acc[r + 1]), "+v"(acc[r + 2]), "+v"(acc[r + 3])
#define READ [dots] "r"(dots), [scale] "v"(scale), [d] "r"(d), [stride] "r"(d_stride)
/* sum -= min * sum_x for four rows; rcx, rdx: as above. */
#define MIN_FOUR(sum0, sum1, sum2, sum3)                                                                               \
    "vfnmadd231ps (%%rcx)%{1to16%}, %[min], " sum0 "\n\t"                                                              \
    "vfnmadd231ps (%%rcx,%[stride],1)%{1to16%}, %[min], " sum1 "\n\t"                                                  \
    "vfnmadd231ps (%%rcx,%[stride],2)%{1to16%}, %[min], " sum2 "\n\t"                                                  \
    "vfnmadd231ps (%%rcx,%%rdx,1)%{1to16%}, %[min], " sum3 "\n\t"                                                      \
    "leaq (%%rcx,%[stride],4), %%rcx\n\t"
#define READ_MIN [min] "v"(min), [d] "r"(sum_x), [stride] "r"(sum_stride), "m"(panel->sum_x)
#define CHANGE_MIN "rcx", "rdx", "memory"
#define CHANGE "rcx", "rdx", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "memory"

/* acc += one dot of each of `rows` rows, whose scales begin at d, d_stride bytes apart, and whose sums, for a type with
 * minima, at sum_x. */
INLINE void add_dots(enum kind kind, const uint32_t rows, const struct panel *panel, uint32_t dot,
    const int32_t dots[CF_TILE][CF_TILE], const float *d, size_t d_stride, const float *sum_x, __m512 acc[]) {
    const __m512 scale = _mm512_load_ps(panel->scale[dot]);
    __asm__ volatile(BEGIN FOUR("%0", "%1", "%2", "%3", "0") FOUR("%4", "%5", "%6", "%7", "256")
                     : SUMS(0), SUMS(4)
                     : READ
                     : CHANGE);
    if (rows == 16)
        __asm__ volatile(BEGIN TO_ROW_8 FOUR("%0", "%1", "%2", "%3", "512") FOUR("%4", "%5", "%6", "%7", "768")
                         : SUMS(8), SUMS(12)
                         : READ
                         : CHANGE);
    else if (rows == 12)
        __asm__ volatile(BEGIN TO_ROW_8 FOUR("%0", "%1", "%2", "%3", "512") : SUMS(8) : READ : CHANGE);
    if (!has_min(kind)) return;
    const __m512 min = _mm512_load_ps(panel->min[dot]);
    const size_t sum_stride = has_sums(kind) ? sizeof panel->sum_x[0] : d_stride;
    __asm__ volatile(BEGIN MIN_FOUR("%0", "%1", "%2", "%3") MIN_FOUR("%4", "%5", "%6", "%7")
                     : SUMS(0), SUMS(4)
                     : READ_MIN
                     : CHANGE_MIN);
    if (rows == 16)
        __asm__ volatile(BEGIN TO_ROW_8 MIN_FOUR("%0", "%1", "%2", "%3") MIN_FOUR("%4", "%5", "%6", "%7")
                         : SUMS(8), SUMS(12)
                         : READ_MIN
                         : CHANGE_MIN);
    else if (rows == 12)
        __asm__ volatile(BEGIN TO_ROW_8 MIN_FOUR("%0", "%1", "%2", "%3") : SUMS(8) : READ_MIN : CHANGE_MIN);
}

/* Where the sums of a group of rows go. */
struct target {
    float *y;                   /* of the chunk at hand */
    size_t step;                /* from chunk to chunk */
    const uint32_t *end, *last; /* the column where it ends, and where the last one does */
};

/* The dots from column `column` to the end of the chunk. */
INLINE uint32_t dots_to_end(enum kind kind, const struct target *t, uint32_t column) {
    return t->end <= t->last ? (*t->end - column) / dot_columns(kind) : UINT32_MAX;
}

/* The end of a chunk. */
INLINE void close_sums(const uint32_t rows, struct target *t, __m512 acc[]) {
#pragma GCC unroll 16
    for (uint32_t r = 0; r < rows; r++) {
        _mm512_storeu_ps(t->y + r * CF_TILE, acc[r]);
        acc[r] = _mm512_setzero_ps();
    }
    t->y += t->step;
    t->end++;
}

/* A unit of work: the dots of a group of rows with a panel. */
struct unit {
    uint32_t row, dot, n;
    const struct panel *panel;
};

/* What the units of a product have in common. */
struct rows {
    const int8_t *q; /* of row i0 */
    const float *d, *scaled;
    size_t q_stride, d_stride; /* in bytes; that of d is that of scaled */
    struct work *work;
    struct filling *filling;
};

/* Adds dots i and i + 1 of a unit, of which more than i there are, from pair `turn` of work->dots; the tile
 * instructions make the two behind them, the last two of a unit those of `next`. A dot is stored after the product of
 * the one behind it, for a store waits for its product, and no tile instruction passes another. */
INLINE void add_pair(enum kind kind, const uint32_t rows, const struct unit *u, const uint32_t n, const uint32_t i,
    const uint32_t turn, const struct unit *next, const struct rows *of, struct target *t, uint32_t *end,
    uint32_t column, __m512 acc[]) {
    const uint32_t columns = dot_columns(kind), per_block = dots_per_block(kind);
    const bool last = i + 2 >= n;
    const struct unit *v = last ? next : u;
    const uint32_t first = last ? 0 : i + 2, second = first + (first + 1 < (last ? next->n : n));
    const int8_t *q = of->q + v->row * of->q_stride + v->dot * columns;
    const size_t block = u->row * (of->d_stride / sizeof(float)) + (u->dot + i) / per_block;
    const float *d = of->d + block, *sum_x = NULL;
    if (has_min(kind)) sum_x = has_sums(kind) ? &u->panel->sum_x[u->row][i] : of->scaled + block;
    int32_t(*now)[CF_TILE][CF_TILE] = of->work->dots[turn], (*then)[CF_TILE][CF_TILE] = of->work->dots[1 - turn];

    multiply(0, v->panel->w + first * columns * CF_TILE, q + first * columns, of->q_stride);
    store(1, now[1]);
    add_dots(kind, rows, u->panel, i, now[0], d, of->d_stride, sum_x, acc);
    if (i + 1 == *end) close_sums(rows, t, acc), *end = dots_to_end(kind, t, column);
    multiply(1, v->panel->w + second * columns * CF_TILE, q + second * columns, of->q_stride);
    store(0, then[0]);
    fill_some(kind, of->filling);
    if (i + 1 == n) return;
    add_dots(kind, rows, u->panel, i + 1, now[1], has_halves(kind) ? d : d + 1, of->d_stride,
        has_min(kind) ? sum_x + 1 : NULL, acc);
    if (i + 2 == *end) close_sums(rows, t, acc), *end = dots_to_end(kind, t, column);
}

/* Adds a unit. All but the last ones of a product have PANEL dots, an even number of pairs, so that their places are
 * known beforehand. */
INLINE void add_unit(enum kind kind, const uint32_t rows, const struct unit *u, const struct unit *next,
    const struct rows *of, struct target *t, uint32_t column, __m512 acc[]) {
    uint32_t end = dots_to_end(kind, t, column);
    if (u->n == PANEL) {
#pragma GCC unroll 4
        for (uint32_t i = 0; i < PANEL; i += 2)
            add_pair(kind, rows, u, PANEL, i, i / 2 % 2, next, of, t, &end, column, acc);
        return;
    }
#pragma GCC unroll 1
    for (uint32_t i = 0; i < u->n; i += 2, of->work->turn = 1 - of->work->turn)
        add_pair(kind, rows, u, u->n, i, of->work->turn, next, of, t, &end, column, acc);
}

/* Rows [i0, i0 + n) of the product, n <= PASS, in groups of `rows` <= n: group after group, panel after panel. The
 * last group begins early enough to end with the last row, so that a few rows may be computed twice. */
INLINE void amx_rows(const struct cf_product *p, uint32_t i0, uint32_t n, const uint32_t rows, const enum kind kind) {
    const uint32_t columns = dot_columns(kind), n_dots = (p->c1 - p->c0) / columns, whole[] = {p->c0, p->c1};
    const uint32_t groups = (n + rows - 1) / rows, pairs = groups * (PANEL / 2) - 1; /* before the last of a panel */
    struct target t = {p->y + (size_t)i0 * CF_TILE, (size_t)p->n * CF_TILE, (p->n_chunks ? p->cut : whole) + 1,
        p->n_chunks ? p->cut + p->n_chunks : whole + 1}; /* at the begin of the panel, of row i0 */
    struct filling f = {
        .p = p, .k = first_block(kind, p), .i0 = i0, .n_rows = n, .blocks_at_once = PANEL, .rows_at_once = n};
    struct work work;
    const struct rows of = {.q = cf__row_q(p, i0),
        .d = cf__row_d(p, i0),
        .scaled = has_min(kind) && !has_sums(kind) ? cf__row_scaled(p, i0) : NULL,
        .q_stride = p->x->q_stride,
        .d_stride = p->x->q_stride / 32 * sizeof(float),
        .work = &work,
        .filling = &f};
    work.turn = 0;

    configure(rows, columns);
    fill_next(&f, &work, n_dots);
    fill_some(kind, &f);
    f.blocks_at_once = (PANEL / dots_per_block(kind) + pairs - 1) / pairs;
    f.rows_at_once = (n + pairs - 1) / pairs;
    struct unit next = {.dot = 0, .n = f.n, .panel = &work.panel[0]};
    const uint32_t second = next.n > 1 ? columns : 0;
    multiply(0, next.panel->w, of.q, of.q_stride);
    multiply(1, next.panel->w + second * CF_TILE, of.q + second, of.q_stride);
    store(0, work.dots[0][0]);
    for (uint32_t dot = 0; dot < n_dots; dot += PANEL) {
        struct target of_group = t;
        fill_next(&f, &work, n_dots);
        for (uint32_t g = 0; g < groups; g++) {
            const struct unit u = next;
            float(*sums)[CF_TILE] = work.acc + g * rows;
            __m512 acc[CF_TILE];
            if (g + 1 < groups)
                next.row = g + 2 < groups ? (g + 1) * rows : n - rows;
            else if (f.n) /* else nothing: dots are made once more */
                next = (struct unit){.dot = f.dot, .n = f.n, .panel = f.to};
            of_group = t;
            of_group.y += u.row * CF_TILE;
#pragma GCC unroll 16
            for (uint32_t i = 0; i < rows; i++)
                acc[i] = dot ? _mm512_load_ps(sums[i]) : _mm512_setzero_ps();
            add_unit(kind, rows, &u, &next, &of, &of_group, p->c0 + dot * columns, acc);
#pragma GCC unroll 16
            for (uint32_t i = 0; i < rows; i++)
                _mm512_store_ps(sums[i], acc[i]);
        }
        of_group.y -= (n - rows) * CF_TILE;
        t = of_group;
    }
}

/* The size of groups, of which each costs as much as 6.4 rows of AVX-512 and 0.38 more for each of its rows (measured,
 * README.md); 0: AVX-512 is as quick. */
static uint32_t rows_per_group(uint32_t n) {
    uint32_t best = 0, cost = 100 * n;
    for (uint32_t rows = 12; rows <= 16 && rows <= n; rows += 4) {
        const uint32_t c = (n + rows - 1) / rows * (640 + 38 * rows);
        if (c < cost) best = rows, cost = c;
    }
    return best;
}

INLINE void by_passes(const struct cf_product *p, const enum kind kind, cf_product_fn few) {
    if (has_min(kind) && !has_sums(kind) && !p->x->scaled) {
        few(p);
        return;
    }
    const uint32_t passes = (p->n + PASS - 1) / PASS, most = passes ? (p->n + passes - 1) / passes : 0;
    for (uint32_t i0 = 0; i0 < p->n; i0 += most) {
        const uint32_t n = p->n - i0 < most ? p->n - i0 : most, rows = rows_per_group(n);
        if (rows == 16) {
            amx_rows(p, i0, n, 16, kind);
        } else if (rows == 12) {
            amx_rows(p, i0, n, 12, kind);
        } else {
            struct cf_product rest = *p;
            rest.row0 += i0, rest.n = n, rest.y += (size_t)i0 * CF_TILE;
            few(&rest);
        }
    }
}

/* More rows than a pass may leave a few over, to a function that would put their chunks elsewhere. */
static bool takes_chunks(const struct cf_product *p) {
    return p->n_chunks == 0 || p->n <= PASS;
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
