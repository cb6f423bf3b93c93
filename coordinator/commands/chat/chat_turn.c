/* One question and its answer: the conversation as ids, as much of it as the cache does not hold yet through the model,
 * then token after token. See chat.h. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/chat/chat.h"
#include "coordinator/decode/pace.h"

enum { MOST_RESERVED = 256 }; /* tokens of the context that a prompt leaves for its answer, where it can */

static int keep(uint32_t **list, size_t *room, size_t n, struct cf_error *e) {
    if (*list && n <= *room) return 0;
    size_t more = 2 * n + 256;
    uint32_t *bigger = realloc(*list, more * sizeof *bigger);
    if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu ids", more);
    *list = bigger;
    *room = more;
    return 0;
}

static int to_ids(
    struct cf__chat_session *s, const struct cf_chat *chat, uint32_t **ids, size_t *n, struct cf_error *e) {
    struct cf_chat_text text;
    int rc = cf_chat_render(s->form, chat, true, &text, e);
    if (!rc) rc = cf_chat_tokens(s->form, s->job->tokenizer, &text, ids, n, e);
    cf_chat_text_free(&text);
    if (!rc && !*n) rc = cf_fail(e, CF_ERR_FORMAT, "the conversation became no tokens");
    for (size_t i = 0; !rc && i < *n; i++)
        if ((*ids)[i] >= s->job->model.n_vocab)
            rc = cf_fail(e, CF_ERR_FORMAT, "the tokenizer gave id %u, but the model has %u tokens", (*ids)[i],
                s->job->model.n_vocab);
    if (rc) free(*ids), *ids = NULL;
    return rc;
}

/* How many ids the last message has without those before it. */
static int alone(struct cf__chat_session *s, size_t *n, struct cf_error *e) {
    const struct cf_chat_message *system = cf_chat_system(&s->chat);
    struct cf_chat_message two[2] = {
        system ? *system : s->chat.messages[s->chat.n - 1], s->chat.messages[s->chat.n - 1]};
    struct cf_chat view = {.messages = two, .n = system ? 2 : 1};
    uint32_t *ids;
    if (to_ids(s, &view, &ids, n, e)) return -1;
    free(ids);
    return 0;
}

/* The conversation as ids that fit; the oldest turns go if it is too long. *ids NULL: even the last message alone does
 * not fit. */
static int fit(struct cf__chat_session *s, uint32_t **ids, size_t *n, struct cf_error *e) {
    uint32_t n_ctx = s->job->plan.n_ctx, reserve = n_ctx / 4 < MOST_RESERVED ? n_ctx / 4 : MOST_RESERVED;
    if (s->predict >= 0 && s->predict < reserve) reserve = (uint32_t)s->predict;
    size_t dropped = 0, least = 0;
    if (to_ids(s, &s->chat, ids, n, e)) return -1;
    while (*n + reserve > n_ctx) {
        if (!least && alone(s, &least, e)) least = SIZE_MAX;
        size_t now = least <= n_ctx ? cf_chat_drop_oldest(&s->chat) : 0;
        if (!now && *n <= n_ctx) break;
        free(*ids);
        *ids = NULL;
        if (least == SIZE_MAX) return -1;
        *n = least;
        if (!now) return 0;
        dropped += now;
        if (to_ids(s, &s->chat, ids, n, e)) return -1;
    }
    if (dropped)
        cf_terminal_note(s->terminal,
            "coffer: the context of %u tokens is full: the oldest %zu messages are forgotten (-c gives more room)",
            n_ctx, dropped);
    return 0;
}

/* How much of ids[n] the cache holds; at least one is left to compute. */
static uint32_t common(const struct cf__chat_session *s, const uint32_t *ids, size_t n) {
    size_t same = 0;
    while (same < s->n_cached && same + 1 < n && s->cached[same] == ids[same])
        same++;
    return (uint32_t)same;
}

static void journal_token(struct cf__chat_session *s, uint32_t id) {
    char text[CF_REPLAY_TOKEN_BYTES];
    uint64_t state[CF_SAMPLER_STATE];
    cf_sampler_state(s->sampler, state);
    cf_replay_print_token(text, id, state);
    cf_terminal_event(s->terminal, "token", "%s", text);
}

