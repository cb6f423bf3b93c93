/* coffer resume: goes on with a run or a conversation whose supervisor has died. The journal says how it was called:
 * the program calls itself so once more, and the supervisor of that one begins with the journal.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/decode/launch.h"
#include "coordinator/supervise/story.h"
#include "transport/transport.h"

struct config {
    bool print;
};

static const struct cf_option options[] = {
    {"print", 0, CF_OPT_FLAG, offsetof(struct config, print), NULL, "say what would be called, and go on with nothing",
        0, 0, NULL},
    {0},
};

static int read_story(struct cf_story *s, const char *path, struct cf_error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    int rc = cf_story_read(s, fd, path, e);
    close(fd);
    if (rc) return -1;
    /* A journal can lie anywhere and come from anybody: it shall not make another command of this one. */
    if (strcmp(s->words[0], "run") != 0 && strcmp(s->words[0], "chat") != 0)
        return cf_fail(
            e, CF_ERR_FORMAT, "%s is the journal of \"%.40s\", not of coffer run or chat", path, s->words[0]);
    return 0;
}

/* As a shell reads it: in single quotes where it needs any. */
static void print_word(const char *word) {
    if (*word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=,:+@%")]) {
        fputs(word, stdout);
        return;
    }
    putchar('\'');
    for (; *word; word++)
        *word == '\'' ? (void)fputs("'\\''", stdout) : (void)putchar(*word);
    putchar('\'');
}

static void print_call(const struct cf_story *s, char **more) {
    fputs("cd ", stdout);
    print_word(s->directory ? s->directory : ".");
    fputs(" && coffer", stdout);
    for (int i = 0; i < s->n_words; i++)
        putchar(' '), print_word(s->words[i]);
    for (; *more; more++)
        putchar(' '), print_word(*more);
    putchar('\n');
}

static int call(const struct cf_story *s, const char *path, int n_more, char **more, struct cf_error *e) {
    char *own = realpath(path, NULL), **argv = calloc((size_t)(s->n_words + n_more) + 2, sizeof *argv);
    int rc = -1;
    if (!own || !argv) {
        cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    } else if (s->directory && chdir(s->directory)) {
        cf_fail(
            e, CF_ERR_FILE, "%s was started in %s, which cannot be entered: %s", path, s->directory, strerror(errno));
    } else {
        argv[0] = (char *)"coffer";
        memcpy(argv + 1, s->words, (size_t)s->n_words * sizeof *argv);
        memcpy(argv + 1 + s->n_words, more, (size_t)n_more * sizeof *argv);
        setenv(CF_LAUNCH_RESUMES, own, 1);
        execv("/proc/self/exe", argv);
        cf_fail(e, CF_ERR_SYSTEM, "cannot start this program again: %s", strerror(errno));
    }
    free(own);
    free(argv);
    return rc;
}

static int command(void *config, int argc, char **argv) {
    const struct config *c = config;
    struct cf_error e = {0};
    struct cf_story s = {0};
    int started;
    if (!argc)
        cf_fail(&e, CF_ERR_USAGE, "which journal? (see --help)");
    else if (!cf_transport_detect(&started, &e) && cf_transport_launched())
        cf_fail(&e, CF_ERR_USAGE, "this starts mpirun itself: not under mpirun or srun");
    int rc = e.code || read_story(&s, argv[0], &e) ? -1 : 0;
    if (!rc && c->print)
        print_call(&s, argv + 1);
    else if (!rc)
        rc = call(&s, argv[0], argc - 1, argv + 1, &e);
    cf_story_free(&s);
    return rc ? cf__command_failed(&cf_command_resume, &e) : 0;
}

const struct cf_command cf_command_resume = {
    .name = "resume",
    .synopsis = "JOURNAL [-- OPTION ...]",
    .summary = "go on with a supervised run or chat that has ended early",
    .text =
        "A supervised run (see coffer run, --supervise) survives the loss of ranks and hosts, but not that of the "
        "process "
        "that was started, of its host or of the terminal. Its journal does: a file in XDG_STATE_HOME/coffer (by "
        "default "
        "~/.local/state/coffer), or where --journal said. With it the run goes on: the same command line in the same "
        "directory, the same stdin where that was read to its end, and the same tokens as without the interruption, at "
        "any temperature. All text is printed from the beginning, answers that are there already at once; -o FILE is "
        "written anew. A conversation goes on behind the last line that was asked; what stdin holds now comes after "
        "it.\n\n"
        "OPTIONs behind -- are added to that command line, and win over what it said: other hosts, other ranks, "
        "another "
        "place of the model. They must not change what is computed.\n\n"
        "The journal goes when the run has ended well, unless --journal named it.",
    .example = "coffer resume ~/.local/state/coffer/20260101-120000-4711.journal\n"
               "coffer resume talk.journal -- --host a,b",
    .options = options,
    .config_size = sizeof(struct config),
    .run = command,
};
