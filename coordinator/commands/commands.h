/* The table of commands. One file per command in this folder. */
#ifndef COFFER_COORDINATOR_COMMANDS_COMMANDS_H
#define COFFER_COORDINATOR_COMMANDS_COMMANDS_H

#include "coordinator/cli/options.h"

extern const struct cf_command cf_command_run, cf_command_chat, cf_command_bench, cf_command_plan, cf_command_fit,
    cf_command_simulate, cf_command_route, cf_command_inspect, cf_command_synth, cf_command_quantize,
    cf_command_tokenize, cf_command_perplexity, cf_command_embed, cf_command_doctor, cf_command_calibrate,
    cf_command_resume;

extern const struct cf_command *const cf_commands[]; /* ends with NULL */

#endif
