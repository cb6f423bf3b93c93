/* See front.h. One poll loop over four descriptors: the launcher's stdout and stderr, our signals, and our own stdout
 * (may it be written, has its reader gone); while the user types in a talk, over a fifth: the terminal (talk.c); and
 * while something is under way to the ranks' stdin, over that. Under a supervisor the loop runs once for each start. No
 * handler, no thread, no state outside struct front.
 */
#include "coordinator/cli/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/cli/feed.h"
#include "coordinator/cli/launcher.h"
#include "coordinator/cli/spawn.h"
#include "coordinator/cli/talk.h"

enum {
    CHUNK = 4096,      /* at most this much per write: a pipe that polls writable takes it without blocking */
    DRAIN_FOR = 10000, /* ms for the token in hand, after SIGTERM */
    KILL_MS = 2000,    /* from SIGTERM to SIGKILL */
    END_MS = 10000,    /* for the launcher to end once rank 0 has failed: it can hang on a host that is gone */
    MUTE_MS = 2000,    /* a rank that has said nothing by then knows of signals, and has nothing to say */
    GOOD_MS = 60000,   /* the same after a good end: a slow machine must not make a failure of it */
    DRAIN_MS = 1000,   /* for output that is still under way when the launcher has ended */
    READER_GONE = 141  /* as the shell shows a death by SIGPIPE */
};

struct front {
    const struct cf_front_options *o;
    struct cf_supervisor *s; /* NULL: there is none */
    bool streams;            /* text and events come in one stream */
    struct cf_feed feed;     /* to the ranks */
    bool abandoned;          /* this start is given up */
    int drained_by;          /* exit status once the token in hand is out; 0: nobody has asked for that */
    int64_t owes_stop; /* ms: the ranks of this start have to be told to stop, once one has spoken or then; 0: no */
    struct cf_launcher_process launcher;
    int signals;      /* signalfd */
    bool running;     /* the launcher is */
    int wait_status;  /* of the launcher */
    int interrupts;   /* how often Ctrl-C */
    int ended_by;     /* exit status if we ended the run ourselves; 0: we did not */
    int64_t deadline; /* ms: the next SIGKILL, or the end of draining; 0: none */
    bool both_on_terminal;
    size_t at, n; /* pending[at..n) waits to be written to stdout */
    char pending[CHUNK];
    struct cf_launcher_lines lines;
    struct cf_talk talk;
};

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void end_launcher(struct front *f) {
    if (!f->running) return;
    kill(-f->launcher.pid, SIGTERM);
    if (!f->deadline || f->deadline > now_ms() + KILL_MS) f->deadline = now_ms() + KILL_MS;
}

/* Ends the run with this exit status; the first reason counts. */
static void stop(struct front *f, int status) {
    if (!f->ended_by) f->ended_by = status;
    end_launcher(f);
}

/* Ends this start: nothing good can come of it any more. */
static void abandon(struct front *f) {
    if (!f->abandoned) end_launcher(f);
    f->abandoned = true;
}

/* Asks the ranks to stop behind the token in hand; mpirun hands that to every rank. One that has not spoken yet may not
 * know what it means: it would die of the signal, or mpirun would drop it, having no ranks yet. */
static void ask_to_stop(struct front *f) {
    f->owes_stop = f->lines.spoke ? 0 : now_ms() + MUTE_MS;
    if (!f->owes_stop) kill(f->launcher.pid, SIGUSR1);
}

static void pay_stop(struct front *f) {
    if (!f->owes_stop || !f->running || (!f->lines.spoke && now_ms() < f->owes_stop)) return;
    f->owes_stop = f->lines.spoke ? 0 : INT64_MAX; /* who is told twice is told once */
    kill(f->launcher.pid, SIGUSR1);
}

/* Ends the run behind the token in hand; the second time at once. */
static void drain(struct front *f, int status) {
    if (f->drained_by || !f->running || f->talk.reading) {
        stop(f, status);
        return;
    }
    f->drained_by = status;
    if (f->s) cf_supervisor_drain(f->s, status);
    ask_to_stop(f);
    if (!f->deadline) f->deadline = now_ms() + DRAIN_FOR;
}

