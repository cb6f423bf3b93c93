/* See terminal.h. */
#include "coordinator/cli/terminal.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/interrupt.h"

enum {
    LINE = 2048,   /* under PIPE_BUF, so that a line arrives whole */
    PATIENCE = 200 /* ms, with a launcher that has asked us to stop and may read no more */
};

int cf_terminal_env_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value) return atoi(value);
    }
    /* A batch script (sbatch) runs with SLURM_PROCID=0 too, but only srun gives each task a step of several. */
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS"), *id = getenv("SLURM_PROCID");
    return tasks && id && atoi(tasks) > 1 ? atoi(id) : -1;
}

bool cf_terminal_speaks(void) {
    return cf_terminal_env_rank() <= 0;
}

static bool talks(void) {
    const char *talk = getenv("COFFER_TALK");
    return talk && !strcmp(talk, "1");
}

bool cf_terminal_supervised(void) {
    const char *supervised = getenv("COFFER_SUPERVISED");
    return supervised && !strcmp(supervised, "1");
}

enum cf_terminal_role cf_terminal_role(void) {
    const char *front = getenv("COFFER_FRONT");
    int rank = cf_terminal_env_rank();
    if (front && !strcmp(front, "1") && (rank >= 0 || talks() || cf_terminal_supervised()))
        return CF_TERMINAL_BEHIND_FRONT;
    return rank >= 0 ? CF_TERMINAL_PLAIN : CF_TERMINAL_IN_PLACE;
}

void cf_terminal_open(struct cf_terminal *t, enum cf_terminal_role role, bool is_rank0) {
    memset(t, 0, sizeof *t);
    t->role = role;
    t->is_rank0 = is_rank0;
    t->talk = role == CF_TERMINAL_BEHIND_FRONT && talks();
    t->stream = t->talk || (role == CF_TERMINAL_BEHIND_FRONT && cf_terminal_supervised());
    if (role == CF_TERMINAL_IN_PLACE) {
        cf_bar_open(&t->bar);
        t->text_on_terminal = isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
    }
}

/* An mpirun that has been asked to stop reads nothing more of what its ranks write, and kills them a second later: who
 * waits until it does is dead before the run has come to its end. False: it does not take any more. */
static bool takes(int fd) {
    int ready;
    do
        ready = poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, PATIENCE);
    while (ready < 0 ? errno == EINTR : !ready && !cf_interrupted());
    return ready;
}

/* EAGAIN happens when somebody else made the shared descriptor non-blocking: wait, do not lose text. deaf: in a
 * launcher of the user's own, else NULL; set once in vain is enough, it has a second in all. */
static int write_all(int fd, const char *bytes, size_t n, bool *deaf) {
    bool plain = deaf != NULL;
    while (n) {
        if (plain) *deaf = *deaf || !takes(fd);
        if (plain && *deaf) return 0;
        /* there is room for one, and a signal ends a write that has written some */
        ssize_t done = write(fd, bytes, plain && cf_interrupted() ? 1 : n);
        if (done < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, plain ? PATIENCE : -1);
        else if (done < 0 && errno != EINTR)
            return -1;
        if (done > 0) bytes += done, n -= (size_t)done;
    }
    return 0;
}

/* Control bytes in a note (a file name may hold any) must not look like an event or leave the line. */
static void tidy(char *line) {
    for (; *line; line++)
        if ((unsigned char)*line < ' ' && *line != '\t') *line = ' ';
}

