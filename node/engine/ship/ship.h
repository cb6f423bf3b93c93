/* --ship: a host without the model file gets what its slices need from rank 0.
 *
 * It lands in a sparse file of the model's own size in the host's cache folder, in blocks of 256 KiB, and whoever reads
 * the model there reads that file: nothing else of a run knows where its bytes came from. Beside it lies a map with the
 * XXH64 of each block that is there. A block counts as there if its bytes hash to what the map says, which is looked at
 * anew by every run; so what was interrupted goes on, and what was damaged comes again.
 *
 *     cf_ship_open     who lacks the file? those get its header, and what opening a model reads of its tensors
 *     cf_ship_slices   with a plan at hand: the blocks that the slices lie in
 *
 * Both are rounds of all ranks. Of the ranks of a host that lack the file one fetches for all (the lowest). Every rank
 * has a bound for what is under way: MOST_ASKED blocks that a host has asked for, two of them in memory on rank 0.
 *
 * What does not happen here: comparing files. A host that has a file of that name keeps it, and the hello round says if
 * it is another one.
 */
#ifndef COFFER_NODE_ENGINE_SHIP_H
#define COFFER_NODE_ENGINE_SHIP_H

#include "node/model/plan.h"
#include "transport/transport.h"

struct cf_ship;

struct cf_ship_options {
    struct cf_transport *transport;
    const char *model; /* path, on every rank */
    const char *cache; /* folder; NULL: $XDG_CACHE_HOME/coffer, else $HOME/.cache/coffer */
    /* Rank 0: bytes sent in the round so far, and all of it. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

int cf_ship_open(struct cf_ship **out, const struct cf_ship_options *o, struct cf_error *e);
/* The file to open in place of options.model (the same where it is there). Lives as long as the ship. */
const char *cf_ship_path(const struct cf_ship *s);
/* The transport's callback is the ship's afterwards: set your own anew. gguf: the file at cf_ship_path(), opened.
 * Afterwards every part of it that cf_weights_load() will read is there. */
int cf_ship_slices(
    struct cf_ship *s, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g, struct cf_error *e);

/* Rank 0: what a rank that fetches for its host has told, bytes of all rounds; all 0 for others. */
struct cf_ship_count {
    uint64_t sent, there, damaged;
};
struct cf_ship_count cf_ship_counts(const struct cf_ship *s, int rank);

void cf_ship_close(struct cf_ship *s); /* NULL is no ship */

#endif