static void on_interrupt(struct front *f) {
    f->interrupts++;
    if (!f->running || f->talk.reading) return; /* a line that is being typed is dropped: see wait_for_key */
    if (f->interrupts == 1)
        ask_to_stop(f);
    else if (f->interrupts == 2)
        stop(f, 130);
    else
        cf_spawn_kill_below(f->launcher.pid);
}

/* The launcher's orphans become our children (subreaper), so those who outlive it are found and ended. */
static void on_child(struct front *f) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != f->launcher.pid) continue;
        f->wait_status = status;
        f->running = false;
        f->deadline = now_ms() + DRAIN_MS;
    }
    if (!f->running) cf_spawn_kill_below(getpid());
}

static void on_signals(struct front *f) {
    struct signalfd_siginfo info;
    while (read(f->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGINT)
            on_interrupt(f);
        else if (info.ssi_signo == SIGCHLD)
            on_child(f);
        else if (info.ssi_signo == SIGWINCH || info.ssi_signo == SIGCONT)
            cf_talk_redraw(&f->talk);
        else if (info.ssi_signo == SIGTERM)
            drain(f, 128 + SIGTERM);
        else
            stop(f, 128 + (int)info.ssi_signo);
    }
}

static ssize_t pass_text(const struct front *f) {
    const char *bytes = f->pending + f->at;
    size_t n = f->n - f->at;
    if (!f->o->text) return write(STDOUT_FILENO, bytes, n);
    return f->o->text(f->o->ctx, bytes, n) ? -1 : (ssize_t)n;
}

