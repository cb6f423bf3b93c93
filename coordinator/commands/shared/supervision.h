/* Private to the commands: the options that say who watches over a run and on which hosts it runs, once for all
 * commands whose runs can be supervised (coordinator/supervise). Values land in a struct cf_watch (decode/launch.h). */
#ifndef COFFER_COORDINATOR_COMMANDS_SUPERVISION_H
#define COFFER_COORDINATOR_COMMANDS_SUPERVISION_H

#include "coordinator/cli/options.h"
#include "coordinator/decode/launch.h"

extern const struct cf_option cf__watch_options[]; /* offsets count from struct cf_watch */

struct cf_watch cf__watch_defaults(void);

#endif
