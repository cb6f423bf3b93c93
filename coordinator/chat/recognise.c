/* Which form a model wants: by markers in its Jinja template, else by its architecture or by special tokens of its
 * vocabulary. The order of the rules matters: the first whose markers are all there decides. Facts from llama.cpp's
 * llm_chat_detect_template; ours beside them: mistral-v7-tekken is told from mistral-v7 (no space behind the markers),
 * alpaca, and everything about files without a template. See form.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/chat/form.h"

enum { MAX_MARKERS = 3, MAX_TEMPLATE = 1 << 20 };

#define BAR "\xef\xbd\x9c"
#define BLOCK "\xe2\x96\x81"

static const struct rule {
    const char *form;
    const char *has[MAX_MARKERS];
} rules[] = {
    {"phi4", {"<|im_start|>", "<|im_sep|>"}},
    {"smolvlm", {"<|im_start|>", "<end_of_utterance>"}},
    {"chatml", {"<|im_start|>"}},
    {"mistral-v7", {"[INST]", "[SYSTEM_PROMPT] "}},
    {"mistral-v7", {"[INST] ", "[SYSTEM_PROMPT]"}},
    {"mistral-v7-tekken", {"[INST]", "[SYSTEM_PROMPT]"}},
    {"mistral-v1", {"' [INST] ' + system_message"}},
    {"mistral-v1", {"[AVAILABLE_TOOLS]", " [INST]"}},
    {"mistral-v3-tekken", {"[AVAILABLE_TOOLS]", "\"[INST]\""}},
    {"mistral-v3", {"[AVAILABLE_TOOLS]", "[INST]"}},
    {"llama2-sys-strip", {"[INST]", "content.strip()"}},
    {"llama2-sys-bos", {"[INST]", "bos_token + '[INST]"}},
    {"llama2-sys", {"[INST]", "<<SYS>>"}},
    {"llama2", {"[INST]"}},
    {"phi3", {"<|assistant|>", "<|end|>"}},
    {"chatglm4", {"[gMASK]<sop>"}},
    {"exaone-moe", {"<|assistant|>", "<|user|>", "<|tool_declare|>"}},
    {"falcon3", {"<|assistant|>", "<|user|>", "</s>"}},
    {"glmedge", {"<|assistant|>", "<|user|>"}},
    {"glmedge", {"<|{{ item['role'] }}|>", "<|begin_of_image|>"}},
    {"zephyr", {"<|user|>", "<|endoftext|>"}},
    {"monarch", {"bos_token + message['role']"}},
    {"gemma", {"<start_of_turn>"}},
    {"orion", {"'\\n\\nAssistant: ' + eos_token"}},
    {"openchat", {"GPT4 Correct "}},
    {"vicuna-orca", {"USER: ", "ASSISTANT: ", "SYSTEM: "}},
    {"vicuna", {"USER: ", "ASSISTANT: "}},
    {"deepseek", {"### Instruction:", "<|EOT|>"}},
    {"command-r", {"<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"}},
    {"llama3", {"<|start_header_id|>", "<|end_header_id|>"}},
    {"chatglm3", {"[gMASK]sop"}},
    {"minicpm", {"<\xe7\x94\xa8\xe6\x88\xb7>"}},
    {"deepseek2", {"'Assistant: ' + message['content'] + eos_token"}},
    {"deepseek3",
        {"<" BAR "Assistant" BAR ">", "<" BAR "User" BAR ">", "<" BAR "end" BLOCK "of" BLOCK "sentence" BAR ">"}},
    {"exaone4", {"[|system|]", "[|endofturn|]", "[|tool|]"}},
    {"exaone3", {"[|system|]", "[|assistant|]", "[|endofturn|]"}},
    {"rwkv-world", {"rwkv-world"}},
    {"rwkv-world", {"{{- 'User: ' + message['content']|trim + '\\n\\n' -}}"}},
    {"granite-4.0", {"<|start_of_role|>", "<tool_call>", "g4_default_system_message"}},
    {"granite-4.0", {"<|start_of_role|>", "<tools>", "g4_default_system_message"}},
    {"granite-4.1", {"<|start_of_role|>", "<tool_call>"}},
    {"granite-4.1", {"<|start_of_role|>", "<tools>"}},
    {"granite", {"<|start_of_role|>"}},
    {"gigachat",
        {"message['role'] + additional_special_tokens[0] + message['content'] + additional_special_tokens[1]"}},
    {"megrez", {"<|role_start|>"}},
    {"yandex", {" \xd0\x90\xd1\x81\xd1\x81\xd0\xb8\xd1\x81\xd1\x82\xd0\xb5\xd0\xbd\xd1\x82:"}},
    {"bailing", {"<role>ASSISTANT</role>", "'HUMAN'"}},
    {"bailing-think", {"<role>ASSISTANT</role>", "\"HUMAN\"", "<think>"}},
    {"bailing2", {"<role>ASSISTANT</role>", "<role>HUMAN</role>", "<|role_end|>"}},
    {"llama4", {"<|header_start|>", "<|header_end|>"}},
    {"dots1", {"<|endofuserprompt|>"}},
    {"hunyuan-moe", {"<|extra_0|>", "<|extra_4|>"}},
    {"gpt-oss", {"<|start|>", "<|channel|>"}},
    {"hunyuan-vl", {"<" BAR "hy_Assistant" BAR ">", "<" BAR "hy_begin" BLOCK "of" BLOCK "sentence" BAR ">"}},
    {"hunyuan-dense", {"<" BAR "hy_Assistant" BAR ">", "<" BAR "hy_place" BLOCK "holder" BLOCK "no" BLOCK "3" BAR ">"}},
    {"kimi-k2", {"<|im_assistant|>assistant<|im_middle|>"}},
    {"seed_oss", {"<seed:bos>"}},
    {"grok-2", {"'Assistant: '  + message['content'] + '<|separator|>"}},
    {"pangu-embedded", {"[unused9]\xe7\xb3\xbb\xe7\xbb\x9f\xef\xbc\x9a[unused10]"}},
    {"solar-open", {"<|begin|>", "<|end|>", "<|content|>"}},
    {"alpaca", {"### Instruction:", "### Response:"}},
};

/* Where a file has no template. Before the vocabulary: these share names of tokens with others. */
static const struct {
    const char *architecture, *form;
} architectures[] = {
    {"chatglm", "chatglm4"},
    {"command-r", "command-r"},
    {"cohere2", "command-r"},
    {"deepseek2", "deepseek3"},
    {"gemma", "gemma"},
    {"gemma2", "gemma"},
    {"gemma3", "gemma"},
    {"glm4", "chatglm4"},
    {"glm4moe", "chatglm4"},
    {"gpt-oss", "gpt-oss"},
    {"llama4", "llama4"},
    {"phi3", "phi3"},
};

