/* How numbers lie in the KV cache: f16 as the attention kernels read them, or rounded to 8 or 4 bits in blocks of 32
 * along a head, each with an f16 scale, as GGUF's Q8_0 and Q4_0 are.
 *
 * A row of a head (keys or values of one position) is rounded by itself when it is appended, so what lies in the cache
 * depends on nothing but that row; a page is turned back into f16 before it is attended. Both are the same few
 * operations on every machine.
 *
 * A slot is keys, then values of 64 positions: keys transposed [d_k][64] with scales [d_k / 32][64], values [64][d_v]
 * with scales [64][d_v / 32]; of 4 bits two neighbours along d share a byte, the even one below. With d_v 0 a slot has
 * only keys.
 */
#ifndef COFFER_NODE_ENGINE_KV_TYPE_H
#define COFFER_NODE_ENGINE_KV_TYPE_H

#include <stddef.h>
#include <stdint.h>

#include "node/kernels/kernels.h"

enum cf_kv_type { CF_KV_F16, CF_KV_Q8_0, CF_KV_Q4_0, CF_KV_TYPES };
enum { CF_KV_BLOCK = 32 };

/* -1 unknown. */
int cf_kv_type_by_name(const char *name);
const char *cf_kv_type_name(enum cf_kv_type type);

/* Of 64 positions of one head; d a multiple of 32 unless f16. */
size_t cf_kv_side_bytes(enum cf_kv_type type, uint32_t d);

/* One position's keys and values into a slot. */
struct cf_kv_row {
    enum cf_kv_type type;
    uint32_t d_k, d_v, at;
    const float *k, *v; /* [d_k], [d_v] */
};
void cf_kv_put(const struct cf_kernels *kernels, void *slot, const struct cf_kv_row *row);

/* A slot as the kernels want it: k f16 [d_k][64], v f16 [64][d_v]. Not for f16, which lies so. */
void cf_kv_get(const struct cf_kernels *kernels, enum cf_kv_type type, const void *slot, uint32_t d_k, uint32_t d_v,
    uint16_t *k, uint16_t *v);
/* The first d_v columns of keys as values: k f16 [d_v][64] -> v f16 [64][d_v]. */
void cf_kv_turn(const uint16_t *k, uint32_t d_v, uint16_t *v);
/* Zeros for positions [from, 64). */
void cf_kv_blank(enum cf_kv_type type, void *slot, uint32_t d_k, uint32_t d_v, uint32_t from);

#endif
