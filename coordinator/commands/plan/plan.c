/* coffer plan: which rank would hold what, and how fast that should be, without MPI and without loading the model. The
 * machines are imagined (each rank like a share of this machine) or described in a file; the model may be a shape. The
 * way: options -> subject (model, machines, wish) -> plan -> table, forecast, drawing.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/plan/draw.h"

struct config {
    const char *model, *synthetic, *svg;
    int64_t sequences;
    struct cf__machines machines;
    struct cf_placement place;
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.sequences = 1, .place = cf__placement_defaults()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE", "GGUF model file", 0, 0, NULL},
    {"synthetic", 0, CF_OPT_STRING, AT(synthetic), "SHAPE:TYPE",
        "instead of a file the shape of a known model (llama-70b:q4_k_m, deepseek-v3-671b:q4_k_m ...; a wrong name "
        "lists all)",
        0, 0, NULL},
    {"sequences", 'b', CF_OPT_INT, AT(sequences), "N", "sequences at once, each with a cache of its own (default 1)", 1,
        1024, NULL},
    {"svg", 0, CF_OPT_STRING, AT(svg), "FILE", "draw hosts, coffers, domains and hops", 0, 0, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {
    {cf__machine_options, AT(machines)}, {cf__layout_options, AT(place)}, {cf__split_options, AT(place)}, {0}};

enum { TOKENS = 4 };

/* Bytes that a token of one sequence sends, host by host. */
static double *traffic_of(const struct cf__subject *s, const struct cf_plan *p, struct cf_error *e) {
    uint32_t n = s->figures.n_hosts;
    double *traffic = calloc((size_t)n * n, sizeof *traffic);
    struct cf_simulation *sim = NULL;
    struct cf_forecast f;
    if (!traffic) cf_fail(e, CF_ERR_MEMORY, "out of memory");
    const struct cf_workload one = {.generate = TOKENS, .sequences = 1};
    if (!traffic || cf_simulation_new(&sim, p, &s->model, s->gguf, &s->figures, e) ||
        cf_simulation_run(sim, &one, &f, e)) {
        cf_simulation_free(sim);
        free(traffic);
        return NULL;
    }
    for (uint32_t i = 0; i < n * n; i++)
        traffic[i] = (double)f.traffic[i] / TOKENS;
    cf_forecast_free(&f);
    cf_simulation_free(sim);
    return traffic;
}

static int draw_it(const struct config *c, const struct cf__subject *s, const struct cf_plan *p,
    const struct cf_candidate *forecast, struct cf_error *e) {
    char title[256], speed[256] = "", limit[256] = "";
    uint32_t ranks, hosts;
    double *traffic = traffic_of(s, p, e);
    if (!traffic) return -1;
    cf_planner_count(p, &s->figures, &ranks, &hosts);
    snprintf(title, sizeof title, "%s, layout %s on %u of %u NUMA nodes (%u of %u host%s)", s->name,
        cf_layout_name(p->layout), ranks, s->figures.n_ranks, hosts, s->figures.n_hosts,
        s->figures.n_hosts == 1 ? "" : "s");
    int n = snprintf(speed, sizeof speed, "context %u, %u sequence%s", p->n_ctx, p->n_seqs, p->n_seqs == 1 ? "" : "s");
    if (forecast)
        n += snprintf(speed + n, sizeof speed - (size_t)n, "; predicted: prefill %.1f, decode %.2f tokens/s",
            forecast->prefill, forecast->decode);
    if (forecast && p->n_seqs > 1) snprintf(speed + n, sizeof speed - (size_t)n, ", all together %.2f", forecast->all);
    if (forecast) snprintf(limit, sizeof limit, "limited by %s", forecast->why);
    struct cf__drawing d = {s, p, {title, speed, limit}, traffic};
    int rc = cf__draw_plan(c->svg, &d, e);
    free(traffic);
    return rc;
}

