/* Rules about where a rank computes and how it reaches the others. See rules.c. */
#include <math.h>
#include <string.h>

#include "coordinator/commands/doctor/doctor.h"

static const double SHARE_LEAST = 0.85; /* of a core's time: less means that somebody else has a part of it */
static const double CLOCK_MOST = 0.1;   /* seconds */
static const double LATENCY_HOST = 200e-6, LATENCY_NET = 1e-3;    /* seconds one way */
static const double BANDWIDTH_HOST = 500e6, BANDWIDTH_NET = 50e6; /* bytes/s */

static const Cf__Checkup *facts(const struct cf__ward *w, int rank) {
    return w->patients[rank].facts;
}

/* ---- cores of several ranks ---- */

static bool overlap(const Cf__Checkup *a, const Cf__Checkup *b, uint32_t *core) {
    for (size_t i = 0; i < a->n_cpus; i++)
        for (size_t k = 0; k < b->n_cpus; k++)
            if (a->cpus[i] == b->cpus[k]) {
                *core = a->cpus[i];
                return true;
            }
    return false;
}

/* The first rank that uses a core of this one, -1: none. Numbers of cores mean the same wherever one kernel runs. */
static int companion(const struct cf__ward *w, int rank, uint32_t *core) {
    const Cf__Checkup *c = facts(w, rank);
    for (int r = 0; r < w->n_ranks; r++)
        if (r != rank && facts(w, r) && c->machine && facts(w, r)->machine == c->machine &&
            overlap(c, facts(w, r), core))
            return r;
    return -1;
}

/* Cores of its node that a rank and its neighbours there have together. Where two of them have the same core they are
 * counted one by one; else each has a share like this one's. */
static uint32_t cores_together(const struct cf__ward *w, int rank) {
    const Cf__Checkup *c = facts(w, rank);
    uint32_t core, n = 0;
    int other = companion(w, rank, &core);
    if (other < 0 || w->patients[other].host_index != w->patients[rank].host_index)
        return (uint32_t)c->n_cpus * (c->sharers ? c->sharers : 1);
    for (int r = 0; r < w->n_ranks; r++) {
        const Cf__Checkup *k = facts(w, r);
        if (!k || k->machine != c->machine || k->node != c->node) continue;
        for (size_t i = 0; i < k->n_cpus; i++) {
            bool seen = false;
            for (int b = 0; b < r && !seen; b++)
                for (size_t x = 0; facts(w, b) && facts(w, b)->machine == c->machine && x < facts(w, b)->n_cpus; x++)
                    seen |= facts(w, b)->cpus[x] == k->cpus[i];
            n += !seen;
        }
    }
    return n;
}

/* ---- binding ---- */

static int first_on_host(const struct cf__ward *w, int rank) {
    for (int r = 0; r < rank; r++)
        if (w->patients[r].host_index == w->patients[rank].host_index) return r;
    return rank;
}

/* Nodes of the host that have cores and no rank; said once per host. Ranks that are bound see their own node alone. */
static uint32_t idle_nodes(const struct cf__ward *w, int rank) {
    if (first_on_host(w, rank) != rank) return 0;
    uint32_t used = 0, nodes = facts(w, rank)->nodes;
    for (int r = 0; r < w->n_ranks; r++) {
        if (w->patients[r].host_index != w->patients[rank].host_index || !facts(w, r)) continue;
        bool seen = false;
        for (int s = 0; s < r && !seen; s++)
            seen = w->patients[s].host_index == w->patients[rank].host_index && facts(w, s) &&
                   facts(w, s)->node == facts(w, r)->node;
        used += !seen;
    }
    return nodes > used ? nodes - used : 0;
}

static void list_cores(const Cf__Checkup *c, char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < c->n_cpus && n + 24 < size; i++) {
        size_t last = i;
        while (last + 1 < c->n_cpus && c->cpus[last + 1] == c->cpus[last] + 1)
            last++;
        n +=
            (size_t)snprintf(out + n, size - n, last > i ? "%s%u-%u" : "%s%u", n ? "," : "", c->cpus[i], c->cpus[last]);
        i = last;
    }
}

void cf__judge_binding(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    char cores[96];
    uint32_t idle = idle_nodes(w, rank);
    bool narrow = cores_together(w, rank) < c->node_cores;
    list_cores(c, cores, sizeof cores);
    cf__finding_say(f, idle || narrow ? CF__STATE_WARN : CF__STATE_OK, "node %u, core%s %s of the node's %u%s", c->node,
        c->n_cpus > 1 ? "s" : "", cores, c->node_cores, c->widened ? " (the launcher's single core was widened)" : "");
    if (idle)
        cf__finding_advise(f,
            "%u node%s of this host have no rank: their memory and bandwidth are unused; start one rank per node", idle,
            idle > 1 ? "s" : "");
    else if (narrow)
        cf__finding_advise(f,
            "a binding or cpuset keeps cores of the node away: mpirun --bind-to none, or --map-by numa --bind-to numa");
}

