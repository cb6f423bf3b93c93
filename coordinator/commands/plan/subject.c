/* See subject.h. */
#include "coordinator/commands/plan/subject.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/shared/shape.h"
#include "coordinator/decode/measure/calibrate.h"
#include "coordinator/plan/advice.h"
#include "coordinator/plan/cluster/cluster.h"

#define AT(field) offsetof(struct cf__machines, field)
const struct cf_option cf__machine_options[] = {
    {"cluster", 0, CF_OPT_LIST, AT(cluster), "FILE",
        "machines that need not be here: a description in JSON, or what lstopo FILE.xml wrote (FILE.xml:4 four such "
        "hosts); may be given again and again. The form of the description is in coordinator/plan/cluster/README.md",
        0, 0, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", "without --cluster: number of ranks (default one per NUMA node here)", 1,
        4096, NULL},
    {"hosts", 0, CF_OPT_INT, AT(hosts), "N", "hosts that the ranks are spread over, in contiguous runs (default 1)", 1,
        1024, NULL},
    {"threads", 't', CF_OPT_INT, AT(threads), "N",
        "threads per rank (default this machine's cores, or fewer where that is faster)", 0, 4096, NULL},
    {"memory", 0, CF_OPT_INT, AT(memory), "MIB", "free memory of each rank in MiB (default a share of this machine's)",
        0, 1e9, NULL},
    {"bandwidth", 0, CF_OPT_REAL, AT(bandwidth), "GBPS",
        "read bandwidth of each rank in GB/s (default a share of what this machine's node reads now)", 0, 1e6, NULL},
    {0},
};

int cf__subject_model(
    struct cf__subject *s, const char *file, const char *shape, const char *experts, struct cf_error *e) {
    const char *slash = file ? strrchr(file, '/') : NULL;
    snprintf(s->name, sizeof s->name, "%s", shape ? shape : slash ? slash + 1 : file);
    if (shape ? cf__shape_open(&s->gguf, &s->weights, shape, e) : cf_gguf_open(&s->gguf, file, e)) return -1;
    if (cf_model_open(&s->model, s->gguf, e)) {
        cf_gguf_close(s->gguf);
        s->gguf = NULL;
        return -1;
    }
    if (!strcmp(experts, "whole")) cf_model_whole_experts(&s->model);
    return 0;
}

void cf__subject_model_close(struct cf__subject *s) {
    if (s->gguf) cf_model_close(&s->model);
    cf_gguf_close(s->gguf);
    cf__synth_tensors_free(s->weights);
    s->gguf = NULL, s->weights = NULL;
}

static int described(struct cf__subject *s, const struct cf__machines *k, struct cf_error *e) {
    struct cf_cluster c = {0};
    int rc = 0;
    if (k->ranks || k->hosts || k->threads || k->memory || k->bandwidth > 0)
        return cf_fail(e, CF_ERR_USAGE,
            "--cluster says what --ranks, --hosts, --threads, --memory and --bandwidth would say: one way is enough");
    for (size_t i = 0; !rc && i < k->cluster.n; i++)
        rc = cf_cluster_read(&c, k->cluster.at[i], e);
    if (!rc) rc = cf_cluster_figures(&s->figures, &c, &s->assumed, e);
    cf_cluster_free(&c);
    return rc;
}

/* What so many of a node's threads read alone: straight lines between the numbers that were measured. */
static double reads_with(const struct cf_rank_info *here, uint32_t threads) {
    double most = here->threads, bandwidth = here->bandwidth;
    for (uint32_t i = 0; i < here->n_fewer; i++) {
        const struct cf_fewer *f = &here->fewer[i];
        if (f->threads <= threads)
            return f->bandwidth + (bandwidth - f->bandwidth) * (threads - f->threads) / (most - f->threads);
        most = f->threads, bandwidth = f->bandwidth;
    }
    return most > 0 ? bandwidth * threads / most : 0;
}

