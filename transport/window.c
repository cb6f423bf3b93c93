/* See window.h. A round has two exchanges of words between the ranks of a host, by messages, so that a rank that died
 * or failed on its way here is noticed as everywhere: first "I am here, and need so much", then "my part is settled".
 * Only what lies between them is a call of MPI's that waits for all; a watchdog ends the process if it waits too long.
 */
#include "transport/window.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "transport/internal.h"

enum {
    LINE = 64,
    RESERVE = 4 << 20
}; /* RESERVE: bytes of /dev/shm per rank that MPI's own segments may still grow by */
static const uint64_t MOST = (uint64_t)1 << 48; /* bytes of a part that are counted: sums do not overflow */
_Static_assert(CF_WINDOW_SLOTS *LINE + sizeof(struct cf__bell) <= CF_WINDOW_CONTROL, "counters and bell fit");

/* One counter, on a cache line of its own. */
struct counter {
    _Alignas(LINE) _Atomic uint32_t released;
};

/* ---- the words of a round ---- */

static bool all_cards(void *ctx) {
    const struct cf_transport *t = ctx;
    return t->window.missing == 0;
}

int cf__window_card(struct cf_transport *t, int from, const Cf__Window *w) {
    struct cf__window *own = &t->window;
    if (!own->meeting || own->cards[from].here || t->peers[from].host != t->peers[t->rank].host) return 1;
    struct cf__window_card *card = &own->cards[from];
    *card = (struct cf__window_card){.here = true, .wanted = w->wanted, .bytes = w->bytes, .room = w->room};
    snprintf(card->note, sizeof card->note, "%s", w->note ? w->note : "");
    own->missing--;
    return 0;
}

/* Everybody on this host says `mine`; afterwards all cards are there. */
static int meet(struct cf_transport *t, const struct cf__window_card *mine, struct cf_error *e) {
    struct cf__window *own = &t->window;
    memset(own->cards, 0, (size_t)t->size * sizeof *own->cards);
    own->cards[t->rank] = *mine;
    own->missing = t->local_size - 1;
    own->meeting = true;
    Cf__Window w = CF__WINDOW__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_WINDOW, env.window = &w;
    w.wanted = mine->wanted, w.bytes = mine->bytes, w.room = mine->room;
    w.note = own->cards[t->rank].note;
    int rc = 0;
    for (int r = 0; r < t->size && !rc; r++)
        if (r != t->rank && t->peers[r].host == t->peers[t->rank].host) rc = cf_post(t, r, &env, NULL, 0, NULL, e);
    if (!rc) rc = cf_wait(t, all_cards, t, NULL, e);
    own->meeting = false;
    return rc;
}

/* ---- MPI's part ---- */

static void too_long(int signal_number) {
    (void)signal_number;
    static const char text[] = "coffer: a rank of this host did not come to the shared window\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(1);
    _exit(1);
}

/* Begins or ends what may wait for all ranks of the host. */
static void watch(const struct cf_transport *t, bool begin) {
    struct sigaction action = {.sa_handler = begin ? too_long : SIG_DFL};
    if (!begin) alarm(0);
    sigaction(SIGALRM, &action, NULL);
    if (begin) alarm((unsigned)t->timeout + 2);
}

void cf__window_free(struct cf_transport *t) {
    struct cf__window *own = &t->window;
    if (own->win != MPI_WIN_NULL) {
        MPI_Win_unlock_all(own->win);
        MPI_Win_free(&own->win);
    }
    own->win = MPI_WIN_NULL;
    own->here = false;
    own->total = 0;
    for (int r = 0; r < t->size && own->parts; r++)
        own->parts[r] = (struct cf__window_part){0};
}

static size_t page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* MPI aligns a part to less than a page, but within the page it begins at the same place in every process. What lies on
 * a page with another part belongs to nobody: pages are bound to nodes. */
static struct cf__window_part whole_pages(char *base, size_t bytes) {
    size_t page = page_bytes(), skip = (page - (uintptr_t)base % page) % page;
    if (bytes < skip + page) return (struct cf__window_part){0};
    return (struct cf__window_part){base + skip, (bytes - skip) / page * page};
}

static int allocate(struct cf_transport *t, size_t bytes, struct cf_error *e) {
    struct cf__window *own = &t->window;
    MPI_Info info;
    void *base;
    int rc = MPI_Info_create(&info);
    if (rc) return cf__mpi_failed(rc, "MPI_Info_create", e);
    MPI_Info_set(info, "alloc_shared_noncontig", "true");
    rc = MPI_Win_allocate_shared((MPI_Aint)bytes, 1, info, t->host_comm, &base, &own->win);
    MPI_Info_free(&info);
    if (rc) {
        own->win = MPI_WIN_NULL;
        return cf__mpi_failed(rc, "MPI_Win_allocate_shared", e);
    }
    MPI_Win_set_errhandler(own->win, MPI_ERRORS_RETURN);
    rc = MPI_Win_lock_all(MPI_MODE_NOCHECK, own->win);
    for (int r = 0, local = 0; r < t->size && !rc; r++) {
        if (t->peers[r].host != t->peers[t->rank].host) continue;
        MPI_Aint size;
        int unit;
        rc = MPI_Win_shared_query(own->win, local++, &size, &unit, &base);
        if (!rc) own->parts[r] = whole_pages(base, (size_t)size);
    }
    return rc ? cf__mpi_failed(rc, "the shared window", e) : 0;
}

/* ---- the round ---- */

