/* See search.h. */
#include "coordinator/plan/search.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CANDIDATES = 256, ROUNDS = 8, MANY = 64 /* ranks: only the likely ways are tried beyond */ };
static const double WORTH = 1.03; /* other hosts are used, and numbers rounded, only where that gains so much */

struct searching {
    struct cf_search *s;
    const struct cf_plan_wish *wish;
    const struct cf_model *m;
    const struct cf_gguf *g;
    const struct cf_figures *f;
    uint32_t *use;   /* [n_ranks] ranks of the set at hand, ascending */
    uint32_t *hosts; /* [n_hosts] hosts, rank 0's first, then by bandwidth */
    struct cf_plan best;
    struct cf_error first; /* what spoke against the first that did not fit */
    char note[512];
};

void cf_search_free(struct cf_search *s) {
    free(s->c);
    memset(s, 0, sizeof *s);
}

bool cf_planner_knows(const struct cf_figures *f) {
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if (f->ranks[r].bandwidth <= 0) return false;
    return true;
}

static int rate_of(
    struct cf_simulation *sim, struct cf_workload w, double *rate, struct cf_forecast *keep, struct cf_error *e) {
    struct cf_forecast f;
    if (cf_simulation_run(sim, &w, &f, e)) return -1;
    *rate = f.rate;
    if (keep)
        *keep = f;
    else
        cf_forecast_free(&f);
    return 0;
}

int cf_planner_forecast(struct cf_candidate *c, const struct cf_plan *plan, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, struct cf_error *e) {
    struct cf_simulation *sim;
    struct cf_forecast all = {0};
    if (cf_simulation_new(&sim, plan, m, g, f, e)) return -1;
    uint32_t prompt = plan->n_ctx < CF_SEARCH_PROMPT ? plan->n_ctx : CF_SEARCH_PROMPT, n = plan->n_seqs;
    int rc = rate_of(sim, (struct cf_workload){.prompt = prompt}, &c->prefill, NULL, e);
    if (!rc) rc = rate_of(sim, (struct cf_workload){prompt, 0, ROUNDS, 1}, &c->decode, NULL, e);
    if (!rc) rc = rate_of(sim, (struct cf_workload){prompt, 0, ROUNDS, n}, &c->all, &all, e);
    cf_simulation_free(sim);
    if (rc) return -1;
    c->seconds = n * (CF_SEARCH_PROMPT / c->prefill + CF_SEARCH_ANSWER / c->all);
    snprintf(c->why, sizeof c->why, "%s", all.bottleneck);
    cf_forecast_free(&all);
    return 0;
}

/* Ranks of the first n hosts of the list; none: rank 0 alone. Returns how many. */
static uint32_t ranks_of(struct searching *k, uint32_t n) {
    uint32_t used = 0;
    for (uint32_t r = 0; r < k->f->n_ranks; r++) {
        bool in = !n && !r;
        for (uint32_t h = 0; h < n; h++)
            in |= (uint32_t)k->f->ranks[r].host_index == k->hosts[h];
        if (in) k->use[used++] = r;
    }
    return used;
}

static void order_hosts(struct searching *k) {
    uint32_t n = k->f->n_hosts;
    double *sum = calloc(n, sizeof *sum);
    for (uint32_t r = 0; sum && r < k->f->n_ranks; r++)
        sum[k->f->ranks[r].host_index] += k->f->ranks[r].bandwidth;
    for (uint32_t h = 0; h < n; h++)
        k->hosts[h] = h; /* rank 0's host is host 0 */
    for (uint32_t a = 1; sum && a < n; a++)
        for (uint32_t b = a; b > 1 && sum[k->hosts[b]] > sum[k->hosts[b - 1]]; b--) {
            uint32_t t = k->hosts[b];
            k->hosts[b] = k->hosts[b - 1], k->hosts[b - 1] = t;
        }
    free(sum);
}

static void describe(struct cf_candidate *c, bool equal, bool any_wire) {
    char stages[32] = "", wire[16] = "";
    if (c->stages) snprintf(stages, sizeof stages, " of %u stages", c->stages);
    if (any_wire && c->n_hosts > 1) snprintf(wire, sizeof wire, ", wire %s", cf_dtype_name(c->wire));
    snprintf(c->name, sizeof c->name, "%s%s on %u rank%s of %u host%s%s%s", cf_layout_name(c->layout), stages, c->n_use,
        c->n_use == 1 ? "" : "s", c->n_hosts, c->n_hosts == 1 ? "" : "s", equal ? ", equal" : "", wire);
}

static bool same_cuts(const struct cf_plan *a, const struct cf_plan *b) {
    return a->n_plan_rows == b->n_plan_rows && !memcmp(a->rows, b->rows, a->n_plan_rows * sizeof *a->rows);
}

/* Prices a plan, and keeps it (else NULL stands in *plan) if it is the quickest so far. */
static int weigh(
    struct searching *k, struct cf_candidate *c, struct cf_plan *plan, const char *note, struct cf_error *e) {
    if (cf_planner_forecast(c, plan, k->m, k->g, k->f, e)) return -1;
    c->fits = true;
    if (c->n_hosts > 1) c->seconds *= WORTH;
    if (c->wire != CF_DTYPE_F32) c->seconds *= WORTH;
    if (k->best.rows && c->seconds >= k->s->c[k->s->best].seconds) return 0;
    cf_plan_free(&k->best);
    k->best = *plan, k->s->best = (uint32_t)(c - k->s->c);
    memset(plan, 0, sizeof *plan);
    memcpy(k->note, note, sizeof k->note);
    return 0;
}

