/* The tensor table of one GGUF file. When it has been read, every tensor is known to have a size, to lie inside its
 * file and to share no byte with another: whoever reads tensor bytes later has nothing left to check. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/gguf/internal.h"

/* Sizes of all types that ggml defines, for the table; most need no decoder here. Numbers without a row were retired.
 */
static const struct size {
    uint16_t block, bytes;
} sizes[] = {
    [0] = {1, 4},      /* F32 */
    [1] = {1, 2},      /* F16 */
    [2] = {32, 18},    /* Q4_0 */
    [3] = {32, 20},    /* Q4_1 */
    [6] = {32, 22},    /* Q5_0 */
    [7] = {32, 24},    /* Q5_1 */
    [8] = {32, 34},    /* Q8_0 */
    [9] = {32, 36},    /* Q8_1 */
    [10] = {256, 84},  /* Q2_K */
    [11] = {256, 110}, /* Q3_K */
    [12] = {256, 144}, /* Q4_K */
    [13] = {256, 176}, /* Q5_K */
    [14] = {256, 210}, /* Q6_K */
    [15] = {256, 292}, /* Q8_K */
    [16] = {256, 66},  /* IQ2_XXS */
    [17] = {256, 74},  /* IQ2_XS */
    [18] = {256, 98},  /* IQ3_XXS */
    [19] = {256, 50},  /* IQ1_S */
    [20] = {32, 18},   /* IQ4_NL */
    [21] = {256, 110}, /* IQ3_S */
    [22] = {256, 82},  /* IQ2_S */
    [23] = {256, 136}, /* IQ4_XS */
    [24] = {1, 1},     /* I8 */
    [25] = {1, 2},     /* I16 */
    [26] = {1, 4},     /* I32 */
    [27] = {1, 8},     /* I64 */
    [28] = {1, 8},     /* F64 */
    [29] = {256, 56},  /* IQ1_M */
    [30] = {1, 2},     /* BF16 */
    [34] = {256, 54},  /* TQ1_0 */
    [35] = {256, 66},  /* TQ2_0 */
    [39] = {32, 17},   /* MXFP4 */
};

static int size_of(struct cf__scan *c, struct cf_gguf_tensor *t) {
    if (t->type >= sizeof sizes / sizeof *sizes || !sizes[t->type].block) {
        const char *name = cf_type_name(t->type);
        return cf__bad(
            c, CF_ERR_UNSUPPORTED, "unknown tensor type %" PRIu32 "%s%s", t->type, name ? ", " : "", name ? name : "");
    }
    const struct size s = sizes[t->type];
    if (t->ne[0] % s.block) {
        return cf__bad(c, CF_ERR_FORMAT, "rows of %" PRIu64 " elements, but type %s comes in blocks of %u", t->ne[0],
            cf_type_name(t->type) ? cf_type_name(t->type) : "?", s.block);
    }
    uint64_t elements = t->ne[0];
    t->bytes = t->row_bytes = 0;
    bool over = __builtin_mul_overflow(t->ne[0] / s.block, (uint64_t)s.bytes, &t->row_bytes);
    t->bytes = t->row_bytes;
    for (int i = 1; i < 4; i++) {
        over |= __builtin_mul_overflow(elements, t->ne[i], &elements);
        over |= __builtin_mul_overflow(t->bytes, t->ne[i], &t->bytes);
    }
    if (over || elements > INT64_MAX || t->bytes > INT64_MAX) {
        return cf__bad(c, CF_ERR_FORMAT,
            "dimensions %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64 " overflow 64 bits", t->ne[0], t->ne[1],
            t->ne[2], t->ne[3]);
    }
    return 0;
}

