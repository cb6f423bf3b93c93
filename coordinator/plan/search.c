/* See search.h. */
#include "coordinator/plan/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "coordinator/plan/sets.h"

enum {
    MOST_CANDIDATES = 4096,
    MANY = 64, /* ranks: only the likely ways are tried beyond */
    FEW = 16,  /* hosts: of more the best set is not tried without one of them and with one more */
    AGAIN = 3, /* ways that are weighed with fewer threads */
    HOME = 4   /* quarters of the head's shares */
};
/* Other hosts are used, numbers rounded, and cores left idle only where that gains so much. */
static const double WORTH = 1.03;

struct searching {
    struct cf_search *s;
    const struct cf_plan_wish *wish;
    const struct cf_model *m;
    const struct cf_gguf *g;
    const struct cf_figures *f;
    struct cf_sets sets;
    uint32_t *use; /* [n_ranks] ranks of the set at hand, ascending */
    char odd[64];  /* cf_candidate.hosts of the set at hand */
    uint32_t set;  /* at hand */
    struct cf_plan best;
    struct cf_error misfit; /* what spoke against the last that did not fit: they have more and more ranks */
    char note[512];
};

/* Prices a plan, and keeps it (else NULL stands in *plan) if it is the quickest so far. */
static int weigh(
    struct searching *k, struct cf_candidate *c, struct cf_plan *plan, const char *note, struct cf_error *e) {
    if (cf_planner_forecast(c, plan, k->m, k->g, k->f, e)) return -1;
    c->fits = true;
    if (c->n_hosts > 1) c->seconds *= WORTH;
    if (c->wire != CF_DTYPE_F32) c->seconds *= WORTH;
    if (c->halved) c->seconds *= WORTH;
    if (k->best.rows && c->seconds >= k->s->c[k->s->best].seconds) return 0;
    cf_plan_free(&k->best);
    k->best = *plan, k->s->best = (uint32_t)(c - k->s->c);
    memset(plan, 0, sizeof *plan);
    memcpy(k->note, note, sizeof k->note);
    return 0;
}

/* The plan of one way, for the figures at hand. */
static int make(
    struct searching *k, struct cf_candidate *way, struct cf_plan *plan, char note[512], struct cf_error *e) {
    struct cf_plan_wish wish = *k->wish;
    if (!wish.settled) {
        wish.layout = (int)way->layout, wish.stages = way->stages, wish.use = k->use, wish.n_use = way->n_use;
        wish.wire = way->wire, wish.equal = way->equal;
    }
    wish.head_home = way->head_home;
    int rc = cf_planner_make(plan, &wish, k->m, k->g, k->f->ranks, k->f->n_ranks, note, e);
    if (!rc) way->layout = plan->layout;
    cf__candidate_describe(way, rc ? NULL : plan, k->wish->any_wire, k->f);
    return rc;
}

/* The cuts of one way that have been tried, by their hashes. */
struct tried {
    uint64_t cuts[2 + HOME];
    uint32_t n;
};
static bool is_new(struct tried *t, const struct cf_plan *p) {
    uint64_t hash = XXH64(p->rows, p->n_plan_rows * sizeof *p->rows, 0);
    for (uint32_t i = 0; i < t->n; i++)
        if (t->cuts[i] == hash) return false;
    t->cuts[t->n++] = hash;
    return true;
}

/* Is there a way already that fits on so many ranks, and leaves none of them without work? */
static bool has_without(const struct cf_search *s, uint32_t ranks) {
    for (uint32_t i = 0; i < s->n; i++)
        if (s->c[i].fits && s->c[i].n_use == ranks && s->c[i].n_work == ranks) return true;
    return false;
}

/* Plans and prices one way with its cuts: *c is where it stands then, NULL if it does not fit (of a way's first cuts
 * the reason stays among the candidates) or if these cuts have been tried. */
static int try_cuts(struct searching *k, const struct cf_candidate *way, struct tried *t, struct cf_candidate **at,
    struct cf_error *e) {
    struct cf_candidate *c = &k->s->c[k->s->n];
    struct cf_plan plan = {0};
    struct cf_error why = {0};
    char note[512] = "";
    *at = NULL;
    if (k->s->n == MOST_CANDIDATES) return 0;
    *c = *way;
    bool fits = !make(k, c, &plan, note, &why);
    int rc = 0;
    if (!fits && !t->n) {
        snprintf(c->why, sizeof c->why, "%.190s", why.text);
        k->misfit = why;
        k->s->n++;
    } else if (fits && is_new(t, &plan) && !(c->n_work < c->n_use && has_without(k->s, c->n_work))) {
        k->s->n++, *at = c;
        rc = weigh(k, c, &plan, note, e);
    }
    cf_plan_free(&plan);
    return rc;
}

