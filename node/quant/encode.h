/* f32 -> file blocks: the encoders behind `coffer synth` and `coffer quantize`. The reverse of cf_type.decode.
 */
#ifndef COFFER_NODE_QUANT_ENCODE_H
#define COFFER_NODE_QUANT_ENCODE_H

#include <stddef.h>
#include <stdint.h>

/* n elements (whole blocks) of type `type` (enum cf_type_id) from src to dst. Returns 0, or -1 if there is no encoder.
 */
int cf_encode(uint32_t type, const float *src, void *dst, size_t n);

/* The type that a mix ("q4_k_m", "iq3_xs": mix.h) gives a tensor of layer `layer` (-1: none) of n_layers, as
 * llama.cpp's tool does; plain type names give their own type for matrices and F32 for vectors. Returns the id, or
 * UINT32_MAX if unknown. */
uint32_t cf_mix_type(const char *mix, const char *tensor, int layer, int n_layers, uint32_t n_dims);

#endif
