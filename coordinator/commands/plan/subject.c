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

static int imagined(struct cf__subject *s, const struct cf__machines *k, struct cf_error *e) {
    struct cf_machine m;
    struct cf_rank_info here = {.bandwidth = k->bandwidth * 1e9};
    if (cf_machine_read(&m, 1, e)) return -1;
    int rc = cf_calibrate_here(&here, &s->model, s->gguf, e) || cf__imagine(&s->figures, k, &m, &here, e) ? -1 : 0;
    if (s->figures.n_ranks > 1) s->assumed |= CF_ASSUMED_INSIDE;
    if (s->figures.n_hosts > 1) s->assumed |= CF_ASSUMED_NETWORK | CF_ASSUMED_LATENCY;
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
    if (s->halves) cf_search_advise_halves(found, &s->wish, &s->model, s->gguf, &s->figures, keep_line, s);
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
