/* Decode equals prefill, whatever else is in the batch: `[mpirun -n N] sequences MODEL LAYOUT STAGES THREADS
 * MICRO_BATCHES [short]`.
 *
 * Prompts are continued greedily, across page borders (64) and span borders (1024, 2048); the logits of the generated
 * positions are the reference. Then the same positions are reached in other ways (prefill in chunks of
 * any size, several batches in flight, rows of many sequences shuffled into one batch, after truncation), and each must
 * give the same logits with ==. Rank 0 prints one line, the XXH64 of the reference, which sequences.py compares between
 * numbers of ranks, layouts and threads. `short` leaves out the span border (for slow builds).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "coordinator/decode/job.h"
#include "coordinator/plan/split.h"
#include "tests/random.h"

enum { N_CTX = 3072, N_SEQS = 6, N_ROWS = 512, N_WANT = 64, GENERATED = 33 };

struct test {
    struct cf_job *job;
    struct cf_engine *engine;
    struct cf_error *e;
    uint32_t n_vocab;
    uint64_t random;
    bool is_short;
};

/* A text with what followed it: logits[k] are those behind k generated tokens. */
struct story {
    uint32_t n_prompt;
    uint32_t token[N_CTX];
    float *logits; /* [GENERATED][n_vocab] */
};

/* Rows in the making. */
struct rows {
    uint32_t n, sequence[N_ROWS], position[N_ROWS], token[N_ROWS], n_want, want[N_WANT];
};

static uint32_t draw(struct test *t, uint32_t below) {
    return cf_random_below(&t->random, below);
}

static void add_row(struct rows *r, uint32_t sequence, uint32_t position, uint32_t token, bool want) {
    if (want) r->want[r->n_want++] = r->n;
    r->sequence[r->n] = sequence, r->position[r->n] = position, r->token[r->n++] = token;
}

static int submit(struct test *t, const struct rows *r, uint32_t *id) {
    struct cf_batch b = {.n_rows = r->n,
        .sequence = r->sequence,
        .position = r->position,
        .token = r->token,
        .n_want = r->n_want,
        .want = r->want};
    int rc = cf_engine_submit(t->engine, &b, t->e);
    *id = b.id;
    return rc;
}

static int equal(struct test *t, const struct story *s, uint32_t k, uint32_t id, uint32_t i, const char *way) {
    const float *got = cf_engine_logits(t->engine, id, i), *want = s->logits + (size_t)k * t->n_vocab;
    if (!memcmp(got, want, t->n_vocab * sizeof(float))) return 0;
    uint32_t at = 0;
    while (!memcmp(got + at, want + at, sizeof(float)))
        at++;
    return cf_fail(t->e, CF_ERR_NUMERIC, "%s: prompt of %u, generated position %u: logit %u is %a instead of %a", way,
        s->n_prompt, k, at, (double)got[at], (double)want[at]);
}

/* Positions [first, last) of a story in chunks, up to n_flight batches at once; the logits behind the last position
 * must be those of generated position last - n_prompt. */
static int replay(struct test *t, const struct story *s, uint32_t sequence, uint32_t first, uint32_t last,
    uint32_t chunk, uint32_t n_flight, const char *way) {
    uint32_t ids[8], sent = 0, done = 0, n_batches = (last - first + chunk - 1) / chunk;
    if (n_flight > t->job->plan.n_flight) n_flight = t->job->plan.n_flight;
    while (done < n_batches) {
        if (sent < n_batches && sent - done < n_flight) {
            struct rows r = {0};
            for (uint32_t p = first + sent * chunk; p < last && r.n < chunk; p++)
                add_row(&r, sequence, p, s->token[p], p + 1 == last);
            if (submit(t, &r, &ids[sent++ % 8])) return -1;
            continue;
        }
        uint32_t id = ids[done++ % 8];
        if (cf_engine_wait(t->engine, id, t->e)) return -1;
        if (done == n_batches && equal(t, s, last - s->n_prompt, id, 0, way)) return -1;
        cf_engine_finish(t->engine, id);
    }
    return 0;
}

static uint32_t best(const float *logits, uint32_t n) {
    uint32_t k = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[k]) k = i;
    return k;
}

