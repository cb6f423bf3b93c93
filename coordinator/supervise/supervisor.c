/* See supervisor.h. */
#include "coordinator/supervise/supervisor.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/supervise/replay.h"
#include "coordinator/supervise/story.h"
#include "coordinator/supervise/sweep.h"

enum {
    MOST_JOBS = 64,
    LOOK_EVERY = 50, /* ms */
    MOST_UNSTARTED = 2,
    MOST_WORDS = 16,
    UNWELL_MS = 5000,  /* a start that has not spoken by then has its hosts asked ... */
    ASK_EVERY = 2000,  /* ... this often ... */
    START_MS = 120000, /* ... and is given up after this */
    GRACE_MS = 5000    /* beyond the ranks' own time limit: they say better who is silent */
};

/* A text that grows. */
struct text {
    char *bytes; /* [n], from at on not yet taken */
    size_t n, at, room;
};

struct cf_supervisor {
    const struct cf_supervision *o;
    struct cf_journal journal;
    struct cf_story story; /* of the run that is resumed */
    int starts;            /* so far */
    int fruitless;         /* starts after a failure that have brought nothing new so far */
    uint64_t shown;        /* bytes of text that have been passed on since the beginning */
    struct text held;      /* o->whole: not whole yet */
    struct text whole;     /* to be shown */
    uint32_t jobs[MOST_JOBS];
    int n_jobs, n_failed_jobs;
    const char *words[MOST_WORDS];
    char sweep[16 * MOST_JOBS];
    int64_t failed_ms; /* when the last failure was noticed; 0: there is none to be said the end of */
    bool ever_alive;   /* a start has come up */
    int drained_by;    /* the exit status of whoever has asked for the end; 0: nobody */
    bool open;         /* tokens have come since the last "end" */
    char model[160];   /* as rank 0 has named it at the first start; "" not yet */
    bool other_model;  /* and this start has another one */

    /* Of this start: */
    uint64_t seen; /* bytes of text */
    int64_t began_ms, heard_ms, asked_ms;
    int64_t looked_ms;
    bool job_known;
    bool alive; /* rank 0 and its peers are */
    bool lost;  /* rank 0 has missed one of them */
    char why[512];
};

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("coffer: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    fflush(stderr);
    va_end(args);
}

static void append(struct cf_supervisor *s, struct text *t, const char *bytes, size_t n);

int cf_supervisor_open(struct cf_supervisor **out, const struct cf_supervision *o, struct cf_error *e) {
    struct cf_supervisor *s = *out = calloc(1, sizeof *s);
    if (!s) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    s->o = o;
    int rc = o->resumed ? cf_journal_reopen(&s->journal, o->resumed, o->journal != NULL, &s->story, e)
                        : cf_journal_open(&s->journal, o->journal, e);
    if (!rc && s->story.model) snprintf(s->model, sizeof s->model, "%s", s->story.model);
    if (!rc) append(s, &s->whole, s->story.shown, s->story.n_shown);
    if (!rc && s->lost) rc = cf_fail(e, CF_ERR_MEMORY, "%s", s->why);
    if (!rc) {
        if (o->hosts->n) cf_hosts_ask(o->hosts, true);
        return 0;
    }
    s->journal.named = true; /* it is not ours to remove */
    cf_journal_close(&s->journal, false);
    cf_story_free(&s->story);
    free(s);
    *out = NULL;
    return -1;
}

void cf_supervisor_close(struct cf_supervisor *s, int status) {
    if (!s) return;
    bool bad = (status != 0 && status < 128) || status == 128 + SIGTERM || status == 128 + SIGHUP;
    cf_journal_close(&s->journal, bad && (s->journal.n || s->journal.holds_input || s->o->resumed));
    cf_story_free(&s->story);
    unsetenv("COFFER_SWEEP");
    free(s->held.bytes);
    free(s->whole.bytes);
    free(s);
}

struct cf_story *cf_supervisor_story(struct cf_supervisor *s) {
    return &s->story;
}

struct cf_journal *cf_supervisor_journal(struct cf_supervisor *s) {
    return &s->journal;
}

/* ---- a start ---- */

static int ranks_now(const struct cf_supervisor *s) {
    const struct cf_hosts *h = s->o->hosts;
    int slots = cf_hosts_slots(h);
    bool chosen = s->o->chosen || h->borrowed;
    if (!h->n || (chosen && (!h->n_lost || slots > s->o->ranks))) return s->o->ranks;
    return slots;
}

