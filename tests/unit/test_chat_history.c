/* Conversations: what is kept, what is forgotten, and the files they are saved in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "coordinator/chat/message.h"

static void add(struct cf_chat *c, enum cf_chat_role role, const char *text) {
    struct cf_error e;
    if (cf_chat_add(c, role, text, strlen(text), &e)) fail_msg("%s", e.text);
}

/* "s:be terse|u:hi|a:hello" */
static void expect(const struct cf_chat *c, const char *expected) {
    char got[512] = "";
    for (size_t i = 0; i < c->n; i++) {
        size_t n = strlen(got);
        snprintf(got + n, sizeof got - n, "%s%c:%s", i ? "|" : "", cf_chat_role_name(c->messages[i].role)[0],
            c->messages[i].content);
    }
    assert_string_equal(got, expected);
}

static void test_system(void **state) {
    (void)state;
    struct cf_chat c = {0};
    struct cf_error e;
    assert_null(cf_chat_system(&c));
    assert_int_equal(cf_chat_set_system(&c, "", 0, &e), 0);
    add(&c, CF_CHAT_USER, "hi");
    assert_int_equal(cf_chat_set_system(&c, "one", 3, &e), 0);
    expect(&c, "s:one|u:hi");
    assert_int_equal(cf_chat_set_system(&c, "two", 3, &e), 0);
    expect(&c, "s:two|u:hi");
    assert_int_equal(cf_chat_set_system(&c, "", 0, &e), 0);
    expect(&c, "u:hi");
    cf_chat_clear(&c);
}

static void test_oldest_go_first(void **state) {
    (void)state;
    struct cf_chat c = {0};
    add(&c, CF_CHAT_SYSTEM, "s");
    add(&c, CF_CHAT_USER, "1");
    add(&c, CF_CHAT_ASSISTANT, "a1");
    add(&c, CF_CHAT_USER, "2");
    add(&c, CF_CHAT_USER, "3");
    assert_int_equal(cf_chat_drop_oldest(&c), 2);
    expect(&c, "s:s|u:2|u:3");
    assert_int_equal(cf_chat_drop_oldest(&c), 1);
    expect(&c, "s:s|u:3");
    assert_int_equal(cf_chat_drop_oldest(&c), 0);
    expect(&c, "s:s|u:3");
    cf_chat_clear(&c);
}

static void test_content_is_clean(void **state) {
    (void)state;
    struct cf_chat c = {0};
    struct cf_error e;
    assert_int_equal(cf_chat_add(&c, CF_CHAT_USER, "a\0b\xff\xc3(\xe2\x82", 8, &e), 0);
    expect(&c, "u:a\xef\xbf\xbd"
               "b\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd");
    assert_int_equal(c.messages[0].length, strlen(c.messages[0].content));
    cf_chat_clear(&c);
}

struct folder {
    char path[64], file[96];
};

static struct folder folder(void) {
    struct folder f = {.path = "/tmp/coffer-history-XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    snprintf(f.file, sizeof f.file, "%s/chat.json", f.path);
    return f;
}

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(text, 1, strlen(text), f);
    fclose(f);
}

static void test_save_and_load(void **state) {
    (void)state;
    struct folder f = folder();
    struct cf_chat c = {0}, read = {0};
    struct cf_error e;
    add(&c, CF_CHAT_SYSTEM, "\"quoted\" \\ \t\n\x01");
    add(&c, CF_CHAT_USER, "\xe2\x82\xac \xf0\x9f\x92\xa9");
    add(&c, CF_CHAT_ASSISTANT, "");
    c.messages[2].thinking = strdup("hm\n");
    add(&read, CF_CHAT_USER, "old");
    if (cf_chat_save(&c, f.file, &e) || cf_chat_load(&read, f.file, &e)) fail_msg("%s", e.text);
    expect(&read, "s:\"quoted\" \\ \t\n\x01|u:\xe2\x82\xac \xf0\x9f\x92\xa9|a:");
    assert_string_equal(read.messages[2].thinking, "hm\n");
    assert_null(read.messages[1].thinking);
    struct stat s;
    chmod(f.file, 0600);
    if (cf_chat_save(&read, f.file, &e)) fail_msg("%s", e.text);
    assert_int_equal(stat(f.file, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600); /* as it was */
    unlink(f.file);
    assert_int_equal(rmdir(f.path), 0); /* nothing else was left there */
    cf_chat_clear(&c);
    cf_chat_clear(&read);
}

static void test_other_forms(void **state) {
    (void)state;
    struct folder f = folder();
    struct cf_chat c = {0};
    struct cf_error e;
    write_file(f.file, "[{\"role\":\"user\",\"content\":\"hi\",\"more\":1}]");
    if (cf_chat_load(&c, f.file, &e)) fail_msg("%s", e.text);
    expect(&c, "u:hi");
    write_file(f.file, "{\"messages\":[]}");
    if (cf_chat_load(&c, f.file, &e)) fail_msg("%s", e.text);
    expect(&c, "");
    unlink(f.file);
    rmdir(f.path);
    cf_chat_clear(&c);
}

static void test_bad_files(void **state) {
    (void)state;
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"", "line 1"},
        {"{", "line 1"},
        {"{\"messages\":1}", "no list of messages"},
        {"7", "line 1"},
        {"{}", "no list of messages"},
        {"[7]", "message 1: role is missing"},
        {"[{\"role\":\"user\"}]", "message 1: content is no text"},
        {"[{\"role\":\"user\",\"content\":[]}]", "message 1: content is no text"},
        {"[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"tool\",\"content\":\"b\"}]", "message 2: role is tool"},
        {"[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"b\"}]",
            "message 2: a system message"},
        {"[{\"role\":\"user\",\"role\":\"user\",\"content\":\"a\"}]", "line 1"},
        {"[{\"role\":\"user\",\"content\":\"\\u0000\"}]", "line 1"},
        {"[] x", "line 1"},
    };
    struct folder f = folder();
    struct cf_chat c = {0};
    struct cf_error e;
    add(&c, CF_CHAT_USER, "old");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(f.file, bad[i].text);
        assert_int_equal(cf_chat_load(&c, f.file, &e), -1);
        if (!strstr(e.text, bad[i].error) || !strstr(e.text, f.file)) fail_msg("%s: %s", bad[i].text, e.text);
        expect(&c, "u:old"); /* the running conversation stays */
    }
    unlink(f.file);
    assert_int_equal(cf_chat_load(&c, f.file, &e), -1);
    assert_non_null(strstr(e.text, "No such file"));
    assert_int_equal(cf_chat_load(&c, f.path, &e), -1);
    assert_non_null(strstr(e.text, "not a regular file"));
    assert_int_equal(cf_chat_save(&c, f.path, &e), -1);
    assert_int_equal(cf_chat_save(&c, "/no/such/folder/x", &e), -1);
    assert_int_equal(cf_chat_save(&c, "/dev/full", &e), -1);
    rmdir(f.path);
    cf_chat_clear(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_system), cmocka_unit_test(test_oldest_go_first),
        cmocka_unit_test(test_content_is_clean), cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_other_forms), cmocka_unit_test(test_bad_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
