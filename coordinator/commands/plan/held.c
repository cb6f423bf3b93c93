/* What a rank holds of each domain. The engine knows the bytes of all its weights as they lie in memory; here they are
 * dealt to the domains as the file's bytes of its slices are. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/plan/subject.h"

/* Bytes in the file of a rank's slices of one domain in one layer. */
static double slices(
    const struct cf__subject *s, enum cf_domain domain, uint32_t layer, uint32_t first, uint32_t last) {
    double sum = 0;
    int role = domain == CF_PREFRONTAL ? 0 : CF_FIRST_LAYER_ROLE;
    for (; role < (domain == CF_PREFRONTAL ? CF_FIRST_LAYER_ROLE : CF_ROLES); role++) {
        if (cf_tensor_specs[role].domain != domain) continue;
        double bytes = (double)cf_model_bytes(&s->model, s->gguf, (enum cf_role)role, layer, false);
        if (bytes <= 0) continue;
        struct cf_shape all = cf_model_shape(&s->model, (enum cf_role)role);
        struct cf_slice k = cf_model_slice(&s->model, (enum cf_role)role, first, last);
        double part = (double)(k.part1 - k.part0) * (k.row1 - k.row0) * (k.c1 - k.c0);
        sum += bytes * part / ((double)all.columns * (double)all.rows * (double)all.parts);
    }
    return sum;
}

static void add_row(const struct cf__subject *s, const struct cf_plan_row *row, uint32_t rank, struct cf__held *h) {
    uint32_t first, last;
    if (cf_plan_member(row, (int)rank, &first, &last) < 0) return;
    if (h->layer1 == 0 || row->layer0 < h->layer0) h->layer0 = row->layer0;
    if (row->layer1 > h->layer1) h->layer1 = row->layer1;
    if (row->domain == CF_PREFRONTAL) h->bytes += slices(s, row->domain, 0, first, last);
    for (uint32_t l = row->layer0; row->domain != CF_PREFRONTAL && l < row->layer1; l++)
        h->bytes += slices(s, row->domain, l, first, last);
}

int cf__subject_held(const struct cf__subject *s, const struct cf_plan *p, uint32_t rank,
    struct cf__held held[CF_DOMAINS], struct cf_rank_need *need, struct cf_error *e) {
    double sum = 0;
    memset(held, 0, CF_DOMAINS * sizeof *held);
    if (cf_planner_need(p, &s->model, s->gguf, rank, &s->figures.ranks[rank], need, e)) return -1;
    for (uint32_t i = 0; i < p->n_plan_rows; i++)
        add_row(s, &p->rows[i], rank, &held[p->rows[i].domain]);
    for (int d = 0; d < CF_DOMAINS; d++)
        if (d != CF_TEMPORAL) sum += held[d].bytes;
    for (int d = 0; d < CF_DOMAINS; d++)
        held[d].bytes = d == CF_TEMPORAL ? (double)need->kv : sum > 0 ? held[d].bytes * (double)need->weights / sum : 0;
    return 0;
}

const char *cf__size_text(double bytes, int base, char buf[16]) {
    static const char *const units[2][5] = {{"B", "kB", "MB", "GB", "TB"}, {"B", "KiB", "MiB", "GiB", "TiB"}};
    size_t unit = 0;
    for (; bytes >= 999.5 && unit + 1 < 5; unit++)
        bytes /= base;
    snprintf(buf, 16, "%.*f %s",
        !unit || bytes >= 99.95 ? 0
        : bytes >= 9.995        ? 1
                                : 2,
        bytes, units[base == 1024][unit]);
    return buf;
}
