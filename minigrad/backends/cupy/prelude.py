"""What every CUDA source starts with: scalar functions as NumPy defines them, and reductions within a block.

`COMMON` is the source of the kernels that all programs share.
"""

from ...ops.accumulators import RUN

# MINIGRAD_HOST is defined where the text is compiled for a processor, under the tests' shim.
PRELUDE = r"""
#ifndef MINIGRAD_HOST
#define DEVICE static __device__ __forceinline__
#define METHOD __device__ __forceinline__
#define MG_INF __int_as_float(0x7f800000)
#define MG_NAN __int_as_float(0x7fc00000)
DEVICE float from_half(unsigned short h) { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h)); return x; }
DEVICE unsigned short to_half(float x) { unsigned short h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x)); return h; }
#endif
#define THREADS 256
#define RUN @RUN
typedef unsigned long long u64;
typedef long long i64;

// -- scalar functions: of float, of double, and of the integer types

#define mg_seldom(condition, usual, rare) ((condition) ? (rare) : (usual))
#define ONE(name, f32, f64) \
    DEVICE float mg_##name(float x) { return f32(x); } \
    DEVICE double mg_##name(double x) { return f64(x); }
#define TWO(name, f32, f64) \
    DEVICE float mg_##name(float x, float y) { return f32(x, y); } \
    DEVICE double mg_##name(double x, double y) { return f64(x, y); }
ONE(exp, expf, exp) ONE(exp2, exp2f, exp2) ONE(expm1, expm1f, expm1) ONE(log, logf, log) ONE(log1p, log1pf, log1p)
ONE(log2, log2f, log2) ONE(log10, log10f, log10) ONE(sqrt, sqrtf, sqrt) ONE(cbrt, cbrtf, cbrt) ONE(sin, sinf, sin)
ONE(cos, cosf, cos) ONE(tan, tanf, tan) ONE(asin, asinf, asin) ONE(acos, acosf, acos) ONE(atan, atanf, atan)
ONE(sinh, sinhf, sinh) ONE(cosh, coshf, cosh) ONE(tanh, tanhf, tanh) ONE(asinh, asinhf, asinh)
ONE(acosh, acoshf, acosh) ONE(atanh, atanhf, atanh) ONE(erf, erff, erf) ONE(erfc, erfcf, erfc)
ONE(erfcx, erfcxf, erfcx) ONE(erfinv, erfinvf, erfinv) ONE(erfcinv, erfcinvf, erfcinv)
ONE(normcdfinv, normcdfinvf, normcdfinv) ONE(lgamma, lgammaf, lgamma) ONE(tgamma, tgammaf, tgamma)
ONE(cyl_bessel_i0, cyl_bessel_i0f, cyl_bessel_i0) ONE(cyl_bessel_i1, cyl_bessel_i1f, cyl_bessel_i1)
ONE(j0, j0f, j0) ONE(j1, j1f, j1)
TWO(atan2, atan2f, atan2) TWO(hypot, hypotf, hypot) TWO(nextafter, nextafterf, nextafter)
#define INTEGERS(DO) DO(signed char) DO(short) DO(int) DO(i64) DO(unsigned char) DO(unsigned short) DO(unsigned) DO(u64)
#define FLOATS(DO) DO(float) DO(double)

DEVICE float mg_abs(float x) { return fabsf(x); }
DEVICE double mg_abs(double x) { return fabs(x); }
#define REAL(T) \
    DEVICE bool mg_isnan(T x) { return x != x; } \
    DEVICE bool mg_isinf(T x) { return x == (T)MG_INF || x == -(T)MG_INF; } \
    DEVICE bool mg_isfinite(T x) { return x - x == 0; } \
    DEVICE T mg_sign(T x) { return x != x ? x : (T)((x > 0) - (x < 0)); } \
    DEVICE T mg_max(T x, T y) { return x > y || x != x ? x : y; } \
    DEVICE T mg_min(T x, T y) { return x < y || x != x ? x : y; } \
    DEVICE T mg_logaddexp(T x, T y) { \
        if (x == y) return x + (T)0.69314718055994530942; \
        T d = x - y; \
        return d > 0 ? x + mg_log1p(mg_exp(-d)) : d <= 0 ? y + mg_log1p(mg_exp(d)) : d; } \
    DEVICE T mg_xlogy(T x, T y) { return x == 0 && y == y ? (T)0 : x * mg_log(y); } \
    DEVICE T mg_xlog1py(T x, T y) { return x == 0 && y == y ? (T)0 : x * mg_log1p(y); }
FLOATS(REAL)
DEVICE float mg_floor(float x) { return floorf(x); }
DEVICE double mg_floor(double x) { return floor(x); }
DEVICE float mg_ceil(float x) { return ceilf(x); }
DEVICE double mg_ceil(double x) { return ceil(x); }
DEVICE float mg_trunc(float x) { return truncf(x); }
DEVICE double mg_trunc(double x) { return trunc(x); }
DEVICE float mg_rint(float x) { return rintf(x); }
DEVICE double mg_rint(double x) { return rint(x); }
DEVICE float mg_pow(float x, float y) { return powf(x, y); }
DEVICE double mg_pow(double x, double y) { return pow(x, y); }
DEVICE float mg_fmod(float x, float y) { return fmodf(x, y); }
DEVICE double mg_fmod(double x, double y) { return fmod(x, y); }
DEVICE float mg_copysign(float x, float y) { return copysignf(x, y); }
DEVICE double mg_copysign(double x, double y) { return copysign(x, y); }

// The remainder has the divisor's sign, and x == floor_divide(x, y) * y + mod(x, y): both come from one fmod.
#define DIVIDED(T) \
    DEVICE T mg_mod(T x, T y) { \
        if (y == 0) return (T)MG_NAN; \
        T r = mg_fmod(x, y); \
        if (r == 0) return mg_copysign((T)0, y); \
        return (r < 0) != (y < 0) ? r + y : r; } \
    DEVICE T mg_floor_divide(T x, T y) { \
        if (y == 0) return x / y; \
        T r = mg_fmod(x, y), q = (x - r) / y; \
        if (r != 0 && (r < 0) != (y < 0)) q -= 1; \
        if (q == 0) return mg_copysign((T)0, x / y); \
        T f = mg_floor(q); \
        return q - f > (T)0.5 ? f + 1 : f; }
FLOATS(DIVIDED)

#define WHOLE(T) \
    DEVICE T mg_abs(T x) { return x < (T)0 ? (T)-x : x; } \
    DEVICE T mg_sign(T x) { return (T)((x > (T)0) - (x < (T)0)); } \
    DEVICE T mg_floor(T x) { return x; } \
    DEVICE T mg_ceil(T x) { return x; } \
    DEVICE T mg_trunc(T x) { return x; } \
    DEVICE T mg_rint(T x) { return x; } \
    DEVICE T mg_max(T x, T y) { return x > y ? x : y; } \
    DEVICE T mg_min(T x, T y) { return x < y ? x : y; } \
    DEVICE T mg_floor_divide(T x, T y) { \
        if (y == 0) return 0; \
        if ((T)-1 < (T)0 && y == (T)-1) return (T)(0 - (u64)x); \
        T q = x / y, r = x % y; \
        return r != 0 && (r < (T)0) != (y < (T)0) ? (T)(q - 1) : q; } \
    DEVICE T mg_mod(T x, T y) { \
        if (y == 0 || ((T)-1 < (T)0 && y == (T)-1)) return 0; \
        T r = x % y; \
        return r != 0 && (r < (T)0) != (y < (T)0) ? (T)(r + y) : r; } \
    DEVICE T mg_pow(T x, T y) { \
        u64 base = (u64)x, out = 1; \
        if (y < (T)0) return x == 1 ? (T)1 : x == (T)-1 ? (y % 2 == 0 ? (T)1 : x) : (T)0; \
        for (u64 n = (u64)y; n; n >>= 1) { if (n & 1) out *= base; base *= base; } \
        return (T)out; } \
    DEVICE T mg_left_shift(T x, T n) { \
        return (u64)n < 8 * sizeof(T) ? (T)((u64)x << (u64)n) : (T)0; } \
    DEVICE T mg_right_shift(T x, T n) { \
        return (u64)n < 8 * sizeof(T) ? (T)(x >> n) : x < (T)0 ? (T)-1 : (T)0; } \
    DEVICE T mg_gcd(T x, T y) { \
        x = mg_abs(x); y = mg_abs(y); \
        while (y != 0) { T r = x % y; x = y; y = r; } \
        return x; } \
    DEVICE T mg_lcm(T x, T y) { T d = mg_gcd(x, y); return d == 0 ? (T)0 : mg_abs((T)(x / d * y)); }
INTEGERS(WHOLE)
DEVICE bool mg_max(bool x, bool y) { return x || y; }
DEVICE bool mg_min(bool x, bool y) { return x && y; }
DEVICE float round_half(float x) { return from_half(to_half(x)); }

// -- what reductions do with two values

struct Sum { template <class A> DEVICE A of(A x, A y) { return x + y; } };
struct Max { template <class A> DEVICE A of(A x, A y) { return mg_max(x, y); } };
struct Min { template <class A> DEVICE A of(A x, A y) { return mg_min(x, y); } };
struct Any { template <class A> DEVICE A of(A x, A y) { return x || y; } };
struct All { template <class A> DEVICE A of(A x, A y) { return x && y; } };
// A value and where it stands; a nan is taken before every number, and the first of equals.
template <class T> struct At { T value; i64 at; };
struct ArgMax { template <class T> DEVICE At<T> of(At<T> x, At<T> y) {
    bool xn = x.value != x.value, yn = y.value != y.value;
    bool same = xn ? yn : x.value == y.value;
    return (same ? x.at < y.at : xn || (!yn && x.value > y.value)) ? x : y; } };
struct ArgMin { template <class T> DEVICE At<T> of(At<T> x, At<T> y) {
    bool xn = x.value != x.value, yn = y.value != y.value;
    bool same = xn ? yn : x.value == y.value;
    return (same ? x.at < y.at : xn || (!yn && x.value < y.value)) ? x : y; } };

// What a thread collects: take(x) takes one more, and fold() is called after at most RUN of them, so that sums of
// floats add up in chains of RUN terms, whose sums are terms of the next chain (ops/accumulators.py).
template <class F, class A> struct Acc {
    typedef F Functor; typedef A Value;
    A none, v = none;
    METHOD void take(A x) { v = F::of(v, x); }
    METHOD void fold() {}
    METHOD void close() {}
};
#define CHAINS(T) \
    template <> struct Acc<Sum, T> { \
        typedef Sum Functor; typedef T Value; \
        T none, v = 0, middle = 0, high = 0; int folds = 0; \
        METHOD void take(T x) { v += x; } \
        METHOD void fold() { middle += v; v = 0; if (++folds % RUN == 0) { high += middle; middle = 0; } } \
        METHOD void close() { v = (high + middle) + v; } };
FLOATS(CHAINS)

template <class A> DEVICE A swap_lanes(unsigned mask, A v, int d) { return __shfl_xor_sync(mask, v, d); }
template <class T> DEVICE At<T> swap_lanes(unsigned mask, At<T> v, int d) {
    At<T> out; out.value = __shfl_xor_sync(mask, v.value, d); out.at = __shfl_xor_sync(mask, v.at, d); return out; }
// A value that another block has written.
template <class A> DEVICE A fresh(const A* p) { return *(const volatile A*)p; }
template <class T> DEVICE At<T> fresh(const At<T>* p) {
    At<T> out; out.value = fresh(&p->value); out.at = fresh(&p->at); return out; }

// The reduction over a team of 1 to 32 threads next to each other, of those that have the same number modulo WIDTH;
// every one of them gets it.
template <int TEAM, int WIDTH, class A> DEVICE void team_reduce(A& a) {
    int first = (threadIdx.x % 32) / TEAM * TEAM;
    unsigned mask = (TEAM == 32 ? 0xffffffffu : (1u << TEAM) - 1u) << first;
    for (int d = TEAM / 2; d >= WIDTH; d /= 2) a.v = A::Functor::of(a.v, swap_lanes(mask, a.v, d));
}
// The same over the threads of a block, for several accumulators at once.
template <class A> struct Cell { enum { size = sizeof(typename A::Value) > 8 ? 16 : 8 }; };  // bytes
template <int WIDTH, class A> DEVICE char* put(char* room, const A& a) {
    ((typename A::Value*)room)[threadIdx.x / 32 * WIDTH + threadIdx.x % 32] = a.v;
    return room + THREADS / 32 * WIDTH * Cell<A>::size; }
template <int WIDTH, class A> DEVICE char* get(char* room, A& a) {
    const typename A::Value* own = (typename A::Value*)room + threadIdx.x % WIDTH;
    a.v = own[0];
    for (int k = 1; k < THREADS / 32; k++) a.v = A::Functor::of(a.v, own[k * WIDTH]);
    return room + THREADS / 32 * WIDTH * Cell<A>::size; }
template <int WIDTH, class... A> DEVICE void block_reduce(A&... a) {
    __shared__ __align__(16) char shared[(Cell<A>::size + ...) * (THREADS / 32) * WIDTH];
    (team_reduce<32, WIDTH>(a), ...);
    __syncthreads();
    char* room = shared;
    if (threadIdx.x % 32 < WIDTH) ((room = put<WIDTH>(room, a)), ...);
    __syncthreads();
    room = shared;
    ((room = get<WIDTH>(room, a)), ...);
}
// The end of a reduction that `parts` blocks take part in: the last one to come here combines what all have found, in
// a fixed order. Tell whether this block has the result, of the columns at `column` and on.
template <class A> DEVICE char* write_part(char* partial, i64 at, i64 size, const A& a) {
    ((typename A::Value*)partial)[at] = a.v;
    return partial + size * Cell<A>::size; }
template <class A> DEVICE char* take_part(char* partial, i64 at, i64 size, A& a) {
    a.take(fresh((typename A::Value*)partial + at));
    return partial + size * Cell<A>::size; }
template <int WIDTH, class... A>
DEVICE bool finish(char* partial, unsigned* counter, i64 part, i64 parts, i64 column, i64 columns, A&... a) {
    (a.close(), ...);
    block_reduce<WIDTH>(a...);
    if (parts == 1) return true;
    const int tid = threadIdx.x;
    char* room = partial;
    if (tid < WIDTH && column < columns) ((room = write_part(room, part * columns + column, parts * columns, a)), ...);
    __threadfence();
    __shared__ bool last;
    __syncthreads();
    if (tid == 0) last = atomicAdd(counter, 1u) == (unsigned)parts - 1u;
    __syncthreads();
    if (!last) return false;
    __threadfence();
    ((a = A{a.none}), ...);
    int taken = 0;
    if (column < columns) for (i64 k = tid / WIDTH; k < parts; k += THREADS / WIDTH) {
        room = partial;
        ((room = take_part(room, k * columns + column, parts * columns, a)), ...);
        if (++taken % RUN == 0) (a.fold(), ...);
    }
    (a.close(), ...);
    block_reduce<WIDTH>(a...);
    if (tid == 0) *counter = 0u;
    return true;
}

// -- Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011)

struct Words { unsigned w[4]; };
DEVICE Words philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0, unsigned k1) {
    for (int i = 0; i < 10; i++) {
        if (i) { k0 += 0x9E3779B9u; k1 += 0xBB67AE85u; }
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        c0 = (unsigned)(p1 >> 32) ^ c1 ^ k0; c1 = (unsigned)p1;
        c2 = (unsigned)(p0 >> 32) ^ c3 ^ k1; c3 = (unsigned)p0;
    }
    Words out = {{c0, c1, c2, c3}};
    return out;
}

""".replace("@RUN", str(RUN))