static void write_text(struct front *f) {
    cf_bar_clear(&f->lines.bar);
    ssize_t done = pass_text(f);
    if (done < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (done >= 0) {
        f->at += (size_t)done;
        if (f->both_on_terminal && f->at > 0) f->lines.text_mid_line = f->pending[f->at - 1] != '\n';
    } else {
        f->at = f->n = 0;
        if (errno == EPIPE) {
            stop(f, READER_GONE);
        } else if (!f->ended_by) {
            if (!f->o->text) fprintf(stderr, "coffer: cannot write to standard output: %s\n", strerror(errno));
            stop(f, 1);
        }
    }
    if (f->at == f->n) f->at = f->n = 0;
}

/* Reads at most one chunk. Returns false at the end of the stream. */
static bool read_text(struct front *f) {
    if (f->s) cf_supervisor_heard(f->s);
    if (f->streams) return cf_talk_fill(&f->talk, f->launcher.out);
    ssize_t n = read(f->launcher.out, f->pending, sizeof f->pending);
    if (n < 0 && errno == EINTR) return true;
    if (n <= 0) return false;
    f->lines.spoke = true;
    f->n = (size_t)n;
    if (f->ended_by) f->n = 0; /* nobody wants it any more */
    return true;
}

static bool read_lines(struct front *f) {
    char bytes[CHUNK];
    ssize_t n = read(f->launcher.err, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) return true;
    /* What mpirun says while it is being ended is no news. */
    if (n > 0 && !f->abandoned) cf_launcher_push(&f->lines, bytes, (size_t)n);
    return n > 0;
}

static void close_stream(int *fd) {
    close(*fd);
    *fd = -1;
}

static void on_deadline(struct front *f) {
    if (!f->deadline || now_ms() < f->deadline) return;
    f->deadline = 0;
    if (f->running && f->drained_by && !f->ended_by && !f->abandoned) {
        stop(f, f->drained_by); /* it has taken too long */
        return;
    }
    if (f->running) {
        cf_spawn_kill_below(f->launcher.pid);
        return;
    }
    if (f->launcher.out >= 0) close_stream(&f->launcher.out);
    if (f->launcher.err >= 0) close_stream(&f->launcher.err);
}

static bool goes_on(const struct front *f) {
    return f->running || f->launcher.out >= 0 || f->launcher.err >= 0 || f->n;
}

/* The next text out of the stream, past what has been shown before a failure. */
static void next_text(struct front *f) {
    size_t n;
    if (f->s) f->n = cf_supervisor_whole(f->s, f->pending, sizeof f->pending);
    while (!f->n && (n = cf_talk_next(&f->talk, &f->lines, f->pending, sizeof f->pending)) > 0) {
        f->n = f->s ? cf_supervisor_text(f->s, f->pending, n) : n;
        if (f->ended_by) f->n = 0;
    }
    if (f->s && !f->n) f->n = cf_supervisor_whole(f->s, f->pending, sizeof f->pending);
}

static int wait_ms(const struct front *f) {
    int64_t wait = f->deadline ? f->deadline - now_ms() : -1;
    if (f->deadline && wait < 0) wait = 0;
    if (f->owes_stop && f->owes_stop < INT64_MAX && f->running) {
        int64_t left = f->owes_stop > now_ms() ? f->owes_stop - now_ms() : 0;
        if (wait < 0 || left < wait) wait = left;
    }
    int silence = f->s && f->running && !f->abandoned && !f->lines.has_status ? cf_supervisor_wait(f->s) : -1;
    return silence >= 0 && (wait < 0 || silence < wait) ? silence : (int)wait;
}

static void look_for_failure(struct front *f) {
    pay_stop(f);
    if (f->lines.has_status && f->running && !f->deadline)
        f->deadline = now_ms() + (f->lines.status ? END_MS : GOOD_MS);
    if (!f->s || !f->running || f->abandoned || f->ended_by) return;
    cf_supervisor_look(f->s, f->launcher.pid);
    if (cf_supervisor_failed(f->s) || (!f->lines.has_status && cf_supervisor_silent(f->s))) abandon(f);
}

/* Serves whatever is ready; waits if nothing is. key: the terminal, or -1. Returns 1 if key can be read, 0 if not, -1
 * if nothing can be waited for. */
static int turn(struct front *f, int key) {
    if (f->streams && !f->n) next_text(f);
    bool pending = f->n > 0;
    struct pollfd fds[] = {
        {.fd = f->signals, .events = POLLIN},
        {.fd = f->launcher.err, .events = POLLIN},
        {.fd = pending ? -1 : f->launcher.out, .events = POLLIN},
        {.fd = f->ended_by ? -1 : STDOUT_FILENO, .events = pending ? POLLOUT : 0},
        {.fd = key, .events = POLLIN},
        {.fd = cf_feed_waits(&f->feed) ? f->launcher.in : -1, .events = POLLOUT},
    };
    if (!pending && f->lines.asked && key < 0) return 0;
    if (poll(fds, 6, wait_ms(f)) < 0 && errno != EINTR) return -1;
    if (fds[0].revents) on_signals(f);
    if (fds[1].revents && !read_lines(f)) close_stream(&f->launcher.err);
    if (fds[2].revents && !read_text(f)) close_stream(&f->launcher.out);
    if (fds[5].revents && !cf_feed_write(&f->feed, f->launcher.in)) close_stream(&f->launcher.in);
    look_for_failure(f);
    if (pending && fds[3].revents & (POLLOUT | POLLNVAL))
        write_text(f);
    else if (fds[3].revents & POLLERR)
        stop(f, READER_GONE);
    if (f->ended_by) f->at = f->n = 0;
    on_deadline(f);
    return fds[4].revents != 0;
}

/* For libedit: see console.h. */
static int wait_for_key(void *ctx, int fd) {
    struct front *f = ctx;
    for (;;) {
        int ready = turn(f, fd);
        if (f->interrupts) return 0;
        if (ready < 0 || f->ended_by || !f->running || f->abandoned || f->lines.has_status) return -1;
        if (ready) return 1;
    }
}

/* The ranks want a line. */
static void answer(struct front *f) {
    size_t n;
    f->lines.asked = false;
    f->interrupts = 0;
    if (f->drained_by) stop(f, f->drained_by);
    if (f->ended_by || !f->running) return;
    const char *line = cf_talk_line(&f->talk, &f->lines, &n);
    if (line) {
        bool lost = f->s && cf_supervisor_line(f->s, line, n);
        if (lost || cf_feed_add(&f->feed, line, n) || cf_feed_add(&f->feed, "\n", 1)) stop(f, 1);
    } else if (f->interrupts && !f->talk.console) {
        stop(f, 130);
    } else if (f->running && !f->abandoned && !f->lines.has_status) {
        f->feed.end = true;
    }
    f->interrupts = 0;
}

static void pump(struct front *f) {
    while (goes_on(f)) {
        if (turn(f, -1) < 0) return;
        if (f->lines.asked && !f->n) answer(f);
    }
}

/* Why it ended, in a few words; "" if mpirun has said it in words of its own. It does not always say which rank it was
 * (seen with ranks that never reached MPI_Init). */
static void explain(const struct front *f, char *text, size_t size) {
    int code = WIFEXITED(f->wait_status) ? WEXITSTATUS(f->wait_status) : 0;
    *text = '\0';
    if (*f->lines.verdict)
        snprintf(text, size, "%s", f->lines.verdict);
    else if (WIFSIGNALED(f->wait_status))
        snprintf(text, size, "%s died: %s", f->o->direct ? "the process with the model" : "mpirun",
            strsignal(WTERMSIG(f->wait_status)));
    else if (f->lines.passed_block)
        return;
    else if (code > 128 && code < 128 + SIGRTMIN)
        snprintf(text, size, "a rank died: %s", strsignal(code - 128));
    else if (!f->o->direct)
        snprintf(text, size, "mpirun ended with exit status %d", code);
}

static bool ended_well(const struct front *f) {
    return WIFEXITED(f->wait_status) && WEXITSTATUS(f->wait_status) == 0;
}

/* Shall there be another start? Said if so. */
static bool starts_again(struct front *f) {
    char why[512];
    if (!f->s) return false;
    /* mpirun may end with 0 though it has started nobody (seen with a host that was gone): only rank 0 counts. */
    bool done = f->lines.has_status && !cf_supervisor_failed(f->s);
    cf_supervisor_tidy(f->s, !done || !ended_well(f), f->launcher.pid);
    if (done || f->ended_by || f->drained_by) return false;
    explain(f, why, sizeof why);
    const struct cf_supervised_end end = {.has_status = f->lines.has_status,
        .died = WIFSIGNALED(f->wait_status) || WEXITSTATUS(f->wait_status) > 128,
        .unstarted = f->lines.unstarted || ended_well(f),
        .interrupted = f->interrupts > 0,
        .why = why};
    cf_bar_clear(&f->lines.bar);
    if (f->lines.text_mid_line && f->both_on_terminal) fputc('\n', stderr);
    f->lines.text_mid_line = false;
    return cf_supervisor_again(f->s, &end);
}

static int conclude(struct front *f) {
    char why[512];
    cf_launcher_end(&f->lines);
    if (f->lines.text_mid_line && f->both_on_terminal && (f->interrupts || f->ended_by)) fputc('\n', stderr);
    if (f->ended_by) return f->ended_by;
    if (f->drained_by) return f->drained_by;
    /* Under a supervisor all text comes before the status: what befalls mpirun behind it takes nothing from the answer.
     */
    bool whole = f->s && !cf_supervisor_failed(f->s);
    if (f->lines.has_status && (f->lines.status || whole || ended_well(f))) return f->lines.status;
    if (f->interrupts) return 130;
    if (ended_well(f)) return f->s ? 1 : 0;
    explain(f, why, sizeof why);
    if (*why) fprintf(stderr, "coffer: %s\n", why);
    return WIFEXITED(f->wait_status) && WEXITSTATUS(f->wait_status) == 2 ? 2 : 1;
}

/* A closed stdin, stdout or stderr would lend its number to one of our pipes. Read-only, so that writing still fails.
 */
static void fill_standard_descriptors(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) close(fd);
}

