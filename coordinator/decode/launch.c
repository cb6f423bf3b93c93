/* See launch.h. */
#include "coordinator/decode/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/front.h"
#include "coordinator/cli/options.h"
#include "coordinator/decode/job.h"

/* Our own command line as the kernel keeps it, and `more` behind it: what the ranks get. Never freed: the process is
 * the front from now on. */
static char **own_arguments(const char *const *more, int *argc) {
    FILE *f = fopen("/proc/self/cmdline", "rb");
    size_t n = 0, n_more = 0, room = 1 << 21;
    char *all = malloc(room + 1);
    if (f && all) n = fread(all, 1, room, f);
    if (f) fclose(f);
    while (more && more[n_more])
        n_more++;
    char **argv = all ? calloc(n + n_more + 2, sizeof *argv) : NULL;
    *argc = 0;
    for (size_t i = 0; argv && i < n; i += strlen(all + i) + 1)
        all[n] = 0, argv[(*argc)++] = all + i;
    for (size_t i = 0; argv && i < n_more; i++) {
        argv[*argc] = strdup(more[i]);
        if (!argv[(*argc)++]) return NULL;
    }
    return argv;
}

int cf_launch(const struct cf_launch *l, struct cf_error *e) {
    int started = 1, ranks = (int)l->ranks;
    if (cf_terminal_role() == CF_TERMINAL_BEHIND_FRONT) return -1;
    if (cf_transport_detect(&started, e)) return 2;
    if (cf_transport_launched()) return -1;
    if (!ranks && cf_job_ranks_here(l->map, &ranks, e)) return cf_exit_status(e);
    if (ranks <= 1 && !l->text && !l->talk) return -1;
    struct cf_front_options o = {.ranks = ranks, .oversubscribe = true, .text = l->text, .ctx = l->ctx};
    o.talk = l->talk;
    o.direct = l->talk && ranks <= 1;
    o.argv = own_arguments(l->more, &o.argc);
    if (!o.argv) return cf_fail(e, CF_ERR_SYSTEM, "cannot read /proc/self/cmdline"), 1;
    int status = cf_front_launch(&o, e);
    return status < 0 ? 1 : status;
}
