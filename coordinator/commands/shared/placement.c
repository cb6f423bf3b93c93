/* See placement.h. */
#include "coordinator/commands/shared/placement.h"

#include <string.h>

#define AT(field) offsetof(struct cf_placement, field)

const struct cf_option cf__layout_options[] = {
    {"layout", 0, CF_OPT_STRING, AT(layout), "NAME",
        "auto (what is predicted to be fastest), tensor, layers, hybrid or domain (default auto)", 0, 0, NULL},
    {"ctx-size", 'c', CF_OPT_INT, AT(ctx_size), "N", "context in tokens (default the model's, at most 4096)", 0,
        1 << 24, NULL},
    {0},
};

const struct cf_option cf__split_options[] = {
    {"stages", 0, CF_OPT_INT, AT(stages), "N",
        "stages of layout hybrid (default one per host; on one host 2 from four ranks on)", 0, 4096, NULL},
    {"map", 0, CF_OPT_STRING, AT(map), "LIST",
        "NUMA node of each domain: left=1,right=0,temporal=2,prefrontal=3, or s824; implies layout domain", 0, 0, NULL},
    {"experts", 0, CF_OPT_STRING, AT(experts), "HOW",
        "of a model with experts every rank of a group holds a part of each (sliced) or some of them whole (whole: an "
        "order of sums of its own, so results equal only those of other runs with it; default sliced)",
        0, 0, NULL},
    {"ubatch-size", 0, CF_OPT_INT, AT(ubatch), "N", "most rows of a prefill chunk (default 512)", 1, 65536, "ub"},
    {"kv-type", 0, CF_OPT_STRING, AT(kv_type), "TYPE",
        "numbers of the KV cache: f16, q8_0 (about half the memory) or q4_0 (about a quarter) (default f16)", 0, 0,
        NULL},
    {"cache-type-k", 0, CF_OPT_STRING, AT(kv_k), "TYPE", "with --cache-type-v, the same: llama.cpp's way to say it", 0,
        0, "ctk"},
    {"cache-type-v", 0, CF_OPT_STRING, AT(kv_v), "TYPE", "keys and values are of one type here", 0, 0, "ctv"},
    {"wire", 0, CF_OPT_STRING, AT(wire), "TYPE",
        "numbers that pass between hosts: f32 (the same bits as on one rank), f16 (half the bytes) or q8 (somewhat "
        "more than a quarter), with the error that this makes printed; auto: what is predicted to be fastest; bench "
        "takes a list (default f32)",
        0, 0, NULL},
    {"micro-batches", 0, CF_OPT_INT, AT(micro_batches), "N",
        "most batches in flight, which a prompt or the sequences of a decode step are split into (default one per "
        "stage "
        "in layouts layers and hybrid, at most 8 or as many as there are sequences; domain 2; tensor 1)",
        0, 64, "flight"},
    {0},
};

const struct cf_option cf__rank_options[] = {
    {"exchange", 0, CF_OPT_STRING, AT(exchange), "WAY",
        "between ranks of one host: window (shared memory), messages, or auto: window where /dev/shm has room (default "
        "auto)",
        0, 0, NULL},
    {"numa", 0, CF_OPT_STRING, AT(numa), "POLICY", "default, strict (fail when memory does not lie on the node) or off",
        0, 0, NULL},
    {"huge", 0, CF_OPT_FLAG, AT(huge), NULL, "huge pages: the hugetlb pool, then transparent ones", 0, 0, NULL},
    {"direct", 0, CF_OPT_FLAG, AT(direct), NULL,
        "read the weights past the page cache (O_DIRECT): no copy of them stays there", 0, 0, "direct-io"},
    {"dio", 0, CF_OPT_FLAG, AT(direct), NULL, "the same, as llama.cpp abbreviates it", 0, 0, NULL},
    {"ship", 0, CF_OPT_FLAG, AT(ship), NULL,
        "a host without the model file gets what its slices need from rank 0, and keeps it in $XDG_CACHE_HOME/coffer "
        "(or "
        "~/.cache/coffer) for the next time",
        0, 0, NULL},
    {"timeout", 0, CF_OPT_REAL, AT(timeout), "S",
        "seconds without a sign of life after which a rank counts as dead (default 60, under a supervisor 10)", 0.5,
        1e6, NULL},
    {"verbose", 'v', CF_OPT_FLAG, AT(verbose), NULL, "print the placement table", 0, 0, NULL},
    {0},
};

struct cf_placement cf__placement_defaults(void) {
    return (struct cf_placement){
        .ubatch = 512, .kv_type = "f16", .experts = "sliced", .numa = "default", .exchange = "auto", .wire = "f32"};
}

static int check_layouts(const char *names, bool several, struct cf_error *e) {
    for (const char *s = names; s;) { /* one that is too long for `name` is unknown as well */
        size_t length = several ? strcspn(s, ",") : strlen(s);
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)length, s);
        int layout;
        if (cf_layout_wish(name, &layout, e)) return -1;
        if (!s[length]) break;
        s += length + 1;
    }
    return 0;
}

static int check_wires(const char *names, bool several, struct cf_error *e) {
    for (const char *s = names; s;) {
        size_t length = several ? strcspn(s, ",") : strlen(s);
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)length, s);
        if (length >= sizeof name || (cf_dtype_by_name(name) < 0 && strcmp(name, "auto") != 0))
            return cf_fail(e, CF_ERR_USAGE, "--wire %s is unknown; known: f32, f16, q8, auto", name);
        if (!s[length]) break;
        s += length + 1;
    }
    return 0;
}

static int check_kv_type(struct cf_placement *p, struct cf_error *e) {
    if (!p->kv_k != !p->kv_v || (p->kv_k && strcmp(p->kv_k, p->kv_v)))
        return cf_fail(e, CF_ERR_USAGE, "--cache-type-k and --cache-type-v must be the same; or say --kv-type");
    if (p->kv_k) p->kv_type = p->kv_k;
    if (cf_kv_type_by_name(p->kv_type) < 0)
        return cf_fail(e, CF_ERR_USAGE, "--kv-type %s is unknown; known: f16, q8_0, q4_0", p->kv_type);
    return 0;
}

int cf__placement_check(struct cf_placement *p, bool several, struct cf_error *e) {
    int node[CF_DOMAINS];
    if (check_layouts(p->layout, several, e) || check_wires(p->wire, several, e) || check_kv_type(p, e)) return -1;
    if (strcmp(p->numa, "default") && strcmp(p->numa, "strict") && strcmp(p->numa, "off"))
        return cf_fail(e, CF_ERR_USAGE, "--numa %s is unknown; known: default, strict, off", p->numa);
    if (strcmp(p->experts, "sliced") && strcmp(p->experts, "whole"))
        return cf_fail(e, CF_ERR_USAGE, "--experts %s is unknown; known: sliced, whole", p->experts);
    if (cf_exchange_by_name(p->exchange) < 0)
        return cf_fail(e, CF_ERR_USAGE, "--exchange %s is unknown; known: auto, window, messages", p->exchange);
    return p->map ? cf_domain_map_parse(p->map, node, e) : 0;
}

int cf__command_failed(const struct cf_command *c, const struct cf_error *e) {
    if (cf_terminal_speaks()) fprintf(stderr, "coffer %s: %s\n", c->name, e->text);
    return cf_exit_status(e);
}
