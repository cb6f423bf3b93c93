/* See job.h. */
#include "coordinator/decode/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "coordinator/cli/options.h"
#include "coordinator/decode/measure/calibrate.h"
#include "coordinator/decode/measure/fewer.h"
#include "coordinator/decode/internal.h"
#include "coordinator/decode/measure/measure.h"
#include "coordinator/decode/rounding.h"
#include "coordinator/supervise/supervisor.h"
#include "proto/wire.h"
#include "transport/clock.h"

int cf_exchange_by_name(const char *name) {
    static const char *const names[] = {"auto", "window", "messages"}; /* enum cf_exchange_way */
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (!strcmp(name, names[i])) return i;
    return -1;
}

/* Distinct nodes that a map names, ascending. */
static int mapped_nodes(const char *map, int nodes[CF_DOMAINS], int *n, struct cf_error *e) {
    int node[CF_DOMAINS];
    *n = 0;
    if (!map) return 0;
    if (cf_domain_map_parse(map, node, e)) return -1;
    for (int d = 0; d < CF_DOMAINS; d++) {
        int at = 0;
        while (at < *n && nodes[at] < node[d])
            at++;
        if (node[d] < 0 || (at < *n && nodes[at] == node[d])) continue;
        memmove(nodes + at + 1, nodes + at, (size_t)(*n - at) * sizeof *nodes);
        nodes[at] = node[d];
        ++*n;
    }
    return 0;
}

int cf_job_ranks_here(const char *map, int *ranks, struct cf_error *e) {
    int nodes[CF_DOMAINS], n;
    if (mapped_nodes(map, nodes, &n, e)) return -1;
    struct cf_machine m;
    if (cf_machine_read(&m, 1, e)) return -1;
    *ranks = n;
    for (uint32_t i = 0; i < m.n_nodes && !n; i++)
        *ranks += m.nodes[i].n_cores > 0;
    if (*ranks < 1) *ranks = 1;
    /* The nodes of the map must be there; taking seats says so, with the list of those that are. */
    struct cf_seat seat;
    int rc = n ? cf_seat_assign(&seat, &m, 0, n, nodes, e) : 0;
    cf_machine_free(&m);
    return rc;
}

static int unknown_isa(struct cf_error *e) {
    const struct cf_kernels *all[8];
    size_t n = cf_kernels_all(all);
    char names[96] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", all[i]->isa);
    return cf_fail(e, CF_ERR_UNSUPPORTED, "COFFER_ISA=%s is unknown or cannot run on this machine; what can: %s",
        getenv("COFFER_ISA"), names);
}

/* What this rank can check before it talks to anybody: the model and the machine. */
static int open_file(struct cf_job *j, struct cf_error *e) {
    if (!cf_gguf_open(&j->gguf, j->ship ? cf_ship_path(j->ship) : j->o->model, e)) return 0;
    size_t n = strlen(e->text);
    if (!j->ship && cf_transport_rank(j->transport) && access(j->o->model, F_OK))
        snprintf(e->text + n, sizeof e->text - n, " (--ship sends there what it needs)");
    return -1;
}

static int open_model(struct cf_job *j, void *ctx, struct cf_error *e) {
    if (j->o->open ? j->o->open(&j->gguf, ctx, e) : open_file(j, e)) return -1;
    if (cf_model_open(&j->model, j->gguf, e)) return -1;
    if (j->o->place.experts && !strcmp(j->o->place.experts, "whole")) cf_model_whole_experts(&j->model);
    j->model_open = true;
    struct cf_error why;
    if (j->o->place.direct && cf_gguf_direct(j->gguf, &why))
        snprintf(j->note, sizeof j->note, "--direct is not possible, the page cache is used: %.400s", why.text);
    j->kernels = cf_kernels_choose(getenv("COFFER_ISA"));
    if (!j->kernels) return unknown_isa(e);
    if (j->o->place.ctx_size > (int64_t)1 << 24)
        return cf_fail(e, CF_ERR_USAGE, "--ctx-size %lld is out of range", (long long)j->o->place.ctx_size);
    j->n_ctx = j->o->place.ctx_size > 0      ? (uint32_t)j->o->place.ctx_size
               : j->model.n_ctx_train < 4096 ? j->model.n_ctx_train
                                             : 4096;
    if (cf_transport_rank(j->transport) != 0) return 0;
    if (j->n_ctx > j->model.n_ctx_train && !j->o->kv_size)
        cf_terminal_note(j->o->terminal,
            "coffer: the context of %u tokens is longer than the %u that the model was trained for: answers may go to "
            "pieces beyond (-c)",
            j->n_ctx, j->model.n_ctx_train);
    if (cf_tokenizer_new(&j->tokenizer, j->gguf, e)) return -1;
    const char *note = cf_tokenizer_note(j->tokenizer);
    if (note) fprintf(stderr, "%s: %s\n", cf_gguf_path(j->gguf), note);
    return j->o->prepare ? j->o->prepare(j, ctx, e) : 0;
}

