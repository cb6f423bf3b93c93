/* The layouts as rows of a plan: tensor, stages (layers and hybrid), domain. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "coordinator/plan/internal.h"

int cf_layout_wish(const char *name, int *layout, struct cf_error *e) {
    *layout = -1;
    if (!name || !strcasecmp(name, "auto")) return 0;
    for (int i = 0; i < CF_LAYOUTS; i++)
        if (!strcasecmp(name, cf_layout_name((enum cf_layout)i))) *layout = i;
    if (*layout >= 0) return 0;
    return cf_fail(e, CF_ERR_USAGE, "--layout %s is unknown; known: auto, tensor, layers, hybrid, domain", name);
}

/* Bytes of a domain over all layers. */
static double whole(const struct cf_draft *d, enum cf_domain domain, bool active) {
    double sum = 0;
    if (domain == CF_TEMPORAL)
        sum = (double)d->wish->n_ctx * d->wish->n_seqs * d->m->n_head_kv * (d->m->d_k + d->m->d_v_apart) * 2.0 *
              d->m->n_layers;
    for (uint32_t l = 0; l < (domain == CF_PREFRONTAL ? 1 : d->m->n_layers); l++)
        sum += (double)cf_model_domain_bytes(d->m, d->g, domain, l, active);
    return sum;
}

/* cuts[n + 1] over `total` chunks, in proportion to the members' weights, to the nearest chunk. */
static void deal(uint32_t *cuts, uint32_t total, const double *weight, uint32_t n) {
    double all = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        all += weight[i];
    cuts[0] = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += weight[i];
        uint32_t cut = all > 0 ? (uint32_t)(sum / all * total + 0.5) : total;
        if (cut < cuts[i]) cut = cuts[i];
        cuts[i + 1] = i + 1 == n || cut > total ? total : cut;
    }
}

/* Some of the head goes from other hosts' ranks to those of rank 0's host. */
static void keep_home(const struct cf_draft *d, const int *ranks, double *weight, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (d->ranks[ranks[i]].host_index != d->ranks[0].host_index) weight[i] *= 1 - d->wish->head_home / 4.0;
}

int cf__plan_row(struct cf_draft *d, enum cf_domain domain, uint32_t layer0, uint32_t layer1, const int *ranks,
    uint32_t n, struct cf_error *e) {
    struct cf_plan *p = d->plan;
    uint32_t chunks = cf_plan_axis_chunks(d->m, domain, layer0);
    for (uint32_t l = layer0 + 1; l < layer1; l++) /* layers with experts are cut in their own way */
        if (cf_plan_axis_chunks(d->m, domain, l) != chunks)
            return cf__plan_row(d, domain, layer0, l, ranks, n, e) || cf__plan_row(d, domain, l, layer1, ranks, n, e)
                       ? -1
                       : 0;
    if (n > CF_MAX_MEMBERS)
        return cf_fail(e, CF_ERR_PLAN,
            "a tensor group of %u ranks; a group has at most %d: use --layout hybrid with more --stages", n,
            CF_MAX_MEMBERS);
    if (p->n_plan_rows == d->row_room) {
        d->row_room = d->row_room ? 2 * d->row_room : 16;
        struct cf_plan_row *more = realloc(p->rows, d->row_room * sizeof *more);
        if (!more) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
        p->rows = more;
    }
    struct cf_plan_row *r = &p->rows[p->n_plan_rows++];
    memset(r, 0, sizeof *r);
    r->domain = domain, r->layer0 = layer0, r->layer1 = layer1, r->n = n;
    double weight[CF_MAX_MEMBERS];
    for (uint32_t i = 0; i < n; i++)
        r->ranks[i] = ranks[i], weight[i] = d->weight[ranks[i]];
    if (domain == CF_PREFRONTAL) keep_home(d, ranks, weight, n);
    deal(r->cuts, chunks, weight, n);
    return 0;
}

int cf__layout_tensor(struct cf_draft *d, struct cf_error *e) {
    int all[CF_MAX_MEMBERS + 1];
    for (uint32_t i = 0; i < d->n_ranks && i <= CF_MAX_MEMBERS; i++)
        all[i] = (int)i;
    for (int domain = 0; domain < CF_DOMAINS; domain++)
        if (cf__plan_row(d, (enum cf_domain)domain, 0, d->m->n_layers, all, d->n_ranks, e)) return -1;
    return 0;
}

/* Which ranks form stage s: hosts stay together when there are as many stages as hosts, else contiguous runs. */
static uint32_t stage_ranks(const struct cf_draft *d, uint32_t stages, uint32_t s, int *out) {
    int hosts = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_ranks; i++)
        if (d->ranks[i].host_index >= hosts) hosts = d->ranks[i].host_index + 1;
    for (uint32_t i = 0; i < d->n_ranks; i++) {
        uint32_t stage = (uint32_t)hosts == stages ? (uint32_t)d->ranks[i].host_index
                                                   : (uint32_t)((uint64_t)i * stages / d->n_ranks);
        if (stage == s && n <= CF_MAX_MEMBERS) out[n++] = (int)i;
    }
    return n;
}

