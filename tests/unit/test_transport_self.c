/* A transport of size 1: no MPI at all, and messages to oneself work like any others. And who counts as launched. */
#include "transport/transport.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void clear_environment(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "SLURM_PROCID",
        "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_STEP_NUM_TASKS", "ENVIRONMENT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

/* "A=1 B=2" -> ranks, or -1. */
static int detect(const char *settings, struct cf_error *e) {
    char copy[256], *rest = copy;
    clear_environment();
    strncpy(copy, settings, sizeof copy - 1);
    copy[sizeof copy - 1] = '\0';
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        char *value = strchr(word, '=');
        if (!value) continue;
        *value = '\0';
        setenv(word, value + 1, 1);
    }
    int ranks = 0;
    int rc = cf_transport_detect(&ranks, e);
    return rc ? -1 : ranks;
}

static void launchers_are_recognised(void **state) {
    (void)state;
    struct cf_error e;
    assert_int_equal(detect("", &e), 1);
    assert_false(cf_transport_launched());
    assert_int_equal(detect("OMPI_COMM_WORLD_SIZE=4", &e), 4);
    assert_true(cf_transport_launched());
    assert_int_equal(detect("OMPI_COMM_WORLD_SIZE=1", &e), 1);
    assert_true(cf_transport_launched());
    assert_int_equal(detect("PMI_RANK=0 PMI_SIZE=3", &e), 3);
    assert_int_equal(detect("PMIX_RANK=1 SLURM_PROCID=1 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=5 SLURM_NTASKS=8", &e), 5);
    assert_true(detect("PMIX_RANK=0", &e) > 1);
    // mpirun inside a Slurm allocation: its own variables count
    assert_int_equal(detect("OMPI_COMM_WORLD_SIZE=2 SLURM_PROCID=0 SLURM_STEP_ID=0 SLURM_NTASKS=4", &e), 2);
}

static void slurm_without_pmi_is_refused(void **state) {
    (void)state;
    static const char *const refused[] = {"SLURM_NTASKS=2 SLURM_PROCID=0",
        "SLURM_NTASKS=2 SLURM_PROCID=1 SLURM_STEP_ID=0",
        "ENVIRONMENT=BATCH SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_STEP_ID=3"};
    static const char *const allowed[] = {"SLURM_NTASKS=4", "SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_STEP_ID=0",
        "ENVIRONMENT=BATCH SLURM_NTASKS=4 SLURM_PROCID=0", "SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_STEP_ID=4294967290",
        "SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0 SLURM_STEP_ID=0"};
    struct cf_error e;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(detect(refused[i], &e), -1);
        assert_int_equal(e.code, CF_ERR_USAGE);
        assert_non_null(strstr(e.text, "srun --mpi=pmix"));
    }
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        assert_int_equal(detect(allowed[i], &e), 1);
}

/* ---- messages to oneself ---- */

struct desk {
    struct cf_transport *t;
    int refuse, calls, whole, posted_back;
    uint32_t last;
    const unsigned char *payload;
};

static int on_message(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct desk *desk = ctx;
    desk->calls++;
    if (desk->refuse > 0) {
        desk->refuse--;
        return 1;
    }
    assert_int_equal(from, 0);
    assert_int_equal(env->body_case, CF__ENVELOPE__BODY_KV);
    if (n > 0) assert_memory_equal(data, desk->payload + offset, n);
    if (offset + n != env->payload_bytes) return 0;
    desk->whole++;
    assert_int_equal(env->kv->sequence, desk->last + 1);
    desk->last = env->kv->sequence;
    if (desk->posted_back > 0) { // posting from within a delivery
        desk->posted_back--;
        Cf__KvOperation kv = CF__KV_OPERATION__INIT;
        Cf__Envelope answer = CF__ENVELOPE__INIT;
        kv.sequence = desk->last + 1;
        answer.body_case = CF__ENVELOPE__BODY_KV;
        answer.kv = &kv;
        assert_int_equal(cf_post(desk->t, 0, &answer, NULL, 0, NULL, e), 0);
    }
    return 0;
}

static void post(struct desk *desk, uint32_t number, size_t bytes, int *pending) {
    Cf__KvOperation kv = CF__KV_OPERATION__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    struct cf_error e;
    kv.sequence = number;
    env.body_case = CF__ENVELOPE__BODY_KV;
    env.kv = &kv;
    assert_int_equal(cf_post(desk->t, 0, &env, bytes ? desk->payload : NULL, bytes, pending, &e), 0);
}

static struct cf_transport *open_alone(void) {
    struct cf_transport_options options = {.timeout = 1};
    struct cf_transport *t;
    struct cf_error e;
    clear_environment();
    assert_int_equal(cf_transport_open(&t, &options, &e), 0);
    return t;
}

