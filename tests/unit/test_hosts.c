/* Host files and --host lists: what Open MPI reads from them is what is counted, and what it would stop at is refused
 * by file and line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/supervise/hosts.h"

static struct cf_error error;

/* What mpirun would be told of the file's hosts. */
static void file_gives_n(const char *text, size_t n, const char *want) {
    struct cf_hosts h = {0};
    if (cf_hosts_parse(&h, "hosts", text, n, &error)) fail_msg("%s", error.text);
    h.listed = true;
    assert_string_equal(cf_hosts_list(&h), want);
    cf_hosts_close(&h);
}

static void file_gives(const char *text, const char *want) {
    file_gives_n(text, strlen(text), want);
}

static void file_fails_n(const char *text, size_t n, const char *where, const char *why) {
    struct cf_hosts h = {0};
    assert_int_equal(cf_hosts_parse(&h, "hosts", text, n, &error), -1);
    if (strncmp(error.text, where, strlen(where)) != 0 || !strstr(error.text, why)) fail_msg("%s", error.text);
    cf_hosts_close(&h);
}

static void file_fails(const char *text, const char *where, const char *why) {
    file_fails_n(text, strlen(text), where, why);
}

static void files(void **state) {
    (void)state;
    file_gives("a slots=2\nb slots=3\n", "a:2,b:3");
    file_gives("a slots=2\nb slots=3", "a:2,b:3");                    /* no newline at the end */
    file_gives("a slots = 2\nb slots= 3\nc slots =4", "a:2,b:3,c:4"); /* as mpirun reads them */
    file_gives("a cpu=2\nb count=3\n", "a:2,b:3");                    /* these, too */
    file_gives("a max_slots=8 slots=2 slotsx=7 = x=\n", "a:2");       /* the others say nothing here */
    file_gives("a\nb slots=2\na\n\n a\t\n", "a:3,b:2");               /* a slot for each time */
    file_gives("#x slots=2\n// y\n \na slots=1#2\nb//c", "a:1,b:1");  /* comments */
    file_gives("# x\r\na", "a:1");                                    /* mpirun skips this one */
    file_gives("me@a.example.org slots=2\n10.0.0.7\n", "a.example.org:2,10.0.0.7:1");
}

static void wrong_files(void **state) {
    (void)state;
    file_fails("", "hosts: ", "no host");
    file_fails("# x\n\n", "hosts: ", "no host");
    file_fails("a slots=2\nb slots=0\n", "hosts:2: ", "slots=0: not a number of slots");
    file_fails("a slots=\n", "hosts:1: ", "slots=: not");
    file_fails("a slots\n", "hosts:1: ", "slots=: not");
    file_fails("a slots=-1\n", "hosts:1: ", "slots=-1");
    file_fails("a slots=2x\n", "hosts:1: ", "slots=2x");
    file_fails("a slots=65537\n", "hosts:1: ", "slots=65537");
    file_fails("a slots=4294967298\n", "hosts:1: ", "slots=4294967298");
    file_fails("a slots=65536\na\n", "hosts:2: ", "more than 65536 slots of a");
    file_fails("a slots=2\r\nb slots=2\r\n", "hosts:1: ", "carriage return");
    file_fails("a\n\r\n", "hosts:2: ", "carriage return");
    file_fails("\xef\xbb\xbf"
               "a slots=2\n",
        "hosts:1: ", "byte order mark");
    file_fails_n("a\0b slots=2\n", 12, "hosts:1: ", "byte 0x00");
    file_fails("a\nme@\n", "hosts:2: ", "'' is no name");
    file_fails("-oProxyCommand=x\n", "hosts:1: ", "is no name");
    file_fails("fe80::1 slots=2\n", "hosts:1: ", "'fe80::1' is no name");
    file_fails("[fe80::1] slots=2\n", "hosts:1: ", "'[fe80::1]' is no name");
    file_fails("a:2\n", "hosts:1: ", "'a:2' is no name");
}

