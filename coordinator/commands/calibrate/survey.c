/* What every rank does for `coffer calibrate`, in earnest: nothing is taken from a file, and nothing is hurried.
 *
 *     bandwidth -> noise, threads that meet -> kernels, table by table -> rates of this host into their file
 *     -> links, one pair at a time -> the model's file, on one rank of each host -> all to rank 0
 *
 * Ranks measure their nodes and kernels at the same time, because that is how they work; links and files are measured
 * while the others wait.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/calibrate/calibrate.h"
#include "coordinator/decode/measure/calibrate.h"
#include "coordinator/decode/measure/measure.h"
#include "coordinator/decode/measure/rates_file.h"
#include "node/check/check.h"
#include "node/engine/rate.h"
#include "proto/wire.h"

enum { MOST_TABLES = 8 };
static const uint64_t DISK_BYTES = (uint64_t)512 << 20;

/* One table's figures as they travel. */
struct table {
    Cf__CheckupTable message;
    uint32_t types[CF_TYPE_LIMIT];
    double rates[CF_TYPE_LIMIT], single[CF_TYPE_LIMIT], few[CF_TYPE_LIMIT];
};

/* Another rank's link as it travels. */
struct link {
    Cf__CheckupLink message;
    double seconds[CF_LINK_SIZES], both[CF_LINK_SIZES];
};

struct survey {
    struct cf_job *job;
    const struct cf__calibrate *c;
    Cf__Checkup facts;
    struct cf_check_host host;
    struct table tables[MOST_TABLES];
    Cf__CheckupTable *table_list[MOST_TABLES];
    struct link *links; /* [n_ranks] */
    Cf__CheckupLink **link_list;
    struct cf_error why; /* the model's file could not be read past the page cache */
    struct cf_rates_file file;
};

/* ---- kernels ---- */

/* The table that a run takes, then the others. Returns how many. */
static size_t list_tables(const struct survey *s, const struct cf_kernels *list[MOST_TABLES]) {
    const struct cf_kernels *all[MOST_TABLES];
    size_t n = s->c->all_tables ? cf_kernels_all(all) : 0, used = 0;
    list[used++] = s->job->kernels;
    for (size_t i = n; i-- > 0 && used < MOST_TABLES;)
        if (strcmp(all[i]->isa, s->job->kernels->isa) != 0) list[used++] = all[i];
    return used;
}

static void measure_type(struct survey *s, const struct cf_kernels *k, struct table *t, uint32_t id) {
    if (!k->product[id] || !cf_type_by_id(id)) return;
    const struct cf_type *type = cf_type_by_id(id);
    double rate = cf_team_product_rate(s->job->team, k, type, s->c->seconds);
    t->types[t->message.n_types++] = id, t->rates[t->message.n_rates++] = rate;
    t->single[t->message.n_single_rates++] = cf_team_single_rate(s->job->team, k, type, s->c->seconds / 4);
    t->few[t->message.n_few_rates++] = cf_team_few_rate(s->job->team, k, type, s->c->seconds / 4);
}

/* k NULL: this rank has fewer tables than others, and only meets them. */
static int measure_table(struct survey *s, const struct cf_kernels *k, struct table *t, struct cf_error *e) {
    const struct cf_model *m = &s->job->model;
    cf__checkup_table__init(&t->message);
    t->message.types = t->types, t->message.rates = t->rates, t->message.single_rates = t->single,
    t->message.few_rates = t->few;
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        if (!cf_type_by_id(id)) continue;
        if (cf_measure_meet(s->job, 0, e) < 0) return -1;
        if (k) measure_type(s, k, t, id);
    }
    if (cf_measure_meet(s->job, 0, e) < 0) return -1;
    if (!k) return 0;
    t->message.isa = cf_wire_text(k->isa);
    uint32_t heads = m->n_head_kv ? m->n_head / m->n_head_kv : 1;
    t->message.attention = cf_team_attention_rate(s->job->team, k, m->d_k, m->d_v, heads, s->c->seconds);
    t->message.between = cf_team_between_rate(s->job->team, k, s->c->seconds);
    s->table_list[s->facts.n_tables++] = &t->message;
    return 0;
}

