/* Fuzz target: whatever a peer may send as a frame, through cf_frame_open and cf_wire_unpack, in a scratch as large as
 * the transport's. Seeds: corpus/wire. */
#include "proto/wire.h"

#include <stdlib.h>

enum { SCRATCH = 512 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char *memory = malloc(SCRATCH);
    if (!memory) return 0;
    struct cf_scratch s;
    struct cf_error e;
    const void *packed, *payload;
    size_t packed_bytes, payload_bytes;
    cf_scratch_init(&s, memory, SCRATCH);
    if (cf_frame_open(data, size, &packed, &packed_bytes, &payload, &payload_bytes, &e) == 0) {
        Cf__Envelope *env = cf_wire_unpack(&s, packed, packed_bytes, &e);
        // What was accepted can be packed again.
        if (env && cf_wire_body_bytes(env) > 0) {
            size_t n, most = cf_wire_body_bytes(env);
            unsigned char *again = malloc(most);
            if (again && cf_wire_pack_body(env, again, most, &n, &e) != 0) abort();
            free(again);
        }
    }
    free(memory);
    return 0;
}
