// exp and the logistic function. With FAST_MATH (bf16 only) they come from the special function unit, with
// a relative error of about 2^-20: far below the rounding to bf16 that follows.
#ifndef TINYGPT_MATH_CUH
#define TINYGPT_MATH_CUH

#define LOG2_E 1.4426950408889634f
#define MINUS_INFINITY float_of_bits(0xff800000u)

// exp(x - shift).
DEVICE float exp_shifted(float x, float shift) {
#if FAST_MATH
    return exp2_approx(fmaf(x, LOG2_E, -shift * LOG2_E));
#else
    return expf(x - shift);
#endif
}

// 1 / (1 + exp(-x)).
DEVICE float logistic(float x) {
#if FAST_MATH
    return rcp_approx(1.0f + exp2_approx(-x * LOG2_E));
#else
    return 1.0f / (1.0f + expf(-x));
#endif
}

// √(2/π), doubled.
#define TWO_ROOT_2_PI 1.595769f
#define CUBIC 0.044715f

// σ(2u) at x, with u = √(2/π) · (x + 0.044715 x³): gelu(x) is x times it.
DEVICE float gate_of(float x) {
    return logistic(x * fmaf(x * x, CUBIC, 1.0f) * TWO_ROOT_2_PI);
}

#endif