/* One of several ranks of a node. */
static void share_node(struct cf_rank_info *r, const struct cf_rank_info *here, uint32_t first) {
    r->memory = first;
    if (r->bandwidth > 0) r->alone = reads_with(here, r->threads) / r->bandwidth;
}

/* One of the ranks that are imagined here: a share of a node. More of them than the node has cores have one core each,
 * several the same, as a run seats them, and their figures are first those of a core (cf_figures_crowd). */
static void imagine(struct cf_rank_info *r, const struct cf__machines *k, const struct cf_machine *m,
    const struct cf_rank_info *here, uint32_t rank, uint32_t all, uint32_t per_host) {
    uint32_t local = rank % per_host;
    uint32_t node = local % m->n_nodes, cores = m->nodes[node].n_cores;
    uint32_t on_host = all - (rank - local) < per_host ? all - (rank - local) : per_host;
    uint32_t sharers = (on_host - node + m->n_nodes - 1) / m->n_nodes;
    bool shares = !k->by_node && k->bandwidth <= 0 && !k->threads && sharers > 1,
         crowded = shares && cores && sharers > cores;
    snprintf(r->host, sizeof r->host, "host%d", r->host_index);
    r->node = k->by_node ? (int)local : (int)m->nodes[node].os_index;
    r->threads = k->threads                         ? (uint32_t)k->threads
                 : m->nodes[node].n_cores / sharers ? m->nodes[node].n_cores / sharers
                                                    : 1;
    r->memory_free = k->memory ? (uint64_t)k->memory << 20 : m->nodes[node].memory_free / sharers;
    r->bandwidth = k->bandwidth > 0 ? here->bandwidth : here->bandwidth / (crowded ? cores : sharers);
    double share = here->threads ? (double)r->threads / here->threads : 1;
    for (int id = 0; id < CF_TYPE_LIMIT; id++)
        r->rates[id] = here->rates[id] * share, r->single[id] = here->single[id] * share;
    r->attention = here->attention * share, r->step = here->step;
    memcpy(r->noise, here->noise, sizeof r->noise);
    r->seat = node * CF_MAX_CORES + (crowded ? local / m->n_nodes % cores : 0);
    if (shares) share_node(r, here, rank - local + node);
    if (crowded) r->seat_cores = 1;
    /* Ranks that share a node halve their threads together, as all threads of the node were halved. */
    double part = here->bandwidth > 0 ? r->bandwidth / here->bandwidth : 1;
    for (uint32_t n = r->threads / 2; !k->threads && n && r->n_fewer < here->n_fewer; n /= 2) {
        const struct cf_fewer *f = &here->fewer[r->n_fewer];
        r->fewer[r->n_fewer++] = (struct cf_fewer){n, part * f->bandwidth, f->step};
    }
}

static int imagined(struct cf__subject *s, const struct cf__machines *k, struct cf_error *e) {
    struct cf_machine m;
    struct cf_rank_info here = {.bandwidth = k->bandwidth * 1e9};
    if (cf_machine_read(&m, 1, e)) return -1;
    uint32_t hosts = k->hosts ? (uint32_t)k->hosts : 1, n = k->ranks ? (uint32_t)k->ranks : m.n_nodes * hosts;
    uint32_t per_host = (n + hosts - 1) / hosts;
    int rc = hosts > n ? cf_fail(e, CF_ERR_USAGE, "--hosts %u is more than --ranks %u", hosts, n)
                       : cf_figures_new(&s->figures, n, hosts, e);
    if (!rc) {
        cf_figures_assume_links(&s->figures);
        rc = cf_calibrate_here(&here, &s->model, s->gguf, e);
    }
    for (uint32_t i = 0; !rc && i < n; i++) {
        s->figures.ranks[i].host_index = (int)(i / per_host);
        imagine(&s->figures.ranks[i], k, &m, &here, i, n, per_host);
    }
    if (!rc) cf_figures_crowd(&s->figures);
    if (n > 1) s->assumed |= CF_ASSUMED_INSIDE;
    if (hosts > 1) s->assumed |= CF_ASSUMED_NETWORK | CF_ASSUMED_LATENCY;
    cf_machine_free(&m);
    return rc;
}