/* Less and less of the head on other hosts than rank 0's. */
static int try_home(struct searching *k, const struct cf_candidate *best, struct tried *t, struct cf_error *e) {
    if (best->layout != CF_LAYOUT_TENSOR || best->n_hosts == 1 || k->wish->cut_weights || k->wish->even_head) return 0;
    for (uint32_t quarters = 1; quarters <= HOME; quarters++) {
        struct cf_candidate way = *best, *ignored;
        way.head_home = quarters;
        if (try_cuts(k, &way, t, &ignored, e)) return -1;
    }
    return 0;
}

/* Plans and prices one way: with shares by bandwidth, and if those differ, with equal ones, whose sums may need fewer
 * vectors; the better of them with less of the head on other hosts. A way that does not fit is no failure. */
static int try_wire(struct searching *k, const struct cf_candidate *way, struct cf_error *e) {
    struct cf_candidate *best, *equal = NULL, even = *way;
    struct tried t = {.n = 0};
    even.equal = true;
    if (try_cuts(k, way, &t, &best, e)) return -1;
    if (!best) return 0;
    if (!k->wish->settled && try_cuts(k, &even, &t, &equal, e)) return -1;
    return try_home(k, equal && equal->seconds < best->seconds ? equal : best, &t, e);
}

/* One way, and if any is welcome with each type of numbers between its hosts. */
static int try(
    struct searching *k, enum cf_layout layout, uint32_t stages, uint32_t n_use, uint32_t n_hosts, struct cf_error *e) {
    struct cf_candidate way = {
        .layout = layout, .wire = k->wish->wire, .stages = stages, .n_use = n_use, .n_hosts = n_hosts, .set = k->set};
    memcpy(way.hosts, k->odd, sizeof way.hosts);
    if (!k->wish->any_wire || n_hosts == 1) return try_wire(k, &way, e);
    for (int wire = 0; wire < CF_DTYPES; wire++) {
        way.wire = (enum cf_dtype)wire;
        if (try_wire(k, &way, e)) return -1;
    }
    return 0;
}

/* All ways on one set of hosts. */
static int try_set(struct searching *k, uint32_t set, struct cf_error *e) {
    uint32_t n_use = cf_sets_ranks(&k->sets, set, k->use), n_hosts = cf_sets_hosts(&k->sets, set);
    k->set = set;
    if (n_use == 1) return try(k, CF_LAYOUT_TENSOR, 0, 1, 1, e);
    if (n_use <= CF_MAX_MEMBERS && try(k, CF_LAYOUT_TENSOR, 0, n_use, n_hosts, e)) return -1;
    if (try(k, CF_LAYOUT_LAYERS, 0, n_use, n_hosts, e)) return -1;
    if (n_use <= MANY && try(k, CF_LAYOUT_DOMAIN, 0, n_use, n_hosts, e)) return -1;
    if (n_hosts > 1 && n_hosts < n_use && try(k, CF_LAYOUT_HYBRID, n_hosts, n_use, n_hosts, e)) return -1;
    for (uint32_t stages = 2; stages < n_use; stages *= 2)
        if (stages != n_hosts && (n_use + stages - 1) / stages <= CF_MAX_MEMBERS) {
            if (try(k, CF_LAYOUT_HYBRID, stages, n_use, n_hosts, e)) return -1;
            if (n_use > MANY) break; /* the largest groups */
        }
    return 0;
}

