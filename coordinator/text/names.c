/* What the names of tokens tell, as llama.cpp reads them (src/llama-vocab.cpp): many files mark their tokens badly or
 * lack the keys.
 *
 * A token that plays a role (end of turn, fill in the middle) is a control token whatever type the file gives it; which
 * token it is, a key says, or else its name. Some names end generation in any case. A few families need a correction.
 */
#include <string.h>

#include "coordinator/text/vocab.h"

enum role { NO_ROLE, EOT, EOM, FIM_PRE, FIM_SUF, FIM_MID, FIM_PAD, FIM_REP, FIM_SEP, N_ROLES };

static const struct {
    const char *keys[2]; /* the second is an old name */
    bool end;            /* a text ends there */
} roles[N_ROLES] = {
    [EOT] = {{"tokenizer.ggml.eot_token_id"}, true},
    [EOM] = {{"tokenizer.ggml.eom_token_id"}, true},
    [FIM_PRE] = {{"tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"}, false},
    [FIM_SUF] = {{"tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"}, false},
    [FIM_MID] = {{"tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"}, false},
    [FIM_PAD] = {{"tokenizer.ggml.fim_pad_token_id"}, true},
    [FIM_REP] = {{"tokenizer.ggml.fim_rep_token_id"}, true},
    [FIM_SEP] = {{"tokenizer.ggml.fim_sep_token_id"}, true},
};

#define BAR "\xef\xbd\x9c"   /* U+FF5C, in DeepSeek's names */
#define SPACE "\xe2\x96\x81" /* U+2581 */

static const struct {
    const char *text;
    enum role role; /* played if no key says which token does */
    bool end;       /* ends generation in any case */
} names[] = {
    {"<|eot_id|>", EOT, true},
    {"<|im_end|>", EOT, true},
    {"<|end|>", EOT, true},
    {"<end_of_turn>", EOT, true},
    {"<|endoftext|>", EOT, true},
    {"<|end_of_text|>", EOT, true}, /* Granite */
    {"<EOT>", EOT, true},
    {"_<EOT>", EOT, true},
    {"[EOT]", EOT, true}, /* Kimi K2 */
    {"<" BAR "end" SPACE "of" SPACE "sentence" BAR ">", EOT, true},
    {"<end_of_utterance>", EOT, true}, /* SmolDocling */
    {"<|eom_id|>", EOM, true},
    {"<|return|>", NO_ROLE, true}, /* gpt-oss */
    {"<|call|>", NO_ROLE, true},
    {"<|flush|>", NO_ROLE, true}, /* Solar Open */
    {"<|calls|>", NO_ROLE, true},
    {"</s>", NO_ROLE, true},
    {"[EOS]", NO_ROLE, true},
    {"<eos>", NO_ROLE, true}, /* Gemma 4 */
    {"<turn|>", NO_ROLE, true},
    {"<|tool_response>", NO_ROLE, true},
    {"[e~[", NO_ROLE, true}, /* MiniMax M2 */
    {"<|fim_prefix|>", FIM_PRE, false},
    {"<fim-prefix>", FIM_PRE, false},
    {"<fim_prefix>", FIM_PRE, false},
    {"<" BAR "fim" SPACE "begin" BAR ">", FIM_PRE, false},
    {"<PRE>", FIM_PRE, false},
    {SPACE "<PRE>", FIM_PRE, false}, /* CodeLlama */
    {"<|code_prefix|>", FIM_PRE, false},
    {"<|prefix|>", FIM_PRE, false},
    {"<|fim_suffix|>", FIM_SUF, false},
    {"<fim-suffix>", FIM_SUF, false},
    {"<fim_suffix>", FIM_SUF, false},
    {"<" BAR "fim" SPACE "hole" BAR ">", FIM_SUF, false},
    {"<SUF>", FIM_SUF, false},
    {SPACE "<SUF>", FIM_SUF, false},
    {"<|code_suffix|>", FIM_SUF, false},
    {"<|suffix|>", FIM_SUF, false},
    {"<|fim_middle|>", FIM_MID, false},
    {"<fim-middle>", FIM_MID, false},
    {"<fim_middle>", FIM_MID, false},
    {"<" BAR "fim" SPACE "end" BAR ">", FIM_MID, false},
    {"<MID>", FIM_MID, false},
    {SPACE "<MID>", FIM_MID, false},
    {"<|code_middle|>", FIM_MID, false},
    {"<|middle|>", FIM_MID, false},
    {"<|fim_pad|>", FIM_PAD, false},
    {"<fim-pad>", FIM_PAD, false},
    {"<fim_pad>", FIM_PAD, false},
    {"<PAD>", FIM_PAD, false},
    {"[PAD]", FIM_PAD, false},
    {"<|fim_repo|>", FIM_REP, false},
    {"<|repo_name|>", FIM_REP, false},
    {"<fim-repo>", FIM_REP, false},
    {"<REPO>", FIM_REP, false},
    {"<reponame>", FIM_REP, false},
    {"<|file_sep|>", FIM_SEP, false},
};
enum { N_NAMES = sizeof names / sizeof *names };