static void on_token(void *ctx, uint32_t id, bool again) {
    struct cf__chat_session *s = ctx;
    if (!again) journal_token(s, id);
    const struct cf_tokenizer *t = s->job->tokenizer;
    if (keep(&s->ids, &s->room_ids, s->n_ids + 1, &s->lost)) return;
    s->ids[s->n_ids++] = id;
    if (cf_token_bytes(t, id, false, NULL, 0) || cf_tokenizer_is_end(t, id)) return;
    char name[128];
    size_t n = cf_token_bytes(t, id, true, name, sizeof name);
    s->odd = true;
    if (n && n <= sizeof name && cf_chat_answer_token(&s->answer, name, n, &s->lost)) return;
}

static int on_text(void *ctx, const char *bytes, size_t n, struct cf_error *e) {
    struct cf__chat_session *s = ctx;
    if (cf_chat_answer_text(&s->answer, bytes, n, e)) return -1;
    s->generate->end_now = s->answer.ended;
    return 0;
}

static int set_dim(struct cf__chat_session *s, bool dim, struct cf_error *e) {
    if (dim == s->dim) return 0;
    s->dim = dim;
    if (!dim && cf_terminal_text(s->terminal, "\n</think>\n\n", 11, e)) return -1;
    cf_terminal_dim(s->terminal, dim);
    return dim ? cf_terminal_text(s->terminal, "<think>\n", 8, e) : 0;
}

static int on_piece(void *ctx, enum cf_chat_kind kind, const char *bytes, size_t n, struct cf_error *e) {
    struct cf__chat_session *s = ctx;
    bool thinking = kind == CF_CHAT_THINKING;
    if (thinking && s->reasoning == CF__CHAT_HIDE) return 0;
    return set_dim(s, thinking, e) || cf_terminal_text(s->terminal, bytes, n, e) ? -1 : 0;
}

/* The answer becomes a message; its ids are kept where they are exactly its text. */
static int remember(struct cf__chat_session *s, struct cf_error *e) {
    struct cf_chat_answer *a = &s->answer;
    if (cf_chat_add(&s->chat, CF_CHAT_ASSISTANT, a->content.n ? a->content.text : "", a->content.n, e)) return -1;
    struct cf_chat_message *m = &s->chat.messages[s->chat.n - 1];
    if (a->thinking.n) {
        m->thinking = a->thinking.text;
        a->thinking = (struct cf_chat_buffer){0};
    }
    size_t n = s->n_ids;
    if (n && cf_tokenizer_is_end(s->job->tokenizer, s->ids[n - 1])) n--;
    if (a->marked || a->ended || s->odd || !n) return 0;
    m->ids = malloc(n * sizeof *m->ids);
    if (!m->ids) return 0; /* then the tokenizer makes them again */
    memcpy(m->ids, s->ids, n * sizeof *m->ids);
    m->n_ids = n;
    return 0;
}

/* Who held the others up in this answer; of one that nothing is foretold of: nobody, but what was done for it is noted.
 * A rank that is lost is found at the next one. */
static void say_straggler(struct cf__chat_session *s, const struct cf_pace *p) {
    struct cf_error ignored;
    uint32_t n = s->job->n_ranks;
    struct cf_rank_counts *counts = n > 1 ? calloc(n, sizeof *counts) : NULL;
    if (!s->worked) s->worked = calloc(n, sizeof *s->worked);
    if (counts && s->worked && !cf_engine_counts(s->job->engine, counts, &ignored))
        cf_pace_say_straggler(p, s->terminal, s->job, counts, s->worked);
    free(counts);
}

static void say_speed(struct cf__chat_session *s, const struct cf_generate *g) {
    char memory[512] = "";
    for (uint32_t r = 0; r < s->job->n_ranks; r++) {
        size_t at = strlen(memory);
        snprintf(memory + at, sizeof memory - at, "%s%.2f", r ? " + " : "",
            (double)cf_engine_ready(s->job->engine, (int)r)->bytes / (1024.0 * 1024.0 * 1024.0));
    }
    uint32_t n_new = g->n_generated - g->n_again;
    double decode = n_new > 1 && g->decode_seconds > 0 ? (n_new - 1) / g->decode_seconds : 0;
    double prefill = g->prefill_seconds > 0 ? (g->n_prompt + g->n_again - g->start) / g->prefill_seconds : 0;
    struct cf_pace p;
    cf_pace_of(&p, s->job, g);
    cf_terminal_dim(s->terminal, true);
    cf_terminal_note(s->terminal,
        "[%s%u tokens, %.1f tokens/s%s; %u new of the prompt's %u, %.1f tokens/s%s; context %zu of %u; memory %s GiB]",
        g->interrupt_status ? "stopped; " : "", g->n_generated, decode, p.decode, g->n_prompt - g->start, g->n_prompt,
        prefill, p.prefill, s->n_cached, s->job->plan.n_ctx, memory);
    say_straggler(s, &p);
    cf_terminal_dim(s->terminal, false);
    cf_pace_free(&p);
}

