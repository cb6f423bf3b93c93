/* What the files of this room share, and nobody else sees.
 *
 * For every other rank there is a struct peer: an outbox of entries (posted, not yet sent), CF_CREDITS slots with send
 * buffers, an inbox of as many posted receives, and a control lane for what may not wait behind data.
 *
 *     lane      tag           needs credit   what
 *     envelope  TAG_ENVELOPE  yes            a frame of proto/wire.h, with its piece inline if both fit in CF_SMALL
 *     piece     TAG_PIECE     (envelope's)   the piece of the envelope that went before it
 *     control   TAG_CONTROL   no             heartbeats, bare credits, Error, Shutdown: small, one in flight per peer
 *
 * Every MPI request lives in one array, LANES per peer, so that one MPI_Testsome serves all. MPI delivers messages of
 * one pair and tag in order, and receives are posted in ring order, so slot k of the inbox always holds the message
 * behind that of slot k-1, and pieces meet their envelopes.
 */
#ifndef COFFER_TRANSPORT_INTERNAL_H
#define COFFER_TRANSPORT_INTERNAL_H

#include <mpi.h>
#include <stdatomic.h>

#include "proto/wire.h"
#include "transport/clock.h"
#include "transport/transport.h"

enum { TAG_ENVELOPE = 1, TAG_PIECE = 2, TAG_CONTROL = 3 };

/* Requests of one peer, in the order in which they lie in transport.requests. */
enum {
    LANE_IN_ENVELOPE = 0,
    LANE_IN_PIECE = LANE_IN_ENVELOPE + CF_CREDITS,
    LANE_IN_CONTROL = LANE_IN_PIECE + CF_CREDITS,
    LANE_OUT_ENVELOPE = LANE_IN_CONTROL + 1,
    LANE_OUT_PIECE = LANE_OUT_ENVELOPE + CF_CREDITS,
    LANE_OUT_CONTROL = LANE_OUT_PIECE + CF_CREDITS,
    LANES = LANE_OUT_CONTROL + 1,
};

enum {
    CONTROL_BYTES = 2048,         /* most bytes of a control frame */
    SCRATCH_BYTES = 8 * CF_SMALL, /* most memory of an unpacked envelope; untouched pages cost nothing */
    SMALL_BODY = 256,             /* bodies up to this size lie in the entry itself */
    ENTRIES_AT_START = 64,        /* per peer; more are made when needed and kept */
    HOST_NAME_BYTES = 64,
    INLINE_ON_HOST = 3584, /* below the eager limit of shared memory (4096) */
};

/* A posted message: waiting in an outbox, then in flight until its last piece has left. */
struct entry {
    struct entry *next;
    unsigned char *body; /* `small`, or memory of its own that stays with the entry */
    size_t body_bytes, body_capacity;
    const unsigned char *payload;
    size_t bytes, sent; /* of the payload: all, handed to MPI */
    int *pending;
    int in_flight; /* pieces handed to MPI and not yet done */
    unsigned char small[SMALL_BODY];
};

struct entry_slab {
    struct entry_slab *next;
    size_t count;
    struct entry entries[];
};

struct send_slot {
    unsigned char *buffer; /* [CF_SMALL] */
    struct entry *entry;   /* whose piece leaves from the caller's memory; NULL if inline or none */
    bool envelope_busy, piece_busy;
};

struct receive_slot {
    unsigned char *buffer; /* [CF_SMALL] */
    unsigned char *memory; /* [SCRATCH_BYTES] */
    struct cf_scratch scratch;
    Cf__Envelope *envelope; /* arrived and unpacked, or NULL */
    const unsigned char *inlined;
};

struct piece_slot {
    unsigned char *buffer; /* [CF_PIECE] */
    int bytes;             /* arrived, or -1 */
};

struct peer {
    /* out */
    struct entry *first, *last;
    struct send_slot out[CF_CREDITS];
    size_t inline_most; /* frames up to this size carry their piece */
    uint32_t next_out;  /* sequence number of the next envelope */
    int unacked;        /* envelopes that the peer has not given credit for */
    /* in */
    struct receive_slot in[CF_CREDITS];
    struct piece_slot piece[CF_CREDITS];
    int in_head, piece_head; /* the slot whose message comes next */
    uint32_t next_in;        /* its sequence number */
    int owed;                /* envelopes taken and not yet credited */
    double owed_since;
    bool acknowledge_now;
    /* control */
    unsigned char *control_in, *control_out; /* [CONTROL_BYTES] each */
    bool control_busy;
    bool tell_failure, tell_shutdown; /* to be sent */
    bool failure_told, shutdown_told; /* sent (handed to MPI) */
    bool shutdown_seen;
    uint32_t shutdown_status;
    double shutdown_at;
    /* signs of life */
    double heard, spoke;
    int host, machine;
    struct cf_traffic traffic;
    bool touched; /* something happened: look at it in this turn */
};

