/* See result.h. jansson builds the object; numbers are printed with nine digits, which bring back every f32. */
#include "coordinator/decode/result.h"

#include <endian.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "coordinator/sample/top.h"

enum { TEXT_PER_TOKEN = 64, DIGITS = 9 };

struct cf_result {
    struct cf_result_size size;
    uint32_t *prompt_ids;         /* [n_prompt] */
    uint32_t *ids;                /* [n_generate], n_ids filled */
    size_t n_ids, n_rows;         /* n_rows: positions whose logits are here */
    struct cf_top *top;           /* [n_generate][n_top] */
    struct cf_candidate *scratch; /* [n_top] */
    XXH64_state_t *hash;
    char *text;
    size_t n_text, text_size;
    char layout[32];
    struct cf_result_wire wire;
    double load_s, prefill_tps, decode_tps;
    struct cf_result_rank *ranks; /* [n_ranks] */
};

int cf_result_new(struct cf_result **out, const struct cf_result_size *size, struct cf_error *e) {
    *out = NULL;
    struct cf_result *r = calloc(1, sizeof *r);
    if (!r) return cf_fail(e, CF_ERR_MEMORY, "no memory for the result");
    r->size = *size;
    if (r->size.n_top > size->n_vocab) r->size.n_top = size->n_vocab;
    r->text_size = size->n_generate * TEXT_PER_TOKEN + 1;
    r->prompt_ids = calloc(size->n_prompt + 1, sizeof *r->prompt_ids);
    r->ids = calloc(size->n_generate + 1, sizeof *r->ids);
    r->top = calloc(size->n_generate * r->size.n_top + 1, sizeof *r->top);
    r->scratch = calloc(r->size.n_top + 1, sizeof *r->scratch);
    r->hash = XXH64_createState();
    r->text = malloc(r->text_size);
    r->ranks = calloc(size->n_ranks + 1, sizeof *r->ranks);
    if (!r->prompt_ids || !r->ids || !r->top || !r->scratch || !r->hash || !r->text || !r->ranks) {
        cf_result_free(r);
        return cf_fail(e, CF_ERR_MEMORY, "no memory for the result of %zu tokens", size->n_generate);
    }
    XXH64_reset(r->hash, 0);
    *out = r;
    return 0;
}

void cf_result_free(struct cf_result *r) {
    if (!r) return;
    free(r->prompt_ids);
    free(r->ids);
    free(r->top);
    free(r->scratch);
    XXH64_freeState(r->hash);
    free(r->text);
    free(r->ranks);
    free(r);
}

void cf_result_prompt(struct cf_result *r, const uint32_t *ids) {
    if (r->size.n_prompt) memcpy(r->prompt_ids, ids, r->size.n_prompt * sizeof *ids);
}

static void hash_row(XXH64_state_t *hash, const float *logits, size_t n) {
    if (__BYTE_ORDER == __LITTLE_ENDIAN) {
        XXH64_update(hash, logits, n * sizeof *logits);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        bits = htole32(bits);
        XXH64_update(hash, &bits, sizeof bits);
    }
}

int cf_result_logits(struct cf_result *r, const float *logits, struct cf_error *e) {
    if (r->n_rows == r->size.n_generate)
        return cf_fail(e, CF_ERR_LIMIT, "the result has room for %zu positions", r->size.n_generate);
    hash_row(r->hash, logits, r->size.n_vocab);
    if (r->size.n_top)
        cf_sampler_top(logits, r->size.n_vocab, r->size.n_top, r->top + r->n_rows * r->size.n_top, r->scratch);
    r->n_rows++;
    return 0;
}

int cf_result_text(struct cf_result *r, const char *text, size_t n, struct cf_error *e) {
    if (n > r->text_size - r->n_text) {
        size_t size = 2 * r->text_size + n;
        char *bigger = realloc(r->text, size);
        if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu bytes of text", size);
        r->text = bigger;
        r->text_size = size;
    }
    if (n) memcpy(r->text + r->n_text, text, n);
    r->n_text += n;
    return 0;
}

