/* Private to the commands that draw: the few things that drawings consist of, as SVG. Text is in a font whose letters
 * are all equally wide. Anything may stand in a text: what would not be XML is written otherwise. */
#ifndef COFFER_COORDINATOR_COMMANDS_SVG_H
#define COFFER_COORDINATOR_COMMANDS_SVG_H

#include <stdbool.h>
#include <stdio.h>

/* Width of a letter, at most; that of titles. */
#define CF__SVG_LETTER 6.7
#define CF__SVG_TITLE_LETTER 9.2

void cf__svg_begin(FILE *to, double width, double height);
void cf__svg_finish(FILE *to);

void cf__svg_box(FILE *to, double x, double y, double w, double h, const char *fill, const char *border);
/* kind: "h" title, "b" bold, "t" plain, "dim". From x, to x, or about x. */
void cf__svg_text(FILE *to, double x, double y, const char *kind, const char *text);
void cf__svg_end(FILE *to, double x, double y, const char *text);
void cf__svg_middle(FILE *to, double x, double y, const char *text);
double cf__svg_width(const char *text, bool title);

/* Along the points, without an arrow. */
void cf__svg_line(FILE *to, double (*points)[2], int n, const char *colour);
void cf__svg_arrow(FILE *to, double x0, double y0, double x1, double y1);
/* Along the points, an arrow at the last one. */
void cf__svg_way(FILE *to, double (*points)[2], int n);

#endif
