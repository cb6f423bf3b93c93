/* coffer embed: texts to vectors, on any number of ranks. The way: options -> (self-launch) -> text, one per line ->
 * job
 * -> ids -> hidden rows, pooled (decode/embed.h) -> scaled -> printed as llama.cpp's tool prints them.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/run/embed_print.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/shared/input.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/commands/shared/supervision.h"
#include "coordinator/commands/shared/on_ranks.h"
#include "coordinator/decode/embed.h"
#include "coordinator/plan/split.h"
#include "transport/clock.h"

struct config {
    const char *model, *prompt, *file, *separator, *pooling, *format;
    int64_t threads, ranks, normalise;
    struct cf_placement place;
    struct cf_watch watch; /* hosts */
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){
        .separator = "\n", .format = "", .normalise = 2, .place = cf__placement_defaults(), .watch = cf__watch_never()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE", "GGUF model file (the first of a split set)", 0, 0, NULL},
    {"prompt", 'p', CF_OPT_STRING, AT(prompt), "TEXT", "the texts, one per line", 0, 0, NULL},
    {"file", 'f', CF_OPT_STRING, AT(file), "FILE", "read them from FILE (- for stdin)", 0, 0, NULL},
    {"embd-separator", 0, CF_OPT_STRING, AT(separator), "TEXT", "what parts the texts (default a newline)", 0, 0, NULL},
    {"pooling", 0, CF_OPT_STRING, AT(pooling), "KIND",
        "one vector for each text: mean, cls (first token) or last; or none: one for each token (default none)", 0, 0,
        NULL},
    {"embd-normalize", 0, CF_OPT_INT, AT(normalise), "N",
        "-1 as they are, 0 largest 32760, 1 taxicab, 2 Euclidean, more: that p-norm (default 2)", -1, 1000, NULL},
    {"embd-output-format", 0, CF_OPT_STRING, AT(format), "FORMAT",
        "array, json, json+ (with cosine similarities) or raw (a vector per line); default a table to read", 0, 0,
        NULL},
    {"threads", 't', CF_OPT_INT, AT(threads), "N", "threads per rank (default the rank's share of physical cores)", 0,
        4096, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", CF__RANKS_HELP, 0, 1024, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__layout_options, AT(place)}, {cf__split_options, AT(place)},
    {cf__rank_options, AT(place)}, {cf__host_options, AT(watch)}, {0}};

struct run {
    const struct config *c;
    struct cf_terminal terminal;
    char *text;
    size_t n_text;
    struct cf_embed_text *texts;
    const char **begin; /* [n_texts] of each text */
    uint32_t n_texts;
    enum cf_pooling pooling;
    uint32_t n_embd;
    float *rows;
    uint64_t n_rows;
    int status;
};

static int add_text(struct run *r, struct cf_job *j, const char *text, size_t n, struct cf_error *e) {
    struct cf_embed_text *t = &r->texts[r->n_texts];
    size_t n_ids = 0;
    r->begin[r->n_texts++] = text;
    if (cf_tokenize(j->tokenizer, text, n, true, true, &t->ids, &n_ids, e)) return -1;
    if (!n_ids) return cf_fail(e, CF_ERR_USAGE, "text %u is empty, and this model adds no token to it", r->n_texts);
    if (n_ids > j->n_ctx)
        return cf_fail(
            e, CF_ERR_LIMIT, "text %u has %zu tokens, but the context holds %u (-c)", r->n_texts, n_ids, j->n_ctx);
    t->n = (uint32_t)n_ids;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->ids[i] >= j->model.n_vocab)
            return cf_fail(
                e, CF_ERR_FORMAT, "the tokenizer gave id %u, but the model has %u tokens", t->ids[i], j->model.n_vocab);
    return 0;
}

/* Before the model is loaded: the texts as ids, and what the plan must have room for: as many sequences as one batch
 * has rows for, none longer than the longest text. */
static int prepare(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    size_t n = 1, parted = strlen(r->c->separator);
    uint32_t longest = 1;
    for (const char *s = r->text; (s = strstr(s, r->c->separator)); s += parted)
        n++;
    if (n > 1u << 24) return cf_fail(e, CF_ERR_LIMIT, "%zu texts are too many", n);
    r->texts = calloc(n, sizeof *r->texts), r->begin = calloc(n, sizeof *r->begin);
    if (!r->texts || !r->begin) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (const char *s = r->text, *end; s; s = end ? end + parted : NULL) {
        end = strstr(s, r->c->separator);
        if (add_text(r, j, s, end ? (size_t)(end - s) : strlen(s), e)) return -1;
        if (r->texts[r->n_texts - 1].n > longest) longest = r->texts[r->n_texts - 1].n;
    }
    uint32_t rows = (uint32_t)r->c->place.ubatch;
    j->n_ctx = longest;
    j->n_seqs = rows / longest < 1 ? 1 : rows / longest < r->n_texts ? rows / longest : r->n_texts;
    j->n_want = cf_split_want(rows, j->model.n_vocab);
    return 0;
}

