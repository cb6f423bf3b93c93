/* How the numbers of an activation are written on their way: Activation.dtype of proto/coffer.proto.
 *
 * A payload is a number of lines of equally many columns. Nothing of one line depends on another one.
 *
 *     f32  [columns] f32
 *     f16  [columns] IEEE half precision
 *     q8   [blocks] f32 scales, then [columns] int8: number = scale of its block x int8; a block is 32 columns, the
 *          last one of a line may be shorter
 *
 * all little endian, each line filled up with zeros to a multiple of 4 bytes. Who makes them: node/engine/wire.h.
 */
#ifndef COFFER_TRANSPORT_PAYLOAD_H
#define COFFER_TRANSPORT_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

enum cf_dtype { CF_DTYPE_F32, CF_DTYPE_F16, CF_DTYPE_Q8, CF_DTYPES };
enum { CF_DTYPE_BLOCK = 32 };

/* "f32", "f16", "q8"; "?" for what is no dtype. */
const char *cf_dtype_name(uint32_t dtype);
/* -1: unknown. */
int cf_dtype_by_name(const char *name);

/* Bytes of so many lines. */
size_t cf_payload_bytes(enum cf_dtype dtype, size_t lines, uint32_t columns);

#endif
