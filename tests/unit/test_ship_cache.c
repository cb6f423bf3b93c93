/* The cache of --ship: what rank 0 calls its files never leaves the folder, blocks are there only if their bytes say
 * so, and a map that is not this model's begins anew. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/engine/ship/internal.h"

enum { SECOND = 3 * CF__BLOCK + 5 };

struct shelf {
    char folder[64];
    Cf__ShipFile files[2], *list[2];
    Cf__ShipModel model;
    char first_name[64];
    struct cf__cache c;
    struct cf_error e;
};

static void set_up(struct shelf *s) {
    memset(s, 0, sizeof *s);
    strcpy(s->folder, "/tmp/coffer-shelf-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    cf__ship_model__init(&s->model);
    strcpy(s->first_name, "a-00001-of-00002.gguf");
    static char second_name[] = "a-00002-of-00002.gguf";
    for (int i = 0; i < 2; i++) {
        cf__ship_file__init(&s->files[i]);
        s->files[i].name = i ? second_name : s->first_name;
        s->files[i].bytes = i ? SECOND : 2 * CF__BLOCK;
        s->list[i] = &s->files[i];
    }
    s->model.files = s->list, s->model.n_files = 2, s->model.key = 77;
}

static void tear_down(struct shelf *s) {
    char command[128];
    cf__cache_close(&s->c);
    snprintf(command, sizeof command, "rm -r %s", s->folder);
    assert_int_equal(system(command), 0);
}

static int open_it(struct shelf *s) {
    cf__cache_close(&s->c);
    return cf__cache_name(&s->c, &s->model, s->folder, &s->e) || cf__cache_open(&s->c, &s->e) ||
           cf__cache_read_map(&s->c, s->model.key, &s->e);
}

static void names_stay_in_the_folder(void **state) {
    (void)state;
    static const char *const bad[] = {"", ".", "..", "../a.gguf", "b/a.gguf", "/etc/a.gguf", ".hidden"};
    struct shelf s;
    set_up(&s);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        strcpy(s.first_name, bad[i]);
        assert_int_not_equal(cf__cache_name(&s.c, &s.model, s.folder, &s.e), 0);
        assert_int_equal(s.e.code, CF_ERR_FORMAT);
        cf__cache_close(&s.c);
    }
    strcpy(s.first_name, "a.gguf");
    s.files[0].bytes = UINT64_MAX;
    assert_int_not_equal(cf__cache_name(&s.c, &s.model, s.folder, &s.e), 0);
    cf__cache_close(&s.c);
    s.model.n_files = 0;
    assert_int_not_equal(cf__cache_name(&s.c, &s.model, s.folder, &s.e), 0);
    tear_down(&s);
}

static void blocks(void **state) {
    (void)state;
    struct shelf s;
    static char in[CF__BLOCK], out[CF__BLOCK];
    struct stat st;
    set_up(&s);
    assert_int_equal(open_it(&s), 0);
    assert_int_equal(s.c.n_blocks, 2 + 4);
    assert_int_equal(stat(s.c.files[1].path, &st), 0);
    assert_int_equal(st.st_size, SECOND);
    assert_true(st.st_blocks * 512 < CF__BLOCK); /* sparse */
    assert_int_equal(cf__cache_block_bytes(&s.c, 0, 1), CF__BLOCK);
    assert_int_equal(cf__cache_block_bytes(&s.c, 0, 2), 0);
    assert_int_equal(cf__cache_block_bytes(&s.c, 1, 3), 5);
    assert_int_equal(cf__cache_block_bytes(&s.c, 1, 4), 0);
    assert_int_equal(cf__cache_block_bytes(&s.c, 2, 0), 0);
    assert_int_equal(cf__cache_block_bytes(&s.c, 0, UINT64_MAX), 0);

    memcpy(in, "hello", 5);
    assert_int_equal(cf__cache_look(&s.c, 1, 3, out), 0);
    assert_int_equal(cf__cache_put(&s.c, 1, 3, in, cf__block_hash(in, 5), &s.e), 0);
    assert_int_equal(open_it(&s), 0); /* the next run */
    assert_int_equal(cf__cache_look(&s.c, 1, 3, out), 1);
    assert_memory_equal(out, "hello", 5);
    assert_int_equal(cf__cache_look(&s.c, 1, 2, out), 0);

    int fd = open(s.c.files[1].path, O_WRONLY); /* damaged */
    assert_int_equal(pwrite(fd, "J", 1, SECOND - 5), 1);
    close(fd);
    assert_int_equal(cf__cache_look(&s.c, 1, 3, out), -1);
    assert_int_equal(cf__cache_put(&s.c, 1, 3, in, cf__block_hash(in, 5), &s.e), 0);
    assert_int_equal(cf__cache_look(&s.c, 1, 3, out), 1);
    assert_int_equal(truncate(s.c.files[1].path, CF__BLOCK), 0); /* cut short: read as damaged, not as zeros */
    assert_int_equal(cf__cache_look(&s.c, 1, 3, out), -1);
    tear_down(&s);
}

static void another_map_begins_anew(void **state) {
    (void)state;
    struct shelf s;
    static char in[CF__BLOCK], out[CF__BLOCK];
    char map[128];
    set_up(&s);
    assert_int_equal(open_it(&s), 0);
    assert_int_equal(cf__cache_put(&s.c, 0, 0, in, cf__block_hash(in, sizeof in), &s.e), 0);
    snprintf(map, sizeof map, "%s/map", s.c.folder);
    assert_int_equal(truncate(map, 40), 0);
    assert_int_equal(open_it(&s), 0);
    assert_int_equal(cf__cache_look(&s.c, 0, 0, out), 0);
    assert_int_equal(cf__cache_put(&s.c, 0, 0, in, cf__block_hash(in, sizeof in), &s.e), 0);
    int fd = open(map, O_WRONLY); /* another magic */
    assert_int_equal(pwrite(fd, "X", 1, 0), 1);
    close(fd);
    assert_int_equal(open_it(&s), 0);
    assert_int_equal(cf__cache_look(&s.c, 0, 0, out), 0);
    tear_down(&s);
}

static void one_fills_at_a_time(void **state) {
    (void)state;
    struct shelf s;
    struct cf__cache other = {.map = -1};
    set_up(&s);
    assert_int_equal(open_it(&s), 0);
    assert_int_equal(cf__cache_name(&other, &s.model, s.folder, &s.e), 0);
    assert_int_equal(cf__cache_open(&other, &s.e), 0);
    assert_true(cf__cache_lock(&s.c));
    assert_false(cf__cache_lock(&other));
    cf__cache_unlock(&s.c);
    assert_true(cf__cache_lock(&other));
    cf__cache_close(&other); /* as the end of a process: the lock goes with it */
    assert_true(cf__cache_lock(&s.c));
    assert_int_equal(cf__cache_room(&s.c, 0, &s.e), 0);
    assert_int_equal(cf__cache_room(&s.c, UINT64_MAX, &s.e), -1);
    assert_non_null(strstr(s.e.text, "the disk is full"));
    tear_down(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_stay_in_the_folder),
        cmocka_unit_test(blocks),
        cmocka_unit_test(another_map_begins_anew),
        cmocka_unit_test(one_fills_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