# The kernels that are no program's own: one source for all of them.
COMMON = PRELUDE + r"""
// Write pointers and numbers into a program's table: that is how one captured graph serves all arguments.
struct Cells { u64 at[500]; };
extern "C" __global__ void mg_bind(const Cells cells, u64* table, int count) {
    if ((int)threadIdx.x < count) table[threadIdx.x] = cells.at[threadIdx.x];
}

// Write zeros behind as many elements, of `width` halves of a word each, as a number of the table says.
extern "C" __global__ void mg_clear(const u64* table, int cell, unsigned short* values, i64 width, i64 end) {
    const i64 first = (i64)table[cell] * width + (i64)blockIdx.x * THREADS + threadIdx.x;
    for (i64 t = first; t < end; t += (i64)gridDim.x * THREADS) values[t] = 0;
}

// Order keys of `total` (a power of two) elements, all different: one pass of a bitonic network. What is left of a
// pass whose partners are within one block of 512 runs in shared memory at once.
extern "C" __global__ void mg_sort_far(u64* keys, i64 total, i64 run, i64 gap) {
    i64 t = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (t >= total / 2) return;
    i64 i = t / gap * 2 * gap + t % gap, j = i + gap;
    u64 a = keys[i], b = keys[j];
    if ((a > b) == ((i & run) == 0)) { keys[i] = b; keys[j] = a; }
}
extern "C" __global__ void mg_sort_near(u64* keys, i64 total, i64 first_run, i64 last_run) {
    __shared__ u64 own[2 * THREADS];
    i64 base = (i64)blockIdx.x * 2 * THREADS;
    for (int k = threadIdx.x; k < 2 * THREADS; k += THREADS) own[k] = base + k < total ? keys[base + k] : ~0ull;
    __syncthreads();
    for (i64 run = first_run; run <= last_run; run *= 2) {
        for (i64 gap = run / 2 < THREADS ? run / 2 : THREADS; gap > 0; gap /= 2) {
            int t = threadIdx.x;
            int i = (int)(t / gap * 2 * gap + t % gap), j = (int)(i + gap);
            u64 a = own[i], b = own[j];
            if ((a > b) == (((base + i) & run) == 0)) { own[i] = b; own[j] = a; }
            __syncthreads();
        }
    }
    for (int k = threadIdx.x; k < 2 * THREADS; k += THREADS) if (base + k < total) keys[base + k] = own[k];
}
"""
