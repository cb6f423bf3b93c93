/* coffer run: generate text from a model, on any number of ranks. The way of one run: options -> (self-launch) -> job
 * (decode/job.h) -> prompt to ids -> generate -> text, JSON, statistics.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/chat/render.h"
#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/shared/input.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/commands/run/prompts.h"
#include "coordinator/commands/run/report.h"
#include "coordinator/commands/shared/sampling.h"
#include "coordinator/commands/shared/supervision.h"
#include "coordinator/commands/shared/on_ranks.h"
#include "coordinator/decode/generate.h"
#include "coordinator/decode/prompt_cache.h"

struct config {
    const char *model, *prompt, *file, *prompt_ids, *dump, *prompts, *output, *system, *template, *cache;
    int64_t predict, threads, ranks, logprobs, parallel, max_kv, keep;
    bool json, echo, stats, special, cache_all, cache_ro;
    struct cf_placement place;
    struct cf_sampling sampling;
    struct cf_watch watch;
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.predict = -1,
        .keep = 4,
        .place = cf__placement_defaults(),
        .sampling = cf__sampling_defaults(),
        .watch = cf__watch_defaults()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE",
        "GGUF model file (the first of a split set; default COFFER_MODEL, or the one that comes with coffer)", 0, 0,
        NULL},
    {"prompt", 'p', CF_OPT_STRING, AT(prompt), "TEXT", "the prompt", 0, 0, NULL},
    {"file", 'f', CF_OPT_STRING, AT(file), "FILE", "read the prompt from FILE (- for stdin)", 0, 0, NULL},
    {"prompt-ids", 0, CF_OPT_STRING, AT(prompt_ids), "IDS", "token ids separated by commas instead of a text", 0, 0,
        NULL},
    {"prompts", 0, CF_OPT_STRING, AT(prompts), "FILE",
        "many prompts: a JSON object a line (- for stdin), {\"prompt\": \"...\"} and what it wants of its own; an "
        "answer "
        "a line, in order of completion",
        0, 0, NULL},
    {"output", 'o', CF_OPT_STRING, AT(output), "FILE", "with --prompts: write the answers to FILE", 0, 0, NULL},
    {"parallel", 0, CF_OPT_INT, AT(parallel), "N",
        "with --prompts: most sequences at once, each with a context of its own (default 8)", 0, 65536, "np"},
    {"predict", 'n', CF_OPT_INT, AT(predict), "N",
        "tokens to generate; -1 until the end or the context is full (default -1)", -1, 1e9, "n-predict"},
    {"threads", 't', CF_OPT_INT, AT(threads), "N",
        "threads per rank (default the rank's share of physical cores, or fewer where that is predicted to be faster)",
        0, 4096, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", CF__RANKS_HELP, 0, 1024, NULL},
    {"system-prompt", 0, CF_OPT_STRING, AT(system), "TEXT",
        "the prompt is a message behind this system prompt, written as the model's chat template wants it", 0, 0,
        "sys"},
    {"chat-template", 0, CF_OPT_STRING, AT(template), "NAME",
        "the same without a system prompt, or with another template: auto, a name or a file (see coffer chat; default "
        "none: the model goes on with the prompt as it is)",
        0, 0, NULL},
    {"special", 0, CF_OPT_FLAG, AT(special), NULL, "names of special tokens in the prompt become those tokens", 0, 0,
        NULL},
    {"echo", 0, CF_OPT_FLAG, AT(echo), NULL, "print the prompt before the text", 0, 0, NULL},
    {"json", 0, CF_OPT_FLAG, AT(json), NULL, "print one JSON object instead of the text", 0, 0, NULL},
    {"logprobs", 0, CF_OPT_INT, AT(logprobs), "K", "with --json: the K best tokens of every generated position", 0,
        1000, NULL},
    {"dump-logits", 0, CF_OPT_STRING, AT(dump), "FILE",
        "write the raw logits of every generated position: little-endian f32, [generated][n_vocab]", 0, 0, NULL},
    {"max-kv-size", 0, CF_OPT_INT, AT(max_kv), "N",
        "go on for ever with a KV cache of N positions: those that --keep says and the last ones; without -c up to "
        "1048576 tokens (default 0: the text ends where the context is full)",
        0, 1 << 24, NULL},
    {"keep", 0, CF_OPT_INT, AT(keep), "N", "with --max-kv-size: positions at the beginning that stay (default 4)", 0,
        1 << 24, NULL},
    {"prompt-cache", 0, CF_OPT_STRING, AT(cache), "FILE",
        "keep what was computed of the prompt in FILE, and begin with what it holds of this prompt already", 0, 0,
        NULL},
    {"prompt-cache-all", 0, CF_OPT_FLAG, AT(cache_all), NULL, "the cache file gets what is generated, too", 0, 0, NULL},
    {"prompt-cache-ro", 0, CF_OPT_FLAG, AT(cache_ro), NULL, "use the cache file, but do not write it", 0, 0, NULL},
    {"stats", 0, CF_OPT_FLAG, AT(stats), NULL, "end with a table of coffers and domains on stderr", 0, 0, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__sampling_options, AT(sampling)}, {cf__layout_options, AT(place)},
    {cf__split_options, AT(place)}, {cf__rank_options, AT(place)}, {cf__host_options, AT(watch)},
    {cf__watch_options, AT(watch)}, {0}};

struct run {
    const struct config *c;
    struct cf_terminal terminal;
    char *text; /* prompt */
    size_t n_text;
    uint32_t *ids; /* of the prompt */
    size_t n_ids;
    struct cf_sampling_set set;
    struct cf_sampler *sampler;
    struct cf_stop *stop;
    struct cf_prompts *prompts; /* NULL: one prompt */
    uint32_t *all;              /* [n_ctx + 1] with --prompt-cache-all: those of the prompt, and what was generated */
    uint32_t n_all;
    struct cf_prompt_cache cache;
    struct cf_job *job;
    const struct cf_generate *generate;
    struct cf_replay replay;   /* of the supervisor */
    struct cf_replayed before; /* what was generated before a failure */
    uint32_t n_again;          /* of its tokens, so many have come again */
    struct cf_error differs;   /* ... and one was another */
    int status;                /* other than 0 after success: 130 */
};

