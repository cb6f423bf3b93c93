/* See advice.h. */
#include "coordinator/plan/advice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINE = 512,
    MANY = 64 /* ranks: of more the search is not made again for one line */
};

/* One host's ranks without work, as "host slow (ranks 1, 2)", or "ranks 1, 2" where others of it work. Returns how
 * many. */
static uint32_t name_host(const struct cf_plan *p, const struct cf_figures *f, uint32_t h, char text[192]) {
    char ranks[96] = "";
    size_t at = 0;
    uint32_t unused = 0;
    bool works = false;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        if (f->ranks[r].host_index != (int)h) continue;
        if (cf_plan_works(p, (int)r)) {
            works = true;
            continue;
        }
        if (at + 16 < sizeof ranks)
            at += (size_t)snprintf(ranks + at, sizeof ranks - at, "%s%u", unused ? ", " : "", r);
        else if (ranks[at - 1] != '.')
            at += (size_t)snprintf(ranks + at, sizeof ranks - at, ", ...");
        unused++;
    }
    const char *plural = unused > 1 ? "s" : "";
    if (works || f->n_hosts == 1)
        snprintf(text, 192, "rank%s %s", plural, ranks);
    else
        snprintf(text, 192, "host %s (rank%s %s)", cf_figures_host(f, h), plural, ranks);
    return unused;
}

enum { OTHERS = 32 }; /* letters for ", and ... more hosts" */

/* All ranks without work, by their hosts, as many as there is room for. Returns how many. */
static uint32_t name_unused(const struct cf_plan *p, const struct cf_figures *f, char *text, size_t size) {
    uint32_t unused = 0, others = 0;
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t h = 0; h < f->n_hosts; h++) {
        char host[192];
        uint32_t here = name_host(p, f, h, host);
        unused += here;
        if (!here) continue;
        if (others || n + strlen(host) + 2 + OTHERS > size)
            others++;
        else
            n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", host);
    }
    if (others) snprintf(text + n, size - n, "%s%u more host%s", n ? ", and " : "", others, others > 1 ? "s" : "");
    return unused;
}

/* What is compared is a prompt and an answer; what is shown is the rate of the answer. */
static const char *compare(const struct cf_candidate *best, const struct cf_candidate *all) {
    if (best->all > 1.005 * all->all) return "faster";
    if (best->all >= 0.97 * all->all) return "hardly slower";
    double much = cf_candidate_seconds(best) / cf_candidate_seconds(all);
    return much < 1       ? "slower with the answer, but faster with prompt and answer"
           : much <= 1.03 ? "slower with the answer, but hardly slower with prompt and answer"
                          : "slower, but by less than several hosts, rounding and fewer threads must gain";
}

static void advise_ranks(
    const struct cf_search *s, const struct cf_plan *plan, const struct cf_figures *before, cf_say *say, void *ctx) {
    const struct cf_candidate *best = &s->c[0], *all = NULL;
    char names[192], line[LINE];
    uint32_t unused = name_unused(plan, before, names, sizeof names);
    if (!unused || best->n_use == before->n_ranks) return; /* those that hold nothing all the same have been named */
    for (uint32_t i = s->n; i-- > 0;)
        if (s->c[i].fits && s->c[i].n_work > best->n_work) all = &s->c[i]; /* the best of those */
    bool one_more = all && all->n_work < before->n_ranks;
    if (all)
        snprintf(line, sizeof line,
            "not used: %s; %s is %s (predicted %.2f tokens/s, with %s ranks %.2f; --layout NAME uses them)", names,
            best->name, compare(best, all), best->all, one_more ? "more" : "all", all->all);
    else
        snprintf(line, sizeof line, "not used: %s; %s is all that fits", names, best->name);
    say(ctx, line);
}

static void advise_wire(const struct cf_search *s, cf_say *say, void *ctx) {
    const struct cf_candidate *best = &s->c[0], *f32 = NULL;
    char line[LINE];
    for (uint32_t i = s->n; i-- > 0;)
        if (s->c[i].fits && s->c[i].wire == CF_DTYPE_F32) f32 = &s->c[i]; /* the best of those */
    if (best->wire == CF_DTYPE_F32 || !f32) return;
    snprintf(line, sizeof line, "--wire auto takes %s (predicted %.2f tokens/s, with f32 %.2f)",
        cf_dtype_name(best->wire), best->all, f32->all);
    say(ctx, line);
}

static void advise_threads(const struct cf_search *s, const struct cf_figures *before, cf_say *say, void *ctx) {
    const struct cf_candidate *best = &s->c[0], *all = NULL;
    const struct cf_rank_info *r = &before->ranks[0];
    const struct cf_fewer *f = &r->fewer[best->halved ? best->halved - 1 : 0];
    char line[LINE];
    for (uint32_t i = s->n; i-- > 0;)
        if (s->c[i].fits && !s->c[i].halved) all = &s->c[i]; /* the best of those */
    if (!best->halved || best->halved > r->n_fewer || !all) return;
    snprintf(line, sizeof line,
        "not used: %u of the %u cores of %s; fewer threads meet in %.3g us, all in %.3g us, and read %.1f of %.1f GB/s "
        "(predicted %.2f tokens/s, with all %.2f; a run with -t %u uses them)",
        r->threads - f->threads, r->threads, before->n_ranks > 1 ? "rank 0, of others likewise" : "rank 0",
        1e6 * f->step, 1e6 * r->step, 1e-9 * f->bandwidth, 1e-9 * r->bandwidth, best->all, all->all, r->threads);
    say(ctx, line);
}

