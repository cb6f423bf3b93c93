/* coffer chat: a conversation with a model, on any number of ranks. In a terminal the front process (cli/front.h) reads
 * the lines and starts this as one rank or many; elsewhere every line on stdin is a message. The way: options ->
 * (front)
 * -> job (decode/job.h) -> template of the model -> read, answer, read ...
 */
#include "coordinator/commands/chat/chat.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/commands/shared/on_ranks.h"
#include "coordinator/commands/shared/supervision.h"

struct config {
    const char *model, *prompt, *system, *template, *reasoning;
    int64_t predict, threads, ranks;
    bool single_turn;
    struct cf_placement place;
    struct cf_sampling sampling;
    struct cf_watch watch;
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.predict = -1,
        .reasoning = "auto",
        .place = cf__placement_defaults(),
        .sampling = cf__sampling_defaults(),
        .watch = cf__watch_defaults()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE", "GGUF model file (the first of a split set)", 0, 0, NULL},
    {"prompt", 'p', CF_OPT_STRING, AT(prompt), "TEXT", "the first message", 0, 0, NULL},
    {"system-prompt", 0, CF_OPT_STRING, AT(system), "TEXT", "the system prompt (default none)", 0, 0, "sys"},
    {"chat-template", 0, CF_OPT_STRING, AT(template), "NAME",
        "chat template: a name as llama.cpp has them, or a file with a Jinja text whose family is recognised (default "
        "auto: the model's)",
        0, 0, NULL},
    {"reasoning-format", 0, CF_OPT_STRING, AT(reasoning), "WAY",
        "thinking blocks: auto (shown, dim on a terminal), hide, or none (not looked for: they stay part of the "
        "answer) "
        "(default auto)",
        0, 0, NULL},
    {"single-turn", 0, CF_OPT_FLAG, AT(single_turn), NULL, "end after the first answer", 0, 0, "st"},
    {"predict", 'n', CF_OPT_INT, AT(predict), "N",
        "most tokens of an answer; -1 until it ends or the context is full (default -1)", -1, 1e9, "n-predict"},
    {"threads", 't', CF_OPT_INT, AT(threads), "N",
        "threads per rank (default the rank's share of physical cores, or fewer where that is predicted to be faster)",
        0, 4096, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", CF__RANKS_HELP, 0, 1024, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__sampling_options, AT(sampling)}, {cf__layout_options, AT(place)},
    {cf__split_options, AT(place)}, {cf__rank_options, AT(place)}, {cf__host_options, AT(watch)},
    {cf__watch_options, AT(watch)}, {0}};

struct chat {
    const struct config *c;
    struct cf_terminal terminal;
    struct cf__chat_session session;
};

static int reasoning_by_name(const char *name, enum cf__chat_reasoning *way, struct cf_error *e) {
    static const char *const names[] = {"auto", "hide", "none"}; /* enum cf__chat_reasoning */
    for (int i = 0; i < 3; i++)
        if (!strcmp(names[i], name)) return *way = (enum cf__chat_reasoning)i, 0;
    return cf_fail(e, CF_ERR_USAGE, "--reasoning-format %.40s is unknown; known: auto, hide, none", name);
}

static int check_config(struct config *c, struct cf_error *e) {
    enum cf__chat_reasoning way;
    if (reasoning_by_name(c->reasoning, &way, e) || cf_chat_check_option(c->template, e)) return -1;
    return cf__sampling_check(&c->sampling, e) ? -1 : cf__placement_check(&c->place, false, e);
}

/* The text that ends an answer, for models whose vocabulary does not have it as a token. */
static void find_end_marker(struct cf__chat_session *s) {
    const char *after = s->form->after[CF_CHAT_ASSISTANT];
    size_t n = after ? strlen(after) : 0;
    while (n && (*after == '\n' || *after == ' '))
        after++, n--;
    while (n && (after[n - 1] == '\n' || after[n - 1] == ' '))
        n--;
    if (!n || n >= sizeof s->marker) return;
    memcpy(s->marker, after, n);
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    struct cf_error unused;
    if (cf_tokenize(s->job->tokenizer, s->marker, n, false, true, &ids, &n_ids, &unused) == 0 && n_ids != 1)
        s->end_marker = s->marker;
    free(ids);
}

/* Before the model is loaded: a mistake here should not cost that. */
static int prepare(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct chat *h = ctx;
    struct cf__chat_session *s = &h->session;
    s->job = j;
    if (cf_chat_choose(&s->form, h->c->template, j->gguf, j->tokenizer, s->why, sizeof s->why, e)) return -1;
    find_end_marker(s);
    uint32_t n_vocab = j->model.n_vocab;
    if (cf__sampling_open(&s->set, &h->c->sampling, j->tokenizer, n_vocab, j->n_ctx, e)) return -1;
    if (cf__sampling_start(&s->set, &s->set.params, n_vocab, &s->sampler, &s->stop, e)) return -1;
    if (h->c->place.verbose) cf_sampler_print(s->sampler, stderr);
    return h->c->system ? cf_chat_set_system(&s->chat, h->c->system, strlen(h->c->system), e) : 0;
}

static void greet(struct chat *h) {
    const struct cf__chat_session *s = &h->session;
    if (s->replay.n) return; /* it has been said, before a failure */
    if (*s->why) cf_terminal_note(&h->terminal, "coffer: %s", s->why);
    if (cf_chat_system(&s->chat) && s->form->system == CF_CHAT_SYSTEM_DROP)
        cf_terminal_note(&h->terminal, "coffer: template %s has no place for a system prompt", s->form->name);
    if (h->terminal.talk)
        cf_terminal_note(&h->terminal,
            "coffer: template %s, context %u tokens. /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.",
            s->form->name, s->job->plan.n_ctx);
}

static int take_message(struct cf__chat_session *s, char *text, size_t n, bool block, struct cf_error *e) {
    if (!block && n && text[0] == '/' && text[1] != '/') return cf__chat_word(s, text, e);
    bool slash = !block && n > 1 && text[0] == '/'; /* "//": the second one counts */
    if (!n) return 0;
    return cf__chat_turn(s, text + slash, n - slash, e);
}

static int converse(struct chat *h, struct cf_error *e) {
    struct cf__chat_session *s = &h->session;
    const char *first = h->c->prompt;
    if (first && cf__chat_turn(s, first, strlen(first), e)) return -1;
    s->end |= h->c->single_turn && first;
    while (!s->end) {
        char *text;
        size_t n, before = s->chat.n;
        bool block;
        enum cf__chat_got got = cf__chat_read(&s->input, s->terminal, &text, &n, &block, e);
        if (got == CF__CHAT_FAILED) return -1;
        if (got == CF__CHAT_END) break;
        if (take_message(s, text, n, block, e)) return -1;
        s->end |= h->c->single_turn && s->chat.n > before;
    }
    return 0;
}

static int work(struct cf_job *j, void *ctx, struct cf_error *e) {
    struct chat *h = ctx;
    struct cf__chat_session *s = &h->session;
    s->job = j;
    s->terminal = &h->terminal;
    s->input.terminal = &h->terminal;
    s->input.transport = j->transport;
    s->input.replay = &s->replay;
    greet(h);
    int rc = converse(h, e);
    if (!rc && !s->status && !h->terminal.talk && cf_interrupted()) s->status = cf_interrupted();
    return rc;
}

static void free_session(struct cf__chat_session *s) {
    cf_sampler_free(s->sampler);
    cf_stop_free(s->stop);
    cf__sampling_close(&s->set);
    cf_chat_clear(&s->chat);
    cf__chat_input_free(&s->input);
    cf_replay_free(&s->replay);
    cf_chat_answer_free(&s->answer);
    free(s->worked);
    free(s->cached);
    free(s->ids);
}

static int command(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    char path[CF__MODEL_PATH];
    if (argc) cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]);
    if (e.code || check_config(c, &e) || cf__default_model(&c->model, path, &e))
        return cf__command_failed(&cf_command_chat, &e);
    struct chat h = {.c = c, .session = {.predict = c->predict, .ignore_eos = c->sampling.ignore_eos}};
    reasoning_by_name(c->reasoning, &h.session.reasoning, &e);
    int status = cf__on_ranks(&(struct cf__on_ranks){.command = &cf_command_chat,
        .launch = {.ranks = c->ranks,
            .map = c->place.map,
            .talk = isatty(STDIN_FILENO),
            .watch = &c->watch,
            .timeout = c->place.timeout,
            .asks = !isatty(STDIN_FILENO),
            .draws_seed = c->sampling.params.seed < 0},
        .replay = &h.session.replay,
        .job =
            {.prepare = prepare, .model = c->model, .place = c->place, .n_seqs = 1, .n_want = 1, .fewer_threads = true},
        .threads = c->threads,
        .terminal = &h.terminal,
        .work = work,
        .ctx = &h,
        .status = &h.session.status});
    free_session(&h.session);
    return status;
}

const struct cf_command cf_command_chat = {
    .name = "chat",
    .synopsis = "[-m FILE] [-sys TEXT] [-p TEXT] [--chat-template NAME] ...",
    .summary = "talk with a model",
    .text =
        "A conversation. In a terminal lines are edited as usual (arrows, history, Ctrl-R); a line that ends with a "
        "backslash goes on in the next one, and \"\"\" begins and ends a message of several lines. Ctrl-C stops the "
        "answer; at an empty prompt it ends the program, as Ctrl-D does. Where stdin is no terminal, every line is a "
        "message, and nothing but the answers goes to stdout.\n\n"
        "Lines that begin with a slash are for the program: /reset, /save FILE, /load FILE, /system TEXT, /stats, "
        "/exit, "
        "/help. A conversation is saved as JSON: a list of messages with role and content.\n\n"
        "How the model wants a conversation written is recognised from the template in its file. What people write is "
        "never read as special tokens, so nobody can forge the end of a message. Thinking blocks are shown dim and not "
        "shown to the model again. When the context is full, the oldest messages are forgotten, and it is said.",
    .example = "coffer chat -m model.gguf -sys \"You are terse.\"\n"
               "printf 'Hello\\nAnd again\\n' | coffer chat -m model.gguf -n 32",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