static int hello(struct cf_job *j, Cf__Hello *h, const struct cf_error *mine, Cf__Verdict **all, struct cf_error *e) {
    Cf__Error error = CF__ERROR__INIT;
    if (mine && mine->code) {
        error.code = (uint32_t)mine->code, error.text = cf_wire_text(mine->text);
        h->error = &error;
    } else {
        cf_gguf_identity(j->gguf, &h->model_bytes, &h->model_hash);
    }
    h->cpus_hash = j->machine.cpus_hash;
    h->nodes_on_host = j->machine.n_nodes;
    return cf_transport_hello(j->transport, h, all, e);
}

/* Where everybody on this host sits; the first hello round told us which cores they see. */
static int take_seat(struct cf_job *j, const Cf__Verdict *all, struct cf_error *e) {
    struct cf_transport *t = j->transport;
    int local = cf_transport_local_size(t), nodes[CF_DOMAINS], n = 0, at = 0;
    uint64_t *hashes = calloc((size_t)local, sizeof *hashes);
    int *wanted = calloc((size_t)local, sizeof *wanted);
    int rc = mapped_nodes(j->o->place.map, nodes, &n, e);
    if (!hashes || !wanted) rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (int r = 0; !rc && r < cf_transport_size(t); r++) {
        if (cf_transport_host_of(t, r) != cf_transport_host_of(t, cf_transport_rank(t))) continue;
        wanted[at] = n == local ? nodes[at] : -1; /* one rank for each node that the map names */
        hashes[at++] = all->hellos[r]->cpus_hash;
    }
    if (!rc) rc = cf_seat_assign_bound(&j->seat, &j->machine, cf_transport_local_rank(t), local, wanted, hashes, e);
    free(hashes);
    free(wanted);
    return rc;
}

/* What a rank takes of its node after it has looked at it, beside what the plan counts: MPI, stacks, the window. */
enum { OWN_BYTES = 16 << 20 };

/* Second hello: what each seat offers and what was measured of it. Fills j->figures, the same on every rank. */
static int report(struct cf_job *j, struct cf_error *e) {
    const struct cf_numa_node *node = &j->machine.nodes[j->seat.node];
    struct cf_calibrate_room room = {0};
    Cf__Hello h = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    h.node = node->os_index, h.cores = j->seat.n_cores, h.threads = cf_team_size(j->team);
    h.memory_free = node->memory_free, h.seat = j->seat.cores[0];
    h.memory_limit = j->machine.limit_free;
    int rc = cf_calibrate_tell(j, &h, &room, e);
    if (!rc) rc = hello(j, &h, NULL, &all, e);
    free(room.links);
    if (rc) return -1;
    for (uint32_t r = 0; r < j->n_ranks; r++) {
        const Cf__Hello *k = all->hellos[r];
        struct cf_rank_info *info = &j->ranks[r];
        info->node = (int)k->node, info->threads = k->threads, info->seat = k->seat, info->seat_cores = k->cores;
        uint32_t sharers = 0, neighbours = 0;
        for (uint32_t s = 0; s < j->n_ranks; s++) {
            if (j->ranks[s].host_index != info->host_index) continue;
            neighbours++, sharers += all->hellos[s]->node == k->node;
        }
        info->memory_free = cf_memory_share(k->memory_free, sharers, k->memory_limit, neighbours);
        info->memory_free = info->memory_free > OWN_BYTES ? info->memory_free - OWN_BYTES : 1; /* 0: not known */
    }
    rc = cf_calibrate_hear(j, all, e);
    if (!rc) cf_figures_crowd(&j->figures);
    cf__verdict__free_unpacked(all, NULL);
    return rc;
}

