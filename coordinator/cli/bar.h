/* One progress bar on stderr. On a terminal it is redrawn in place and vanishes when done; elsewhere every phase gets
 * one line when it begins, and another one for each tenth, if it is a long one. Whoever owns the terminal owns the bar:
 * an in-place run (terminal.c) or the front process (front.c).
 */
#ifndef COFFER_COORDINATOR_CLI_BAR_H
#define COFFER_COORDINATOR_CLI_BAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cf_bar {
    bool is_terminal; /* may be redrawn */
    bool drawn;       /* stands on the screen now */
    int64_t last_ms;  /* when it was last drawn: ten times a second at most */
    int tenth;        /* of the phase, when it was last drawn */
    char label[64];   /* the phase it is in */
};

/* A label is the name of a phase ("loading"), and may go on, behind a tab, with what changes in it ("1.2 of 4.2 GB").
 * Length of the name. */
size_t cf_bar_phase(const char *label);

/* Asks whether stderr is a terminal that can redraw a line. */
void cf_bar_open(struct cf_bar *b);

/* fraction 0..1 (NaN counts as 0); 1 or more ends the phase and takes the bar away. */
void cf_bar_draw(struct cf_bar *b, double fraction, const char *label);

/* Takes the bar off the screen before something else is written; the next draw brings it back. */
void cf_bar_clear(struct cf_bar *b);

#endif