static struct cf__token *find(struct cf_tokenizer *t, const char *text) {
    uint32_t id = cf__vocab_find(t, text, strlen(text));
    return id == CF__NO_TOKEN ? NULL : &t->tokens[id];
}

static bool ends(struct cf_tokenizer *t, const char *text) {
    const struct cf__token *token = find(t, text);
    return token && token->end;
}

static int find_roles(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    int32_t players[N_ROLES];
    for (int r = 0; r < N_ROLES; r++) {
        players[r] = -1;
        for (int k = 0; k < 2 && roles[r].keys[k]; k++)
            if (cf__vocab_id(t, g, roles[r].keys[k], &players[r], e)) return -1;
    }
    for (size_t i = 0; i < N_NAMES; i++) {
        struct cf__token *token = find(t, names[i].text);
        if (!token) continue;
        bool plays = names[i].role != NO_ROLE && players[names[i].role] < 0;
        if (plays) players[names[i].role] = (int32_t)(token - t->tokens);
        if (plays || names[i].end) token->type = CF__TOKEN_CONTROL;
        if (names[i].end) token->end = true;
    }
    for (int r = 0; r < N_ROLES; r++)
        if (players[r] >= 0 && roles[r].end) t->tokens[players[r]].end = true;
    if (t->eos >= 0) t->tokens[t->eos].end = true;
    return 0;
}

/* No end of generation after all. */
static void goes_on(struct cf_tokenizer *t, const char *text, enum cf__token_type type) {
    struct cf__token *token = find(t, text);
    if (!token || !token->end) return;
    token->end = false;
    token->type = type;
}

static void correct_families(struct cf_tokenizer *t) {
    /* gpt-oss: parts of its answers' form, shown like text */
    static const char *const shown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        struct cf__token *token = find(t, shown[i]);
        if (token) token->type = CF__TOKEN_USER;
    }
    bool call = ends(t, "<|call|>") || ends(t, "<|calls|>");
    if (call && (ends(t, "<|return|>") || ends(t, "<|flush|>"))) goes_on(t, "<|end|>", CF__TOKEN_USER);
    if (ends(t, "<|tool_response>")) goes_on(t, "</s>", CF__TOKEN_NORMAL); /* Gemma 4 */
}

/* --- White space that a special token takes with it: no key says so ---------------------------------------------- */

static bool contains(const char *text, const char *const *parts) {
    for (; *parts; parts++)
        if (strcasestr(text, *parts)) return true;
    return false;
}

static void strip_left(struct cf_tokenizer *t, const char *text) {
    struct cf__token *token = find(t, text);
    if (token) token->lstrip = true;
}

static void strip_phi3(struct cf_tokenizer *t) {
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        int32_t type = t->tokens[i].type;
        t->tokens[i].rstrip = type == CF__TOKEN_CONTROL || type == CF__TOKEN_USER || type == CF__TOKEN_UNKNOWN;
    }
    static const char *const not [] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++) {
        struct cf__token *token = find(t, not [i]);
        if (token) token->rstrip = false;
    }
}

static int find_strips(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *name = "", *pre = "", *architecture = "";
    if (cf_gguf_str(g, "general.name", false, &name, e) || cf_gguf_str(g, "tokenizer.ggml.pre", false, &pre, e) ||
        cf_gguf_str(g, "general.architecture", false, &architecture, e))
        return -1;
    if (contains(pre, (const char *const[]){"jina-v2-de", "jina-v2-es", "jina-v2-code", NULL}) ||
        contains(architecture, (const char *const[]){"nomic-bert-moe", "jina-bert-v3", NULL}))
        strip_left(t, "<mask>");
    else if (contains(name, (const char *const[]){"phi-3", "phi3", NULL}))
        strip_phi3(t);
    else if (contains(name, (const char *const[]){"modern-bert", NULL}))
        strip_left(t, "[MASK]");
    return 0;
}

int cf__names_apply(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    if (find_roles(t, g, e)) return -1;
    correct_families(t);
    return find_strips(t, g, e);
}