/* All texts together count as one prompt, as far as a batch goes. */
static void say_speed(struct run *r, struct cf_job *j, double seconds) {
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < r->n_texts; i++)
        tokens += r->texts[i].n;
    uint32_t prompt = tokens < j->plan.n_rows ? (uint32_t)tokens : j->plan.n_rows;
    double predicted = cf_job_predict(j, &(struct cf_workload){.prompt = prompt});
    cf_terminal_note(&r->terminal, "load %.2f s, %llu tokens at %.1f tokens/s (predicted %.1f)", j->load_seconds,
        (unsigned long long)tokens, seconds > 0 ? (double)tokens / seconds : 0, predicted);
}

static int work(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    double start = cf_now();
    r->n_embd = j->model.n_embd, r->n_rows = cf_embed_rows(r->texts, r->n_texts, r->pooling);
    r->rows = calloc(r->n_rows, r->n_embd * sizeof *r->rows);
    if (!r->rows) return cf_fail(e, CF_ERR_MEMORY, "no memory for %llu vectors", (unsigned long long)r->n_rows);
    struct cf_embed m = {.job = j,
        .texts = r->texts,
        .n_texts = r->n_texts,
        .pooling = r->pooling,
        .interrupted = cf_interrupted,
        .rows = r->rows};
    if (cf_embed_run(&m, e)) return -1;
    double seconds = cf_now() - start;
    for (uint64_t i = 0; i < r->n_rows; i++)
        cf_embed_normalise(r->rows + i * r->n_embd, r->n_embd, r->c->normalise);
    r->status = m.interrupt_status;
    r->terminal.closing = true;
    struct cf__embed_table t = {.rows = r->rows,
        .n_rows = r->n_rows,
        .n_embd = r->n_embd,
        .texts = r->pooling == CF_POOL_NONE ? NULL : r->begin,
        .whole = r->c->normalise == 0};
    if (!r->status && cf__embed_print(&t, r->c->format, &r->terminal, e)) return -1;
    if (!r->status) say_speed(r, j, seconds);
    return 0;
}

static int read_text(void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    const struct config *c = r->c;
    if (c->file && cf__read_text(c->file, &r->text, &r->n_text, e)) return -1;
    if (!c->file && !(r->text = strdup(c->prompt))) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (c->file && r->n_text && r->text[r->n_text - 1] == '\n') r->text[--r->n_text] = 0;
    if (c->file && strlen(r->text) != r->n_text)
        return cf_fail(e, CF_ERR_FORMAT, "%s has a zero byte: it is no text", c->file);
    return 0;
}

static int check_config(struct run *r, struct config *c, struct cf_error *e) {
    int pooling = cf_pooling_by_name(c->pooling ? c->pooling : "none");
    if (!c->file == !c->prompt) return cf_fail(e, CF_ERR_USAGE, "one text is wanted: -p TEXT or -f FILE");
    if (!*c->separator) return cf_fail(e, CF_ERR_USAGE, "--embd-separator is empty");
    if (pooling < 0)
        return cf_fail(e, CF_ERR_USAGE, "--pooling %s is unknown; known: none, mean, cls, last", c->pooling);
    if (!cf__embed_knows(c->format))
        return cf_fail(
            e, CF_ERR_USAGE, "--embd-output-format %s is unknown; known: array, json, json+, raw", c->format);
    r->pooling = (enum cf_pooling)pooling;
    return cf__placement_check(&c->place, false, e);
}

static void clean(struct run *r) {
    for (uint32_t i = 0; i < r->n_texts; i++)
        free(r->texts[i].ids);
    free(r->texts);
    free(r->begin);
    free(r->rows);
    free(r->text);
}

static int command(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    struct run r = {.c = c};
    char path[CF__MODEL_PATH];
    if (argc) cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]);
    if (e.code || check_config(&r, c, &e) || cf__default_model(&c->model, path, &e))
        return cf__command_failed(&cf_command_embed, &e);
    int status = cf__on_ranks(&(struct cf__on_ranks){.command = &cf_command_embed,
        .launch = {.ranks = c->ranks, .map = c->place.map, .watch = &c->watch},
        .read = read_text,
        .job = {.prepare = prepare, .model = c->model, .place = c->place, .n_seqs = 1, .n_want = 1},
        .threads = c->threads,
        .terminal = &r.terminal,
        .work = work,
        .ctx = &r,
        .status = &r.status});
    clean(&r);
    return status;
}

const struct cf_command cf_command_embed = {
    .name = "embed",
    .synopsis = "[-m FILE] -p TEXT [--pooling KIND] [--embd-output-format FORMAT] ...",
    .summary = "turn texts into vectors",
    .text =
        "Embeddings as llama.cpp's tool makes them: each line of the input is a text; its hidden rows after the final "
        "norm are pooled, scaled and printed. The vectors do not depend on ranks, layout, threads or batches. "
        "Names of control tokens in the texts become those tokens.",
    .example = "coffer embed -m model.gguf -p \"A fox ran home.\" --pooling mean --embd-output-format json",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
