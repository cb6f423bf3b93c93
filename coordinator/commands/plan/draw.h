/* Private to `coffer plan`: a plan as a drawing (SVG). Hosts are boxes, in them a box for each coffer with what it
 * holds of each domain; arrows are what a token sends from host to host.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_DRAW_H
#define COFFER_COORDINATOR_COMMANDS_DRAW_H

#include "coordinator/commands/plan/subject.h"

struct cf__drawing {
    const struct cf__subject *s;
    const struct cf_plan *plan;
    const char *lines[3];  /* the head, the first as a title */
    const double *traffic; /* [n_hosts][n_hosts] bytes per token from (row) to (column); diagonal: within the host */
};

/* Writes the whole file. */
int cf__draw_plan(const char *path, const struct cf__drawing *d, struct cf_error *e);

#endif
