/* coffer route: which domain a tensor belongs to, for the tensors of a file (-m) or for any list of names (--names). */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/look/sizes.h"
#include "coordinator/commands/shared/placement.h"

struct config {
    const char *model, *names, *rules, *map;
    int64_t layers, ctx;
};

struct route {
    cf_domain_rule *rule;
    bool mapped;
    int node[CF_DOMAINS];
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.rules = "gguf"};
}

/* Behind a domain: " node 3", " node -" for a domain that the map does not name, or nothing without a map. */
static void print_node(const struct route *r, enum cf_domain domain, const char *before) {
    if (!r->mapped) return;
    if (r->node[domain] < 0)
        printf("%s-", before);
    else
        printf("%s%d", before, r->node[domain]);
}

/* --- Names ---------------------------------------------------------------------------------------------------------
 */

/* "name" or "name index", blanks around both. Returns the index or -1; cuts the line behind the name. */
static int parse_line(char **line) {
    char *begin = *line + strspn(*line, " \t\r\n"), *end = begin + strlen(begin);
    while (end > begin && isspace((unsigned char)end[-1]))
        *--end = '\0';
    *line = begin;
    char *space = end;
    while (space > begin && !isspace((unsigned char)space[-1]))
        space--;
    if (space == begin) return -1;
    char *rest;
    errno = 0;
    long index = strtol(space, &rest, 10);
    if (*rest || errno || index < INT_MIN || index > INT_MAX) return -1; /* a name with a blank in it */
    while (space > begin && isspace((unsigned char)space[-1]))
        *--space = '\0';
    return index < 0 ? -1 : (int)index;
}

static int route_names(const struct config *c, const struct route *r, struct cf_error *e) {
    FILE *from = strcmp(c->names, "-") ? fopen(c->names, "r") : stdin;
    if (!from) return cf_fail(e, CF_ERR_FILE, "cannot open %s: %s", c->names, strerror(errno));
    char *buf = NULL;
    size_t room = 0;
    while (getline(&buf, &room, from) >= 0) {
        char *name = buf;
        int index = parse_line(&name);
        if (!*name) continue;
        enum cf_domain domain = r->rule(name, index, (int)c->layers);
        printf("%s %s", name, cf_domain_name(domain));
        print_node(r, domain, " ");
        putchar('\n');
    }
    int rc = ferror(from) ? cf_fail(e, CF_ERR_FILE, "cannot read %s: %s", c->names, strerror(errno)) : 0;
    free(buf);
    if (from != stdin) fclose(from);
    return rc;
}

/* --- A file --------------------------------------------------------------------------------------------------------
 */

static void print_tensors(const struct cf_gguf *g, const struct route *r, int n_layers) {
    size_t width = 6;
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        size_t length = strlen(cf_gguf_tensor_at(g, i)->name);
        if (length > width && length <= 48) width = length;
    }
    printf("%-*s  %5s  %-10s  %-8s  %15s%s\n", (int)width, "tensor", "layer", "domain", "type", "bytes",
        r->mapped ? "  node" : "");
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(g, i);
        int layer = cf_domain_block(t->name);
        enum cf_domain domain = r->rule(t->name, layer, n_layers);
        char number[16] = "-", type[24];
        if (layer >= 0) snprintf(number, sizeof number, "%d", layer);
        printf("%-*s  %5s  %-10s  %-8s  %15" PRIu64, (int)width, t->name, number, cf_domain_name(domain),
            cf_type_text(t->type, type), t->bytes);
        print_node(r, domain, "  ");
        putchar('\n');
    }
}

