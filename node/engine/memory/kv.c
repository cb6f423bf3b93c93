/* See kv.h. */
#include "node/engine/memory/kv.h"

#include <stdlib.h>
#include <string.h>

/* Pages of a sequence that are in use at once: a rotating cache has those that are kept, and the window of the oldest
 * row in flight up to the newest. */
static uint32_t pages_at_once(const struct cf_kv *kv, const struct cf_plan *p) {
    if (!p->kv_size) return kv->pages_per_seq;
    uint64_t moving = (uint64_t)p->kv_size - p->kv_keep + (uint64_t)p->n_rows * p->n_flight;
    uint64_t pages = (p->kv_keep + CF_PAGE - 1) / CF_PAGE + (moving + CF_PAGE - 1) / CF_PAGE + 1;
    return pages < kv->pages_per_seq ? (uint32_t)pages : kv->pages_per_seq;
}

int cf_kv_measure(struct cf_kv *kv, const struct cf_plan *p, const struct cf_model *m, int rank, struct cf_error *e) {
    memset(kv, 0, sizeof *kv);
    kv->d_k = m->d_k, kv->d_v = m->d_v, kv->d_v_apart = m->d_v_apart, kv->n_layers = m->n_layers;
    kv->type = p->kv_type;
    kv->slot_bytes = cf_kv_side_bytes(kv->type, m->d_k) + cf_kv_side_bytes(kv->type, m->d_v_apart);
    kv->n_seqs = p->n_seqs, kv->pages_per_seq = (p->n_ctx + CF_PAGE - 1) / CF_PAGE;
    kv->n_pages = kv->n_seqs * pages_at_once(kv, p), kv->n_free = kv->n_pages;
    kv->forgotten = calloc(kv->n_seqs, sizeof(uint32_t));
    kv->kv0 = calloc(m->n_layers, sizeof(uint32_t)), kv->n_kv = calloc(m->n_layers, sizeof(uint32_t));
    kv->first_slot = calloc(m->n_layers, sizeof(uint32_t)), kv->length = calloc(kv->n_seqs, sizeof(uint32_t));
    kv->table = calloc((size_t)kv->n_seqs * kv->pages_per_seq, sizeof(uint32_t)),
    kv->free_list = calloc(kv->n_pages, sizeof(uint32_t));
    if (!kv->kv0 || !kv->n_kv || !kv->first_slot || !kv->length || !kv->table || !kv->free_list || !kv->forgotten) {
        cf_kv_free(kv);
        return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < kv->n_pages; i++)
        kv->free_list[i] = kv->n_pages - 1 - i;
    for (uint32_t l = 0; l < m->n_layers; l++) {
        uint32_t first, last;
        kv->first_slot[l] = kv->slots;
        if (cf_plan_member(cf_plan_find(p, CF_TEMPORAL, l), rank, &first, &last) < 0) continue;
        struct cf_heads h = cf_model_heads(m, first, last);
        kv->kv0[l] = h.kv0, kv->n_kv[l] = h.kv1 - h.kv0;
        kv->slots += kv->n_kv[l];
    }
    return 0;
}

uint64_t cf_kv_bytes(const struct cf_kv *kv) {
    return (uint64_t)kv->n_pages * kv->slots * kv->slot_bytes;
}

int cf_kv_place(struct cf_kv *kv, struct cf_arena *arena, struct cf_error *e) {
    if (!kv->slots) return 0;
    kv->data = cf_arena_take(arena, cf_kv_bytes(kv), 4096);
    return kv->data ? 0 : cf_fail(e, CF_ERR_MEMORY, "the arena is full at the KV cache");
}

void cf_kv_free(struct cf_kv *kv) {
    free(kv->kv0);
    free(kv->n_kv);
    free(kv->first_slot);
    free(kv->length);
    free(kv->table);
    free(kv->free_list);
    free(kv->forgotten);
    memset(kv, 0, sizeof *kv);
}

int cf_kv_reserve(struct cf_kv *kv, uint32_t sequence, uint32_t position, struct cf_error *e) {
    if (sequence >= kv->n_seqs || position / CF_PAGE >= kv->pages_per_seq)
        return cf_fail(e, CF_ERR_LIMIT,
            "sequence %u position %u lies beyond the KV cache (%u sequences of %u positions)", sequence, position,
            kv->n_seqs, kv->pages_per_seq * CF_PAGE);
    uint32_t *table = kv->table + (size_t)sequence * kv->pages_per_seq;
    for (; kv->length[sequence] <= position / CF_PAGE; kv->length[sequence]++) {
        if (!kv->n_free) return cf_fail(e, CF_ERR_LIMIT, "the KV cache has no page left for sequence %u", sequence);
        table[kv->length[sequence]] = kv->free_list[--kv->n_free];
    }
    return 0;
}

static void give_back(struct cf_kv *kv, uint32_t sequence, uint32_t page) {
    if (cf_kv_has(kv, sequence, page))
        kv->free_list[kv->n_free++] = kv->table[(size_t)sequence * kv->pages_per_seq + page];
}

void cf_kv_truncate(struct cf_kv *kv, uint32_t sequence, uint32_t position) {
    if (sequence >= kv->n_seqs) return;
    uint32_t keep = (position + CF_PAGE - 1) / CF_PAGE;
    for (; kv->length[sequence] > keep; kv->length[sequence]--)
        give_back(kv, sequence, kv->length[sequence] - 1);
    if (kv->forgotten[sequence] > keep) kv->forgotten[sequence] = keep;
}

void cf_kv_forget(struct cf_kv *kv, uint32_t sequence, uint32_t first, uint32_t end) {
    uint32_t page = (first + CF_PAGE - 1) / CF_PAGE;
    if (page < kv->forgotten[sequence]) page = kv->forgotten[sequence];
    for (; (page + 1) * CF_PAGE <= end && page < kv->length[sequence]; page++) {
        give_back(kv, sequence, page);
        kv->table[(size_t)sequence * kv->pages_per_seq + page] = CF_NO_PAGE;
        kv->forgotten[sequence] = page + 1;
    }
}

char *cf_kv_page(const struct cf_kv *kv, uint32_t sequence, uint32_t page) {
    size_t number = kv->table[(size_t)sequence * kv->pages_per_seq + page];
    return (char *)kv->data + number * kv->slots * kv->slot_bytes;
}

void cf_kv_clear_tail(struct cf_kv *kv, uint32_t sequence, uint32_t positions) {
    if (positions % CF_PAGE == 0) return;
    char *page = cf_kv_page(kv, sequence, positions / CF_PAGE);
    for (uint32_t s = 0; s < kv->slots; s++)
        cf_kv_blank(kv->type, page + s * kv->slot_bytes, kv->d_k, kv->d_v_apart, positions % CF_PAGE);
}
