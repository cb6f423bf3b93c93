/* See spawn.h. */
#include "coordinator/cli/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "coordinator/supervise/hosts.h"

enum { MAX_DEPTH = 16 };

extern char **environ;

struct words {
    char **word;
    size_t n, size;
    int failed;
};

static void add(struct words *w, const char *word) {
    if (w->n + 2 > w->size) {
        size_t size = w->size ? 2 * w->size : 32;
        char **bigger = realloc(w->word, size * sizeof *bigger);
        if (!bigger) {
            w->failed = 1;
            return;
        }
        w->word = bigger;
        w->size = size;
    }
    char *copy = strdup(word);
    w->failed |= !copy;
    w->word[w->n++] = copy;
    w->word[w->n] = NULL;
}

static void free_words(struct words *w) {
    for (size_t i = 0; i < w->n; i++)
        free(w->word[i]);
    free(w->word);
}

/* without_hosts: other words say which hosts there are. */
static void add_split(struct words *w, const char *text, bool without_hosts) {
    char *copy = strdup(text), *state = NULL;
    w->failed |= !copy;
    for (char *word = copy ? strtok_r(copy, " \t", &state) : NULL; word; word = strtok_r(NULL, " \t", &state)) {
        if (without_hosts && cf_hosts_names_list(word))
            strtok_r(NULL, " \t", &state);
        else
            add(w, word);
    }
    free(copy);
}

/* Our variables must reach the ranks of other hosts too: mpirun carries only those that it is told of. */
static void add_environment(struct words *w) {
    for (char **v = environ; *v; v++) {
        size_t n = strcspn(*v, "=");
        char name[64];
        bool ours = !strncmp(*v, "COFFER_", 7) || !strncmp(*v, "HWLOC_COMPONENTS=", 17);
        if (!ours || n >= sizeof name || !strncmp(*v, "COFFER_MPIRUN=", 14)) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, *v);
        add(w, "-x");
        add(w, name);
    }
}

static int build(struct words *w, const struct cf_front_options *o, struct cf_error *e) {
    const char *mpirun = o->mpirun ? o->mpirun : getenv("COFFER_MPIRUN");
    char self[4096], ranks[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return cf_fail(e, CF_ERR_SYSTEM, "cannot read /proc/self/exe: %s", strerror(errno));
    self[n] = '\0';
    snprintf(ranks, sizeof ranks, "%d", o->ranks);
    bool hosts = false;
    for (const char *const *word = o->words; word && *word; word++)
        hosts |= cf_hosts_names_list(*word);
    if (!o->direct) add_split(w, mpirun && *mpirun ? mpirun : "mpirun", hosts);
    if (!o->direct && !w->n) return cf_fail(e, CF_ERR_USAGE, "COFFER_MPIRUN names no program");
    static const char *const always[] = {"--bind-to", "none", "--mca", "odls_base_sigkill_timeout", "0"};
    if (!o->direct) {
        add(w, "-n");
        add(w, ranks);
        for (size_t i = 0; i < sizeof always / sizeof *always; i++)
            add(w, always[i]);
        if (o->oversubscribe) add(w, "--oversubscribe");
        if (geteuid() == 0) add(w, "--allow-run-as-root");
        for (const char *const *word = o->words; word && *word; word++)
            add(w, *word);
        add_environment(w);
    }
    add(w, self);
    for (int i = 1; i < o->argc; i++)
        add(w, o->argv[i]);
    return w->failed ? cf_fail(e, CF_ERR_MEMORY, "no memory for mpirun's command line") : 0;
}

/* In the child: never returns. What goes wrong is written to `report` as an errno. An mpirun ignores SIGPIPE: its own
   handler is gone before its session directory is, so that text which finds no reader then (we were killed) would end
   it in between. It gives its ranks the default back. */
static void become(char **words, bool direct, int in, int out, int err, int report, pid_t parent) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1); /* it died before the prctl */
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, direct ? SIG_DFL : SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A background process group must not read the terminal. */
    if (in >= 0) {
        dup2(in, STDIN_FILENO);
    } else if (isatty(STDIN_FILENO)) {
        int null = open("/dev/null", O_RDONLY);
        if (null >= 0) dup2(null, STDIN_FILENO), close(null);
    }
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execvp(words[0], words);
    int why = errno;
    (void)!write(report, &why, sizeof why);
    _exit(127);
}

static void close_pair(int pair[2]) {
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0) close(pair[i]);
}

static int start(struct cf_launcher_process *p, struct words *w, bool direct, bool feeds, struct cf_error *e) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, report[2] = {-1, -1}, why = 0;
    pid_t parent = getpid();
    if ((feeds && pipe2(in, O_CLOEXEC)) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(report, O_CLOEXEC) ||
        (p->pid = fork()) < 0) {
        cf_fail(e, CF_ERR_SYSTEM, "cannot start %s: %s", w->word[0], strerror(errno));
        close_pair(in), close_pair(out), close_pair(err), close_pair(report);
        return -1;
    }
    if (p->pid == 0) become(w->word, direct, in[0], out[1], err[1], report[1], parent);
    setpgid(p->pid, p->pid); /* whoever comes first */
    close(out[1]), close(err[1]), close(report[1]);
    if (feeds) close(in[0]), fcntl(in[1], F_SETFL, O_NONBLOCK);
    ssize_t n;
    while ((n = read(report[0], &why, sizeof why)) < 0 && errno == EINTR)
        ;
    close(report[0]);
    p->out = out[0];
    p->err = err[0];
    p->in = in[1];
    if (n != (ssize_t)sizeof why) return 0;
    close(p->out), close(p->err);
    if (feeds) close(p->in);
    p->in = -1;
    return cf_fail(e, CF_ERR_SYSTEM,
        "cannot start %s: %s (is Open MPI installed? COFFER_MPIRUN names another launcher)", w->word[0], strerror(why));
}

int cf_spawn_launcher(struct cf_launcher_process *p, const struct cf_front_options *o, struct cf_error *e) {
    struct words w = {0};
    setenv("COFFER_FRONT", "1", 1);
    if (o->talk) setenv("COFFER_TALK", "1", 1);
    if (o->supervisor) setenv("COFFER_SUPERVISED", "1", 1);
    int failed = build(&w, o, e) || start(p, &w, o->direct, o->talk || o->supervisor, e);
    unsetenv("COFFER_FRONT");
    unsetenv("COFFER_SUPERVISED");
    unsetenv("COFFER_TALK");
    free_words(&w);
    return failed ? -1 : 0;
}

/* Children first found, then killed: a parent that dies first hands its children to somebody else. */
static void kill_tree(pid_t pid, int depth, pid_t spare) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *f = fopen(path, "re");
    int child;
    while (f && depth < MAX_DEPTH && fscanf(f, "%d", &child) == 1)
        kill_tree(child, depth + 1, spare);
    if (f) fclose(f);
    if (pid != spare) kill(pid, SIGKILL);
}

void cf_spawn_kill_below(pid_t pid) {
    kill_tree(pid, 0, getpid());
}
