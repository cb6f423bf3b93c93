/* Private to the commands: the options that say where and how a model runs, once for all commands that have them.
 * Values land in a struct cf_placement (decode/job.h); a command includes the rows with cf_command.shared. What a
 * command takes in a way of its own (how many ranks and threads, lists) stays a row of its own. */
#ifndef COFFER_COORDINATOR_COMMANDS_PLACEMENT_H
#define COFFER_COORDINATOR_COMMANDS_PLACEMENT_H

#include "coordinator/cli/options.h"
#include "coordinator/decode/job.h"

extern const struct cf_option cf__layout_options[]; /* one layout and the context: run, plan */
extern const struct cf_option cf__split_options[];  /* what else shapes a plan: run, plan, bench */
extern const struct cf_option cf__rank_options[];   /* what only ranks in earnest have: run, bench */

struct cf_placement cf__placement_defaults(void);

/* Are the words known? several: the layout may be a list of them. */
int cf__placement_check(struct cf_placement *p, bool several, struct cf_error *e);

/* Says why the command failed, in one process of all. Returns the exit status. */
int cf__command_failed(const struct cf_command *c, const struct cf_error *e);

#endif