static void print_totals(const struct cf_sizes *s, const struct route *r) {
    printf("\n%-10s  %7s  %15s\n", "domain", "tensors", "bytes");
    for (enum cf_domain d = 0; d < CF_DOMAINS; d++) {
        if (d == CF_TEMPORAL && !s->tensors[d] && s->kv_bytes) continue; /* the KV cache's row says it */
        printf("%-10s  %7" PRIu64 "  %15" PRIu64 " ", cf_domain_name(d), s->tensors[d], s->bytes[d]);
        cf_print_size(stdout, s->bytes[d]);
        print_node(r, d, "  node ");
        putchar('\n');
    }
    printf("%-10s  %7" PRIu64 "  %15" PRIu64 " ", "all", s->all_tensors, s->all_bytes);
    cf_print_size(stdout, s->all_bytes);
    putchar('\n');
    if (!s->kv_bytes) return;
    printf("%-10s  %7s  %15" PRIu64 " ", cf_domain_name(CF_TEMPORAL), "KV", s->kv_bytes);
    cf_print_size(stdout, s->kv_bytes);
    print_node(r, CF_TEMPORAL, "  node ");
    printf("  KV cache, F16, %" PRIu32 " positions of one sequence\n", s->n_ctx);
}

static int route_file(const struct config *c, const struct route *r, struct cf_error *e) {
    struct cf_gguf *g;
    struct cf_sizes sizes;
    if (cf_gguf_open(&g, c->model, e)) return -1;
    int rc = cf_sizes_of(&sizes, g, r->rule, (uint32_t)c->ctx, e);
    if (!rc) {
        print_tensors(g, r, sizes.n_layers);
        print_totals(&sizes, r);
    }
    cf_gguf_close(g);
    return rc;
}

static int route(struct config *c, struct cf_error *e) {
    struct route r = {0};
    if (!strcmp(c->rules, "gguf"))
        r.rule = cf_domain_of;
    else if (!strcmp(c->rules, "mlx"))
        r.rule = cf_domain_of_mlx;
    else
        return cf_fail(e, CF_ERR_USAGE, "option --rules: '%s' is neither gguf nor mlx", c->rules);
    r.mapped = c->map != NULL;
    if (c->map && cf_domain_map_parse(c->map, r.node, e)) return -1;
    if (!c->names) cf__named_model(&c->model);
    if (!c->model == !c->names) return cf_fail(e, CF_ERR_USAGE, "needs either -m FILE or --names FILE");
    return c->names ? route_names(c, &r, e) : route_file(c, &r, e);
}

static int run(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    if (argc == 1 && !c->model && !c->names) c->model = argv[0], argc = 0;
    int rc = argc > 0 ? cf_fail(&e, CF_ERR_USAGE, "unexpected argument '%s'", argv[0]) : route(c, &e);
    if (!rc) return 0;
    return cf__command_failed(&cf_command_route, &e);
}

static const struct cf_option options[] = {
    {.name = "model",
        .letter = 'm',
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, model),
        .arg = "FILE",
        .help = "GGUF file whose tensors are listed."},
    {.name = "names",
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, names),
        .arg = "FILE",
        .help = "Lines of a tensor name, or a name and its layer; - is stdin."},
    {.name = "layers",
        .kind = CF_OPT_INT,
        .offset = offsetof(struct config, layers),
        .arg = "N",
        .help = "With --names, the number of layers that an index counts in.",
        .min = 1,
        .max = 1000000},
    {.name = "rules",
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, rules),
        .arg = "gguf|mlx",
        .help = "gguf (default): exact GGUF names, then words; mlx: words for every name, as MLX Coffers does."},
    {.name = "map",
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, map),
        .arg = "MAP",
        .help = "Add the NUMA node: domain=node,... or s824, the machine of RAM Coffers."},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__kv_row_options, offsetof(struct config, ctx)}, {0}};

const struct cf_command cf_command_route = {
    .name = "route",
    .synopsis = "-m FILE | --names FILE [--layers N] [--rules gguf|mlx] [--map MAP]",
    .summary = "print the domain of each tensor",
    .text =
        "Prints for every tensor its layer, domain, type and bytes, then the totals of each domain and the KV cache. "
        "With --names it prints \"name DOMAIN\" for every line of the list, and with --map also the node.\n"
        "Domains: PREFRONTAL holds embedding, final norm and output head, LEFT_HEMI attention, RIGHT_HEMI the MLP "
        "and experts, TEMPORAL the KV cache.",
    .example = "coffer route -m model.gguf\n"
               "echo 'model.layers.3.mlp.gate_proj 3' | coffer route --names - --layers 12 --map s824",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = run,
};