void cf_search_advise(
    const struct cf_search *s, const struct cf_plan *plan, const struct cf_figures *before, cf_say *say, void *ctx) {
    if (!s->n || !s->c[0].fits) return;
    advise_ranks(s, plan, before, say, ctx);
    advise_wire(s, say, ctx);
    advise_threads(s, before, say, ctx);
}

/* ---- rank 0 on another host ---- */

/* The host whose ranks read most together; 0 unless that is a quarter more than the first one. */
static uint32_t quickest_host(const struct cf_figures *f) {
    double first = cf_figures_host_bandwidth(f, 0), most = first;
    uint32_t best = 0;
    for (uint32_t h = 1; h < f->n_hosts; h++) {
        double sum = cf_figures_host_bandwidth(f, h);
        if (sum > most) best = h, most = sum;
    }
    return most < 1.25 * first ? 0 : best;
}

/* The same machines, this host and its ranks first. */
static int put_first(struct cf_figures *to, const struct cf_figures *f, uint32_t host, struct cf_error *e) {
    uint32_t *number = calloc(f->n_ranks, sizeof *number), n = 0;
    if (!number || cf_figures_new(to, f->n_ranks, f->n_hosts, e)) {
        free(number);
        return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    for (int round = 0; round < 2; round++)
        for (uint32_t r = 0; r < f->n_ranks; r++)
            if ((f->ranks[r].host_index == (int)host) == !round) number[r] = n++;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        struct cf_rank_info *k = &to->ranks[number[r]];
        *k = f->ranks[r];
        k->host_index = k->host_index == (int)host ? 0 : k->host_index + (k->host_index < (int)host);
        k->memory = number[r]; /* its own, or the first one's of those that share it */
        for (uint32_t o = 0; k->alone > 1 && o < f->n_ranks; o++)
            if (f->ranks[o].memory == f->ranks[r].memory && number[o] < k->memory) k->memory = number[o];
    }
    for (uint32_t a = 0; a < f->n_hosts; a++)
        for (uint32_t b = 0; b < f->n_hosts; b++) {
            uint32_t x = a == host ? 0 : a + (a < host), y = b == host ? 0 : b + (b < host);
            to->links[(size_t)x * f->n_hosts + y] = f->links[(size_t)a * f->n_hosts + b];
        }
    free(number);
    return 0;
}

int cf_search_advise_first(const struct cf_search *s, const struct cf_plan_wish *wish, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, cf_say *say, void *ctx, struct cf_error *e) {
    uint32_t host = s->n && s->c[0].fits && !wish->use ? quickest_host(f) : 0;
    struct cf_figures other = {0};
    struct cf_search found = {0};
    struct cf_plan plan = {0};
    struct cf_error why = {0};
    char note[512], line[LINE];
    if (!host || put_first(&other, f, host, e)) return host ? -1 : 0;
    if (!cf_planner_search(&found, &plan, wish, m, g, &other, note, &why) &&
        1.03 * found.c[0].seconds < s->c[0].seconds) {
        snprintf(line, sizeof line,
            "rank 0 would be better on host %.48s: %s (predicted %.2f tokens/s, here %.2f); name that host first",
            cf_figures_host(f, host), found.c[0].name, found.c[0].all, s->c[0].all);
        say(ctx, line);
    }
    cf_search_free(&found);
    cf_plan_free(&plan);
    cf_figures_free(&other);
    return 0;
}

/* ---- rounded numbers ---- */

void cf_search_advise_halves(const struct cf_search *s, const struct cf_plan_wish *wish, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, cf_say *say, void *ctx) {
    struct cf_plan_wish halves = *wish;
    struct cf_search found = {0};
    struct cf_plan plan = {0};
    struct cf_error why = {0};
    char note[512], line[LINE];
    if (wish->any_wire || wish->wire != CF_DTYPE_F32 || f->n_hosts == 1 || f->n_ranks > MANY || !s->n || !s->c[0].fits)
        return;
    halves.wire = CF_DTYPE_F16;
    if (!cf_planner_search(&found, &plan, &halves, m, g, f, note, &why) && found.c[0].all > 1.1 * s->c[0].all) {
        snprintf(line, sizeof line,
            "with --wire f16: %s (predicted %.2f tokens/s, here %.2f); answers are then rounded, and differ with the "
            "hosts",
            found.c[0].name, found.c[0].all, s->c[0].all);
        say(ctx, line);
    }
    cf_search_free(&found);
    cf_plan_free(&plan);
}
