/* Rank tests of the transport: `mpirun -n N transport_ranks SCENARIO`.
 *
 * Scenarios that must end well exit 0 on every rank. In those that must fail every rank checks the error text that it
 * got and prints "rank R saw it", or what it saw instead, and exits 1; run_ranks.sh counts.
 */
#include "transport/internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/random.h"

/* ---- storm: random messages between all pairs ---- */

enum { PATTERN = 4 << 20, MESSAGES = 400, RANKS_MOST = 16 };

struct storm {
    struct cf_transport *t;
    uint64_t random;
    unsigned char *pattern[RANKS_MOST]; /* [PATTERN] of each sender */
    uint32_t next[RANKS_MOST];          /* message due from each sender */
    size_t offset[RANKS_MOST];          /* within it */
    uint32_t sent[RANKS_MOST];
    bool finished[RANKS_MOST];
    struct cf_traffic before[RANKS_MOST], posted[RANKS_MOST];
    int done;
    long refused, pieces;
};

static void complain(const struct storm *s, int from, const char *what) {
    fprintf(stderr, "rank %d from %d: %s\n", s->t->rank, from, what);
    _exit(9);
}

static int on_storm(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct storm *s = ctx;
    (void)e;
    if (s->finished[from]) return 1; // it is in its next storm already
    if (cf_random_below(&s->random, 4) == 0) {
        s->refused++;
        return 1;
    }
    s->pieces++;
    if (n > CF_PIECE) complain(s, from, "a piece that is too large");
    if ((uintptr_t)data % 16 != 0 && from != s->t->rank) complain(s, from, "a payload that is not aligned");
    if (offset != s->offset[from]) complain(s, from, "pieces out of order");
    if (env->body_case == CF__ENVELOPE__BODY_PROGRESS) {
        if (env->progress->bytes_done != s->next[from]) complain(s, from, "a message was lost");
        s->finished[from] = true;
        s->done++;
        return 0;
    }
    uint32_t number;
    if (env->body_case == CF__ENVELOPE__BODY_BATCH) {
        number = env->batch->id;
        for (size_t i = 0; i < env->batch->n_token; i++)
            if (env->batch->token[i] != number + i * 17) complain(s, from, "a wrong token");
    } else {
        if (env->body_case != CF__ENVELOPE__BODY_ACTIVATION) complain(s, from, "a message of the wrong kind");
        number = env->activation->batch;
        if (n > 0 && memcmp(data, s->pattern[from] + env->activation->rows + offset, n) != 0)
            complain(s, from, "a payload that is not what was sent");
        if (env->activation->columns != env->payload_bytes) complain(s, from, "a wrong payload size");
    }
    if (number != s->next[from]) complain(s, from, "messages out of order");
    s->offset[from] += n;
    if (s->offset[from] == env->payload_bytes) {
        s->offset[from] = 0;
        s->next[from]++;
    }
    return 0;
}

static uint32_t draw_size(uint64_t *random) {
    switch (cf_random_below(random, 8)) {
    case 0: return 0;
    case 1: return cf_random_below(random, 64);
    case 2: return CF_SMALL - 200 + cf_random_below(random, 400);
    case 3: return CF_PIECE - 5 + cf_random_below(random, 10);
    case 4:
        return cf_random_below(random, 20) == 0 ? cf_random_below(random, PATTERN) : cf_random_below(random, 100000);
    default: return cf_random_below(random, 16384);
    }
}

static void post_batch(struct storm *s, int to, struct cf_error *e) {
    static const uint32_t rows_most = 4000;
    uint32_t rows = cf_random_below(&s->random, rows_most), *list = calloc(rows_most * 3, sizeof *list);
    Cf__Batch batch = CF__BATCH__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    batch.id = s->sent[to];
    batch.n_sequence = batch.n_position = batch.n_token = rows;
    batch.sequence = list, batch.position = list + rows, batch.token = list + 2 * rows;
    for (uint32_t i = 0; i < rows; i++)
        batch.token[i] = batch.id + i * 17;
    env.body_case = CF__ENVELOPE__BODY_BATCH;
    env.batch = &batch;
    if (cf_post(s->t, to, &env, NULL, 0, NULL, e)) complain(s, to, e->text);
    free(list);
}

