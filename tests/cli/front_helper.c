/* Plays both parts of a self-launched run without a model: without COFFER_FRONT it is the front process, with it a
 * rank. The part is argv[1]; ranks write their process numbers into the folder $FRONT_TEST_DIR.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/front.h"
#include "coordinator/cli/interrupt.h"
#include "coordinator/cli/terminal.h"

struct rank {
    struct cf_terminal t;
    int number, argc;
    char **argv;
};

static void say(struct rank *r, const char *text) {
    struct cf_error e;
    if (cf_terminal_text(&r->t, text, strlen(text), &e)) _exit(9);
}

static int text(struct rank *r) {
    for (int i = 2; i < r->argc; i++) {
        say(r, r->argv[i]);
        say(r, "\n");
    }
    return 0;
}

/* Copies stdin: any bytes, and that stdin arrives at all. */
static int copy(struct rank *r) {
    static char bytes[65536];
    struct cf_error e;
    size_t n;
    while (r->number == 0 && (n = fread(bytes, 1, sizeof bytes, stdin)) > 0)
        if (cf_terminal_text(&r->t, bytes, n, &e)) return 9;
    return 0;
}

static int events(struct rank *r) {
    fputs("half a line", stderr);
    cf_terminal_progress(&r->t, 0, "loading");
    cf_terminal_progress(&r->t, 0.5, "loading");
    cf_terminal_progress(&r->t, 1, "loading");
    cf_terminal_note(&r->t,
        "a note of rank %d\nwith a \x1e"
        "status 9",
        r->number);
    fputs("a plain line\n", stderr);
    say(r, "text\n");
    return 0;
}

static int status(struct rank *r) {
    return atoi(r->argv[2]);
}

/* Text until asked to stop, then some more. */
static int until_interrupted(struct rank *r) {
    int i = 0;
    do {
        if (i++ % 10 == 0) say(r, "tick\n");
        usleep(10000);
    } while (!cf_interrupted());
    say(r, "last words\n");
    return cf_interrupted();
}

/* Deaf to everything that can be caught. */
_Noreturn static int deaf(struct rank *r) {
    signal(SIGUSR1, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    say(r, "deaf\n");
    for (;;) {
        sleep(1);
        say(r, "tick\n");
    }
}

_Noreturn static int die(struct rank *r) {
    if (r->number == atoi(r->argv[2])) raise(SIGKILL);
    for (;;)
        sleep(1);
}

_Noreturn static int endless(struct rank *r) {
    for (;;)
        say(r, "yes yes yes yes\n");
}

_Noreturn static int quiet(struct rank *r) {
    (void)r;
    for (;;)
        sleep(1);
}

static const struct part {
    const char *name;
    int (*play)(struct rank *r);
} parts[] = {{"text", text}, {"copy", copy}, {"events", events}, {"status", status}, {"die", die}, {"deaf", deaf},
    {"endless", endless}, {"quiet", quiet}, {"until-interrupted", until_interrupted}};

static void leave_trace(int number) {
    char path[512];
    snprintf(path, sizeof path, "%s/rank%d.pid", getenv("FRONT_TEST_DIR"), number);
    FILE *f = fopen(path, "w");
    if (!f) return;
    fprintf(f, "%d\n", (int)getpid());
    fclose(f);
}

static int be_rank(int argc, char **argv) {
    struct rank r = {.number = cf_terminal_env_rank(), .argc = argc, .argv = argv};
    cf_interrupt_install(true);
    if (getenv("FRONT_TEST_DIR")) leave_trace(r.number);
    cf_terminal_open(&r.t, cf_terminal_role(), r.number == 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(parts[i].name, argv[1]) != 0) continue;
        int result = parts[i].play(&r);
        cf_terminal_status(&r.t, result);
        /* mpirun kills all at the first non-zero exit status: it must not come before rank 0 has said its last words.
         */
        return r.number ? 0 : result;
    }
    return 99;
}

int main(int argc, char **argv) {
    if (argc < 2) return 99;
    if (cf_terminal_role() == CF_TERMINAL_BEHIND_FRONT) return be_rank(argc, argv);
    struct cf_error e;
    struct cf_front_options o = {.ranks = 2, .argc = argc, .argv = argv, .oversubscribe = true};
    int result = cf_front_launch(&o, &e);
    if (result >= 0) return result;
    fprintf(stderr, "front_helper: %s\n", e.text);
    return 1;
}
