/* Keys and values of one GGUF file: from the cursor into memory, and out of memory as the kind that a caller wants. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/gguf/internal.h"

static const struct kind {
    const char *name;
    uint8_t width; /* bytes in the file; 0: of variable length */
    char member;   /* of the union: u, i, f; 0: none */
} kinds[] = {
    [CF_GGUF_U8] = {"u8", 1, 'u'},
    [CF_GGUF_I8] = {"i8", 1, 'i'},
    [CF_GGUF_U16] = {"u16", 2, 'u'},
    [CF_GGUF_I16] = {"i16", 2, 'i'},
    [CF_GGUF_U32] = {"u32", 4, 'u'},
    [CF_GGUF_I32] = {"i32", 4, 'i'},
    [CF_GGUF_F32] = {"f32", 4, 'f'},
    [CF_GGUF_BOOL] = {"bool", 1, 'u'},
    [CF_GGUF_STRING] = {"string", 0, 0},
    [CF_GGUF_ARRAY] = {"array", 0, 0},
    [CF_GGUF_U64] = {"u64", 8, 'u'},
    [CF_GGUF_I64] = {"i64", 8, 'i'},
    [CF_GGUF_F64] = {"f64", 8, 'f'},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static int take_kind(struct cf__scan *c, const char *what, enum cf_gguf_kind *kind) {
    uint32_t k;
    if (cf__take(c, &k, sizeof k)) return -1;
    if (k >= N_KINDS) return cf__bad(c, CF_ERR_FORMAT, "unknown %s type %" PRIu32, what, k);
    *kind = (enum cf_gguf_kind)k;
    return 0;
}

static int take_scalar(struct cf__scan *c, struct cf_gguf_value *v) {
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        float f32;
        uint64_t u64;
        int64_t i64;
        double f64;
    } x = {0};
    if (cf__take(c, &x, kinds[v->kind].width)) return -1;
    switch (v->kind) {
    case CF_GGUF_I8: v->i = x.i8; break;
    case CF_GGUF_I16: v->i = x.i16; break;
    case CF_GGUF_I32: v->i = x.i32; break;
    case CF_GGUF_F32: v->f = (double)x.f32; break;
    case CF_GGUF_F64: v->f = x.f64; break;
    default: v->u = x.u64; /* the upper bytes are zero */
    }
    if (v->kind == CF_GGUF_BOOL && v->u > 1) return cf__bad(c, CF_ERR_FORMAT, "a bool of value %" PRIu64, v->u);
    return 0;
}

static int take_strings(struct cf__scan *c, struct cf_gguf_value *v) {
    struct cf_gguf_string *s = cf__pool_alloc(c->pool, v->count * sizeof *s, 16);
    if (!s) return cf__bad(c, CF_ERR_MEMORY, "no memory for %zu strings", v->count);
    for (size_t i = 0; i < v->count; i++) {
        if (cf__take_string(c, CF__MAX_STRING, &s[i])) return -1;
    }
    v->array = s;
    return 0;
}

static int take_numbers(struct cf__scan *c, struct cf_gguf_value *v) {
    size_t n = v->count * kinds[v->element].width;
    unsigned char *a = cf__pool_alloc(c->pool, n, 16);
    if (!a) return cf__bad(c, CF_ERR_MEMORY, "no memory for %zu numbers", v->count);
    if (cf__take(c, a, n)) return -1;
    for (size_t i = 0; v->element == CF_GGUF_BOOL && i < n; i++) {
        if (a[i] > 1) return cf__bad(c, CF_ERR_FORMAT, "a bool of value %u in element %zu", a[i], i);
    }
    v->array = a;
    return 0;
}

static int take_array(struct cf__scan *c, struct cf_gguf_value *v) {
    uint64_t count;
    if (take_kind(c, "array element", &v->element)) return -1;
    if (v->element == CF_GGUF_ARRAY) return cf__bad(c, CF_ERR_UNSUPPORTED, "an array of arrays");
    if (cf__take(c, &count, sizeof count)) return -1;
    if (count > CF__MAX_ARRAY)
        return cf__bad(
            c, CF_ERR_LIMIT, "an array of %" PRIu64 " elements; at most %d are allowed", count, CF__MAX_ARRAY);
    uint64_t least = v->element == CF_GGUF_STRING ? sizeof(uint64_t) : kinds[v->element].width;
    if (count > cf__left(c) / least) {
        return cf__bad(c, CF_ERR_FORMAT,
            "an array of %" PRIu64 " elements (%s), but only %" PRIu64 " bytes of the file are left", count,
            kinds[v->element].name, cf__left(c));
    }
    v->count = (size_t)count;
    return v->element == CF_GGUF_STRING ? take_strings(c, v) : take_numbers(c, v);
}