static int measure_kernels(struct survey *s, struct cf_error *e) {
    const struct cf_kernels *list[MOST_TABLES];
    struct cf_measure_life life;
    size_t n = list_tables(s, list), all = s->c->all_tables ? MOST_TABLES : 1;
    int rc = 0;
    cf_measure_life_begin(&life, s->job);
    for (size_t i = 0; i < all && !rc && !life.failed; i++)
        rc = measure_table(s, i < n ? list[i] : NULL, &s->tables[i], e);
    return cf_measure_life_end(&life, e) ? -1 : rc;
}

static void keep_best(struct cf_rates_file *f, const char *name, double rate) {
    double before;
    if (!cf_rates_get(f, name, &before) || rate > before) cf_rates_set(f, name, rate);
}

/* The host's file holds what was found now, and nothing older. Ranks of a host take turns, the best of them counts. */
static int renew_file(struct survey *s, struct cf_error *e) {
    struct cf_job *j = s->job;
    int turn = cf_transport_local_rank(j->transport), most = 0;
    uint32_t threads = cf_team_size(j->team), heads = j->model.n_head_kv ? j->model.n_head / j->model.n_head_kv : 1;
    char name[CF_RATES_NAME];
    for (int h = 0; h < (int)j->figures.n_hosts; h++) {
        int n = 0;
        for (int r = 0; r < (int)j->n_ranks; r++)
            n += cf_transport_host_of(j->transport, r) == h;
        if (n > most) most = n;
    }
    for (int i = 0; i < most; i++) {
        if (cf_measure_meet(j, 0, e) < 0) return -1;
        if (i != turn) continue;
        cf_rates_open(&s->file);
        if (turn == 0) cf_rates_clear(&s->file);
        for (size_t t = 0; t < s->facts.n_tables; t++) {
            const Cf__CheckupTable *table = s->table_list[t];
            for (size_t k = 0; k < table->n_types; k++) {
                const char *type = cf_type_by_id(table->types[k])->name;
                snprintf(name, sizeof name, "%s, %u threads, %s", table->isa, threads, type);
                keep_best(&s->file, name, table->rates[k]);
                snprintf(name, sizeof name, "%s, %u threads, %s" CF_RATES_SINGLE, table->isa, threads, type);
                keep_best(&s->file, name, table->single_rates[k]);
                snprintf(name, sizeof name, "%s, %u threads, %s" CF_RATES_FEW, table->isa, threads, type);
                keep_best(&s->file, name, table->few_rates[k]);
            }
            snprintf(name, sizeof name, "%s, %u threads, attention %u+%u of %u", table->isa, threads, j->model.d_k,
                j->model.d_v, heads);
            keep_best(&s->file, name, table->attention);
            snprintf(name, sizeof name, "%s, %u threads, " CF_RATES_BETWEEN, table->isa, threads);
            keep_best(&s->file, name, table->between);
        }
        cf_rates_close(&s->file);
    }
    return 0;
}

/* ---- links ---- */

/* Up to 16 ranks every pair; more: the first ranks of two hosts, and the first two of one. */
static bool is_pair(const struct cf_job *j, int a, int b) {
    if (j->n_ranks <= CF_MEASURE_PAIRED) return true;
    int x = cf_transport_host_of(j->transport, a), y = cf_transport_host_of(j->transport, b), before_a = 0,
        before_b = 0;
    for (int r = 0; r < b; r++) {
        before_a += r < a && cf_transport_host_of(j->transport, r) == x;
        before_b += cf_transport_host_of(j->transport, r) == y;
    }
    return before_a == 0 && before_b == (x == y);
}

static int measure_link(struct survey *s, int me, int peer, struct cf_error *e) {
    struct link unwanted, *l = me < peer ? &s->links[s->facts.n_links] : &unwanted;
    cf__checkup_link__init(&l->message);
    for (int i = 0; i < CF_LINK_SIZES; i++)
        if (cf_transport_probe(s->job->transport, peer, cf_link_sizes[i], cf_measure_rounds[i], &l->seconds[i], e) ||
            cf_measure_both(s->job, peer, i, cf_measure_rounds[i], &l->both[i], e))
            return -1;
    if (me > peer) return 0;
    l->message.peer = (uint32_t)peer, l->message.seconds = l->seconds, l->message.n_seconds = CF_LINK_SIZES;
    l->message.both = l->both, l->message.n_both = CF_LINK_SIZES;
    l->message.latency = l->seconds[0];
    l->message.bandwidth = (double)cf_link_sizes[CF_LINK_SIZES - 1] / l->seconds[CF_LINK_SIZES - 1];
    s->link_list[s->facts.n_links++] = &l->message;
    return 0;
}

