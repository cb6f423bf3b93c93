/* From what was measured and what the user wants to the plan of a job, and what that plan should reach. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/decode/internal.h"
#include "coordinator/plan/advice.h"

enum { MOST_RANKS = 32 }; /* with which a second search takes no time */

static int wish_of(const struct cf_job *j, struct cf_plan_wish *w, struct cf_error *e) {
    const struct cf_placement *p = &j->o->place;
    const char *zero = getenv("COFFER_TEST_ZERO_RANK"); /* test hooks: see tests/ranks */
    *w = (struct cf_plan_wish){.stages = (uint32_t)p->stages,
        .micro_batches = (uint32_t)p->micro_batches,
        .n_ctx = j->n_ctx,
        .n_seqs = j->n_seqs,
        .n_rows = (uint32_t)p->ubatch,
        .n_want = j->n_want,
        .kv_size = j->o->kv_size,
        .kv_keep = j->o->kv_keep,
        .kv_type = p->kv_type ? (uint32_t)cf_kv_type_by_name(p->kv_type) : CF_KV_F16,
        .wire = j->wire < 0 ? CF_DTYPE_F32 : (enum cf_dtype)j->wire,
        .any_wire = j->wire < 0,
        .map = {-1, -1, -1, -1},
        .even_head = getenv("COFFER_TEST_EVEN_HEAD") != NULL,
        .zero_rank = zero ? atoi(zero) : -1};
    static const uint32_t rank_0 = 0;
    if (j->alone) {
        w->layout = CF_LAYOUT_TENSOR, w->stages = 0, w->use = &rank_0, w->n_use = 1;
        return 0;
    }
    if (cf_layout_wish(*j->layout ? j->layout : NULL, &w->layout, e)) return -1;
    if (p->map && cf_domain_map_parse(p->map, w->map, e)) return -1;
    if (w->layout < 0 && p->map) w->layout = CF_LAYOUT_DOMAIN;
    if (w->layout < 0 && p->stages) w->layout = CF_LAYOUT_HYBRID;
    return 0;
}

static void note_line(void *ctx, const char *line) {
    cf_terminal_note(ctx, "coffer: %s", line);
}

/* What the user should know of the choice. */
static int say_choice(const struct cf_job *j, const struct cf_search *s, const struct cf_plan_wish *w,
    const struct cf_figures *before, struct cf_error *e) {
    struct cf_terminal *t = j->o->terminal;
    if (!t->is_rank0) return 0;
    cf_search_advise(s, &j->plan, before, note_line, t);
    /* The others wait meanwhile, and commands that measure plan again and again. */
    if (j->n_ranks > MOST_RANKS || !j->o->fewer_threads) return 0;
    cf_search_advise_halves(s, w, &j->model, j->gguf, before, note_line, t);
    return cf_search_advise_first(s, w, &j->model, j->gguf, before, note_line, t, e);
}

