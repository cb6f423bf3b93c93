/* Preloaded into one rank of `coffer doctor`: makes it ill in the ways that SICK names, if it is the rank that
 * SICK_RANK names.
 *
 *     numa      mbind and move_pages are refused by a seccomp filter, as in a container
 *     memlock   64 KiB may be locked
 *     core      bound to the first core that it may use
 *     clock     its time of day is 5 s ahead
 *     stop      stops (SIGSTOP) when it first binds memory: it has said hello by then
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int has(const char *illness) {
    const char *sick = getenv("SICK"), *wanted = getenv("SICK_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    return sick && strstr(sick, illness) && (!wanted || (rank && strcmp(wanted, rank) == 0));
}

static void forbid_numa(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, __builtin_offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mbind, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_move_pages, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) abort();
}

static void bind_to_one_core(void) {
    cpu_set_t may, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof may, &may)) abort();
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &may)) {
            CPU_SET(i, &one);
            break;
        }
    if (sched_setaffinity(0, sizeof one, &one)) abort();
}

__attribute__((constructor)) static void fall_ill(void) {
    struct rlimit little = {64 << 10, 64 << 10};
    if (has("memlock") && setrlimit(RLIMIT_MEMLOCK, &little)) abort();
    if (has("core")) bind_to_one_core();
    if (has("numa")) forbid_numa();
}

long mbind(void *at, unsigned long bytes, int mode, const unsigned long *nodes, unsigned long most, unsigned flags);

long mbind(void *at, unsigned long bytes, int mode, const unsigned long *nodes, unsigned long most, unsigned flags) {
    if (has("stop")) raise(SIGSTOP);
    return syscall(SYS_mbind, at, bytes, mode, nodes, most, flags);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(clock, t);
    if (clock == CLOCK_REALTIME && has("clock")) t->tv_sec += 5;
    return rc;
}
