/* See supervision.h. */
#include "coordinator/commands/shared/supervision.h"

#define AT(field) offsetof(struct cf_watch, field)

const struct cf_option cf__host_options[] = {
    {"hostfile", 0, CF_OPT_STRING, AT(hostfile), "FILE",
        "hosts for mpirun: a name and slots=N a line; without --ranks one rank per slot", 0, 0, "machinefile"},
    {"host", 'H', CF_OPT_STRING, AT(host), "LIST", "the same as a list: a:2,b:1", 0, 0, NULL},
    {0},
};

const struct cf_option cf__watch_options[] = {
    {"supervise", 0, CF_OPT_FLAG, AT(always), NULL,
        "go on after the loss of ranks, of mpirun or of hosts, with the same tokens (default where coffer starts "
        "mpirun "
        "itself)",
        0, 0, NULL},
    {"no-supervise", 0, CF_OPT_FLAG, AT(never), NULL, "end with the first of them", 0, 0, NULL},
    {"max-restarts", 0, CF_OPT_INT, AT(max_restarts), "N", "give up after so many losses (default 5)", 0, 1e6, NULL},
    {"journal", 0, CF_OPT_STRING, AT(journal), "FILE",
        "where the supervisor keeps its journal; it stays there (default a file in XDG_STATE_HOME/coffer, which goes "
        "when "
        "all is well)",
        0, 0, NULL},
    {0},
};

struct cf_watch cf__watch_defaults(void) {
    return (struct cf_watch){.max_restarts = 5};
}

struct cf_watch cf__watch_never(void) {
    return (struct cf_watch){.never = true};
}
