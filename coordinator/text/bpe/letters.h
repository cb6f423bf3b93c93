/* The letters that stand for bytes in byte-level BPE, so that every token is a printable text (Radford et al. 2019;
 * https://github.com/openai/gpt-2/blob/master/src/encoder.py). Private to coordinator/text.
 */
#ifndef COFFER_COORDINATOR_TEXT_BPE_LETTERS_H
#define COFFER_COORDINATOR_TEXT_BPE_LETTERS_H

#include <stddef.h>

/* Printable bytes stand for themselves. The others, in ascending order, are U+0100 onwards: 00 to 20, 7F to A0, AD. */
static inline unsigned cf__letter_of(unsigned byte) {
    if (byte <= 0x20) return 0x100 + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 0x121 + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

/* -1: no letter. */
static inline int cf__byte_of(unsigned letter) {
    if (letter >= 0x100 && letter <= 0x120) return (int)letter - 0x100;
    if (letter >= 0x121 && letter <= 0x142) return (int)letter - 0x121 + 0x7f;
    if (letter == 0x143) return 0xad;
    return letter < 0x100 && cf__letter_of(letter) == letter ? (int)letter : -1;
}

/* The letter of a byte as UTF-8, one or two bytes: all letters are below U+0800. */
static inline size_t cf__put_letter(unsigned byte, char out[2]) {
    unsigned letter = cf__letter_of(byte);
    if (letter < 0x80) return out[0] = (char)letter, 1;
    out[0] = (char)(0xc0 | letter >> 6);
    out[1] = (char)(0x80 | (letter & 0x3f));
    return 2;
}

#endif