static int place(struct cf_job *j, const uint32_t *cut_weights, struct cf_error *e) {
    struct cf_plan_wish w;
    struct cf_search s = {0};
    char note[512] = "", *rest = NULL;
    bool speaks = j->o->place.verbose && j->o->terminal->is_rank0;
    if (wish_of(j, &w, e)) return -1;
    w.cut_weights = cut_weights;
    w.settled = (w.layout >= 0 && !w.any_wire) || j->n_ranks == 1;
    bool search = w.zero_rank < 0 && !j->alone && cf_planner_may_search(&w, &j->figures);
    struct cf_figures before = j->figures; /* of all threads */
    before.ranks = calloc(j->n_ranks, sizeof *before.ranks);
    if (!before.ranks) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    memcpy(before.ranks, j->figures.ranks, j->n_ranks * sizeof *before.ranks);
    int rc = search ? cf_planner_search(&s, &j->plan, &w, &j->model, j->gguf, &j->figures, note, e)
                    : cf_planner_make(&j->plan, &w, &j->model, j->gguf, j->ranks, j->n_ranks, note, e);
    if (!rc) {
        j->halved = search ? s.c[0].halved : 0;
        cf_figures_halve(&j->figures, j->halved);
        for (char *line = strtok_r(note, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
            cf_terminal_note(j->o->terminal, "coffer: %s", line);
        if (speaks) rc = cf_planner_print(stderr, &j->plan, &j->model, j->gguf, j->ranks, j->n_ranks, e);
    }
    if (!rc && search) rc = say_choice(j, &s, &w, &before, e);
    if (search && speaks && s.n) cf_search_print(stderr, &s, w.n_seqs);
    cf_search_free(&s);
    free(before.ranks);
    return rc;
}

int cf__job_place(struct cf_job *j, struct cf_error *e) {
    uint32_t *equal = getenv("COFFER_TEST_EQUAL_RANKS") ? calloc(j->n_ranks, sizeof *equal) : NULL;
    for (uint32_t r = 0; equal && r < j->n_ranks; r++)
        equal[r] = 1;
    int rc = place(j, equal, e);
    free(equal);
    return rc;
}

int cf__job_choose_threads(struct cf_job *j, struct cf_error *e) {
    Cf__Hello h = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    if (!cf_figures_halvings(&j->figures)) return 0;
    if (cf_transport_rank(j->transport) == 0) {
        snprintf(j->layout, sizeof j->layout, "%s", j->o->place.layout ? j->o->place.layout : "");
        j->wire = j->o->place.wire ? cf_dtype_by_name(j->o->place.wire) : CF_DTYPE_F32;
        if (cf__job_place(j, e)) return -1;
        j->placed = true, h.halved = j->halved;
    }
    cf_gguf_identity(j->gguf, &h.model_bytes, &h.model_hash);
    if (cf_transport_hello(j->transport, &h, &all, e)) return -1;
    if (!j->placed) cf_figures_halve(&j->figures, all->hellos[0]->halved);
    cf__verdict__free_unpacked(all, NULL);
    return 0;
}

bool cf__job_passes_over(const struct cf_job *j) {
    struct cf_plan_wish w;
    struct cf_plan plan;
    struct cf_error why;
    char note[512] = "";
    if (!j->o->sweep) return false;
    if (wish_of(j, &w, &why) || cf_planner_make(&plan, &w, &j->model, j->gguf, j->ranks, j->n_ranks, note, &why)) {
        cf_terminal_note(
            j->o->terminal, "coffer: %s is passed over: %s", j->alone ? "rank 0 alone" : j->layout, why.text);
        return true;
    }
    cf_plan_free(&plan);
    return false;
}

const char *cf__job_layouts(const struct cf_job *j) {
    static const char *const names[2][2] = {
        {"layers,domain", "layers,hybrid,domain"}, {"tensor,layers,domain", "tensor,layers,hybrid,domain"}};
    uint32_t stages = j->o->place.stages       ? (uint32_t)j->o->place.stages
                      : j->figures.n_hosts > 1 ? j->figures.n_hosts
                      : j->n_ranks >= 4        ? 2
                                               : 1;
    bool hybrid = stages > 1 && stages < j->n_ranks; /* else it is tensor, or layers */
    return names[j->n_ranks <= CF_MAX_MEMBERS][hybrid];
}

const char *cf__job_wires(const struct cf_job *j) {
    return j->figures.n_hosts > 1 ? "f32,f16,q8" : "f32";
}

int cf_job_forecast(const struct cf_job *j, const struct cf_workload *w, struct cf_forecast *f, struct cf_error *e) {
    struct cf_simulation *s;
    if (!cf_planner_knows(&j->figures)) return cf_fail(e, CF_ERR_UNSUPPORTED, "not all ranks have been measured");
    if (cf_simulation_new(&s, &j->plan, &j->model, j->gguf, &j->figures, e)) return -1;
    int rc = cf_simulation_run(s, w, f, e);
    cf_simulation_free(s);
    return rc;
}

double cf_job_predict(const struct cf_job *j, const struct cf_workload *w) {
    struct cf_forecast f;
    struct cf_error ignored;
    if (cf_job_forecast(j, w, &f, &ignored)) return 0;
    double rate = f.rate;
    cf_forecast_free(&f);
    return rate;
}
