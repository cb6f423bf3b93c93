/* Journals and how rank 0 reads them: whole records and no others, from exactly as many bytes as there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/supervise/journal.h"
#include "coordinator/supervise/replay.h"
#include "coordinator/supervise/story.h"
#include "coordinator/supervise/supervisor.h"

#define STATE " 0123456789abcdef 0000000000000001 ffffffffffffffff 0000000000000000 4010000000000000"

static struct cf_error error;

/* Records with nothing behind them; in an allocation of that size a read past the end is one past the allocation. */
static struct cf_replay records(const char *text, size_t n) {
    struct cf_replay r = {.bytes = malloc(n ? n : 1), .n = n};
    assert_non_null(r.bytes);
    memcpy(r.bytes, text, n);
    return r;
}

/* As rank 0 finds it on stdin, with a line of the user's behind it. */
static int from_stdin(struct cf_replay *r, const char *text, char rest[64]) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), strlen(text));
    close(fds[1]);
    int rc = cf_replay_read(r, fds[0], &error);
    ssize_t n = read(fds[0], rest, 63);
    rest[n > 0 ? n : 0] = '\0';
    close(fds[0]);
    return rc;
}

static void streams(void **state) {
    (void)state;
    struct cf_replay r;
    char rest[64];
    size_t n;
    assert_int_equal(from_stdin(&r, "journal 7\nline a\nnew\n", rest), 0);
    assert_string_equal(rest, "new\n");
    assert_memory_equal(cf_replay_line(&r, &n), "a\n", 2);
    assert_int_equal(n, 1);
    assert_true(cf_replay_over(&r));
    cf_replay_free(&r);
    assert_int_equal(from_stdin(&r, "journal 0\nnew\n", rest), 0);
    assert_string_equal(rest, "new\n");
    assert_true(cf_replay_over(&r));
    assert_null(cf_replay_line(&r, &n));
    cf_replay_free(&r);
}

static void wrong_streams(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"journal 8\nline a\n", "ends early"},
        {"journal 18446744073709551615\nline a\n", "early"}, {"journal 999999999999\nline a\n", "ends early"},
        {"journal 18446744073709551616\n", "no journal"}, {"journal -1\nline a\n", "no journal"},
        {"journal 7x\nline a\n", "no journal"}, {"journal \n7\n", "no journal"}, {"line a\n", "no journal"},
        {"journal 7", "does not come"}, {"", "does not come"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_replay r;
        char rest[64];
        assert_int_equal(from_stdin(&r, cases[i][0], rest), -1);
        if (!strstr(error.text, cases[i][1])) fail_msg("%s: %s", cases[i][0], error.text);
        cf_replay_free(&r);
    }
}

static void conversation(void **state) {
    (void)state;
    static const char text[] = "line Hi\r\ntoken 7" STATE "\ntoken 4294967295" STATE "\nend 0 12\nline /load x\n"
                               "more {\"a\":\nload 1}\nend 130 -1\nline cut";
    struct cf_replay r = records(text, sizeof text - 1);
    struct cf_replayed t;
    size_t n;
    assert_memory_equal(cf_replay_line(&r, &n), "Hi\r\n", 4);
    assert_int_equal(n, 3);
    assert_int_equal(cf_replay_tokens(&r, &t, &error), 0);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.ids[0], 7);
    assert_int_equal(t.ids[1], UINT32_MAX);
    assert_int_equal(t.state[2], UINT64_MAX);
    assert_true(t.ended && t.status == 0 && t.n_cached == 12);
    cf_replayed_free(&t);
    assert_non_null(cf_replay_line(&r, &n));
    char *load = cf_replay_text(&r, &n);
    assert_string_equal(load, "{\"a\":1}");
    assert_int_equal(n, 7);
    free(load);
    assert_int_equal(cf_replay_tokens(&r, &t, &error), 0);
    assert_true(t.n == 0 && t.ended && t.status == 130 && t.n_cached == -1);
    cf_replayed_free(&t);
    assert_null(cf_replay_line(&r, &n)); /* its end was never written */
    cf_replay_free(&r);
}

/* Their numbers end where the record does. */
static void wrong_records(void **state) {
    (void)state;
    static const char *const wrong[] = {"token 7\n", "token 7" STATE " \n", "token 07" STATE "\n",
        "token -7" STATE "\n", "token 4294967296" STATE "\n", "token 7 0123456789abcdef 1\n", "end \n12 5", "end 0\n",
        "end 0\n5 7\n", "end 0 \n1", "end 0 1x\n", "end 99999999999 1\n", "end 0 4294967296\n", "end -1 1\n",
        "end 0 -2\n"};
    struct cf_replayed t;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct cf_replay r = records(wrong[i], strlen(wrong[i]));
        if (!cf_replay_tokens(&r, &t, &error)) fail_msg("%s", wrong[i]);
        assert_false(t.ended);
        cf_replayed_free(&t);
        cf_replay_free(&r);
    }
    static const char zero[] = "token 7" STATE "\0x\n";
    struct cf_replay r = records(zero, sizeof zero - 1);
    assert_int_equal(cf_replay_tokens(&r, &t, &error), -1);
    cf_replayed_free(&t);
    cf_replay_free(&r);
}