static int read_prompts(struct run *r, struct cf_error *e) {
    const struct config *c = r->c;
    const struct cf_prompts_options o = {.file = c->prompts,
        .output = c->output,
        .parallel = c->parallel,
        .predict = c->predict,
        .logprobs = c->logprobs,
        .json = c->json,
        .special = c->special,
        .ctx_chosen = c->place.ctx_size > 0,
        .replay = cf_terminal_supervised() ? &r->replay : NULL,
        .on_stdin = cf_terminal_supervised(),
        .stats = c->stats,
        .sampling = &c->sampling};
    return cf_prompts_read(&r->prompts, &o, e);
}

static int read_prompt(void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    const struct config *c = r->c;
    if (c->prompt_ids) return 0;
    if (c->prompts) return read_prompts(r, e);
    if (!c->file) {
        r->text = strdup(c->prompt ? c->prompt : "");
        r->n_text = r->text ? strlen(r->text) : 0;
        return r->text ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    return cf__read_text(cf_terminal_supervised() ? "-" : c->file, &r->text, &r->n_text, e);
}

static int parse_ids(struct run *r, uint32_t n_vocab, struct cf_error *e) {
    const char *s = r->c->prompt_ids;
    r->ids = calloc(strlen(s) / 2 + 2, sizeof *r->ids);
    if (!r->ids) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    while (*s) {
        char *end;
        errno = 0;
        long long v = strtoll(s, &end, 10);
        if (end == s || errno || v < 0 || v >= n_vocab || (*end && *end != ','))
            return cf_fail(e, CF_ERR_USAGE, "--prompt-ids: \"%.20s\" is not a token id below %u", s, n_vocab);
        r->ids[r->n_ids++] = (uint32_t)v;
        s = *end ? end + 1 : end;
    }
    return 0;
}

static int question_to_ids(struct run *r, struct cf_job *j, struct cf_error *e) {
    const struct cf_chat_form *form;
    char why[160];
    if (cf_chat_choose(&form, r->c->template, j->gguf, j->tokenizer, why, sizeof why, e)) return -1;
    if (*why) cf_terminal_note(&r->terminal, "coffer: %s", why);
    return cf_chat_question(form, j->tokenizer, r->c->system, r->text, r->n_text, &r->ids, &r->n_ids, e);
}

static int prompt_to_ids(struct run *r, struct cf_job *j, struct cf_error *e) {
    if (r->c->prompt_ids) {
        if (parse_ids(r, j->model.n_vocab, e)) return -1;
    } else if (r->c->system || r->c->template) {
        if (question_to_ids(r, j, e)) return -1;
    } else {
        if (cf_tokenize(j->tokenizer, r->text, r->n_text, true, r->c->special, &r->ids, &r->n_ids, e)) return -1;
    }
    if (!r->n_ids)
        return cf_fail(
            e, CF_ERR_USAGE, "the prompt is empty: this model wants at least one token (-p, -f or --prompt-ids)");
    if (r->n_ids > j->n_ctx)
        return cf_fail(e, CF_ERR_LIMIT, "the prompt has %zu tokens, but the context holds %u (-c)", r->n_ids, j->n_ctx);
    for (size_t i = 0; i < r->n_ids; i++)
        if (r->ids[i] >= j->model.n_vocab)
            return cf_fail(
                e, CF_ERR_FORMAT, "the tokenizer gave id %u, but the model has %u tokens", r->ids[i], j->model.n_vocab);
    return r->c->cache ? cf_prompt_cache_open(&r->cache, r->c->cache, j, e) : 0;
}

/* What the file has of the prompt goes into the KV cache; the last token is left, for its logits are wanted. */
static int load_cache(struct run *r, struct cf_generate *g, struct cf_error *e) {
    if (!r->c->cache) return 0;
    g->start = cf_prompt_cache_common(&r->cache, g->prompt, g->n_prompt - 1);
    for (uint32_t i = 0; i < g->start; i++)
        cf_sampler_accept(g->sampler, g->prompt[i]);
    cf_terminal_note(
        &r->terminal, "coffer: %s holds %u of the %u tokens of the prompt", r->c->cache, g->start, g->n_prompt);
    return cf_prompt_cache_load(&r->cache, r->job, g->start, e);
}

/* The prompt is in the KV cache: a cache file that has less of it is written anew. */
static int prefilled(void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    uint32_t n = r->generate->n_cached < r->n_ids ? r->generate->n_cached : (uint32_t)r->n_ids;
    if (!r->c->cache || r->c->cache_ro || cf_prompt_cache_common(&r->cache, r->ids, n) == n) return 0;
    return cf_prompt_cache_save(&r->cache, r->job, r->ids, n, e);
}

/* A result or a dump wants the logits of every token: then the answer begins anew after a failure, and the tokens that
 * were there already must come again. */
static bool begins_anew(const struct run *r) {
    return r->c->json || r->c->dump;
}

static void journal_token(struct run *r, uint32_t id, bool again) {
    char text[CF_REPLAY_TOKEN_BYTES];
    uint64_t state[CF_SAMPLER_STATE];
    if (again) return;
    if (r->n_again < r->before.n && begins_anew(r)) {
        bool exact = r->job->plan.wire == CF_DTYPE_F32;
        if (r->before.ids[r->n_again++] != id && exact && !r->differs.code)
            cf_fail(&r->differs, CF_ERR_NUMERIC,
                "token %u is not the one that stood there before the failure: is the model another one?", r->n_again);
        return;
    }
    cf_sampler_state(r->sampler, state);
    cf_replay_print_token(text, id, state);
    cf_terminal_event(&r->terminal, "token", "%s", text);
}

static void keep_token(void *ctx, uint32_t id, bool again) {
    struct run *r = ctx;
    journal_token(r, id, again);
    if (r->all && r->n_all <= r->job->plan.n_ctx) r->all[r->n_all++] = id;
}

static int keep_all(struct run *r, struct cf_error *e) {
    if (!r->c->cache_all) return 0;
    r->all = malloc((r->job->plan.n_ctx + 1ull) * sizeof *r->all);
    if (!r->all) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    memcpy(r->all, r->ids, r->n_ids * sizeof *r->ids);
    r->n_all = (uint32_t)r->n_ids;
    return 0;
}

static int save_all(struct run *r, const struct cf_generate *g, struct cf_error *e) {
    if (!r->all || r->c->cache_ro || g->n_cached > r->n_all) return 0;
    return cf_prompt_cache_save(&r->cache, r->job, r->all, g->n_cached, e);
}

/* Before the model is loaded: a mistake here should not cost that. */
static int prepare(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    uint32_t n_vocab = j->model.n_vocab;
    if (r->prompts) return cf_prompts_prepare(r->prompts, j, e);
    if (prompt_to_ids(r, j, e)) return -1;
    if (cf__sampling_open(&r->set, &r->c->sampling, j->tokenizer, n_vocab, j->n_ctx, e)) return -1;
    if (cf__sampling_start(&r->set, &r->set.params, n_vocab, &r->sampler, &r->stop, e)) return -1;
    if (r->c->place.verbose) cf_sampler_print(r->sampler, stderr);
    return 0;
}

static int show_text(void *ctx, const char *bytes, size_t n, struct cf_error *e) {
    struct run *r = ctx;
    if (r->differs.code) return *e = r->differs, -1;
    return r->c->json ? 0 : cf_terminal_text(&r->terminal, bytes, n, e);
}

static int print_json(struct run *r, const struct cf_result *result, struct cf_error *e) {
    if (!r->terminal.stream) return cf_result_print_json(result, stdout, e);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    int rc = f ? cf_result_print_json(result, f, e) : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (f && fclose(f) && !rc) rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!rc) rc = cf_terminal_text(&r->terminal, text, n, e);
    free(text);
    return rc;
}