int cf_result_token(struct cf_result *r, uint32_t id, const char *text, size_t n, struct cf_error *e) {
    if (r->n_ids == r->size.n_generate)
        return cf_fail(e, CF_ERR_LIMIT, "the result has room for %zu positions", r->size.n_generate);
    r->ids[r->n_ids++] = id;
    return cf_result_text(r, text, n, e);
}

void cf_result_timings(struct cf_result *r, const char *layout, double load_s, double prefill_tps, double decode_tps) {
    snprintf(r->layout, sizeof r->layout, "%s", layout);
    r->load_s = load_s;
    r->prefill_tps = prefill_tps;
    r->decode_tps = decode_tps;
}

void cf_result_wire(struct cf_result *r, const struct cf_result_wire *wire) {
    r->wire = *wire;
}

struct cf_result_rank *cf_result_rank(struct cf_result *r, uint32_t rank) {
    return rank < r->size.n_ranks ? &r->ranks[rank] : NULL;
}

uint64_t cf_result_hash(const struct cf_result *r) {
    return XXH64_digest(r->hash);
}

/* The length of the well-formed character at s[n] (Unicode 15, table 3-7), or 0 with the length of the ill-formed part
 * (at least 1) in *bad. */
static size_t character(const unsigned char *s, size_t n, size_t *bad) {
    unsigned char c = s[0], low = 0x80, high = 0xbf;
    size_t length = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    *bad = 1;
    if (c == 0xe0) low = 0xa0;
    if (c == 0xed) high = 0x9f;
    if (c == 0xf0) low = 0x90;
    if (c == 0xf4) high = 0x8f;
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf) {
        *bad = i;
        if (i >= n || s[i] < low || s[i] > high) return 0;
    }
    return length;
}

static json_t *text_json(const char *text, size_t n) {
    char *clean = malloc(3 * n + 1), *to = clean;
    if (!clean) return NULL;
    for (size_t i = 0, bad = 0; i < n;) {
        size_t length = character((const unsigned char *)text + i, n - i, &bad);
        memcpy(to, length ? text + i : "\xef\xbf\xbd", length ? length : 3);
        to += length ? length : 3;
        i += length ? length : bad;
    }
    json_t *json = json_stringn(clean, (size_t)(to - clean));
    free(clean);
    return json;
}

static json_t *real_json(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *ids_json(const uint32_t *ids, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, json_integer(ids[i]));
    return array;
}

static json_t *top_json(const struct cf_result *r) {
    json_t *positions = json_array();
    for (size_t row = 0; row < r->n_rows; row++) {
        json_t *list = json_array();
        for (const struct cf_top *t = r->top + row * r->size.n_top, *end = t + r->size.n_top; t < end; t++) {
            json_t *entry = json_array();
            json_array_append_new(entry, json_integer(t->id));
            json_array_append_new(entry, real_json((double)t->logit));
            json_array_append_new(entry, real_json(t->logprob));
            json_array_append_new(list, entry);
        }
        json_array_append_new(positions, list);
    }
    return positions;
}

static json_t *plan_json(const struct cf_result *r) {
    json_t *plan = json_object(), *ranks = json_array();
    for (uint32_t i = 0; i < r->size.n_ranks; i++) {
        const struct cf_result_rank *k = &r->ranks[i];
        json_t *row = json_object();
        json_object_set_new(row, "rank", json_integer(i));
        json_object_set_new(row, "host", text_json(k->host, strlen(k->host)));
        json_object_set_new(row, "node", json_integer(k->node));
        json_object_set_new(row, "threads", json_integer(k->threads));
        json_object_set_new(row, "bytes", json_integer((json_int_t)k->bytes));
        json_object_set_new(row, "local_percent", real_json(k->local_percent));
        json_array_append_new(ranks, row);
    }
    json_object_set_new(plan, "layout", text_json(r->layout, strlen(r->layout)));
    if (r->wire.type) {
        json_object_set_new(plan, "wire", json_string(r->wire.type));
        json_object_set_new(plan, "wire_rms", real_json(r->wire.rms));
        json_object_set_new(plan, "wire_most", real_json(r->wire.most));
    }
    json_object_set_new(plan, "ranks", ranks);
    return plan;
}

