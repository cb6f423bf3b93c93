/* Who is where: which ranks share a host, and what the hosts are called.
 *
 * Two ranks are on one host if MPI can share memory between them and they agree on the running kernel's boot identity
 * and on /dev/shm. Names decide nothing: containers and cloned machines are often called the same.
 *
 * Hosts that run under one kernel (containers, pods, network namespaces) are one machine: they share its memory's
 * bandwidth, though they share no memory.
 *
 * Test hook: with COFFER_TEST_HOSTS=N the ranks of one machine count as N hosts, runs of (nearly) equal length.
 */
#include "transport/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

struct card {
    char name[HOST_NAME_BYTES];
    int first;       /* lowest rank of the host: the host's identity */
    uint64_t kernel; /* the running kernel's identity; 0: not known */
};

static uint64_t run_of(const struct cf_transport *t) {
    const char *hosts = getenv("COFFER_TEST_HOSTS");
    int n = hosts ? atoi(hosts) : 0;
    return n > 1 ? (uint64_t)t->rank * (uint64_t)n / (uint64_t)t->size : 0;
}

/* Into zeroed bytes. False: it cannot be read. */
static bool read_boot_id(char id[64]) {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, id, 64) : -1;
    if (fd >= 0) close(fd);
    return n > 0;
}

static uint64_t machine_identity(const struct cf_transport *t) {
    char id[64 + 2 * sizeof(uint64_t)] = {0};
    read_boot_id(id); // unreadable counts as equal: MPI's own answer then decides
    struct stat s;
    if (stat("/dev/shm", &s) == 0) {
        uint64_t place[2] = {(uint64_t)s.st_dev, (uint64_t)s.st_ino};
        memcpy(id + 64, place, sizeof place);
    }
    return XXH64(id, sizeof id, run_of(t));
}

/* The lowest rank of those that share this host. */
static int first_on_host(struct cf_transport *t, int *first, struct cf_error *e) {
    MPI_Comm node;
    int rc = MPI_Comm_split_type(t->comm, MPI_COMM_TYPE_SHARED, t->rank, MPI_INFO_NULL, &node);
    if (rc) return cf__mpi_failed(rc, "MPI_Comm_split_type", e);
    struct {
        uint64_t machine;
        int rank;
    } mine = {machine_identity(t), t->rank}, *all;
    int n;
    MPI_Comm_size(node, &n);
    all = calloc((size_t)n, sizeof *all);
    if (!all) {
        MPI_Comm_free(&node);
        return cf_fail(e, CF_ERR_MEMORY, "no memory for %d ranks", n);
    }
    rc = MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, node);
    *first = t->rank;
    for (int i = 0; i < n && !rc; i++)
        if (all[i].machine == mine.machine && all[i].rank < *first) *first = all[i].rank;
    free(all);
    // What MPI calls one host may be several by our lights: each gets a communicator of its own.
    if (!rc) rc = MPI_Comm_split(node, *first, t->rank, &t->host_comm);
    MPI_Comm_free(&node);
    return rc ? cf__mpi_failed(rc, "finding the ranks of this host", e) : 0;
}

static uint64_t kernel_identity(void) {
    char id[64] = {0};
    return read_boot_id(id) ? XXH64(id, sizeof id, 0) : 0;
}

/* The first rank whose host runs under the same kernel; where that is not known, the host's own first. */
static int first_of_machine(const struct cf_transport *t, const struct card *cards, int rank) {
    for (int r = 0; r < rank; r++)
        if (t->peers[r].host == t->peers[rank].host || (cards[r].kernel && cards[r].kernel == cards[rank].kernel))
            return t->peers[r].machine;
    return rank;
}

static void number_hosts(struct cf_transport *t, const struct card *cards) {
    t->hosts = t->local_rank = t->local_size = 0;
    for (int r = 0; r < t->size; r++) {
        memcpy(t->host_names[r], cards[r].name, HOST_NAME_BYTES);
        t->host_names[r][HOST_NAME_BYTES - 1] = '\0';
        bool opens = cards[r].first < 0 || cards[r].first >= r; // out of range cannot be: then a host of its own
        t->peers[r].host = opens ? t->hosts++ : t->peers[cards[r].first].host;
        t->peers[r].machine = first_of_machine(t, cards, r);
    }
    for (int r = 0; r < t->size; r++) {
        if (t->peers[r].host != t->peers[t->rank].host) continue;
        if (r < t->rank) t->local_rank++;
        t->local_size++;
    }
}

int cf__identify(struct cf_transport *t, struct cf_error *e) {
    struct card mine = {.first = t->rank, .kernel = kernel_identity()};
    if (gethostname(mine.name, sizeof mine.name - 1) != 0) strcpy(mine.name, "unknown");
    if (!t->uses_mpi) {
        number_hosts(t, &mine);
        return 0;
    }
    if (first_on_host(t, &mine.first, e)) return -1;
    struct card *cards = calloc((size_t)t->size, sizeof *cards);
    if (!cards) return cf_fail(e, CF_ERR_MEMORY, "no memory for %d ranks", t->size);
    int rc = MPI_Allgather(&mine, sizeof mine, MPI_BYTE, cards, sizeof mine, MPI_BYTE, t->comm);
    if (!rc) number_hosts(t, cards);
    free(cards);
    return rc ? cf__mpi_failed(rc, "MPI_Allgather", e) : 0;
}
