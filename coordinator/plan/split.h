/* How work is split into micro-batches: the batches that fill a pipeline of stages, or that play ping-pong between
 * domains. The plan says how many may be in flight (n_flight); a layout whose ranks all work on every batch has one.
 */
#ifndef COFFER_COORDINATOR_PLAN_SPLIT_H
#define COFFER_COORDINATOR_PLAN_SPLIT_H

#include "node/model/plan.h"

/* Rows of a chunk of a prompt of n tokens. One batch in flight: as many as a batch holds. Several: small enough that
 * every stage has four chunks to work on, but not below 64 rows, where the weights would be read too often for the
 * rows that they meet. */
uint32_t cf_split_prompt(const struct cf_plan *p, uint32_t n);

/* Rows whose logits a batch should have room for where `rows` would be wanted: within 64 MiB, but at least 16. */
uint32_t cf_split_want(uint32_t rows, uint32_t n_vocab);

/* Batches that n decoding sequences are dealt to: each takes the way by itself. */
uint32_t cf_split_sequences(const struct cf_plan *p, uint32_t n);

/* Sequences [*first, *last) of batch `batch` of `batches`. */
void cf_split_share(uint32_t n, uint32_t batches, uint32_t batch, uint32_t *first, uint32_t *last);

#endif