static int by_seconds(const void *a, const void *b) {
    const struct cf_candidate *x = a, *y = b;
    if (x->fits != y->fits) return y->fits - x->fits;
    return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

/* Not every number of hosts is worth the time: of few hosts one to four, eight, sixteen (try_neighbours finds those in
 * between), of many one, two, three, four, six, eight, twelve, ... or, of even more ranks, one, two, four, eight, ...
 */
static bool is_tried(const struct searching *k, uint32_t n) {
    bool thirds = k->f->n_hosts > FEW && k->f->n_ranks <= 4 * MANY && n % 3 == 0;
    uint32_t part = thirds ? n / 3 : n;
    return n == k->f->n_hosts || (n <= 4 && k->f->n_hosts <= FEW) || !(part & (part - 1));
}

/* One host, two, ... of the order at hand. */
static int try_order(struct searching *k, bool odd, struct cf_error *e) {
    memset(k->sets.in, 0, k->f->n_hosts * sizeof *k->sets.in);
    for (uint32_t n = 1; n <= k->f->n_hosts; n++) {
        k->sets.in[k->sets.order[n - 1]] = true;
        if (!is_tried(k, n) || (n == 1 && k->f->n_ranks == 1)) continue;
        uint32_t set = cf_sets_add(&k->sets);
        k->odd[0] = '\0';
        if (set && odd) cf_sets_name(&k->sets, k->odd, sizeof k->odd);
        if (set && cf_sets_ranks(&k->sets, set, k->use) > 1 && try_set(k, set, e)) return -1;
    }
    return 0;
}

/* The set in sets.in[] is tried if it is new; where it is not quicker than the best so far nothing of it stays.
 * *better: whether it was. */
static int try_neighbour(struct searching *k, bool *better, struct cf_error *e) {
    struct cf_search *s = k->s;
    uint32_t set = cf_sets_add(&k->sets), first = s->n, best = s->best;
    *better = false;
    if (!set) return 0;
    cf_sets_name(&k->sets, k->odd, sizeof k->odd);
    if (try_set(k, set, e)) return -1;
    *better = s->best != best;
    if (*better) s->c[first] = s->c[s->best], s->best = first;
    s->n = first + *better;
    return 0;
}

/* The best set without one of its hosts, and with one more, for as long as that is quicker: where a slow host or a bad
 * cable stands in both orders before a good one. */
static int try_neighbours(struct searching *k, struct cf_error *e) {
    const struct cf_figures *f = k->f;
    bool better = k->best.rows != NULL && f->n_hosts <= FEW && f->n_ranks <= MANY;
    while (better) {
        uint32_t from = k->s->c[k->s->best].set;
        better = false;
        for (uint32_t h = 1; !better && h < f->n_hosts; h++) {
            bool known = false;
            bool *in = cf_sets_copy(&k->sets, from);
            in[0] = true; /* also where rank 0 alone was the best */
            for (uint32_t g = 1; g < h; g++)
                known |= in[g] == in[h] && cf_hosts_are_alike(f, g, h);
            in[h] = !in[h];
            if (!known && try_neighbour(k, &better, e)) return -1;
        }
    }
    return 0;
}

static int try_all(struct searching *k, struct cf_error *e) {
    uint32_t all = k->f->n_ranks, n_hosts = k->f->n_hosts;
    memset(k->sets.in, 1, n_hosts * sizeof *k->sets.in);
    if (k->wish->settled || k->wish->layout >= 0) k->set = cf_sets_add(&k->sets);
    if (k->wish->settled) {
        struct cf_candidate way = {
            .wire = k->wish->wire, .stages = k->wish->stages, .n_use = all, .n_hosts = n_hosts, .set = k->set};
        return try_wire(k, &way, e);
    }
    if (k->wish->layout >= 0)
        return try(
            k, (enum cf_layout)k->wish->layout, k->wish->stages, cf_sets_ranks(&k->sets, k->set, k->use), n_hosts, e);
    if (try_set(k, 0, e)) return -1;
    for (int nearest = 0; nearest < 2; nearest++) {
        cf_sets_order(&k->sets, nearest);
        if (try_order(k, nearest, e)) return -1;
    }
    return try_neighbours(k, e);
}

/* Of the candidates from `first` on only the quickest stays. */
static void keep_quickest(struct cf_search *s, uint32_t first) {
    uint32_t best = first;
    for (uint32_t i = first; i < s->n; i++)
        if (s->c[i].seconds < s->c[best].seconds) best = i;
    if (s->best == best) s->best = first; /* if it is the best of all it is the quickest here */
    if (s->n > first) s->c[first] = s->c[best], s->n = first + 1;
}

/* One way with half of the threads, a quarter of them, ... one. Many ranks take long: a number that makes them slower
 * is the last. */
static int halve_threads(struct searching *k, const struct cf_candidate *way, struct cf_figures *half,
    const struct cf_figures *all, struct cf_error *e) {
    uint32_t first = k->s->n;
    double least = way->seconds;
    int rc = 0;
    if (!k->wish->settled) cf_sets_ranks(&k->sets, way->set, k->use);
    k->f = half;
    for (uint32_t times = 1; !rc && times <= cf_figures_halvings(all) && k->s->n < MOST_CANDIDATES; times++) {
        struct cf_candidate *c = &k->s->c[k->s->n];
        struct cf_plan plan = {0};
        struct cf_error why = {0};
        char note[512] = "";
        *c = *way, c->halved = times;
        memcpy(half->ranks, all->ranks, all->n_ranks * sizeof *all->ranks);
        cf_figures_halve(half, times);
        if (make(k, c, &plan, note, &why)) break;
        k->s->n++;
        rc = weigh(k, c, &plan, note, e);
        cf_plan_free(&plan);
        if (all->n_ranks > MANY && c->seconds > WORTH * least) break;
        if (c->seconds < least) least = c->seconds;
    }
    k->f = all;
    keep_quickest(k->s, first);
    return rc;
}

/* Is there a quicker one that only cuts the head differently? */
static bool is_variant(const struct cf_search *s, uint32_t i) {
    const struct cf_candidate *c = &s->c[i];
    for (const struct cf_candidate *k = s->c; k < c; k++)
        if (k->layout == c->layout && k->wire == c->wire && k->stages == c->stages && k->n_use == c->n_use &&
            k->equal == c->equal && k->set == c->set)
            return true;
    return false;
}

/* The quickest ways of all threads once more with fewer: of many ranks the quickest alone. */
static int try_fewer(struct searching *k, struct cf_error *e) {
    const struct cf_figures *all = k->f;
    struct cf_figures half = *all;
    uint32_t most = all->n_ranks > MANY ? 1 : AGAIN, ways = k->s->n;
    int rc = 0;
    if (!cf_figures_halvings(all) || !k->best.rows) return 0;
    half.ranks = calloc(all->n_ranks, sizeof *half.ranks);
    if (!half.ranks) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    qsort(k->s->c, k->s->n, sizeof *k->s->c, by_seconds);
    k->s->best = 0;
    for (uint32_t i = 0, n = 0; !rc && i < ways && n < most && k->s->c[i].fits; i++) {
        if (is_variant(k->s, i)) continue;
        rc = halve_threads(k, &k->s->c[i], &half, all, e);
        n++;
    }
    free(half.ranks);
    return rc;
}

int cf_planner_short(const struct cf_model *m, const struct cf_gguf *g, const struct cf_figures *f,
    const struct cf_error *why, struct cf_error *e) {
    static const double GIB = 1024.0 * 1024.0 * 1024.0;
    double weights = 0, has = 0;
    for (int role = 0; role < CF_ROLES; role++)
        for (uint32_t l = 0; l < (role < CF_FIRST_LAYER_ROLE ? 1 : m->n_layers); l++)
            weights += (double)cf_model_bytes(m, g, (enum cf_role)role, l, false);
    for (uint32_t r = 0; r < f->n_ranks; r++)
        has += (double)f->ranks[r].memory_free;
    if (f->n_ranks == 1 || weights <= has) return *e = *why, -1;
    return cf_fail(e, CF_ERR_MEMORY,
        "the model does not fit: its weights are %.2f GiB, and all %u ranks together have %.2f GiB free: %.2f GiB "
        "short",
        weights / GIB, f->n_ranks, has / GIB, (weights - has) / GIB);
}

int cf_planner_search(struct cf_search *s, struct cf_plan *plan, const struct cf_plan_wish *wish,
    const struct cf_model *m, const struct cf_gguf *g, const struct cf_figures *f, char note[512], struct cf_error *e) {
    struct searching k = {.s = s, .wish = wish, .m = m, .g = g, .f = f};
    *s = (struct cf_search){0};
    memset(plan, 0, sizeof *plan);
    s->c = calloc(MOST_CANDIDATES, sizeof *s->c);
    k.use = calloc(f->n_ranks, sizeof *k.use);
    int rc = cf_sets_new(&k.sets, f, e);
    if (!rc && !(s->c && k.use)) rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!rc) rc = try_all(&k, e);
    if (!rc) rc = try_fewer(&k, e);
    free(k.use);
    cf_sets_free(&k.sets);
    if (!rc && !k.best.rows) rc = cf_planner_short(m, g, f, &k.misfit, e);
    if (rc) {
        cf_plan_free(&k.best);
        return -1;
    }
    *plan = k.best;
    memcpy(note, k.note, 512);
    qsort(s->c, s->n, sizeof *s->c, by_seconds);
    s->best = 0;
    return 0;
}
