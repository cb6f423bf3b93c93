/* Fuzz target: any bytes as the description of a cluster (coordinator/plan/cluster). Seeds: corpus/cluster. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan/cluster/cluster.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct cf_figures *f) {
    if (!f->n_ranks || f->n_ranks > CF_CLUSTER_RANKS || f->n_hosts > CF_CLUSTER_HOSTS) abort();
    for (uint32_t i = 0; i < f->n_ranks; i++) {
        const struct cf_rank_info *r = &f->ranks[i];
        if (r->host_index < 0 || (uint32_t)r->host_index >= f->n_hosts || !r->threads || !r->memory_free) abort();
        if (!(r->bandwidth > 0 && isfinite(r->bandwidth) && r->attention > 0 && r->step > 0)) abort();
        if (!(cf_figures_link(f, i, 0)->seconds[0] > 0)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cf_cluster c = {0};
    struct cf_figures f;
    struct cf_error e;
    unsigned assumed = 0;
    if (cf_cluster_parse(&c, NULL, (const char *)data, size, &e)) {
        if (strncmp(e.text, "cluster", 7) != 0) abort(); /* whatever is wrong, the file is named */
    } else if (!cf_cluster_figures(&f, &c, &assumed, &e)) {
        check(&f);
        cf_figures_free(&f);
    }
    cf_cluster_free(&c);
    return 0;
}
