/* From facts to findings: the table of rules, and those that look at one rank alone or compare it with rank 0. No I/O:
 * tests feed them machines that nobody has. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/doctor/doctor.h"
#include "coordinator/plan/forecast/figures.h"

static const double GIB = 1024.0 * 1024 * 1024;
static const uint64_t SHM_PER_RANK = 32u << 20; /* MPI's own segments, and a window of a middling model */

void cf__finding_say(struct cf__finding *f, enum cf__state state, const char *format, ...) {
    va_list args;
    va_start(args, format);
    f->state = state;
    vsnprintf(f->found, sizeof f->found, format, args);
    va_end(args);
}

void cf__finding_advise(struct cf__finding *f, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(f->advice, sizeof f->advice, format, args);
    va_end(args);
}

static const Cf__Checkup *facts(const struct cf__ward *w, int rank) {
    return w->patients[rank].facts;
}

static int ranks_on_host(const struct cf__ward *w, int rank) {
    int n = 0;
    for (int r = 0; r < w->n_ranks; r++)
        n += w->patients[r].host_index == w->patients[rank].host_index;
    return n;
}

static void judge_program(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank), *zero = facts(w, 0);
    if (!zero) zero = c;
    bool same = c->protocol == zero->protocol && !strcmp(c->program, zero->program), mpi = !strcmp(c->mpi, zero->mpi);
    enum cf__state state = !same || !*c->isa ? CF__STATE_FAIL : mpi ? CF__STATE_OK : CF__STATE_WARN;
    cf__finding_say(f, state, "coffer %s, protocol %u; %s; Linux %s; kernels %s", c->program, c->protocol, c->mpi,
        c->kernel, *c->isa ? c->isa : "none");
    if (!same)
        cf__finding_advise(f, "rank 0 has coffer %s, protocol %u: install the same program on every host",
            zero->program, zero->protocol);
    else if (!*c->isa)
        cf__finding_advise(f, "COFFER_ISA names kernels that cannot run on this host: unset it");
    else if (!mpi)
        cf__finding_advise(f, "rank 0 has %s: install the same MPI on every host", zero->mpi);
}

/* Docker's seccomp profile allows mbind only with SYS_NICE, that of podman always; move_pages neither, but then
 * /proc/self/numa_maps tells where pages lie. */
static void judge_numa(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    const char *why = c->mbind > 0 ? strerror(c->mbind) : c->mbind < 0 ? "pages lie elsewhere" : "works";
    bool alone = c->memory_nodes <= 1;
    char move[96] = "works";
    if (c->move_pages)
        snprintf(move, sizeof move, "%.40s (/proc/self/numa_maps is asked instead)", strerror(c->move_pages));
    cf__finding_say(f, c->mbind && !alone ? CF__STATE_WARN : CF__STATE_OK, "%u node%s; mbind: %s%s; move_pages: %s",
        c->memory_nodes, alone ? "" : "s", why, c->mbind && alone ? " (nothing to bind here)" : "", move);
    if (f->state == CF__STATE_WARN)
        cf__finding_advise(f, "a container's seccomp profile forbids it: docker or podman run --cap-add SYS_NICE, "
                              "Kubernetes securityContext.capabilities.add [SYS_NICE]");
}

static void judge_memory(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank), *zero = facts(w, 0);
    uint64_t model = zero ? zero->model_bytes : 0, share = model / (uint64_t)w->n_ranks;
    uint32_t on_host = 0;
    for (int r = 0; r < w->n_ranks; r++)
        on_host += w->patients[r].host_index == w->patients[rank].host_index;
    uint64_t room = cf_memory_share(c->memory_free, c->sharers, c->memory_limit, on_host);
    bool limited = c->memory_limit != UINT64_MAX;
    char limit[64] = "no cgroup limit";
    if (limited) snprintf(limit, sizeof limit, "cgroups leave %.1f GiB", (double)c->memory_limit / GIB);
    cf__finding_say(f, room < share ? CF__STATE_WARN : CF__STATE_OK, "node %u: %.1f GiB free, %s", c->node,
        (double)c->memory_free / GIB, limit);
    if (room < share)
        cf__finding_advise(f, "an even share of the model is %.1f GiB: more ranks or hosts, %sor a smaller type",
            (double)share / GIB, limited ? "a higher memory limit, " : "");
}