struct markers {
    bool (*has)(const struct markers *m, const char *marker);
    const char *jinja;
    size_t length;
    const struct cf_tokenizer *tokenizer;
};

static bool in_text(const struct markers *m, const char *marker) {
    return memmem(m->jinja, m->length, marker, strlen(marker)) != NULL;
}

/* Is it one token? */
static bool in_vocabulary(const struct markers *m, const char *marker) {
    uint32_t *ids = NULL;
    size_t n = 0, length = strlen(marker);
    struct cf_error unused;
    bool one = !cf_tokenize(m->tokenizer, marker, length, false, true, &ids, &n, &unused) && n == 1 &&
               cf_token_bytes(m->tokenizer, ids[0], true, NULL, 0) == length;
    free(ids);
    return one;
}

static const struct cf_chat_form *decide(const struct markers *m) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        bool all = true;
        for (size_t k = 0; all && k < MAX_MARKERS && rules[i].has[k]; k++)
            all = m->has(m, rules[i].has[k]);
        if (all) return cf_chat_form_by_name(rules[i].form);
    }
    return NULL;
}

const struct cf_chat_form *cf_chat_recognise(const char *jinja, size_t length) {
    struct markers m = {.has = in_text, .jinja = jinja, .length = length};
    return decide(&m);
}

