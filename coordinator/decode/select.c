/* See select.h. A bounded heap with the worst of the k best on top throws out what is no better; turned over afterwards
 * it gives the best one first, and only as many as somebody asks for are ever sorted. */
#include "coordinator/decode/select.h"

bool cf_candidate_before(struct cf_candidate a, struct cf_candidate b) {
    if (a.logit > b.logit) return true;
    if (a.logit < b.logit) return false;
    bool a_nan = a.logit != a.logit, b_nan = b.logit != b.logit;
    return a_nan != b_nan ? b_nan : a.id < b.id;
}

/* Lets heap[i] sink until its children belong below it. best_first: the best on top, else the worst. */
static void sink(struct cf_candidate *heap, uint32_t n, uint32_t i, bool best_first) {
    struct cf_candidate moving = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && cf_candidate_before(heap[child + 1], heap[child]) == best_first) child++;
        if (cf_candidate_before(heap[child], moving) != best_first) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

static void heapify(struct cf_candidate *heap, uint32_t n, bool best_first) {
    for (uint32_t i = n / 2; i-- > 0;)
        sink(heap, n, i, best_first);
}

void cf_select(const float *logits, uint32_t n, struct cf_candidate *out, uint32_t k) {
    if (!k) return;
    for (uint32_t id = 0; id < k; id++)
        out[id] = (struct cf_candidate){logits[id], id};
    if (k < n) heapify(out, k, false);
    for (uint32_t id = k; id < n; id++) {
        struct cf_candidate c = {logits[id], id};
        if (!cf_candidate_before(c, out[0])) continue;
        out[0] = c;
        sink(out, k, 0, false);
    }
    heapify(out, k, true);
}

struct cf_candidate cf_select_pop(struct cf_candidate *heap, uint32_t *n) {
    struct cf_candidate best = heap[0];
    heap[0] = heap[--*n];
    if (*n) sink(heap, *n, 0, true);
    return best;
}
