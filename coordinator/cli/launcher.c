/* See launcher.h. The texts are those of Open MPI 4.1. */
#include "coordinator/cli/launcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/terminal.h"

enum { DASHES = 60 };

void cf_launcher_open(struct cf_launcher_lines *l) {
    memset(l, 0, sizeof *l);
    cf_bar_open(&l->bar);
}

void cf_launcher_begin(struct cf_launcher_lines *l) {
    free(l->last);
    l->last = NULL;
    l->n_last = l->n_line = l->n_block = 0;
    l->spoke = l->has_status = l->asked = l->passed_block = l->in_block = l->unstarted = false;
    l->verdict[0] = '\0';
}

static void pass_on(struct cf_launcher_lines *l, const char *text, size_t n) {
    cf_bar_clear(&l->bar);
    if (l->text_mid_line) fputc('\n', stderr);
    l->text_mid_line = false;
    fwrite(text, 1, n, stderr);
    fputc('\n', stderr);
    fflush(stderr);
}

static void on_progress(struct cf_launcher_lines *l, const char *text) {
    char *label;
    double fraction = strtod(text, &label);
    cf_bar_draw(&l->bar, fraction, label + (*label == ' '));
}

static void on_note(struct cf_launcher_lines *l, const char *text) {
    pass_on(l, text, strlen(text));
}

/* Said behind the end of the text: stdout and stderr come to the front in two pipes, in no order. */
static void on_last(struct cf_launcher_lines *l, const char *text) {
    size_t n = strlen(text);
    char *more = realloc(l->last, l->n_last + n + 1);
    if (!more) return;
    memcpy(more + l->n_last, text, n);
    more[l->n_last + n] = '\n';
    l->last = more;
    l->n_last += n + 1;
}

static void on_status(struct cf_launcher_lines *l, const char *text) {
    l->has_status = true;
    l->status = atoi(text) & 255;
}

static void on_ask(struct cf_launcher_lines *l, const char *text) {
    l->asked = true;
    snprintf(l->prompt, sizeof l->prompt, "%s", text);
}

static void on_style(struct cf_launcher_lines *l, const char *text) {
    l->dim = !strcmp(text, "dim");
}

static const struct event {
    const char *word;
    void (*act)(struct cf_launcher_lines *l, const char *text);
} events[] = {{"progress", on_progress}, {"note", on_note}, {"last", on_last}, {"status", on_status}, {"ask", on_ask},
    {"style", on_style}};

/* An unknown word is somebody else's, or dropped: a newer program may say more. */
static void on_event(struct cf_launcher_lines *l, const char *line) {
    size_t n = strcspn(line, " ");
    l->spoke = true;
    const char *text = line + n + (line[n] == ' ');
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (strlen(events[i].word) != n || strncmp(events[i].word, line, n)) continue;
        events[i].act(l, text);
        return;
    }
    if (l->other) l->other(l->ctx, line, text);
}

/* "... process rank 1 with PID 77 on node h2 exited on signal 9 (Killed)." */
static void on_death(struct cf_launcher_lines *l, const char *block) {
    const char *at = strstr(block, "process rank ");
    char node[128], how[128];
    long rank, pid;
    if (at && sscanf(at, "process rank %ld with PID %ld on node %127s exited on %127[^.]", &rank, &pid, node, how) == 4)
        snprintf(l->verdict, sizeof l->verdict, "rank %ld on %s died: %s", rank, node, how);
    else
        snprintf(l->verdict, sizeof l->verdict, "a rank died");
}

/* "Process name: [[38493,1],0] Exit code: 3" */
static void on_exit_code(struct cf_launcher_lines *l, const char *block) {
    const char *at = strstr(block, "Process name: [[");
    long job, part, rank;
    int code;
    if (*l->verdict) return;
    if (at && sscanf(at, "Process name: [[%ld,%ld],%ld] Exit code: %d", &job, &part, &rank, &code) == 4)
        snprintf(l->verdict, sizeof l->verdict, "rank %ld ended with exit status %d", rank, code);
}

static void on_abort(struct cf_launcher_lines *l, const char *block) {
    const char *at = strstr(block, "invoked on rank ");
    long rank;
    if (!*l->verdict && at && sscanf(at, "invoked on rank %ld", &rank) == 1)
        snprintf(l->verdict, sizeof l->verdict, "rank %ld ended the run", rank);
}