static json_t *timings_json(const struct cf_result *r) {
    json_t *timings = json_object(), *ranks = json_array();
    for (uint32_t i = 0; i < r->size.n_ranks; i++) {
        json_t *row = json_object();
        json_object_set_new(row, "compute_s", real_json(r->ranks[i].compute_s));
        json_object_set_new(row, "exchange_s", real_json(r->ranks[i].exchange_s));
        json_object_set_new(row, "wait_s", real_json(r->ranks[i].wait_s));
        json_array_append_new(ranks, row);
    }
    json_object_set_new(timings, "load_s", real_json(r->load_s));
    json_object_set_new(timings, "prefill_tps", real_json(r->prefill_tps));
    json_object_set_new(timings, "decode_tps", real_json(r->decode_tps));
    json_object_set_new(timings, "ranks", ranks);
    return timings;
}

/* What a run and an answer of many have in common. Returns true if something is lost. */
static bool add_tokens(const struct cf_result *r, json_t *object) {
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)cf_result_hash(r));
    return json_object_set_new(object, "prompt_ids", ids_json(r->prompt_ids, r->size.n_prompt)) ||
           json_object_set_new(object, "ids", ids_json(r->ids, r->n_ids)) ||
           json_object_set_new(object, "text", text_json(r->text, r->n_text)) ||
           json_object_set_new(object, "logits_xxh64", json_string(hash)) ||
           (r->size.n_top && json_object_set_new(object, "top", top_json(r)));
}

int cf_result_answer(const struct cf_result *r, const struct cf_answer *a, char **line, size_t *n, struct cf_error *e) {
    json_t *object = json_object();
    bool lost = json_object_set_new(object, "index", json_integer(a->index));
    if (a->id)
        lost |= json_object_set_new(object, "id", json_loads(a->id, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)) != 0;
    lost |= a->whole ? add_tokens(r, object) : json_object_set_new(object, "text", text_json(r->text, r->n_text)) != 0;
    lost |= json_object_set_new(object, "end", json_string(a->end)) ||
            json_object_set_new(object, "n_prompt", json_integer((json_int_t)r->size.n_prompt)) ||
            json_object_set_new(object, "n_generated", json_integer((json_int_t)r->n_ids)) ||
            json_object_set_new(object, "seed", json_integer((json_int_t)a->seed));
    *n = lost ? 0 : json_dumpb(object, NULL, 0, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS));
    *line = *n ? malloc(*n + 1) : NULL;
    if (*line) json_dumpb(object, *line, *n, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS));
    json_decref(object);
    if (!*line) return cf_fail(e, CF_ERR_MEMORY, "no memory for an answer");
    (*line)[(*n)++] = '\n';
    return 0;
}

int cf_result_print_json(const struct cf_result *r, FILE *to, struct cf_error *e) {
    json_t *object = json_object();
    bool failed = add_tokens(r, object) || json_object_set_new(object, "plan", plan_json(r)) ||
                  json_object_set_new(object, "timings", timings_json(r));
    if (failed) {
        json_decref(object);
        return cf_fail(e, CF_ERR_MEMORY, "no memory for the JSON result");
    }
    errno = 0;
    bool lost =
        json_dumpf(object, to, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) || fputc('\n', to) == EOF || fflush(to);
    int why = errno;
    json_decref(object);
    if (!lost) return 0;
    clearerr(to); /* it is reported here: main need not find it again */
    return cf_fail(e, CF_ERR_FILE, "cannot write the JSON result: %s", why ? strerror(why) : "write error");
}