static void choose_signals(sigset_t *set, bool talk) {
    struct sigaction hangup;
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGCHLD);
    sigaction(SIGHUP, NULL, &hangup);
    if (talk) sigaddset(set, SIGWINCH), sigaddset(set, SIGCONT);
    if (hangup.sa_handler != SIG_IGN) sigaddset(set, SIGHUP); /* nohup means it */
}

/* What the ranks find on their stdin: the journal first, then what stands for the user's. */
static int fill_feed(struct front *f, struct cf_error *e) {
    const struct cf_journal *j = f->s ? cf_supervisor_journal(f->s) : NULL;
    char head[32];
    cf_feed_clear(&f->feed);
    if (!j) return 0;
    int n = snprintf(head, sizeof head, "journal %zu\n", j->n);
    if (cf_feed_add(&f->feed, head, (size_t)n) || cf_feed_add(&f->feed, j->bytes, j->n) ||
        cf_feed_add(&f->feed, f->o->input, f->o->n_input))
        return cf_fail(e, CF_ERR_MEMORY, "no memory for what the ranks have to know");
    f->feed.end = !f->o->asks && !f->o->talk;
    return 0;
}

/* From the start of mpirun to its end. */
static int run_once(struct front *f, struct cf_error *e) {
    struct cf_front_options now = *f->o;
    if (f->s) now.ranks = cf_supervisor_begin(f->s, &now.words);
    if (fill_feed(f, e)) return -1;
    cf_launcher_begin(&f->lines);
    f->talk.n = 0;
    f->wait_status = 0;
    f->deadline = 0;
    f->abandoned = false;
    if (f->o->talk || f->o->asks) f->interrupts = 0; /* it has ended that answer, and no more */
    f->owes_stop = f->interrupts > 0 ? now_ms() + MUTE_MS : 0;
    if (cf_spawn_launcher(&f->launcher, &now, e)) return -1;
    f->running = true;
    pump(f);
    if (f->launcher.in >= 0) close_stream(&f->launcher.in);
    return 0;
}