static int measure_links(struct survey *s, struct cf_error *e) {
    int me = cf_transport_rank(s->job->transport), n = (int)s->job->n_ranks;
    s->links = calloc((size_t)n, sizeof *s->links);
    s->link_list = calloc((size_t)n, sizeof(Cf__CheckupLink *));
    if (!s->links || !s->link_list) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++) {
            if (!is_pair(s->job, a, b)) continue;
            if (cf_measure_meet(s->job, 0, e) < 0) return -1; /* one pair at a time */
            if ((me == a || me == b) && measure_link(s, me, me == a ? b : a, e)) return -1;
        }
    s->facts.links = s->link_list;
    return cf_measure_meet(s->job, 0, e) < 0 ? -1 : 0;
}

/* ---- memory and files ---- */

static void look_at_memory(struct survey *s) {
    struct cf_check_memory m;
    Cf__Checkup *f = &s->facts;
    f->node = s->job->machine.nodes[s->job->seat.node].os_index, f->threads = cf_team_size(s->job->team);
    cf_check_memory(f->node, &m);
    cf_check_host("", s->job->seat.cores[0], &s->host);
    f->memory_free = m.free, f->memory_limit = m.limit, f->huge_page = m.huge_page, f->huge_free = m.huge_free;
    f->thp = s->host.thp;
}

static int measure_disk(struct survey *s, struct cf_error *e) {
    struct cf_job *j = s->job;
    struct cf_measure_life life;
    if (!s->c->disk || cf_transport_local_rank(j->transport) != 0) return 0;
    if (cf_gguf_direct(j->gguf, &s->why)) {
        s->facts.file_why = s->why.text;
        return 0;
    }
    cf_measure_life_begin(&life, j);
    int rc = cf_check_disk(j->team, j->gguf, DISK_BYTES, &s->facts.file_bytes, &s->facts.file_seconds, e);
    return cf_measure_life_end(&life, e) ? -1 : rc;
}

/* ---- the whole ---- */

static int measure_all(struct survey *s, struct cf_error *e) {
    struct cf_job *j = s->job;
    look_at_memory(s);
    if (cf_measure_bandwidth(j, e) || cf_calibrate_rank(j, e) || measure_kernels(s, e) || renew_file(s, e)) return -1;
    s->facts.bandwidth = j->own.bandwidth, s->facts.alone = j->own.alone, s->facts.step = j->own.step;
    if (j->own.noise[0] > 0) s->facts.noise = j->own.noise, s->facts.n_noise = CF_NOISE;
    s->facts.tables = s->table_list;
    return measure_links(s, e) || measure_disk(s, e) ? -1 : 0;
}

static int print(struct cf__calibrate *c, struct cf_error *e) {
    char *text = c->json ? cf__calibrate_json(c) : cf__calibrate_tables(c);
    int rc = text ? cf_terminal_text(c->terminal, text, strlen(text), e)
                  : cf_fail(e, CF_ERR_MEMORY, "no memory to print the result");
    free(text);
    if (!rc && c->description) rc = cf__calibrate_describe(c, e);
    return rc;
}

int cf__survey(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct cf__calibrate *c = ctx;
    bool first = cf_transport_rank(j->transport) == 0;
    struct survey *s = calloc(1, sizeof *s);
    c->found = calloc(j->n_ranks, sizeof(Cf__Checkup *));
    int rc = s && c->found ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!rc) {
        s->job = j, s->c = c;
        cf__checkup__init(&s->facts);
        rc = measure_all(s, e);
    }
    if (!rc) rc = cf_transport_collect(j->transport, &s->facts, c->found, e);
    c->n_ranks = j->n_ranks, c->n_hosts = j->figures.n_hosts, c->ranks = j->ranks;
    c->rates_file = s && *s->file.path ? s->file.path : NULL;
    if (!rc && first) rc = print(c, e);
    for (uint32_t r = 0; c->found && r < j->n_ranks; r++)
        if (c->found[r]) cf__checkup__free_unpacked(c->found[r], NULL);
    free(c->found);
    if (s) free(s->links), free(s->link_list);
    free(s);
    return rc;
}