/* Plans and prices one way: with shares by bandwidth, and if those differ, with equal ones, whose sums may need fewer
 * vectors. A way that does not fit is no failure. */
static int try_wire(struct searching *k, const struct cf_candidate *way, struct cf_error *e) {
    struct cf_plan plans[2] = {0};
    int rc = 0;
    for (int equal = 0; !rc && equal < 2 && k->s->n < MOST_CANDIDATES; equal++) {
        struct cf_candidate *c = &k->s->c[k->s->n];
        *c = *way;
        describe(c, equal, k->wish->any_wire);
        struct cf_plan_wish wish = *k->wish;
        wish.layout = (int)c->layout, wish.stages = c->stages, wish.use = k->use, wish.n_use = c->n_use;
        wish.wire = c->wire, wish.equal = equal;
        struct cf_error why = {0};
        char note[512] = "";
        bool fits = !cf_planner_make(&plans[equal], &wish, k->m, k->g, k->f->ranks, k->f->n_ranks, note, &why);
        const struct cf_plan *first = plans[0].rows ? &plans[0] : &k->best; /* weigh() may have taken it */
        if (equal && (!fits || same_cuts(first, &plans[1]))) break;
        k->s->n++;
        if (!fits) {
            snprintf(c->why, sizeof c->why, "%.190s", why.text);
            if (!k->first.code) k->first = why;
            break;
        }
        rc = weigh(k, c, &plans[equal], note, e);
    }
    cf_plan_free(&plans[0]);
    cf_plan_free(&plans[1]);
    return rc;
}

/* One way, and if any is welcome with each type of numbers between its hosts. */
static int try(
    struct searching *k, enum cf_layout layout, uint32_t stages, uint32_t n_use, uint32_t n_hosts, struct cf_error *e) {
    struct cf_candidate way = {
        .layout = layout, .wire = k->wish->wire, .stages = stages, .n_use = n_use, .n_hosts = n_hosts};
    if (!k->wish->any_wire || n_hosts == 1) return try_wire(k, &way, e);
    for (int wire = 0; wire < CF_DTYPES; wire++) {
        way.wire = (enum cf_dtype)wire;
        if (try_wire(k, &way, e)) return -1;
    }
    return 0;
}

/* All ways on one set of ranks. */
static int try_set(struct searching *k, uint32_t n_use, uint32_t n_hosts, struct cf_error *e) {
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

static int try_all(struct searching *k, struct cf_error *e) {
    uint32_t before = 0;
    order_hosts(k);
    if (k->wish->layout >= 0)
        return try(k, (enum cf_layout)k->wish->layout, k->wish->stages, ranks_of(k, k->f->n_hosts), k->f->n_hosts, e);
    for (uint32_t n = 0; n <= k->f->n_hosts; n++) {
        /* With very many hosts not every number of them is worth the time. */
        if (n > 4 && n < k->f->n_hosts && (n & (n - 1))) continue;
        if (k->f->n_ranks > MANY && n > 1 && n < k->f->n_hosts && n * 4 < k->f->n_hosts) continue;
        uint32_t used = ranks_of(k, n);
        if (used == before) continue;
        before = used;
        if (try_set(k, used, n ? n : 1, e)) return -1;
    }
    return 0;
}

int cf_planner_search(struct cf_search *s, struct cf_plan *plan, const struct cf_plan_wish *wish,
    const struct cf_model *m, const struct cf_gguf *g, const struct cf_figures *f, char note[512], struct cf_error *e) {
    struct searching k = {.s = s, .wish = wish, .m = m, .g = g, .f = f};
    *s = (struct cf_search){0};
    memset(plan, 0, sizeof *plan);
    s->c = calloc(MOST_CANDIDATES, sizeof *s->c);
    k.use = calloc(f->n_ranks, sizeof *k.use), k.hosts = calloc(f->n_hosts, sizeof *k.hosts);
    int rc = s->c && k.use && k.hosts ? try_all(&k, e) : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    free(k.use);
    free(k.hosts);
    if (!rc && !k.best.rows) {
        *e = k.first;
        rc = -1;
    }
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

void cf_search_print(FILE *to, const struct cf_search *s, uint32_t most) {
    fprintf(to, "\n%-44s %10s %10s %10s  %s\n", "layout", "prefill", "decode", "all",
        "what limits it, or spoke against it");
    for (uint32_t i = 0; i < s->n && (!most || i < most); i++) {
        const struct cf_candidate *c = &s->c[i];
        char mark = i == s->best ? '*' : ' ';
        if (c->fits)
            fprintf(to, "%c %-42s %10.1f %10.2f %10.2f  %s\n", mark, c->name, c->prefill, c->decode, c->all, c->why);
        else
            fprintf(to, "%c %-42s %10s %10s %10s  %s\n", mark, c->name, "-", "-", "-", c->why);
    }
}
