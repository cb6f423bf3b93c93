/* coffer simulate: the schedule of a plan in virtual time (plan/simulate.h) for more and more sequences: what all of
 * them get, how long the stages wait, how busy the links are. The machines are described or imagined, as for plan.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/plan/subject.h"
#include "coordinator/commands/shared/numbers.h"

struct config {
    const char *model, *synthetic, *output;
    struct cf_option_list sequences;
    int64_t prompt, generate, depth;
    struct cf__machines machines;
    struct cf_placement place;
};

static void defaults(void *config) {
    *(struct config *)config =
        (struct config){.output = "text", .prompt = 512, .generate = 16, .place = cf__placement_defaults()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE", "GGUF model file", 0, 0, NULL},
    {"synthetic", 0, CF_OPT_STRING, AT(synthetic), "SHAPE:TYPE",
        "instead of a file the shape of a known model (a wrong name lists all)", 0, 0, NULL},
    {"sequences", 'b', CF_OPT_LIST, AT(sequences), "LIST", "sequences in flight (default 1,2,4,8,16,32)", 0, 0, NULL},
    {"n-prompt", 'p', CF_OPT_INT, AT(prompt), "N", "tokens of a prompt, simulated too; 0 none (default 512)", 0,
        1 << 20, NULL},
    {"n-gen", 'n', CF_OPT_INT, AT(generate), "N", "tokens of each sequence (default 16)", 2, 1 << 20, NULL},
    {"n-depth", 'd', CF_OPT_INT, AT(depth), "N", "positions in the cache before (default 0)", 0, 1 << 24, NULL},
    {"output", 'o', CF_OPT_STRING, AT(output), "FORMAT", "text, csv or json (default text)", 0, 0, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {
    {cf__machine_options, AT(machines)}, {cf__layout_options, AT(place)}, {cf__split_options, AT(place)}, {0}};

/* Ranks that have the same rows of the plan: a stage, or of layout domain the group of a domain. */
struct stage {
    char name[48];
    uint32_t first, n; /* its first rank, how many */
};

struct line {
    uint32_t prompt, sequences; /* one of them 0 */
    struct cf_forecast f;
};

struct simulation {
    const struct config *c;
    struct cf__subject s;
    struct cf_plan plan;
    struct cf_search found;
    struct cf__numbers sequences;
    int *stage_of; /* [n_ranks], -1: holds nothing */
    struct stage *stages;
    uint32_t n_stages, n_lines;
    struct line lines[CF__NUMBERS + 1];
};

/* The first row that a rank has a part in, PREFRONTAL last. */
static const struct cf_plan_row *first_row(const struct cf_plan *p, uint32_t rank) {
    const struct cf_plan_row *head = NULL;
    for (uint32_t i = 0; i < p->n_plan_rows; i++) {
        if (cf_plan_member(&p->rows[i], (int)rank, NULL, NULL) < 0) continue;
        if (p->rows[i].domain != CF_PREFRONTAL) return &p->rows[i];
        head = &p->rows[i];
    }
    return head;
}

static int find_stages(struct simulation *k, struct cf_error *e) {
    uint32_t n = k->s.figures.n_ranks;
    const struct cf_plan_row **rows = calloc(n, sizeof *rows);
    k->stage_of = calloc(n, sizeof *k->stage_of), k->stages = calloc(n, sizeof *k->stages);
    if (!rows || !k->stage_of || !k->stages) {
        free(rows);
        return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    for (uint32_t r = 0; r < n; r++) {
        const struct cf_plan_row *row = first_row(&k->plan, r);
        uint32_t at = 0;
        k->stage_of[r] = -1;
        if (!row) continue;
        while (at < k->n_stages && rows[at] != row)
            at++;
        k->stage_of[r] = (int)at;
        if (at == k->n_stages) {
            struct stage *t = &k->stages[k->n_stages++];
            rows[at] = row, t->first = r;
            if (k->plan.layout == CF_LAYOUT_DOMAIN)
                snprintf(t->name, sizeof t->name, "%s", cf_domain_name(row->domain));
            else if (row->domain == CF_PREFRONTAL)
                snprintf(t->name, sizeof t->name, "embedding, head");
            else
                snprintf(t->name, sizeof t->name, "layers %u-%u", row->layer0, row->layer1 - 1);
        }
        k->stages[at].n++;
    }
    free(rows);
    return 0;
}

/* ---- figures of a line ---- */

static double waits(const struct simulation *k, const struct line *l, int stage) {
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t r = 0; r < l->f.n_ranks; r++) {
        if (k->stage_of[r] < 0 || (stage >= 0 && k->stage_of[r] != stage)) continue;
        sum += 1 - (l->f.ranks[r].compute + l->f.ranks[r].exchange) / l->f.seconds, n++;
    }
    return n && sum > 0 ? sum / n : 0; /* less: rounding */
}