static int finish(struct run *r, struct cf_job *j, struct cf_generate *g, struct cf_error *e) {
    r->terminal.closing = true;
    struct cf_rank_counts *counts = calloc(j->n_ranks, sizeof *counts);
    if (!counts) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    int rc = cf_engine_counts(j->engine, counts, e);
    double prefill = g->prefill_seconds > 0 ? (double)(g->n_prompt + g->n_again - g->start) / g->prefill_seconds : NAN;
    uint32_t n_new = g->n_generated - g->n_again;
    double decode = n_new > 1 && g->decode_seconds > 0 ? (n_new - 1) / g->decode_seconds : NAN;
    if (!rc && g->result) {
        cf_report_result(g->result, j, counts, prefill, decode);
        rc = print_json(r, g->result, e);
        if (!rc) cf_terminal_event(&r->terminal, "whole", "%s", "");
    }
    if (!rc && !r->c->json) rc = cf_terminal_text(&r->terminal, "\n", 1, e);
    if (!rc) cf_report_speed(&r->terminal, j, g, counts, prefill, decode);
    if (!rc && r->c->stats) cf_report_stats(&r->terminal, j, counts);
    free(counts);
    return rc;
}

static int work(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct run *r = ctx;
    const struct config *c = r->c;
    if (r->prompts) return cf_prompts_work(r->prompts, j, &r->terminal, &r->status, e);
    struct cf_generate g = {.job = j,
        .n_predict = c->predict,
        .ignore_eos = c->sampling.ignore_eos,
        .sampler = r->sampler,
        .stop = r->stop,
        .text = show_text,
        .prefilled = prefilled,
        .token = keep_token,
        .interrupted = cf_interrupted,
        .ctx = r};
    g.prompt = r->ids, g.n_prompt = (uint32_t)r->n_ids;
    r->job = j, r->generate = &g;
    uint64_t room = j->plan.n_ctx - g.n_prompt + 1;
    if (c->predict >= 0 && (uint64_t)c->predict < room) room = (uint64_t)c->predict;
    struct cf_result_size size = {g.n_prompt, room, j->model.n_vocab, (uint32_t)c->logprobs, j->n_ranks};
    int rc = c->json ? cf_result_new(&g.result, &size, e) : 0;
    if (!rc && g.result) cf_result_prompt(g.result, r->ids);
    if (!rc && c->dump) rc = cf_dump_open(&g.dump, c->dump, e);
    if (!rc && c->echo && r->text) rc = show_text(r, r->text, r->n_text, e);
    if (!rc) rc = keep_all(r, e);
    if (!rc) rc = cf_replay_tokens(&r->replay, &r->before, e);
    if (!rc) rc = load_cache(r, &g, e);
    if (r->before.n && j->plan.wire != CF_DTYPE_F32)
        cf_terminal_note(&r->terminal,
            "coffer: --wire %s rounds between hosts: from here on the tokens may be others than without the failure",
            cf_dtype_name(j->plan.wire));
    g.seen = g.start;
    if (!begins_anew(r)) g.before = &r->before;
    if (!rc) rc = cf_generate_run(&g, e);
    if (!rc) rc = save_all(r, &g, e);
    if (!rc && g.context_full)
        cf_terminal_note(&r->terminal, "coffer: the context of %u tokens is full: stopped (-c)", j->plan.n_ctx);
    if (!rc) rc = finish(r, j, &g, e);
    if (rc)
        cf_dump_abandon(g.dump);
    else
        rc = cf_dump_close(g.dump, e);
    r->status = g.interrupt_status;
    cf_result_free(g.result);
    return rc;
}

