/* Chat templates: what each writes, and by what it is recognised. The texts to recognise are our own, with the markers
 * that count in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "coordinator/chat/render.h"
#include "tests/unit/chat_forms.h"
#include "tests/unit/vocabulary.h"

static void add(struct cf_chat *c, enum cf_chat_role role, const char *text) {
    struct cf_error e;
    if (cf_chat_add(c, role, text, strlen(text), &e)) fail_msg("%s", e.text);
}

static void expect_text(const struct cf_chat *c, const char *name, const char *expected) {
    const struct cf_chat_form *form = cf_chat_form_by_name(name);
    struct cf_chat_text t;
    struct cf_error e;
    if (!form) fail_msg("there is no form %s", name);
    if (cf_chat_render(form, c, true, &t, &e)) fail_msg("%s", e.text);
    size_t at = 0;
    for (size_t i = 0; i < t.n_parts; i++) { /* the parts are all of the text */
        assert_int_equal(t.parts[i].start, at);
        at += t.parts[i].length;
    }
    assert_int_equal(at, t.n);
    if (strcmp(t.text ? t.text : "", expected) != 0) fail_msg("%s gives\n%s, not\n%s", name, t.text, expected);
    cf_chat_text_free(&t);
}

static void test_with_system(void **state) {
    (void)state;
    struct cf_chat c = {0};
    add(&c, CF_CHAT_SYSTEM, "You are a helpful assistant");
    add(&c, CF_CHAT_USER, "Hello");
    add(&c, CF_CHAT_ASSISTANT, "Hi there");
    add(&c, CF_CHAT_USER, "Who are you");
    add(&c, CF_CHAT_ASSISTANT, "   I am an assistant   ");
    add(&c, CF_CHAT_USER, "Another question");
    for (size_t i = 0; i < sizeof with_system / sizeof *with_system; i++)
        expect_text(&c, with_system[i].form, with_system[i].text);
    expect_text(&c, "alpaca",
        "You are a helpful assistant\n\n### Instruction:\nHello\n\n### Response:\nHi there</s>\n\n### "
        "Instruction:\nWho are you\n\n### Response:\n   I am an assistant   </s>\n\n### Instruction:\nAnother "
        "question\n\n### Response:\n");
    cf_chat_clear(&c);
}

static void test_without_system(void **state) {
    (void)state;
    struct cf_chat c = {0};
    add(&c, CF_CHAT_USER, "  Hi ");
    add(&c, CF_CHAT_ASSISTANT, "Yes.");
    add(&c, CF_CHAT_USER, "Second\n");
    for (size_t i = 0; i < sizeof without_system / sizeof *without_system; i++)
        expect_text(&c, without_system[i].form, without_system[i].text);
    cf_chat_clear(&c);
}

static void test_names(void **state) {
    (void)state;
    char names[2048];
    cf_chat_form_names(names, sizeof names);
    size_t n = 0;
    char *rest = NULL, last[32] = "";
    for (char *name = strtok_r(names, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest), n++) {
        if (strcmp(last, name) >= 0) fail_msg("%s stands behind %s", name, last);
        assert_non_null(cf_chat_form_by_name(name));
        snprintf(last, sizeof last, "%s", name);
    }
    assert_int_equal(n, sizeof with_system / sizeof *with_system + 1);
    assert_null(cf_chat_form_by_name("chat"));
    char few[8];
    cf_chat_form_names(few, sizeof few);
    assert_string_equal(few, "alpaca,");
}