/* A round of all ranks. */
static int open_ship(struct cf_job *j, struct cf_error *e) {
    if (!j->o->place.ship || j->o->open) return 0;
    struct cf_ship_options o = {
        .transport = j->transport, .model = j->o->model, .progress = cf__job_show_shipping, .ctx = j};
    return cf_ship_open(&j->ship, &o, e);
}

static enum cf_numa_policy numa_policy(const struct cf_job *j) {
    return !strcmp(j->o->place.numa, "strict") ? CF_NUMA_STRICT
           : !strcmp(j->o->place.numa, "off")  ? CF_NUMA_OFF
                                               : CF_NUMA_DEFAULT;
}

static enum cf_exchange_way exchange_way(const struct cf_job *j) {
    return j->o->place.exchange ? (enum cf_exchange_way)cf_exchange_by_name(j->o->place.exchange) : CF_EXCHANGE_AUTO;
}

struct body {
    struct cf_job *j;
    int (*work)(struct cf_job *, void *, struct cf_error *);
    void *ctx;
    struct cf_error *e;
    double start;
    bool again; /* with fewer threads: all has been measured */
};

/* From the plan to the end of the work, with an engine of its own. */
static int run_layout(struct body *b, double start) {
    struct cf_job *j = b->j;
    struct cf_error *e = b->e;
    struct cf_engine_options o = {.transport = j->transport,
        .team = j->team,
        .gguf = j->gguf,
        .model = &j->model,
        .kernels = j->kernels,
        .node = (int)j->machine.nodes[j->seat.node].os_index,
        .policy = numa_policy(j),
        .huge = j->o->place.huge,
        .note = j->note,
        .ship = j->ship,
        .exchange = exchange_way(j),
        .no_exchange = j->no_exchange,
        .progress = cf__job_show_loading,
        .ctx = j};
    bool first = cf_transport_rank(j->transport) == 0;
    if (cf_engine_open(&j->engine, &o, e)) return -1;
    j->load_start = cf_now();
    int rc = first && !j->placed ? cf__job_place(j, e) : 0;
    j->placed = false;
    if (!rc) cf_terminal_progress(j->o->terminal, 0, "loading"); /* also of a load that ends before it is looked at */
    if (!rc) rc = cf_engine_start(j->engine, first ? &j->plan : NULL, e);
    if (!rc && first) {
        j->load_seconds = cf_now() - start;
        cf__job_say_ship(j);
        cf__job_say_audit(j);
        rc = b->work(j, b->ctx, e);
        if (!rc) rc = cf_rounding_say(j, e);
        if (!rc) rc = cf_engine_shutdown(j->engine, j->over, e);
    } else if (!rc) {
        rc = cf_engine_serve(j->engine, e);
        j->over = cf_engine_was_last(j->engine);
    }
    if (rc) cf_transport_fail(j->transport, e); /* before the arena goes: see cf_engine_close */
    cf_engine_close(j->engine);
    j->engine = NULL;
    cf_plan_free(&j->plan);
    return rc;
}

/* Of a sweep: rank 0 without the others. */
static int run_alone(struct body *b) {
    struct cf_job *j = b->j;
    j->alone = true, j->wire = CF_DTYPE_F32, j->no_exchange = false;
    int rc = cf__job_passes_over(j) ? 0 : run_layout(b, b->start);
    j->alone = false;
    return rc;
}

/* One layout with each wire type. */
static int run_wires(struct body *b, double start) {
    struct cf_job *j = b->j;
    const char *names = j->o->place.wire ? j->o->place.wire : j->o->sweep ? cf__job_wires(j) : "f32";
    for (;;) {
        char name[8];
        size_t n = strcspn(names, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, names);
        j->wire = cf_dtype_by_name(name); /* known: cf__placement_check; auto: -1 */
        j->no_exchange = false;
        if (run_layout(b, start)) return -1;
        j->no_exchange = true;
        if (j->o->no_exchange_too && j->n_ranks > 1 && !j->over && run_layout(b, cf_now())) return -1;
        if (!names[n] || j->over) return 0;
        names += n + 1;
        start = cf_now();
    }
}

