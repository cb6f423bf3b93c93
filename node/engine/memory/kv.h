/* The KV cache of one rank: pages of 64 positions, for many sequences, of the KV heads that this rank attends with.
 *
 * A page holds, for every local layer and KV head, a slot: keys transposed (f16 [d_k][64]: one lane per key) and values
 * (f16 [64][d_v]), or these in fewer bits (kv_type.h). Where values are the first columns of the keys (latent
 * attention) they have no place of their own. Pages are aligned to absolute position. A sequence takes pages from the
 * pool as it grows and gives them back when it is cut (or, where the cache rotates, when no row will see them again);
 * every rank does the same in the same order, so the tables agree without a word.
 */
#ifndef COFFER_NODE_ENGINE_KV_H
#define COFFER_NODE_ENGINE_KV_H

#include "node/engine/memory/kv_type.h"
#include "node/memory/arena.h"
#include "node/model/plan.h"

enum { CF_PAGE = 64, CF_SPAN = 1024 }; /* positions */
#define CF_NO_PAGE UINT32_MAX

struct cf_kv {
    enum cf_kv_type type;
    uint32_t d_k, d_v, n_layers;
    uint32_t d_v_apart;   /* d_v, or 0: the first d_v columns of a key are its value */
    size_t slot_bytes;    /* keys and values of one (layer, head) in one page */
    uint32_t *kv0, *n_kv; /* [n_layers] KV heads held here; n_kv 0: none */
    uint32_t *first_slot; /* [n_layers] index of the layer's first (layer, head) slot in a page */
    uint32_t slots;       /* (layer, head) pairs per page */
    uint32_t n_seqs, pages_per_seq, n_pages, n_free;
    uint32_t *table;     /* [n_seqs][pages_per_seq] page numbers, CF_NO_PAGE for those given back in the middle */
    uint32_t *length;    /* [n_seqs] pages in use, those in the middle included */
    uint32_t *forgotten; /* [n_seqs] page up to which cf_kv_forget() has gone */
    uint32_t *free_list; /* [n_pages] stack */
    uint16_t *data;
};

/* Sizes from the plan, nothing allocated from the arena yet. */
int cf_kv_measure(struct cf_kv *kv, const struct cf_plan *p, const struct cf_model *m, int rank, struct cf_error *e);
uint64_t cf_kv_bytes(const struct cf_kv *kv);
/* Takes the pool from the arena. */
int cf_kv_place(struct cf_kv *kv, struct cf_arena *arena, struct cf_error *e);
void cf_kv_free(struct cf_kv *kv);

/* Makes sure that positions up to `position` of the sequence have pages. -1: sequence or position out of range. */
int cf_kv_reserve(struct cf_kv *kv, uint32_t sequence, uint32_t position, struct cf_error *e);
/* Forgets positions >= position. */
void cf_kv_truncate(struct cf_kv *kv, uint32_t sequence, uint32_t position);

/* Gives back the pages that lie wholly in positions [first, end). first is the same in every call for a sequence. */
void cf_kv_forget(struct cf_kv *kv, uint32_t sequence, uint32_t first, uint32_t end);
static inline bool cf_kv_has(const struct cf_kv *kv, uint32_t sequence, uint32_t page) {
    return page < kv->length[sequence] && kv->table[(size_t)sequence * kv->pages_per_seq + page] != CF_NO_PAGE;
}

/* All slots of one page of a sequence, one behind the other. */
char *cf_kv_page(const struct cf_kv *kv, uint32_t sequence, uint32_t page);
/* Zeros behind the first `positions` of a sequence, as far as its last page goes. */
void cf_kv_clear_tail(struct cf_kv *kv, uint32_t sequence, uint32_t positions);

/* The slot of one page of a sequence; of type f16, its keys [d_k][64] and values [64][d_v_apart]. */
static inline uint16_t *cf_kv_keys(
    const struct cf_kv *kv, uint32_t sequence, uint32_t page, uint32_t layer, uint32_t head) {
    size_t slot =
        (size_t)kv->table[(size_t)sequence * kv->pages_per_seq + page] * kv->slots + kv->first_slot[layer] + head;
    return kv->data + slot * (kv->slot_bytes / sizeof(uint16_t));
}
static inline uint16_t *cf_kv_values(
    const struct cf_kv *kv, uint32_t sequence, uint32_t page, uint32_t layer, uint32_t head) {
    return cf_kv_keys(kv, sequence, page, layer, head) + (size_t)CF_PAGE * kv->d_k;
}

#endif