/* window.c: this rank's view of its host's window, and of a round about it. */
struct cf__window_part {
    char *base; /* NULL: another host's, or no window */
    size_t bytes;
};
struct cf__bell {                       /* in front of each part's payloads, behind the counters */
    _Alignas(64) _Atomic uint32_t rung; /* how often */
    _Atomic uint32_t asleep;            /* its rank is at it: who rings owes a call */
};
struct cf__window_card { /* a rank's word in a round (message Window) */
    bool here, wanted;
    uint64_t bytes, room;
    char note[160];
};
struct cf__window {
    MPI_Win win;
    bool here;                     /* in use */
    struct cf__window_part *parts; /* [size] */
    uint64_t total;                /* bytes of all parts */
    char note[200];
    bool meeting;
    int missing;
    struct cf__window_card *cards; /* [size] */
};

struct cf_transport {
    int rank, size;
    int hosts, local_rank, local_size;
    char (*host_names)[HOST_NAME_BYTES]; /* [size] */
    double timeout, beat;                /* seconds */
    bool sleep_at_once;
    bool uses_mpi;
    bool tolerant;
    MPI_Comm comm, host_comm; /* host_comm: the ranks of this host, in order */
    struct cf__window window;

    struct peer *peers;     /* [size]; of the own one only the outbox is used */
    MPI_Request *requests;  /* [size * LANES] */
    int *indices;           /* [size * LANES]: scratch of MPI_Testsome */
    MPI_Status *statuses;   /* [size * LANES] */
    unsigned char *buffers; /* all buffers of all peers, one allocation */
    struct entry *free_entries;
    struct entry_slab *slabs;
    struct cf_scratch self_scratch;
    unsigned char *self_memory; /* [SCRATCH_BYTES] */

    cf_on_message on_message;
    void *on_message_ctx;
    bool inside;   /* a turn is under way: posts are only queued, progress does nothing */
    bool closing;  /* arriving messages are dropped */
    bool greeting; /* a hello round is under way; hellos and verdicts wait for the next one otherwise */
    bool probing;

    double last_turn; /* when progress was last made */
    void (*on_beat)(void *ctx);
    void *on_beat_ctx;
    double next_beat;
    double next_check; /* when signs of life are looked at next */
    int owing;         /* peers that are owed credits */

    bool broken; /* for good: every progress reports `why` */
    struct cf_error why;
    char told[sizeof((struct cf_error *)0)->text]; /* what peers are told: without the name of failed_rank in front */
    int failed_rank;
};

/* identity.c: who is where. Fills host names, hosts, local rank and size; collective. */
int cf__identify(struct cf_transport *t, struct cf_error *e);

/* queue.c */
int cf__entries_grow(struct cf_transport *t, size_t count, struct cf_error *e);
/* Sends what credits and slots allow. */
int cf__pump(struct cf_transport *t, int to, struct cf_error *e);
/* All of the entry has left: lowers *pending and makes it free for the next message. */
void cf__entry_done(struct cf_transport *t, struct entry *entry);
/* A send of this peer's is done. */
void cf__sent(struct cf_transport *t, int peer, int lane);
bool cf__outbox_idle(const struct cf_transport *t, int peer);

/* progress.c */
int cf__post_receives(struct cf_transport *t, struct cf_error *e);
/* One turn of moving and delivering without looking at earlier failures: events, or -1. */
int cf__turn(struct cf_transport *t, struct cf_error *e);
/* Completes sends and receives; delivers nothing. After a failure only control messages are read. Events other
 * than control messages (a heartbeat is no reason to stay awake), or -1. */
int cf__collect(struct cf_transport *t, struct cf_error *e);

/* control.c: heartbeats, bare credits, errors, shutdown */
int cf__control_send(struct cf_transport *t, int to, struct cf_error *e);
int cf__control_arrived(struct cf_transport *t, int from, int bytes, struct cf_error *e);
int cf__look_after_peers(struct cf_transport *t, double now, struct cf_error *e);
void cf__restart_clocks(struct cf_transport *t, double now);

/* failure.c */
/* Remembers *why as the reason why nothing goes on, unless there is one already. Returns -1. */
int cf__break(struct cf_transport *t, const struct cf_error *why, int origin);
/* Breaks for a reason that another rank gave, and tells everybody, in the name of that rank. */
void cf__refuse(struct cf_transport *t, const struct cf_error *why, int origin);
int cf__mpi_failed(int rc, const char *what, struct cf_error *e);

/* hello.c: *e (a text to follow the rank's name) and *origin are filled if the hellos disagree (returns -1). */
int cf__hello_compare(Cf__Hello *const *hellos, int n, int *origin, struct cf_error *e);

/* window.c */
/* A Window message: 0 taken, 1 it belongs to a round that has not begun here. */
int cf__window_card(struct cf_transport *t, int from, const Cf__Window *w);
/* Frees the window if there is one; all ranks of the host together. */
void cf__window_free(struct cf_transport *t);
/* The bell of a rank of this host; NULL without a window. */
struct cf__bell *cf__window_bell(const struct cf_transport *t, int rank);

/* wait.c */
struct nap {
    double since; /* when waiting began */
    double length;
    bool listens;   /* naps at the bell ... */
    uint32_t heard; /* ... that has rung so often when it was listened to */
};
/* Before a look at what is waited for: what comes later ends the nap. Without it naps last as long as they do. */
void cf__listen(const struct cf_transport *t, struct nap *nap);
/* Wakes a rank that something was sent to, or left for in the window. Nothing on other hosts. */
void cf__ring(const struct cf_transport *t, int rank);
void cf__rest(const struct cf_transport *t, struct nap *nap, double now);

#endif
