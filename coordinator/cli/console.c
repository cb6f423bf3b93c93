/* See console.h. */
#include "coordinator/cli/console.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY = 1000 };

struct cf_console {
    struct cf_console_options o;
    EditLine *el;
    History *history;
    char prompt[32];
    char *line;
    bool interrupted;
    mbstate_t state; /* of the character that is arriving */
};

static char *prompt_of(EditLine *el) {
    struct cf_console *c = NULL;
    el_get(el, EL_CLIENTDATA, &c);
    return c->prompt;
}

/* One character. Returns 1, 0 at the end, -1 when interrupted; libedit then gives the line up. */
static int read_key(EditLine *el, wchar_t *key) {
    struct cf_console *c = NULL;
    el_get(el, EL_CLIENTDATA, &c);
    for (;;) {
        int ready = c->o.wait(c->o.ctx, STDIN_FILENO);
        if (ready == 0) c->interrupted = true;
        if (ready <= 0) return ready == 0 ? -1 : 0;
        char byte;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return 0;
        size_t got = mbrtowc(key, &byte, 1, &c->state);
        if (got == (size_t)-2) continue;
        if (got == (size_t)-1) { /* not a character of this encoding */
            c->state = (mbstate_t){0};
            *key = L'?';
        }
        return 1;
    }
}

/* Lines are UTF-8 whatever the user's locale is. */
static void choose_locale(void) {
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
}

int cf_console_open(struct cf_console **out, const struct cf_console_options *o, struct cf_error *e) {
    struct cf_console *c = *out = calloc(1, sizeof *c);
    if (!c) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    c->o = *o;
    choose_locale();
    c->el = el_init("coffer", stdin, isatty(STDOUT_FILENO) ? stdout : stderr, stderr);
    c->history = history_init();
    if (!c->el || !c->history) {
        cf_console_close(c);
        *out = NULL;
        return cf_fail(e, CF_ERR_SYSTEM, "libedit cannot use this terminal");
    }
    HistEvent event;
    history(c->history, &event, H_SETSIZE, HISTORY);
    history(c->history, &event, H_SETUNIQUE, 1);
    el_set(c->el, EL_CLIENTDATA, c);
    el_set(c->el, EL_PROMPT, prompt_of);
    el_set(c->el, EL_EDITOR, "emacs");
    el_set(c->el, EL_HIST, history, c->history);
    el_set(c->el, EL_GETCFN, read_key);
    el_set(c->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(c->el, NULL); /* the user's ~/.editrc */
    return 0;
}

void cf_console_close(struct cf_console *c) {
    if (!c) return;
    if (c->history) history_end(c->history);
    if (c->el) el_end(c->el);
    free(c->line);
    free(c);
}

enum cf_console_end cf_console_read(struct cf_console *c, const char *prompt, const char **line, bool *empty) {
    int n = 0;
    snprintf(c->prompt, sizeof c->prompt, "%s", prompt);
    c->interrupted = false;
    c->state = (mbstate_t){0};
    el_set(c->el, EL_PREP_TERM, 1); /* before the prompt: who sees it may type */
    const char *got = el_gets(c->el, &n);
    if (!got || n <= 0) {
        const LineInfo *info = el_line(c->el);
        *empty = info->lastchar == info->buffer;
        el_reset(c->el);
        return c->interrupted ? CF_CONSOLE_INTERRUPT : CF_CONSOLE_EOF;
    }
    free(c->line);
    c->line = strdup(got);
    if (!c->line) return CF_CONSOLE_EOF;
    c->line[strcspn(c->line, "\n")] = '\0';
    *empty = !*c->line;
    *line = c->line;
    HistEvent event;
    if (*c->line) history(c->history, &event, H_ENTER, c->line);
    return CF_CONSOLE_LINE;
}

void cf_console_redraw(struct cf_console *c) {
    el_resize(c->el);
    el_set(c->el, EL_REFRESH);
}