int cf_supervisor_begin(struct cf_supervisor *s, const char *const **words) {
    /* A host that is gone is known in four seconds, not in eight minutes. */
    static const char *const keepalive[] = {"--mca", "oob_tcp_keepalive_time", "1", "--mca", "oob_tcp_keepalive_intvl",
        "1", "--mca", "oob_tcp_keepalive_probes", "3"};
    const char *list = cf_hosts_list(s->o->hosts);
    size_t n = sizeof keepalive / sizeof *keepalive;
    memcpy(s->words, keepalive, sizeof keepalive);
    if (s->o->hosts->file) s->words[n++] = "--hostfile", s->words[n++] = s->o->hosts->file;
    if (list) s->words[n++] = "--host", s->words[n++] = list;
    s->words[n] = NULL;
    *words = s->words;
    setenv("COFFER_SWEEP", s->sweep, 1);
    /* Steps of starts that were killed hold their cores until Slurm has missed a lost node for minutes. */
    if (s->o->hosts->allocated) setenv("SLURM_OVERLAP", "1", 0);
    cf_journal_start(&s->journal, ++s->starts);
    s->seen = 0;
    s->held.n = 0;
    s->alive = s->lost = s->job_known = false;
    s->why[0] = '\0';
    s->began_ms = s->heard_ms = s->asked_ms = now_ms();
    return ranks_now(s);
}

/* ---- what rank 0 says ---- */