static const struct cf_chat_form *without_template(const struct cf_gguf *g, const struct cf_tokenizer *t) {
    const char *architecture = NULL;
    struct cf_error unused;
    if (cf_gguf_str(g, "general.architecture", true, &architecture, &unused)) architecture = "";
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (!strcmp(architectures[i].architecture, architecture)) return cf_chat_form_by_name(architectures[i].form);
    struct markers m = {.has = in_vocabulary, .tokenizer = t};
    return decide(&m);
}

static int of_model(const struct cf_chat_form **form, const struct cf_gguf *g, const struct cf_tokenizer *t, char *why,
    size_t size, struct cf_error *e) {
    const char *jinja = NULL;
    if (cf_gguf_value(g, "tokenizer.chat_template") && cf_gguf_str(g, "tokenizer.chat_template", true, &jinja, e))
        return -1;
    *form = jinja ? cf_chat_recognise(jinja, strlen(jinja)) : without_template(g, t);
    if (*form) return 0;
    snprintf(why, size, "%s: chatml is used (--chat-template NAME names another)",
        jinja ? "the model's chat template is of no known family" : "the model has no chat template");
    *form = cf_chat_form_by_name("chatml");
    return 0;
}

static int unknown(const char *option, const char *what, struct cf_error *e) {
    char names[1024];
    cf_chat_form_names(names, sizeof names);
    return cf_fail(e, CF_ERR_USAGE, "--chat-template %.60s%s: %s; known are: auto, %s", option,
        strlen(option) > 60 ? "..." : "", what, names);
}

static int from_file(const struct cf_chat_form **form, const char *path, struct cf_error *e) {
    FILE *f = fopen(path, "rb");
    if (!f && (errno == ENOENT || errno == ENAMETOOLONG)) return unknown(path, "neither a known name nor a file", e);
    if (!f) return cf_fail(e, CF_ERR_FILE, "--chat-template %s: %s", path, strerror(errno));
    char *text = malloc(MAX_TEMPLATE + 1);
    size_t n = text ? fread(text, 1, MAX_TEMPLATE + 1, f) : 0;
    int rc = 0;
    if (!text)
        rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    else if (ferror(f))
        rc = cf_fail(e, CF_ERR_FILE, "--chat-template %s: %s", path, strerror(errno));
    else if (n > MAX_TEMPLATE)
        rc = cf_fail(e, CF_ERR_LIMIT, "--chat-template %s: more than %d bytes", path, MAX_TEMPLATE);
    else if (!(*form = cf_chat_recognise(text, n)))
        rc = unknown(path, "the template in this file is of no known family", e);
    free(text);
    fclose(f);
    return rc;
}

static int by_option(const struct cf_chat_form **form, const char *option, struct cf_error *e) {
    *form = cf_chat_form_by_name(option);
    if (*form) return 0;
    if (!strstr(option, "{{") && !strstr(option, "{%")) return from_file(form, option, e);
    *form = cf_chat_recognise(option, strlen(option));
    return *form ? 0 : unknown(option, "a template of no known family", e);
}

static bool is_auto(const char *option) {
    return !option || !strcmp(option, "auto");
}

int cf_chat_check_option(const char *option, struct cf_error *e) {
    const struct cf_chat_form *form;
    return is_auto(option) ? 0 : by_option(&form, option, e);
}

int cf_chat_choose(const struct cf_chat_form **form, const char *option, const struct cf_gguf *g,
    const struct cf_tokenizer *t, char *why, size_t size, struct cf_error *e) {
    if (size) *why = '\0';
    return is_auto(option) ? of_model(form, g, t, why, size, e) : by_option(form, option, e);
}
