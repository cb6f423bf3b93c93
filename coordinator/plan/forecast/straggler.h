/* Which rank is slower than it should be: one that shares its machine with somebody, is throttled or has bad memory
 * makes all the others of its group wait, and their figures look bad while its own look busy.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_STRAGGLER_H
#define COFFER_COORDINATOR_PLAN_FORECAST_STRAGGLER_H

#include <stdint.h>

/* predicted, measured: [n] seconds that each rank worked. The rank that took longest in proportion, and *ratio, how
 * many times as long as predicted; -1 if none stands out: at least twice, half as long again as the middle one of the
 * others, and by a twentieth of a second. A rank that was predicted to do nothing is none. */
int cf_straggler(const double *predicted, const double *measured, uint32_t n, double *ratio);

#endif
