/* See commands.h. The order is that of --help and the manual. */
#include "coordinator/commands/commands.h"

#include <stddef.h>

const struct cf_command *const cf_commands[] = {
    &cf_command_run,
    &cf_command_chat,
    &cf_command_resume,
    &cf_command_perplexity,
    &cf_command_embed,
    &cf_command_bench,
    &cf_command_plan,
    &cf_command_fit,
    &cf_command_simulate,
    &cf_command_doctor,
    &cf_command_calibrate,
    &cf_command_route,
    &cf_command_inspect,
    &cf_command_synth,
    &cf_command_quantize,
    &cf_command_tokenize,
    NULL,
};
