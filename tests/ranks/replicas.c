/* Copies of the residual stream stay equal: `mpirun -n N replicas MODEL [spoil]`.
 *
 * In layout tensor every rank keeps the whole hidden state of a batch. With each wire type, after one batch of a few
 * rows and after one of many (whose sums go by shares), the ranks compare what they hold, with the hello round of the
 * transport, which names a rank that differs from the others. `spoil` changes one bit on the last rank before that, to
 * show that it would be seen. COFFER_TEST_HOSTS makes hosts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "coordinator/plan/planner.h"
#include "node/engine/state.h"
#include "node/memory/topology.h"

struct test {
    struct cf_transport *t;
    struct cf_gguf *gguf;
    struct cf_model model;
    struct cf_team *team;
    enum cf_dtype wire;
    uint32_t rows;
    bool spoil;
    int node;
    struct cf_error e;
};

static int make_plan(struct test *t, struct cf_plan *plan) {
    uint32_t n = (uint32_t)cf_transport_size(t->t);
    struct cf_rank_info *ranks = calloc(n, sizeof *ranks);
    if (!ranks) return cf_fail(&t->e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t r = 0; r < n; r++)
        ranks[r].host_index = cf_transport_host_of(t->t, (int)r), ranks[r].threads = 1;
    struct cf_plan_wish w = {.wire = t->wire,
        .layout = CF_LAYOUT_TENSOR,
        .n_ctx = 512,
        .n_seqs = 1,
        .n_rows = t->rows,
        .n_want = 1,
        .map = {-1, -1, -1, -1},
        .zero_rank = -1};
    char note[512];
    int rc = cf_planner_make(plan, &w, &t->model, t->gguf, ranks, n, note, &t->e);
    free(ranks);
    return rc;
}

/* One batch: all rows of the prompt, the last one's logits wanted. */
static int run_batch(struct test *t, struct cf_engine *g) {
    uint32_t *v = calloc(t->rows, 3 * sizeof *v), want = t->rows - 1;
    if (!v) return cf_fail(&t->e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < t->rows; i++)
        v[t->rows + i] = i, v[2 * t->rows + i] = (i * 37 + 11) % t->model.n_vocab;
    struct cf_batch b = {.n_rows = t->rows,
        .sequence = v,
        .position = v + t->rows,
        .token = v + 2 * t->rows,
        .n_want = 1,
        .want = &want};
    int rc = cf_engine_submit(g, &b, &t->e) || cf_engine_wait(g, b.id, &t->e);
    free(v);
    return rc ? -1 : 0;
}

/* The hidden state that this rank is left with: the wanted row. */
static int compare(struct test *t, const struct cf_engine *g) {
    float *h = g->contexts[0].h;
    size_t bytes = t->model.n_embd * sizeof *h;
    if (t->spoil && g->rank == g->size - 1) ((char *)h)[5] ^= 1;
    Cf__Hello hello = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    hello.model_hash = XXH64(h, bytes, 0);
    if (cf_transport_hello(t->t, &hello, &all, &t->e)) return -1;
    cf__verdict__free_unpacked(all, NULL);
    if (g->rank == 0) printf("%s %u %016llx\n", cf_dtype_name(t->wire), t->rows, (unsigned long long)hello.model_hash);
    return 0;
}

static int one_batch(struct test *t, struct cf_team *team) {
    struct cf_plan plan = {0};
    struct cf_engine *g = NULL;
    bool first = cf_transport_rank(t->t) == 0;
    struct cf_engine_options o = {.transport = t->t,
        .team = team,
        .gguf = t->gguf,
        .model = &t->model,
        .kernels = cf_kernels_choose(NULL),
        .node = t->node,
        .policy = CF_NUMA_OFF};
    int rc = cf_engine_open(&g, &o, &t->e);
    if (!rc && first) rc = make_plan(t, &plan);
    if (!rc) rc = cf_engine_start(g, first ? &plan : NULL, &t->e);
    if (!rc && first) rc = run_batch(t, g) || cf_engine_shutdown(g, true, &t->e);
    if (!rc && !first) rc = cf_engine_serve(g, &t->e);
    if (!rc) rc = compare(t, g);
    if (rc) cf_transport_fail(t->t, &t->e);
    cf_engine_close(g);
    cf_plan_free(&plan);
    return rc ? -1 : 0;
}

static int body(struct cf_team *team, void *ctx) {
    static const uint32_t rows[] = {5, 100};
    struct test *t = ctx;
    for (int wire = 0; wire < CF_DTYPES; wire++)
        for (int i = 0; i < 2; i++) {
            t->wire = (enum cf_dtype)wire, t->rows = rows[i];
            if (one_batch(t, team)) return -1;
        }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    struct test t = {.spoil = argc > 2 && !strcmp(argv[2], "spoil")};
    struct cf_transport_options options = {.timeout = 30, .sleep_at_once = true};
    struct cf_team_options team = {.n_threads = 1, .sleep_at_once = true};
    int rc = cf_transport_open(&t.t, &options, &t.e);
    if (!rc) rc = cf_gguf_open(&t.gguf, argv[1], &t.e) || cf_model_open(&t.model, t.gguf, &t.e);
    struct cf_machine machine;
    if (!rc && !(rc = cf_machine_read(&machine, 1, &t.e))) {
        t.node = (int)machine.nodes[0].os_index;
        cf_machine_free(&machine);
    }
    if (!rc) rc = cf_team_run(&team, body, &t, &t.e);
    if (rc) fprintf(stderr, "%s\n", t.e.text);
    cf_model_close(&t.model);
    cf_gguf_close(t.gguf);
    if (t.t) cf_transport_close(t.t, !rc);
    return rc ? 1 : 0;
}
