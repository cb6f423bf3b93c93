/* See prompts.h. A line is an object: "prompt" (a text or token ids), and what this prompt wants otherwise than the
 * command line says: "id" (anything, comes back), "n_predict", "stop", "ignore_eos", and every number of the sampling
 * options under its name ("temperature", "top_k", "seed"; _ for -). */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/shared/input.h"
#include "coordinator/commands/run/prompts.h"

enum { MOST_STOPS = 64 };

static int read_ids(struct cf_request *r, const json_t *v, struct cf_error *e) {
    r->n_ids = json_array_size(v);
    r->ids = calloc(r->n_ids + 1, sizeof *r->ids);
    if (!r->ids) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < r->n_ids; i++) {
        const json_t *id = json_array_get(v, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > UINT32_MAX)
            return cf_fail(e, CF_ERR_USAGE, "\"prompt\": element %zu is not a token id", i);
        r->ids[i] = (uint32_t)json_integer_value(id);
    }
    return 0;
}

static int read_prompt(struct cf_request *r, const json_t *v, struct cf_sampling *s, struct cf_error *e) {
    (void)s;
    if (json_is_array(v)) return read_ids(r, v, e);
    if (!json_is_string(v)) return cf_fail(e, CF_ERR_USAGE, "\"prompt\" is neither a text nor an array of token ids");
    r->n_text = json_string_length(v);
    r->text = malloc(r->n_text + 1);
    if (!r->text) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    memcpy(r->text, json_string_value(v), r->n_text + 1);
    return 0;
}

static int read_id(struct cf_request *r, const json_t *v, struct cf_sampling *s, struct cf_error *e) {
    (void)s;
    r->id = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    return r->id ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
}

static int read_predict(struct cf_request *r, const json_t *v, struct cf_sampling *s, struct cf_error *e) {
    (void)s;
    r->n_predict = json_integer_value(v);
    if (!json_is_integer(v) || r->n_predict < -1 || r->n_predict > 1000000000)
        return cf_fail(e, CF_ERR_USAGE, "\"n_predict\" is not a whole number from -1 on");
    return 0;
}

static int read_ignore_eos(struct cf_request *r, const json_t *v, struct cf_sampling *s, struct cf_error *e) {
    (void)s;
    r->ignore_eos = json_is_true(v);
    return json_is_boolean(v) ? 0 : cf_fail(e, CF_ERR_USAGE, "\"ignore_eos\" is neither true nor false");
}

static int read_stop(struct cf_request *r, const json_t *v, struct cf_sampling *s, struct cf_error *e) {
    (void)s;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n > MOST_STOPS) return cf_fail(e, CF_ERR_USAGE, "\"stop\": more than %d texts", MOST_STOPS);
    r->stop = calloc(n + 1, sizeof *r->stop);
    if (!r->stop) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (; r->n_stop < n; r->n_stop++) {
        const json_t *text = json_is_array(v) ? json_array_get(v, r->n_stop) : v;
        const char *bytes = json_string_value(text);
        if (!bytes || !*bytes || strlen(bytes) != json_string_length(text))
            return cf_fail(e, CF_ERR_USAGE, "\"stop\" is neither a text nor an array of texts, or one is empty");
        if (!(r->stop[r->n_stop] = strdup(bytes))) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    return 0;
}

static const struct key {
    const char *name;
    int (*read)(struct cf_request *r, const json_t *v, struct cf_sampling *s, struct cf_error *e);
} keys[] = {{"prompt", read_prompt}, {"id", read_id}, {"n_predict", read_predict}, {"max_tokens", read_predict},
    {"ignore_eos", read_ignore_eos}, {"stop", read_stop}};

static bool same(const char *option, const char *key) {
    for (; option && *option && *key; option++, key++)
        if (*option != (*key == '_' ? '-' : *key)) return false;
    return option && !*option && !*key;
}

/* A number of the sampling options. */
static int read_number(
    struct cf_request *r, const char *key, const json_t *v, struct cf_sampling *s, struct cf_error *e) {
    char text[48];
    const struct cf_option *o = cf__sampling_options;
    while (
        o->name && !((o->kind == CF_OPT_INT || o->kind == CF_OPT_REAL) && (same(o->name, key) || same(o->alias, key))))
        o++;
    if (!o->name) return cf_fail(e, CF_ERR_USAGE, "\"%.40s\" is unknown", key);
    if (json_is_integer(v))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(text, sizeof text, "%.17g", json_real_value(v));
    else
        return cf_fail(e, CF_ERR_USAGE, "\"%.40s\" is not a number", key);
    r->own_params = true;
    return cf_option_store(o, text, s, e);
}

