/* See talk.h. */
#include "coordinator/cli/talk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/terminal.h"

enum { PIECE = 65536 };

static bool has_colours(void) {
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0 && !(no && *no);
}

int cf_talk_open(struct cf_talk *t, bool talk, int (*wait)(void *ctx, int fd), void *ctx, struct cf_error *e) {
    memset(t, 0, sizeof *t);
    t->wait = wait;
    t->ctx = ctx;
    if (!talk) return 0;
    t->colours = has_colours();
    struct cf_console_options o = {wait, ctx};
    return cf_console_open(&t->console, &o, e);
}

void cf_talk_close(struct cf_talk *t) {
    if (t->is_dim) (void)!write(STDOUT_FILENO, "\x1b[0m", 4);
    cf_console_close(t->console);
    t->console = NULL;
    free(t->input);
    t->input = NULL;
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

static int hex(char c) {
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

/* See escape() in terminal.c. */
static size_t unescape(char *to, size_t size, const char *line, size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < n && at < size; i++) {
        if (line[i] != '\\' || i + 1 == n)
            to[at++] = line[i];
        else if (line[++i] == 'x' && i + 2 < n)
            to[at++] = (char)(16 * hex(line[i + 1]) + hex(line[i + 2])), i += 2;
        else
            to[at++] = line[i] == 'n' ? '\n' : line[i];
    }
    return at;
}

/* What is no event is not of rank 0: mpirun or somebody on the way to another host has spoken. */
static void pass_foreign(struct cf_talk *t, struct cf_launcher_lines *l) {
    const char *mark = memchr(t->raw, CF_EVENT_MARK, t->n);
    size_t n = mark ? (size_t)(mark - t->raw) : t->n;
    cf_launcher_push(l, t->raw, n);
    take(t, n);
}

size_t cf_talk_next(struct cf_talk *t, struct cf_launcher_lines *l, char *text, size_t size) {
    static const char word[] = {CF_EVENT_MARK, 't', 'e', 'x', 't', ' '};
    while (t->n && !l->asked) {
        if (t->raw[0] != CF_EVENT_MARK) {
            pass_foreign(t, l);
            continue;
        }
        const char *end = memchr(t->raw, '\n', t->n);
        if (!end && t->n < sizeof t->raw) return 0;
        size_t n = end ? (size_t)(end - t->raw) + 1 : t->n, got = 0;
        const char *other = memchr(t->raw + 1, CF_EVENT_MARK, n - 1);
        if (other) n = (size_t)(other - t->raw); /* the end of this one was never written */
        if (!other && end && n > sizeof word && !memcmp(t->raw, word, sizeof word))
            got = unescape(text, size, t->raw + sizeof word, n - 1 - sizeof word);
        else if (!other)
            cf_launcher_push(l, t->raw, n);
        take(t, n);
        style(t, l);
        if (got) return got;
    }
    return 0;
}

/* ---- lines ---- */

/* A line of a pipe or file, without its newline; what follows the last newline is one, too. */
static const char *plain_line(struct cf_talk *t, size_t *n) {
    t->n_input -= t->used;
    if (t->used) memmove(t->input, t->input + t->used, t->n_input); /* there may be no input yet, nor a place for it */
    t->used = 0;
    for (size_t looked = 0;;) {
        char *end = t->n_input > looked ? memchr(t->input + looked, '\n', t->n_input - looked) : NULL;
        looked = t->n_input;
        if (end || (t->at_end && looked)) {
            *n = end ? (size_t)(end - t->input) : looked;
            t->used = *n + (end ? 1 : 0);
            return t->input;
        }
        if (t->at_end || t->wait(t->ctx, STDIN_FILENO) <= 0) return NULL;
        if (t->room_input - t->n_input < PIECE) {
            char *more = realloc(t->input, 2 * t->room_input + PIECE);
            if (!more) return NULL;
            t->input = more;
            t->room_input = 2 * t->room_input + PIECE;
        }
        ssize_t got = read(STDIN_FILENO, t->input + t->n_input, PIECE);
        if (got > 0) t->n_input += (size_t)got;
        t->at_end = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
    }
}

static const char *typed_line(struct cf_talk *t, struct cf_launcher_lines *l, size_t *n) {
    const char *line = "";
    bool empty = true;
    if (l->text_mid_line) (void)!write(STDOUT_FILENO, "\n", 1);
    enum cf_console_end end = cf_console_read(t->console, l->prompt, &line, &empty);
    l->text_mid_line = false;
    if (end != CF_CONSOLE_LINE) fputc('\n', isatty(STDOUT_FILENO) ? stdout : stderr);
    fflush(NULL);
    if (end == CF_CONSOLE_INTERRUPT) line = empty ? CF_TALK_NOTHING : CF_TALK_FORGET;
    *n = strlen(line);
    return end == CF_CONSOLE_LINE || end == CF_CONSOLE_INTERRUPT ? line : NULL;
}

const char *cf_talk_line(struct cf_talk *t, struct cf_launcher_lines *l, size_t *n) {
    t->reading = true;
    const char *line = t->console ? typed_line(t, l, n) : plain_line(t, n);
    t->reading = false;
    return line;
}

void cf_talk_redraw(struct cf_talk *t) {
    if (t->reading && t->console) cf_console_redraw(t->console);
}
