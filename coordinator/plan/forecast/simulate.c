/* See simulate.h. Programs are compiled and priced once (timed.c); here they run, event by event. */
#include "coordinator/plan/forecast/simulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan/forecast/events.h"
#include "coordinator/plan/forecast/seats.h"
#include "coordinator/plan/forecast/timed.h"
#include "coordinator/plan/split.h"

struct batch {
    uint32_t rows, want;
    struct cf_cost_rows cost, head; /* of all rows, of those that want logits */
};

/* One rank in the middle of its work. */
struct rank {
    uint32_t came, opened; /* batches that have come, that were begun: they come and begin in order */
    uint32_t n_open, open[CF_SIM_FLIGHT], pc[CF_SIM_FLIGHT]; /* ascending by batch */
    uint32_t running;                                        /* index into open, while busy */
    uint32_t last;                                           /* the batch that it has worked on */
    double free;                                             /* when it was through with that one's last step */
    bool busy;
    double began, left, since, pace; /* of the instruction at hand: seconds that were left since then, at pace 1 */
    uint32_t stamp;                  /* of the event that ends it */
    uint16_t *counts;                /* [ring][n_instrs] parts that have arrived */
};

/* What rank 0 gives them to do. */
struct drive {
    const struct cf_workload *w;
    uint32_t all, at_once; /* batches; as many as may be in flight */
    uint32_t chunk;        /* rows of one of a prompt */
};

struct cf_simulation {
    struct cf_timed programs;
    const struct cf_figures *figures;
    const struct cf_plan *plan;
    struct rank *ranks;
    struct cf_seats seats;
    uint32_t ring; /* batches that may be about at once */
    struct batch *batches;
    struct cf_events events;
    uint64_t random;
    double now, *leaves, *enters; /* [n_hosts] until when the host's cable is taken, in both directions */
    double *entering;             /* [n_hosts] seconds that bytes were entering the host */
    uint32_t submitted, finished; /* batches, on rank 0 */
    const struct drive *drive;
    double first_round; /* when every batch of the first step had come back */
    struct cf_forecast *out;
};

static struct batch *batch_of(struct cf_simulation *s, uint32_t id) {
    return &s->batches[id % s->ring];
}

static uint16_t *count_of(struct cf_simulation *s, uint32_t rank, uint32_t batch, uint32_t instr) {
    return &s->ranks[rank].counts[(size_t)(batch % s->ring) * s->programs.ranks[rank].n + instr];
}

/* When a message that leaves now is there. Between hosts the bytes take their turn on both hosts' cables; within one
 * they are read where they lie, which costs the reader (timed.c), so that only the word about them travels. */
static double arrival(struct cf_simulation *s, uint32_t from, const struct cf_timed_send *m, double bytes) {
    const struct cf_link *l = cf_figures_link(s->figures, from, m->to);
    const double *seconds = m->mutual ? l->both : l->seconds;
    uint32_t a = (uint32_t)s->figures->ranks[from].host_index, b = (uint32_t)s->figures->ranks[m->to].host_index;
    s->out->traffic[(size_t)a * s->figures->n_hosts + b] += (uint64_t)bytes;
    if (a == b) return s->now + seconds[0];
    double latency = seconds[0], wire = cf_link_seconds(seconds, bytes) - latency;
    double begin = s->now > s->leaves[a] ? s->now : s->leaves[a];
    s->leaves[a] = begin + wire;
    double end = (begin > s->enters[b] ? begin : s->enters[b]) + wire;
    s->enters[b] = end;
    s->out->link_busy[a] += wire, s->entering[b] += wire;
    return end + latency + (m->mutual ? cf_figures_apart(s->figures, l, bytes) : 0);
}

static void send_all(struct cf_simulation *s, uint32_t rank, uint32_t id, const struct cf_timed_instr *i) {
    const struct batch *b = batch_of(s, id);
    double rows = i->wanted ? b->want : b->rows;
    if (rows <= 0) return;
    bool shares = b->rows >= i->share_rows;
    for (uint32_t k = 0; k < i->n_sends; k++) {
        const struct cf_timed_send *m = &s->programs.ranks[rank].sends[i->send0 + k];
        if (m->only_shares && !shares) continue;
        double bytes = rows * (shares && m->share_bytes > 0 ? m->share_bytes : m->bytes);
        int32_t instr = cf_timed_receiver(&s->programs, m);
        if (instr < 0) continue;
        cf_events_push(
            &s->events, (struct cf_event){arrival(s, rank, m, bytes), 0, CF_EVENT_MESSAGE, m->to, id, (uint32_t)instr});
        s->out->ranks[rank].messages++, s->out->ranks[rank].bytes += (uint64_t)bytes;
    }
}

