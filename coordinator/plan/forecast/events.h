/* What is going to happen in virtual time, the next first. Private to simulate.c.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_EVENTS_H
#define COFFER_COORDINATOR_PLAN_FORECAST_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A batch or a message comes to a rank, a rank has finished an instruction, or has held on to a batch long enough. */
struct cf_event {
    double at;
    uint64_t number; /* of those at the same time the older one first; given by cf_events_push */
    enum { CF_EVENT_BATCH, CF_EVENT_MESSAGE, CF_EVENT_FINISHED, CF_EVENT_HELD } what;
    uint32_t rank, batch, instr; /* instr: of a message; of an end a stamp that tells whether it still holds */
};

struct cf_events {
    struct cf_event *heap; /* owned */
    size_t n, room;
    uint64_t number;
    bool failed; /* there was no memory for one: what follows is wrong */
};

void cf_events_push(struct cf_events *s, struct cf_event v);
struct cf_event cf_events_pop(struct cf_events *s); /* n > 0 */
void cf_events_clear(struct cf_events *s);
void cf_events_free(struct cf_events *s);

#endif
