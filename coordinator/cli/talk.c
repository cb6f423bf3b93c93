/* See talk.h. */
#include "coordinator/cli/talk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/terminal.h"

static bool has_colours(void) {
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0 && !(no && *no);
}

int cf_talk_open(struct cf_talk *t, bool talk, int (*wait)(void *ctx, int fd), void *ctx, struct cf_error *e) {
    memset(t, 0, sizeof *t);
    if (!talk) return 0;
    t->colours = has_colours();
    struct cf_console_options o = {wait, ctx};
    return cf_console_open(&t->console, &o, e);
}

void cf_talk_close(struct cf_talk *t) {
    if (t->is_dim) (void)!write(STDOUT_FILENO, "\x1b[0m", 4);
    cf_console_close(t->console);
    t->console = NULL;
}

bool cf_talk_fill(struct cf_talk *t, int fd) {
    ssize_t n = read(fd, t->raw + t->n, sizeof t->raw - t->n);
    if (n < 0 && errno == EINTR) return true;
    if (n > 0) t->n += (size_t)n;
    return n > 0;
}

/* Dim or not, from here on. */
static void style(struct cf_talk *t, const struct cf_launcher_lines *l) {
    if (!t->colours || t->is_dim == l->dim) return;
    t->is_dim = l->dim;
    (void)!write(STDOUT_FILENO, l->dim ? "\x1b[2m" : "\x1b[0m", 4);
}

static void take(struct cf_talk *t, size_t n) {
    t->n -= n;
    memmove(t->raw, t->raw + n, t->n);
}

size_t cf_talk_next(struct cf_talk *t, struct cf_launcher_lines *l, char *text, size_t size) {
    while (t->n && t->raw[0] == CF_EVENT_MARK && !l->asked) {
        const char *end = memchr(t->raw, '\n', t->n);
        if (!end && t->n < sizeof t->raw) return 0;
        size_t n = end ? (size_t)(end - t->raw) + 1 : t->n;
        cf_launcher_push(l, t->raw, n);
        take(t, n);
        style(t, l);
    }
    if (l->asked) return 0;
    const char *mark = memchr(t->raw, CF_EVENT_MARK, t->n);
    size_t n = mark ? (size_t)(mark - t->raw) : t->n;
    if (n > size) n = size;
    memcpy(text, t->raw, n);
    take(t, n);
    return n;
}

/* The ranks read as they compute: they may take their time over a long line. */
static void send_line(const struct cf_launcher_process *p, const char *line) {
    size_t length = strlen(line);
    for (size_t n = 0; n <= length;) {
        ssize_t done = n < length ? write(p->in, line + n, length - n) : write(p->in, "\n", 1);
        if (done < 0 && errno != EINTR) return; /* they are gone: the loop will see it */
        if (done > 0) n += (size_t)done;
    }
}

void cf_talk_answer(struct cf_talk *t, struct cf_launcher_lines *l, struct cf_launcher_process *p) {
    const char *line = "";
    bool empty = true;
    if (l->text_mid_line) (void)!write(STDOUT_FILENO, "\n", 1);
    t->reading = true;
    enum cf_console_end end = cf_console_read(t->console, l->prompt, &line, &empty);
    t->reading = false;
    l->text_mid_line = false;
    if (end != CF_CONSOLE_LINE) fputc('\n', isatty(STDOUT_FILENO) ? stdout : stderr);
    fflush(NULL);
    if (end == CF_CONSOLE_LINE) {
        send_line(p, line);
    } else if (end == CF_CONSOLE_INTERRUPT) {
        send_line(p, empty ? CF_TALK_NOTHING : CF_TALK_FORGET);
    } else if (p->in >= 0) {
        close(p->in);
        p->in = -1;
    }
}

void cf_talk_redraw(struct cf_talk *t) {
    if (t->reading) cf_console_redraw(t->console);
}
