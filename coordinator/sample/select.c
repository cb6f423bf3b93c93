/* See select.h. A bounded heap with the worst of the k best on top throws out what is no better; then it is sorted. */
#include "coordinator/sample/select.h"

bool cf_candidate_before(struct cf_candidate a, struct cf_candidate b) {
    if (a.logit > b.logit) return true;
    if (a.logit < b.logit) return false;
    bool a_nan = a.logit != a.logit, b_nan = b.logit != b.logit;
    return a_nan != b_nan ? b_nan : a.id < b.id;
}

/* Lets heap[i] sink until its children belong below it: the worst on top. */
static void sink(struct cf_candidate *heap, uint32_t n, uint32_t i) {
    struct cf_candidate moving = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && cf_candidate_before(heap[child], heap[child + 1])) child++;
        if (!cf_candidate_before(moving, heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

static void heapify(struct cf_candidate *heap, uint32_t n) {
    for (uint32_t i = n / 2; i-- > 0;)
        sink(heap, n, i);
}

/* The worst goes to the end, the heap shrinks by it. */
static void sort(struct cf_candidate *heap, uint32_t n) {
    while (n > 1) {
        struct cf_candidate worst = heap[0];
        heap[0] = heap[--n];
        heap[n] = worst;
        sink(heap, n, 0);
    }
}

void cf_select(const float *logits, uint32_t n, struct cf_candidate *out, uint32_t k) {
    if (!k) return;
    for (uint32_t id = 0; id < k; id++)
        out[id] = (struct cf_candidate){logits[id], id};
    heapify(out, k);
    for (uint32_t id = k; id < n; id++) {
        struct cf_candidate c = {logits[id], id};
        if (!cf_candidate_before(c, out[0])) continue;
        out[0] = c;
        sink(out, k, 0);
    }
    sort(out, k);
}

void cf_select_front(struct cf_candidate *at, uint32_t n, uint32_t k) {
    if (!k) return;
    heapify(at, k);
    for (uint32_t i = k; i < n; i++) {
        struct cf_candidate c = at[i];
        if (!cf_candidate_before(c, at[0])) continue;
        at[i] = at[0];
        at[0] = c;
        sink(at, k, 0);
    }
    sort(at, k);
}
