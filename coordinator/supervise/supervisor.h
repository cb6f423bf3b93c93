/* Keeps an answer going when ranks, mpirun or hosts are lost. It lives in the front process (cli/front.h), which loads
 * no model and calls no MPI, listens to what rank 0 says of its work, and decides after each end whether to start
 * again, on which hosts, and with what. The room's README.md tells the whole story.
 *
 * Starts and reads nothing itself: front.c does, and asks here.
 */
#ifndef COFFER_COORDINATOR_SUPERVISE_SUPERVISOR_H
#define COFFER_COORDINATOR_SUPERVISE_SUPERVISOR_H

#include <sys/types.h>

#include "coordinator/supervise/hosts.h"
#include "coordinator/supervise/journal.h"

#define CF_SILENCE_DEFAULT 10 /* seconds without a sign of life under a supervisor, where --timeout does not say */

struct cf_supervision {
    int64_t max_restarts;
    const char *journal; /* path, NULL: default */
    const char *resumed; /* path of the journal of a run whose supervisor has died, or NULL */
    double timeout;      /* seconds that ranks may be silent */
    struct cf_hosts *hosts;
    int ranks;   /* to start with */
    bool chosen; /* the user said how many; else one per slot */
    bool whole;  /* text counts once rank 0 says that a piece is whole: "answered", "whole" */
    bool asks;   /* rank 0 asks for lines: a conversation */
};

struct cf_supervisor;

/* Freed by cf_supervisor_close; o must outlive it. */
int cf_supervisor_open(struct cf_supervisor **out, const struct cf_supervision *o, struct cf_error *e);
/* What the resumed run had said; empty if there is none. Lives as long as the supervisor. */
struct cf_story *cf_supervisor_story(struct cf_supervisor *s);
/* status: that of the program. The journal stays after a failure, or an end that nobody at the terminal asked for
 * (SIGTERM, SIGHUP), if there is anything to go on with. */
void cf_supervisor_close(struct cf_supervisor *s, int status);
struct cf_journal *cf_supervisor_journal(struct cf_supervisor *s);

/* ---- one start ---- */

/* mpirun is about to be started. How many ranks, and the words behind mpirun's options (ends with NULL), valid until
 * the next call. */
int cf_supervisor_begin(struct cf_supervisor *s, const char *const **words);

/* An event of rank 0 that the front does not know. */
void cf_supervisor_event(void *ctx, const char *word, const char *text);

/* n bytes of rank 0's text: what of it is new stays at the beginning of bytes. Returns how much. */
size_t cf_supervisor_text(struct cf_supervisor *s, char *bytes, size_t n);
/* Text that has become whole: at most size bytes. */
size_t cf_supervisor_whole(struct cf_supervisor *s, char *bytes, size_t size);

/* The user's line goes to the ranks. -1: no memory. */
int cf_supervisor_line(struct cf_supervisor *s, const char *line, size_t n);

/* Looks for the number that mpirun has given its job, until it is known: without it nobody can tidy up behind it. */
void cf_supervisor_look(struct cf_supervisor *s, pid_t launcher);

/* Something has come from rank 0. */
void cf_supervisor_heard(struct cf_supervisor *s);
/* Milliseconds until the silence must be looked at, -1: never. */
int cf_supervisor_wait(const struct cf_supervisor *s);
/* Has rank 0 been silent for too long, or a host been lost before it could speak? Said by cf_supervisor_again. */
bool cf_supervisor_silent(struct cf_supervisor *s);
/* Rank 0 has said that a rank is lost: its own end is only a matter of time. */
bool cf_supervisor_failed(const struct cf_supervisor *s);

/* The ranks are asked to stop behind the token in hand, because of a signal other than Ctrl-C. */
void cf_supervisor_drain(struct cf_supervisor *s, int status);

/* How a start has ended. */
struct cf_supervised_end {
    bool has_status;  /* rank 0 reported an exit status */
    bool died;        /* by a signal, or mpirun says that something else did */
    bool unstarted;   /* mpirun could not start its daemons */
    bool interrupted; /* the user has asked for the end of the answer */
    const char *why;  /* in a few words, or "" */
};

/* Tidies up behind the starts that have failed; the last one has if `failed`, and this was its mpirun. */
void cf_supervisor_tidy(struct cf_supervisor *s, bool failed, pid_t launcher);

/* True: start again, which has been said. False: it is over; if that is because of a failure, it
 * has been said that it was the last. */
bool cf_supervisor_again(struct cf_supervisor *s, const struct cf_supervised_end *end);
/* Milliseconds to wait before it: longer and longer while starts bring nothing, as when a switch comes up anew. */
int cf_supervisor_pause(const struct cf_supervisor *s);

#endif