static int check_config(struct config *c, struct cf_error *e) {
    if (!c->prompt && !c->file && !c->prompt_ids && !c->prompts)
        return cf_fail(e, CF_ERR_USAGE, "no prompt: -p TEXT, -f FILE, --prompt-ids IDS or --prompts FILE");
    if (c->prompts && (c->prompt || c->file || c->prompt_ids || c->dump || c->echo))
        return cf_fail(
            e, CF_ERR_USAGE, "--prompts does not go together with -p, -f, --prompt-ids, --dump-logits and --echo");
    if (!c->prompts && (c->output || c->parallel))
        return cf_fail(e, CF_ERR_USAGE, "%s is for --prompts", c->output ? "-o" : "--parallel");
    if ((c->prompt_ids || c->prompts) && (c->system || c->template))
        return cf_fail(e, CF_ERR_USAGE, "%s goes without --system-prompt and --chat-template",
            c->prompts ? "--prompts" : "--prompt-ids");
    if (cf_chat_check_option(c->template, e)) return -1;
    if (c->max_kv && c->max_kv <= c->keep)
        return cf_fail(e, CF_ERR_USAGE, "--max-kv-size %lld leaves nothing beside --keep %lld", (long long)c->max_kv,
            (long long)c->keep);
    if (c->max_kv && (c->cache || c->prompts))
        return cf_fail(e, CF_ERR_USAGE, "--max-kv-size goes without --prompt-cache and --prompts");
    if (c->max_kv && !c->place.ctx_size) c->place.ctx_size = 1 << 20;
    if (!c->cache && (c->cache_all || c->cache_ro))
        return cf_fail(e, CF_ERR_USAGE, "--prompt-cache-all and --prompt-cache-ro need --prompt-cache FILE");
    if (c->cache && c->prompts) return cf_fail(e, CF_ERR_USAGE, "--prompts goes without --prompt-cache");
    return cf__sampling_check(&c->sampling, e) ? -1 : cf__placement_check(&c->place, false, e);
}

