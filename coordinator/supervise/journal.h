/* What the supervisor would need to go on after everybody else has died: an append-only list of records, in memory and
 * in a file. A record is a line: a word and what belongs to it (README.md lists them).
 *
 * A record is written before the text that follows from it is shown, and forced to the disk about once a second. Where
 * the file cannot be written (the disk is full) that is said, once, and the list goes on in memory: no record is lost
 * while this process lives. A file is locked as long as somebody writes it.
 */
#ifndef COFFER_COORDINATOR_SUPERVISE_JOURNAL_H
#define COFFER_COORDINATOR_SUPERVISE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct cf_story;

#define CF_JOURNAL_HEAD "coffer journal 2\n" /* how its file begins */

struct cf_journal {
    int fd; /* -1: there is no file, or none any more */
    char path[4096];
    bool named;       /* by the user: it stays whatever happens */
    bool holds_input; /* of the user's, which may be nowhere else any more */
    char *bytes;      /* [n]: records, each with its newline */
    size_t n, room;
    int64_t synced_ms;
};

/* path NULL: a new file in $XDG_STATE_HOME/coffer or ~/.local/state/coffer; if there is no such place, that is said and
 * there is no file. A path that the user names must not hold anything yet. Closed by cf_journal_close, also after a
 * failure. */
int cf_journal_open(struct cf_journal *j, const char *path, struct cf_error *e);
/* Goes on with the journal of a run whose supervisor has died: the file gives up what is behind its last whole record
 * and gets what is to come. named: as above. *s: what it has said; freed by the caller, also after a failure. */
int cf_journal_reopen(struct cf_journal *j, const char *path, bool named, struct cf_story *s, struct cf_error *e);
/* keep: of a file that the user did not name; it is named on stderr then. */
void cf_journal_close(struct cf_journal *j, bool keep);

/* One record, "word text[n]". text holds no newline. -1: no memory (and nothing was added). */
int cf_journal_add(struct cf_journal *j, const char *word, const char *text, size_t n);
/* The same for the file alone: what the ranks know without being told. A newline is written as \n, a backslash twice.
 */
void cf_journal_remark(struct cf_journal *j, const char *word, const char *text, size_t n);
/* A text that is not there to its end goes: the ranks begin anew, and will say it again. For the file that is said by
 * a record "start N". */
void cf_journal_start(struct cf_journal *j, int start);

#endif