static int read_key(struct cf_request *r, const char *key, const json_t *v, struct cf_sampling *s, struct cf_error *e) {
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i].name, key)) return keys[i].read(r, v, s, e);
    return read_number(r, key, v, s, e);
}

static int read_object(struct cf_request *r, json_t *object, const struct cf_prompts_options *o, struct cf_error *e) {
    struct cf_sampling s = *o->sampling;
    const char *key;
    json_t *value;
    if (!json_is_object(object)) return cf_fail(e, CF_ERR_USAGE, "not an object");
    r->n_predict = o->predict, r->ignore_eos = s.ignore_eos;
    if (json_object_get(object, "n_predict") && json_object_get(object, "max_tokens"))
        return cf_fail(e, CF_ERR_USAGE, "\"n_predict\" and \"max_tokens\": one of them is enough");
    json_object_foreach(object, key, value) if (read_key(r, key, value, &s, e)) return -1;
    r->params = s.params;
    return r->text || r->ids ? 0 : cf_fail(e, CF_ERR_USAGE, "no \"prompt\"");
}

static int add_line(
    struct cf_prompts *p, size_t *room, uint32_t number, const char *line, size_t n, struct cf_error *e) {
    json_error_t why;
    struct cf_error inner = {0};
    if (p->n == *room) {
        size_t more = *room ? 2 * *room : 64;
        struct cf_request *bigger = realloc(p->requests, more * sizeof *bigger);
        if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for the prompts of %s", p->o.file);
        p->requests = bigger;
        *room = more;
    }
    struct cf_request *r = &p->requests[p->n++];
    *r = (struct cf_request){.line = number};
    json_t *object = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!object)
        return cf_fail(e, CF_ERR_USAGE, "%s:%u: not JSON: %s (column %d)", p->o.file, number, why.text, why.column);
    int rc = read_object(r, object, &p->o, &inner);
    json_decref(object);
    return rc ? cf_fail(e, inner.code, "%s:%u: %s", p->o.file, number, inner.text) : 0;
}

int cf_prompts_parse(
    struct cf_prompts **out, const struct cf_prompts_options *o, const char *text, size_t n_text, struct cf_error *e) {
    struct cf_prompts *p = calloc(1, sizeof *p);
    uint32_t number = 0;
    size_t room = 0;
    int rc = p ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    *out = NULL;
    if (p) p->o = *o;
    for (size_t at = 0; !rc && at < n_text;) {
        const char *line = text + at, *newline = memchr(line, '\n', n_text - at);
        size_t n = newline ? (size_t)(newline - line) : n_text - at, blank = 0;
        at += n + 1, number++;
        while (blank < n && strchr(" \t\r", line[blank]) && line[blank])
            blank++;
        if (blank < n) rc = add_line(p, &room, number, line, n, e);
    }
    if (!rc && !p->n) rc = cf_fail(e, CF_ERR_USAGE, "%s: no prompts", o->file);
    if (rc)
        cf_prompts_free(p);
    else
        *out = p;
    return rc;
}

int cf_prompts_read(struct cf_prompts **out, const struct cf_prompts_options *o, struct cf_error *e) {
    char *text;
    size_t n;
    *out = NULL;
    int rc = cf__read_text(o->on_stdin ? "-" : o->file, &text, &n, e) ? -1 : cf_prompts_parse(out, o, text, n, e);
    free(text);
    return rc;
}

static void free_request(struct cf_request *r) {
    for (size_t i = 0; r->stop && i < r->n_stop; i++)
        free(r->stop[i]);
    free(r->stop);
    free(r->id);
    free(r->text);
    free(r->ids);
}

void cf_prompts_free(struct cf_prompts *p) {
    if (!p) return;
    for (uint32_t i = 0; i < p->n; i++)
        free_request(&p->requests[i]);
    free(p->requests);
    cf__sampling_close(&p->set);
    if (p->to) fclose(p->to);
    free(p);
}
