/* exp, log, pow, sin, cos and tanh, the same bits on every machine.
 *
 * libm differs between machines and versions; these do not, because they use only + - * / fma, which IEEE 754 rounds in
 * one way, and integer operations on the bits. The errors, measured by tests/unit/test_math.c, stay below 2 units in
 * the last place. cf_expf is written so that SIMD lanes can repeat it (exp_lanes.h); the double functions serve the
 * set-up of a model and need no speed.
 *
 * Doubles of twice the precision are unevaluated sums hi + lo, after T. J. Dekker, "A floating-point technique for
 * extending the available precision", Numer. Math. 18 (1971).
 */
#include "node/kernels/kernels.h"

#include <math.h>

#include "node/kernels/bits.h"
#include "node/kernels/vectors/vector.h"

/* exp(x) = 2^n exp(r), n = rint(x / ln 2), |r| <= ln 2 / 2. */
float cf_expf(float x) {
    /* Written as these comparisons, and not as fmin, so that a NaN stays one. */
    x = CF__EXPF_LEAST > x ? CF__EXPF_LEAST : x;
    x = CF__EXPF_MOST < x ? CF__EXPF_MOST : x;
    float shifted = fmaf(x, CF__EXPF_LOG2E, CF__EXPF_RINT);
    float n = shifted - CF__EXPF_RINT;
    float r = fmaf(-n, CF__EXPF_LN2_HI, x);
    r = fmaf(-n, CF__EXPF_LN2_LO, r);
    float p = CF__EXPF_C6;
    p = fmaf(p, r, CF__EXPF_C5);
    p = fmaf(p, r, CF__EXPF_C4);
    p = fmaf(p, r, CF__EXPF_C3);
    p = fmaf(p, r, CF__EXPF_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    /* Two factors: the first product is exact, so that a denormal result is rounded once, as scalef rounds it. */
    int32_t k = (int32_t)(cf__bits_of_float(shifted) - cf__bits_of_float(CF__EXPF_RINT));
    int32_t half = k >> 1;
    float first = cf__float_of_bits((uint32_t)(half + 127) << 23);
    float second = cf__float_of_bits((uint32_t)(k - half + 127) << 23);
    return p * first * second;
}

#define RINT 0x1.8p52 /* adding and taking it away again rounds to an integer, to even */
#define LOG2E 0x1.71547652b82fep+0
#define LN2_HI 0x1.62e42fefa39efp-1
#define LN2_LO 0x1.abc9e3b39803fp-56
#define SQRT2 0x1.6a09e667f3bcdp+0

struct twofold {
    double hi, lo;
};

static struct twofold sum_of(double a, double b) {
    double hi = a + b;
    double b_part = hi - a;
    return (struct twofold){hi, (a - (hi - b_part)) + (b - b_part)};
}

static struct twofold product_of(double a, double b) {
    double hi = a * b;
    return (struct twofold){hi, fma(a, b, -hi)};
}

static struct twofold add(struct twofold a, struct twofold b) {
    struct twofold s = sum_of(a.hi, b.hi);
    return sum_of(s.hi, s.lo + (a.lo + b.lo));
}

static struct twofold multiply(struct twofold a, struct twofold b) {
    struct twofold p = product_of(a.hi, b.hi);
    return sum_of(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

/* exp(x.hi + x.lo), |x.lo| at most half a unit in the last place of x.hi. */
static double exp_of(struct twofold x) {
    if (x.hi > 710) return INFINITY;
    if (x.hi < -746) return 0;
    double n = fma(x.hi, LOG2E, RINT) - RINT;
    double r_hi = fma(-n, LN2_HI, x.hi); /* exact */
    double r_lo = fma(-n, LN2_LO, x.lo);
    struct twofold r = sum_of(r_hi, r_lo);
    static const double inverse_factorial[] = {1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320,
        1. / 362880, 1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};
    double p = 0;
    for (int i = 11; i >= 0; i--)
        p = fma(p, r.hi, inverse_factorial[i]);
    p = 1 + (r.hi + fma(r.hi * r.hi, p, r.lo));
    int64_t k = (int64_t)n, half = k >> 1;
    double first = cf__double_of_bits((uint64_t)(half + 1023) << 52);
    double second = cf__double_of_bits((uint64_t)(k - half + 1023) << 52);
    return p * first * second;
}

double cf_exp(double x) {
    if (x != x) return x;
    return exp_of((struct twofold){x, 0});
}

/* log x for finite x > 0 to about 66 bits: x = 2^k m, m within [sqrt 1/2, sqrt 2], and with s = (m - 1) / (m + 1)
 * log m = 2 (s + s^3/3 + s^5/5 + ...). */
static struct twofold log_of(double x) {
    int64_t k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    uint64_t u = cf__bits_of_double(x);
    k += (int64_t)(u >> 52) - 1023;
    double m = cf__double_of_bits((u & 0xfffffffffffffu) | 0x3ff0000000000000u);
    if (m > SQRT2) {
        m *= 0.5;
        k++;
    }
    double f = m - 1;
    struct twofold m1 = sum_of(m, 1);
    double s_hi = f / m1.hi;
    struct twofold s = sum_of(s_hi, (fma(-s_hi, m1.hi, f) - s_hi * m1.lo) / m1.hi);
    struct twofold z = multiply(s, s);
    double q = 0;
    for (int i = 25; i >= 5; i -= 2)
        q = fma(q, z.hi, 1.0 / i);
    static const struct twofold third = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
    struct twofold p = multiply(add(third, product_of(q, z.hi)), z);
    p = add((struct twofold){1, 0}, p);
    s.hi *= 2;
    s.lo *= 2;
    struct twofold exponent = product_of((double)k, LN2_HI);
    exponent.lo += (double)k * LN2_LO;
    return add(exponent, multiply(s, p));
}

double cf_log(double x) {
    if (x != x || x == INFINITY) return x;
    if (x < 0) return NAN;
    if (x == 0) return -INFINITY;
    struct twofold l = log_of(x);
    return l.hi + l.lo;
}

/* The cases of C17 annex F.10.4.4 in which a power is not exp(exponent * log |base|) with a sign. */
static bool special_power(double base, double exponent, bool odd, bool integer, double *result) {
    if (base == 1 || exponent == 0) {
        *result = 1;
    } else if (base != base || exponent != exponent) {
        *result = base + exponent;
    } else if (exponent == INFINITY || exponent == -INFINITY) {
        double size = base < 0 ? -base : base;
        *result = size == 1 ? 1 : (size > 1) == (exponent > 0) ? INFINITY : 0;
    } else if (base == 0 || base == INFINITY || base == -INFINITY) {
        double size = (base == 0) == (exponent > 0) ? 0 : INFINITY;
        bool negative = cf__bits_of_double(base) >> 63 != 0;
        *result = negative && odd ? -size : size;
    } else if (base < 0 && !integer) {
        *result = NAN;
    } else {
        return false;
    }
    return true;
}

double cf_pow(double base, double exponent) {
    double size = exponent < 0 ? -exponent : exponent;
    bool integer = size >= 0x1p53, odd = false;
    if (size < 0x1p53) {
        int64_t whole = (int64_t)size;
        integer = (double)whole == size;
        odd = integer && whole % 2 != 0;
    }
    double result;
    if (special_power(base, exponent, odd, integer, &result)) return result;
    struct twofold l = log_of(base < 0 ? -base : base);
    struct twofold p = product_of(exponent, l.hi);
    if (p.hi > -1000 && p.hi < 1000) p = sum_of(p.hi, fma(exponent, l.lo, p.lo)); /* beyond, lo may be inf - inf */
    result = exp_of(p);
    return base < 0 && odd ? -result : result;
}

/* x = quadrant * pi/2 + r, |r| <= pi/4; pi/2 in three parts: the first leaves an exact rest as long as the quotient is
 * below 2^31, the others keep the rest precise where x is near a multiple of pi/2. */
static struct twofold reduce_angle(double x, unsigned *quadrant) {
    double n = fma(x, 0x1.45f306dc9c883p-1, RINT) - RINT;
    *quadrant = (unsigned)((int64_t)n & 3);
    double rest = fma(-n, 0x1.921fb54442d18p+0, x);
    struct twofold second = product_of(-n, 0x1.1a62633145c07p-54);
    struct twofold r = sum_of(rest, second.hi);
    return sum_of(r.hi, r.lo + fma(-n, -0x1.f1976b7ed8fbcp-110, second.lo));
}

static double sin_of(struct twofold r) {
    static const double c[] = {-1. / 6, 1. / 120, -1. / 5040, 1. / 362880, -1. / 39916800, 1. / 6227020800,
        -1. / 1307674368000, 1. / 355687428096000};
    double z = r.hi * r.hi, p = 0;
    for (int i = 7; i >= 0; i--)
        p = fma(p, z, c[i]);
    return r.hi + fma(r.hi * z, p, r.lo * (1 - 0.5 * z));
}

static double cos_of(struct twofold r) {
    static const double c[] = {
        1. / 24, -1. / 720, 1. / 40320, -1. / 3628800, 1. / 479001600, -1. / 87178291200, 1. / 20922789888000};
    double z = r.hi * r.hi, p = 0;
    for (int i = 6; i >= 0; i--)
        p = fma(p, z, c[i]);
    double half = 0.5 * z, w = 1 - half;
    return w + (((1 - w) - half) + (z * z * p - r.hi * r.lo));
}

/* sin(x + shift * pi/2). NaN beyond 2^30, where the reduction would lose bits. */
static double sin_shifted(double x, unsigned shift) {
    if (!(x >= -0x1p30 && x <= 0x1p30)) return NAN;
    unsigned quadrant;
    struct twofold r = reduce_angle(x, &quadrant);
    quadrant += shift;
    double y = quadrant & 1 ? cos_of(r) : sin_of(r);
    return quadrant & 2 ? -y : y;
}

double cf_sin(double x) {
    if (x == 0) return x; /* keeps the sign of zero */
    return sin_shifted(x, 0);
}

double cf_cos(double x) {
    return sin_shifted(x, 1);
}

/* In double, so that only the last rounding counts. */
float cf_tanhf(float x) {
    double d = (double)x;
    if (d != d) return x;
    if (d > 20) return 1;
    if (d < -20) return -1;
    if (d > -0x1p-10 && d < 0x1p-10) {
        double z = d * d; /* x - x^3/3 + 2x^5/15: e - 1 below would cancel */
        return (float)(d * (1 + z * (-1. / 3 + z * (2. / 15))));
    }
    double e = cf_exp(2 * d);
    return (float)((e - 1) / (e + 1));
}