/* What the transport has counted is what was posted. */
static void check_traffic(const struct storm *s) {
    for (int r = 0; r < s->t->size; r++) {
        struct cf_traffic now = *cf_transport_traffic(s->t, r), posted = s->posted[r];
        const struct cf_traffic *before = &s->before[r];
        if (r == s->t->rank) posted = (struct cf_traffic){0};
        if (now.messages - before->messages != posted.messages || now.payload - before->payload != posted.payload)
            complain(s, r, "another number of messages or bytes than was posted");
        if (now.bytes - before->bytes < posted.payload + 16 * posted.messages) complain(s, r, "too few bytes");
        if (now.window) complain(s, r, "a window that was not there");
    }
}

static bool storm_over(void *ctx) {
    return ((struct storm *)ctx)->done == ((struct storm *)ctx)->t->size;
}

static int storm(struct cf_transport *t, struct cf_error *e) {
    struct storm s = {.t = t, .random = (uint64_t)t->rank * 77 + 5};
    for (int r = 0; r < t->size; r++) {
        uint64_t random = (uint64_t)r + 1;
        s.pattern[r] = malloc(PATTERN * 2);
        for (size_t i = 0; i < PATTERN * 2; i++)
            s.pattern[r][i] = (unsigned char)cf_random_below(&random, 256);
    }
    cf_transport_on_message(t, on_storm, &s);
    for (int r = 0; r < t->size; r++)
        s.before[r] = *cf_transport_traffic(t, r);
    int pending = 0;
    for (int i = 0; i < MESSAGES; i++) {
        int to = (int)cf_random_below(&s.random, (uint32_t)t->size);
        if (cf_random_below(&s.random, 10) == 0) {
            post_batch(&s, to, e);
        } else {
            Cf__Activation activation = CF__ACTIVATION__INIT;
            Cf__Envelope env = CF__ENVELOPE__INIT;
            activation.batch = s.sent[to];
            activation.columns = draw_size(&s.random);
            activation.rows = cf_random_below(&s.random, PATTERN / 16) * 16;
            env.body_case = CF__ENVELOPE__BODY_ACTIVATION;
            env.activation = &activation;
            if (cf_post(t, to, &env, s.pattern[t->rank] + activation.rows, activation.columns, &pending, e))
                complain(&s, to, e->text);
            s.posted[to].payload += activation.columns;
        }
        s.sent[to]++, s.posted[to].messages++;
        for (int r = 0; r < t->size; r++)
            if (t->peers[r].unacked > CF_CREDITS || t->peers[r].owed > CF_CREDITS) complain(&s, r, "too many messages");
        if (cf_random_below(&s.random, 3) == 0 && cf_progress(t, e) < 0) complain(&s, -1, e->text);
    }
    for (int r = 0; r < t->size; r++) {
        Cf__Progress progress = CF__PROGRESS__INIT;
        Cf__Envelope env = CF__ENVELOPE__INIT;
        progress.bytes_done = s.sent[r];
        env.body_case = CF__ENVELOPE__BODY_PROGRESS;
        env.progress = &progress;
        if (cf_post(t, r, &env, NULL, 0, NULL, e)) return -1;
        s.posted[r].messages++;
    }
    if (cf_wait(t, storm_over, &s, NULL, e)) return -1;
    while (pending > 0)
        if (cf_progress(t, e) < 0) return -1;
    check_traffic(&s);
    fprintf(stderr, "rank %d: %ld pieces taken, %ld refused\n", t->rank, s.pieces, s.refused);
    for (int r = 0; r < t->size; r++)
        free(s.pattern[r]);
    cf_transport_on_message(t, NULL, NULL);
    return 0;
}

/* ---- hello ---- */

enum { LINKS = 3000 }; /* three such hellos are more than an envelope holds */

