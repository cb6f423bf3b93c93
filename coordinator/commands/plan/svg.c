/* See svg.h. */
#include "coordinator/commands/plan/svg.h"

#include <string.h>

void cf__svg_begin(FILE *to, double width, double height) {
    fprintf(to,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n"
        "<style>text{font-family:'DejaVu Sans Mono','Liberation Mono',Menlo,Consolas,monospace;font-size:11px;"
        "fill:#20262c;white-space:pre}.h{font-size:15px;font-weight:bold}.b{font-weight:bold}.dim{fill:#a0a6ac}"
        "</style>\n"
        "<defs><marker id=\"tip\" markerWidth=\"9\" markerHeight=\"8\" refX=\"8\" refY=\"4\" orient=\"auto\">"
        "<path d=\"M0,0 L9,4 L0,8 z\" fill=\"#c23b22\"/></marker></defs>\n"
        "<rect width=\"%.0f\" height=\"%.0f\" fill=\"#ffffff\"/>\n",
        width, height, width, height, width, height);
}

void cf__svg_finish(FILE *to) {
    fputs("</svg>\n", to);
}

void cf__svg_box(FILE *to, double x, double y, double w, double h, const char *fill, const char *border) {
    if (w <= 0) return;
    fprintf(to, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" stroke=\"%s\"/>\n", x, y, w, h,
        fill, border);
}

/* ASCII as it is, the rest as question marks: names of files are anything. */
static void put_text(FILE *to, const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '<')
            fputs("&lt;", to);
        else if (c == '>')
            fputs("&gt;", to);
        else if (c == '&')
            fputs("&amp;", to);
        else
            fputc(c >= 32 && c < 127 ? c : '?', to);
    }
}

static void put(FILE *to, double x, double y, const char *kind, const char *anchor, const char *text) {
    fprintf(
        to, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\" xml:space=\"preserve\">", x, y, kind, anchor);
    put_text(to, text);
    fputs("</text>\n", to);
}

void cf__svg_text(FILE *to, double x, double y, const char *kind, const char *text) {
    put(to, x, y, kind, "start", text);
}

void cf__svg_end(FILE *to, double x, double y, const char *text) {
    put(to, x, y, "t", "end", text);
}

void cf__svg_middle(FILE *to, double x, double y, const char *text) {
    put(to, x, y, "t", "middle", text);
}

double cf__svg_width(const char *text, bool title) {
    return (double)strlen(text) * (title ? CF__SVG_TITLE_LETTER : CF__SVG_LETTER);
}

void cf__svg_line(FILE *to, double (*points)[2], int n, const char *colour) {
    fprintf(to, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", colour);
    for (int i = 0; i < n; i++)
        fprintf(to, "%s%.1f,%.1f", i ? " " : "", points[i][0], points[i][1]);
    fputs("\"/>\n", to);
}

void cf__svg_arrow(FILE *to, double x0, double y0, double x1, double y1) {
    double points[2][2] = {{x0, y0}, {x1, y1}};
    cf__svg_way(to, points, 2);
}

void cf__svg_way(FILE *to, double (*points)[2], int n) {
    fputs("<polyline fill=\"none\" stroke=\"#c23b22\" stroke-width=\"1.5\" marker-end=\"url(#tip)\" points=\"", to);
    for (int i = 0; i < n; i++)
        fprintf(to, "%s%.1f,%.1f", i ? " " : "", points[i][0], points[i][1]);
    fputs("\"/>\n", to);
}
