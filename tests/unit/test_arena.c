/* Arenas on every NUMA node of this machine: bound, audited, refused. On one node this tests little about placement;
 * the same program runs in a virtual machine with several (tests/numa/in_vm.sh). CF_TEST_VERBOSE prints the audits. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/memory/arena.h"
#include "node/memory/topology.h"

static const size_t mib = 1 << 20;

static int read_machine(void **state) {
    struct cf_machine *m = calloc(1, sizeof *m);
    struct cf_error e = {0};
    if (!m || cf_machine_read(m, 1, &e) < 0) return -1;
    *state = m;
    return 0;
}

static int free_machine(void **state) {
    cf_machine_free(*state);
    free(*state);
    return 0;
}

static void print_audit(const struct cf_arena *a, const struct cf_audit *u) {
    if (!getenv("CF_TEST_VERBOSE")) return;
    print_message("node %d: %llu pages, %.1f %% local, %.0f %% huge%s, %llu absent %s\n", a->wanted,
        (unsigned long long)u->pages, cf_audit_local_percent(u), cf_audit_huge_percent(u),
        a->hugetlb ? " (hugetlb)" : "", (unsigned long long)u->absent, a->note);
}

static void every_page_is_on_its_node(void **state) {
    const struct cf_machine *m = *state;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        for (int huge = 0; huge < 2; huge++) {
            struct cf_arena a;
            struct cf_audit u;
            struct cf_error e = {0};
            assert_int_equal(
                cf_arena_open(&a, 24 * mib, (int)m->nodes[i].os_index, huge, CF_NUMA_DEFAULT, NULL, &e), 0);
            size_t before = cf_memory_resident();
            char *p = cf_arena_take(&a, 16 * mib, 4096);
            assert_non_null(p);
            memset(p, 1, 16 * mib);
            if (!a.hugetlb) assert_true(cf_memory_resident() >= before + 15 * mib);
            assert_int_equal(cf_arena_audit(&a, &u, &e), 0);
            print_audit(&a, &u);
            assert_true(u.pages > 0);
            assert_int_equal(u.absent, 0);
            if (a.node >= 0) assert_int_equal(u.local, u.pages);
            cf_arena_close(&a);
            assert_null(a.base);
        }
    }
}

static void untouched_pages_are_absent(void **state) {
    const struct cf_machine *m = *state;
    struct cf_arena a;
    struct cf_audit u;
    struct cf_error e = {0};
    assert_int_equal(cf_arena_open(&a, 8 * mib, (int)m->nodes[0].os_index, false, CF_NUMA_DEFAULT, NULL, &e), 0);
    assert_int_equal(cf_arena_audit(&a, &u, &e), 0);
    assert_int_equal(u.pages, 0);
    assert_non_null(cf_arena_take(&a, 8 * mib, 64));
    assert_int_equal(cf_arena_audit(&a, &u, &e), 0);
    assert_int_equal(u.absent, u.pages);
    assert_int_equal(u.local, 0);
    assert_true(cf_audit_local_percent(&u) > 99.9);
    cf_arena_close(&a);
}

/* 512 MiB are twice the pages that the audit asks for. */
static void large_arenas_are_sampled(void **state) {
    const struct cf_machine *m = *state;
    const struct cf_numa_node *n = &m->nodes[0];
    if (n->memory_free < (uint64_t)1 << 30) skip();
    struct cf_arena a;
    struct cf_audit u;
    struct cf_error e = {0};
    size_t bytes = 512 * mib;
    assert_int_equal(cf_arena_open(&a, bytes, (int)n->os_index, false, CF_NUMA_DEFAULT, NULL, &e), 0);
    char *p = cf_arena_take(&a, bytes, 64);
    memset(p, 1, bytes / 2);
    assert_int_equal(cf_arena_audit(&a, &u, &e), 0);
    print_audit(&a, &u);
    assert_true(u.pages <= 65536);
    assert_in_range(u.absent, u.pages / 2 - 1, u.pages / 2 + 1);
    assert_int_equal(u.local, u.pages - u.absent);
    cf_arena_close(&a);
}

static void taking(void **state) {
    const struct cf_machine *m = *state;
    struct cf_arena a;
    struct cf_error e = {0};
    assert_int_equal(cf_arena_open(&a, 100, (int)m->nodes[0].os_index, false, CF_NUMA_OFF, NULL, &e), 0);
    assert_int_equal(a.bytes, 2 * mib);
    assert_int_equal(a.node, -1);
    assert_int_equal((uintptr_t)a.base % (2 * mib), 0);
    char *p = cf_arena_take(&a, 3, 1), *q = cf_arena_take(&a, 64, 64), *r = cf_arena_take(&a, 1, 4096);
    assert_ptr_equal(p, a.base);
    assert_ptr_equal(q, a.base + 64);
    assert_ptr_equal(r, a.base + 4096);
    assert_null(cf_arena_take(&a, 8, 3));
    assert_null(cf_arena_take(&a, 8, 0));
    assert_null(cf_arena_take(&a, SIZE_MAX, 64));
    assert_null(cf_arena_take(&a, 2 * mib, 1));
    assert_non_null(cf_arena_take(&a, 2 * mib - 4097, 1));
    assert_null(cf_arena_take(&a, 1, 1));
    assert_non_null(cf_arena_take(&a, 0, 1));
    cf_arena_close(&a);
    cf_arena_close(&a);
}