/* Everybody's figures, and how many threads are best with them. */
static int know(struct body *b) {
    struct cf_job *j = b->j;
    struct cf_error *e = b->e;
    if (j->o->measure && (cf_measure_bandwidth(j, e) || cf_measure_products(j, e) || cf_measure_links(j, e))) return -1;
    if (cf_calibrate_rank(j, e) || cf_calibrate_links(j, e) || report(j, e)) return -1;
    return cf__job_choose_threads(j, e);
}

static int team_body(struct cf_team *team, void *ctx) {
    struct body *b = ctx;
    struct cf_job *j = b->j;
    j->team = team;
    if (j->o->instead) return j->o->instead(j, b->ctx, b->e);
    if (!b->again && know(b)) return -1;
    if (j->ranks[cf_transport_rank(j->transport)].threads != cf_team_size(team)) {
        b->again = true;
        return 0;
    }
    if (j->o->sweep && run_alone(b)) return -1;
    if (j->o->sweep && j->n_ranks == 1) return 0; /* all layouts are that */
    double start = b->start;
    const char *names = j->o->place.layout ? j->o->place.layout : j->o->sweep ? cf__job_layouts(j) : "";
    for (;;) {
        size_t n = strcspn(names, ",");
        snprintf(j->layout, sizeof j->layout, "%.*s", (int)n, names);
        if (!cf__job_passes_over(j) && !j->over && run_wires(b, start)) return -1;
        if (!names[n] || j->over) return 0;
        names += n + 1;
        start = cf_now();
    }
}

static int run_team(struct cf_job *j, struct body *b, uint32_t asked, struct cf_error *e) {
    uint32_t share = j->seat.n_cores, threads = asked ? asked : share;
    if (threads > share)
        cf_terminal_note(j->o->terminal,
            "coffer: -t %u is more than this rank's share of %u cores: threads will wait for each other", threads,
            share);
    if (j->machine.widened)
        cf_terminal_note(j->o->terminal,
            "coffer: the launcher bound each rank to one core; widened to the node's cores (use --bind-to to choose)");
    uint32_t cores[CF_MAX_CORES];
    struct cf_team_options o = cf_fewer_team(&j->seat, threads, cores);
    cf_transport_sleep_at_once(j->transport, o.sleep_at_once);
    j->own = (struct cf_rank_info){0}, b->again = false;
    if (!asked && j->o->fewer_threads && cf_fewer_meet(&j->own, &j->seat, e)) return -1;
    if (cf_team_run(&o, team_body, b, e)) return -1;
    if (!b->again) return 0;
    o = cf_fewer_team(&j->seat, j->ranks[cf_transport_rank(j->transport)].threads, cores);
    return cf_team_run(&o, team_body, b, e);
}

static int run_teams(struct cf_job *j, struct body *b, struct cf_error *e) {
    for (uint32_t i = 0; i < j->o->n_threads && !j->over; i++) {
        if (run_team(j, b, j->o->threads[i], e)) return -1;
        b->start = cf_now();
        j->machine.widened = false; /* said once */
    }
    return 0;
}

static void on_beat(void *ctx) {
    cf_terminal_event(ctx, "alive", "%s", "");
}

/* The supervisor wants to know whether it is the same model after a failure: size and header say much, and on the same
 * host when the files were written. */
static void say_model(const struct cf_job *j) {
    uint64_t bytes, header, stamp[4], hash = 0;
    if (!cf_terminal_supervised() || cf_transport_rank(j->transport) != 0) return;
    cf_gguf_identity(j->gguf, &bytes, &header);
    for (uint32_t i = 0; i < cf_gguf_files(j->gguf); i++) {
        struct stat s;
        if (stat(cf_gguf_file(j->gguf, i).path, &s)) continue;
        stamp[0] = (uint64_t)s.st_ino, stamp[1] = (uint64_t)s.st_mtim.tv_sec, stamp[2] = (uint64_t)s.st_mtim.tv_nsec;
        stamp[3] = hash;
        hash = XXH64(stamp, sizeof stamp, 0);
    }
    cf_terminal_event(j->o->terminal, "model", "%" PRIu64 " %016" PRIx64 " %016" PRIx64 " %s", bytes, header, hash,
        cf_transport_host_name(j->transport, 0));
}

