/* Where the threads of a measurement run. */
#ifndef COFFER_TESTS_BANDWIDTH_PIN_H
#define COFFER_TESTS_BANDWIDTH_PIN_H

#include <sched.h>

/* Pins the calling thread to the nth of the CPUs that it may use. */
static inline void cf_pin_to_nth_cpu(int n) {
    cpu_set_t all, one;
    int cpu = 0;
    sched_getaffinity(0, sizeof all, &all);
    while (cpu < CPU_SETSIZE && !(CPU_ISSET((size_t)cpu, &all) && n-- == 0))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one); /* none where there are fewer, and the next call fails */
    sched_setaffinity(0, sizeof one, &one);
}

#endif
