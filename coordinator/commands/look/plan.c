/* coffer plan: the placement table for a number of ranks and hosts, without MPI and without loading the model. The
 * ranks are imagined: each like a share of this machine.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/terminal.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/decode/calibrate.h"

struct config {
    const char *model;
    int64_t ranks, hosts, threads, memory;
    double bandwidth;
    struct cf_placement place;
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.ranks = 1, .hosts = 1, .place = cf__placement_defaults()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE", "GGUF model file", 0, 0, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", "number of ranks (default 1)", 1, 4096, NULL},
    {"hosts", 0, CF_OPT_INT, AT(hosts), "N", "hosts that the ranks are spread over, in contiguous runs (default 1)", 1,
        4096, NULL},
    {"threads", 't', CF_OPT_INT, AT(threads), "N", "threads per rank (default this machine's cores)", 0, 4096, NULL},
    {"memory", 0, CF_OPT_INT, AT(memory), "MIB", "free memory of each rank in MiB (default a share of this machine's)",
        0, 1e9, NULL},
    {"bandwidth", 0, CF_OPT_REAL, AT(bandwidth), "GBPS",
        "read bandwidth of each rank in GB/s, for the prediction (default a share of what this machine's node reads "
        "now)",
        0, 1e6, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__layout_options, AT(place)}, {cf__split_options, AT(place)}, {0}};

/* Ranks like shares of this machine's nodes. */
static int imagine(const struct config *c, const struct cf_model *model, const struct cf_gguf *g, struct cf_figures *f,
    struct cf_error *e) {
    struct cf_machine m;
    if (cf_figures_new(f, (uint32_t)c->ranks, (uint32_t)c->hosts, e)) return -1;
    cf_figures_assume_links(f);
    if (cf_machine_read(&m, 1, e)) return -1;
    struct cf_rank_info here = {.bandwidth = c->bandwidth * 1e9};
    if (cf_calibrate_here(&here, model, g, e)) {
        cf_machine_free(&m);
        return -1;
    }
    uint32_t n = (uint32_t)c->ranks, per_host = (n + (uint32_t)c->hosts - 1) / (uint32_t)c->hosts;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t local = i % per_host, node = local % m.n_nodes, sharers = (per_host + m.n_nodes - 1) / m.n_nodes;
        struct cf_rank_info *r = &f->ranks[i];
        r->host_index = (int)(i / per_host);
        snprintf(r->host, sizeof r->host, "host%d", r->host_index);
        r->node = c->place.map ? (int)local : (int)m.nodes[node].os_index;
        r->threads = c->threads                        ? (uint32_t)c->threads
                     : m.nodes[node].n_cores / sharers ? m.nodes[node].n_cores / sharers
                                                       : 1;
        r->memory_free = c->memory ? (uint64_t)c->memory << 20 : m.nodes[node].memory_free / sharers;
        r->bandwidth = c->bandwidth > 0 ? here.bandwidth : here.bandwidth / sharers;
        double share = here.threads ? (double)r->threads / here.threads : 1;
        for (int id = 0; id < CF_TYPE_LIMIT; id++)
            r->rates[id] = here.rates[id] * share;
        r->attention = here.attention * share, r->step = here.step;
        memcpy(r->noise, here.noise, sizeof r->noise);
    }
    cf_machine_free(&m);
    return 0;
}

/* What the plan should reach, or all that was looked at. */
static int print_prediction(const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    const struct cf_figures *f, const struct cf_search *s, struct cf_error *e) {
    struct cf_candidate c;
    if (!cf_planner_knows(f)) return 0;
    if (s->n > 1) cf_search_print(stdout, s, 0);
    if (cf_planner_forecast(&c, p, m, g, f, e)) return -1;
    printf("\npredicted decode of one sequence: %.2f tokens/s, limited by %s (assuming %.0f us per message on a host, "
           "%.0f us "
           "and %.0f MB/s between hosts)\n",
        c.decode, c.why, 1e6 * CF_HOP_LOCAL, 1e6 * CF_HOP_REMOTE, 1e-6 * CF_BANDWIDTH_REMOTE);
    return 0;
}

static int plan(struct config *c, struct cf_error *e) {
    struct cf_gguf *g = NULL;
    struct cf_model m;
    struct cf_plan_wish w = {.layout = -1,
        .stages = (uint32_t)c->place.stages,
        .n_seqs = 1,
        .n_want = 1,
        .n_rows = (uint32_t)c->place.ubatch,
        .micro_batches = (uint32_t)c->place.micro_batches,
        .map = {-1, -1, -1, -1},
        .zero_rank = -1};
    if (!c->model) return cf_fail(e, CF_ERR_USAGE, "no model: -m FILE");
    if (cf__placement_check(&c->place, false, e)) return -1;
    w.kv_type = (uint32_t)cf_kv_type_by_name(c->place.kv_type);
    if (c->hosts > c->ranks)
        return cf_fail(
            e, CF_ERR_USAGE, "--hosts %lld is more than --ranks %lld", (long long)c->hosts, (long long)c->ranks);
    if (cf_layout_wish(c->place.layout, &w.layout, e)) return -1;
    if (c->place.map && cf_domain_map_parse(c->place.map, w.map, e)) return -1;
    if (c->place.map && !c->place.layout) w.layout = CF_LAYOUT_DOMAIN;
    if (cf_gguf_open(&g, c->model, e)) return -1;
    if (cf_model_open(&m, g, e)) {
        cf_gguf_close(g);
        return -1;
    }
    if (!strcmp(c->place.experts, "whole")) cf_model_whole_experts(&m);
    w.n_ctx = c->place.ctx_size > 0 ? (uint32_t)c->place.ctx_size : m.n_ctx_train < 4096 ? m.n_ctx_train : 4096;
    struct cf_figures f = {0};
    struct cf_plan p = {0};
    struct cf_search found = {0};
    char note[512] = "";
    int rc = imagine(c, &m, g, &f, e);
    bool search = !rc && w.layout < 0 && !w.stages && cf_planner_knows(&f);
    if (!rc && search) rc = cf_planner_search(&found, &p, &w, &m, g, &f, note, e);
    if (!rc && !search) rc = cf_planner_make(&p, &w, &m, g, f.ranks, f.n_ranks, note, e);
    if (!rc) rc = cf_planner_print(stdout, &p, &m, g, f.ranks, f.n_ranks, e);
    if (!rc && note[0]) printf("note: %s\n", note);
    if (!rc) rc = print_prediction(&p, &m, g, &f, &found, e);
    cf_search_free(&found);
    cf_plan_free(&p);
    cf_figures_free(&f);
    cf_model_close(&m);
    cf_gguf_close(g);
    return rc;
}

static int command(void *config, int argc, char **argv) {
    struct cf_error e = {0};
    int rc = argc ? cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]) : plan(config, &e);
    return rc ? cf__command_failed(&cf_command_plan, &e) : 0;
}

const struct cf_command cf_command_plan = {
    .name = "plan",
    .synopsis = "-m FILE --ranks N [--hosts N] [--layout NAME] ...",
    .summary = "show which rank would hold what, without MPI and without loading",
    .text =
        "Prints the placement table that `coffer run` would use on so many ranks: the rows of the plan (domain, "
        "layers, "
        "slices), what each rank holds, and how much of the weights is replicated. The planner proves that the "
        "rows cover "
        "the model, and fails, saying by how much, if a rank's part does not fit its free memory. For --map, rank i "
        "is taken to sit on node i.",
    .example = "coffer plan -m model.gguf --ranks 4 --layout hybrid --hosts 2",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