static void answered(void **state) {
    (void)state;
    static const char text[] =
        "answered 12\ntoken 1\nanswered 4294967299\nanswered 5x\nanswered \n6\nanswered 0\nanswered 7";
    struct cf_replay r = records(text, sizeof text - 1);
    for (uint32_t i = 0; i < 20; i++)
        if (cf_replay_answered(&r, i) != (i == 12 || i == 0)) fail_msg("%u", i);
    cf_replay_free(&r);
    r = records("answered ", 9);
    assert_false(cf_replay_answered(&r, 0));
    cf_replay_free(&r);
    r = records("answered \n", 10);
    assert_false(cf_replay_answered(&r, 0));
    cf_replay_free(&r);
}

/* Without a journal there is nothing. */
static void nothing(void **state) {
    (void)state;
    struct cf_replay r = {0};
    struct cf_replayed t;
    size_t n;
    assert_null(cf_replay_line(&r, &n));
    assert_null(cf_replay_text(&r, &n));
    assert_int_equal(cf_replay_tokens(&r, &t, &error), 0);
    assert_true(t.n == 0 && !t.ended);
    assert_false(cf_replay_answered(&r, 0));
}

static void journal(void **state) {
    (void)state;
    char path[32] = "journal-XXXXXX", text[256];
    int fd = mkstemp(path);
    struct cf_journal j;
    assert_true(fd >= 0);
    assert_int_equal(cf_journal_open(&j, path, &error), 0);
    cf_journal_remark(&j, "input", "a\n\nb\n", 5);
    assert_int_equal(cf_journal_add(&j, "line", "Hi \0there", 9), 0);
    assert_int_equal(cf_journal_add(&j, "line", "", 0), 0);
    ssize_t n = pread(fd, text, sizeof text, 0);
    static const char want[] = CF_JOURNAL_HEAD "input a\\n\\nb\\n\nline Hi \0there\nline \n";
    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(text, want, sizeof want - 1);
    assert_int_equal(j.n, 21);
    assert_memory_equal(j.bytes, want + sizeof want - 1 - 21, 21);
    cf_journal_close(&j, false);
    assert_int_equal(cf_journal_open(&j, path, &error), -1); /* it is not empty */
    cf_journal_close(&j, false);
    close(fd);
    unlink(path);
}

/* A name that is too long is not cut to another one. */
static void long_name(void **state) {
    (void)state;
    enum { N = 4200 };
    char path[N + 1];
    struct cf_journal j;
    struct stat s;
    for (size_t i = 0; i < N; i++)
        path[i] = i % 2 ? '/' : '.';
    path[4095 - 1] = 'j'; /* where it used to be cut */
    path[N] = '\0';
    assert_int_equal(cf_journal_open(&j, path, &error), -1);
    cf_journal_close(&j, false);
    path[4095] = '\0';
    assert_int_equal(stat(path, &s), -1);
}

/* What a dying rank 0 has said by half, with what mpirun says behind it, is not journaled. */
static void events(void **state) {
    (void)state;
    static const char *const said[] = {("token 7" STATE "It"), ("token 8" STATE), "answered 1It", "answered 3",
        "end 0 1It", "end 0", "end 0 12", "lost rank 1"};
    char path[32] = "journal-XXXXXX";
    int fd = mkstemp(path);
    struct cf_hosts none = {0};
    struct cf_supervision o = {.journal = path, .hosts = &none, .ranks = 1};
    struct cf_supervisor *s;
    assert_true(fd >= 0);
    if (cf_supervisor_open(&s, &o, &error)) fail_msg("%s", error.text);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        cf_supervisor_event(s, said[i], said[i] + strcspn(said[i], " ") + 1);
    static const char want[] = "token 8" STATE "\nanswered 3\nend 0 12\n";
    const struct cf_journal *j = cf_supervisor_journal(s);
    assert_int_equal(j->n, sizeof want - 1);
    assert_memory_equal(j->bytes, want, j->n);
    cf_supervisor_close(s, 0);
    close(fd);
    unlink(path);
}

static void parse(struct cf_story *s, const char *text) {
    if (cf_story_parse(s, text, strlen(text), "j", &error)) fail_msg("%s: %s", text, error.text);
}

