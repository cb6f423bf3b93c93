/* coffer fit: which of these models fit on these machines, with how much context, and how fast they should be. A file
 * that cannot be read is said and the rest is listed; of a split set the first file stands for all.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/plan/subject.h"

struct config {
    struct cf_option_list synthetic;
    bool json;
    struct cf__machines machines;
    struct cf_placement place;
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.place = cf__placement_defaults()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"synthetic", 0, CF_OPT_LIST, AT(synthetic), "SHAPE:TYPE",
        "the shape of a known model beside the files; may be given again and again (a wrong name lists all)", 0, 0,
        NULL},
    {"json", 0, CF_OPT_FLAG, AT(json), NULL, "a JSON array instead of the table: an object a model", 0, 0, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {
    {cf__machine_options, AT(machines)}, {cf__layout_options, AT(place)}, {cf__split_options, AT(place)}, {0}};

enum { CONTEXT_STEP = 256 };

/* What is said of a model. */
struct verdict {
    char name[128];
    uint64_t bytes;
    bool fits;
    char error[256];                  /* why not */
    uint32_t context, most, trained;  /* largest with this placement, with any, and that of its training */
    uint32_t ranks;                   /* with work */
    uint32_t n_ranks, n_hosts, hosts; /* of the machines; hosts with work */
    struct cf_candidate best;         /* at a context of at most 4096 */
    enum cf_layout layout;
    char advice[2560]; /* as in struct cf__subject */
};

/* Does any layout (or the one that is wished for) find room on all ranks? */
static bool has_room(struct cf__subject *s, uint32_t n_ctx, struct cf_error *why) {
    static const int layouts[] = {CF_LAYOUT_HYBRID, CF_LAYOUT_LAYERS, CF_LAYOUT_TENSOR, CF_LAYOUT_DOMAIN};
    struct cf_plan_wish w = s->wish;
    bool room = false;
    w.n_ctx = n_ctx;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts && !room; i++) {
        struct cf_plan p = {0};
        struct cf_error e = {0};
        char note[512];
        if (s->wish.layout >= 0 && s->wish.layout != layouts[i]) continue;
        w.layout = layouts[i];
        room = !cf_planner_make(&p, &w, &s->model, s->gguf, s->figures.ranks, s->figures.n_ranks, note, &e);
        if (!room && !why->code) *why = e;
        cf_plan_free(&p);
    }
    return room;
}

/* The largest context with room, in steps; 0: none, and why. */
static uint32_t largest_context(struct cf__subject *s, struct cf_error *why) {
    uint32_t most = s->model.n_ctx_train, low = 0, high = (most + CONTEXT_STEP - 1) / CONTEXT_STEP;
    struct cf_error unused = {0};
    if (has_room(s, most, &unused)) return most;
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        if (has_room(s, middle * CONTEXT_STEP, &unused))
            low = middle;
        else
            high = middle;
    }
    if (!low) has_room(s, most < CONTEXT_STEP ? most : CONTEXT_STEP, why); /* what speaks against the smallest one */
    return low * CONTEXT_STEP;
}

/* The largest context with the layout, stages and ranks of a plan. */
static uint32_t context_of(struct cf__subject *s, const struct cf_plan *p, uint32_t stages) {
    struct cf_plan_wish before = s->wish;
    struct cf_error unused = {0};
    uint32_t *use = calloc(s->figures.n_ranks, sizeof *use), n = 0, context = s->wish.n_ctx;
    for (uint32_t r = 0; use && r < s->figures.n_ranks; r++)
        if (cf_plan_works(p, (int)r)) use[n++] = r;
    if (n && use[0] == 0) {
        s->wish.layout = (int)p->layout, s->wish.use = use, s->wish.n_use = n;
        s->wish.stages = stages;
        context = largest_context(s, &unused);
    }
    s->wish = before;
    free(use);
    return context > before.n_ctx ? context : before.n_ctx;
}