/* Bytes of the file system that MPI takes the window from; UINT64_MAX if it does not say. */
static uint64_t room_of_shm(void) {
    struct statvfs s;
    if (statvfs("/dev/shm", &s)) return UINT64_MAX;
    return (uint64_t)s.f_bavail * s.f_frsize;
}

/* What everybody on this host concludes from the same cards: is there to be a window? */
static bool agreed(const struct cf_transport *t, char *note, size_t room) {
    const struct cf__window *own = &t->window;
    uint64_t least = UINT64_MAX, all = 0;
    for (int r = 0; r < t->size; r++) {
        const struct cf__window_card *card = &own->cards[r];
        if (!card->here) continue;
        if (!card->wanted) {
            snprintf(note, room, "%s", card->note);
            return false;
        }
        if (card->room < least) least = card->room;
        all += RESERVE + (card->bytes < MOST ? card->bytes : MOST);
    }
    if (all <= least) return true;
    snprintf(note, room, "/dev/shm has room for %.1f MiB, the window needs %.1f MiB", (double)least / (1 << 20),
        (double)all / (1 << 20));
    return false;
}

/* Between the two exchanges of words: everybody who comes here does so now. */
static int build(
    struct cf_transport *t, bool wanted, size_t bytes, cf_window_settle settle, void *ctx, struct cf_error *e) {
    watch(t, true);
    cf__window_free(t);
    int rc = wanted ? allocate(t, bytes, e) : 0;
    watch(t, false);
    const struct cf__window_part *mine = &t->window.parts[t->rank];
    if (rc || !wanted) return rc;
    return settle ? settle(ctx, mine->base, mine->bytes, e) : 0;
}

int cf_window_open(
    struct cf_transport *t, bool wanted, size_t bytes, cf_window_settle settle, void *ctx, struct cf_error *e) {
    struct cf__window *own = &t->window;
    own->note[0] = '\0';
    if (t->local_size < 2) return 0;
    uint64_t room = room_of_shm();
    struct cf__window_card mine = {.here = true, .wanted = wanted};
    mine.bytes =
        ((uint64_t)bytes + CF_WINDOW_CONTROL + 2 * page_bytes() + CF_WINDOW_UNIT - 1) / CF_WINDOW_UNIT * CF_WINDOW_UNIT;
    mine.room = room < UINT64_MAX - own->total ? room + own->total : room; // what there is now goes first
    if (meet(t, &mine, e)) return -1;
    bool go = agreed(t, own->note, sizeof own->note);
    if (!go && own->win == MPI_WIN_NULL) return 0;
    struct cf_error why = {0};
    mine = (struct cf__window_card){.here = true, .wanted = !build(t, go, (size_t)mine.bytes, settle, ctx, &why)};
    snprintf(mine.note, sizeof mine.note, "%.*s", (int)sizeof mine.note - 1, why.text);
    if (meet(t, &mine, e)) return -1;
    if (!go) return 0;
    for (int r = 0; r < t->size; r++) {
        if (!own->cards[r].here || own->cards[r].wanted) continue;
        snprintf(own->note, sizeof own->note, "rank %d: %s", r, own->cards[r].note);
        go = false;
    }
    for (int r = 0; r < t->size; r++)
        own->total += own->parts[r].bytes;
    own->here = go; // a window that is not used stays until the next round, or the end: freeing it needs all
    return 0;
}

/* ---- payloads ---- */

const char *cf_window_note(const struct cf_transport *t) {
    return t->window.note;
}

void *cf_window_own(const struct cf_transport *t, size_t *bytes) {
    if (!t->window.here) return NULL;
    *bytes = t->window.parts[t->rank].bytes;
    return t->window.parts[t->rank].base;
}

bool cf_window_reaches(const struct cf_transport *t, int rank) {
    return t->window.here && rank != t->rank && t->window.parts[rank].base;
}

const void *cf_window_read(const struct cf_transport *t, int rank, uint64_t offset, uint64_t bytes) {
    if (!cf_window_reaches(t, rank)) return NULL;
    const struct cf__window_part *part = &t->window.parts[rank];
    if (offset < CF_WINDOW_CONTROL || offset % sizeof(float) || offset > part->bytes || bytes > part->bytes - offset)
        return NULL;
    MPI_Win_sync(t->window.win);
    atomic_thread_fence(memory_order_acquire);
    return part->base + offset;
}

void cf_window_publish(struct cf_transport *t, int to, size_t bytes) {
    t->peers[to].traffic.window += bytes;
    atomic_thread_fence(memory_order_release);
    MPI_Win_sync(t->window.win);
}

static struct counter *counter_of(const struct cf_transport *t, int rank, uint32_t slot) {
    return (struct counter *)(void *)t->window.parts[rank].base + slot;
}

void cf_window_release(const struct cf_transport *t, int rank, uint32_t slot) {
    atomic_fetch_add_explicit(&counter_of(t, rank, slot)->released, 1, memory_order_release);
    cf__ring(t, rank); /* it may wait for that */
}

uint32_t cf_window_released(const struct cf_transport *t, uint32_t slot) {
    return atomic_load_explicit(&counter_of(t, t->rank, slot)->released, memory_order_acquire);
}

struct cf__bell *cf__window_bell(const struct cf_transport *t, int rank) {
    char *base = t->window.here ? t->window.parts[rank].base : NULL;
    return base ? (struct cf__bell *)(void *)(base + CF_WINDOW_SLOTS * LINE) : NULL;
}
