/* Shows where the ranks of one host would sit: mpirun -n N build/tests/numa_where [node of rank 0 [node of rank 1
 * ...]]. Each rank prints its seat and the audit of a small arena there, and fails if a page lies elsewhere. Without
 * MPI: the ranks tell each other their cpus_hash through files, as the hello round does in the program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/memory/arena.h"
#include "node/memory/team.h"
#include "node/memory/topology.h"

enum { RANKS = 64, TRIES = 30000 };

static int from_environment(const char *name, int otherwise) {
    const char *s = getenv(name);
    return s ? atoi(s) : otherwise;
}

/* False after half a minute without the others. */
static bool tell_each_other(int rank, int size, uint64_t *hash) {
    char path[128], temporary[160];
    for (int r = 0; r < size; r++) {
        snprintf(path, sizeof path, "/tmp/numa_where.%d.%d", (int)getppid(), r);
        if (r != rank) continue;
        snprintf(temporary, sizeof temporary, "%s.new", path);
        FILE *f = fopen(temporary, "w");
        if (!f || fwrite(&hash[r], sizeof *hash, 1, f) != 1 || fclose(f) != 0 || rename(temporary, path) != 0)
            return false;
    }
    for (int r = 0, tries = 0; r < size; r++) {
        snprintf(path, sizeof path, "/tmp/numa_where.%d.%d", (int)getppid(), r);
        FILE *f;
        while (!(f = fopen(path, "r")) && tries++ < TRIES)
            usleep(1000);
        if (!f || fread(&hash[r], sizeof *hash, 1, f) != 1) return false;
        fclose(f);
    }
    return true;
}

static void touch(struct cf_team *team, uint32_t thread, void *ctx) {
    const struct cf_arena *a = ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last))
        memset(a->base + ((size_t)first << 20), 1, (size_t)1 << 20);
}

static int fill(struct cf_team *team, void *ctx) {
    struct cf_arena *a = ctx;
    cf_team_do(team, touch, a, (uint32_t)(a->used >> 20));
    return 0;
}

int main(int argc, char **argv) {
    int rank = from_environment("OMPI_COMM_WORLD_LOCAL_RANK", 0);
    int size = from_environment("OMPI_COMM_WORLD_LOCAL_SIZE", 1);
    int wanted[RANKS];
    uint64_t hash[RANKS];
    struct cf_machine m;
    static struct cf_seat seat;
    struct cf_arena a;
    struct cf_audit u;
    struct cf_error e = {0};
    if (size > RANKS) return 2;
    for (int r = 0; r < size; r++)
        wanted[r] = r + 1 < argc ? atoi(argv[r + 1]) : -1;
    if (cf_machine_read(&m, size, &e) < 0) goto failed;
    hash[rank] = m.cpus_hash;
    if (size > 1 && !tell_each_other(rank, size, hash)) return 3;
    if (cf_seat_assign_bound(&seat, &m, rank, size, wanted, hash, &e) < 0) goto failed;
    const struct cf_numa_node *node = &m.nodes[seat.node];
    if (cf_arena_open(&a, (size_t)16 << 20, (int)node->os_index, false, CF_NUMA_STRICT, NULL, &e) < 0) goto failed;
    cf_arena_take(&a, (size_t)16 << 20, 64);
    const struct cf_team_options o = {
        .n_threads = seat.n_cores, .cores = seat.cores, .n_cores = seat.n_cores, .sleep_at_once = seat.crowded};
    if (cf_team_run(&o, fill, &a, &e) < 0 || cf_arena_audit(&a, &u, &e) < 0) goto failed;

    char line[1024];
    int n = snprintf(line, sizeof line, "rank %d of %d: node %u of %u, cores", rank, size, node->os_index, m.n_nodes);
    for (uint32_t c = 0; c < seat.n_cores && n < 900; c++)
        n += snprintf(line + n, sizeof line - (size_t)n, "%c%u", c ? ',' : ' ', seat.cores[c]);
    printf("%s%s%s, %.1f GiB free, %.1f %% local, %.0f %% huge\n", line, seat.crowded ? " (crowded)" : "",
        m.widened ? " (widened)" : "", (double)node->memory_free / (1 << 30), cf_audit_local_percent(&u),
        cf_audit_huge_percent(&u));
    cf_arena_close(&a);
    cf_machine_free(&m);
    return u.local == u.pages ? 0 : 1;
failed:
    fprintf(stderr, "rank %d: %s\n", rank, e.text);
    return 1;
}