static int judge(struct verdict *v, struct cf__subject *s, struct config *c, struct cf_error *e) {
    struct cf_plan p = {0};
    struct cf_search found = {0};
    struct cf_error why = {0};
    uint64_t hash;
    cf_gguf_identity(s->gguf, &v->bytes, &hash);
    if (cf__subject_wish(s, &c->place, 1, e) || cf__subject_machines(s, &c->machines, e)) return -1;
    v->trained = s->model.n_ctx_train;
    v->n_ranks = s->figures.n_ranks, v->n_hosts = s->figures.n_hosts;
    if (c->place.ctx_size)
        v->most = has_room(s, s->wish.n_ctx, &why) ? s->wish.n_ctx : 0;
    else
        v->most = largest_context(s, &why);
    if (!v->most) {
        struct cf_error spoke = why;
        cf_planner_short(&s->model, s->gguf, &s->figures, &spoke, &why);
        snprintf(v->error, sizeof v->error, "%.250s", why.text);
        return 0;
    }
    if (s->wish.n_ctx > v->most) s->wish.n_ctx = v->most;
    if (cf__subject_plan(s, &p, &found, e)) {
        cf_search_free(&found);
        cf_plan_free(&p);
        return -1;
    }
    v->fits = true, v->layout = p.layout;
    cf_planner_count(&p, &s->figures, &v->ranks, &v->hosts);
    snprintf(v->advice, sizeof v->advice, "%s", s->advice);
    v->context = c->place.ctx_size ? v->most : context_of(s, &p, found.n ? found.c[0].stages : s->wish.stages);
    int rc = cf_planner_knows(&s->figures) ? cf_planner_forecast(&v->best, &p, &s->model, s->gguf, &s->figures, e) : 0;
    cf_search_free(&found);
    cf_plan_free(&p);
    return rc;
}

enum { PART_TAIL = 20 }; /* letters of -00002-of-00003.gguf */

/* Is this a further part of a split set, x-00002-of-00003.gguf? Its first one stands for all; *there: it is asked
 * about too. */
static bool further_part(const char *path, int argc, char **argv, bool *there) {
    size_t n = strlen(path), head = n - PART_TAIL;
    uint32_t part, of;
    char digit;
    if (n <= PART_TAIL || sscanf(path + head, "-%5u-of-%5u.ggu%c", &part, &of, &digit) != 3 || part == 1) return false;
    *there = false;
    for (int i = 0; i < argc; i++)
        *there |= strlen(argv[i]) == n && !strncmp(argv[i], path, head) && !strncmp(argv[i] + head, "-00001", 6) &&
                  !strcmp(argv[i] + head + 6, path + head + 6);
    return true;
}

/* One model, a file or a shape. Returns the error's code if nothing can be said of it. */
static int look_at(struct verdict *v, struct config *c, const char *file, const char *shape, unsigned *assumed) {
    struct cf__subject s = {0};
    struct cf_error e = {0};
    int rc = cf__subject_model(&s, file, shape, c->place.experts, &e);
    snprintf(v->name, sizeof v->name, "%s", s.name);
    if (!rc) rc = judge(v, &s, c, &e);
    *assumed |= s.assumed;
    cf__subject_close(&s);
    if (rc) fprintf(stderr, "coffer fit: %s\n", e.text);
    if (rc) snprintf(v->error, sizeof v->error, "%.250s", e.text);
    return rc ? (int)e.code : 0;
}

/* ---- forms ---- */

static void print_head(void) {
    printf("%-36s %10s  %-8s %13s %9s %10s %10s  %s\n", "model", "size", "layout", "nodes (hosts)", "context",
        "prefill", "decode", "limited by");
}

static void print_verdict(const struct verdict *v) {
    char size[16], nodes[32];
    printf("%-36s %10s  ", v->name, cf__size_text((double)v->bytes, 1024, size));
    if (!v->fits) {
        printf("%s\n", v->error);
        return;
    }
    snprintf(nodes, sizeof nodes, "%u (%u)", v->ranks, v->hosts);
    printf("%-8s %13s %8u%c ", cf_layout_name(v->layout), nodes, v->context, v->context < v->trained ? '<' : ' ');
    if (v->best.decode > 0)
        printf("%10.1f %10.2f  %s\n", v->best.prefill, v->best.decode, v->best.why);
    else
        printf("%10s %10s\n", "?", "?");
    if (v->most > v->context) printf("  a context of %u has room when placed otherwise (-c %u)\n", v->most, v->most);
    cf__subject_say_advice(v->advice, stdout, "  ");
}