static Cf__Hello my_hello(struct cf_transport *t) {
    static double links[LINKS];
    Cf__Hello hello = CF__HELLO__INIT;
    for (int i = 0; i < LINKS; i++)
        links[i] = cf_transport_rank(t) + 10.0 * i;
    hello.n_links = LINKS, hello.links = links;
    hello.model_bytes = 1000;
    hello.model_hash = 0xabcdef;
    hello.cores = (uint32_t)t->rank + 3;
    return hello;
}

static int hello_agrees(struct cf_transport *t, struct cf_error *e) {
    Cf__Hello mine = my_hello(t);
    Cf__Verdict *all;
    if (cf_transport_hello(t, &mine, &all, e)) return -1;
    for (size_t r = 0; r < all->n_hellos; r++)
        if (all->hellos[r]->cores != r + 3 || all->hellos[r]->protocol != CF_PROTOCOL_VERSION ||
            strcmp(all->hellos[r]->host, cf_transport_host_name(t, (int)r)) != 0)
            return cf_fail(e, CF_ERR_FORMAT, "hello of rank %zu is wrong", r);
    for (size_t r = 0; r < all->n_hellos; r++)
        for (size_t i = 0; i < LINKS; i++)
            if (all->hellos[r]->n_links != LINKS || all->hellos[r]->links[i] != (double)r + 10.0 * (double)i)
                return cf_fail(e, CF_ERR_FORMAT, "link %zu of the hello of rank %zu is wrong", i, r);
    size_t n = all->n_hellos;
    cf__verdict__free_unpacked(all, NULL);
    return n == (size_t)t->size ? 0 : cf_fail(e, CF_ERR_FORMAT, "%zu hellos", n);
}

static bool never(void *ctx) {
    return (void)ctx, false;
}

/* A rank of another version: its hello does not come from cf_transport_hello. */
static int strange_hello(struct cf_transport *t, uint32_t protocol, char *program, struct cf_error *e) {
    Cf__Hello hello = my_hello(t);
    Cf__Envelope env = CF__ENVELOPE__INIT;
    hello.protocol = protocol;
    hello.program = program;
    hello.host = t->host_names[t->rank];
    env.body_case = CF__ENVELOPE__BODY_HELLO;
    env.hello = &hello;
    if (cf_post(t, 0, &env, NULL, 0, NULL, e)) return -1;
    return cf_wait(t, never, NULL, NULL, e);
}

/* The last rank differs in `what`; with more than two ranks and what = "zero", rank 0 does. */
static int hello_differs(struct cf_transport *t, const char *what, struct cf_error *e) {
    Cf__Hello mine = my_hello(t);
    Cf__Verdict *all;
    Cf__Error error = CF__ERROR__INIT;
    bool odd = t->rank == t->size - 1;
    if (odd && strcmp(what, "protocol") == 0) return strange_hello(t, 99, (char *)COFFER_VERSION, e);
    if (odd && strcmp(what, "program") == 0) return strange_hello(t, CF_PROTOCOL_VERSION, (char *)"9.9.9", e);
    if (odd && strcmp(what, "size") == 0) mine.model_bytes++;
    if (odd && strcmp(what, "hash") == 0) mine.model_hash++;
    if (t->rank == 0 && strcmp(what, "zero") == 0) mine.model_hash++;
    if (odd && strcmp(what, "missing") == 0) {
        error.code = CF_ERR_FILE;
        error.text = (char *)"cannot open m.gguf";
        mine.error = &error;
    }
    return cf_transport_hello(t, &mine, &all, e);
}

/* ---- failures ---- */

static int fails(struct cf_transport *t, struct cf_error *e) {
    if (hello_agrees(t, e)) return -1;
    if (t->rank != t->size - 1) return cf_wait(t, never, NULL, NULL, e);
    usleep(50000);
    return cf_fail(e, CF_ERR_NUMERIC, "layer 3 went mad");
}

static int stops(struct cf_transport *t, struct cf_error *e) {
    if (hello_agrees(t, e)) return -1;
    if (t->rank == t->size - 1) raise(SIGSTOP);
    return cf_wait(t, never, NULL, NULL, e);
}

