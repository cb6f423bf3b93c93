/* coffer calibrate: what these ranks, their nodes, links and file systems can do, measured in earnest. Starts ranks as
 * `coffer run` does, brings up a job without a plan (cf_job_options.instead), and prints what they found (survey.c,
 * print.c). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/commands/calibrate/calibrate.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/supervision.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/shared/on_ranks.h"
#include "coordinator/commands/shared/placement.h"

struct config {
    const char *model, *isa, *map, *describe;
    int64_t ranks, threads;
    double seconds, timeout;
    bool json;
    struct cf_watch watch; /* hosts */
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.seconds = 0.1, .timeout = 60, .watch = cf__watch_never()};
}

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"model", 'm', CF_OPT_STRING, AT(model), "FILE",
        "also: how fast each host reads this file past its page cache (at most 512 MiB of it); attention is measured "
        "with this model's heads (default: those of the model that other commands take)",
        0, 0, NULL},
    {"isa", 0, CF_OPT_STRING, AT(isa), "all",
        "kernels of every instruction set that this machine can run, not only those that a run takes", 0, 0, NULL},
    {"seconds", 0, CF_OPT_REAL, AT(seconds), "S", "for each rate of a kernel (default 0.1)", 0.001, 60, NULL},
    {"ranks", 0, CF_OPT_INT, AT(ranks), "N", CF__RANKS_HELP, 0, 1024, NULL},
    {"map", 0, CF_OPT_STRING, AT(map), "LIST", "without mpirun: one rank for each NUMA node that is named, as for run",
        0, 0, NULL},
    {"threads", 't', CF_OPT_INT, AT(threads), "N", "threads per rank (default its share of physical cores)", 0, 4096,
        NULL},
    {"timeout", 0, CF_OPT_REAL, AT(timeout), "S",
        "seconds without a sign of life after which a rank counts as dead (default 60)", 0.5, 1e6, NULL},
    {"json", 0, CF_OPT_FLAG, AT(json), NULL, "print one JSON object instead of the tables", 0, 0, NULL},
    {"describe", 0, CF_OPT_STRING, AT(describe), "FILE",
        "also write these hosts, where rank 0 runs, as a file that --cluster of plan, fit and simulate reads", 0, 0,
        NULL},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__host_options, AT(watch)}, {0}};

static int nothing(struct cf_job *j, void *ctx, struct cf_error *e) { /* cf__survey has done all */
    (void)j;
    (void)ctx;
    (void)e;
    return 0;
}

/* On rank 0, before anything is measured: a folder that is not there is said at once. What the file holds stays until
 * there is something better. */
static int open_description(void *ctx, struct cf_error *e) {
    struct cf__calibrate *k = ctx;
    if (!k->describe) return 0;
    k->description = fopen(k->describe, "ae");
    return k->description ? 0 : cf_fail(e, CF_ERR_FILE, "--describe: %s: %s", k->describe, strerror(errno));
}

static int command(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    struct cf_terminal terminal;
    struct cf_placement place = cf__placement_defaults();
    struct cf__calibrate k = {.disk = c->model != NULL,
        .all_tables = c->isa != NULL,
        .seconds = c->seconds,
        .json = c->json,
        .describe = c->describe,
        .terminal = &terminal};
    char path[CF__MODEL_PATH];
    place.timeout = c->timeout, place.map = c->map;
    if (argc) cf_fail(&e, CF_ERR_USAGE, "unexpected argument %s (see --help)", argv[0]);
    if (!e.code && c->isa && strcmp(c->isa, "all"))
        cf_fail(&e, CF_ERR_USAGE, "--isa %.60s is unknown; known: all (COFFER_ISA chooses the one that a run takes)",
            c->isa);
    if (e.code || cf__placement_check(&place, false, &e) || cf__default_model(&c->model, path, &e))
        return cf__command_failed(&cf_command_calibrate, &e);
    k.model = c->model;
    int status = cf__on_ranks(&(struct cf__on_ranks){.command = &cf_command_calibrate,
        .launch = {.ranks = c->ranks, .map = c->map, .watch = &c->watch},
        .job = {.model = c->model, .place = place, .n_seqs = 1, .n_want = 1, .instead = cf__survey},
        .threads = c->threads,
        .terminal = &terminal,
        .read = open_description,
        .work = nothing,
        .ctx = &k,
        .status = &k.status});
    struct stat now;
    if (k.description && !fstat(fileno(k.description), &now) && !now.st_size) unlink(c->describe); /* nothing came */
    if (k.description) fclose(k.description); /* it has been flushed */
    return status;
}

const struct cf_command cf_command_calibrate = {
    .name = "calibrate",
    .synopsis = "[-m FILE] [--isa all] [--ranks N] [-t N] [--json] [--describe FILE]",
    .summary = "measure memory, kernels, links and file systems of these ranks in earnest",
    .text =
        "Starts ranks as coffer run does (by itself, or under mpirun or srun) and measures what the planner wants to "
        "know, with more time for it than a run has; nothing is loaded. Of every rank: the bandwidth with which its "
        "threads read its node (all ranks together, the best of five passes through up to 2 GiB), of ranks that share "
        "a memory (several on a node, or containers of one machine) how many times as fast the first one reads alone, "
        "how unevenly they get on, how long they need to meet, the rate of the kernels for every type of weights (with "
        "many rows, with eight, and with one), of attention and of what lies between products, free memory, huge "
        "pages. Of every pair of ranks (beyond 16 ranks: "
        "of every pair of hosts, and of two ranks of a "
        "host): seconds that messages of three sizes take one way, one pair after the other. With -m, of every host: "
        "how fast its first rank reads the file, past the page cache.\n\n"
        "Rates are multiplications with addition (between products: floats) per second of all threads of a rank, in "
        "cache. What was found takes "
        "the place of what each host kept of its kernels (~/.cache/coffer, see COFFER_CALIBRATION), which later starts "
        "only glance at.",
    .example = "coffer calibrate\n"
               "coffer calibrate -m model.gguf --isa all --json\n"
               "coffer calibrate --host a:2,b:2 --describe cluster.json\n"
               "mpirun --hostfile hosts --bind-to none coffer calibrate -m model.gguf",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = command,
};
