/* The first Ctrl-C asks the run to end after the token in hand; the second kills.
 *
 * Behind the front process the first Ctrl-C arrives as SIGUSR1 (mpirun forwards that one to every rank and stays
 * alive); under a user's own mpirun it arrives as SIGTERM, a second or so before SIGKILL. Every rank must install this:
 * the default action of SIGUSR1 kills.
 */
#ifndef COFFER_COORDINATOR_CLI_INTERRUPT_H
#define COFFER_COORDINATOR_CLI_INTERRUPT_H

#include <stdbool.h>

void cf_interrupt_install(bool under_front);

/* 0, or the exit status that the request to stop asks for: 130 (SIGINT, SIGUSR1) or 143 (SIGTERM). */
int cf_interrupted(void);

/* The request has been met and the program goes on (chat: the answer has stopped). One to end the program (SIGTERM)
 * stays. */
void cf_interrupt_clear(void);

#endif
