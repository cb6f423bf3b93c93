/* What a user says to the program and not to the model: lines that begin with a slash, as a table. See chat.h. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/chat/chat.h"
#include "coordinator/commands/run/report.h"

static int on_reset(struct cf__chat_session *s, const char *rest, struct cf_error *e) {
    const struct cf_chat_message *system = cf_chat_system(&s->chat);
    (void)rest, (void)e;
    size_t first = system ? 1 : 0;
    cf_chat_remove(&s->chat, first, s->chat.n - first);
    cf_terminal_note(s->terminal, "coffer: the conversation begins anew%s", system ? "; the system prompt stays" : "");
    return 0;
}

static int on_save(struct cf__chat_session *s, const char *rest, struct cf_error *e) {
    (void)e;
    struct cf_error why;
    if (s->terminal->quiet) return 0; /* it was saved before the failure, and may have changed since */
    if (!*rest)
        cf_terminal_note(s->terminal, "coffer: /save needs the name of a file");
    else if (cf_chat_save(&s->chat, rest, &why))
        cf_terminal_note(s->terminal, "coffer: not saved: %s", why.text);
    else
        cf_terminal_note(s->terminal, "coffer: %zu messages saved to %s", s->chat.n, rest);
    return 0;
}

/* A supervisor's journal gets what was in the file: the file may change. */
static int journal_loaded(struct cf__chat_session *s, struct cf_error *e) {
    enum { PIECE = 1024 };
    if (!s->terminal->stream || !cf_terminal_supervised()) return 0;
    char *text = cf_chat_to_text(&s->chat);
    if (!text) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    size_t n = strlen(text), at = 0;
    for (; n - at > PIECE; at += PIECE)
        cf_terminal_event(s->terminal, "more", "%.*s", (int)PIECE, text + at);
    cf_terminal_event(s->terminal, "load", "%s", text + at);
    free(text);
    return 0;
}

static int on_load(struct cf__chat_session *s, const char *rest, struct cf_error *e) {
    struct cf_error why;
    size_t n;
    char *before = cf_replay_text(&s->replay, &n);
    int rc = before ? cf_chat_from_text(&s->chat, before, n, "the journal", e) : 0;
    free(before);
    if (before) return rc;
    if (s->terminal->quiet) return 0; /* it could not be loaded */
    if (!*rest)
        cf_terminal_note(s->terminal, "coffer: /load needs the name of a file");
    else if (cf_chat_load(&s->chat, rest, &why))
        cf_terminal_note(s->terminal, "coffer: not loaded, the conversation stays as it is: %s", why.text);
    else
        return cf_terminal_note(s->terminal, "coffer: %zu messages loaded from %s", s->chat.n, rest),
               journal_loaded(s, e);
    return 0;
}

static int on_system(struct cf__chat_session *s, const char *rest, struct cf_error *e) {
    const struct cf_chat_message *now = cf_chat_system(&s->chat);
    if (!*rest) {
        cf_terminal_note(s->terminal, "coffer: %s%s", now ? "the system prompt is: " : "there is no system prompt",
            now ? now->content : "");
        return 0;
    }
    bool none = !strcmp(rest, "none");
    if (cf_chat_set_system(&s->chat, rest, none ? 0 : strlen(rest), e)) return -1;
    cf_terminal_note(s->terminal, "coffer: the system prompt is %s from the next message on%s",
        none ? "gone" : "another",
        !none && s->form->system == CF_CHAT_SYSTEM_DROP ? ", but this template has no place for it" : "");
    return 0;
}

static int on_stats(struct cf__chat_session *s, const char *rest, struct cf_error *e) {
    (void)rest;
    struct cf_rank_counts *counts = calloc(s->job->n_ranks, sizeof *counts);
    if (!counts) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    int rc = cf_engine_counts(s->job->engine, counts, e);
    if (!rc) {
        cf_terminal_note(s->terminal, "template %s, %zu messages, context %zu of %u tokens, layout %s", s->form->name,
            s->chat.n, s->n_cached, s->job->plan.n_ctx, cf_layout_name(s->job->plan.layout));
        cf_report_stats(s->terminal, s->job, counts);
    }
    free(counts);
    return rc;
}

static int on_exit_word(struct cf__chat_session *s, const char *rest, struct cf_error *e) {
    (void)rest, (void)e;
    s->end = true;
    return 0;
}

static int on_help(struct cf__chat_session *s, const char *rest, struct cf_error *e);

static const struct word {
    const char *name, *argument, *help;
    int (*act)(struct cf__chat_session *s, const char *rest, struct cf_error *e);
} words[] = {
    {"/reset", "", "forget the conversation; the system prompt stays", on_reset},
    {"/save", " FILE", "write the conversation as JSON", on_save},
    {"/load", " FILE", "go on with the conversation in FILE", on_load},
    {"/system", " [TEXT]", "show or set the system prompt; none: without one", on_system},
    {"/stats", "", "a table of coffers and domains", on_stats},
    {"/exit", "", "end (also /quit, Ctrl-D)", on_exit_word},
    {"/quit", "", NULL, on_exit_word},
    {"/help", "", "this list", on_help},
    {"/?", "", NULL, on_help},
};
enum { N_WORDS = sizeof words / sizeof *words };

static int on_help(struct cf__chat_session *s, const char *rest, struct cf_error *e) {
    (void)rest, (void)e;
    for (size_t i = 0; i < N_WORDS; i++) {
        char left[32];
        snprintf(left, sizeof left, "%s%s", words[i].name, words[i].argument);
        if (words[i].help) cf_terminal_note(s->terminal, "  %-16s %s", left, words[i].help);
    }
    cf_terminal_note(
        s->terminal, "  A line that ends with \\ goes on in the next one; \"\"\" begins and ends several lines.");
    cf_terminal_note(s->terminal, "  // at the beginning stands for a message that begins with /.");
    return 0;
}

int cf__chat_word(struct cf__chat_session *s, const char *line, struct cf_error *e) {
    size_t n = strcspn(line, " \t\n");
    const char *rest = line + n + strspn(line + n, " \t\n");
    for (size_t i = 0; i < N_WORDS; i++)
        if (strlen(words[i].name) == n && !strncmp(words[i].name, line, n)) return words[i].act(s, rest, e);
    cf_terminal_note(s->terminal, "coffer: there is no %.*s; /help lists what there is", (int)(n < 40 ? n : 40), line);
    return 0;
}