/* A long pause of one's own is nobody else's fault: rank 0 sleeps, and finds all alive. The others allow it to. */
static int pauses(struct cf_transport *t, struct cf_error *e) {
    if (hello_agrees(t, e)) return -1;
    if (t->rank == 0) usleep(1500000);
    double end = cf_now() + (t->rank == 0 ? 0.5 : 2.0);
    while (cf_now() < end) {
        if (cf_progress(t, e) < 0) return -1;
        usleep(1000);
    }
    return 0;
}

/* ---- figures ---- */

static bool is_there(void *ctx) {
    return *(bool *)ctx;
}

static int take_note(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    (void)data, (void)offset, (void)n, (void)from, (void)env, (void)e;
    *(bool *)ctx = true;
    return 0;
}

/* What a poll costs a rank that computes while the others wait for it. */
static int idle(struct cf_transport *t, struct cf_error *e) {
    bool there = false;
    cf_transport_on_message(t, take_note, &there);
    if (t->rank != 0) return cf_wait(t, is_there, &there, NULL, e);
    usleep(100000);
    double begin = cf_now();
    for (int i = 0; i < 200000; i++)
        if (cf_progress(t, e) < 0) return -1;
    printf("idle progress with %d ranks: %.0f ns\n", t->size, (cf_now() - begin) / 200000 * 1e9);
    for (int r = 1; r < t->size; r++) {
        Cf__Progress progress = CF__PROGRESS__INIT;
        Cf__Envelope env = CF__ENVELOPE__INIT;
        env.body_case = CF__ENVELOPE__BODY_PROGRESS;
        env.progress = &progress;
        if (cf_post(t, r, &env, NULL, 0, NULL, e)) return -1;
    }
    return 0;
}

static int figures(struct cf_transport *t, struct cf_error *e) {
    static const size_t sizes[] = {0, 512, 8192, 32768, 65000, 262144, 4194304};
    printf("rank %d: host %d of %d (%s), local rank %d of %d\n", t->rank, cf_transport_host_of(t, t->rank), t->hosts,
        cf_transport_host_name(t, t->rank), t->local_rank, t->local_size);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && t->rank < 2 && t->size > 1; i++) {
        double seconds, both = 0;
        int rounds = sizes[i] > 100000 ? 200 : 3000;
        if (cf_transport_probe(t, 1 - t->rank, sizes[i], rounds, &seconds, e) ||
            cf_transport_probe_both(t, 1 - t->rank, sizes[i], rounds / 4, &both, e))
            return -1;
        if (both <= 0 || both > 1) return cf_fail(e, CF_ERR_FORMAT, "both ways: %g s", both);
        if (t->rank == 0) printf("%8zu bytes one way: %8.2f us, both: %8.2f us\n", sizes[i], seconds * 1e6, both * 1e6);
    }
    if (hello_agrees(t, e)) return -1;
    return idle(t, e);
}

/* Many probes one behind the other: whoever is through with one first may send for the next one already. */
static int probes(struct cf_transport *t, struct cf_error *e) {
    for (int i = 0; i < 300; i++) {
        double seconds;
        size_t bytes = i % 3 == 2 ? 20000 : 8;
        if (i % 2 ? cf_transport_probe(t, 1 - t->rank, bytes, 2, &seconds, e)
                  : cf_transport_probe_both(t, 1 - t->rank, bytes, 2, &seconds, e))
            return -1;
    }
    return 0;
}

static void nap(void *ctx) {
    struct timespec millisecond = {.tv_nsec = 1000000};
    nanosleep(&millisecond, NULL);
    ++*(int *)ctx;
}

/* A round is its work and its message, the mean of them. */
static int rehearses(struct cf_transport *t, struct cf_error *e) {
    int naps = 0;
    double seconds = 0;
    if (cf_transport_rehearse(t, 1 - t->rank, 8192, 20, nap, &naps, &seconds, e)) return -1;
    if (naps < 20 || naps > 30 || seconds < 1e-3 || seconds > 1)
        return cf_fail(e, CF_ERR_FORMAT, "rehearsed: %d naps, %g s a round", naps, seconds);
    return 0;
}

