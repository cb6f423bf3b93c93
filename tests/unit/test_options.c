/* The command line as data: values land in their fields, and whatever is wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/cli/help.h"
#include "coordinator/cli/options.h"

struct config {
    bool json, color;
    int64_t n, batch, seed;
    double temp;
    const char *model;
    struct more {
        int64_t rooms;
        bool open;
    } first, second;
    struct cf_option_list words;
};

static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, offsetof(struct config, model), "FILE", "the model", 0, 0, NULL},
    {"predict", 'n', CF_OPT_INT, offsetof(struct config, n), "N", "tokens to make; -1: no limit (-1)", -1, 1e9,
        "n-predict"},
    {"ubatch", 0, CF_OPT_INT, offsetof(struct config, batch), "N", "rows of a chunk", 1, 4096, "ub"},
    {"seed", 's', CF_OPT_INT, offsetof(struct config, seed), "N", "any number", 0, 0, NULL},
    {"temp", 0, CF_OPT_REAL, offsetof(struct config, temp), "T", "temperature", 0, 100, NULL},
    {"json", 'j', CF_OPT_FLAG, offsetof(struct config, json), NULL, "one object", 0, 0, NULL},
    {"word", 'w', CF_OPT_LIST, offsetof(struct config, words), "TEXT", "one more word", 0, 0, NULL},
    {"no-color", 0, CF_OPT_NO_FLAG, offsetof(struct config, color), NULL, "plain", 0, 0, NULL},
    {0},
};

/* Rows that other commands have too. */
static const struct cf_option more[] = {
    {"rooms", 'r', CF_OPT_INT, offsetof(struct more, rooms), "N", "shared rooms", 0, 9, NULL},
    {0},
};
static const struct cf_option most[] = {
    {"open", 0, CF_OPT_FLAG, offsetof(struct more, open), NULL, "shared doors", 0, 0, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {
    {more, offsetof(struct config, first)}, {most, offsetof(struct config, second)}, {0}};

static int last_argc;
static char last_operand[64];

static void defaults(void *config) {
    *(struct config *)config = (struct config){.color = true, .n = -1, .temp = 0.8};
}

static int run(void *config, int argc, char **argv) {
    last_argc = argc;
    snprintf(last_operand, sizeof last_operand, "%s", argc ? argv[0] : "");
    return ((struct config *)config)->json ? 7 : 0;
}

static const struct cf_command command = {"try", "-m FILE [FILE]", "tries things", "Long text.\n\nSecond.\n  kept line",
    "coffer try -m x\n", options, sizeof(struct config), defaults, run, shared};
static const struct cf_command *const commands[] = {&command, NULL};

static int parse(struct config *c, struct cf_error *e, int *rest, const char *const *words) {
    static char *argv[32];
    int argc = 0;
    argv[argc++] = (char *)"try";
    while (words[argc - 1]) {
        argv[argc] = (char *)words[argc - 1];
        argc++;
    }
    argv[argc] = NULL;
    return cf_options_parse(&command, argc, argv, c, rest, e);
}
#define PARSE(...) parse(&c, &e, &rest, (const char *const[]){__VA_ARGS__, NULL, NULL})

static void test_values(void **state) {
    (void)state;
    struct config c;
    struct cf_error e;
    int rest;
    assert_int_equal(PARSE(NULL), 0);
    assert_true(c.color);
    assert_int_equal(c.n, -1);
    assert_int_equal(rest, 1);
    assert_int_equal(PARSE("-m", "a.gguf", "-n", "-1", "-ub", "512", "--temp=0.25", "-j", "-s9"), 0);
    assert_string_equal(c.model, "a.gguf");
    assert_int_equal(c.n, -1);
    assert_int_equal(c.batch, 512);
    assert_true(c.temp == 0.25);
    assert_true(c.json);
    assert_int_equal(c.seed, 9);
    assert_int_equal(PARSE("--n-predict", "5", "-temp", "1", "--no-color", "--seed", "-9223372036854775808"), 0);
    assert_int_equal(c.n, 5);
    assert_true(c.temp == 1);
    assert_false(c.color);
    assert_true(c.seed == INT64_MIN);
    assert_int_equal(PARSE("--rooms", "4", "--open"), 0);
    assert_int_equal(c.first.rooms, 4);
    assert_true(c.second.open && !c.first.open && !c.second.rooms);
    assert_int_equal(PARSE("-r", "7", "-n", "2"), 0);
    assert_true(c.first.rooms == 7 && c.n == 2);
}

static void test_list(void **state) {
    (void)state;
    static struct config c;
    struct cf_error e;
    int rest;
    assert_int_equal(PARSE("-w", "one", "--word", "two", "-wthree"), 0);
    assert_int_equal(c.words.n, 3);
    assert_string_equal(c.words.at[0], "one");
    assert_string_equal(c.words.at[2], "three");
    assert_int_equal(PARSE(NULL), 0);
    assert_int_equal(c.words.n, 0);
    const struct cf_option *o = &options[6];
    assert_string_equal(o->name, "word");
    while (c.words.n < CF_OPTION_LIST_LONGEST)
        assert_int_equal(cf_option_store(o, "again", &c, &e), 0);
    assert_int_equal(cf_option_store(o, "again", &c, &e), -1);
    assert_string_equal(e.text, "option --word: more than 256 times");
    assert_int_equal(cf_option_store(&options[1], "17", &c, &e), 0);
    assert_int_equal(c.n, 17);
    assert_int_equal(cf_option_store(&options[1], "-7", &c, &e), -1);
}

static void test_operands(void **state) {
    (void)state;
    struct config c;
    struct cf_error e;
    int rest;
    assert_int_equal(PARSE("file", "-n", "3", "other"), 0); /* operands may stand anywhere */
    assert_int_equal(rest, 3);
    assert_int_equal(c.n, 3);
    assert_int_equal(PARSE("-n", "3", "--", "-j"), 0);
    assert_int_equal(rest, 4);
    assert_false(c.json);
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *words[3], *text;
    } cases[] = {
        {{"--what"}, "unknown option --what (see 'coffer try --help')"},
        {{"-z"}, "unknown option -z (see"},
        {{"-r", "10"}, "option --rooms: 10 is out of range (0 to 9)"},
        {{"--what=1"}, "unknown option --what=1 (see"},
        {{"--model"}, "option --model needs FILE"},
        {{"-n"}, "option -n needs N"},
        {{"-ub"}, "option -ub needs N"},
        {{"-n", "many"}, "option --predict: 'many' is not a whole number"},
        {{"-n", ""}, "option --predict: '' is not a whole number"},
        {{"-n", "3x"}, "option --predict: '3x' is not"},
        {{"-n", "1.5"}, "option --predict: '1.5' is not"},
        {{"-n", "-2"}, "option --predict: -2 is out of range (-1 to 1000000000)"},
        {{"-s", "9223372036854775808"}, "option --seed: 9223372036854775808 is out of range"},
        {{"--temp", "nan"}, "option --temp: 'nan' is not a number"},
        {{"--temp", "101"}, "option --temp: 101 is out of range (0 to 100)"},
        {{"--json=1"}, "option --json takes no value"},
        {{"--help=1"}, "option --help takes no value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        struct cf_error e = {0};
        int rest;
        assert_int_equal(PARSE(cases[i].words[0], cases[i].words[1]), -1);
        if (!strstr(e.text, cases[i].text)) fail_msg("'%s' lacks '%s'", e.text, cases[i].text);
        assert_non_null(strstr(e.text, "coffer try --help"));
        assert_int_equal(e.code, CF_ERR_USAGE);
        assert_int_equal(cf_exit_status(&e), 2);
    }
}

static int call(const char *a, const char *b, const char *c) {
    char *argv[] = {(char *)"coffer", (char *)a, (char *)b, (char *)c, NULL};
    return cf_commands_main(commands, c ? 4 : b ? 3 : a ? 2 : 1, argv);
}

static void test_main(void **state) {
    (void)state;
    assert_int_equal(call(NULL, NULL, NULL), 2);
    assert_int_equal(call("nonsense", NULL, NULL), 2);
    assert_int_equal(call("try", "--nonsense", NULL), 2);
    assert_int_equal(call("try", "--json", "x"), 7);
    assert_int_equal(last_argc, 1);
    assert_string_equal(last_operand, "x");
}

static char *capture(void (*write)(FILE *to)) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    write(f);
    fclose(f);
    return text;
}

static void write_help(FILE *to) {
    cf_options_help(&command, to);
}
static void write_man(FILE *to) {
    cf_help_man(commands, to);
}

static void test_help(void **state) {
    (void)state;
    char *help = capture(write_help), *man = capture(write_man);
    assert_non_null(
        strstr(help, "usage: coffer try -m FILE [FILE]\n\ntries things\n\nLong text.\n\nSecond.\n  kept line\n"));
    assert_non_null(strstr(help, "\n  -m, --model FILE        the model\n"));
    assert_non_null(strstr(help, "\n  -n, --predict, --n-predict N\n                          tokens to make; -1:"));
    assert_non_null(strstr(help, "\n      --no-color          plain\n  -r, --rooms N           shared rooms\n"));
    assert_non_null(strstr(man, ".B \\-\\-open\nshared doors\n"));
    assert_non_null(strstr(man, ".TP\n.B \\-m, \\-\\-model FILE\nthe model\n"));
    free(help);
    free(man);
}

static void test_status(void **state) {
    (void)state;
    assert_int_equal(cf_exit_status(NULL), 0);
    assert_int_equal(cf_exit_status(&(struct cf_error){.code = CF_ERR_FILE}), 1);
    assert_int_equal(cf_exit_status(&(struct cf_error){.code = CF_ERR_INTERRUPTED}), 130);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_list),
        cmocka_unit_test(test_operands), cmocka_unit_test(test_errors), cmocka_unit_test(test_main),
        cmocka_unit_test(test_help), cmocka_unit_test(test_status)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
