/* coffer perplexity: how well a model foretells a text, on any number of ranks. The way: options -> (self-launch) ->
 * text
 * -> job -> ids -> chunks (decode/perplexity.h) -> running values and the estimate, as llama.cpp's tool prints them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/shared/input.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/commands/shared/supervision.h"
#include "coordinator/commands/shared/on_ranks.h"
#include "coordinator/decode/perplexity.h"
#include "coordinator/plan/split.h"
#include "transport/clock.h"

struct config {
    const char *model, *file, *prompt;
    int64_t threads, ranks, batch, chunks;
    struct cf_placement place;
    struct cf_watch watch; /* hosts */
};

static void defaults(void *config) {
    struct config *c = config;
    *c = (struct config){.batch = 2048, .chunks = -1, .place = cf__placement_defaults(), .watch = cf__watch_never()};
    c->place.ctx_size = 512;
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE", "GGUF model file (the first of a split set)", 0, 0, NULL},
    {"file", 'f', CF_OPT_STRING, AT(file), "FILE", "the text (- for stdin); one newline at its end does not count", 0,
        0, NULL},
    {"prompt", 'p', CF_OPT_STRING, AT(prompt), "TEXT", "the text itself, instead of -f", 0, 0, NULL},
    {"ctx-size", 'c', CF_OPT_INT, AT(place.ctx_size), "N", "tokens of a chunk (default 512)", 3, 1 << 24, NULL},
    {"batch-size", 'b', CF_OPT_INT, AT(batch), "N",
        "tokens of the chunks that are in the cache together (default 2048, that is 4 chunks of 512); changes no "
        "result",
        1, 1 << 24, NULL},
    {"chunks", 0, CF_OPT_INT, AT(chunks), "N", "the first N chunks only; -1 all (default -1)", -1, 1 << 30, NULL},
    {"layout", 0, CF_OPT_STRING, AT(place.layout), "NAME",
        "auto (what is predicted to be fastest), tensor, layers, hybrid or domain (default auto)", 0, 0, NULL},
    {"threads", 't', CF_OPT_INT, AT(threads), "N", "threads per rank (default the rank's share of physical cores)", 0,
        4096, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", CF__RANKS_HELP, 0, 1024, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {
    {cf__split_options, AT(place)}, {cf__rank_options, AT(place)}, {cf__host_options, AT(watch)}, {0}};

struct run {
    const struct config *c;
    struct cf_terminal terminal;
    char *text;
    size_t n_text;
    uint32_t *ids;
    size_t n_ids;
    uint32_t n_chunks;
    int status;
};

/* Before the model is loaded: the text as ids, and what the plan must have room for. */
static int prepare(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    uint32_t n_ctx = j->n_ctx;
    if (cf_tokenize(j->tokenizer, r->text, r->n_text, true, false, &r->ids, &r->n_ids, e)) return -1;
    if (r->n_ids < 2 * (size_t)n_ctx)
        return cf_fail(e, CF_ERR_USAGE,
            "you need at least %u tokens to evaluate perplexity with a context of %u (-c), but the text has only %zu",
            2 * n_ctx, n_ctx, r->n_ids);
    for (size_t i = 0; i < r->n_ids; i++)
        if (r->ids[i] >= j->model.n_vocab)
            return cf_fail(
                e, CF_ERR_FORMAT, "the tokenizer gave id %u, but the model has %u tokens", r->ids[i], j->model.n_vocab);
    size_t chunks = r->n_ids / n_ctx;
    r->n_chunks = (uint32_t)(chunks > 1u << 30 ? 1u << 30 : chunks);
    if (r->c->chunks >= 0 && r->c->chunks < r->n_chunks) r->n_chunks = (uint32_t)r->c->chunks;
    if (!r->n_chunks) return cf_fail(e, CF_ERR_USAGE, "--chunks 0 leaves nothing to score");
    j->n_seqs = r->c->batch / n_ctx < 1 ? 1 : (uint32_t)(r->c->batch / n_ctx);
    if (j->n_seqs > r->n_chunks) j->n_seqs = r->n_chunks;
    uint32_t scored = cf_perplexity_scored(n_ctx), rows = (uint32_t)r->c->place.ubatch;
    j->n_want = cf_split_want(scored < rows ? scored : rows, j->model.n_vocab);
    if (n_ctx > j->model.n_ctx_train)
        cf_terminal_note(&r->terminal, "coffer: the model was trained on %u positions only, chunks have %u (-c)",
            j->model.n_ctx_train, n_ctx);
    return 0;
}

static int show_chunk(void *ctx, uint32_t done, double ppl, struct cf_error *e) {
    struct run *r = ctx;
    char text[64];
    int n = snprintf(text, sizeof text, "[%u]%.4f,", done, ppl);
    return cf_terminal_text(&r->terminal, text, (size_t)n, e);
}

static int show_estimate(struct run *r, const struct cf_perplexity *p, struct cf_error *e) {
    char text[128];
    double ppl, error;
    cf_perplexity_estimate(p, &ppl, &error);
    if (isnan(error))
        return cf_fail(e, CF_ERR_NUMERIC, "PPL = %.4f, but %llu scored tokens give no standard error", ppl,
            (unsigned long long)p->n_scored);
    int n = snprintf(text, sizeof text, "\nFinal estimate: PPL = %.4f +/- %.5f\n", ppl, error);
    return cf_terminal_text(&r->terminal, text, (size_t)n, e);
}

static int work(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    struct cf_perplexity p = {.job = j,
        .tokens = r->ids,
        .n_chunks = r->n_chunks,
        .n_ctx = j->n_ctx,
        .bos = cf_tokenizer_adds_bos(j->tokenizer) ? cf_tokenizer_bos(j->tokenizer) : -1,
        .chunk = show_chunk,
        .interrupted = cf_interrupted,
        .ctx = r};
    cf_terminal_note(&r->terminal, "coffer: perplexity over %u chunks of %u tokens, %u together, batches of %u",
        p.n_chunks, p.n_ctx, j->plan.n_seqs, j->plan.n_rows);
    double start = cf_now();
    if (cf_perplexity_run(&p, e)) return -1;
    double seconds = cf_now() - start;
    r->status = p.interrupt_status;
    r->terminal.closing = true;
    if (p.n_done < p.n_chunks)
        cf_terminal_note(&r->terminal, "coffer: stopped after %u of %u chunks", p.n_done, p.n_chunks);
    else if (show_estimate(r, &p, e))
        return -1;
    double predicted =
        cf_job_predict(j, &(struct cf_workload){.prompt = p.n_ctx, .scored = cf_perplexity_scored(p.n_ctx)});
    cf_terminal_note(&r->terminal, "load %.2f s, %.1f tokens/s (predicted %.1f, without the scoring)", j->load_seconds,
        seconds > 0 ? (double)p.n_done * p.n_ctx / seconds : 0, predicted);
    return 0;
}

static int read_text(void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    const struct config *c = r->c;
    if (c->file && cf__read_text(c->file, &r->text, &r->n_text, e)) return -1;
    if (!c->file && !(r->text = strdup(c->prompt))) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!c->file) r->n_text = strlen(r->text);
    if (c->file && r->n_text && r->text[r->n_text - 1] == '\n') r->n_text--; /* llama.cpp reads prompt files so */
    return 0;
}

