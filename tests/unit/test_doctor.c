/* The rules of `coffer doctor` on machines that nobody has: each illness is found, named, and comes with what to do;
 * and what a host says about itself, from recorded files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/commands/doctor/doctor.h"
#include "node/check/check.h"

enum { RANKS = 4 };

/* Two hosts of two nodes with four cores each, a rank on every node, all well. */
struct clinic {
    struct cf__ward w;
    struct cf__patient patients[RANKS];
    Cf__Checkup facts[RANKS], links[RANKS];
    Cf__CheckupLink link[RANKS], *list[RANKS];
    uint32_t cpus[RANKS][4];
    Cf__Error error;
};

static char *text(const char *s) {
    union {
        const char *in;
        char *out;
    } both = {.in = s};
    return both.out;
}

static void open_clinic(struct clinic *k) {
    memset(k, 0, sizeof *k);
    k->w = (struct cf__ward){.patients = k->patients, .n_ranks = RANKS, .model = "model.gguf", .culprit = -1};
    for (int r = 0; r < RANKS; r++) {
        Cf__Checkup *c = k->patients[r].facts = &k->facts[r];
        snprintf(k->patients[r].host, sizeof k->patients[r].host, "h%d", r / 2);
        k->patients[r].host_index = r / 2;
        cf__checkup__init(c);
        c->protocol = 2, c->program = text("1.0"), c->mpi = text("Open MPI v4.1.4"), c->kernel = text("6.1"),
        c->isa = text("avx2");
        c->machine = 100 + (uint64_t)r / 2;
        c->node = (uint32_t)r % 2, c->nodes = 2, c->node_cores = 4, c->sharers = 1;
        for (uint32_t i = 0; i < 4; i++)
            k->cpus[r][i] = c->node * 4 + i;
        c->cpus = k->cpus[r], c->n_cpus = 4;
        c->core_share = 0.99;
        c->memory_free = (uint64_t)64 << 30, c->memory_limit = UINT64_MAX, c->memory_nodes = 2, c->memlock = UINT64_MAX;
        c->thp = text("madvise"), c->shm_free = (uint64_t)1 << 30, c->governor = text("");
        c->model_bytes = (uint64_t)10 << 30;
    }
    cf__checkup__init(&k->links[0]);
    for (int r = 1; r < RANKS; r++) {
        cf__checkup_link__init(&k->link[r]);
        k->link[r].peer = (uint32_t)r, k->link[r].latency = r == 1 ? 1e-6 : 50e-6,
        k->link[r].bandwidth = r == 1 ? 8e9 : 1e9;
        k->list[r - 1] = &k->link[r];
    }
    k->links[0].links = k->list, k->links[0].n_links = RANKS - 1;
    k->patients[0].links = &k->links[0];
}

/* The finding of a check about a rank. */
static struct cf__finding look(struct clinic *k, int rank, const char *check) {
    int n;
    struct cf__finding *all = cf__doctor_judge(&k->w, &n), found = {0};
    assert_non_null(all);
    for (int i = 0; i < n; i++) {
        const struct cf__finding *f = &all[rank * n + i];
        if (f->check && !strcmp(f->check, check)) found = *f;
    }
    free(all);
    assert_non_null(found.check);
    return found;
}

static void is(
    struct clinic *k, int rank, const char *check, enum cf__state state, const char *found, const char *advice) {
    struct cf__finding f = look(k, rank, check);
    if (f.state != state || !strstr(f.found, found) || !strstr(f.advice, advice))
        fail_msg("rank %d, %s: state %d, found '%s', advice '%s'", rank, check, f.state, f.found, f.advice);
    assert_true((f.state == CF__STATE_OK) == (f.advice[0] == '\0'));
}

static void all_is_well(void **state) {
    (void)state;
    struct clinic k;
    open_clinic(&k);
    for (int r = 0; r < RANKS; r++)
        for (const struct cf__rule *rule = cf__doctor_rules; rule->check; rule++)
            is(&k, r, rule->check, CF__STATE_OK, "", "");
}