/* The pause before the next start. False: somebody wants no other one. */
static bool rests(struct front *f) {
    int64_t end = now_ms() + cf_supervisor_pause(f->s);
    int before = f->interrupts;
    for (int64_t left; (left = end - now_ms()) > 0 && !f->ended_by && f->interrupts == before;) {
        struct pollfd fd = {.fd = f->signals, .events = POLLIN};
        if (poll(&fd, 1, (int)left) > 0) on_signals(f);
    }
    return !f->ended_by && f->interrupts == before;
}

int cf_front_launch(const struct cf_front_options *o, struct cf_error *e) {
    struct front f = {.o = o, .s = o->supervisor, .streams = o->talk || o->supervisor};
    sigset_t mine, before;
    f.both_on_terminal = !o->text && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
    fill_standard_descriptors();
    cf_launcher_open(&f.lines);
    if (f.s) f.lines.other = cf_supervisor_event, f.lines.ctx = f.s;
    choose_signals(&mine, o->talk);
    sigprocmask(SIG_BLOCK, &mine, &before);
    void (*old_pipe)(int) = signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    f.signals = signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK);
    int status = -1, failed = 0;
    if (f.signals < 0) {
        cf_fail(e, CF_ERR_SYSTEM, "signalfd: %s", strerror(errno));
    } else if (cf_talk_open(&f.talk, o->talk, wait_for_key, &f, e) == 0) {
        do
            failed = run_once(&f, e);
        while (!failed && starts_again(&f) && rests(&f));
        if (!failed) status = conclude(&f);
    }
    cf_talk_close(&f.talk);
    cf_feed_free(&f.feed);
    if (f.signals >= 0) close(f.signals);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    signal(SIGPIPE, old_pipe);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}