static int check_config(struct config *c, struct cf_error *e) {
    if (!c->file && !c->prompt) return cf_fail(e, CF_ERR_USAGE, "no text: -f FILE or -p TEXT");
    if (c->file && c->prompt) return cf_fail(e, CF_ERR_USAGE, "-f and -p: one text is enough");
    return cf__placement_check(&c->place, false, e);
}

static int command(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    struct run r = {.c = c};
    char path[CF__MODEL_PATH];
    if (argc) cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]);
    if (e.code || check_config(c, &e) || cf__default_model(&c->model, path, &e))
        return cf__command_failed(&cf_command_perplexity, &e);
    int status = cf__on_ranks(&(struct cf__on_ranks){.command = &cf_command_perplexity,
        .launch = {.ranks = c->ranks, .map = c->place.map, .watch = &c->watch},
        .read = read_text,
        .job = {.prepare = prepare, .model = c->model, .place = c->place, .n_seqs = 1, .n_want = 1},
        .threads = c->threads,
        .terminal = &r.terminal,
        .work = work,
        .ctx = &r,
        .status = &r.status});
    free(r.text);
    free(r.ids);
    return status;
}

const struct cf_command cf_command_perplexity = {
    .name = "perplexity",
    .synopsis = "[-m FILE] -f TEXT [-c N] [--chunks N] [--layout NAME] ...",
    .summary = "measure how well a model foretells a text",
    .text =
        "Perplexity by the method of llama.cpp's tool of that name, so that the figures can be compared: the text is "
        "tokenised whole and cut into chunks of -c tokens, each begins with BOS if the model wants one, and the tokens "
        "of its second half are scored. After each chunk stdout has the value so far, and at the end the estimate "
        "with its standard error. The value does not depend on ranks, layout, threads or batches.",
    .example = "coffer perplexity -m model.gguf -f wiki.test.raw -c 512",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