static void append(struct cf_supervisor *s, struct text *t, const char *bytes, size_t n) {
    if (!n) return;
    if (n > t->room - t->n) {
        size_t room = 2 * (t->room + n) + 4096;
        char *more = realloc(t->bytes, room);
        if (!more) {
            snprintf(s->why, sizeof s->why, "no memory for %zu bytes of text", room);
            s->lost = true; /* ends this start: nothing is shown that is not all there */
            return;
        }
        t->bytes = more;
        t->room = room;
    }
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static void keep(struct cf_supervisor *s, const char *word, const char *text) {
    if (!cf_journal_add(&s->journal, word, text, strlen(text))) return;
    snprintf(s->why, sizeof s->why, "no memory for the journal");
    s->lost = true;
}

/* The first thing that is new after a failure. */
static void going_on(struct cf_supervisor *s) {
    if (s->failed_ms) say("going on after %.1f s", (double)(now_ms() - s->failed_ms) / 1e3);
    s->failed_ms = 0;
    s->fruitless = 0;
}

static void on_alive(struct cf_supervisor *s, const char *text) {
    (void)text;
    s->job_known |= s->alive; /* it has none that could be found */
    s->alive = s->ever_alive = true;
}

void cf_supervisor_look(struct cf_supervisor *s, pid_t launcher) {
    int64_t now = now_ms();
    size_t n = strlen(s->sweep);
    if (s->job_known || now - s->looked_ms < LOOK_EVERY) return;
    s->looked_ms = now;
    uint32_t job = cf_sweep_job(launcher);
    if (!job || s->n_jobs == MOST_JOBS) return;
    s->job_known = true;
    s->jobs[s->n_jobs++] = job;
    snprintf(s->sweep + n, sizeof s->sweep - n, "%s%u", n ? "," : "", (unsigned)job);
}

static void on_token(struct cf_supervisor *s, const char *text) {
    uint32_t id;
    uint64_t state[CF_REPLAY_STATE];
    if (!cf_replay_token(text, strlen(text), &id, state)) return; /* cut off by its writer's death */
    keep(s, "token", text);
    s->open = true;
    going_on(s);
}

static void on_end(struct cf_supervisor *s, const char *text) {
    int status;
    int64_t n_cached;
    char other[32];
    if (!cf_replay_end(text, strlen(text), &status, &n_cached)) return; /* as above */
    /* The ranks are told in one way, whoever has asked: only Ctrl-C ends an answer for good. */
    snprintf(other, sizeof other, "%d %lld", s->drained_by, (long long)n_cached);
    keep(s, "end", status == 130 && s->drained_by > 130 ? other : text);
    s->open = false;
}

struct model {
    char bytes[24], header[20], stamp[20], host[80];
};

static bool read_model(struct model *m, const char *text) {
    return sscanf(text, "%23s %19s %19s %79s", m->bytes, m->header, m->stamp, m->host) == 4;
}

/* The answer is one of that model, and of no other. When its file was written counts on the host and in the run that it
 * was seen in: a copy is as good. */
static void on_model(struct cf_supervisor *s, const char *text) {
    struct model now, then;
    if (!read_model(&now, text)) return;
    if (!*s->model || !read_model(&then, s->model)) {
        snprintf(s->model, sizeof s->model, "%s", text);
        cf_journal_remark(&s->journal, "model", text, strlen(text));
        return;
    }
    bool same = !strcmp(now.bytes, then.bytes) && !strcmp(now.header, then.header);
    bool touched = !s->o->resumed && !strcmp(now.host, then.host) && strcmp(now.stamp, then.stamp) != 0;
    if (same && !touched) return;
    snprintf(s->why, sizeof s->why, "the model's file %s since this answer was begun with it",
        same ? "has been written or replaced" : "has become another one");
    s->other_model = s->lost = true;
}

static void on_more(struct cf_supervisor *s, const char *text) {
    keep(s, "more", text);
}

static void on_load(struct cf_supervisor *s, const char *text) {
    keep(s, "load", text);
}

static void on_whole(struct cf_supervisor *s, const char *text) {
    (void)text;
    append(s, &s->whole, s->held.bytes, s->held.n);
    s->held.n = 0;
}

static void on_answered(struct cf_supervisor *s, const char *text) {
    uint32_t index;
    if (!cf_replay_index(text, strlen(text), &index)) return; /* as above */
    cf_journal_remark(&s->journal, "said", s->held.bytes, s->held.n);
    keep(s, "answered", text);
    on_whole(s, text);
    going_on(s);
}

/* A line of the user's from before: who resumes a conversation wants to see what was asked. */
static void on_asked(struct cf_supervisor *s, const char *text) {
    if (s->o->resumed && s->starts == 1 && isatty(STDERR_FILENO)) fprintf(stderr, "> %s\n", text);
}

static void on_lost(struct cf_supervisor *s, const char *text) {
    s->lost = true;
    snprintf(s->why, sizeof s->why, "%s", text);
}

static const struct event {
    const char *word;
    void (*act)(struct cf_supervisor *s, const char *text);
} events[] = {{"alive", on_alive}, {"token", on_token}, {"end", on_end}, {"more", on_more}, {"load", on_load},
    {"whole", on_whole}, {"model", on_model}, {"answered", on_answered}, {"asked", on_asked}, {"lost", on_lost}};

void cf_supervisor_event(void *ctx, const char *word, const char *text) {
    size_t n = strcspn(word, " ");
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (strlen(events[i].word) == n && !strncmp(events[i].word, word, n)) events[i].act(ctx, text);
}

size_t cf_supervisor_text(struct cf_supervisor *s, char *bytes, size_t n) {
    if (s->o->whole) {
        append(s, &s->held, bytes, n);
        return 0;
    }
    size_t old = s->seen < s->shown ? (size_t)(s->shown - s->seen) : 0;
    if (old > n) old = n;
    memmove(bytes, bytes + old, n - old);
    s->seen += n;
    s->shown += n - old;
    return n - old;
}

size_t cf_supervisor_whole(struct cf_supervisor *s, char *bytes, size_t size) {
    struct text *t = &s->whole;
    size_t n = t->n - t->at < size ? t->n - t->at : size;
    if (n) memcpy(bytes, t->bytes + t->at, n);
    t->at += n;
    if (t->at == t->n) t->at = t->n = 0;
    return n;
}

int cf_supervisor_line(struct cf_supervisor *s, const char *line, size_t n) {
    return cf_journal_add(&s->journal, "line", line, n);
}

/* ---- silence ---- */

void cf_supervisor_heard(struct cf_supervisor *s) {
    s->heard_ms = now_ms();
}

static int64_t limit_ms(const struct cf_supervisor *s) {
    return (int64_t)(s->o->timeout * 1e3) + GRACE_MS;
}

/* A single rank has no peers and gives no sign of life: its death is seen. */
static bool listens(const struct cf_supervisor *s) {
    return s->o->ranks > 1;
}

int cf_supervisor_wait(const struct cf_supervisor *s) {
    if (!listens(s)) return -1;
    int64_t now = now_ms(), end = s->heard_ms + limit_ms(s), ask = s->asked_ms + ASK_EVERY;
    if (ask < s->began_ms + UNWELL_MS) ask = s->began_ms + UNWELL_MS;
    if (!s->alive && !s->job_known && end > now + LOOK_EVERY) return LOOK_EVERY;
    if (!s->alive) end = s->o->hosts->n ? ask : s->began_ms + START_MS;
    return end > now ? (int)(end - now) : 0;
}

bool cf_supervisor_silent(struct cf_supervisor *s) {
    int64_t now = now_ms();
    if (!listens(s)) return false;
    if (s->alive && now - s->heard_ms >= limit_ms(s)) {
        snprintf(s->why, sizeof s->why, "rank 0 gave no sign of life for %.0f s", (double)limit_ms(s) / 1e3);
        return true;
    }
    if (s->alive || now < s->began_ms + UNWELL_MS || now < s->asked_ms + ASK_EVERY) return false;
    s->asked_ms = now;
    if (s->o->hosts->n && cf_hosts_ask(s->o->hosts, false)) {
        snprintf(s->why, sizeof s->why, "a host fell silent during the start");
        return true;
    }
    if (now < s->began_ms + START_MS) return false;
    snprintf(s->why, sizeof s->why, "the ranks did not come up in %d s", START_MS / 1000);
    return true;
}

bool cf_supervisor_failed(const struct cf_supervisor *s) {
    return s->lost;
}

void cf_supervisor_drain(struct cf_supervisor *s, int status) {
    s->drained_by = status;
}

/* ---- the end of a start ---- */

/* Which hosts are left, in words. */
static void name_hosts(struct cf_supervisor *s, char *text, size_t size) {
    struct cf_hosts *h = s->o->hosts;
    size_t at = 0;
    text[0] = '\0';
    if (!h->n) return;
    if (!cf_hosts_slots(h)) {
        snprintf(text, size, "; no host answers: all of them are tried again");
        cf_hosts_forgive(h);
        return;
    }
    for (size_t i = 0; i < h->n && at + 1 < size; i++)
        if (h->at[i].lost)
            at += (size_t)snprintf(text + at, size - at, "%s %s", at ? "," : "; without host", h->at[i].name);
}

/* Failures that the next start may not meet again. A start that fails before any has come up, and not by a signal,
 * fails for a reason that mpirun has said; unless a host has gone meanwhile, or a daemon did (which looks like hosts
 * that cannot be reached at all: so it is tried a few times only). */
static bool may_help(const struct cf_supervisor *s, const struct cf_supervised_end *end, bool host_lost) {
    if (s->lost || *s->why || host_lost) return true;
    return !end->has_status && (end->died || s->ever_alive || (end->unstarted && s->starts <= MOST_UNSTARTED));
}

void cf_supervisor_tidy(struct cf_supervisor *s, bool failed, pid_t launcher) {
    if (failed) s->n_failed_jobs = s->n_jobs;
    if (failed) cf_sweep(0, launcher);
    for (int i = 0; i < s->n_failed_jobs; i++)
        cf_sweep(s->jobs[i], 0);
}

int cf_supervisor_pause(const struct cf_supervisor *s) {
    enum { AT_ONCE = 2, FIRST = 2000, DOUBLED = 4 };
    int late = s->fruitless - AT_ONCE - 1;
    return late < 0 ? 0 : FIRST << (late < DOUBLED ? late : DOUBLED);
}

bool cf_supervisor_again(struct cf_supervisor *s, const struct cf_supervised_end *end) {
    bool host_lost = s->o->hosts->n && cf_hosts_ask(s->o->hosts, false) > 0;
    if (!may_help(s, end, host_lost) || (end->interrupted && !s->o->asks)) return false;
    const char *why = *s->why ? s->why : *end->why ? end->why : "mpirun ended";
    if (s->other_model) {
        say("%s: given up", why);
        return false;
    }
    if (!s->failed_ms) s->failed_ms = now_ms();
    if (s->starts > s->o->max_restarts) {
        say("%s: given up after %d starts (--max-restarts %lld)", why, s->starts, (long long)s->o->max_restarts);
        return false;
    }
    char hosts[512], pause[32] = "";
    name_hosts(s, hosts, sizeof hosts);
    int ranks = ranks_now(s);
    s->fruitless++;
    if (cf_supervisor_pause(s)) snprintf(pause, sizeof pause, " in %d s", cf_supervisor_pause(s) / 1000);
    say("%s; start %d with %d rank%s%s%s", why, s->starts + 1, ranks, ranks == 1 ? "" : "s", pause, hosts);
    if (end->interrupted && s->open) on_end(s, "130 -1");
    return true;
}
