/* See plan.h. */
#include "node/model/plan.h"

#include <stdlib.h>
#include <string.h>

const char *cf_layout_name(enum cf_layout layout) {
    static const char *const names[CF_LAYOUTS] = {"tensor", "layers", "hybrid", "domain"};
    return (unsigned)layout < CF_LAYOUTS ? names[layout] : "?";
}

void cf_plan_free(struct cf_plan *p) {
    free(p->rows);
    free(p->host);
    memset(p, 0, sizeof *p);
}

const struct cf_plan_row *cf_plan_find(const struct cf_plan *p, enum cf_domain domain, uint32_t layer) {
    for (uint32_t i = 0; i < p->n_plan_rows; i++) {
        const struct cf_plan_row *r = &p->rows[i];
        if (r->domain == domain && r->layer0 <= layer && layer < r->layer1) return r;
    }
    return NULL;
}

int cf_plan_member(const struct cf_plan_row *row, int rank, uint32_t *first, uint32_t *last) {
    for (uint32_t i = 0; i < row->n; i++) {
        if (row->ranks[i] != rank || row->cuts[i] == row->cuts[i + 1]) continue;
        if (first) *first = row->cuts[i];
        if (last) *last = row->cuts[i + 1];
        return (int)i;
    }
    return -1;
}

bool cf_plan_works(const struct cf_plan *p, int rank) {
    for (uint32_t i = 0; i < p->n_plan_rows; i++)
        if (cf_plan_member(&p->rows[i], rank, NULL, NULL) >= 0) return true;
    return false;
}

uint32_t cf_plan_axis_chunks(const struct cf_model *m, enum cf_domain domain, uint32_t layer) {
    if (domain == CF_PREFRONTAL) return m->vocab_tiles;
    return domain == CF_RIGHT_HEMI ? cf_model_mlp_axis(m, layer)->n_chunks : m->attn.n_chunks;
}

static int check_row(const struct cf_plan_row *r, const struct cf_model *m, int n_ranks, struct cf_error *e) {
    const char *name = cf_domain_name(r->domain);
    if (r->n == 0 || r->n > CF_MAX_MEMBERS)
        return cf_fail(e, CF_ERR_PLAN, "plan: %s of layer %u has a group of %u ranks; a group has 1 to %d", name,
            r->layer0, r->n, CF_MAX_MEMBERS);
    if (r->layer0 >= r->layer1 || r->layer1 > m->n_layers)
        return cf_fail(e, CF_ERR_PLAN, "plan: %s has layers %u to %u of %u", name, r->layer0, r->layer1, m->n_layers);
    for (uint32_t l = r->layer0; l < r->layer1; l++) {
        uint32_t chunks = cf_plan_axis_chunks(m, r->domain, l);
        if (r->cuts[0] != 0 || r->cuts[r->n] != chunks)
            return cf_fail(e, CF_ERR_PLAN, "plan: the slices of %s of layer %u cover %u to %u of %u chunks", name, l,
                r->cuts[0], r->cuts[r->n], chunks);
    }
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->cuts[i] > r->cuts[i + 1])
            return cf_fail(e, CF_ERR_PLAN, "plan: the slices of %s of layer %u overlap", name, r->layer0);
        if (r->ranks[i] < 0 || r->ranks[i] >= n_ranks)
            return cf_fail(
                e, CF_ERR_PLAN, "plan: %s of layer %u names rank %d of %d", name, r->layer0, r->ranks[i], n_ranks);
        for (uint32_t j = 0; j < i; j++)
            if (r->ranks[i] == r->ranks[j])
                return cf_fail(
                    e, CF_ERR_PLAN, "plan: %s of layer %u names rank %d twice", name, r->layer0, r->ranks[i]);
    }
    return 0;
}

int cf_plan_check(const struct cf_plan *p, const struct cf_model *m, int n_ranks, struct cf_error *e) {
    if (p->n_layers != m->n_layers || !p->n_ctx || !p->n_seqs || !p->n_rows || !p->n_flight || !p->n_want)
        return cf_fail(e, CF_ERR_PLAN, "plan: made for another model (%u layers, not %u) or with an empty size",
            p->n_layers, m->n_layers);
    if (p->kv_size && p->kv_keep >= p->kv_size)
        return cf_fail(e, CF_ERR_PLAN, "plan: %u positions to keep of a cache of %u", p->kv_keep, p->kv_size);
    if (p->kv_type > 2 || (p->kv_type && (m->d_k % 32 || m->d_v % 32)))
        return cf_fail(e, CF_ERR_PLAN,
            "a KV cache of other types than f16 wants heads of a multiple of 32, this model has %u and %u", m->d_k,
            m->d_v);
    if (p->wire >= CF_DTYPES || (p->n_hosts && p->n_hosts != (uint32_t)n_ranks))
        return cf_fail(e, CF_ERR_PLAN, "plan: wire type %d, and the hosts of %u ranks where there are %d", (int)p->wire,
            p->n_hosts, n_ranks);
    for (uint32_t i = 0; i < p->n_plan_rows; i++)
        if (check_row(&p->rows[i], m, n_ranks, e)) return -1;
    for (int d = 0; d < CF_DOMAINS; d++) {
        for (uint32_t l = 0; l < m->n_layers; l++) {
            uint32_t holders = 0;
            for (uint32_t i = 0; i < p->n_plan_rows; i++) {
                const struct cf_plan_row *r = &p->rows[i];
                holders += r->domain == (enum cf_domain)d && r->layer0 <= l && l < r->layer1;
            }
            if (holders != 1)
                return cf_fail(e, CF_ERR_PLAN, "plan: %s of layer %u is held by %u groups instead of one",
                    cf_domain_name((enum cf_domain)d), l, holders);
        }
    }
    return 0;
}

