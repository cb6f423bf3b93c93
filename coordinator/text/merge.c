/* See merge.h. */
#include "coordinator/text/merge.h"

#include <stdlib.h>

static int grow(void **room, size_t *capacity, size_t n, size_t size, struct cf_error *e) {
    if (n <= *capacity) return 0;
    size_t wanted = *capacity ? *capacity * 2 : 64;
    void *bigger = realloc(*room, wanted * size);
    if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory to tokenize a text of %zu symbols", n);
    *room = bigger;
    *capacity = wanted;
    return 0;
}

int cf__merge_symbol(struct cf__merger *m, uint32_t start, uint32_t length, uint32_t id, struct cf_error *e) {
    if (m->n_symbols >= UINT32_MAX - 1) return cf_fail(e, CF_ERR_LIMIT, "text of too many symbols");
    if (grow((void **)&m->symbols, &m->symbols_room, m->n_symbols + 1, sizeof *m->symbols, e)) return -1;
    uint32_t i = (uint32_t)m->n_symbols++;
    m->symbols[i] = (struct cf__symbol){start, length, id, i ? i - 1 : UINT32_MAX, UINT32_MAX};
    if (i) m->symbols[i - 1].next = i;
    return 0;
}

static bool better(const struct cf__pair *a, const struct cf__pair *b) {
    return a->priority > b->priority || (a->priority == b->priority && a->left < b->left);
}

static int push(struct cf__merger *m, struct cf__pair pair, struct cf_error *e) {
    if (grow((void **)&m->heap, &m->heap_room, m->n_heap + 1, sizeof *m->heap, e)) return -1;
    size_t i = m->n_heap++;
    for (; i && better(&pair, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = pair;
    return 0;
}

static struct cf__pair pop(struct cf__merger *m) {
    struct cf__pair best = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < m->n_heap; i = child) {
        if (child + 1 < m->n_heap && better(&m->heap[child + 1], &m->heap[child])) child++;
        if (!better(&m->heap[child], &last)) break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = last;
    return best;
}

static int consider(
    struct cf__merger *m, uint32_t left, uint32_t right, cf__join_fn *join, const void *context, struct cf_error *e) {
    if (left == UINT32_MAX || right == UINT32_MAX) return 0;
    const struct cf__symbol *a = &m->symbols[left], *b = &m->symbols[right];
    struct cf__pair pair = {.left = left, .right = right, .length = a->length + b->length};
    if (!join(context, a, b, &pair.priority, &pair.id)) return 0;
    return push(m, pair, e);
}

int cf__merge_run(struct cf__merger *m, cf__join_fn *join, const void *context, struct cf_error *e) {
    m->n_heap = 0;
    for (uint32_t i = 1; i < m->n_symbols; i++)
        if (consider(m, i - 1, i, join, context, e)) return -1;
    while (m->n_heap) {
        struct cf__pair pair = pop(m);
        struct cf__symbol *left = &m->symbols[pair.left], *right = &m->symbols[pair.right];
        if (!left->length || !right->length || left->length + right->length != pair.length) continue;
        left->length = pair.length;
        left->id = pair.id;
        left->next = right->next;
        right->length = 0;
        if (right->next != UINT32_MAX) m->symbols[right->next].prev = pair.left;
        if (consider(m, left->prev, pair.left, join, context, e)) return -1;
        if (consider(m, pair.left, left->next, join, context, e)) return -1;
    }
    return 0;
}

void cf__merge_free(struct cf__merger *m) {
    free(m->symbols);
    free(m->heap);
    *m = (struct cf__merger){0};
}
