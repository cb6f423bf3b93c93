/* exchange(A -> B): the one way in which activations pass from a group of ranks to the next.
 *
 * An exchange is what one rank sees of it: which parts it gets (`in`, one per sending rank) and which it sends (`out`).
 * The same code is the pipeline hop (one part), the all-reduce of a tensor group (A = B, partial sums) and the hop
 * between domains (A != B, slices). What the columns mean is the caller's business.
 *
 * The mail room holds what has arrived until the batch that needs it gets there: a fixed number of slots in memory that
 * the caller gives, keyed by (batch, exchange). Parts may arrive in any order and before this rank knows of the batch.
 * When no slot is free the message is refused and waits in the transport, which keeps its sender from sending more.
 *
 * Between ranks of one host the payload may lie in the host's window (window.h): the message names its place, the slot
 * here only remembers that, and the part is read where the sender wrote it. The sender may write there again when all
 * who were told have released it.
 */
#ifndef COFFER_TRANSPORT_EXCHANGE_H
#define COFFER_TRANSPORT_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/payload.h"
#include "transport/transport.h"
#include "transport/tree.h"
#include "transport/window.h"

struct cf_part {
    int rank;         /* the other end */
    uint32_t segment; /* which of the receiver's parts this is */
    uint32_t columns; /* most columns of a row */
    bool window;      /* in: it comes through the window, and takes no room in a slot */
    size_t bytes;     /* most of it at once; 0: columns x max_rows f32 */
    enum cf_dtype dtype;
};

/* What a part is made of. A row consists of whole lines (payload.h); line 0: it is one. */
struct cf_extent {
    uint32_t rows, columns, line;
};
size_t cf_extent_lines(struct cf_extent s);
uint32_t cf_extent_line(struct cf_extent s); /* columns of a line */
size_t cf_extent_bytes(struct cf_extent s, enum cf_dtype dtype);

struct cf_exchange {
    uint32_t id;          /* the same on every rank */
    uint32_t layer, step; /* for messages only */
    uint32_t max_rows;
    bool always; /* takes place also in measurements without the exchange */
    uint32_t n_in, n_out;
    struct cf_part in[CF_MAX_PARTS];
    struct cf_part out[CF_MAX_PARTS];
};

/* Bytes of a slot that can hold everything that `x` brings in by messages. */
size_t cf_exchange_bytes(const struct cf_exchange *x);

struct cf_mail_slot {
    bool used;
    uint32_t batch, exchange;
    uint32_t arrived; /* bit per complete part */
    struct cf_extent shape[CF_MAX_PARTS];
    size_t received[CF_MAX_PARTS];
    const float *there[CF_MAX_PARTS];   /* parts that lie in the window */
    uint32_t window_slot[CF_MAX_PARTS]; /* and the counter to raise when they have been read */
    char *data;
};

/* Memory from which parts are sent. It may be written when cf_mail_sent() says so. */
struct cf_outlet {
    float *data;
    char *packed;  /* what of it goes to other hosts as something else than f32; NULL: nothing */
    int pending;   /* messages that MPI still sends from it */
    bool window;   /* it lies in this rank's part of the window ... */
    uint32_t slot; /* ... and this is its counter there */
    uint32_t told; /* receivers that were told to read it there, modulo 2^32 */
};

struct cf_mailroom {
    struct cf_transport *transport;
    const struct cf_exchange *const *exchanges; /* by id; entries of exchanges that bring nothing here may be NULL */
    uint32_t n_exchanges;
    uint32_t n_slots;
    struct cf_mail_slot *slots; /* [n_slots], data set by the caller, slot_bytes each */
    size_t slot_bytes;
    uint32_t done_batch; /* batches up to this id are over: late mail for them is an error */
    /* For measurements without the exchange: nothing is sent or waited for, and every part is this. NULL: in earnest.
     * [slot_bytes of all exchanges] zeros. */
    const float *nothing;
};

/* One piece of an Activation message: the transport's callback hands it here. 0 taken, 1 no slot free, -1 it fits no
 * expected part. */
int cf_mail_deliver(struct cf_mailroom *m, int from, const Cf__Activation *a, size_t total, const void *data,
    size_t offset, size_t n, struct cf_error *e);

/* Have all parts of `x` named in `mask` (bit per part) arrived for this batch? */
bool cf_mail_ready(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t mask);
/* A part that has arrived: [rows][columns] f32, valid until the release. NULL if it was not sent, or (with *e) if it
 * is of another size. */
const float *cf_mail_part(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t part,
    uint32_t rows, uint32_t columns, struct cf_error *e);
/* The same of any dtype, as it came. Lines matter only where it is not f32. */
const void *cf_mail_packed(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t part,
    struct cf_extent due, struct cf_error *e);
/* All parts have been read. */
void cf_mail_release(struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch);

/* A message of x for one receiver: a payload of the receiver's dtype, which lies in *from. */
struct cf_parcel {
    uint32_t batch, out; /* out: which of x->out */
    const void *payload;
    struct cf_extent shape;
};
/* Sends it. *from must then stay as it is until cf_mail_sent(). */
int cf_mail_send(struct cf_mailroom *m, const struct cf_exchange *x, const struct cf_parcel *p, struct cf_outlet *from,
    struct cf_error *e);
/* May it be written again? */
bool cf_mail_sent(const struct cf_mailroom *m, const struct cf_outlet *o);

#endif
