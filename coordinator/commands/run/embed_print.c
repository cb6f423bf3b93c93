/* See embed_print.h. */
#include "coordinator/commands/run/embed_print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/decode/embed.h"

enum { SHOWN = 16, ENDS = 3, LABEL = 6 };

static const float *row_of(const struct cf__embed_table *t, uint64_t i) {
    return t->rows + i * t->n_embd;
}

static void numbers(FILE *out, const struct cf__embed_table *t, uint64_t row, const char *between) {
    for (uint32_t i = 0; i < t->n_embd; i++)
        fprintf(out, "%s%.*f", i ? between : "", t->whole ? 0 : 7, (double)row_of(t, row)[i]);
}

static double similarity(const struct cf__embed_table *t, uint64_t a, uint64_t b) {
    return cf_embed_similarity(row_of(t, a), row_of(t, b), t->n_embd);
}

static void print_raw(FILE *out, const struct cf__embed_table *t) {
    for (uint64_t i = 0; i < t->n_rows; i++, fputc('\n', out))
        numbers(out, t, i, " ");
}

static void print_array(FILE *out, const struct cf__embed_table *t) {
    for (uint64_t i = 0; i < t->n_rows; i++) {
        fputs(i ? ",[" : "[[", out);
        numbers(out, t, i, ",");
        fputc(']', out);
    }
    fputs("]\n", out);
}

static void print_vectors(FILE *out, const struct cf__embed_table *t) {
    fputs("{\n  \"object\": \"list\",\n  \"data\": [\n", out);
    for (uint64_t i = 0; i < t->n_rows; i++) {
        fprintf(out, "%s    {\n      \"object\": \"embedding\",\n      \"index\": %llu,\n      \"embedding\": [",
            i ? ",\n" : "", (unsigned long long)i);
        numbers(out, t, i, ",");
        fputs("]\n    }", out);
    }
    fputs("\n  ]", out);
}

static void print_json(FILE *out, const struct cf__embed_table *t) {
    print_vectors(out, t);
    fputs("\n}\n", out);
}

static void print_json_more(FILE *out, const struct cf__embed_table *t) {
    print_vectors(out, t);
    if (t->n_rows > 1) fputs(",\n  \"cosineSimilarity\": [\n", out);
    for (uint64_t i = 0; i < t->n_rows && t->n_rows > 1; i++) {
        for (uint64_t j = 0; j < t->n_rows; j++)
            fprintf(out, "%s%6.2f", j ? ", " : "    [", similarity(t, i, j));
        fputs(i + 1 < t->n_rows ? " ],\n" : " ]\n  ]", out);
    }
    fputs("\n}\n", out);
}

static void cell(FILE *out, const struct cf__embed_table *t, float x) {
    fprintf(out, t->whole ? "%6.0f " : "%9.6f ", (double)x);
}

/* The first bytes of a text's first line. */
static int label(const char *text, int most) {
    int n = (int)strcspn(text, "\n");
    return n < most ? n : most;
}

static void print_table(FILE *out, const struct cf__embed_table *t) {
    for (uint64_t i = 0; i < t->n_rows; i++, fputc('\n', out)) {
        fprintf(out, "embedding %llu: ", (unsigned long long)i);
        uint32_t shown = !t->texts ? ENDS : t->n_rows > 1 ? SHOWN : t->n_embd;
        for (uint32_t k = 0; k < shown && k < t->n_embd; k++)
            cell(out, t, row_of(t, i)[k]);
        if (!t->texts) fputs(" ... ", out);
        for (uint32_t k = t->n_embd > ENDS ? t->n_embd - ENDS : 0; k < t->n_embd && !t->texts; k++)
            cell(out, t, row_of(t, i)[k]);
    }
    if (!t->texts || t->n_rows < 2) return;
    fputs("\ncosine similarity matrix:\n\n", out);
    for (uint64_t i = 0; i < t->n_rows; i++)
        fprintf(out, "%6.*s ", label(t->texts[i], LABEL), t->texts[i]);
    for (uint64_t i = 0; i < t->n_rows; i++) {
        fputc('\n', out);
        for (uint64_t j = 0; j < t->n_rows; j++)
            fprintf(out, "%6.2f ", similarity(t, i, j));
        fprintf(out, "%.*s", label(t->texts[i], 10), t->texts[i]);
    }
    fputc('\n', out);
}

static const struct {
    const char *name;
    void (*print)(FILE *out, const struct cf__embed_table *t);
} formats[] = {
    {"", print_table}, {"array", print_array}, {"json", print_json}, {"json+", print_json_more}, {"raw", print_raw}};

bool cf__embed_knows(const char *format) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(format, formats[i].name)) return true;
    return false;
}

int cf__embed_print(
    const struct cf__embed_table *t, const char *format, struct cf_terminal *terminal, struct cf_error *e) {
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out) return cf_fail(e, CF_ERR_MEMORY, "no memory for the output");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(format, formats[i].name)) formats[i].print(out, t);
    int rc = fclose(out) ? cf_fail(e, CF_ERR_MEMORY, "no memory for the output") : 0;
    if (!rc) rc = cf_terminal_text(terminal, text, n, e);
    free(text);
    return rc;
}