int cf__layout_stages(struct cf_draft *d, uint32_t stages, struct cf_error *e) {
    if (!stages || stages > d->n_ranks) return cf_fail(e, CF_ERR_PLAN, "%u stages for %u ranks", stages, d->n_ranks);
    double *weight = calloc(stages, sizeof *weight);
    uint32_t *cuts = calloc(stages + 1, sizeof *cuts), n_layers = d->m->n_layers;
    int members[CF_MAX_MEMBERS + 1], rc = -1;
    if (!weight || !cuts) {
        cf_fail(e, CF_ERR_MEMORY, "out of memory");
        goto out;
    }
    double all = 0, layer = (whole(d, CF_LEFT_HEMI, true) + whole(d, CF_RIGHT_HEMI, true)) / n_layers;
    for (uint32_t s = 0; s < stages; s++) {
        uint32_t n = stage_ranks(d, stages, s, members);
        for (uint32_t i = 0; i < n; i++)
            weight[s] += d->weight[members[i]];
        all += weight[s];
    }
    /* Stage 0 also reads the head, so it gets fewer layers; at least one if there is one for everybody. */
    double head = whole(d, CF_PREFRONTAL, true) / layer, share = weight[0] / all * (n_layers + head) - head;
    double least = n_layers >= stages && stages > 1 ? 1.0 : 0.0;
    if (share < least) share = least;
    if (stages == 1) share = n_layers;
    if (all > weight[0]) weight[0] = share * (all - weight[0]) / (n_layers - share > 0 ? n_layers - share : 1);
    deal(cuts, n_layers, weight, stages);
    for (uint32_t s = 0; s < stages; s++) {
        uint32_t n = stage_ranks(d, stages, s, members);
        if (s == 0 && cf__plan_row(d, CF_PREFRONTAL, 0, n_layers, members, n, e)) goto out;
        for (int domain = CF_LEFT_HEMI; domain < CF_DOMAINS && cuts[s] < cuts[s + 1]; domain++)
            if (cf__plan_row(d, (enum cf_domain)domain, cuts[s], cuts[s + 1], members, n, e)) goto out;
    }
    rc = 0;
out:
    free(weight);
    free(cuts);
    return rc;
}

/* Fewer than four ranks: PREFRONTAL to rank 0, which samples; then each domain, heaviest first, to the rank with the
 * least so far. */
static void share_ranks(const struct cf_draft *d, int member[CF_DOMAINS][CF_MAX_MEMBERS + 1], uint32_t n[CF_DOMAINS]) {
    double load[3] = {0};
    bool done[CF_DOMAINS] = {false};
    for (int k = 0; k < CF_DOMAINS; k++) {
        int heavy = -1;
        for (int i = 0; i < CF_DOMAINS; i++)
            if (!done[i] && (heavy < 0 || whole(d, (enum cf_domain)i, false) > whole(d, (enum cf_domain)heavy, false)))
                heavy = i;
        uint32_t light = 0;
        for (uint32_t r = 1; r < d->n_ranks; r++)
            if (load[r] / d->weight[r] < load[light] / d->weight[light]) light = r;
        if (!k) heavy = CF_PREFRONTAL, light = 0;
        done[heavy] = true, n[heavy] = 1, member[heavy][0] = (int)light;
        load[light] += whole(d, (enum cf_domain)heavy, false);
    }
}

/* Four and more: one rank each, then the heaviest per member grows. Ranks are dealt in order, rank 0 to PREFRONTAL. */
static void grow_groups(const struct cf_draft *d, int member[CF_DOMAINS][CF_MAX_MEMBERS + 1], uint32_t n[CF_DOMAINS]) {
    for (int i = 0; i < CF_DOMAINS; i++)
        n[i] = 1;
    for (uint32_t r = CF_DOMAINS; r < d->n_ranks; r++) {
        int heavy = -1;
        for (int i = 0; i < CF_DOMAINS; i++)
            if (n[i] < CF_MAX_MEMBERS && (heavy < 0 || whole(d, (enum cf_domain)i, false) / n[i] >
                                                           whole(d, (enum cf_domain)heavy, false) / n[heavy]))
                heavy = i;
        if (heavy >= 0) n[heavy]++;
    }
    int next = 0;
    for (int i = 0; i < CF_DOMAINS; i++)
        for (uint32_t k = 0; k < n[i]; k++)
            member[i][k] = next++;
}

static int map_groups(
    const struct cf_draft *d, int member[CF_DOMAINS][CF_MAX_MEMBERS + 1], uint32_t n[CF_DOMAINS], struct cf_error *e) {
    for (int i = 0; i < CF_DOMAINS; i++) {
        n[i] = 0;
        if (d->wish->map[i] < 0)
            return cf_fail(e, CF_ERR_USAGE, "--map names no node for %s", cf_domain_name((enum cf_domain)i));
        for (uint32_t r = 0; r < d->n_ranks && n[i] < CF_MAX_MEMBERS; r++)
            if (d->ranks[r].node == d->wish->map[i]) member[i][n[i]++] = (int)r;
        if (!n[i])
            return cf_fail(e, CF_ERR_USAGE, "--map gives %s node %d, but no rank runs on that node",
                cf_domain_name((enum cf_domain)i), d->wish->map[i]);
    }
    return 0;
}

int cf__layout_domain(struct cf_draft *d, struct cf_error *e) {
    int member[CF_DOMAINS][CF_MAX_MEMBERS + 1];
    uint32_t n[CF_DOMAINS];
    bool mapped = false;
    for (int i = 0; i < CF_DOMAINS; i++)
        mapped |= d->wish->map[i] >= 0;
    if (mapped) {
        if (map_groups(d, member, n, e)) return -1;
    } else if (d->n_ranks < CF_DOMAINS) {
        share_ranks(d, member, n);
    } else {
        grow_groups(d, member, n);
    }
    for (int i = 0; i < CF_DOMAINS; i++)
        if (cf__plan_row(d, (enum cf_domain)i, 0, d->m->n_layers, member[i], n[i], e)) return -1;
    return 0;
}