/* The reference: prefill in whole chunks, then token after token. */
static int tell(struct test *t, struct story *s, uint32_t sequence) {
    uint32_t id, at = 0;
    for (uint32_t k = 0; k < GENERATED; k++) {
        uint32_t end = s->n_prompt + k;
        do {
            struct rows r = {0};
            while (at < end && r.n < N_ROWS)
                add_row(&r, sequence, at, s->token[at], at + 1 == end), at++;
            if (submit(t, &r, &id) || cf_engine_wait(t->engine, id, t->e)) return -1;
            if (at < end) cf_engine_finish(t->engine, id);
        } while (at < end);
        float *logits = s->logits + (size_t)k * t->n_vocab;
        memcpy(logits, cf_engine_logits(t->engine, id, 0), t->n_vocab * sizeof(float));
        cf_engine_finish(t->engine, id);
        s->token[end] = best(logits, t->n_vocab);
    }
    return 0;
}

static const uint32_t positions[] = {1, 7, 31};

/* Fresh runs whose prompt ends at a generated position, alone. */
static int alone(struct test *t, const struct story *s) {
    static const struct {
        uint32_t chunk, n_flight;
        const char *way;
    } ways[] = {{512, 1, "alone, chunks of 512"}, {7, 1, "alone, chunks of 7"}, {1, 1, "alone, chunks of 1"},
        {64, 4, "alone, chunks of 64 in flight"}, {13, 4, "alone, chunks of 13 in flight"}};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
            if (ways[w].chunk < 8 && s->n_prompt > 500 && positions[i] != 31) continue; /* dear */
            if (cf_engine_truncate(t->engine, 1, 0, t->e)) return -1;
            if (replay(t, s, 1, 0, s->n_prompt + positions[i], ways[w].chunk, ways[w].n_flight, ways[w].way)) return -1;
        }
    return 0;
}

/* Another sequence takes a page, the one that was given back last. */
static int occupy(struct test *t, uint32_t sequence) {
    struct rows r = {0};
    uint32_t id;
    for (uint32_t p = 0; p < 64; p++)
        add_row(&r, sequence, p, draw(t, t->n_vocab), false);
    if (submit(t, &r, &id) || cf_engine_wait(t->engine, id, t->e)) return -1;
    cf_engine_finish(t->engine, id);
    return 0;
}

/* Cut back to a position inside, on and beside a page border, and go on; the sequence beside must not notice. */
static int truncated(struct test *t, const struct story *s) {
    static const uint32_t back[] = {1, 5, 14, 13, 15, 20, 32};
    uint32_t end = s->n_prompt + GENERATED - 1;
    if (cf_engine_truncate(t->engine, 2, 0, t->e) || replay(t, s, 2, 0, end, 512, 1, "before truncation")) return -1;
    for (size_t i = 0; i < sizeof back / sizeof *back; i++) {
        uint32_t keep = end - back[i];
        if (cf_engine_truncate(t->engine, 5, 0, t->e) || cf_engine_truncate(t->engine, 2, keep, t->e) || occupy(t, 5))
            return -1;
        if (replay(t, s, 2, keep, end, i % 2 ? 1 : 4, 2, "after truncation")) return -1;
    }
    for (uint32_t sequence = 0; sequence < N_SEQS; sequence++) /* more than are in flight at once */
        if (sequence != 2 && cf_engine_truncate(t->engine, sequence, 0, t->e)) return -1;
    if (cf_engine_truncate(t->engine, 2, end - 3, t->e)) return -1;
    return replay(t, s, 2, end - 3, end, 3, 1, "after the others were cut");
}

/* A batch is on its way while its sequence's neighbour is cut and goes on. */
static int truncated_in_flight(struct test *t, const struct story *s) {
    uint32_t end = s->n_prompt + 8, ids[2] = {0};
    for (uint32_t sequence = 3; sequence < 5; sequence++)
        if (cf_engine_truncate(t->engine, sequence, 0, t->e) ||
            replay(t, s, sequence, 0, end - 1, 512, 1, "in flight, before"))
            return -1;
    for (int round = 0; round < 6; round++) {
        struct rows r = {0};
        add_row(&r, 3, end - 1, s->token[end - 1], true);
        if (submit(t, &r, &ids[0])) return -1;
        if (cf_engine_truncate(t->engine, 4, end - 2, t->e) || cf_engine_truncate(t->engine, 3, end - 1, t->e))
            return -1;
        r = (struct rows){0};
        add_row(&r, 4, end - 2, s->token[end - 2], true);
        add_row(&r, 4, end - 1, s->token[end - 1], true);
        bool two = t->job->plan.n_flight > 1;
        if (two && submit(t, &r, &ids[1])) return -1;
        if (cf_engine_wait(t->engine, ids[0], t->e) || equal(t, s, 8, ids[0], 0, "truncated in flight")) return -1;
        cf_engine_finish(t->engine, ids[0]);
        if (!two && submit(t, &r, &ids[1])) return -1;
        if (cf_engine_wait(t->engine, ids[1], t->e) || equal(t, s, 7, ids[1], 0, "truncated in flight, neighbour") ||
            equal(t, s, 8, ids[1], 1, "truncated in flight, neighbour"))
            return -1;
        cf_engine_finish(t->engine, ids[1]);
    }
    return 0;
}

