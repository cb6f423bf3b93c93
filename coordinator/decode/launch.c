/* See launch.h. */
#include "coordinator/decode/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "coordinator/cli/front.h"
#include "coordinator/cli/options.h"
#include "coordinator/decode/job.h"
#include "coordinator/supervise/story.h"

enum { MORE_WORDS = 16, MOST_RANKS = 1024 }; /* as --ranks */

struct output {
    const char *path;
    int fd;
};

/* Our own command line as the kernel keeps it, and `more` behind it: what the ranks get. Never freed: the process is
 * the front from now on. */
static char **own_arguments(const char *const *more, int *argc) {
    FILE *f = fopen("/proc/self/cmdline", "rb");
    size_t n = 0, n_more = 0, room = 1 << 21;
    char *all = malloc(room + 1);
    if (f && all) n = fread(all, 1, room, f);
    if (f) fclose(f);
    while (more && more[n_more])
        n_more++;
    char **argv = all ? calloc(n + n_more + 2, sizeof *argv) : NULL;
    *argc = 0;
    for (size_t i = 0; argv && i < n; i += strlen(all + i) + 1)
        all[n] = 0, argv[(*argc)++] = all + i;
    for (size_t i = 0; argv && i < n_more; i++) {
        argv[*argc] = strdup(more[i]);
        if (!argv[(*argc)++]) return NULL;
    }
    return argv;
}

/* ---- under a supervisor ---- */

/* The text into a file (cf_front_options.text). */
static int write_output(void *ctx, const char *bytes, size_t n) {
    const struct output *o = ctx;
    while (n) {
        ssize_t done = write(o->fd, bytes, n);
        if (done < 0 && errno != EINTR) {
            fprintf(stderr, "coffer: cannot write to %s: %s\n", o->path, strerror(errno));
            errno = EIO;
            return -1;
        }
        if (done > 0) bytes += done, n -= (size_t)done;
    }
    return 0;
}

/* What was accepted, for the journal's reader: how we were called, and what was read. */
static void remember_call(struct cf_journal *j, const struct cf_front_options *o, const struct cf_story *s) {
    char *directory = s->directory ? NULL : getcwd(NULL, 0);
    if (directory) cf_journal_remark(j, "directory", directory, strlen(directory));
    free(directory);
    for (int i = 1 + s->n_words; i < o->argc; i++)
        cf_journal_remark(j, "argument", o->argv[i], strlen(o->argv[i]));
    if (o->n_input && !s->n_input) cf_journal_remark(j, "input", o->input, o->n_input);
}

static int open_output(struct output *to, const struct cf_launch *l, struct cf_error *e) {
    if (!l->output) return 0;
    to->path = l->output;
    to->fd = open(l->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return to->fd < 0 ? cf_fail(e, CF_ERR_FILE, "%s: %s", l->output, strerror(errno)) : 0;
}

/* Whatever can go wrong with input and output does so before there is a journal. What is resumed has one, and its input
 * is there. */
static int open_all(struct cf_front_options *o, const struct cf_launch *l, const struct cf_supervision *how,
    struct output *to, char **input, struct cf_error *e) {
    if (!how->resumed && l->reads && l->read(l->reads, input, &o->n_input, e)) return -1;
    if (!how->resumed && open_output(to, l, e)) return -1;
    if (cf_supervisor_open(&o->supervisor, how, e)) return -1;
    if (!how->resumed) return 0;
    struct cf_story *s = cf_supervisor_story(o->supervisor);
    *input = s->input, o->n_input = s->n_input, s->input = NULL;
    return open_output(to, l, e);
}

static int supervise(
    struct cf_front_options *o, const struct cf_launch *l, struct cf_hosts *hosts, struct cf_error *e) {
    struct cf_supervision how = {.max_restarts = l->watch->max_restarts,
        .journal = l->watch->journal,
        .resumed = getenv(CF_LAUNCH_RESUMES),
        .timeout = l->timeout > 0 ? l->timeout : CF_SILENCE_DEFAULT,
        .hosts = hosts,
        .ranks = o->ranks,
        .chosen = l->ranks > 0,
        .whole = l->whole,
        .asks = l->asks || l->talk};
    struct output to = {NULL, -1};
    char *input = NULL;
    int status = open_all(o, l, &how, &to, &input, e) ? cf_exit_status(e) : 0;
    unsetenv(CF_LAUNCH_RESUMES); /* from here on only whether there is a how.resumed matters */
    if (!status) {
        o->input = input;
        o->asks = l->asks;
        if (l->output) o->text = write_output, o->ctx = &to;
        remember_call(cf_supervisor_journal(o->supervisor), o, cf_supervisor_story(o->supervisor));
        status = cf_front_launch(o, e);
    }
    cf_supervisor_close(o->supervisor, status);
    free(input);
    if (to.fd >= 0 && close(to.fd) && !status)
        cf_fail(e, CF_ERR_FILE, "%s: %s", l->output, strerror(errno)), status = 1;
    return status;
}

static bool is_supervised(const struct cf_launch *l, int ranks) {
    return l->watch && !l->watch->never &&
           (l->watch->always || l->watch->journal || ranks > 1 || getenv(CF_LAUNCH_RESUMES));
}

/* Words for the ranks: those of the caller, and a seed if nobody has chosen one, for it must be the same after a
 * failure. */
static int more_words(const struct cf_launch *l, bool supervised, const char *words[MORE_WORDS], char seed[24]) {
    size_t n = 0;
    uint32_t drawn;
    while (l->more && l->more[n] && n + 3 < MORE_WORDS)
        words[n] = l->more[n], n++;
    if (supervised && l->draws_seed) {
        if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) return -1;
        snprintf(seed, 24, "%u", (unsigned)drawn);
        words[n++] = "--seed", words[n++] = seed;
    }
    words[n] = NULL;
    return 0;
}