int cf__subject_machines(struct cf__subject *s, const struct cf__machines *k, struct cf_error *e) {
    return k->cluster.n ? described(s, k, e) : imagined(s, k, e);
}

int cf__subject_wish(struct cf__subject *s, struct cf_placement *p, uint32_t sequences, struct cf_error *e) {
    struct cf_plan_wish *w = &s->wish;
    if (cf__placement_check(p, false, e)) return -1;
    *w = (struct cf_plan_wish){.layout = -1,
        .stages = (uint32_t)p->stages,
        .micro_batches = (uint32_t)p->micro_batches,
        .n_seqs = sequences,
        .n_want = sequences,
        .n_rows = (uint32_t)p->ubatch > sequences ? (uint32_t)p->ubatch : sequences,
        .any_wire = p->wire && !strcmp(p->wire, "auto"),
        .kv_type = (uint32_t)cf_kv_type_by_name(p->kv_type),
        .map = {-1, -1, -1, -1},
        .zero_rank = -1};
    if (p->wire && !w->any_wire) w->wire = (enum cf_dtype)cf_dtype_by_name(p->wire);
    if (cf_layout_wish(p->layout, &w->layout, e)) return -1;
    if (p->map && cf_domain_map_parse(p->map, w->map, e)) return -1;
    if (p->map && w->layout < 0) w->layout = CF_LAYOUT_DOMAIN;
    w->n_ctx = p->ctx_size > 0 ? (uint32_t)p->ctx_size : s->model.n_ctx_train < 4096 ? s->model.n_ctx_train : 4096;
    return 0;
}

static void keep_line(void *ctx, const char *line) {
    struct cf__subject *s = ctx;
    size_t n = strlen(s->advice);
    snprintf(s->advice + n, sizeof s->advice - n, "%s\n", line);
}

static int advise(struct cf__subject *s, const struct cf_search *found, const struct cf_plan *p, struct cf_error *e) {
    cf_search_advise(found, p, &s->figures, keep_line, s);
    return cf_search_advise_first(found, &s->wish, &s->model, s->gguf, &s->figures, keep_line, s, e);
}

int cf__subject_plan(struct cf__subject *s, struct cf_plan *p, struct cf_search *found, struct cf_error *e) {
    const struct cf_figures *f = &s->figures;
    *found = (struct cf_search){0};
    s->note[0] = s->advice[0] = 0;
    bool open = s->wish.layout < 0 && !s->wish.stages;
    s->wish.settled = !open && !s->wish.any_wire;
    s->wish.even_head = getenv("COFFER_TEST_EVEN_HEAD") != NULL; /* test hook */
    if (!cf_planner_may_search(&s->wish, f))
        return cf_planner_make(p, &s->wish, &s->model, s->gguf, f->ranks, f->n_ranks, s->note, e);
    if (cf_planner_search(found, p, &s->wish, &s->model, s->gguf, f, s->note, e) || advise(s, found, p, e)) return -1;
    cf_figures_halve(&s->figures, found->c[0].halved);
    return 0;
}

void cf__subject_say_advice(const char *advice, FILE *to, const char *prefix) {
    for (const char *line = advice, *end; *line && (end = strchr(line, '\n')); line = end + 1)
        fprintf(to, "%s%.*s\n", prefix, (int)(end - line), line);
}

void cf__subject_say_assumed(const struct cf__subject *s, FILE *to) {
    cf_cluster_say_assumed(to, "assumed: ", s->assumed);
}

void cf__subject_close(struct cf__subject *s) {
    cf_figures_free(&s->figures);
    cf__subject_model_close(s);
}