static void programs_differ(void **state) {
    (void)state;
    struct clinic k;
    open_clinic(&k);
    k.facts[2].program = text("0.9");
    is(&k, 2, "program", CF__STATE_FAIL, "coffer 0.9", "rank 0 has coffer 1.0");
    k.facts[3].mpi = text("Open MPI v5.0.1");
    is(&k, 3, "program", CF__STATE_WARN, "v5.0.1", "rank 0 has Open MPI v4.1.4");
    k.facts[1].isa = text("");
    is(&k, 1, "program", CF__STATE_FAIL, "kernels none", "COFFER_ISA");
}

static void cores(void **state) {
    (void)state;
    struct clinic k;
    open_clinic(&k);
    k.facts[1].n_cpus = 1;
    is(&k, 1, "binding", CF__STATE_WARN, "core 4 of the node's 4", "--bind-to none");
    k.facts[1].sharers = 4; /* four ranks divide the node: nothing is kept away */
    is(&k, 1, "binding", CF__STATE_OK, "core 4", "");
    k.facts[0].node = 1, k.facts[0].n_cpus = 1, k.cpus[0][0] = 4, k.facts[0].sharers = k.facts[1].sharers = 2;
    k.facts[0].node_cores = k.facts[1].node_cores = 2; /* two ranks, two cores, and both have the first one */
    is(&k, 1, "binding", CF__STATE_WARN, "core 4 of the node's 2", "--bind-to none");
    is(&k, 1, "cores", CF__STATE_WARN, "core 4 also belongs to rank 0", "keeps others of the node away");
    open_clinic(&k);
    k.facts[0].core_share = 0.5, k.facts[0].core_worst = 2;
    is(&k, 0, "cores", CF__STATE_WARN, "core 2 gives 50 % of its time", "another program");
    /* Two hosts of one machine, each with its first rank on core 0: what Open MPI does. */
    k.facts[2].machine = k.facts[3].machine = k.facts[0].machine;
    is(&k, 2, "cores", CF__STATE_WARN, "core 0 also belongs to rank 0 (h0, the same machine under another name)",
        "--bind-to none and a cpuset");
    k.facts[0].machine = k.facts[2].machine = 0; /* not known: then nothing is claimed */
    is(&k, 2, "cores", CF__STATE_OK, "no other rank", "");
    k.facts[3].nodes = 1, k.facts[2].nodes = 3;
    is(&k, 2, "binding", CF__STATE_WARN, "node 0", "1 node of this host have no rank");
}

static void memory(void **state) {
    (void)state;
    struct clinic k;
    open_clinic(&k);
    k.facts[1].mbind = EPERM, k.facts[1].move_pages = EPERM;
    is(&k, 1, "numa", CF__STATE_WARN, "mbind: Operation not permitted", "SYS_NICE");
    k.facts[3].move_pages = EPERM; /* podman: only asking is forbidden, and there is another way to ask */
    is(&k, 3, "numa", CF__STATE_OK, "Operation not permitted (/proc/self/numa_maps is asked instead)", "");
    k.facts[2].mbind = -1;
    is(&k, 2, "numa", CF__STATE_WARN, "pages lie elsewhere", "SYS_NICE");
    k.facts[1].memory_nodes = 1; /* nothing to bind there */
    is(&k, 1, "numa", CF__STATE_OK, "Operation not permitted", "");
    k.facts[0].numa_balancing = 1;
    is(&k, 0, "balancing", CF__STATE_WARN, "on", "kernel.numa_balancing=0");
    k.facts[1].numa_balancing = 1;
    is(&k, 1, "balancing", CF__STATE_OK, "on", "");
    k.facts[0].memory_limit = (uint64_t)1 << 30;
    is(&k, 0, "memory", CF__STATE_WARN, "cgroups leave 1.0 GiB", "a higher memory limit");
    k.facts[0].thp = text("never");
    is(&k, 0, "huge pages", CF__STATE_WARN, "never", "transparent_hugepage");
    k.facts[0].huge_page = 2 << 20, k.facts[0].huge_free = 512;
    is(&k, 0, "huge pages", CF__STATE_OK, "512 of 2 MiB free", "");
    k.facts[0].memlock = 64 << 10;
    is(&k, 0, "memlock", CF__STATE_OK, "no RDMA", "");
    k.facts[0].rdma = true;
    is(&k, 0, "memlock", CF__STATE_WARN, "RDMA", "LimitMEMLOCK=infinity");
    k.facts[3].shm_free = 60 << 20; /* docker's default is 64 MB */
    is(&k, 3, "shm", CF__STATE_WARN, "60 MiB", "--shm-size");
    k.facts[3].governor = text("acpi-cpufreq powersave");
    is(&k, 3, "governor", CF__STATE_WARN, "powersave", "cpupower");
    k.facts[3].governor = text("intel_pstate powersave");
    is(&k, 3, "governor", CF__STATE_OK, "powersave", "");
}

