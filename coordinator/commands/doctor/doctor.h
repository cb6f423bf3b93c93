/* Private to `coffer doctor`: the ward (what all ranks found on themselves, on rank 0) and the findings that follow
 * from it.
 *
 *     doctor.c    the command: launch, meet, print     examine.c  every rank looks at itself and at its links
 *     rules*.c    from facts to findings, no I/O        print.c    table and JSON
 *
 * Ok, warn and fail mean: as it should be; coffer runs, but slower or with less than there is; a run on these ranks
 * would not start, or would give up.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_DOCTOR_H
#define COFFER_COORDINATOR_COMMANDS_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "coffer.pb-c.h"
#include "proto/error.h"
#include "transport/transport.h"

enum cf__state { CF__STATE_OK, CF__STATE_WARN, CF__STATE_FAIL };

struct cf__finding {
    const char *check;
    enum cf__state state;
    char found[400];
    char advice[400]; /* what to do; "" where all is well */
};

/* What is known about one rank. */
struct cf__patient {
    char host[64];
    int host_index;
    Cf__Checkup *facts; /* NULL: it did not answer */
    Cf__Checkup *links; /* its second message; NULL: it did not answer */
};

struct cf__ward {
    struct cf__patient *patients; /* [n_ranks] */
    int n_ranks;
    const char *model; /* path, or NULL: no model was to be looked at */
    bool whole;        /* all bytes of the model were compared */
    bool broken;       /* the examination ended early ... */
    int culprit;       /* ... because of this rank (-1 not known) */
    const char *why;
};

/* One rule: fills f->state, found and advice for a rank that has facts. */
struct cf__rule {
    const char *check;
    void (*judge)(const struct cf__ward *w, int rank, struct cf__finding *f);
};
extern const struct cf__rule cf__doctor_rules[]; /* ends with a NULL check */
/* rules_place.c, rules_peers.c: for the table. */
void cf__judge_binding(const struct cf__ward *w, int rank, struct cf__finding *f);
void cf__judge_cores(const struct cf__ward *w, int rank, struct cf__finding *f);
void cf__judge_clock(const struct cf__ward *w, int rank, struct cf__finding *f);
void cf__judge_link(const struct cf__ward *w, int rank, struct cf__finding *f);

__attribute__((format(printf, 3, 4))) void cf__finding_say(
    struct cf__finding *f, enum cf__state state, const char *format, ...);
__attribute__((format(printf, 2, 3))) void cf__finding_advise(struct cf__finding *f, const char *format, ...);

/* Every finding of a rank that did not answer is this one. */
void cf__judge_silence(const struct cf__ward *w, int rank, struct cf__finding *f);

/* All findings of all ranks: [n_ranks][*n_checks], malloc'ed. */
struct cf__finding *cf__doctor_judge(const struct cf__ward *w, int *n_checks);

/* Every rank, collectively: looks at itself and at its links. On rank 0 the ward is filled; after a failure with what
 * came before it. */
struct cf__examination {
    const char *model;
    bool whole;
};
int cf__examine(struct cf_transport *t, const struct cf__examination *x, struct cf__ward *w, struct cf_error *e);
void cf__ward_free(struct cf__ward *w);

/* NULL if memory is short. Text: rows that are the same on several ranks are one line. */
char *cf__doctor_table(const struct cf__ward *w, const struct cf__finding *all, int n_checks, size_t *size);
char *cf__doctor_json(const struct cf__ward *w, const struct cf__finding *all, int n_checks);

#endif