/* Does the instruction take part for this batch, and has all that it waits for arrived? */
static bool ready(struct cf_simulation *s, uint32_t rank, uint32_t id, uint32_t pc) {
    const struct cf_timed_instr *i = &s->programs.ranks[rank].instrs[pc];
    const struct batch *b = batch_of(s, id);
    if (!i->n_in || (i->only_shares && b->rows < i->share_rows) || (i->wanted && !b->want)) return true;
    return *count_of(s, rank, id, pc) >= i->n_in;
}

/* Some instructions take longer than they should, as often as was measured; the same ones in every run of a simulation.
 */
static double noise(struct cf_simulation *s, const struct cf_rank_info *info) {
    if (info->noise[0] <= 0) return 1;
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return info->noise[(s->random >> 40) % CF_NOISE];
}

/* With its memory so many times as fast as while all read it. */
static double seconds_at(
    struct cf_simulation *s, uint32_t rank, uint32_t id, const struct cf_timed_instr *i, double times) {
    const struct batch *b = batch_of(s, id);
    const struct cf_rank_info *info = &s->figures->ranks[rank];
    bool shares = b->rows >= i->share_rows;
    if (i->only_shares && !shares) return 0;
    double rows = i->wanted ? b->want : b->rows, bytes = rows * (shares ? i->share_read : i->read);
    double t = cf_cost_seconds(&i->cost, i->wanted ? &b->head : &b->cost, info, times);
    double reads = times * info->bandwidth, window = cf_figures_link(s->figures, rank, rank)->window;
    if (window > 0 && (reads <= 0 || window < reads)) reads = window;
    if (reads > 0) t += bytes / reads;
    return t > 0 ? t : 0;
}

/* The share of an instruction's seconds that it reads: of what others in its memory take from it. */
static double reads_of(
    struct cf_simulation *s, uint32_t rank, uint32_t id, const struct cf_timed_instr *i, double seconds) {
    double alone = s->figures->ranks[rank].alone;
    if (seconds <= 0 || !cf_seats_share_memory(&s->seats, rank)) return 0;
    return (1 - seconds_at(s, rank, id, i, alone) / seconds) / (1 - 1 / alone);
}

/* When a rank's instruction will be over, as things are now. An event that was foreseen before counts no more. */
static void foresee(struct cf_simulation *s, uint32_t rank) {
    struct rank *r = &s->ranks[rank];
    r->since = s->now, r->pace = cf_seats_pace(&s->seats, rank);
    cf_events_push(&s->events,
        (struct cf_event){s->now + r->left * r->pace, 0, CF_EVENT_FINISHED, rank, r->open[r->running], ++r->stamp});
}

/* The rank has begun or ended something: the others at its cores and its memory go on at another pace. */
static void tell_neighbours(struct cf_simulation *s, uint32_t rank) {
    for (uint32_t k = 0; (k = cf_seats_next(&s->seats, rank, k)) < s->programs.n_ranks; k++) {
        struct rank *r = &s->ranks[k];
        if (!r->busy || cf_seats_pace(&s->seats, k) == r->pace) continue;
        r->left -= (s->now - r->since) / r->pace;
        if (r->left < 0) r->left = 0; /* it ends now: rounding */
        foresee(s, k);
    }
}

/* ---- rank 0 gives batches ---- */

static struct batch batch_number(const struct drive *d, uint32_t k) {
    const struct cf_workload *w = d->w;
    struct batch b = {0};
    if (w->prompt) {
        uint32_t first = k * d->chunk, n = w->prompt - first < d->chunk ? w->prompt - first : d->chunk;
        uint32_t scored = w->scored ? w->scored : 1, plain = w->prompt > scored ? w->prompt - scored : 0;
        b.rows = n, b.want = first + n <= plain ? 0 : first >= plain ? n : first + n - plain;
        b.cost = (struct cf_cost_rows){n, 1, w->depth + first + n};
    } else {
        uint32_t first, last;
        cf_split_share(w->sequences, d->at_once, k % d->at_once, &first, &last);
        b.rows = b.want = last - first;
        b.cost = (struct cf_cost_rows){b.rows, b.rows, w->depth + k / d->at_once + 1};
    }
    b.head = (struct cf_cost_rows){b.want, b.want ? b.want : 1, 0};
    return b;
}