static double busiest_link(const struct line *l, uint32_t *host) {
    double most = 0;
    *host = 0;
    for (uint32_t h = 0; h < l->f.n_hosts; h++)
        if (l->f.link_busy[h] > most) most = l->f.link_busy[h], *host = h;
    return most / l->f.seconds;
}

static double tokens(const struct simulation *k, const struct line *l) {
    return l->prompt ? l->prompt : (double)l->sequences * (double)k->c->generate;
}

static double between_hosts(const struct line *l) {
    double sum = 0;
    for (size_t i = 0; i < (size_t)l->f.n_hosts * l->f.n_hosts; i++)
        if (i / l->f.n_hosts != i % l->f.n_hosts) sum += (double)l->f.traffic[i];
    return sum;
}

static const char *name_of(const struct line *l, char text[32]) {
    snprintf(text, 32, l->prompt ? "prompt of %u" : "%u", l->prompt ? l->prompt : l->sequences);
    return text;
}

/* ---- forms ---- */

static void print_text(const struct simulation *k) {
    char name[32], size[16];
    uint32_t host;
    uint32_t ranks, hosts, all = k->s.figures.n_ranks, all_hosts = k->s.figures.n_hosts;
    cf_planner_count(&k->plan, &k->s.figures, &ranks, &hosts);
    printf("%s, layout %s on %u of %u rank%s (%u of %u host%s), at most %u batch%s in flight, context %u\n", k->s.name,
        cf_layout_name(k->plan.layout), ranks, all, all == 1 ? "" : "s", hosts, all_hosts, all_hosts == 1 ? "" : "s",
        k->plan.n_flight, k->plan.n_flight == 1 ? "" : "es", k->plan.n_ctx);
    cf__subject_say_advice(k->s.advice, stdout, "note: ");
    printf("\n");
    printf("%-16s %10s %12s %10s %8s %8s %12s %12s  %s\n", "sequences", "tokens/s", "each", "ms/token", "waiting",
        "link", "messages", "bytes", "limited by");
    for (uint32_t i = 0; i < k->n_lines; i++) {
        const struct line *l = &k->lines[i];
        double each = l->f.rate / (l->prompt ? 1 : l->sequences);
        printf("%-16s %10.2f %12.2f %10.2f %7.1f%% %7.1f%% %12.1f %12s  %s\n", name_of(l, name), l->f.rate, each,
            1e3 / each, 100 * waits(k, l, -1), 100 * busiest_link(l, &host), (double)l->f.messages / tokens(k, l),
            cf__size_text((double)l->f.bytes / tokens(k, l), 1000, size), l->f.bottleneck);
    }
    printf(
        "\nwaiting: mean share of the time that ranks had nothing to do; link: of the busiest host's cable; messages "
        "and bytes: of a token, between all ranks\n\nshare of the time that a stage waits, by sequences\n%-8s %-18s "
        "%6s",
        "stage", "", "ranks");
    for (uint32_t i = 0; i < k->n_lines; i++)
        printf(" %13s", name_of(&k->lines[i], name));
    for (uint32_t t = 0; t < k->n_stages; t++) {
        printf("\n%-8u %-18s %6u", t, k->stages[t].name, k->stages[t].n);
        for (uint32_t i = 0; i < k->n_lines; i++)
            printf(" %12.1f%%", 100 * waits(k, &k->lines[i], (int)t));
    }
    printf("\n\n");
    cf__subject_say_assumed(&k->s, stdout);
}

