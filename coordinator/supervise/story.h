/* A journal read back after the death of its supervisor: how the run was called, and what was said (coffer resume).
 * Records are those of journal.h; README.md lists them.
 */
#ifndef COFFER_COORDINATOR_SUPERVISE_STORY_H
#define COFFER_COORDINATOR_SUPERVISE_STORY_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/error.h"

struct cf_story {
    char *directory; /* where the run was started */
    char **words;    /* [n_words], then NULL: its command line behind the program's name */
    int n_words;
    char *model;   /* what the first start said of its file; NULL: it did not come that far */
    char *input;   /* [n_input]: its stdin, where it read that to the end */
    char *shown;   /* [n_shown]: the text of answers that are whole (--prompts) */
    char *records; /* [n]: what ranks have to know, as cf_journal_add has made them */
    size_t n_input, n_shown, n;
    bool started; /* the call is there to its end */
    size_t whole; /* bytes of the file up to the end of its last whole record */
};

/* The text of a journal; path is for errors. A last record that was cut is left out. Freed by cf_story_free, also after
 * a failure. */
int cf_story_parse(struct cf_story *s, const char *bytes, size_t n, const char *path, struct cf_error *e);
/* The same from a file's beginning. */
int cf_story_read(struct cf_story *s, int fd, const char *path, struct cf_error *e);
void cf_story_free(struct cf_story *s); /* also of a zeroed one */

/* How many of the records[n] are left without a text that was not loaded to its end ("more" without "load"). */
size_t cf_story_without_rest(const char *records, size_t n);

#endif