static void judge_huge(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    bool none = !strcmp(c->thp, "never") && !c->huge_free;
    cf__finding_say(f, none ? CF__STATE_WARN : CF__STATE_OK,
        "transparent huge pages: %s; pool: %" PRIu64 " of %" PRIu64 " MiB free", *c->thp ? c->thp : "not known",
        c->huge_free, c->huge_page >> 20);
    if (none) cf__finding_advise(f, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

static void judge_balancing(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    bool on = c->numa_balancing == 1 && c->memory_nodes > 1;
    cf__finding_say(f, on ? CF__STATE_WARN : CF__STATE_OK, "%s",
        c->numa_balancing < 0   ? "this kernel has none"
        : c->numa_balancing > 0 ? "on"
                                : "off");
    if (on)
        cf__finding_advise(
            f, "the kernel unmaps pages again and again to see who reads them: sysctl kernel.numa_balancing=0");
}

static void judge_memlock(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    bool limited = c->memlock != UINT64_MAX;
    char limit[64] = "no limit";
    if (limited) snprintf(limit, sizeof limit, "%.0f MiB", (double)c->memlock / (1 << 20));
    cf__finding_say(f, limited && c->rdma ? CF__STATE_WARN : CF__STATE_OK, "%s; %s", limit,
        c->rdma ? "an RDMA device is here and locks memory" : "no RDMA device needs it");
    if (f->state == CF__STATE_WARN)
        cf__finding_advise(
            f, "limits.conf: * - memlock unlimited; systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1");
}

static void judge_shm(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    uint64_t need = SHM_PER_RANK * (uint64_t)ranks_on_host(w, rank);
    bool alone = ranks_on_host(w, rank) == 1, little = !alone && c->shm_free < need;
    cf__finding_say(
        f, little ? CF__STATE_WARN : CF__STATE_OK, "%.0f MiB free in /dev/shm", (double)c->shm_free / (1 << 20));
    if (little)
        cf__finding_advise(f,
            "ranks of this host then pass messages instead of sharing memory; %" PRIu64
            " MiB are enough: docker --shm-size, Kubernetes emptyDir {medium: Memory} at /dev/shm",
            need >> 20);
}

/* intel_pstate and amd-pstate choose the clock by themselves, whatever the name says. */
static void judge_governor(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    bool slow = strstr(c->governor, "powersave") && !strstr(c->governor, "pstate");
    cf__finding_say(f, slow ? CF__STATE_WARN : CF__STATE_OK, "%s", *c->governor ? c->governor : "cannot be read here");
    if (slow) cf__finding_advise(f, "cpupower frequency-set -g performance");
}

static void judge_model(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank), *zero = facts(w, 0);
    if (!w->model) {
        cf__finding_say(f, CF__STATE_OK, "not looked at (-m FILE)");
        return;
    }
    if (c->model_error) {
        cf__finding_say(f, CF__STATE_FAIL, "%s", c->model_error->text);
        cf__finding_advise(f, "copy the file there, under the same path, or run with --ship");
        return;
    }
    bool same = !zero || zero->model_error ||
                (c->model_bytes == zero->model_bytes && c->model_hash == zero->model_hash &&
                    c->model_content == zero->model_content);
    cf__finding_say(f, same ? CF__STATE_OK : CF__STATE_FAIL, "%" PRIu64 " bytes, header %016" PRIx64 ", %s %016" PRIx64,
        c->model_bytes, c->model_hash, w->whole ? "content" : "samples of its content", c->model_content);
    if (!same) cf__finding_advise(f, "that of rank 0 is another one: copy it anew");
}

const struct cf__rule cf__doctor_rules[] = {
    {"program", judge_program},
    {"binding", cf__judge_binding},
    {"cores", cf__judge_cores},
    {"governor", judge_governor},
    {"memory", judge_memory},
    {"numa", judge_numa},
    {"balancing", judge_balancing},
    {"huge pages", judge_huge},
    {"memlock", judge_memlock},
    {"shm", judge_shm},
    {"model", judge_model},
    {"clock", cf__judge_clock},
    {"link", cf__judge_link},
    {0},
};

void cf__judge_silence(const struct cf__ward *w, int rank, struct cf__finding *f) {
    const Cf__Checkup *c = facts(w, rank);
    f->check = "rank";
    if (c && !c->error && !(w->broken && w->culprit == rank)) {
        cf__finding_say(f, CF__STATE_OK, "answers");
        return;
    }
    bool culprit = w->broken && (w->culprit == rank || w->culprit < 0);
    cf__finding_say(f, CF__STATE_FAIL, "%s",
        c && c->error ? c->error->text
        : culprit     ? w->why
                      : "nothing is known: the examination ended before it answered");
    cf__finding_advise(f, culprit
                              ? "look at that host: does the process run, is the network up, does a file system hang?"
                              : "mend what is wrong elsewhere, then ask again");
}

struct cf__finding *cf__doctor_judge(const struct cf__ward *w, int *n_checks) {
    int n = 1;
    while (cf__doctor_rules[n - 1].check)
        n++;
    struct cf__finding *all = calloc((size_t)n * (size_t)w->n_ranks, sizeof *all);
    *n_checks = n;
    for (int r = 0; r < w->n_ranks && all; r++) {
        struct cf__finding *f = all + (size_t)r * (size_t)n;
        cf__judge_silence(w, r, f);
        const Cf__Checkup *c = facts(w, r);
        for (int i = 1; i < n; i++) {
            if (!c || c->error) continue; /* check stays NULL: there is nothing to say */
            f[i].check = cf__doctor_rules[i - 1].check;
            cf__doctor_rules[i - 1].judge(w, r, &f[i]);
        }
    }
    return all;
}