static int command(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    struct run r = {.c = c};
    char path[CF__MODEL_PATH];
    if (argc) cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]);
    if (e.code || check_config(c, &e) || cf__default_model(&c->model, path, &e))
        return cf__command_failed(&cf_command_run, &e);
    int status = cf__on_ranks(&(struct cf__on_ranks){.command = &cf_command_run,
        .launch = {.ranks = c->ranks,
            .map = c->place.map,
            .watch = &c->watch,
            .timeout = c->place.timeout,
            .reads = c->prompt_ids ? NULL
                     : c->prompts  ? c->prompts
                                   : c->file,
            .read = cf__read_text,
            .whole = c->json || c->prompts,
            .draws_seed = !c->prompts && c->sampling.params.seed < 0,
            .output = c->output},
        .replay = &r.replay,
        .read = read_prompt,
        .job = {.prepare = prepare,
            .model = c->model,
            .place = c->place,
            .n_seqs = 1,
            .n_want = 1,
            .fewer_threads = true,
            .kv_size = (uint32_t)c->max_kv,
            .kv_keep = c->max_kv ? (uint32_t)c->keep : 0},
        .threads = c->threads,
        .terminal = &r.terminal,
        .work = work,
        .ctx = &r,
        .status = &r.status});
    cf_sampler_free(r.sampler);
    cf_stop_free(r.stop);
    cf__sampling_close(&r.set);
    cf_prompts_free(r.prompts);
    cf_prompt_cache_close(&r.cache);
    cf_replay_free(&r.replay);
    cf_replayed_free(&r.before);
    free(r.text);
    free(r.ids);
    free(r.all);
    return status;
}

