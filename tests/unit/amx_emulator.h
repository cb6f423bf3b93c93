/* AMX tile instructions on a processor without AMX: they raise SIGILL, and this handler does what they would have done.
 *
 * So product_amx.c is tested as it was compiled, on any x86-64 Linux with AVX-512. Knows what that file uses:
 * LDTILECFG, STTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILESTORED and the four int8 products, as the Intel SDM
 * (volume 2) defines them; anything else, or what would fault there (a register not configured, shapes that do not
 * match), dies of SIGILL. It says nothing about speed, and it is our reading of the manual, not the processor.
 */
#ifndef COFFER_TESTS_UNIT_AMX_EMULATOR_H
#define COFFER_TESTS_UNIT_AMX_EMULATOR_H

#if defined(__x86_64__) && defined(__linux__)
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
struct amx_state {
    struct amx_config config;
    uint8_t tile[8][16][64];
    uint64_t executed; /* instructions */
};
static _Thread_local struct amx_state amx;

static bool amx_configured(unsigned tile) {
    return amx.config.palette == 1 && tile < 8 && amx.config.rows[tile] && amx.config.row_bytes[tile] % 4 == 0;
}

static bool amx_load_config(const void *from) {
    struct amx_config c;
    memcpy(&c, from, sizeof c);
    static const uint8_t zeros[16];
    if (c.palette > 1 || memcmp(c.reserved, zeros, sizeof c.reserved) != 0 || c.start_row) return false;
    for (int i = 0; i < 16; i++)
        if (c.rows[i] > 16 || c.row_bytes[i] > 64 || !c.rows[i] != !c.row_bytes[i] || (i > 7 && c.rows[i]))
            return false;
    memset(&amx.tile, 0, sizeof amx.tile);
    amx.config = c;
    if (!c.palette) memset(&amx.config, 0, sizeof amx.config);
    return true;
}

/* c += a x b, dwords of 4 bytes each; signs: bit 1 for a, bit 0 for b. */
static bool amx_multiply(unsigned c, unsigned a, unsigned b, unsigned signs) {
    const struct amx_config *f = &amx.config;
    if (!amx_configured(a) || !amx_configured(b) || !amx_configured(c) || a == b || a == c || b == c) return false;
    if (f->rows[c] != f->rows[a] || f->row_bytes[c] != f->row_bytes[b] || f->row_bytes[a] / 4 != f->rows[b])
        return false;
    for (unsigned m = 0; m < f->rows[c]; m++) {
        for (unsigned n = 0; n < f->row_bytes[c] / 4u; n++) {
            uint32_t sum;
            memcpy(&sum, amx.tile[c][m] + 4 * n, 4);
            for (unsigned k = 0; k < f->row_bytes[a]; k++) {
                uint8_t x = amx.tile[a][m][k], y = amx.tile[b][k / 4][4 * n + k % 4];
                sum += (uint32_t)((signs & 2 ? (int8_t)x : (int)x) * (signs & 1 ? (int8_t)y : (int)y));
            }
            memcpy(amx.tile[c][m] + 4 * n, &sum, 4);
        }
    }
    return true;
}

struct amx_operand {
    uint64_t base, index; /* index is scaled: the stride of a tile */
    bool sib;
    unsigned length; /* ModRM, SIB and displacement */
};

/* The memory operand whose ModRM byte is at p; next: where the instruction would end if it had no such bytes. */
static struct amx_operand amx_operand_at(const uint8_t *p, bool x, bool b, const greg_t *g) {
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8,
        REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    struct amx_operand o = {.length = 1};
    unsigned mod = p[0] >> 6, rm = p[0] & 7u;
    bool absolute = mod == 0 && rm == 5;
    if (rm == 4) {
        unsigned base = p[1] & 7u, index = (p[1] >> 3 & 7u) | (x ? 8u : 0);
        o.sib = true, o.length = 2;
        absolute = mod == 0 && base == 5;
        if (!absolute) o.base = (uint64_t)g[order[base | (b ? 8u : 0)]];
        if (index != 4) o.index = (uint64_t)g[order[index]] << (p[1] >> 6);
    } else if (!absolute) {
        o.base = (uint64_t)g[order[rm | (b ? 8u : 0)]];
    }
    if (mod == 1) {
        o.base += (uint64_t)(int64_t)(int8_t)p[o.length];
        o.length += 1;
    } else if (mod == 2 || absolute) {
        int32_t far;
        memcpy(&far, p + o.length, 4);
        o.base += (uint64_t)(int64_t)far;
        o.length += 4;
    }
    if (absolute && !o.sib) o.base += (uint64_t)(uintptr_t)p + o.length; /* from the end of the instruction */
    return o;
}

/* Runs the instruction at p; its length, or 0 if it is none of ours. */
static unsigned amx_execute(const uint8_t *p, const greg_t *g) {
    if (p[0] != 0xc4 || (p[1] & 0x1f) != 2 || (p[2] & 0x84)) return 0; /* VEX, map 2, W0, 128 bits */
    bool x = !(p[1] & 0x40), b = !(p[1] & 0x20), memory = p[4] < 0xc0;
    unsigned prefix = p[2] & 3u, third = ~(unsigned)p[2] >> 3 & 15u, reg = p[4] >> 3 & 7u, rm = p[4] & 7u;
    struct amx_operand o = {.length = 1};
    if (memory) o = amx_operand_at(p + 4, x, b, g);
    union {
        uint64_t number;
        uint8_t *to;
    } at = {.number = o.base};
    bool done = false;
    if (p[3] == 0x49 && memory && prefix == 0 && reg == 0) {
        done = amx_load_config(at.to);
    } else if (p[3] == 0x49 && memory && prefix == 1 && reg == 0) {
        memcpy(at.to, &amx.config, sizeof amx.config);
        done = true;
    } else if (p[3] == 0x49 && p[4] == 0xc0 && prefix == 0) {
        memset(&amx.config, 0, sizeof amx.config);
        done = true;
    } else if (p[3] == 0x49 && !memory && prefix == 3 && rm == 0) {
        done = amx_configured(reg);
        memset(amx.tile[reg], 0, sizeof amx.tile[reg]);
    } else if (p[3] == 0x4b && memory && o.sib && (prefix == 3 || prefix == 2)) {
        done = amx_configured(reg);
        for (unsigned i = 0; done && i < amx.config.rows[reg]; i++) {
            uint8_t *there = at.to + i * o.index, *here = amx.tile[reg][i];
            memcpy(prefix == 3 ? here : there, prefix == 3 ? there : here, amx.config.row_bytes[reg]);
        }
    } else if (p[3] == 0x5e && !memory) { /* prefixes: none UU, 66 US, F3 SU, F2 SS */
        done = amx_multiply(reg, rm, third, (prefix & 2u) | (prefix == 1 || prefix == 3));
    }
    amx.executed += done;
    return done ? 4 + o.length : 0;
}

static void amx_trap(int signal_number, siginfo_t *info, void *context) {
    ucontext_t *c = context;
    (void)info;
    union {
        greg_t number;
        const uint8_t *code;
    } at = {.number = c->uc_mcontext.gregs[REG_RIP]};
    unsigned length = amx_execute(at.code, c->uc_mcontext.gregs);
    if (length)
        c->uc_mcontext.gregs[REG_RIP] += length;
    else
        signal(signal_number, SIG_DFL); /* and again, fatally */
}

/* For the whole process, from now on. */
static void amx_emulate(void) {
    struct sigaction action = {.sa_sigaction = amx_trap, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGILL, &action, NULL);
}
#endif

#endif
