/* coffer doctor: would a run on these ranks be as it should be? Starts ranks as `coffer run` does, has every one look
 * at itself (examine.c), judges what they found (rules.c), and says what to do. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/terminal.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/supervision.h"
#include "coordinator/commands/doctor/doctor.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/decode/launch.h"

enum { MPI_SECONDS = 5 }; /* that starting MPI may take on busy hosts */

struct config {
    const char *model;
    int64_t ranks;
    double timeout;
    bool json, whole;
    struct cf_watch watch; /* hosts */
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.timeout = 20, .watch = cf__watch_never()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE", "also: is this file there on every host, and the same?", 0, 0,
        NULL},
    {"whole", 0, CF_OPT_FLAG, AT(whole), NULL,
        "with -m: compare all bytes of the files, not size, header and 4 MiB of samples", 0, 0, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", CF__RANKS_HELP, 0, 1024, NULL},
    {"timeout", 0, CF_OPT_REAL, AT(timeout), "S",
        "seconds without a sign of life after which a rank counts as dead (default 20)", 0.5, 1e6, NULL},
    {"json", 0, CF_OPT_FLAG, AT(json), NULL, "print one JSON object instead of the table", 0, 0, NULL},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__host_options, AT(watch)}, {0}};

/* Returns the exit status. */
static int print(const struct config *c, const struct cf__ward *w, struct cf_terminal *terminal, struct cf_error *e) {
    int n_checks = 0, status = 0;
    size_t size = 0;
    struct cf__finding *all = cf__doctor_judge(w, &n_checks);
    char *text = !all ? NULL : c->json ? cf__doctor_json(w, all, n_checks) : cf__doctor_table(w, all, n_checks, &size);
    for (int i = 0; all && i < w->n_ranks * n_checks; i++)
        if (all[i].check && all[i].state == CF__STATE_FAIL) status = 1;
    if (!text)
        status = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    else if (cf_terminal_text(terminal, text, strlen(text), e) || (c->json && cf_terminal_text(terminal, "\n", 1, e)))
        status = -1;
    free(text);
    free(all);
    return status < 0 ? cf_exit_status(e) : status;
}

/* MPI waits for ever for a rank that does not come, and cannot say which one it is. So a watchdog ends the process: the
 * launcher then ends the others. */
static void nobody_came(int signal_number) {
    (void)signal_number;
    static const char text[] =
        "coffer doctor: not all ranks came within the time limit: does every host answer, and does no file system hang "
        "there?\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(1);
    _exit(1);
}

/* seconds 0: no longer. The others speak only if rank 0 does not. */
static void watch_meeting(double seconds) {
    struct sigaction action = {.sa_handler = seconds > 0 ? nobody_came : SIG_DFL};
    if (seconds <= 0) alarm(0);
    sigaction(SIGALRM, &action, NULL);
    if (seconds > 0) alarm((unsigned)ceil(seconds) + (cf_terminal_speaks() ? 0 : 3));
}

/* On every rank. Returns the exit status. */
static int visit(const struct config *c, struct cf_terminal *terminal) {
    struct cf_error e = {0}, why = {0};
    struct cf_transport *t = NULL;
    struct cf_transport_options o = {.timeout = c->timeout, .tolerant = true};
    struct cf__ward w = {.model = c->model, .whole = c->whole, .culprit = -1};
    watch_meeting(c->timeout + MPI_SECONDS);
    int opened = cf_transport_open(&t, &o, &e);
    watch_meeting(0);
    if (opened) {
        cf_terminal_note(terminal, "coffer doctor: %s", e.text);
        cf_terminal_status(terminal, cf_exit_status(&e));
        return cf_exit_status(&e);
    }
    terminal->is_rank0 = cf_transport_rank(t) == 0;
    int status = 0, rc = cf__examine(t, &(struct cf__examination){c->model, c->whole}, &w, &why);
    if (rc) {
        cf_transport_fail(t, &why);
        w.broken = true, w.why = why.text;
        w.culprit = cf_transport_suspect(t);
        terminal->is_rank0 = cf_transport_spokesman(t) == cf_transport_rank(t);
        cf_terminal_note(terminal, "coffer doctor: %s", why.text);
        status = 1;
    }
    if (cf_transport_rank(t) == 0 && w.patients) {
        int printed = print(c, &w, terminal, &e);
        if (printed) status = printed;
        if (e.code) cf_terminal_note(terminal, "coffer doctor: %s", e.text);
    }
    cf_terminal_status(terminal, status);
    cf__ward_free(&w);
    cf_transport_close(t, !rc);
    return status;
}

static int command(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_terminal terminal;
    struct cf_error e = {0};
    if (argc > 0) cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s", argv[0]);
    if (c->whole && !c->model) cf_fail(&e, CF_ERR_USAGE, "--whole is about a model: -m FILE");
    if (e.code) return cf__command_failed(&cf_command_doctor, &e);
    int status = cf_launch(&(struct cf_launch){.ranks = c->ranks, .watch = &c->watch}, &e);
    if (status >= 0) {
        if (e.code) cf__command_failed(&cf_command_doctor, &e);
        return status;
    }
    cf_terminal_open(&terminal, cf_terminal_role(), cf_terminal_speaks());
    return visit(c, &terminal);
}

const struct cf_command cf_command_doctor = {
    .name = "doctor",
    .synopsis = "[-m FILE] [--ranks N] [--json]",
    .summary = "check hosts, ranks and links before a run, and say what to do",
    .text =
        "Starts ranks as coffer run does (by itself, or under mpirun or srun), and has every one of them look at "
        "itself: "
        "versions, the cores it is bound to and who else uses them (it computes on them while all others do), clock "
        "governor, memory and cgroup limits, whether the kernel lets it place memory (mbind and move_pages are tried: "
        "containers often forbid them), NUMA balancing, huge pages, locked memory, /dev/shm, with -m the model file, "
        "and "
        "then its clock and its links to the others. A rank that lacks something is reported; the others are not kept "
        "waiting.\n\n"
        "States: ok; warn, coffer runs, but slower or with less than there is; FAIL, a run would not start or would "
        "give "
        "up. Exit status: 0 without failures (warnings allowed), 1 with one, 2 usage.",
    .example = "coffer doctor\n"
               "coffer doctor -m model.gguf --ranks 2\n"
               "mpirun --hostfile hosts --bind-to none coffer doctor -m model.gguf --json",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
