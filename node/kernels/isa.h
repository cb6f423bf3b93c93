/* What the sources of one instruction set share: functions that are specialised by inlining, and names that end with
 * the instruction set. A source that uses NAME defines ISA first.
 */
#ifndef COFFER_NODE_KERNELS_ISA_H
#define COFFER_NODE_KERNELS_ISA_H

#define INLINE static inline __attribute__((always_inline))
#define NAME__PASTE(function, isa) cf__##function##_##isa
#define NAME__EXPAND(function, isa) NAME__PASTE(function, isa)
#define NAME(function) NAME__EXPAND(function, ISA)

#endif
