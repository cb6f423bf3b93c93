/* The error contract of all rooms.
 *
 * A function that can fail returns 0 or -1 and fills the caller's struct cf_error: a stable code and a text that names
 * the file, tensor, rank or field at fault. Nobody but main() exits. The codes cross ranks inside the Error message, so
 * a number, once given, keeps its meaning.
 */
#ifndef COFFER_PROTO_ERROR_H
#define COFFER_PROTO_ERROR_H

enum cf_code {
    CF_OK = 0,
    CF_ERR_USAGE = 1,        /* the command line or a request is wrong; exit status 2 */
    CF_ERR_FILE = 2,         /* a file is missing, unreadable, unwritable or the disk is full */
    CF_ERR_FORMAT = 3,       /* a file or message does not have the form it must have */
    CF_ERR_UNSUPPORTED = 4,  /* well-formed, but not something this program can do */
    CF_ERR_MEMORY = 5,       /* memory is short, or does not lie where it must */
    CF_ERR_PLAN = 6,         /* a plan does not cover the model, or does not fit */
    CF_ERR_PEER = 7,         /* a rank disagrees, or sends what it must not */
    CF_ERR_NUMERIC = 8,      /* a non-finite value where none may be */
    CF_ERR_LIMIT = 9,        /* a bound (context, length, count) was exceeded */
    CF_ERR_INTERRUPTED = 10, /* the user asked to stop; exit status 130 */
    CF_ERR_SYSTEM = 11,      /* the operating system refused something else */
    CF_ERR_LOST = 12,        /* a rank is silent, dead or cannot be reached: the same run may succeed next time */
    CF_ERR_END               /* one more than the last */
};

struct cf_error {
    enum cf_code code;
    char text[1024];
};

/* Fills *e (if e is not NULL) and returns -1, so that `return cf_fail(...)` is one line. */
int cf_fail(struct cf_error *e, enum cf_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text already in *e; returns -1. */
int cf_fail_in(struct cf_error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The name of a code: "file", "format", ... Never NULL. */
const char *cf_code_name(enum cf_code code);

#endif