/* Stopped before the first token: as if nothing had been asked. */
static int take_back(struct cf__chat_session *s) {
    cf_chat_remove(&s->chat, s->chat.n - 1, 1);
    cf_terminal_note(s->terminal, "coffer: stopped before an answer began: the message is taken back");
    return 0;
}

static int finish(struct cf__chat_session *s, struct cf_generate *g, struct cf_error *e) {
    if (cf_chat_answer_end(&s->answer, e) || set_dim(s, false, e)) return -1;
    if (cf_terminal_text(s->terminal, "\n", 1, e)) return -1;
    s->n_cached = g->n_cached;
    size_t n = g->n_cached > g->n_prompt ? g->n_cached - g->n_prompt : 0;
    if (n > s->n_ids) n = s->n_ids;
    if (keep(&s->cached, &s->room_cached, g->n_prompt + n, e)) return -1;
    memcpy(s->cached, g->prompt, g->n_prompt * sizeof *s->cached);
    if (n) memcpy(s->cached + g->n_prompt, s->ids, n * sizeof *s->cached);
    if (s->lost.code) {
        *e = s->lost;
        return -1;
    }
    if (g->context_full)
        cf_terminal_note(s->terminal,
            "coffer: the context of %u tokens is full: the answer stops here. The next message makes room by "
            "forgetting "
            "the oldest ones; /reset begins anew",
            s->job->plan.n_ctx);
    if (!g->n_generated && g->interrupt_status) {
        say_straggler(s, &(struct cf_pace){.work = NULL});
        return take_back(s);
    }
    say_speed(s, g);
    return remember(s, e);
}

/* What the engine's cache has too much goes; `start` is what it may keep. */
static int make_room(struct cf__chat_session *s, uint32_t start, struct cf_error *e) {
    if (start >= s->n_ready) return 0;
    s->n_ready = start;
    return cf_engine_truncate(s->job->engine, 0, start, e);
}

static int answer(struct cf__chat_session *s, const uint32_t *ids, size_t n, struct cf_error *e) {
    struct cf_replayed before;
    if (cf_replay_tokens(&s->replay, &before, e)) return cf_replayed_free(&before), -1;
    s->terminal->quiet = before.ended;
    uint32_t seen = common(s, ids, n);
    struct cf_generate g = {.job = s->job,
        .prompt = ids,
        .n_prompt = (uint32_t)n,
        .start = seen < s->n_ready ? seen : s->n_ready,
        .seen = seen,
        .before = &before,
        .n_predict = s->predict,
        .ignore_eos = s->ignore_eos,
        .sampler = s->sampler,
        .stop = s->stop,
        .text = on_text,
        .token = on_token,
        .interrupted = cf_interrupted,
        .ctx = s};
    s->answer =
        (struct cf_chat_answer){.end = s->end_marker, .raw = s->reasoning == CF__CHAT_RAW, .piece = on_piece, .ctx = s};
    s->generate = &g;
    s->n_ids = 0;
    s->odd = false;
    s->lost = (struct cf_error){0};
    cf_chat_answer_begin(&s->answer, s->form);
    int rc = make_room(s, g.start, e);
    if (s->stop) cf_stop_reset(s->stop);
    if (!rc) rc = cf_generate_run(&g, e);
    if (g.computed) s->n_ready = g.n_cached;
    s->odd |= s->stop && cf_stop_met(s->stop);
    if (!rc) rc = finish(s, &g, e);
    if (!rc && !before.ended) cf_terminal_event(s->terminal, "end", "%d %u", g.interrupt_status, g.n_cached);
    cf_chat_answer_free(&s->answer);
    cf_replayed_free(&before);
    cf_interrupt_clear();
    if (cf_interrupted()) s->end = true, s->status = cf_interrupted();
    return rc;
}

int cf__chat_turn(struct cf__chat_session *s, const char *text, size_t n, struct cf_error *e) {
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    cf_interrupt_clear();
    if (cf_chat_add(&s->chat, CF_CHAT_USER, text, n, e) || fit(s, &ids, &n_ids, e)) return -1;
    if (!ids) {
        cf_terminal_note(s->terminal,
            "coffer: this message has %zu tokens, but the context holds %u (-c): it is left out", n_ids,
            s->job->plan.n_ctx);
        cf_chat_remove(&s->chat, s->chat.n - 1, 1);
        return 0;
    }
    int rc = answer(s, ids, n_ids, e);
    free(ids);
    return rc;
}