static const struct {
    const char *form, *text;
} excerpts[] = {
    {"chatml", "{% for m in messages %}{{ '<|im_start|>' + m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"},
    {"phi4", "{{ '<|im_start|>user<|im_sep|>' + m['content'] + '<|im_end|>' }}"},
    {"smolvlm", "<|im_start|>{% for m in messages %}{{ m.content }}<end_of_utterance>{% endfor %}"},
    {"llama2", "{{ '[INST] ' + m['content'] + ' [/INST]' }}"},
    {"llama2-sys", "{{ '[INST] <<SYS>>' + s + '<</SYS>>' + m['content'] + ' [/INST]' }}"},
    {"llama2-sys-bos", "{{ bos_token + '[INST] ' + '<<SYS>>' + m['content'] }}"},
    {"llama2-sys-strip", "{{ '[INST] <<SYS>>' + content.strip() + ' [/INST]' }}"},
    {"mistral-v1", "{{ ' [INST] ' + system_message + m['content'] + ' [/INST]' }}"},
    {"mistral-v1", "[AVAILABLE_TOOLS] {{ ' [INST] ' + m['content'] }}"},
    {"mistral-v3", "[AVAILABLE_TOOLS] {{ '[INST] ' + m['content'] + '[/INST]' }}"},
    {"mistral-v3-tekken", "{{ \"[AVAILABLE_TOOLS]\" }}{{ \"[INST]\" + m['content'] + \"[/INST]\" }}"},
    {"mistral-v7", "{{ '[SYSTEM_PROMPT] ' + s + '[/SYSTEM_PROMPT]' }}{{ '[INST] ' + m['content'] }}"},
    {"mistral-v7-tekken", "{{ '[SYSTEM_PROMPT]' + s + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + m['content'] }}"},
    {"phi3", "{{ '<|user|>\\n' + m['content'] + '<|end|>\\n<|assistant|>\\n' }}"},
    {"chatglm4", "[gMASK]<sop>{% for m in messages %}<|user|>\\n{{ m['content'] }}{% endfor %}"},
    {"chatglm3", "{{ '[gMASK]sop' }}{{ m['role'] }}"},
    {"falcon3", "{{ '<|user|>\\n' + m['content'] + '</s>' }}<|assistant|>"},
    {"exaone-moe", "<|user|>{{ m.content }}<|assistant|><|tool_declare|></s>"},
    {"glmedge", "<|user|>\\n{{ m['content'] }}<|assistant|>"},
    {"zephyr", "{{ '<|user|>' + m['content'] + '<|endoftext|>' }}"},
    {"monarch", "{{ bos_token + message['role'] + m['content'] }}"},
    {"gemma", "{{ '<start_of_turn>' + role + m['content'] | trim + '<end_of_turn>' }}"},
    {"orion", "{{ 'Human: ' + m['content'] + '\\n\\nAssistant: ' + eos_token }}"},
    {"openchat", "{{ 'GPT4 Correct ' + m['role'].title() }}"},
    {"vicuna", "USER: {{ m['content'] }} ASSISTANT: "},
    {"vicuna-orca", "SYSTEM: {{ s }} USER: {{ m['content'] }} ASSISTANT: "},
    {"deepseek", "### Instruction:\\n{{ m['content'] }}\\n### Response:\\n<|EOT|>"},
    {"alpaca", "### Instruction:\\n{{ m['content'] }}\\n### Response:\\n"},
    {"command-r", "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ m['content'] }}"},
    {"llama3", "<|start_header_id|>user<|end_header_id|>{{ m['content'] }}<|eot_id|>"},
    {"llama4", "<|header_start|>user<|header_end|>{{ m['content'] }}<|eot|>"},
    {"deepseek2", "{{ 'Assistant: ' + message['content'] + eos_token }}"},
    {"deepseek3", "<\xef\xbd\x9cUser\xef\xbd\x9c>{{ m['content'] }}<\xef\xbd\x9c"
                  "Assistant\xef\xbd\x9c><\xef\xbd\x9c"
                  "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"},
    {"exaone3", "[|system|][|assistant|][|endofturn|]"},
    {"exaone4", "[|system|][|assistant|][|endofturn|][|tool|]"},
    {"granite", "<|start_of_role|>user<|end_of_role|>"},
    {"granite-4.0", "<|start_of_role|>user<|end_of_role|><tools>g4_default_system_message"},
    {"granite-4.1", "<|start_of_role|>user<|end_of_role|><tool_call>"},
    {"megrez", "<|role_start|>user<|role_end|>"},
    {"bailing", "<role>ASSISTANT</role>{{ 'HUMAN' }}"},
    {"bailing-think", "<role>ASSISTANT</role>{{ \"HUMAN\" }}<think>"},
    {"bailing2", "<role>ASSISTANT</role><role>HUMAN</role><|role_end|>"},
    {"dots1", "<|userprompt|>{{ m.content }}<|endofuserprompt|>"},
    {"hunyuan-moe", "<|startoftext|>{{ m.content }}<|extra_0|><|extra_4|>"},
    {"gpt-oss", "<|start|>assistant<|channel|>final<|message|>"},
    {"kimi-k2", "<|im_assistant|>assistant<|im_middle|>"},
    {"seed_oss", "{{ '<seed:bos>' + m.role }}"},
    {"solar-open", "<|begin|>user<|content|>{{ m.content }}<|end|>"},
};

static void test_recognise(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof excerpts / sizeof *excerpts; i++) {
        const struct cf_chat_form *f = cf_chat_recognise(excerpts[i].text, strlen(excerpts[i].text));
        if (!f || strcmp(f->name, excerpts[i].form) != 0)
            fail_msg("%s is taken for %s", excerpts[i].text, f ? f->name : "nothing");
    }
    assert_null(cf_chat_recognise("{{ messages }}", 14));
    assert_null(cf_chat_recognise("<|im_start|", 11));
    assert_null(cf_chat_recognise("", 0));
}