static void a_model_that_does_not_fit_is_refused(void **state) {
    const struct cf_machine *m = *state;
    const struct cf_numa_node *n = &m->nodes[m->n_nodes - 1];
    struct cf_arena a;
    for (int policy = CF_NUMA_DEFAULT; policy <= CF_NUMA_OFF; policy++) {
        struct cf_error e = {0};
        uint64_t much = n->memory_free * (m->n_nodes + 1u) + ((uint64_t)4 << 30);
        assert_int_equal(cf_arena_open(&a, much, (int)n->os_index, false, (enum cf_numa_policy)policy, NULL, &e), -1);
        assert_int_equal(e.code, CF_ERR_MEMORY);
        assert_non_null(strstr(e.text, "GiB needed"));
        assert_non_null(strstr(e.text, "GiB missing"));
        assert_null(a.base);
    }
    struct cf_error e = {0};
    assert_int_equal(cf_arena_open(&a, n->memory + 512 * mib, (int)n->os_index, false, CF_NUMA_DEFAULT, NULL, &e), -1);
    if (getenv("CF_TEST_VERBOSE")) print_message("%s\n", e.text);
    assert_int_equal(cf_arena_open(&a, SIZE_MAX, (int)n->os_index, true, CF_NUMA_DEFAULT, NULL, &e), -1);
    assert_int_equal(cf_arena_open(&a, 1, -1, false, CF_NUMA_DEFAULT, NULL, &e), -1);
}

static void a_node_that_is_not_there(void **state) {
    (void)state;
    struct cf_arena a;
    struct cf_error e = {0};
    assert_int_equal(cf_arena_open(&a, 100, 999, false, CF_NUMA_STRICT, NULL, &e), -1);
    assert_int_equal(e.code, CF_ERR_MEMORY);
    assert_non_null(strstr(e.text, "node 999"));
    assert_int_equal(cf_arena_open(&a, 100, 999, true, CF_NUMA_DEFAULT, NULL, &e), 0);
    assert_int_equal(a.node, -1);
    assert_non_null(strstr(a.note, "node 999"));
    cf_arena_close(&a);
}

/* ---- a container's seccomp profile ---- */

/* mbind, get_mempolicy and move_pages fail with EPERM from here on, as in Docker without CAP_SYS_NICE. */
static bool forbid_numa_calls(void) {
#define REFUSE(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(SYS_mbind),
        REFUSE(SYS_get_mempolicy),
        REFUSE(SYS_move_pages),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
#undef REFUSE
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int in_container(int node, bool several) {
    if (!forbid_numa_calls()) return 50;
    struct cf_machine m;
    struct cf_error e = {0};
    if (cf_machine_read(&m, 1, &e) < 0) return 1;
    cf_machine_free(&m);
    struct cf_arena a;
    if (cf_arena_open(&a, 4 * mib, node, true, CF_NUMA_DEFAULT, NULL, &e) < 0) return 2;
    if (several && (a.node != -1 || !strstr(a.note, "no permission"))) return 3;
    if (!several && a.node != node) return 4;
    memset(cf_arena_take(&a, 4 * mib, 64), 1, 4 * mib);
    struct cf_audit u;
    if (cf_arena_audit(&a, &u, &e) < 0) return 5;
    print_audit(&a, &u);
    uint64_t pages =
        4 * mib / (uint64_t)sysconf(_SC_PAGESIZE); /* of the pool: numa_maps counts to the last page's end */
    if ((a.hugetlb ? u.pages < pages : u.pages != pages) || u.absent || (!several && u.local != u.pages)) return 6;
    cf_arena_close(&a);
    int rc = cf_arena_open(&a, 4 * mib, node, false, CF_NUMA_STRICT, NULL, &e);
    if (several != (rc < 0)) return 7;
    if (several && !strstr(e.text, "no permission")) return 8;
    cf_arena_close(&a);
    return 0;
}

static void refused_binding_is_said(void **state) {
    const struct cf_machine *m = *state;
    int node = (int)m->nodes[m->n_nodes - 1].os_index;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int rc = in_container(node, m->n_nodes > 1);
        fflush(NULL);
        _exit(rc);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 50) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_on_its_node),
        cmocka_unit_test(untouched_pages_are_absent),
        cmocka_unit_test(large_arenas_are_sampled),
        cmocka_unit_test(taking),
        cmocka_unit_test(a_model_that_does_not_fit_is_refused),
        cmocka_unit_test(a_node_that_is_not_there),
        cmocka_unit_test(refused_binding_is_said),
    };
    return cmocka_run_group_tests(tests, read_machine, free_machine);
}
