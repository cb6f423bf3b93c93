/* The JSON form of `coffer inspect`. Strings that are not UTF-8 get U+FFFD for what is wrong; numbers that JSON cannot
 * hold (NaN, infinities) become null.
 */
#include <jansson.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/look/inspect.h"
#include "coordinator/text/utf8.h"

static json_t *string_of(const char *text, size_t length) {
    json_t *valid = json_stringn(text, length);
    if (valid) return valid;
    char *copy = malloc(length * (sizeof CF__REPLACEMENT - 1) + 1), *p = copy;
    if (!copy) return NULL;
    for (size_t i = 0; i < length;) {
        int step = cf__utf8_step((const unsigned char *)text + i, length - i);
        size_t n = step > 0 ? (size_t)step : step < 0 ? (size_t)-step : length - i;
        p = step > 0 ? mempcpy(p, text + i, n) : mempcpy(p, CF__REPLACEMENT, sizeof CF__REPLACEMENT - 1);
        i += n;
    }
    valid = json_stringn(copy, (size_t)(p - copy));
    free(copy);
    return valid;
}

static json_t *unsigned_of(uint64_t v) {
    return v <= INT64_MAX ? json_integer((json_int_t)v) : json_real((double)v);
}

static json_t *real_of(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *value_of(const struct cf_gguf_value *v, size_t max_elements);

static json_t *array_of(const struct cf_gguf_value *v, size_t max_elements) {
    json_t *list = json_array();
    struct cf_gguf_value element;
    size_t shown = v->count < max_elements ? v->count : max_elements;
    for (size_t i = 0; i < shown && cf_gguf_element(v, i, &element); i++)
        json_array_append_new(list, value_of(&element, max_elements));
    if (shown == v->count) return list;
    return json_pack(
        "{s:s, s:o, s:o}", "type", cf_gguf_kind_name(v->element), "count", unsigned_of(v->count), "first", list);
}

static json_t *value_of(const struct cf_gguf_value *v, size_t max_elements) {
    switch (v->kind) {
    case CF_GGUF_U8:
    case CF_GGUF_U16:
    case CF_GGUF_U32:
    case CF_GGUF_U64: return unsigned_of(v->u);
    case CF_GGUF_I8:
    case CF_GGUF_I16:
    case CF_GGUF_I32:
    case CF_GGUF_I64: return json_integer(v->i);
    case CF_GGUF_F32:
    case CF_GGUF_F64: return real_of(v->f);
    case CF_GGUF_BOOL: return json_boolean(v->u);
    case CF_GGUF_STRING: return string_of(v->s.text, v->s.length);
    default: return array_of(v, max_elements);
    }
}

/* Keys are the file's own: made UTF-8 like every other string. */
static void set(json_t *object, const char *key, json_t *value) {
    json_t *name = string_of(key, strlen(key));
    json_object_set_new(object, name ? json_string_value(name) : "", value);
    json_decref(name);
}

static json_t *metadata_of(const struct cf_gguf *g, size_t max_elements) {
    json_t *object = json_object();
    for (size_t i = 0; i < cf_gguf_n_values(g); i++) {
        const struct cf_gguf_value *v = cf_gguf_value_at(g, i);
        set(object, v->key, value_of(v, max_elements));
    }
    return object;
}

static json_t *tensors_of(const struct cf_gguf *g, const struct cf_sizes *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(g, i);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->n_dims && d < 4; d++)
            json_array_append_new(shape, unsigned_of(t->ne[d]));
        char type[24];
        enum cf_domain domain = cf_domain_of(t->name, cf_domain_block(t->name), s->n_layers);
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:s}", "name", string_of(t->name, strlen(t->name)), "type",
                      cf_type_text(t->type, type), "shape", shape, "bytes", unsigned_of(t->bytes), "file",
                      unsigned_of(t->file), "offset", unsigned_of(t->offset), "domain", cf_domain_name(domain)));
    }
    return list;
}

static json_t *sizes_of(const struct cf_sizes *s) {
    json_t *object = json_object();
    for (enum cf_domain d = 0; d < CF_DOMAINS; d++)
        json_object_set_new(object, cf_domain_name(d),
            json_pack("{s:o, s:o}", "tensors", unsigned_of(s->tensors[d]), "bytes", unsigned_of(s->bytes[d])));
    json_object_set_new(object, "all",
        json_pack("{s:o, s:o}", "tensors", unsigned_of(s->all_tensors), "bytes", unsigned_of(s->all_bytes)));
    json_object_set_new(object, "kv_cache",
        json_pack("{s:o, s:o}", "positions", unsigned_of(s->n_ctx), "bytes", unsigned_of(s->kv_bytes)));
    return object;
}

int cf_inspect_json(
    const struct cf_gguf *g, const struct cf_sizes *sizes, size_t max_elements, FILE *to, struct cf_error *e) {
    uint64_t bytes, hash;
    char hash_text[20];
    cf_gguf_identity(g, &bytes, &hash);
    snprintf(hash_text, sizeof hash_text, "%016" PRIx64, hash);
    json_t *root = json_object();
    set(root, "file", string_of(cf_gguf_path(g), strlen(cf_gguf_path(g))));
    set(root, "files", unsigned_of(cf_gguf_files(g)));
    set(root, "bytes", unsigned_of(bytes));
    set(root, "hash", json_string(hash_text));
    set(root, "version", unsigned_of(cf_gguf_version(g)));
    set(root, "architecture", string_of(sizes->arch, strlen(sizes->arch)));
    set(root, "metadata", metadata_of(g, max_elements));
    set(root, "tensors", tensors_of(g, sizes));
    set(root, "sizes", sizes_of(sizes));
    int rc = root && !json_dumpf(root, to, JSON_INDENT(2)) ? 0 : -1;
    json_decref(root);
    if (rc) return cf_fail(e, CF_ERR_FILE, "cannot write JSON");
    fputc('\n', to);
    return 0;
}