static int start(const struct cf_launch *l, struct cf_hosts *hosts, int ranks, struct cf_error *e) {
    const char *words[MORE_WORDS], *for_mpirun[5] = {NULL};
    char seed[24];
    size_t n = 0;
    bool supervised = is_supervised(l, ranks), elsewhere = l->watch && (l->watch->hostfile || l->watch->host);
    elsewhere |= hosts->allocated && hosts->listed;
    if (ranks <= 1 && !l->text && !l->talk && !supervised && !elsewhere) return -1;
    cf_transport_no_devices();
    struct cf_front_options o = {.ranks = ranks, .oversubscribe = true, .text = l->text, .ctx = l->ctx};
    o.talk = l->talk;
    o.direct = ranks <= 1 && !elsewhere && (l->talk || supervised);
    if (more_words(l, supervised, words, seed)) return cf_fail(e, CF_ERR_SYSTEM, "no random seed"), 1;
    o.argv = own_arguments(words, &o.argc);
    if (!o.argv) return cf_fail(e, CF_ERR_SYSTEM, "cannot read /proc/self/cmdline"), 1;
    if (supervised) return supervise(&o, l, hosts, e);
    const char *list = elsewhere ? cf_hosts_list(hosts) : NULL;
    if (elsewhere && hosts->file) for_mpirun[n++] = "--hostfile", for_mpirun[n++] = hosts->file;
    if (list) for_mpirun[n++] = "--host", for_mpirun[n++] = list;
    o.words = for_mpirun;
    return cf_front_launch(&o, e);
}

/* Somebody else has started the ranks: what only the process in front of them can do does not happen. */
static int check_launched(const struct cf_launch *l, int started, struct cf_error *e) {
    const struct cf_watch *w = l->watch;
    if (l->ranks && l->ranks != started)
        return cf_fail(e, CF_ERR_USAGE, "--ranks %lld, but %d %s been started: leave it to mpirun or srun",
            (long long)l->ranks, started, started == 1 ? "has" : "have");
    if (w && (w->always || w->journal || w->hostfile || w->host) && cf_terminal_speaks())
        fprintf(stderr, "coffer: --supervise, --journal, --hostfile and --host are for a coffer that starts mpirun "
                        "itself: here they "
                        "do nothing\n");
    return 0;
}

/* How many there shall be where nobody has said. Hosts of an allocation are taken to be like this one: what Slurm
 * counts are tasks, or cores where nobody has spoken of tasks. */
static int count_ranks(const struct cf_launch *l, struct cf_hosts *h, int *ranks, struct cf_error *e) {
    bool named = l->watch && (l->watch->hostfile || l->watch->host);
    if (!named && cf_job_ranks_here(l->map, ranks, e)) return -1;
    if (!named && h->allocated && h->n > 1 && !l->map)
        cf_hosts_deal(h, *ranks);
    else if (!named)
        return 0;
    *ranks = cf_hosts_slots(h);
    if (*ranks <= MOST_RANKS) return 0;
    return cf_fail(e, CF_ERR_LIMIT, "the hosts have %d slots: one rank each would be too many: --ranks N", *ranks);
}

int cf_launch(const struct cf_launch *l, struct cf_error *e) {
    int started = 1, ranks = (int)l->ranks;
    struct cf_hosts hosts = {0};
    if (cf_terminal_role() == CF_TERMINAL_BEHIND_FRONT) return -1;
    if (cf_transport_detect(&started, e)) return 2;
    if (cf_transport_launched()) return check_launched(l, started, e) ? 2 : -1;
    if (l->watch && l->watch->always && l->watch->never)
        return cf_fail(e, CF_ERR_USAGE, "--supervise and --no-supervise: one of them"), 2;
    if (l->watch && l->watch->journal && l->watch->never)
        return cf_fail(e, CF_ERR_USAGE, "--journal and --no-supervise: one of them"), 2;
    if (getenv(CF_LAUNCH_RESUMES) && (!l->watch || l->watch->never))
        return cf_fail(e, CF_ERR_USAGE, "what is resumed has a supervisor: not with --no-supervise"), 2;
    int failed = l->watch ? cf_hosts_open(&hosts, l->watch->hostfile, l->watch->host, e) : 0;
    if (!failed && !ranks) failed = count_ranks(l, &hosts, &ranks, e);
    int status = failed ? cf_exit_status(e) : start(l, &hosts, ranks, e);
    cf_hosts_close(&hosts);
    if (status < 0 && e->code) status = cf_exit_status(e);
    return status;
}