/* A line for each stage of each simulation. */
static void print_csv(const struct simulation *k) {
    uint32_t host;
    printf("model,layout,ranks,hosts,prompt,sequences,tokens_per_second,seconds,stage,stage_name,stage_ranks,"
           "stage_waits,mean_wait,link_use,messages_per_token,bytes_per_token,bytes_between_hosts_per_token\n");
    for (uint32_t i = 0; i < k->n_lines; i++)
        for (uint32_t t = 0; t < k->n_stages; t++) {
            const struct line *l = &k->lines[i];
            printf("\"");
            for (const char *c = k->s.name; *c; c++)
                printf(*c == '"' ? "\"\"" : "%c", *c);
            printf("\",%s,%u,%u,%u,%u,%.6g,%.6g,%u,%s,%u,%.4f,%.4f,%.4f,%.6g,%.6g,%.6g\n",
                cf_layout_name(k->plan.layout), k->s.figures.n_ranks, k->s.figures.n_hosts, l->prompt, l->sequences,
                l->f.rate, l->f.seconds, t, k->stages[t].name, k->stages[t].n, waits(k, l, (int)t), waits(k, l, -1),
                busiest_link(l, &host), (double)l->f.messages / tokens(k, l), (double)l->f.bytes / tokens(k, l),
                between_hosts(l) / tokens(k, l));
        }
}

static json_t *line_json(const struct simulation *k, const struct line *l) {
    json_t *stages = json_array(), *links = json_array();
    uint32_t host;
    for (uint32_t t = 0; t < k->n_stages; t++)
        json_array_append_new(stages, json_real(waits(k, l, (int)t)));
    for (uint32_t h = 0; h < l->f.n_hosts; h++)
        json_array_append_new(links, json_real(l->f.link_busy[h] / l->f.seconds));
    return json_pack("{s:i,s:i,s:f,s:f,s:f,s:o,s:f,s:o,s:f,s:f,s:f,s:s}", "prompt", (int)l->prompt, "sequences",
        (int)l->sequences, "tokens_per_second", l->f.rate, "seconds", l->f.seconds, "mean_wait", waits(k, l, -1),
        "stage_waits", stages, "link_use", busiest_link(l, &host), "link_use_of_hosts", links, "messages_per_token",
        (double)l->f.messages / tokens(k, l), "bytes_per_token", (double)l->f.bytes / tokens(k, l),
        "bytes_between_hosts_per_token", between_hosts(l) / tokens(k, l), "limited_by", l->f.bottleneck);
}

static int print_json(const struct simulation *k, struct cf_error *e) {
    json_t *stages = json_array(), *lines = json_array();
    for (uint32_t t = 0; t < k->n_stages; t++)
        json_array_append_new(stages, json_pack("{s:s,s:i,s:i}", "name", k->stages[t].name, "first_rank",
                                          (int)k->stages[t].first, "ranks", (int)k->stages[t].n));
    for (uint32_t i = 0; i < k->n_lines; i++)
        json_array_append_new(lines, line_json(k, &k->lines[i]));
    json_t *all = json_pack("{s:s%,s:s,s:i,s:i,s:i,s:i,s:o,s:o}", "model", k->s.name, strlen(k->s.name), "layout",
        cf_layout_name(k->plan.layout), "ranks", (int)k->s.figures.n_ranks, "hosts", (int)k->s.figures.n_hosts,
        "context", (int)k->plan.n_ctx, "in_flight", (int)k->plan.n_flight, "stages", stages, "simulations", lines);
    int rc =
        all && !json_dumpf(all, stdout, JSON_COMPACT) ? 0 : cf_fail(e, CF_ERR_MEMORY, "the result cannot be written");
    json_decref(all);
    if (!rc) printf("\n");
    return rc;
}

/* ---- the way ---- */