static int take_value(struct cf__scan *c, size_t number, struct cf_gguf_value *v) {
    struct cf_gguf_string key;
    char shown[100];
    snprintf(c->field, sizeof c->field, "key of value %zu", number);
    if (cf__take_string(c, CF__MAX_KEY, &key)) return -1;
    if (key.length == 0) return cf__bad(c, CF_ERR_FORMAT, "a key of length zero");
    if (memchr(key.text, 0, key.length)) return cf__bad(c, CF_ERR_FORMAT, "a key with a NUL byte");
    snprintf(c->field, sizeof c->field, "value %s", cf__printable(shown, sizeof shown, key.text, key.length));
    *v = (struct cf_gguf_value){.key = key.text, .count = 1};
    if (take_kind(c, "value", &v->kind)) return -1;
    if (v->kind == CF_GGUF_ARRAY) return take_array(c, v);
    if (v->kind == CF_GGUF_STRING) return cf__take_string(c, CF__MAX_STRING, &v->s);
    return take_scalar(c, v);
}

int cf__read_values(struct cf__scan *c, struct cf__file *f, uint64_t n) {
    /* n is bounded by the caller. */
    f->values = calloc((size_t)n + 1, sizeof *f->values);
    if (!f->values) return cf__bad(c, CF_ERR_MEMORY, "no memory for %" PRIu64 " values", n);
    for (f->n_values = 0; f->n_values < n; f->n_values++) {
        if (take_value(c, f->n_values, &f->values[f->n_values])) return -1;
    }
    return 0;
}

bool cf__value_unsigned(const struct cf_gguf_value *v, uint64_t *out) {
    char member = kinds[v->kind].member;
    if (v->kind == CF_GGUF_BOOL || (member != 'u' && member != 'i') || (member == 'i' && v->i < 0)) return false;
    *out = v->u;
    return true;
}

int cf__file_integer(const struct cf__file *f, const char *key, uint64_t *v, struct cf_error *e) {
    for (size_t i = 0; i < f->n_values; i++) {
        if (strcmp(f->values[i].key, key)) continue;
        if (cf__value_unsigned(&f->values[i], v)) return 1;
        return cf_fail(e, CF_ERR_FORMAT, "%s: value %s: a whole number is needed, not %s", f->path, key,
            kinds[f->values[i].kind].member == 'i' ? "a negative one" : kinds[f->values[i].kind].name);
    }
    return 0;
}

/* ---- typed look-ups: 1 found, 0 absent, -1 error ---- */

static int find(
    const struct cf_gguf *g, const char *key, bool required, const struct cf_gguf_value **v, struct cf_error *e) {
    *v = cf_gguf_value(g, key);
    if (*v) return 1;
    return required ? cf_fail(e, CF_ERR_FORMAT, "%s: value %s is missing", cf_gguf_path(g), key) : 0;
}

static int wrong(const struct cf_gguf *g, const struct cf_gguf_value *v, const char *wanted, struct cf_error *e) {
    return cf_fail(
        e, CF_ERR_FORMAT, "%s: value %s: %s is needed, not %s", cf_gguf_path(g), v->key, wanted, kinds[v->kind].name);
}

int cf_gguf_u32(const struct cf_gguf *g, const char *key, bool required, uint32_t *v, struct cf_error *e) {
    const struct cf_gguf_value *x;
    int found = find(g, key, required, &x, e);
    if (found <= 0) return found;
    uint64_t u;
    if (!cf__value_unsigned(x, &u)) {
        if (kinds[x->kind].member != 'i') return wrong(g, x, "a whole number", e);
        return cf_fail(e, CF_ERR_FORMAT, "%s: value %s: %" PRId64 " is negative", cf_gguf_path(g), key, x->i);
    }
    if (u > UINT32_MAX)
        return cf_fail(e, CF_ERR_FORMAT, "%s: value %s: %" PRIu64 " does not fit 32 bits", cf_gguf_path(g), key, u);
    *v = (uint32_t)u;
    return 0;
}

int cf_gguf_f32(const struct cf_gguf *g, const char *key, bool required, float *v, struct cf_error *e) {
    const struct cf_gguf_value *x;
    int found = find(g, key, required, &x, e);
    if (found <= 0) return found;
    switch (kinds[x->kind].member) {
    case 'f': *v = (float)x->f; return 0;
    case 'i': *v = (float)x->i; return 0;
    case 'u':
        if (x->kind == CF_GGUF_BOOL) break;
        *v = (float)x->u;
        return 0;
    default: break;
    }
    return wrong(g, x, "a number", e);
}

int cf_gguf_bool(const struct cf_gguf *g, const char *key, bool required, bool *v, struct cf_error *e) {
    const struct cf_gguf_value *x;
    int found = find(g, key, required, &x, e);
    if (found <= 0) return found;
    uint64_t u = x->u;
    if (x->kind != CF_GGUF_BOOL && !(cf__value_unsigned(x, &u) && u <= 1)) return wrong(g, x, "a bool", e);
    *v = u != 0;
    return 0;
}

int cf_gguf_str(const struct cf_gguf *g, const char *key, bool required, const char **v, struct cf_error *e) {
    const struct cf_gguf_value *x;
    int found = find(g, key, required, &x, e);
    if (found <= 0) return found;
    if (x->kind != CF_GGUF_STRING) return wrong(g, x, "a string", e);
    if (memchr(x->s.text, 0, x->s.length))
        return cf_fail(e, CF_ERR_FORMAT, "%s: value %s: a string with a NUL byte", cf_gguf_path(g), key);
    *v = x->s.text;
    return 0;
}