static void submit_more(struct cf_simulation *s) {
    const struct drive *d = s->drive;
    if (s->finished == (d->w->prompt ? 0 : d->at_once)) s->first_round = s->now;
    while (s->submitted < d->all && s->submitted - s->finished < d->at_once) {
        *batch_of(s, s->submitted) = batch_number(d, s->submitted);
        for (uint32_t r = 0; r < s->programs.n_ranks; r++) {
            if (!s->programs.ranks[r].n) continue; /* holds nothing, and is not told */
            const struct cf_link *l = cf_figures_link(s->figures, 0, r);
            double way = r ? cf_link_seconds(l->seconds, 64.0 + 12.0 * batch_of(s, s->submitted)->rows) : 0;
            cf_events_push(&s->events, (struct cf_event){s->now + way, 0, CF_EVENT_BATCH, r, s->submitted, 0});
        }
        s->submitted++;
    }
}

static void close_context(struct cf_simulation *s, uint32_t rank, uint32_t at) {
    struct rank *r = &s->ranks[rank];
    memset(count_of(s, rank, r->open[at], 0), 0, s->programs.ranks[rank].n * sizeof *r->counts);
    r->n_open--;
    for (uint32_t k = at; k < r->n_open; k++)
        r->open[k] = r->open[k + 1], r->pc[k] = r->pc[k + 1];
    if (rank == 0) s->finished++;
}

/* Can the k-th open batch take its next step? It never passes an older one. */
static bool can_go_on(struct cf_simulation *s, uint32_t rank, uint32_t k) {
    const struct rank *r = &s->ranks[rank];
    if (k && r->pc[k - 1] <= r->pc[k]) return false;
    return r->pc[k] < s->programs.ranks[rank].n && ready(s, rank, r->open[k], r->pc[k]);
}

/* Does the rank hold on to the k-th open batch, which must wait? Then it looks again when that has lasted long enough.
 */
static bool holds(struct cf_simulation *s, uint32_t rank, uint32_t k) {
    const struct rank *r = &s->ranks[rank];
    const struct cf_timed_rank *program = &s->programs.ranks[rank];
    if (s->plan->n_flight == 1 || r->pc[k] == program->n || !program->instrs[r->pc[k]].holds) return false;
    if (s->now >= r->free + CF_PROGRAM_HOLD) return false;
    if (s->now == r->free)
        cf_events_push(&s->events, (struct cf_event){r->free + CF_PROGRAM_HOLD, 0, CF_EVENT_HELD, rank, r->last, 0});
    return true;
}

/* The batch whose turn it is, or n_open: as the engine does it, the one at hand as long as it can go on or is held on
 * to, then the oldest one that can. */
static uint32_t choose(struct cf_simulation *s, uint32_t rank) {
    const struct rank *r = &s->ranks[rank];
    for (uint32_t k = 0; k < r->n_open; k++) {
        if (r->open[k] != r->last) continue;
        if (can_go_on(s, rank, k)) return k;
        if (holds(s, rank, k)) return r->n_open;
    }
    uint32_t k = 0;
    while (k < r->n_open && !can_go_on(s, rank, k))
        k++;
    return k;
}

static void go_on(struct cf_simulation *s, uint32_t rank) {
    struct rank *r = &s->ranks[rank];
    const struct cf_timed_rank *program = &s->programs.ranks[rank];
    if (r->busy) return;
    while (r->n_open < s->plan->n_flight && r->opened < r->came)
        r->open[r->n_open] = r->opened++, r->pc[r->n_open++] = 0;
    uint32_t k = choose(s, rank);
    if (k == r->n_open) return;
    const struct cf_timed_instr *i = &program->instrs[r->pc[k]];
    const struct cf_rank_info *info = &s->figures->ranks[rank];
    double t = seconds_at(s, rank, r->open[k], i, 1), reads = reads_of(s, rank, r->open[k], i, t);
    if (t > 0) t *= noise(s, info);
    if (i->n_in && r->free < s->now && cf_seats_busy(&s->seats, rank)) t += info->wake;
    cf_seats_begin(&s->seats, rank, reads);
    tell_neighbours(s, rank);
    r->busy = true, r->running = k, r->last = r->open[k], r->began = s->now, r->left = t;
    foresee(s, rank);
}

static void finish(struct cf_simulation *s, uint32_t rank) {
    struct rank *r = &s->ranks[rank];
    uint32_t k = r->running;
    const struct cf_timed_instr *i = &s->programs.ranks[rank].instrs[r->pc[k]];
    *(i->computes ? &s->out->ranks[rank].compute : &s->out->ranks[rank].exchange) += s->now - r->began;
    send_all(s, rank, r->open[k], i);
    r->busy = false, r->free = s->now;
    cf_seats_end(&s->seats, rank);
    tell_neighbours(s, rank);
    if (++r->pc[k] == s->programs.ranks[rank].n) {
        close_context(s, rank, k);
        if (rank == 0) submit_more(s);
    }
    go_on(s, rank);
}

