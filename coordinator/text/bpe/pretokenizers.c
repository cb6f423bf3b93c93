/* The table of pre-tokenizers. Sources: the tokenizer.json that each model publishes; which model uses which name in
 * tokenizer.ggml.pre, and what a name implies, is llama.cpp's convention (src/llama-vocab.cpp).
 *
 * Where llama.cpp simplifies what a model publishes, the table says the same as llama.cpp, so that the ids agree: in
 * gpt-4o and tekken letters beyond ASCII have no case and marks are no letters, in youtu and tiny_aya no letter has a
 * case, and in deepseek white space beyond ASCII is white space only.
 *
 * Written for PCRE2 with UTF and UCP. White space is \p{WSpace} and not \s, which in PCRE2 also takes U+180E. "(?i:'s)"
 * is spelled out, because it would also match the long s (U+017F). A class of its own says what would be a lookahead
 * per letter: [^\P{L}a-z] are the letters without a to z.
 */
#include "coordinator/text/bpe/pretokenizers.h"

#include <stdio.h>
#include <string.h>

#define SPACE "\\p{WSpace}"
#define NO_SPACE "\\P{WSpace}"
#define CONTRACTION "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"     /* one character in front of a word */
#define OTHER "[^" SPACE "\\p{L}\\p{N}]+" /* neither space nor letter nor digit */
#define LINES SPACE "*[\\r\\n]+"
#define SPACES SPACE "+(?!" NO_SPACE ")|" SPACE "+"
#define UP_TO_3 "\\p{N}{1,3}"

/* digits: how many of them make a word */
#define LLAMA3(digits) CONTRACTION "|" LEAD "\\p{L}+|" digits "| ?" OTHER "[\\r\\n]*|" LINES "|" SPACES
#define GPT2 "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?" OTHER "|" SPACES

/* Words end where a capital follows a small letter; tail: what may end a word. */
#define CASED(upper, lower, tail, digits)                                                                              \
    LEAD upper "*" lower "+" tail "|" LEAD upper "+" lower "*" tail "|" digits "| ?" OTHER "[\\r\\n/]*|" LINES         \
               "|" SPACES
#define CASELESS(digits) LEAD "[\\p{L}\\p{M}]+(?:" CONTRACTION ")?|" digits "| ?" OTHER "[\\r\\n/]*|" LINES "|" SPACES

#define ASCII_PUNCTUATION "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK3(lines)                                                                                               \
    ASCII_PUNCTUATION                                                                                                  \
    "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+" lines "|" SPACES

#define KANA "\\x{3040}-\\x{30ff}"
/* Chinese, Japanese, Korean and what else lies between U+0800 and U+D7FF, but for white space */
#define DEEPSEEK_CJK                                                                                                   \
    "[\\x{800}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}"                  \
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+"
/* The letters with case, as DeepSeek's tokenizer.json lists them */
#define DEEPSEEK_LETTERS                                                                                               \
    "[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"  \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"     \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"       \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}"                  \
    "\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                  \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}" \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"                  \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}" \
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}" \
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}" \
    "\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"                  \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"                \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"        \
    "\\x{1e900}-\\x{1e943}]+"

#define HAN                                                                                                            \
    "\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{20000}-\\x{2a6df}\\x{2a700}-\\x{2ebef}\\x{f900}-\\x{faff}"              \
    "\\x{2f800}-\\x{2fa1f}"
#define BLOOM " ?[^(" SPACE "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
#define AFMOE_ASIAN                                                                                                    \
    "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{8c48}-\\x{faff}" KANA "\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}"         \
    "\\x{e40}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}\\x{1100}-\\x{11ff}" \
    "]+"
#define YOUTU_ASIAN                                                                                                    \
    "[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|"                                                                       \
    "[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}"   \
    "\\x{fe30}-\\x{fe4f}]+|[\\x{3105}-\\x{312f}]+|[\\x{4e00}-\\x{9fa5}" KANA "]+"
#define HALVING(n) SPACE "{" n "}(?!" NO_SPACE ")|"

