/* See interrupt.h. */
#include "coordinator/cli/interrupt.h"

#include <signal.h>
#include <stddef.h>

/* A signal handler has no argument to find its state by: this is the one variable of the program outside of functions
 * that is not const, and why it may be. */
static volatile sig_atomic_t asked_to_stop;

static void on_signal(int number) {
    if (asked_to_stop && number != SIGUSR1) {
        signal(number, SIG_DFL);
        raise(number);
    }
    if (!asked_to_stop) asked_to_stop = number;
}

void cf_interrupt_install(bool under_front) {
    /* SA_RESTART: a model half read is no reason for an error message. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (under_front) sigaction(SIGUSR1, &action, NULL);
}

void cf_interrupt_clear(void) {
    if (asked_to_stop != SIGTERM) asked_to_stop = 0;
}

int cf_interrupted(void) {
    if (!asked_to_stop) return 0;
    return asked_to_stop == SIGTERM ? 143 : 130;
}