/* A line is a line however long it is: what lies behind a border of some buffer is no other host. */
static void long_lines(void **state) {
    (void)state;
    size_t n = 100000;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, 'x', n);
    text[n] = '\0';
    memcpy(text, "a slots=2 #", 11);
    file_gives(text, "a:2");
    memset(text + 1, ' ', n - 1);
    memcpy(text + n - 8, " slots=3", 8);
    file_gives(text, "a:3");
    memset(text, 'a', n);
    file_fails(text, "hosts:1: ", "is no name");
    free(text);
}

static void lists(void **state) {
    (void)state;
    static const struct {
        const char *list, *want, *why;
    } cases[] = {{"a:2,b", "a:2,b:1", NULL}, {"a,a:3,b,", "a:4,b:1", NULL}, {"a:2x", NULL, "names and slots"},
        {"a:", NULL, "names and slots"}, {"a:0", NULL, "names and slots"}, {"a:2,b:99999999999", NULL, "names and"},
        {"", NULL, "names no host"}, {"a,,b", NULL, "'' is no name"}, {"[fe80::1]:2,b", NULL, "'[fe80::1]:2' is no"},
        {"fe80::1", NULL, "'fe80::1' is no name"}, {"a:65536,a:65536", NULL, "more than 65536"},
        {"a b", NULL, "'a b'"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_hosts h;
        int rc = cf_hosts_open(&h, NULL, cases[i].list, &error);
        if (rc != (cases[i].want ? 0 : -1)) fail_msg("%s: %d", cases[i].list, rc);
        if (rc && (strncmp(error.text, "--host", 6) != 0 || !strstr(error.text, cases[i].why)))
            fail_msg("%s: %s", cases[i].list, error.text);
        if (!rc) assert_string_equal(cf_hosts_list(&h), cases[i].want);
        cf_hosts_close(&h);
    }
}

static void write_file(char path[32], const char *text, size_t n) {
    strcpy(path, "hosts-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
}

/* mpirun believes that a host without "slots=" has one for each core, and would start all ranks on the first. */
static void told_of_slots(void **state) {
    (void)state;
    static const struct {
        const char *text, *list;
    } cases[] = {{"a\nb\n", "a:1,b:1"}, {"a slots=2\nb\n", "a:2,b:1"}, {"a slots=2\nb slots=2\n", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_hosts h;
        char path[32];
        write_file(path, cases[i].text, strlen(cases[i].text));
        int rc = cf_hosts_open(&h, path, NULL, &error);
        unlink(path);
        if (rc) fail_msg("%s", error.text);
        assert_string_equal(h.file, path);
        const char *list = cf_hosts_list(&h);
        if (!list != !cases[i].list || (list && strcmp(list, cases[i].list) != 0))
            fail_msg("%s: %s", cases[i].text, list ? list : "not listed");
        cf_hosts_close(&h);
    }
}

/* These have no end, or no bytes. */
static void no_files(void **state) {
    (void)state;
    struct cf_hosts h;
    assert_int_equal(cf_hosts_open(&h, "/dev/zero", NULL, &error), -1);
    assert_non_null(strstr(error.text, "/dev/zero: more than 1048575 bytes"));
    cf_hosts_close(&h);
    assert_int_equal(cf_hosts_open(&h, "/", NULL, &error), -1);
    assert_non_null(strstr(error.text, "/: Is a directory"));
    cf_hosts_close(&h);
}

/* What COFFER_MPIRUN says of hosts is what mpirun makes of it: all lists together, and forms that only mpirun knows
 * are left to it. */
static void borrowed(void **state) {
    (void)state;
    struct cf_hosts h;
    setenv("COFFER_MPIRUN", "mpirun -H a:2,b --mca x 1 --host c", 1);
    assert_int_equal(cf_hosts_open(&h, NULL, NULL, &error), 0);
    assert_int_equal(h.n, 3);
    assert_true(h.borrowed);
    assert_string_equal(cf_hosts_list(&h), "a:2,b:1,c:1");
    cf_hosts_close(&h);
    setenv("COFFER_MPIRUN", "mpirun --host a:*", 1);
    assert_int_equal(cf_hosts_open(&h, NULL, NULL, &error), 0);
    assert_int_equal(h.n, 0);
    assert_false(h.borrowed);
    assert_null(cf_hosts_list(&h));
    cf_hosts_close(&h);
    assert_int_equal(cf_hosts_open(&h, NULL, "x", &error), 0); /* what the command line says comes first */
    assert_false(h.borrowed);
    cf_hosts_close(&h);
    unsetenv("COFFER_MPIRUN");
}

/* What Slurm's variables say, and where they say nothing. */
static void allocation(void **state) {
    (void)state;
    struct cf_hosts h;
    static const struct {
        const char *nodes, *tasks, *want; /* NULL: not understood */
    } cases[] = {
        {"n1", "4", "n1:4"},
        {"n[1-3]", "2(x3)", "n1:2,n2:2,n3:2"},
        {"n[08-11,3],gpu-a,z[1]", "1(x4),7,2,3", "n08:1,n09:1,n10:1,n11:1,n3:7,gpu-a:2,z1:3"},
        {"r[1-2]n[0-1].x", "1(x2),2(x2)", "r1n0.x:1,r1n1.x:1,r2n0.x:2,r2n1.x:2"},
        {"n[1-3]", "2(x2)", NULL},
        {"n[1-3", "2(x3)", NULL},
        {"n1]", "2", NULL},
        {"n[3-1]", "2", NULL},
        {"n[]", "2", NULL},
        {"n[1-]", "2", NULL},
        {"n[1,]", "2(x2)", NULL},
        {"n[1-99999999999]", "2(x3)", NULL},
        {"n[1-900000]", "2(x900000)", NULL}, /* too long */
        {",", "1", NULL},
        {"", "1", NULL},
        {"n1", "0", NULL},
        {"n1", "2(x", NULL},
        {"n1", "2(x0)", NULL},
        {"n1", "two", NULL},
        {"n1", "", NULL},
        {"n 1", "1", NULL},
    };
    setenv("SLURM_JOBID", "7", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("SLURM_NODELIST", cases[i].nodes, 1);
        setenv("SLURM_TASKS_PER_NODE", cases[i].tasks, 1);
        assert_int_equal(cf_hosts_open(&h, NULL, NULL, &error), 0);
        if (!cases[i].want != !h.n) fail_msg("%s %s: %zu hosts", cases[i].nodes, cases[i].tasks, h.n);
        assert_true(h.borrowed == !!cases[i].want && h.allocated == h.borrowed);
        assert_null(cf_hosts_list(&h)); /* mpirun knows them itself, as long as all are there */
        h.listed = true;
        if (cases[i].want) assert_string_equal(cf_hosts_list(&h), cases[i].want);
        cf_hosts_close(&h);
    }
    setenv("SLURM_NODELIST", "n1", 1), setenv("SLURM_TASKS_PER_NODE", "2", 1);
    assert_int_equal(cf_hosts_open(&h, NULL, "x", &error), 0);
    assert_false(h.borrowed || h.allocated);
    cf_hosts_close(&h);
    unsetenv("SLURM_JOBID");
    assert_int_equal(cf_hosts_open(&h, NULL, NULL, &error), 0);
    assert_int_equal(h.n, 0);
    cf_hosts_close(&h);
    unsetenv("SLURM_NODELIST"), unsetenv("SLURM_TASKS_PER_NODE");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(allocation), cmocka_unit_test(files),
        cmocka_unit_test(wrong_files), cmocka_unit_test(long_lines), cmocka_unit_test(lists),
        cmocka_unit_test(told_of_slots), cmocka_unit_test(no_files), cmocka_unit_test(borrowed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