static void on_event(struct cf_simulation *s, const struct cf_event *v) {
    const struct rank *r = &s->ranks[v->rank];
    if (v->what == CF_EVENT_FINISHED && v->instr != r->stamp) return; /* it was foreseen anew */
    if (v->what == CF_EVENT_HELD && (r->busy || r->last != v->batch || v->at < r->free + CF_PROGRAM_HOLD)) return;
    s->now = v->at;
    switch (v->what) {
    case CF_EVENT_BATCH: s->ranks[v->rank].came++; break;
    case CF_EVENT_MESSAGE: ++*count_of(s, v->rank, v->batch, v->instr); break;
    case CF_EVENT_FINISHED: finish(s, v->rank); return;
    case CF_EVENT_HELD: break;
    }
    go_on(s, v->rank);
}

/* ---- the whole ---- */

static int forecast_new(struct cf_forecast *f, const struct cf_figures *g, struct cf_error *e) {
    *f = (struct cf_forecast){.n_ranks = g->n_ranks, .n_hosts = g->n_hosts};
    f->ranks = calloc(g->n_ranks, sizeof *f->ranks);
    f->link_busy = calloc(g->n_hosts, sizeof *f->link_busy);
    f->traffic = calloc((size_t)g->n_hosts * g->n_hosts, sizeof *f->traffic);
    if (f->ranks && f->link_busy && f->traffic) return 0;
    cf_forecast_free(f);
    return cf_fail(e, CF_ERR_MEMORY, "no memory for a forecast of %u ranks", g->n_ranks);
}

void cf_forecast_free(struct cf_forecast *f) {
    free(f->ranks);
    free(f->link_busy);
    free(f->traffic);
    memset(f, 0, sizeof *f);
}

int cf_simulation_new(struct cf_simulation **out, const struct cf_plan *p, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_figures *f, struct cf_error *e) {
    struct cf_simulation *s = calloc(1, sizeof *s);
    *out = s;
    if (!s) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    s->figures = f, s->plan = p, s->ring = 2 * p->n_flight + 4;
    if (p->n_flight > CF_SIM_FLIGHT)
        cf_fail(e, CF_ERR_PLAN, "%u batches in flight; at most %d can be simulated", p->n_flight, CF_SIM_FLIGHT);
    else if (!cf_timed_new(&s->programs, p, m, g, f, e)) {
        s->ranks = calloc(f->n_ranks, sizeof *s->ranks), s->batches = calloc(s->ring, sizeof *s->batches);
        s->leaves = calloc(f->n_hosts, sizeof *s->leaves), s->enters = calloc(f->n_hosts, sizeof *s->enters);
        s->entering = calloc(f->n_hosts, sizeof *s->entering);
        bool ok = s->ranks && s->batches && s->leaves && s->enters && s->entering && !cf_seats_new(&s->seats, f);
        for (uint32_t r = 0; ok && r < f->n_ranks; r++)
            ok =
                (s->ranks[r].counts = calloc((size_t)s->ring * (s->programs.ranks[r].n + 1), sizeof(uint16_t))) != NULL;
        if (ok) return 0;
        cf_fail(e, CF_ERR_MEMORY, "no memory to simulate %u ranks", f->n_ranks);
    }
    cf_simulation_free(s);
    *out = NULL;
    return -1;
}

void cf_simulation_free(struct cf_simulation *s) {
    if (!s) return;
    for (uint32_t r = 0; s->ranks && r < s->programs.n_ranks; r++)
        free(s->ranks[r].counts);
    free(s->ranks);
    free(s->batches);
    free(s->leaves);
    free(s->enters);
    free(s->entering);
    cf_seats_free(&s->seats);
    cf_events_free(&s->events);
    cf_timed_free(&s->programs);
    free(s);
}

static void rewind_all(struct cf_simulation *s) {
    uint32_t hosts = s->figures->n_hosts;
    cf_events_clear(&s->events), s->random = 1, s->now = 0, s->submitted = s->finished = 0, s->first_round = 0,
                                 s->events.failed = false;
    memset(s->leaves, 0, hosts * sizeof *s->leaves);
    memset(s->enters, 0, hosts * sizeof *s->enters);
    memset(s->entering, 0, hosts * sizeof *s->entering);
    for (uint32_t r = 0; r < s->programs.n_ranks; r++) {
        struct rank *k = &s->ranks[r];
        memset(k->counts, 0, (size_t)s->ring * (s->programs.ranks[r].n + 1) * sizeof *k->counts);
        k->came = k->opened = k->n_open = 0, k->last = UINT32_MAX, k->busy = false;
    }
}