/* ---- cores ---- */

void cf__judge_cores(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    uint32_t core = 0;
    int other = companion(w, rank, &core);
    bool squeezed = c->core_share < SHARE_LEAST;
    if (other >= 0) {
        bool same_host = w->patients[other].host_index == w->patients[rank].host_index;
        cf__finding_say(f, CF__STATE_WARN,
            "core %u also belongs to rank %d (%s%s); while all compute, core %u gives %.0f %% of its time", core, other,
            w->patients[other].host, same_host ? "" : ", the same machine under another name", c->core_worst,
            100 * c->core_share);
        cf__finding_advise(f, "%s",
            same_host && cores_together(w, rank) < c->node_cores
                ? "a binding or cpuset gives these ranks the same cores, and keeps others of the node away (see "
                  "binding)"
            : same_host ? "fewer ranks than cores: --ranks N, or one rank per NUMA node"
                        : "the launcher takes one machine for several hosts and gives each of them core 0, which costs "
                          "milliseconds per message: mpirun --bind-to none and a cpuset for each host, or one host per "
                          "machine");
        return;
    }
    cf__finding_say(f, squeezed ? CF__STATE_WARN : CF__STATE_OK,
        "no other rank; while all compute, core %u gives %.0f %% of its time", c->core_worst, 100 * c->core_share);
    if (squeezed)
        cf__finding_advise(
            f, "another program uses these cores (top shows it), or a container's limit (cgroup cpu.max) bites");
}

/* ---- peers ---- */

static const Cf__CheckupLink *link_between(const struct cf__ward *w, int a, int b) {
    const Cf__Checkup *c = w->patients[a].links;
    for (size_t i = 0; c && i < c->n_links; i++)
        if ((int)c->links[i]->peer == b) return c->links[i];
    return NULL;
}

void cf__judge_clock(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__CheckupLink *k = rank ? link_between(w, 0, rank) : NULL;
    if (!k) {
        cf__finding_say(f, CF__STATE_OK, rank ? "not measured" : "the others are held against this one");
        return;
    }
    bool off = fabs(k->clock) - k->clock_error > CLOCK_MOST;
    if (off)
        cf__finding_say(f, CF__STATE_WARN, "%+.3f s against rank 0 (to within %.3f s)", k->clock, k->clock_error);
    else
        cf__finding_say(f, CF__STATE_OK, "that of rank 0, to within %.1f s", CLOCK_MOST);
    if (off) cf__finding_advise(f, "logs of this host cannot be laid beside others: run chrony or systemd-timesyncd");
}

/* The worst of the links that this rank measured, or that rank 0 measured to it. */
static bool is_slow(const struct cf__ward *w, int a, int b, const Cf__CheckupLink *k) {
    bool host = w->patients[a].host_index == w->patients[b].host_index;
    return k->latency > (host ? LATENCY_HOST : LATENCY_NET) || k->bandwidth < (host ? BANDWIDTH_HOST : BANDWIDTH_NET);
}

void cf__judge_link(const struct cf__ward *w, int rank, struct cf__finding *f) {
    size_t n = 0;
    bool slow = false, host = false;
    cf__finding_say(f, CF__STATE_OK, "%s", w->n_ranks == 1 ? "no other rank" : "none measured");
    for (int a = 0; a < w->n_ranks; a++) {
        int b = rank;
        const Cf__CheckupLink *k = a < b ? link_between(w, a, b) : NULL;
        if (!k || n + 80 > sizeof f->found) continue;
        n += (size_t)snprintf(f->found + n, sizeof f->found - n, "%srank %d: %.0f us, %.0f MB/s", n ? "; " : "", a,
            1e6 * k->latency, 1e-6 * k->bandwidth);
        if (!is_slow(w, a, b, k)) continue;
        slow = true;
        host = w->patients[a].host_index == w->patients[b].host_index;
    }
    if (!rank && w->n_ranks > 1) cf__finding_say(f, CF__STATE_OK, "the others are measured from here");
    if (!slow) return;
    f->state = CF__STATE_WARN;
    cf__finding_advise(f, "%s",
        host ? "ranks of one host: see cores and shm above"
             : "a faster network, --layout layers or hybrid; mpirun --mca btl_tcp_if_include NET chooses the network; "
               "see cores above");
}