static const struct cf__pretokenizer table[] = {
    {
        .names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
            "jina-v5-nano"},
        .expressions = {{LLAMA3(UP_TO_3)}},
        .ignore_merges = true,
        .add_bos = true,
    },
    {.names = {"smaug-bpe", "dbrx", "glm4", "chatglm-bpe"}, .expressions = {{LLAMA3(UP_TO_3)}}},
    {
        .names = {"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "kormo", "f2llmv2", "solar-open",
            "grok-2"},
        .expressions = {{LLAMA3("\\p{N}")}},
    },
    {
        .names = {"qwen35"},
        .expressions = {{CONTRACTION "|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^" SPACE "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES
                                     "|" SPACES}},
    },
    {
        .names = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "trillion", "granite-docling", "jina-es",
            "jina-de", "jina-v2-es", "jina-v2-de", "jina-v1-en", "jina-v2-code", "roberta-bpe", "gigachat", "a.x-4.0",
            "mellum", "modern-bert"},
        .expressions = {{GPT2}},
    },
    {
        .names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
        .expressions = {{"\\p{N}"}, {GPT2}},
    },
    {
        .names = {"falcon"},
        .expressions = {{"[\\p{P}$+<=>^~|`]+"}, {GPT2}, {"[0-9][0-9][0-9]"}},
    },
    {
        .names = {"deepseek-llm"},
        .expressions = {{"[\\r\\n]"}, {SPACE "?" DEEPSEEK_LETTERS},
            {SPACE "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3001}\\x{3002}]+"},
            {"(?<!" SPACE ")" SPACE "++\\z"}, {DEEPSEEK_CJK}, {"\\p{N}+"}},
    },
    {
        .names = {"deepseek-coder"},
        .expressions = {{"[\\r\\n]"}, {SPACE "?\\p{L}+"}, {SPACE "?\\p{P}+"}, {DEEPSEEK_CJK}, {"\\p{N}"}},
    },
    {
        .names = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
        .expressions = {{UP_TO_3}, {"[\\x{4e00}-\\x{9fa5}" KANA "]+"}, {DEEPSEEK3("[\\r\\n]*|" LINES)}},
    },
    {
        .names = {"spark2_5"},
        .expressions = {{UP_TO_3}, {"[\\x{4e00}-\\x{9fa5}" KANA "]+"}, {DEEPSEEK3("|[\\r\\n]")}, {"\\p{N}"}},
    },
    {
        .names = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
        .expressions = {{CASED("[^\\P{L}a-z]", "[^\\P{L}A-Z]", "(?:" CONTRACTION ")?", UP_TO_3)}},
    },
    {
        .names = {"granite-embed-multi-97m"}, /* all but these categories are letters and marks */
        .expressions = {{CASED("[^\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}a-z]", "[^\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}A-Z]",
            "(?:" CONTRACTION ")?", UP_TO_3)}},
        .ignore_merges = true,
    },
    {
        .names = {"tekken"},
        .expressions = {{CASED("[^\\P{L}a-z]", "[^\\P{L}A-Z]", "", "\\p{N}")}},
        .ignore_merges = true,
        .add_bos = true,
    },
    {
        .names = {"tiny_aya", "cohere2moe"},
        .expressions = {{"\\p{N}+", .threes = true}, {CASELESS(UP_TO_3)}},
    },
    {
        .names = {"youtu"},
        .expressions = {{YOUTU_ASIAN}, {CASELESS("\\p{N}")}},
        .ignore_merges = true,
    },
    {
        .names = {"kimi-k2"},
        .expressions = {{"[" HAN "]+|" LEAD "[^\\P{L}" HAN "]+(?:" CONTRACTION ")?|" UP_TO_3 "| ?" OTHER
                         "[\\r\\n]*|" LINES "|" SPACES}},
    },
    {
        .names = {"gemma4", "granite-embed-multi-311m"},
        .expressions = {{"[^\\n]+|\\n+"}},
        .raw = true,
        .newline_runs = true,
        .always_bos = true,
    },
    {.names = {"sarvam-moe"}, .expressions = {{"[^\\n]+|\\n+"}}, .raw = true},
    {.names = {"laguna"}, .expressions = {{"[^\\n]+|\\n+"}, {LLAMA3("\\p{N}")}}},
    {
        .names = {"minicpm5"},
        .expressions = {{UP_TO_3}, {LLAMA3("\\p{N}+")}},
        .ignore_merges = true,
    },
    {
        .names = {"seed-coder"},
        .expressions = {{CONTRACTION "|" LEAD "\\p{L}+|\\p{N}| ?[^" SPACE "\\p{L}\\p{N}\\r\\n]+|" LINES "|" SPACES}},
    },
    {
        .names = {"bailingmoe", "bailingmoe2", "llada-moe"},
        .expressions = {{CONTRACTION "|" LEAD "\\p{L}+|\\p{N}| ?" OTHER "[\\r\\n]*|" SPACE "*[\\r\\n]|" SPACES}},
    },
    {
        .names = {"ufakzeka"},
        .expressions = {{LEAD "\\p{L}+|\\p{N}| ?" OTHER "[\\r\\n]*|" LINES "|" SPACES}},
    },
    {
        .names = {"exaone-moe"},
        .expressions = {{CONTRACTION "|" LEAD "(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}| ?" OTHER
                                     "[\\r\\n/]?|" SPACE "*[\\r\\n]|" SPACES}},
    },
    {
        .names = {"afmoe"},
        .expressions = {{"\\p{N}+", .threes = true}, {AFMOE_ASIAN}, {DEEPSEEK3("[\\r\\n]*|" LINES)}},
    },
    {.names = {"superbpe"}, .expressions = {{"\\p{N}+"}, {"\\p{N}+", .threes = true}}},
    {
        .names = {"jais-2"},
        .expressions = {{CONTRACTION "|" LEAD "\\p{L}+|" UP_TO_3 "| ?" OTHER "[\\r\\n]*|" LINES "|" HALVING("512")
                HALVING("256") HALVING("128") HALVING("64") HALVING("32") HALVING("16") HALVING("8") HALVING("4")
                    HALVING("1,2") SPACE}},
    },
    {.names = {"bloom", "poro-chat", "gpt3-finnish"}, .expressions = {{BLOOM}}},
    {.names = {"viking"}, .expressions = {{BLOOM}, {"\\p{N}"}}},
    {
        .names = {"chameleon"},
        .expressions = {{"<sentinel:[0-9]+>"}, {"IMGIMG[A-I]{1,4}Z"}, {"[\\t\\n]|    |  "}, {"\\p{N}"},
            {"[\\p{P}!-/:-@\\[-`{-~]"}, {GPT2}},
        .add_bos = true,
    },
    {
        .names = {"default"},
        .expressions = {{"[\\p{P}$+<=>^~|]+"}, {GPT2}, {"\\p{N}+"}, {"[0-9][0-9][0-9]"}},
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
    for (size_t i = 0; i < N_ROWS && used < size; i++) {
        int written = snprintf(buf + used, size - used, "%s%s", used ? ", " : "", table[i].names[0]);
        if (written > 0) used += (size_t)written;
    }
}