const struct cf_command cf_command_run = {
    .name = "run",
    .synopsis = "[-m FILE] -p TEXT [-n N] [--layout NAME] ...",
    .summary = "generate text from a model",
    .text =
        "Generates text: the model goes on with the prompt as it is, unless --chat-template or --system-prompt makes a "
        "message of it; for conversations there is coffer chat. Started by mpirun or srun, every rank holds its part "
        "of the model in the memory of its NUMA "
        "node. Started alone, it runs in place on a machine of one NUMA node, and starts mpirun by itself, one rank "
        "per "
        "node, on a machine of several.\n\n"
        "stdout carries the text (or the JSON object) alone; everything else goes to stderr. Exit status: 0, 1 "
        "failure, "
        "2 usage, 130 after Ctrl-C. The first Ctrl-C ends the text, the second kills.\n\n"
        "Tokens are chosen as llama.cpp does it, with its names, defaults and order; --verbose prints all of them. The "
        "draw is our own: the same seed gives the same text on every machine.\n\n"
        "--prompts takes a JSON object a line: \"prompt\" (a text or token ids), and what this prompt wants of its "
        "own: "
        "\"id\" (comes back), \"n_predict\", \"stop\", \"ignore_eos\", and any number of the sampling options, such as "
        "\"temperature\", \"top_k\", \"seed\". Answers are lines with \"index\" (of the prompt, from 0), \"id\", "
        "\"text\", "
        "\"end\" (eos, stop, limit, context), \"n_prompt\", \"n_generated\" and \"seed\", with --json also ids, hash "
        "and "
        "logprobs; in order of completion, each the same as that of a run of its own. After Ctrl-C the finished ones "
        "are "
        "there.\n\n"
        "The logits of files with quantised matrices are the same, bit for bit, for every number of ranks, layout, "
        "number of threads and instruction set (COFFER_ISA chooses one).",
    .example = "coffer run -m model.gguf -p \"Once upon a time\" -n 64\n"
               "coffer run -m model.gguf --prompts prompts.jsonl -n 64 -o answers.jsonl\n"
               "mpirun -n 4 coffer run -m model.gguf -p \"Once upon a time\" -n 64 --layout tensor",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