/* A journal is read back as it was written; what is not there to its end is left out. */
static void story(void **state) {
    (void)state;
    struct cf_story s;
    parse(&s, CF_JOURNAL_HEAD
        "directory /a b\nargument run\nargument -p\nargument a\\\\n\\nb\\\ninput x\\n\\\\\\n\nstart 1\n"
        "token 7" STATE "\nmore half\nstart 2\nmore {\nload }\nsaid never whole\nsaid one\\n\nanswered 1\n"
        "answered 0\nsaid two\nanswered 2\nend 0 3\nend 143 8\nstart 1\nend 143 9\nmore again\ntoken 8 01");
    assert_string_equal(s.directory, "/a b");
    assert_int_equal(s.n_words, 3);
    assert_string_equal(s.words[2], "a\\n\nb\\");
    assert_null(s.words[3]);
    assert_int_equal(s.n_input, 4);
    assert_memory_equal(s.input, "x\n\\\n", 4);
    assert_int_equal(s.n_shown, 7);
    assert_memory_equal(s.shown, "one\ntwo", 7);
    static const char want[] = "token 7" STATE "\nmore {\nload }\nanswered 1\nanswered 0\nanswered 2\nend 0 3\n";
    assert_int_equal(s.n, sizeof want - 1);
    assert_memory_equal(s.records, want, s.n);
    cf_story_free(&s);
    parse(&s, CF_JOURNAL_HEAD "argument chat\nstart 1\nend 130 4\n"); /* Ctrl-C ended that answer, and nothing else */
    assert_int_equal(s.n, 10);
    assert_null(s.directory);
    cf_story_free(&s);
}

static void wrong_stories(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"", "no journal of this coffer"},
        {"coffer journal 1\nargument run\n", "no journal of this coffer"},
        {"coffer journal", "no journal of this coffer"}, {CF_JOURNAL_HEAD, "does not say how"},
        {CF_JOURNAL_HEAD "argument run", "does not say how"}, {CF_JOURNAL_HEAD "argument run\n", "does not say how"},
        {CF_JOURNAL_HEAD "argument run\nwhat 1\n", "line 3"}, {CF_JOURNAL_HEAD "argument run\ntoken 7\n", "line 3"},
        {CF_JOURNAL_HEAD "argument run\nend 0\n", "line 3"}, {CF_JOURNAL_HEAD "argument run\n\n", "line 3"},
        {CF_JOURNAL_HEAD "argument run\nanswered x\n", "line 3"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_story s;
        assert_int_equal(cf_story_parse(&s, cases[i][0], strlen(cases[i][0]), "j", &error), -1);
        if (!strstr(error.text, cases[i][1])) fail_msg("%s: %s", cases[i][0], error.text);
        cf_story_free(&s);
    }
}

/* Whoever goes on with a journal writes behind its last whole record; and not while another one writes to it. */
static void reopened(void **state) {
    (void)state;
    char path[32] = "journal-XXXXXX", text[256];
    int fd = mkstemp(path);
    struct cf_journal j, other;
    struct cf_story s;
    assert_true(fd >= 0);
    assert_int_equal(cf_journal_open(&j, path, &error), 0);
    cf_journal_remark(&j, "argument", "run", 3);
    cf_journal_start(&j, 1);
    assert_int_equal(cf_journal_add(&j, "line", "a", 1), 0);
    assert_int_equal(cf_journal_reopen(&other, path, true, &s, &error), -1);
    assert_non_null(strstr(error.text, "still going on"));
    cf_journal_close(&other, false);
    cf_story_free(&s);
    cf_journal_close(&j, false);
    assert_int_equal(pwrite(fd, "line cut", 8, lseek(fd, 0, SEEK_END)), 8);
    if (cf_journal_reopen(&j, path, false, &s, &error)) fail_msg("%s", error.text);
    assert_string_equal(s.words[0], "run");
    assert_int_equal(j.n, 7);
    assert_int_equal(cf_journal_add(&j, "more", "b", 1), 0);
    cf_journal_start(&j, 2);
    assert_int_equal(j.n, 7);
    static const char want[] = CF_JOURNAL_HEAD "argument run\nstart 1\nline a\nmore b\nstart 2\n";
    assert_int_equal(pread(fd, text, sizeof text, 0), sizeof want - 1);
    assert_memory_equal(text, want, sizeof want - 1);
    cf_journal_close(&j, false); /* nobody named it, and all is well */
    assert_int_equal(access(path, F_OK), -1);
    cf_story_free(&s);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(streams), cmocka_unit_test(wrong_streams),
        cmocka_unit_test(conversation), cmocka_unit_test(wrong_records), cmocka_unit_test(answered),
        cmocka_unit_test(nothing), cmocka_unit_test(journal), cmocka_unit_test(long_name), cmocka_unit_test(events),
        cmocka_unit_test(story), cmocka_unit_test(wrong_stories), cmocka_unit_test(reopened)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