static int take_tensor(struct cf__scan *c, size_t number, struct cf_gguf_tensor *t) {
    struct cf_gguf_string name;
    char shown[100];
    snprintf(c->field, sizeof c->field, "name of tensor %zu", number);
    if (cf__take_string(c, CF__MAX_NAME, &name)) return -1;
    if (name.length == 0) return cf__bad(c, CF_ERR_FORMAT, "a name of length zero");
    if (memchr(name.text, 0, name.length)) return cf__bad(c, CF_ERR_FORMAT, "a name with a NUL byte");
    snprintf(c->field, sizeof c->field, "tensor %s", cf__printable(shown, sizeof shown, name.text, name.length));
    t->name = name.text;
    if (cf__take(c, &t->n_dims, sizeof t->n_dims)) return -1;
    if (t->n_dims < 1 || t->n_dims > 4)
        return cf__bad(c, CF_ERR_FORMAT, "%" PRIu32 " dimensions; 1 to 4 are allowed", t->n_dims);
    for (uint32_t i = 0; i < 4; i++) {
        t->ne[i] = 1;
        if (i < t->n_dims && cf__take(c, &t->ne[i], sizeof t->ne[i])) return -1;
        if (t->ne[i] == 0) return cf__bad(c, CF_ERR_FORMAT, "dimension %" PRIu32 " is zero", i);
    }
    if (cf__take(c, &t->type, sizeof t->type) || size_of(c, t)) return -1;
    return cf__take(c, &t->offset, sizeof t->offset);
}

int cf__read_tensors(struct cf__scan *c, struct cf_gguf *g, uint32_t file, uint64_t n) {
    /* n is bounded by the caller, the number of files too: the sum cannot overflow. */
    size_t total = g->n_tensors + (size_t)n;
    struct cf_gguf_tensor *grown = realloc(g->tensors, (total + 1) * sizeof *grown);
    if (!grown) return cf__bad(c, CF_ERR_MEMORY, "no memory for %zu tensors", total);
    g->tensors = grown;
    for (size_t i = 0; i < n; i++) {
        struct cf_gguf_tensor *t = &g->tensors[g->n_tensors];
        *t = (struct cf_gguf_tensor){.file = file};
        if (take_tensor(c, i, t)) return -1;
        g->n_tensors++;
    }
    return 0;
}

static int by_offset(const void *a, const void *b) {
    const struct cf_gguf_tensor *x = *(const struct cf_gguf_tensor *const *)a;
    const struct cf_gguf_tensor *y = *(const struct cf_gguf_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_apart(struct cf__scan *c, const struct cf_gguf_tensor *tensors, size_t n) {
    const struct cf_gguf_tensor **sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) return cf__bad(c, CF_ERR_MEMORY, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, n, sizeof *sorted, by_offset);
    int status = 0;
    for (size_t i = 1; i < n && !status; i++) {
        if (sorted[i]->offset - sorted[i - 1]->offset >= sorted[i - 1]->bytes) continue;
        char a[80], b[80];
        snprintf(c->field, sizeof c->field, "tensor %s",
            cf__printable(a, sizeof a, sorted[i]->name, strlen(sorted[i]->name)));
        status = cf__bad(c, CF_ERR_FORMAT, "offset: its bytes overlap those of tensor %s",
            cf__printable(b, sizeof b, sorted[i - 1]->name, strlen(sorted[i - 1]->name)));
    }
    free(sorted);
    return status;
}

static int place(struct cf__scan *c, const struct cf__file *f, struct cf_gguf_tensor *t) {
    char shown[100];
    snprintf(c->field, sizeof c->field, "tensor %s", cf__printable(shown, sizeof shown, t->name, strlen(t->name)));
    if (t->offset % f->alignment)
        return cf__bad(
            c, CF_ERR_FORMAT, "offset %" PRIu64 " is no multiple of the alignment %" PRIu64, t->offset, f->alignment);
    uint64_t room = f->data < f->size ? f->size - f->data : 0;
    if (t->offset > room || t->bytes > room - t->offset) {
        return cf__bad(c, CF_ERR_FORMAT,
            "its %" PRIu64 " bytes at offset %" PRIu64 " lie beyond the end of the file (%" PRIu64
            " bytes, of which %" PRIu64 " hold tensors): truncated?",
            t->bytes, t->offset, f->size, room);
    }
    t->offset += f->data;
    return 0;
}

int cf__place_tensors(struct cf__scan *c, struct cf_gguf *g, uint32_t file, size_t first) {
    for (size_t i = first; i < g->n_tensors; i++) {
        if (place(c, &g->files[file], &g->tensors[i])) return -1;
    }
    return check_apart(c, g->tensors + first, g->n_tensors - first);
}
