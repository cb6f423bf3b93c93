/* See split.h. */
#include "coordinator/plan/split.h"

enum { LOGIT_BYTES = 64 << 20, LEAST_WANT = 16 };
enum { CHUNKS_PER_BATCH = 4, LEAST_ROWS = 64, ROWS = 32 /* a multiple of what one product call takes */ };

uint32_t cf_split_prompt(const struct cf_plan *p, uint32_t n) {
    if (p->n_flight == 1) return p->n_rows;
    uint64_t chunks = (uint64_t)CHUNKS_PER_BATCH * p->n_flight;
    uint64_t rows = (n + chunks - 1) / chunks;
    rows = (rows + ROWS - 1) / ROWS * ROWS;
    if (rows < LEAST_ROWS) rows = LEAST_ROWS;
    return rows < p->n_rows ? (uint32_t)rows : p->n_rows;
}

uint32_t cf_split_want(uint32_t rows, uint32_t n_vocab) {
    uint32_t most = LOGIT_BYTES / (uint32_t)sizeof(float) / n_vocab;
    if (most < LEAST_WANT) most = LEAST_WANT;
    return rows < most ? rows : most;
}

uint32_t cf_split_sequences(const struct cf_plan *p, uint32_t n) {
    return n < p->n_flight ? n : p->n_flight;
}

void cf_split_share(uint32_t n, uint32_t batches, uint32_t batch, uint32_t *first, uint32_t *last) {
    *first = (uint32_t)((uint64_t)batch * n / batches);
    *last = (uint32_t)((uint64_t)(batch + 1) * n / batches);
}