static void messages_to_oneself(void **state) {
    (void)state;
    struct cf_transport *t = open_alone();
    assert_int_equal(cf_transport_rank(t), 0);
    assert_int_equal(cf_transport_size(t), 1);
    assert_int_equal(cf_transport_hosts(t), 1);
    assert_int_equal(cf_transport_local_size(t), 1);
    assert_true(strlen(cf_transport_host_name(t, 0)) > 0);
    unsigned char *payload = malloc(1000000);
    for (int i = 0; i < 1000000; i++)
        payload[i] = (unsigned char)(i * 7);
    struct desk desk = {.t = t, .refuse = 2, .payload = payload};
    struct cf_error e;
    int pending = 0;
    cf_transport_on_message(t, on_message, &desk);
    post(&desk, 1, 0, NULL);
    post(&desk, 2, 1000000, &pending);
    assert_int_equal(pending, 1);
    assert_int_equal(desk.calls, 0); // delivered at progress, not at post
    assert_int_equal(cf_progress(t, &e), 0);
    assert_int_equal(cf_progress(t, &e), 0);
    assert_int_equal(desk.whole, 0); // refused twice
    assert_true(cf_progress(t, &e) > 0);
    assert_int_equal(desk.whole, 2);
    assert_int_equal(pending, 0);
    desk.posted_back = 1000; // a chain in which each delivery posts the next
    post(&desk, 3, 0, NULL);
    while (desk.last < 1003)
        assert_true(cf_progress(t, &e) > 0);
    for (uint32_t i = 1004; i < 2004; i++) // more than the preallocated entries
        post(&desk, i, 10, &pending);
    assert_int_equal(pending, 1000);
    while (pending > 0)
        assert_true(cf_progress(t, &e) > 0);
    assert_int_equal(cf_progress(t, &e), 0);
    cf_transport_close(t, true);
    free(payload);
}

static void wrong_posts_are_errors(void **state) {
    (void)state;
    struct cf_transport *t = open_alone();
    Cf__Ready ready = CF__READY__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    struct cf_error e;
    char *note = calloc(1, CF_SMALL + 1);
    memset(note, 'x', CF_SMALL);
    ready.note = note;
    env.body_case = CF__ENVELOPE__BODY_READY;
    env.ready = &ready;
    assert_int_equal(cf_post(t, 0, &env, NULL, 0, NULL, &e), -1);
    assert_int_equal(e.code, CF_ERR_LIMIT);
    note[10] = '\0';
    assert_int_equal(cf_post(t, 1, &env, NULL, 0, NULL, &e), -1);
    assert_int_equal(cf_post(t, 0, &env, note, 10, NULL, &e), -1);
    assert_int_equal(cf_post(t, 0, &env, NULL, 0, NULL, &e), 0);
    free(note);
    cf_transport_close(t, true);
}

static void hello_and_failure_alone(void **state) {
    (void)state;
    struct cf_transport *t = open_alone();
    Cf__Hello mine = CF__HELLO__INIT;
    Cf__Verdict *all;
    struct cf_error e = {0}, why = {.code = CF_ERR_NUMERIC, .text = "mad"};
    mine.cores = 4;
    assert_int_equal(cf_transport_hello(t, &mine, &all, &e), 0);
    assert_int_equal(all->n_hellos, 1);
    assert_int_equal(all->hellos[0]->cores, 4);
    assert_string_equal(all->hellos[0]->host, cf_transport_host_name(t, 0));
    cf__verdict__free_unpacked(all, NULL);
    assert_int_equal(cf_transport_failed_rank(t), -1);
    cf_transport_fail(t, &why);
    assert_int_equal(cf_transport_failed_rank(t), 0);
    assert_int_equal(cf_progress(t, &e), -1);
    assert_string_equal(e.text, "mad");
    cf_transport_close(t, false);
    t = open_alone();
    Cf__Error error = CF__ERROR__INIT;
    error.code = CF_ERR_FILE;
    error.text = (char *)"cannot open m.gguf";
    mine.error = &error;
    assert_int_equal(cf_transport_hello(t, &mine, &all, &e), -1);
    assert_int_equal(e.code, CF_ERR_FILE);
    assert_non_null(strstr(e.text, "cannot open m.gguf"));
    cf_transport_close(t, false);
}

/* Declared here, because only transport/ includes <mpi.h>. */
extern int MPI_Initialized(int *flag);

static void mpi_was_never_initialised(void **state) {
    (void)state;
    int yes = 1;
    assert_int_equal(MPI_Initialized(&yes), 0);
    assert_int_equal(yes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launchers_are_recognised),
        cmocka_unit_test(slurm_without_pmi_is_refused),
        cmocka_unit_test(messages_to_oneself),
        cmocka_unit_test(wrong_posts_are_errors),
        cmocka_unit_test(hello_and_failure_alone),
        cmocka_unit_test(mpi_was_never_initialised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