/* Runs of layers that are on other ranks than those before them: so many batches keep all of them busy. */
static uint32_t stages_of(const struct cf_plan *p) {
    uint32_t stages = 0, layer = 0;
    int at = -1;
    while (layer < p->n_layers) {
        const struct cf_plan_row *row = cf_plan_find(p, CF_RIGHT_HEMI, layer);
        if (!row) break;
        if (!stages || row->ranks[0] != at) stages++, at = row->ranks[0];
        layer = row->layer1;
    }
    return stages;
}

static void name_bottleneck(const struct cf_simulation *s, struct cf_forecast *f) {
    uint32_t rank = 0, host = 0, stages = stages_of(s->plan), at_once = s->drive->at_once;
    double busy = 0, cable = 0;
    if (s->plan->layout == CF_LAYOUT_DOMAIN && stages < s->plan->n_flight)
        stages = s->plan->n_flight; /* they take turns */
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        double t = (f->ranks[r].compute + f->ranks[r].exchange) / f->seconds;
        if (t > busy) busy = t, rank = r;
    }
    for (uint32_t h = 0; h < f->n_hosts; h++)
        if (f->link_busy[h] / f->seconds > cable) cable = f->link_busy[h] / f->seconds, host = h;
    const struct cf_rank_info *info = &s->figures->ranks[rank];
    if (busy >= 0.75 || (busy >= 0.4 && busy > cable && at_once >= stages && stages > 1))
        snprintf(f->bottleneck, sizeof f->bottleneck, "rank %u (%.48s node %d), busy %.0f %% of the time", rank,
            info->host, info->node, 100 * busy);
    else if (cable >= 0.5)
        snprintf(f->bottleneck, sizeof f->bottleneck, "the network of host %.48s, busy %.0f %% of the time",
            cf_figures_host(s->figures, host), 100 * cable);
    else if (at_once < stages)
        snprintf(f->bottleneck, sizeof f->bottleneck,
            "too little in flight: %u batch%s for %u stages, ranks wait for their turn%s", at_once,
            at_once == 1 ? "" : "es", stages,
            at_once == s->plan->n_flight && s->drive->w->sequences > at_once ? " (--micro-batches)" : "");
    else
        snprintf(f->bottleneck, sizeof f->bottleneck, "messages under way: the busiest rank waits %.0f %% of the time",
            100 * (1 - busy));
}

int cf_simulation_run(
    struct cf_simulation *s, const struct cf_workload *w, struct cf_forecast *out, struct cf_error *e) {
    struct drive d = {.w = w};
    if (!w->prompt && (!w->generate || !w->sequences)) return cf_fail(e, CF_ERR_USAGE, "nothing to simulate");
    if (forecast_new(out, s->figures, e)) return -1;
    if (w->prompt) {
        d.chunk = cf_split_prompt(s->plan, w->prompt), d.at_once = s->plan->n_flight;
        d.all = (w->prompt + d.chunk - 1) / d.chunk;
    } else {
        d.at_once = cf_split_sequences(s->plan, w->sequences), d.all = w->generate * d.at_once;
    }
    rewind_all(s);
    cf_seats_clear(&s->seats);
    s->drive = &d, s->out = out;
    submit_more(s);
    while (s->events.n && !s->events.failed) {
        struct cf_event v = cf_events_pop(&s->events);
        on_event(s, &v);
    }
    out->seconds = s->now;
    for (uint32_t h = 0; h < out->n_hosts; h++)
        if (s->entering[h] > out->link_busy[h]) out->link_busy[h] = s->entering[h];
    for (uint32_t r = 0; r < out->n_ranks; r++)
        out->messages += out->ranks[r].messages, out->bytes += out->ranks[r].bytes;
    int rc = s->events.failed ? cf_fail(e, CF_ERR_MEMORY, "no memory to simulate %u ranks", out->n_ranks)
             : s->finished != d.all
                 ? cf_fail(e, CF_ERR_PLAN, "the simulated plan stands still after %u of %u batches", s->finished, d.all)
                 : 0;
    if (rc) {
        cf_forecast_free(out);
        return -1;
    }
    double steady = s->now - s->first_round;
    bool rounds = !w->prompt && w->generate > 1 && steady > 0;
    out->rate =
        w->prompt ? w->prompt / out->seconds
                  : (double)w->sequences * (rounds ? w->generate - 1 : w->generate) / (rounds ? steady : out->seconds);
    name_bottleneck(s, out);
    return 0;
}