/* --- the option and the model ---------------------------------------------------------------------------------------
 */

struct made {
    struct cf_gguf *g;
    struct cf_tokenizer *t;
};

/* A file with this architecture, template (NULL: none) and these control tokens, parted by spaces. */
static struct made make(const char *architecture, const char *jinja, const char *tokens) {
    char path[] = "/tmp/coffer-chat-XXXXXX", names[256], *rest = NULL;
    struct vocabulary v = {.model = "gpt2"};
    struct cf_gguf_writer *w;
    struct cf_error e;
    struct made m;
    close(mkstemp(path));
    vocabulary_letters(&v);
    vocabulary_merge(&v, "a", "b");
    snprintf(names, sizeof names, "%s", tokens);
    for (char *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        vocabulary_add(&v, name, 3, 0);
    v.architecture = architecture;
    v.chat_template = jinja;
    if (cf_gguf_writer_open(&w, path, &e) || vocabulary_values(&v, w, &e) || cf_gguf_begin_data(w, &e) ||
        cf_gguf_writer_close(w, true, &e) || cf_gguf_open(&m.g, path, &e) || cf_tokenizer_new(&m.t, m.g, &e))
        fail_msg("%s", e.text);
    unlink(path);
    return m;
}

static void expect_choice(const char *architecture, const char *jinja, const char *tokens, const char *option,
    const char *form, const char *why) {
    struct made m = make(architecture, jinja, tokens);
    const struct cf_chat_form *f;
    struct cf_error e;
    char said[160];
    if (cf_chat_choose(&f, option, m.g, m.t, said, sizeof said, &e)) fail_msg("%s", e.text);
    assert_string_equal(f->name, form);
    if (why ? !strstr(said, why) : *said != '\0') fail_msg("says \"%s\"", said);
    cf_tokenizer_free(m.t);
    cf_gguf_close(m.g);
}

static void test_choose(void **state) {
    (void)state;
    expect_choice("llama", "<start_of_turn>", "", NULL, "gemma", NULL);
    expect_choice("llama", "<start_of_turn>", "", "auto", "gemma", NULL);
    expect_choice("llama", "<start_of_turn>", "", "llama3", "llama3", NULL);
    expect_choice("llama", "<start_of_turn>", "", "{% if x %}<|eot|><|header_start|><|header_end|>", "llama4", NULL);
    expect_choice("llama", "{{ messages }}", "", NULL, "chatml", "no known family: chatml is used");
    expect_choice("llama", NULL, "", NULL, "chatml", "no chat template: chatml is used");
    expect_choice("glm4moe", NULL, "<|user|> <|assistant|>", NULL, "chatglm4", NULL);
    expect_choice("qwen2", NULL, "<|endoftext|> <|im_start|> <|im_end|>", NULL, "chatml", NULL);
    expect_choice("llama", NULL, "<|start_header_id|> <|end_header_id|>", NULL, "llama3", NULL);
    expect_choice("llama", NULL, "[INST] [/INST] [AVAILABLE_TOOLS]", NULL, "mistral-v3", NULL);
}

static void expect_refusal(const char *option, const char *what) {
    struct cf_error e;
    assert_int_equal(cf_chat_check_option(option, &e), -1);
    if (!strstr(e.text, what) || !strstr(e.text, "--chat-template")) fail_msg("%s", e.text);
}

static void test_option(void **state) {
    (void)state;
    struct cf_error e;
    assert_int_equal(cf_chat_check_option(NULL, &e), 0);
    assert_int_equal(cf_chat_check_option("auto", &e), 0);
    assert_int_equal(cf_chat_check_option("mistral-v7-tekken", &e), 0);
    expect_refusal("chatmi", "neither a known name nor a file");
    expect_refusal("chatmi", "chatml, ");
    expect_refusal("chatmi", ", zephyr"); /* the list is whole */
    expect_refusal("{{ x }}", "no known family");
    expect_refusal("/", "--chat-template /: ");
    char path[] = "/tmp/coffer-chat-XXXXXX";
    int fd = mkstemp(path);
    expect_refusal(path, "no known family");
    assert_int_equal(write(fd, "\0<|im_start|>", 13), 13);
    close(fd);
    assert_int_equal(cf_chat_check_option(path, &e), 0);
    assert_int_equal(truncate(path, 2 << 20), 0);
    expect_refusal(path, "more than 1048576 bytes");
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_with_system), cmocka_unit_test(test_without_system),
        cmocka_unit_test(test_names), cmocka_unit_test(test_recognise), cmocka_unit_test(test_choose),
        cmocka_unit_test(test_option)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