/* "ORTE has lost communication with a remote daemon. ... Remote daemon: [[56,0],2] on node h2" */
static void on_lost_daemon(struct cf_launcher_lines *l, const char *block) {
    const char *at = strstr(block, "Remote daemon:");
    char node[128];
    if (at && sscanf(at, "Remote daemon: %*s on node %127s", node) == 1)
        snprintf(l->verdict, sizeof l->verdict, "mpirun has lost its daemon on host %s", node);
    else
        snprintf(l->verdict, sizeof l->verdict, "mpirun has lost a daemon");
}

static void on_empty(struct cf_launcher_lines *l, const char *block) {
    (void)l, (void)block;
}

/* mpirun's blocks that only repeat how a rank ended. */
static const struct verdict {
    const char *phrase;
    void (*act)(struct cf_launcher_lines *l, const char *block);
} verdicts[] = {
    {"noticed that process rank", on_death},
    {"processes exited with non-zero status", on_exit_code},
    {"MPI_ABORT was invoked on rank", on_abort},
    {"Primary job terminated normally, but", on_empty},
    {"exited on signal", on_death},
    {"has lost communication with a remote daemon", on_lost_daemon},
};

/* Single lines of mpirun that nobody needs. */
static const char *const noise[] = {": Forwarding signal ", "mpirun: killing job...",
    "more processes have sent help message", "more process has sent help message", "orte/util/show_help.c at line",
    "Set MCA parameter \"orte_base_help_aggregate\"", "plm:rsh: Warning: setpgid("};

/* mpirun wraps its sentences: compare them on one line with single spaces. */
static void unwrap(char *out, const char *in) {
    char *start = out;
    for (; *in; in++) {
        char c = *in == '\n' ? ' ' : *in;
        if (c != ' ' || (out > start && out[-1] != ' ')) *out++ = c;
    }
    *out = '\0';
}

static void end_block(struct cf_launcher_lines *l) {
    char text[sizeof l->block];
    l->block[l->n_block] = '\0';
    unwrap(text, l->block);
    size_t n = l->n_block;
    l->in_block = false;
    l->n_block = 0;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        if (!strstr(text, verdicts[i].phrase)) continue;
        verdicts[i].act(l, text);
        return;
    }
    if (!n) return;
    l->unstarted |= strstr(text, "unable to reliably start one or more daemons") != NULL;
    pass_on(l, l->block, n - (l->block[n - 1] == '\n'));
    l->passed_block = true;
}

static bool is_row_of_dashes(const char *line) {
    size_t n = strspn(line, "-");
    return n >= DASHES && !line[n];
}

static void add_to_block(struct cf_launcher_lines *l) {
    if (l->n_line + 2 > sizeof l->block - l->n_block) {
        end_block(l); /* no verdict is that long */
        l->in_block = true;
    }
    memcpy(l->block + l->n_block, l->line, l->n_line);
    l->n_block += l->n_line;
    l->block[l->n_block++] = '\n';
}

static void end_line(struct cf_launcher_lines *l) {
    if (l->n_line && l->line[l->n_line - 1] == '\r') l->n_line--;
    l->line[l->n_line] = '\0';
    if (l->line[0] == CF_EVENT_MARK) {
        on_event(l, l->line + 1);
    } else if (is_row_of_dashes(l->line)) {
        if (l->in_block)
            end_block(l);
        else
            l->in_block = true;
    } else if (l->in_block) {
        add_to_block(l);
    } else {
        bool is_noise = false;
        for (size_t i = 0; i < sizeof noise / sizeof *noise; i++)
            is_noise |= strstr(l->line, noise[i]) != NULL;
        if (!is_noise) pass_on(l, l->line, l->n_line);
    }
    l->n_line = 0;
}

void cf_launcher_push(struct cf_launcher_lines *l, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool is_event = bytes[i] == CF_EVENT_MARK;
        if (bytes[i] == '\n' || (is_event && l->n_line) || l->n_line == sizeof l->line - 1) end_line(l);
        if (bytes[i] != '\n') l->line[l->n_line++] = bytes[i];
    }
}

void cf_launcher_end(struct cf_launcher_lines *l) {
    if (l->n_line) end_line(l);
    if (l->in_block && l->n_block) end_block(l);
    cf_bar_clear(&l->bar);
    if (l->n_last) pass_on(l, l->last, l->n_last - 1);
    free(l->last);
    l->last = NULL;
    l->n_last = 0;
}
