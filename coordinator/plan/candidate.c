/* A candidate of the search (search.h): what it should reach, its name, and the table of all. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan/search.h"

enum { ROUNDS = 8 };

void cf_search_free(struct cf_search *s) {
    free(s->c);
    memset(s, 0, sizeof *s);
}

bool cf_planner_knows(const struct cf_figures *f) {
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if (f->ranks[r].bandwidth <= 0) return false;
    return true;
}

bool cf_planner_may_search(const struct cf_plan_wish *wish, const struct cf_figures *f) {
    bool head = wish->layout == CF_LAYOUT_TENSOR && f->n_hosts > 1;
    return cf_planner_knows(f) && (!wish->settled || cf_figures_halvings(f) || head);
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

double cf_candidate_seconds(const struct cf_candidate *c) {
    return CF_SEARCH_PROMPT / c->prefill + CF_SEARCH_ANSWER / c->all;
}

int cf_planner_forecast(struct cf_candidate *c, const struct cf_plan *plan, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, struct cf_error *e) {
    struct cf_simulation *sim;
    struct cf_forecast all = {0};
    if (cf_simulation_new(&sim, plan, m, g, f, e)) return -1;
    uint32_t prompt = plan->n_ctx < CF_SEARCH_PROMPT ? plan->n_ctx : CF_SEARCH_PROMPT, n = plan->n_seqs;
    struct cf_workload one = {.depth = prompt, .generate = ROUNDS, .sequences = 1}, many = one;
    many.sequences = n;
    int rc = rate_of(sim, (struct cf_workload){.prompt = prompt}, &c->prefill, NULL, e);
    if (!rc) rc = rate_of(sim, many, &c->all, &all, e);
    c->decode = c->all;
    if (!rc && n > 1) rc = rate_of(sim, one, &c->decode, NULL, e);
    cf_simulation_free(sim);
    if (rc) {
        cf_forecast_free(&all);
        return -1;
    }
    c->seconds = n * cf_candidate_seconds(c);
    snprintf(c->why, sizeof c->why, "%s", all.bottleneck);
    cf_forecast_free(&all);
    return 0;
}

static bool same_threads(const struct cf_figures *f) {
    for (uint32_t r = 1; r < f->n_ranks; r++)
        if (f->ranks[r].threads != f->ranks[0].threads) return false;
    return true;
}

/* "4 ranks", "3 of 4 ranks" */
static void count_text(char text[40], uint32_t work, uint32_t all, const char *what) {
    if (work && work < all)
        snprintf(text, 40, "%u of %u %ss", work, all, what);
    else
        snprintf(text, 40, "%u %s%s", all, what, all == 1 ? "" : "s");
}

void cf__candidate_describe(
    struct cf_candidate *c, const struct cf_plan *plan, bool any_wire, const struct cf_figures *f) {
    char ranks[40], hosts[40], stages[32] = "", wire[16] = "", head[32] = "", threads[48] = "";
    uint32_t n = f->ranks[0].threads;
    if (c->stages) snprintf(stages, sizeof stages, " of %u stages", c->stages);
    if (any_wire && c->n_hosts > 1) snprintf(wire, sizeof wire, ", wire %s", cf_dtype_name(c->wire));
    if (c->head_home) snprintf(head, sizeof head, ", %u %% of head away", 100 - 25 * c->head_home);
    if (c->halved && same_threads(f))
        snprintf(threads, sizeof threads, ", %u thread%s%s", n, n == 1 ? "" : "s", c->n_use == 1 ? "" : " each");
    else if (c->halved)
        snprintf(threads, sizeof threads, ", 1/%u of the threads", 1u << c->halved);
    c->n_work = c->n_work_hosts = 0;
    if (plan) cf_planner_count(plan, f, &c->n_work, &c->n_work_hosts);
    count_text(ranks, c->n_work, c->n_use, "rank");
    count_text(hosts, c->n_work_hosts, c->n_hosts, "host");
    snprintf(c->name, sizeof c->name, "%s%s on %s of %s%s%s%s%s%s", cf_layout_name(c->layout), stages, ranks, hosts,
        c->hosts, c->equal ? ", equal" : "", wire, head, threads);
}

void cf_search_print(FILE *to, const struct cf_search *s, uint32_t n_seqs) {
    int width = 20;
    char all[32];
    for (uint32_t i = 0; i < s->n; i++)
        if ((int)strlen(s->c[i].name) > width) width = (int)strlen(s->c[i].name);
    snprintf(all, sizeof all, "%u seqs t/s", n_seqs);
    fprintf(to, "\n  %-*s %11s %10s", width, "layout", "prefill t/s", "decode t/s");
    if (n_seqs > 1) fprintf(to, " %12s", all);
    fprintf(to, "  what limits it, or spoke against it\n");
    for (uint32_t i = 0; i < s->n; i++) {
        const struct cf_candidate *c = &s->c[i];
        fprintf(to, "%c %-*s ", i == s->best && c->fits ? '*' : ' ', width, c->name);
        if (c->fits)
            fprintf(to, "%11.1f %10.2f", c->prefill, c->decode);
        else
            fprintf(to, "%11s %10s", "-", "-");
        if (n_seqs > 1 && c->fits) fprintf(to, " %12.2f", c->all);
        if (n_seqs > 1 && !c->fits) fprintf(to, " %12s", "-");
        fprintf(to, "  %s\n", c->why);
    }
    fprintf(to,
        "t/s: tokens per second of a prompt of %d, of one sequence%s. In the order of the seconds for that prompt and "
        "an "
        "answer of %d%s; several hosts, other numbers than f32 between them, and fewer threads must gain 3 %%\n",
        CF_SEARCH_PROMPT, n_seqs > 1 ? ", of all sequences together" : "", CF_SEARCH_ANSWER,
        n_seqs > 1 ? " for each sequence" : "");
}