static json_t *verdict_json(const struct verdict *v) {
    json_t *o = json_pack("{s:s,s:I,s:b}", "model", v->name, "bytes", (json_int_t)v->bytes, "fits", v->fits);
    if (!o) return NULL;
    if (!v->fits) {
        json_object_set_new(o, "why", json_string(v->error));
        return o;
    }
    json_object_set_new(o, "layout", json_string(cf_layout_name(v->layout)));
    json_object_set_new(o, "nodes", json_integer(v->ranks));
    json_object_set_new(o, "hosts", json_integer(v->hosts));
    json_object_set_new(o, "context", json_integer(v->context));
    json_object_set_new(o, "context_most", json_integer(v->most));
    json_object_set_new(o, "context_trained", json_integer(v->trained));
    if (*v->advice) json_object_set_new(o, "advice", json_string(v->advice));
    if (v->best.decode > 0) {
        json_object_set_new(o, "prefill_tps", json_real(v->best.prefill));
        json_object_set_new(o, "decode_tps", json_real(v->best.decode));
        json_object_set_new(o, "limited_by", json_string(v->best.why));
    }
    return o;
}

/* What is wrong with the machines is said once, not of every model. */
static int check_cluster(const struct cf__machines *machines, struct cf_error *e) {
    struct cf__subject s = {0};
    int rc = cf__subject_machines(&s, machines, e);
    cf__subject_close(&s);
    return rc;
}

static int fit(struct config *c, int argc, char **argv, struct cf_error *e) {
    unsigned assumed = 0;
    int bad = 0, code = CF_ERR_FILE;
    c->machines.by_node = c->place.map != NULL;
    if (!argc && !c->synthetic.n) return cf_fail(e, CF_ERR_USAGE, "no models: files, or --synthetic SHAPE:TYPE");
    if (cf__placement_check(&c->place, false, e) || (c->machines.cluster.n && check_cluster(&c->machines, e)))
        return -1;
    json_t *list = c->json ? json_array() : NULL;
    if (!c->json) print_head();
    for (int i = 0; i < argc + (int)c->synthetic.n; i++) {
        struct verdict v = {.fits = false};
        const char *file = i < argc ? argv[i] : NULL;
        bool there;
        if (file && further_part(file, argc, argv, &there)) {
            if (!there) fprintf(stderr, "coffer fit: %s: part of a split set, whose first file was not named\n", file);
            bad += !there;
            continue;
        }
        int failed = look_at(&v, c, file, file ? NULL : c->synthetic.at[i - argc], &assumed);
        if (failed == CF_ERR_USAGE) code = failed;
        bad += failed != 0;
        if (list)
            json_array_append_new(list, verdict_json(&v));
        else if (!failed)
            print_verdict(&v);
        fflush(stdout);
    }
    if (list) {
        json_dumpf(list, stdout, JSON_COMPACT);
        printf("\n");
        json_decref(list);
    } else {
        struct cf__subject s = {.assumed = assumed};
        if (c->place.ctx_size)
            printf("\ntokens/s of a prompt of 128 and of one sequence\n");
        else
            printf("\ncontext: the largest that fits these nodes with one sequence (<: less than the model was trained "
                   "for); tokens/s of a prompt of 128 and of one sequence, at a context of at most 4096\n");
        cf__subject_say_assumed(&s, stdout);
    }
    return bad ? cf_fail(e, code, "%d of %d cannot be looked at (above)", bad, argc + (int)c->synthetic.n) : 0;
}

static int command(void *config, int argc, char **argv) {
    struct cf_error e = {0};
    return fit(config, argc, argv, &e) ? cf__command_failed(&cf_command_fit, &e) : 0;
}

const struct cf_command cf_command_fit = {
    .name = "fit",
    .synopsis = "[FILE.gguf ...] [--synthetic SHAPE:TYPE ...] [--cluster FILE] [--json] ...",
    .summary = "list which models fit on these machines, with context and predicted speed",
    .text = "Looks at every model and says whether it fits on the NUMA nodes of this machine, or of a cluster that is "
            "described (--cluster, as for plan): the layout that should be quickest, on how many nodes and hosts, the "
            "largest context that there is room for there, and the predicted tokens per second of a prompt and of one "
            "sequence. Nothing is loaded. -c asks about one context instead of the largest.\n\n"
            "A file that cannot be read is said on stderr, the rest is listed, and the status is 1. Of a split set the "
            "first file stands for all.",
    .example = "coffer fit *.gguf\n"
               "coffer fit --synthetic llama-70b:q4_k_m --synthetic deepseek-v3-671b:q4_k_m --cluster cluster.json",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
