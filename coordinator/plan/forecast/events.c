/* See events.h: a binary heap. */
#include "coordinator/plan/forecast/events.h"

#include <stdlib.h>
#include <string.h>

static bool before(const struct cf_event *a, const struct cf_event *b) {
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

void cf_events_push(struct cf_events *s, struct cf_event v) {
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 1024;
        struct cf_event *more = realloc(s->heap, room * sizeof *more);
        if (!more) {
            s->failed = true;
            return;
        }
        s->heap = more, s->room = room;
    }
    v.number = s->number++;
    size_t i = s->n++;
    for (; i && before(&v, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = v;
}

struct cf_event cf_events_pop(struct cf_events *s) {
    struct cf_event top = s->heap[0], last = s->heap[--s->n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < s->n) {
        if (child + 1 < s->n && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

void cf_events_clear(struct cf_events *s) {
    s->n = 0, s->number = 0, s->failed = false;
}

void cf_events_free(struct cf_events *s) {
    free(s->heap);
    memset(s, 0, sizeof *s);
}