static void close_job(struct cf_job *j) {
    cf_tokenizer_free(j->tokenizer);
    if (j->model_open) cf_model_close(&j->model);
    cf_gguf_close(j->gguf);
    cf_ship_close(j->ship);
    cf_machine_free(&j->machine);
    cf_figures_free(&j->figures);
    cf_plan_free(&j->plan);
    free(j->probes);
    free(j->streamed);
}

/* Says why the run has failed: one rank speaks, rank 0 unless that is the one that fell silent. */
static void say_failure(const struct cf_job *j, const struct cf_error *e) {
    struct cf_terminal *t = j->o->terminal;
    if (j->transport) t->is_rank0 = cf_transport_spokesman(j->transport) == cf_transport_rank(j->transport);
    if (e->code == CF_ERR_LOST && t->stream && cf_terminal_supervised())
        cf_terminal_event(t, "lost", "%s", e->text); /* the supervisor says it, and what comes of it */
    else if (e->code != CF_ERR_INTERRUPTED)
        cf_terminal_note(t, "coffer %s: %s", j->o->command, e->text);
    cf_terminal_status(t, cf_exit_status(e));
}

/* Who there is and where. */
static int name_ranks(struct cf_job *j, struct cf_error *e) {
    if (cf_figures_new(&j->figures, j->n_ranks, (uint32_t)cf_transport_hosts(j->transport), e)) return -1;
    j->ranks = j->figures.ranks;
    for (int r = 0; r < (int)j->n_ranks; r++) {
        snprintf(j->ranks[r].host, sizeof j->ranks[r].host, "%s", cf_transport_host_name(j->transport, r));
        j->ranks[r].host_index = cf_transport_host_of(j->transport, r);
    }
    return 0;
}

/* Everybody looks at what it has, and hears of the others. */
static int meet(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct cf_error mine = {0};
    bool room = !name_ranks(j, &mine);
    int rc = room ? cf_machine_read(&j->machine, cf_transport_local_size(j->transport), &mine) : -1;
    if (open_ship(j, e)) return -1;
    if (!rc) rc = open_model(j, ctx, &mine);
    Cf__Hello h = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    rc = hello(j, &h, &mine, &all, e);
    if (!rc) rc = take_seat(j, all, e);
    if (all) cf__verdict__free_unpacked(all, NULL);
    return rc;
}

/* Weights that are no numbers make no numbers: whoever reads that should know where they came from. */
static void blame_file(const struct cf_job *j, struct cf_error *e) {
    size_t n = strlen(e->text);
    if (e->code == CF_ERR_NUMERIC && j->gguf && strstr(e->text, "non-finite") && !strstr(e->text, "damaged"))
        snprintf(e->text + n, sizeof e->text - n, " (is %.200s damaged?)", cf_gguf_path(j->gguf));
}

int cf_job_run(const struct cf_job_options *o, int (*work)(struct cf_job *job, void *ctx, struct cf_error *e),
    void *ctx, struct cf_error *e) {
    struct cf_job j = {.o = o, .n_seqs = o->n_seqs, .n_want = o->n_want};
    struct body b = {.j = &j, .work = work, .ctx = ctx, .e = e, .start = cf_now()};
    struct cf_transport_options to = {.timeout = o->place.timeout};
    if (!(to.timeout > 0) && cf_terminal_supervised()) to.timeout = CF_SILENCE_DEFAULT;
    if (cf_transport_open(&j.transport, &to, e)) {
        say_failure(&j, e);
        return -1;
    }
    j.n_ranks = (uint32_t)cf_transport_size(j.transport);
    o->terminal->is_rank0 = cf_transport_rank(j.transport) == 0;
    cf_transport_on_beat(j.transport, on_beat, o->terminal);
    int rc = meet(&j, ctx, e);
    if (!rc) say_model(&j);
    if (!rc) rc = run_teams(&j, &b, e);
    if (rc) blame_file(&j, e);
    if (rc) {
        cf_transport_fail(j.transport, e);
        say_failure(&j, e);
    }
    bool mine = rc && cf_transport_failed_rank(j.transport) == cf_transport_rank(j.transport);
    if (!cf_transport_close(j.transport, !rc) && mine && e->code != CF_ERR_INTERRUPTED) {
        o->terminal->is_rank0 = true; /* once the launcher sees us end it ends the spokesman, too */
        cf_terminal_note(o->terminal, "coffer %s: %s", o->command, e->text);
    }
    close_job(&j);
    return rc;
}