static void shuffle(struct test *t, struct rows *r) {
    struct rows from = *r;
    uint32_t order[N_ROWS];
    bool wanted[N_ROWS] = {false};
    for (uint32_t i = 0; i < r->n; i++)
        order[i] = i;
    for (uint32_t i = r->n; i > 1; i--) {
        uint32_t k = draw(t, i), swap = order[i - 1];
        order[i - 1] = order[k], order[k] = swap;
    }
    for (uint32_t i = 0; i < from.n_want; i++)
        wanted[from.want[i]] = true;
    r->n = r->n_want = 0;
    for (uint32_t i = 0; i < from.n; i++)
        add_row(r, from.sequence[order[i]], from.position[order[i]], from.token[order[i]], wanted[order[i]]);
}

/* All sequences at once, each at its own pace: some decode while others prefill, in shuffled rows, batches in flight.
 */
static int mixed(struct test *t, const struct story *stories, uint32_t n_stories, bool whole_shuffle) {
    uint32_t at[N_SEQS] = {0}, end[N_SEQS];
    struct rows flying[8];
    uint32_t ids[8], sent = 0, done = 0;
    for (uint32_t s = 0; s < N_SEQS; s++) {
        const struct story *story = &stories[s % n_stories];
        end[s] = story->n_prompt + GENERATED - 1;
        if (cf_engine_truncate(t->engine, s, 0, t->e)) return -1;
        if (s >= 2 || t->is_short) continue;
        at[s] = story->n_prompt; /* these decode from the start */
        if (replay(t, story, s, 0, at[s], 512, 1, "mixed, prompt")) return -1;
    }
    for (bool more = true; more || done < sent;) {
        struct rows *r = &flying[sent % 8];
        *r = (struct rows){0};
        uint32_t first = draw(t, N_SEQS);
        for (uint32_t i = 0; more && i < N_SEQS; i++) {
            uint32_t s = (first + i) % N_SEQS, n = draw(t, 4) ? 1 : draw(t, 90);
            const struct story *story = &stories[s % n_stories];
            for (; n && at[s] < end[s] && r->n < N_ROWS && r->n_want < N_WANT; n--, at[s]++)
                add_row(r, s, at[s], story->token[at[s]], at[s] + 1 >= story->n_prompt);
        }
        more = false;
        for (uint32_t s = 0; s < N_SEQS; s++)
            more |= at[s] < end[s];
        if (r->n) {
            if (whole_shuffle) shuffle(t, r);
            if (submit(t, r, &ids[sent % 8])) return -1;
            sent++;
        }
        while (done < sent && (sent - done >= t->job->plan.n_flight || !more)) {
            const struct rows *f = &flying[done % 8];
            uint32_t id = ids[done++ % 8];
            if (cf_engine_wait(t->engine, id, t->e)) return -1;
            for (uint32_t i = 0; i < f->n_want; i++) {
                const struct story *story = &stories[f->sequence[f->want[i]] % n_stories];
                uint32_t k = f->position[f->want[i]] + 1 - story->n_prompt;
                if (equal(t, story, k, id, i, "beside other sequences")) return -1;
            }
            cf_engine_finish(t->engine, id);
        }
    }
    return 0;
}

/* The sequences dealt to micro-batches, all in flight, each going round by itself. */
static int dealt(struct test *t, const struct story *stories, uint32_t n_stories) {
    uint32_t ids[8] = {0}, batches = cf_split_sequences(&t->job->plan, N_SEQS);
    for (uint32_t s = 0; s < N_SEQS; s++) {
        const struct story *story = &stories[s % n_stories];
        if (cf_engine_truncate(t->engine, s, 0, t->e) ||
            replay(
                t, story, s, 0, story->n_prompt, cf_split_prompt(&t->job->plan, story->n_prompt), 8, "dealt, prompt"))
            return -1;
    }
    for (uint32_t k = 0; k < GENERATED; k++)
        for (uint32_t g = 0; g < batches; g++) {
            uint32_t first, last;
            struct rows r = {0};
            cf_split_share(N_SEQS, batches, g, &first, &last);
            if (k && cf_engine_wait(t->engine, ids[g], t->e)) return -1;
            for (uint32_t s = first; s < last; s++) {
                const struct story *story = &stories[s % n_stories];
                uint32_t at = story->n_prompt + k;
                if (k && equal(t, story, k, ids[g], s - first, "dealt to micro-batches")) return -1;
                add_row(&r, s, at, story->token[at], true);
            }
            if (k) cf_engine_finish(t->engine, ids[g]);
            if (k + 1 < GENERATED && submit(t, &r, &ids[g])) return -1;
        }
    return 0;
}