static int send_event(const struct cf_terminal *t, const char *word, const char *text) {
    char line[LINE];
    int n = snprintf(line, sizeof line, "%c%s %s", CF_EVENT_MARK, word, text);
    size_t length = (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    tidy(line + 1);
    line[length] = '\n';
    return write_all(t->stream ? STDOUT_FILENO : STDERR_FILENO, line, length + 1, NULL);
}

void cf_terminal_progress(struct cf_terminal *t, double fraction, const char *label) {
    if (!t->is_rank0) return;
    if (t->role != CF_TERMINAL_BEHIND_FRONT) {
        cf_bar_draw(&t->bar, fraction, label);
        return;
    }
    fraction = fraction > 0 ? (fraction < 1 ? fraction : 1) : 0; /* NaN too */
    /* t->bar only limits the rate here: one line per two hundredths, and the ends always. */
    int64_t step = (int64_t)(fraction * 50) + 1;
    size_t phase = cf_bar_phase(label);
    bool is_new = phase != strlen(t->bar.label) || strncmp(t->bar.label, label, phase) != 0;
    if (!is_new && step == t->bar.last_ms) return;
    snprintf(t->bar.label, sizeof t->bar.label, "%.*s", (int)phase, label);
    t->bar.last_ms = step;
    char text[160];
    snprintf(text, sizeof text, "%.4f %s", fraction, label);
    send_event(t, "progress", text);
}

void cf_terminal_note(struct cf_terminal *t, const char *format, ...) {
    if (!t->is_rank0 || t->quiet) return;
    char text[LINE - 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (t->role == CF_TERMINAL_BEHIND_FRONT) {
        send_event(t, t->closing ? "last" : "note", text);
        return;
    }
    tidy(text);
    cf_bar_clear(&t->bar);
    fprintf(stderr, "%s%s\n", t->in_line ? "\n" : "", text);
    t->in_line = false;
}

/* As much of the text as fits a line, escaped. Returns how many bytes that is. */
static size_t escape(char *line, size_t size, const char *bytes, size_t n) {
    size_t at = 0, done = 0;
    for (; done < n && at + 5 < size; done++) {
        unsigned char c = (unsigned char)bytes[done];
        if (c == '\\' || c == '\n')
            line[at++] = '\\', line[at++] = c == '\n' ? 'n' : '\\';
        else if (c < ' ')
            at += (size_t)snprintf(line + at, 5, "\\x%02x", c);
        else
            line[at++] = (char)c;
    }
    line[at] = '\0';
    return done;
}

static int write_text(struct cf_terminal *t, const char *bytes, size_t n) {
    if (!t->stream) return write_all(STDOUT_FILENO, bytes, n, t->role == CF_TERMINAL_PLAIN ? &t->deaf : NULL);
    while (n) {
        char line[LINE - 64];
        size_t done = escape(line, sizeof line, bytes, n);
        if (send_event(t, "text", line)) return -1;
        bytes += done, n -= done;
    }
    return 0;
}

int cf_terminal_text(struct cf_terminal *t, const char *bytes, size_t n, struct cf_error *e) {
    if (!t->is_rank0 || !n) return 0;
    cf_bar_clear(&t->bar);
    if (write_text(t, bytes, n)) {
        if (errno == EPIPE) return cf_fail(e, CF_ERR_INTERRUPTED, "the reader of standard output is gone");
        return cf_fail(e, CF_ERR_FILE, "cannot write to standard output: %s", strerror(errno));
    }
    t->in_line = t->text_on_terminal && bytes[n - 1] != '\n';
    return 0;
}

void cf_terminal_status(struct cf_terminal *t, int exit_status) {
    if (!t->is_rank0) return;
    cf_bar_clear(&t->bar);
    if (t->role != CF_TERMINAL_BEHIND_FRONT) return;
    char text[16];
    snprintf(text, sizeof text, "%d", exit_status);
    send_event(t, "status", text);
}

void cf_terminal_event(struct cf_terminal *t, const char *word, const char *format, ...) {
    if (!t->is_rank0 || !t->stream || !cf_terminal_supervised()) return;
    char text[LINE - 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    send_event(t, word, text);
}

void cf_terminal_ask(struct cf_terminal *t, const char *prompt) {
    if (t->is_rank0 && t->stream) send_event(t, "ask", prompt);
}

void cf_terminal_dim(struct cf_terminal *t, bool dim) {
    if (t->is_rank0 && t->talk) send_event(t, "style", dim ? "dim" : "plain");
}
