/* See bar.h. */
#include "coordinator/cli/bar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CELLS = 40, REDRAW_MS = 100, LINE_MS = 5000 /* where there is no bar: at most a line for each tenth */ };

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

size_t cf_bar_phase(const char *label) {
    struct cf_bar b;
    size_t n = strcspn(label, "\t");
    return n < sizeof b.label ? n : sizeof b.label - 1;
}

void cf_bar_open(struct cf_bar *b) {
    const char *term = getenv("TERM");
    memset(b, 0, sizeof *b);
    b->is_terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

void cf_bar_clear(struct cf_bar *b) {
    if (!b->drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    b->drawn = false;
}

void cf_bar_draw(struct cf_bar *b, double fraction, const char *label) {
    size_t phase = cf_bar_phase(label);
    bool is_new = phase != strlen(b->label) || strncmp(b->label, label, phase) != 0;
    snprintf(b->label, sizeof b->label, "%.*s", (int)phase, label);
    if (!b->is_terminal) {
        int tenth = fraction > 0 ? (int)(fraction * 10) : 0;
        int64_t now = now_ms();
        if (is_new && *label) {
            fprintf(stderr, "coffer: %s\n", b->label);
            b->last_ms = now, b->tenth = tenth;
        } else if (tenth > b->tenth && tenth < 10 && now - b->last_ms >= LINE_MS) {
            fprintf(stderr, "coffer: %s: %d %%%s%s\n", b->label, 10 * tenth, label[phase] ? ", " : "",
                label[phase] ? label + phase + 1 : "");
            b->last_ms = now, b->tenth = tenth;
        }
        return;
    }
    if (fraction >= 1) {
        cf_bar_clear(b);
        b->last_ms = 0;
        return;
    }
    int64_t now = now_ms();
    if (!is_new && b->last_ms && now - b->last_ms < REDRAW_MS) return;
    int full = fraction > 0 ? (int)(fraction * CELLS) : 0;
    char cells[CELLS + 1];
    memset(cells, '-', CELLS);
    memset(cells, '#', (size_t)full);
    cells[CELLS] = '\0';
    fprintf(stderr, "\r\033[K[%s] %3d %% %s%s%s", cells, fraction > 0 ? (int)(fraction * 100) : 0, b->label,
        label[phase] ? ", " : "", label[phase] ? label + phase + 1 : "");
    fflush(stderr);
    b->drawn = true;
    b->last_ms = now;
}
