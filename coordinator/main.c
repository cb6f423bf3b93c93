/* coffer: language models over NUMA nodes and hosts. Each command is a row of the table below. */
#include "coordinator/commands/commands.h"

int main(int argc, char **argv) {
    return cf_commands_main(cf_commands, argc, argv);
}