static int show(const struct config *c, const struct cf__subject *s, const struct cf_plan *p,
    const struct cf_search *found, struct cf_error *e) {
    const struct cf_figures *f = &s->figures;
    struct cf_candidate forecast = {0};
    bool known = cf_planner_knows(f);
    if (cf_planner_print(stdout, p, &s->model, s->gguf, f->ranks, f->n_ranks, e)) return -1;
    if (s->note[0]) printf("note: %s\n", s->note);
    if (known && found->n > 1) cf_search_print(stdout, found, p->n_seqs);
    if (known && cf_planner_forecast(&forecast, p, &s->model, s->gguf, f, e)) return -1;
    if (known) {
        printf("\npredicted: prefill of %d %.1f tokens/s, decode of one sequence %.2f tokens/s", CF_SEARCH_PROMPT,
            forecast.prefill, forecast.decode);
        if (p->n_seqs > 1) printf(", of %u together %.2f tokens/s", p->n_seqs, forecast.all);
        printf(", limited by %s\n", forecast.why);
    }
    cf__subject_say_advice(s->advice, stdout, "note: ");
    cf__subject_say_assumed(s, stdout);
    return c->svg ? draw_it(c, s, p, known ? &forecast : NULL, e) : 0;
}

static int plan(struct config *c, struct cf_error *e) {
    struct cf__subject s = {.halves = true};
    struct cf_plan p = {0};
    struct cf_search found = {0};
    if (!c->synthetic) cf__named_model(&c->model);
    if (!c->model && !c->synthetic) return cf_fail(e, CF_ERR_USAGE, "no model: -m FILE or --synthetic SHAPE:TYPE");
    if (c->model && c->synthetic) return cf_fail(e, CF_ERR_USAGE, "-m and --synthetic: one model is enough");
    c->machines.by_node = c->place.map != NULL;
    int rc = cf__subject_model(&s, c->model, c->synthetic, c->place.experts, e);
    if (!rc) rc = cf__subject_wish(&s, &c->place, (uint32_t)c->sequences, e);
    if (!rc) rc = cf__subject_machines(&s, &c->machines, e);
    if (!rc && (rc = cf__subject_plan(&s, &p, &found, e)) && found.n > 1)
        cf_search_print(stdout, &found, s.wish.n_seqs);
    if (!rc) rc = show(c, &s, &p, &found, e);
    cf_search_free(&found);
    cf_plan_free(&p);
    cf__subject_close(&s);
    return rc;
}

static int command(void *config, int argc, char **argv) {
    struct cf_error e = {0};
    int rc = argc ? cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]) : plan(config, &e);
    return rc ? cf__command_failed(&cf_command_plan, &e) : 0;
}

const struct cf_command cf_command_plan = {
    .name = "plan",
    .synopsis =
        "-m FILE|--synthetic SHAPE:TYPE [--cluster FILE|--ranks N [--hosts N]] [--layout NAME] [--svg FILE] ...",
    .summary = "show which rank would hold what, without MPI and without loading",
    .text =
        "Prints the placement table that `coffer run` would use: the rows of the plan (domain, layers, slices), what "
        "each rank holds, and how much of the weights is replicated; then what was looked at (without --layout all "
        "layouts that are worth it, also on fewer hosts), how fast each should be and what limits it. The planner "
        "proves that the rows cover the model, and fails, saying by how much, if a rank's part does not fit its free "
        "memory.\n\n"
        "Neither the machines nor the model need be there. --cluster takes a description of hosts and links, or what "
        "lstopo wrote on them; what it leaves out is assumed, and the assumptions are printed. Without it the ranks "
        "are "
        "like shares of this machine. For --map, rank i is then taken to sit on node i. --synthetic takes the shape of "
        "a known model.\n\n"
        "A description of four hosts with two NUMA nodes each, all figures per host (bandwidth_gbs, isa and network "
        "may be "
        "left out: they are assumed, and that is said):"
        "\n\n"
        "  {\"hosts\": [{\"name\": \"h\", \"count\": 4, \"nodes\": 2, \"cores\": 64, \"memory_gib\": 256,\n"
        "              \"bandwidth_gbs\": 300, \"isa\": \"avx512\"}],\n"
        "   \"network\": {\"gbit\": 10, \"latency_us\": 20}}",
    .example = "coffer plan -m model.gguf --ranks 4 --layout hybrid --hosts 2\n"
               "coffer plan --synthetic llama-70b:q4_k_m --cluster cluster.json --svg plan.svg",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
