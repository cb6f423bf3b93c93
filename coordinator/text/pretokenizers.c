/* The table of pre-tokenizers. Sources: the tokenizer.json that each model publishes; which model uses which name in
 * tokenizer.ggml.pre is llama.cpp's convention.
 *
 * Written for PCRE2 with UTF and UCP. White space is \p{WSpace} and not \s, which in PCRE2 also takes U+180E. "(?i:'s)"
 * is spelled out, because it would also match the long s (U+017F).
 */
#include "coordinator/text/pretokenizers.h"

#include <stdio.h>
#include <string.h>

#define SPACE "\\p{WSpace}"
#define NO_SPACE "\\P{WSpace}"
#define CONTRACTION "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
#define OTHER "[^" SPACE "\\p{L}\\p{N}]+" /* neither space nor letter nor digit */
#define SPACES SPACE "+(?!" NO_SPACE ")|" SPACE "+"

/* digits: how many of them make a word at most */
#define LLAMA3(digits)                                                                                                 \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "| ?" OTHER "[\\r\\n]*|" SPACE "*[\\r\\n]+|" SPACES
#define GPT2 "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?" OTHER "|" SPACES

static const struct cf__pretokenizer table[] = {
    {
        .names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
        .expressions = {LLAMA3("{1,3}")},
        .ignore_merges = true,
        .add_bos = true,
    },
    {.names = {"smaug-bpe", "dbrx"}, .expressions = {LLAMA3("{1,3}")}},
    {.names = {"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"}, .expressions = {LLAMA3("")}},
    {.names = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4"}, .expressions = {GPT2}},
    {
        .names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
        .expressions = {"\\p{N}", GPT2},
    },
    {
        .names = {"deepseek-coder"},
        .expressions = {"[\\r\\n]", SPACE "?\\p{L}+", SPACE "?\\p{P}+",
            "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}"},
    },
    {
        .names = {"default"},
        .expressions = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
    },
};
enum { N_ROWS = sizeof table / sizeof *table };

const struct cf__pretokenizer *cf__pretokenizer_find(const char *name) {
    for (size_t i = 0; i < N_ROWS; i++)
        for (const char *const *n = table[i].names; *n; n++)
            if (!strcmp(*n, name)) return &table[i];
    return NULL;
}

void cf__pretokenizer_names(char *buf, size_t size) {
    size_t used = 0;
    if (size) *buf = '\0';
    for (size_t i = 0; i < N_ROWS; i++) {
        for (const char *const *n = table[i].names; *n && used < size; n++) {
            int written = snprintf(buf + used, size - used, "%s%s", used ? ", " : "", *n);
            if (written > 0) used += (size_t)written;
        }
    }
}
