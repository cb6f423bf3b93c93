/* Penalties of what was said lately: repetition (Keskar et al. 2019, CTRL, section 4.1, with the sign rule of its later
 * implementations), frequency and presence (OpenAI's API). Each id of the window once, however often it stands there.
 */
#include <stdlib.h>

#include "coordinator/sample/internal.h"

int cf__window_new(struct cf__window *w, uint32_t n) {
    w->n = n;
    w->ids = calloc((size_t)n + 1, sizeof *w->ids);
    return w->ids ? 0 : -1;
}

bool cf__window_push(struct cf__window *w, uint32_t id, uint32_t *left) {
    bool full = w->filled == w->n;
    *left = w->ids[w->at];
    w->ids[w->at] = id;
    w->at = w->at + 1 == w->n ? 0 : w->at + 1;
    w->filled += !full;
    return full;
}

void cf__penalties(struct cf_sampler *s) {
    if (!s->window.filled) return;
    float repeat = (float)s->p.repeat_penalty, frequency = (float)s->p.frequency_penalty;
    float presence = (float)s->p.presence_penalty;
    cf__settle(s);
    for (uint32_t i = 0; i < s->list.n; i++) {
        struct cf_candidate *c = &s->list.at[i];
        uint32_t count = s->count[c->id];
        if (!count) continue;
        c->logit = c->logit <= 0 ? c->logit * repeat : c->logit / repeat;
        c->logit -= (float)count * frequency + presence;
    }
    s->list.n_sorted = 0;
}