/* Of Open MPI's parameter, as the library sees it; -1: there is none of this name. */
static long parameter(const char *name) {
    int provided, index, count;
    long value = -1;
    unsigned long long room = 0; /* a size_t in Open MPI 4 and 5 */
    MPI_T_cvar_handle handle;
    if (MPI_T_init_thread(MPI_THREAD_SINGLE, &provided)) return -1;
    if (!MPI_T_cvar_get_index(name, &index) && !MPI_T_cvar_handle_alloc(index, NULL, &handle, &count)) {
        if (count == 1 && !MPI_T_cvar_read(handle, &room)) value = (long)room;
        MPI_T_cvar_handle_free(&handle);
    }
    MPI_T_finalize();
    return value;
}

/* Over TCP a piece leaves without asking the receiver, unless the user wants it to ask. */
static int asks_as(long bytes, struct cf_error *e) {
    long limit = parameter("btl_tcp_eager_limit");
    if (limit < 0) printf("skipped: this MPI has no btl_tcp_eager_limit\n");
    return limit < 0 || limit == bytes ? 0 : cf_fail(e, CF_ERR_FORMAT, "btl_tcp_eager_limit is %ld", limit);
}

/* Other ranks hold their breath while two of them probe; then a storm. */
static int works(struct cf_transport *t, struct cf_error *e) {
    if (t->size > 1 && asks_as(CF_PIECE + 256, e)) return -1; /* one rank needs no MPI */
    if (hello_agrees(t, e) || hello_agrees(t, e) || storm(t, e)) return -1;
    for (int r = 0; r < t->size; r++)
        t->peers[r].inline_most = CF_SMALL; // as between hosts
    double seconds = 0;
    if (t->rank < 2 && t->size > 1 &&
        (cf_transport_probe(t, 1 - t->rank, 300000, 5, &seconds, e) || probes(t, e) || rehearses(t, e)))
        return -1;
    return storm(t, e);
}

static int run(struct cf_transport *t, const char *scenario, struct cf_error *e) {
    if (strcmp(scenario, "works") == 0) return works(t, e);
    if (strcmp(scenario, "asks") == 0) return asks_as(70000, e);
    if (strcmp(scenario, "fails") == 0) return fails(t, e);
    if (strcmp(scenario, "stops") == 0) return stops(t, e);
    if (strcmp(scenario, "waits") == 0) return hello_agrees(t, e) ? -1 : cf_wait(t, never, NULL, NULL, e);
    if (strcmp(scenario, "pauses") == 0) return pauses(t, e);
    if (strcmp(scenario, "figures") == 0) return figures(t, e);
    return hello_differs(t, scenario, e);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    const char *scenario = argv[1], *expected = argc > 2 ? argv[2] : NULL;
    struct cf_transport_options options = {.timeout = 2, .sleep_at_once = getenv("SLEEP_AT_ONCE") != NULL};
    struct cf_transport *t;
    struct cf_error e = {0};
    if (cf_transport_open(&t, &options, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    double begin = cf_now();
    int rank = cf_transport_rank(t), rc = run(t, scenario, &e);
    if (rc) cf_transport_fail(t, &e);
    if (rc && expected && strstr(e.text, expected))
        fprintf(stderr, "rank %d saw it\n", rank);
    else if (rc)
        fprintf(stderr, "rank %d failed: %s\n", rank, e.text);
    if (getenv("VERBOSE"))
        fprintf(stderr, "rank %d after %.3f s: %s (from %d)\n", rank, cf_now() - begin, e.text,
            cf_transport_failed_rank(t));
    cf_transport_close(t, rc == 0);
    if (getenv("VERBOSE")) fprintf(stderr, "rank %d closed after %.3f s\n", rank, cf_now() - begin);
    return rc ? 1 : 0;
}