/* Chunks whose embedding rows lie at opposite ends of the vocabulary, in flight together: the later chunk's inputs may
 * be there first, and it must wait all the same, because it attends to the earlier one's keys. */
static int in_order(struct test *t) {
    struct story s = {.n_prompt = 96};
    s.logits = calloc((size_t)GENERATED * t->n_vocab, sizeof(float));
    if (!s.logits) return cf_fail(t->e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < s.n_prompt; i++)
        s.token[i] = i / 24 % 2 ? draw(t, 16) : t->n_vocab - 1 - draw(t, 16);
    int rc = cf_engine_truncate(t->engine, 5, 0, t->e) || tell(t, &s, 5);
    for (int round = 0; !rc && round < 10; round++)
        rc = cf_engine_truncate(t->engine, 5, 0, t->e) ||
             replay(t, &s, 5, 0, s.n_prompt, 24, 4, "embeddings out of order");
    free(s.logits);
    return rc ? -1 : 0;
}

static int work(struct cf_job *job, void *ctx, struct cf_error *e) {
    struct test *t = ctx;
    t->job = job, t->engine = job->engine, t->e = e, t->n_vocab = job->model.n_vocab;
    /* The last is for the order in which three spans merge; the others also share batches. */
    static const uint32_t prompts[] = {1010, 50, 63, 64, 20, 2030};
    uint32_t skip = t->is_short ? 1 : 0, n = sizeof prompts / sizeof *prompts - 2 * skip, n_mixed = 5 - skip;
    struct story *stories = calloc(n, sizeof *stories);
    if (!stories) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    XXH64_state_t *hash = XXH64_createState();
    XXH64_reset(hash, 0);
    int rc = 0;
    for (uint32_t i = 0; i < n && !rc; i++) {
        struct story *s = &stories[i];
        s->n_prompt = prompts[i + skip];
        s->logits = calloc((size_t)GENERATED * t->n_vocab, sizeof(float));
        if (!s->logits) rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
        for (uint32_t k = 0; k < s->n_prompt; k++)
            s->token[k] = draw(t, t->n_vocab);
        if (!rc) rc = cf_engine_truncate(t->engine, 0, 0, e) || tell(t, s, 0);
        XXH64_update(hash, s->logits, (size_t)GENERATED * t->n_vocab * sizeof(float));
    }
    for (uint32_t i = 0; i < 2 && !rc; i++)
        rc = alone(t, &stories[i]) || truncated(t, &stories[i]) || truncated_in_flight(t, &stories[i]);
    if (!rc && n > n_mixed)
        rc = cf_engine_truncate(t->engine, 1, 0, e) ||
             replay(t, &stories[n - 1], 1, 0, 2030 + 31, 512, 4, "three spans");
    if (!rc)
        rc = mixed(t, stories, n_mixed, false) || mixed(t, stories, n_mixed, true) || dealt(t, stories, n_mixed) ||
             in_order(t);
    if (!rc) printf("%016llx\n", (unsigned long long)XXH64_digest(hash));
    XXH64_freeState(hash);
    for (uint32_t i = 0; i < n; i++)
        free(stories[i].logits);
    free(stories);
    return rc ? -1 : 0;
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    struct cf_terminal terminal;
    uint32_t threads = (uint32_t)atoi(argv[4]);
    struct test t = {.random = 7, .is_short = argc > 6};
    struct cf_job_options o = {.model = argv[1],
        .place = {.layout = argv[2],
            .numa = "default",
            .stages = atoi(argv[3]),
            .micro_batches = atoi(argv[5]),
            .ctx_size = N_CTX,
            .ubatch = N_ROWS,
            .timeout = 60},
        .threads = &threads,
        .n_threads = 1,
        .n_seqs = N_SEQS,
        .n_want = N_WANT,
        .terminal = &terminal,
        .command = "sequences"};
    struct cf_error e = {0};
    cf_terminal_open(&terminal, CF_TERMINAL_PLAIN, false);
    return cf_job_run(&o, work, &t, &e) ? 1 : 0; /* rank 0 has said why */
}