Cf__Plan *cf_plan_to_message(const struct cf_plan *p) {
    Cf__Plan *msg = calloc(1, sizeof *msg);
    if (!msg) return NULL;
    cf__plan__init(msg);
    msg->layout = (uint32_t)p->layout, msg->n_layers = p->n_layers, msg->n_ctx = p->n_ctx, msg->n_seqs = p->n_seqs;
    msg->n_rows = p->n_rows, msg->n_flight = p->n_flight, msg->n_want = p->n_want;
    msg->kv_type = p->kv_type, msg->kv_size = p->kv_size, msg->kv_keep = p->kv_keep;
    msg->wire = (uint32_t)p->wire;
    if (p->host) msg->host = calloc(p->n_hosts, sizeof(uint32_t));
    if (msg->host) memcpy(msg->host, p->host, p->n_hosts * sizeof(uint32_t)), msg->n_host = p->n_hosts;
    msg->row = calloc(p->n_plan_rows ? p->n_plan_rows : 1, sizeof *msg->row);
    if (p->zero_rank >= 0) {
        msg->zero_ranks = calloc(1, sizeof(uint32_t));
        if (msg->zero_ranks) msg->zero_ranks[0] = (uint32_t)p->zero_rank, msg->n_zero_ranks = 1;
    }
    for (uint32_t i = 0; msg->row && i < p->n_plan_rows; i++) {
        const struct cf_plan_row *r = &p->rows[i];
        Cf__PlanRow *row = calloc(1, sizeof *row);
        if (!row) break;
        cf__plan_row__init(row);
        row->domain = (uint32_t)r->domain, row->layer_first = r->layer0, row->layer_last = r->layer1;
        row->ranks = calloc(r->n, sizeof(uint32_t)), row->cuts = calloc(r->n + 1, sizeof(uint32_t));
        msg->row[msg->n_row++] = row;
        if (!row->ranks || !row->cuts) break;
        row->n_ranks = r->n, row->n_cuts = r->n + 1;
        for (uint32_t k = 0; k < r->n; k++)
            row->ranks[k] = (uint32_t)r->ranks[k];
        memcpy(row->cuts, r->cuts, (r->n + 1) * sizeof(uint32_t));
    }
    return msg;
}

int cf_plan_from_message(struct cf_plan *p, const Cf__Plan *msg, struct cf_error *e) {
    memset(p, 0, sizeof *p);
    if (msg->layout >= CF_LAYOUTS || msg->n_row == 0 || msg->n_row > 1u << 16)
        return cf_fail(e, CF_ERR_PLAN, "plan message: layout %u with %zu rows", msg->layout, msg->n_row);
    p->layout = (enum cf_layout)msg->layout, p->n_layers = msg->n_layers, p->n_ctx = msg->n_ctx,
    p->n_seqs = msg->n_seqs;
    p->n_rows = msg->n_rows, p->n_flight = msg->n_flight, p->n_want = msg->n_want;
    p->kv_type = msg->kv_type, p->kv_size = msg->kv_size, p->kv_keep = msg->kv_keep;
    p->zero_rank = msg->n_zero_ranks ? (int)msg->zero_ranks[0] : -1;
    if (msg->wire >= CF_DTYPES || msg->n_host > 1u << 16)
        return cf_fail(e, CF_ERR_PLAN, "plan message: wire type %u, %zu hosts", msg->wire, msg->n_host);
    p->wire = (enum cf_dtype)msg->wire;
    p->rows = calloc(msg->n_row, sizeof *p->rows);
    if (msg->n_host) p->host = calloc(msg->n_host, sizeof *p->host);
    if (!p->rows || (msg->n_host && !p->host)) {
        cf_plan_free(p);
        return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    p->n_hosts = (uint32_t)msg->n_host;
    if (p->host) memcpy(p->host, msg->host, msg->n_host * sizeof *p->host);
    p->n_plan_rows = (uint32_t)msg->n_row;
    for (size_t i = 0; i < msg->n_row; i++) {
        const Cf__PlanRow *row = msg->row[i];
        struct cf_plan_row *r = &p->rows[i];
        if (row->domain >= CF_DOMAINS || row->n_ranks > CF_MAX_MEMBERS || row->n_cuts != row->n_ranks + 1) {
            cf_plan_free(p);
            return cf_fail(
                e, CF_ERR_PLAN, "plan message: row %zu has %zu ranks and %zu cuts", i, row->n_ranks, row->n_cuts);
        }
        r->domain = (enum cf_domain)row->domain, r->layer0 = row->layer_first, r->layer1 = row->layer_last;
        r->n = (uint32_t)row->n_ranks;
        for (uint32_t k = 0; k < r->n; k++)
            r->ranks[k] = (int)row->ranks[k];
        memcpy(r->cuts, row->cuts, row->n_cuts * sizeof(uint32_t));
    }
    return 0;
}
