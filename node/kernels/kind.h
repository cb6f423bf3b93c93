/* The types of weights as constants, by which the products of an instruction set are specialised, and where the blocks
 * of each kind lie. Included by those products only, so the names are short.
 */
#ifndef COFFER_NODE_KERNELS_KIND_H
#define COFFER_NODE_KERNELS_KIND_H

#include "node/kernels/isa.h"
#include "node/kernels/tile.h"

enum kind { Q8_0, Q4_0, Q4_K, Q5_K, Q6_K };
enum float_kind { F32, F16, BF16 };

struct shape {
    uint32_t super, head_bytes, block_bytes;
    uint8_t offset; /* stored weight - offset = weight */
};

INLINE struct shape shape_of(enum kind kind) {
    switch (kind) {
    case Q8_0: return (struct shape){64, sizeof(struct cf__head_pair), sizeof(struct cf__block_q8_0), 128};
    case Q4_0: return (struct shape){64, sizeof(struct cf__head_pair), sizeof(struct cf__block_q4), 8};
    case Q4_K: return (struct shape){256, sizeof(struct cf__head_k), sizeof(struct cf__block_q4), 0};
    case Q5_K: return (struct shape){256, sizeof(struct cf__head_k), sizeof(struct cf__block_q5_k), 0};
    default: return (struct shape){256, sizeof(struct cf__head_q6_k), sizeof(struct cf__block_q6_k), 32};
    }
}

INLINE bool has_min(enum kind kind) {
    return kind == Q4_K || kind == Q5_K;
}

#endif
