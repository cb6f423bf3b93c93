/* DRY, "don't repeat yourself" (p-e-w 2024, github.com/oobabooga/text-generation-webui/pull/5677): a token that would
 * go on with a sequence said before loses multiplier * base^(length of the sequence - allowed length). The limits of
 * what is looked at are those of llama.cpp.
 *
 * With r the window, youngest first, and match[k] the number of equal ids of r[0..] and r[k..] (the Z function,
 * Gusfield 1997, section 1.4): the last match[k] ids were said before, and then r[k - 1] came.
 */
#include "coordinator/sample/internal.h"

static uint32_t unroll(struct cf__dry *d) {
    const struct cf__window *w = &d->window;
    for (uint32_t i = 0; i < w->filled; i++)
        d->recent[i] = w->ids[(w->at + w->n - 1 - i) % w->n];
    return w->filled;
}

static void match(struct cf__dry *d, uint32_t n) {
    const uint32_t *r = d->recent;
    uint32_t left = 0, right = 0; /* r[left..right) equals r[0..right - left) */
    d->match[0] = n;
    for (uint32_t k = 1; k < n; k++) {
        uint32_t z = k < right ? right - k : 0;
        if (z > d->match[k - left]) z = d->match[k - left];
        while (k + z < n && r[z] == r[k + z])
            z++;
        d->match[k] = z;
        if (k + z > right) left = k, right = k + z;
    }
}

static bool breaks(const struct cf_breaker *b, const uint32_t *recent, uint32_t at) {
    if (b->n_tail > at) return false;
    for (uint32_t i = 0; i < b->n_tail; i++)
        if (b->tail[i] != recent[at - 1 - i]) return false;
    return true;
}

/* How far back a sequence may reach: to the youngest breaker, of several there the longest. */
static uint32_t limit(const struct cf_sampler *s, uint32_t n) {
    const struct cf_breakers *b = s->p.breakers;
    for (uint32_t at = 0; b && at < n; at++) {
        uint32_t id = s->dry.recent[at], longest = 0;
        bool found = false;
        for (uint32_t i = id < b->n_vocab ? b->first[id] : 0; id < b->n_vocab && i < b->first[id + 1]; i++) {
            if (!breaks(&b->at[i], s->dry.recent, at)) continue;
            found = true;
            if (b->at[i].n_tail > longest) longest = b->at[i].n_tail;
        }
        if (found) return at - longest;
    }
    return n;
}

static void take(struct cf_sampler *s) {
    double allowed = (double)s->p.dry_allowed_length;
    double most =
        s->p.dry_base > 1.000001 ? floor(88.7228391 / cf_log(s->p.dry_base)) : 0; /* log of the greatest f32 */
    cf__settle(s);
    for (uint32_t i = 0; i < s->list.n; i++) {
        struct cf_candidate *c = &s->list.at[i];
        if (!s->dry.repeats[c->id] || cf_breakers_single(s->p.breakers, c->id)) continue;
        double over = (double)s->dry.repeats[c->id] - 1 - allowed;
        if (most > 0 && over > most) over = most;
        c->logit -= (float)(s->p.dry_multiplier * cf_pow(s->p.dry_base, over));
    }
    s->list.n_sorted = 0;
}

void cf__dry(struct cf_sampler *s) {
    struct cf__dry *d = &s->dry;
    if (!d->window.n || (int64_t)d->window.filled <= s->p.dry_allowed_length) return;
    uint32_t n = unroll(d), longest = limit(s, n);
    if ((int64_t)longest < s->p.dry_allowed_length) return;
    match(d, n);
    bool any = false;
    for (uint32_t k = 1; k < n; k++) {
        uint32_t length = d->match[k] < longest ? d->match[k] : longest, *to = &d->repeats[d->recent[k - 1]];
        if ((int64_t)length < s->p.dry_allowed_length || length < *to) continue;
        *to = length + 1;
        any = true;
    }
    if (!any) return;
    take(s);
    for (uint32_t k = 0; k < n; k++)
        d->repeats[d->recent[k]] = 0;
}