static void models(void **state) {
    (void)state;
    struct clinic k;
    open_clinic(&k);
    k.facts[1].model_content = 1;
    is(&k, 1, "model", CF__STATE_FAIL, "samples of its content 0000000000000001", "copy it anew");
    k.error = (Cf__Error)CF__ERROR__INIT;
    k.error.code = 2, k.error.text = text("/x.gguf: No such file or directory");
    k.facts[2].model_error = &k.error;
    is(&k, 2, "model", CF__STATE_FAIL, "/x.gguf: No such file", "under the same path");
    k.w.model = NULL;
    is(&k, 2, "model", CF__STATE_OK, "not looked at", "");
}

static void links(void **state) {
    (void)state;
    struct clinic k;
    open_clinic(&k);
    k.link[1].latency = 2e-3;
    is(&k, 1, "link", CF__STATE_WARN, "rank 0: 2000 us", "see cores");
    k.link[2].bandwidth = 12e6;
    is(&k, 2, "link", CF__STATE_WARN, "12 MB/s", "btl_tcp_if_include");
    k.link[3].clock = -3, k.link[3].clock_error = 0.001;
    is(&k, 3, "clock", CF__STATE_WARN, "-3.000 s", "chrony");
    k.link[3].clock_error = 2.95; /* not proven */
    is(&k, 3, "clock", CF__STATE_OK, "", "");
}

static void silence(void **state) {
    (void)state;
    struct clinic k;
    open_clinic(&k);
    k.patients[1].facts = k.patients[2].facts = NULL;
    k.w.broken = true, k.w.culprit = 1, k.w.why = "rank 1 (h0) gave no sign of life for 20 s";
    is(&k, 1, "rank", CF__STATE_FAIL, "no sign of life", "does the process run");
    is(&k, 2, "rank", CF__STATE_FAIL, "nothing is known", "elsewhere");
    is(&k, 0, "rank", CF__STATE_OK, "answers", "");
    is(&k, 3, "program", CF__STATE_OK, "1.0", "");
}

/* ---- a host's own words ---- */

static void put(const char *root, const char *name, const char *content) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

static void recorded_host(void **state) {
    (void)state;
    char root[] = "/tmp/coffer-doctor-XXXXXX", command[64];
    assert_non_null(mkdtemp(root));
    struct cf_check_host a, b;
    cf_check_host(root, 3, &a); /* an empty folder: nothing is known, nothing is claimed */
    assert_int_equal(a.machine, 0);
    assert_int_equal(a.numa_balancing, -1);
    assert_string_equal(a.thp, "");
    assert_string_equal(a.governor, "");
    assert_false(a.rdma);
    put(root, "proc/sys/kernel/random/boot_id", "6f1e\n");
    put(root, "proc/sys/kernel/numa_balancing", "1\n");
    put(root, "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    put(root, "sys/devices/system/cpu/cpu3/cpufreq/scaling_driver", "acpi-cpufreq\n");
    put(root, "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave\n");
    put(root, "sys/class/infiniband/mlx5_0", "");
    cf_check_host(root, 3, &a);
    assert_int_equal(a.numa_balancing, 1);
    assert_string_equal(a.thp, "never");
    assert_string_equal(a.governor, "acpi-cpufreq powersave");
    assert_true(a.rdma);
    put(root, "proc/sys/kernel/random/boot_id", "6f1f\n");
    cf_check_host(root, 2, &b);
    assert_true(a.machine && b.machine && a.machine != b.machine);
    assert_string_equal(b.governor, "");
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_well),
        cmocka_unit_test(programs_differ),
        cmocka_unit_test(cores),
        cmocka_unit_test(memory),
        cmocka_unit_test(models),
        cmocka_unit_test(links),
        cmocka_unit_test(silence),
        cmocka_unit_test(recorded_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