static int run_lines(struct simulation *k, struct cf_error *e) {
    struct cf_simulation *sim;
    const struct config *c = k->c;
    if (cf_simulation_new(&sim, &k->plan, &k->s.model, k->s.gguf, &k->s.figures, e)) return -1;
    int rc = 0;
    for (uint32_t i = c->prompt ? 0 : 1; !rc && i <= k->sequences.n; i++) {
        struct line *l = &k->lines[k->n_lines];
        struct cf_workload w = {.depth = (uint32_t)c->depth};
        if (!i) w.prompt = l->prompt = (uint32_t)c->prompt;
        if (i) w.sequences = l->sequences = k->sequences.v[i - 1], w.generate = (uint32_t)c->generate;
        rc = cf_simulation_run(sim, &w, &l->f, e);
        k->n_lines += !rc;
    }
    cf_simulation_free(sim);
    return rc;
}

static int simulate(struct simulation *k, struct config *c, struct cf_error *e) {
    uint32_t most = 1;
    int64_t needs = c->depth + (c->prompt > c->generate ? c->prompt : c->generate);
    if (!c->synthetic) cf__named_model(&c->model);
    if (!c->model == !c->synthetic) return cf_fail(e, CF_ERR_USAGE, "one model: -m FILE or --synthetic SHAPE:TYPE");
    if (strcmp(c->output, "text") && strcmp(c->output, "csv") && strcmp(c->output, "json"))
        return cf_fail(e, CF_ERR_USAGE, "--output %s is unknown; known: text, csv, json", c->output);
    if (cf__numbers_read_all(&k->sequences, "sequences", &c->sequences, "1,2,4,8,16,32", 1, 4096, e)) return -1;
    for (uint32_t i = 0; i < k->sequences.n; i++)
        most = k->sequences.v[i] > most ? k->sequences.v[i] : most;
    if (!c->place.ctx_size) c->place.ctx_size = needs;
    if (c->place.ctx_size < needs)
        return cf_fail(e, CF_ERR_USAGE, "--ctx-size %lld is less than the %lld that the sequences need",
            (long long)c->place.ctx_size, (long long)needs);
    c->machines.by_node = c->place.map != NULL;
    if (cf__subject_model(&k->s, c->model, c->synthetic, c->place.experts, e) ||
        cf__subject_wish(&k->s, &c->place, most, e) || cf__subject_machines(&k->s, &c->machines, e))
        return -1;
    if (!cf_planner_knows(&k->s.figures)) return cf_fail(e, CF_ERR_SYSTEM, "the bandwidth of this machine is unknown");
    if (cf__subject_plan(&k->s, &k->plan, &k->found, e) || find_stages(k, e) || run_lines(k, e)) return -1;
    if (!strcmp(c->output, "json")) return print_json(k, e);
    (!strcmp(c->output, "csv") ? print_csv : print_text)(k);
    return 0;
}

static int command(void *config, int argc, char **argv) {
    struct cf_error e = {0};
    struct simulation k = {.c = config};
    int rc =
        argc ? cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]) : simulate(&k, config, &e);
    for (uint32_t i = 0; i < k.n_lines; i++)
        cf_forecast_free(&k.lines[i].f);
    free(k.stage_of);
    free(k.stages);
    cf_search_free(&k.found);
    cf_plan_free(&k.plan);
    cf__subject_close(&k.s);
    return rc ? cf__command_failed(&cf_command_simulate, &e) : 0;
}

const struct cf_command cf_command_simulate = {
    .name = "simulate",
    .synopsis =
        "-m FILE|--synthetic SHAPE:TYPE [--cluster FILE|--ranks N [--hosts N]] [-b 1,2,4] [-o text|csv|json] ...",
    .summary = "play the schedule of a plan through in virtual time, for any number of ranks",
    .text =
        "Runs the message-driven schedule of a plan, event by event, with the costs that the planner works with "
        "(coordinator/plan/README.md) and without any of the machines: for one, two, four and more sequences in flight "
        "it prints what all of them get, the share of the time that each stage waits, how busy the cables between "
        "hosts "
        "are, and what limits the whole. The plan is the best one for the largest number of sequences, unless --layout "
        "says which.\n\n"
        "Sequences are dealt to as many batches as may be in flight (--micro-batches); a stage has nothing to do while "
        "all of them are elsewhere.",
    .example = "coffer simulate --synthetic llama-70b:q4_k_m --cluster cluster.json --layout hybrid -b 1,2,4,8,16",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
