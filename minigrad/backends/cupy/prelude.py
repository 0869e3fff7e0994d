"""CUDA library of all kernels: scalar functions as NumPy defines them, and reductions within a block.

`PRELUDE` starts every source; `COMMON` is the source of the kernels that all programs share.
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
// Pointers from the table are global: the compiler cannot infer their address space.
template <class T> DEVICE T* global(T* p) { __builtin_assume(__isGlobal(p)); return p; }
#endif
#define THREADS 256
#define RUN @RUN
typedef unsigned long long u64;
typedef long long i64;

// -- loads of memory that no thread of the kernel writes, and vectors of elements in words of 16 bytes

template <class T, class K> DEVICE T ld(const T* p, K at) { return __ldg(p + at); }
template <class K> DEVICE bool ld(const bool* p, K at) { return __ldg((const unsigned char*)p + at); }
template <int BYTES> struct Word { typedef uint4 type; };
template <> struct Word<8> { typedef uint2 type; };
template <> struct Word<4> { typedef unsigned type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<1> { typedef unsigned char type; };
template <int N, class T> union Pack {
    typedef typename Word<N * sizeof(T)>::type W;
    enum { words = N * sizeof(T) / sizeof(W) };
    T v[N]; W w[words];
};
template <int N, class T, class K> DEVICE Pack<N, T> ld_pack(const T* p, K at) {
    Pack<N, T> out;
    #pragma unroll
    for (int k = 0; k < out.words; k++) out.w[k] = __ldg((const typename Pack<N, T>::W*)(p + at) + k);
    return out;
}
template <int N, class T, class K> DEVICE void st_pack(T* p, K at, const Pack<N, T>& x) {
    #pragma unroll
    for (int k = 0; k < x.words; k++) ((typename Pack<N, T>::W*)(p + at))[k] = x.w[k];
}
template <class... T> DEVICE bool aligned(const T*... p) { return ((u64)0 | ... | (u64)p) % 16 == 0; }

// -- scalar functions: of float, of double, and of the integer types

#define mg_seldom(condition, usual, rare) ((condition) ? (rare) : (usual))
#define ONE(name) \
    DEVICE float mg_##name(float x) { return name##f(x); } \
    DEVICE double mg_##name(double x) { return name(x); }
#define TWO(name) \
    DEVICE float mg_##name(float x, float y) { return name##f(x, y); } \
    DEVICE double mg_##name(double x, double y) { return name(x, y); }
ONE(exp) ONE(exp2) ONE(expm1) ONE(log) ONE(log1p) ONE(log2) ONE(log10) ONE(sqrt) ONE(cbrt) ONE(sin) ONE(cos) ONE(tan)
ONE(asin) ONE(acos) ONE(atan) ONE(sinh) ONE(cosh) ONE(tanh) ONE(asinh) ONE(acosh) ONE(atanh) ONE(erf) ONE(erfc)
ONE(erfcx) ONE(erfinv) ONE(erfcinv) ONE(normcdfinv) ONE(lgamma) ONE(tgamma) ONE(cyl_bessel_i0) ONE(cyl_bessel_i1)
ONE(j0) ONE(j1) ONE(floor) ONE(ceil) ONE(trunc) ONE(rint)
TWO(atan2) TWO(hypot) TWO(nextafter) TWO(pow) TWO(fmod) TWO(copysign)
#define FLOATS(DO) DO(float) DO(double)

template <class T> DEVICE bool mg_isnan(T x) { return x != x; }
template <class T> DEVICE bool mg_isinf(T x) { return x == (T)MG_INF || x == -(T)MG_INF; }
template <class T> DEVICE bool mg_isfinite(T x) { return x - x == 0; }
template <class T> DEVICE T mg_sign(T x) { return x != x ? x : (T)((x > (T)0) - (x < (T)0)); }
template <class T> DEVICE T mg_max(T x, T y) { return x > y || x != x ? x : y; }
template <class T> DEVICE T mg_min(T x, T y) { return x < y || x != x ? x : y; }
template <class T> DEVICE T mg_logaddexp(T x, T y) {
    if (x == y) return x + (T)0.69314718055994530942;
    T d = x - y;
    return d > 0 ? x + mg_log1p(mg_exp(-d)) : d <= 0 ? y + mg_log1p(mg_exp(d)) : d;
}
template <class T> DEVICE T mg_xlogy(T x, T y) { return x == 0 && y == y ? (T)0 : x * mg_log(y); }
template <class T> DEVICE T mg_xlog1py(T x, T y) { return x == 0 && y == y ? (T)0 : x * mg_log1p(y); }
template <class T> DEVICE T mg_abs(T x) { return x < (T)0 ? (T)-x : x; }
DEVICE float mg_abs(float x) { return fabsf(x); }
DEVICE double mg_abs(double x) { return fabs(x); }
template <class T> DEVICE T mg_floor_divide(T x, T y) {
    if (y == 0) return 0;
    if ((T)-1 < (T)0 && y == (T)-1) return (T)(0 - (u64)x);
    T q = x / y, r = x % y;
    return r != 0 && (r < (T)0) != (y < (T)0) ? (T)(q - 1) : q;
}
template <class T> DEVICE T mg_mod(T x, T y) {
    if (y == 0 || ((T)-1 < (T)0 && y == (T)-1)) return 0;
    T r = x % y;
    return r != 0 && (r < (T)0) != (y < (T)0) ? (T)(r + y) : r;
}
// Of floats the remainder has the divisor's sign, and x == floor_divide(x, y) * y + mod(x, y): both are of one fmod.
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
template <class T> DEVICE T mg_pow(T x, T y) {
    u64 base = (u64)x, out = 1;
    if (y < (T)0) return x == 1 ? (T)1 : x == (T)-1 ? (y % 2 == 0 ? (T)1 : x) : (T)0;
    for (u64 n = (u64)y; n; n >>= 1) { if (n & 1) out *= base; base *= base; }
    return (T)out;
}
template <class T> DEVICE T mg_left_shift(T x, T n) { return (u64)n < 8 * sizeof(T) ? (T)((u64)x << (u64)n) : (T)0; }
template <class T> DEVICE T mg_right_shift(T x, T n) {
    return (u64)n < 8 * sizeof(T) ? (T)(x >> n) : x < (T)0 ? (T)-1 : (T)0;
}
template <class T> DEVICE T mg_gcd(T x, T y) {
    x = mg_abs(x); y = mg_abs(y);
    while (y != 0) { T r = x % y; x = y; y = r; }
    return x;
}
template <class T> DEVICE T mg_lcm(T x, T y) { T d = mg_gcd(x, y); return d == 0 ? (T)0 : mg_abs((T)(x / d * y)); }
DEVICE float round_half(float x) { return from_half(to_half(x)); }

// -- combiners of two values

struct Sum { template <class A> DEVICE A of(A x, A y) { return x + y; } };
struct Max { template <class A> DEVICE A of(A x, A y) { return mg_max(x, y); } };
struct Min { template <class A> DEVICE A of(A x, A y) { return mg_min(x, y); } };
struct Any { template <class A> DEVICE A of(A x, A y) { return x || y; } };
struct All { template <class A> DEVICE A of(A x, A y) { return x && y; } };
struct FMax { template <class A> DEVICE A of(A x, A y) { return y >= x || x != x ? y : x; } };
struct FMin { template <class A> DEVICE A of(A x, A y) { return y <= x || x != x ? y : x; } };
// A sum, and whether it began anew at one of its terms.
template <class T> struct Since { T v; bool anew; };
template <class F> struct Anew { template <class T> DEVICE Since<T> of(Since<T> x, Since<T> y) {
    return Since<T>{y.anew ? y.v : F::of(x.v, y.v), x.anew || y.anew}; } };
// A value and its position; a nan precedes every number, and the first of equals counts.
template <class T> struct At { T value; i64 at; };
template <bool MOST> struct Arg { template <class T> DEVICE At<T> of(At<T> x, At<T> y) {
    bool xn = x.value != x.value, yn = y.value != y.value, same = xn ? yn : x.value == y.value;
    return (same ? x.at < y.at : xn || (!yn && (MOST ? x.value > y.value : x.value < y.value))) ? x : y; } };
typedef Arg<true> ArgMax;
typedef Arg<false> ArgMin;

// An accumulator: callers fold() after at most RUN take(x), so that float sums form chains of RUN terms, whose sums are
// terms of the next chain (ops/accumulators.py).
template <class F, class A> struct Acc {
    typedef F Functor; typedef A Value;
    A none, v = none;
    METHOD void take(A x) { v = F::of(v, x); }
    METHOD void fold() {}
    METHOD A value() const { return v; }
    METHOD void reset(A x) { v = x; }
    METHOD A with(A x) const { return F::of(value(), x); }
    METHOD void close() { reset(value()); }
};
#define CHAINS(T) \
    template <> struct Acc<Sum, T> { \
        typedef Sum Functor; typedef T Value; \
        T none, v = 0, middle = 0, high = 0; int folds = 0; \
        METHOD void take(T x) { v += x; } \
        METHOD void fold() { middle += v; v = 0; if (++folds % RUN == 0) { high += middle; middle = 0; } } \
        METHOD T value() const { return (high + middle) + v; } \
        METHOD void reset(T x) { v = x; middle = high = 0; } \
        METHOD T with(T x) const { return value() + x; } \
        METHOD void close() { reset(value()); } };
FLOATS(CHAINS)

// Turns of a loop with this step until it ends or sums fold.
template <int MOST, class I, class S> DEVICE int turns_of(I left, S step) {
    return left > (MOST - 1) * (I)step ? MOST : (int)((left + (I)step - 1) / (I)step); }

template <class A> DEVICE A swap_lanes(unsigned mask, A v, int d) { return __shfl_xor_sync(mask, v, d); }
template <class T> DEVICE At<T> swap_lanes(unsigned mask, At<T> v, int d) {
    At<T> out; out.value = __shfl_xor_sync(mask, v.value, d); out.at = __shfl_xor_sync(mask, v.at, d); return out; }
template <class A> DEVICE A lane_below(A v, int d) { return __shfl_up_sync(0xffffffffu, v, d); }
template <class T> DEVICE Since<T> lane_below(Since<T> v, int d) {
    return Since<T>{lane_below(v.v, d), (bool)lane_below((int)v.anew, d)}; }
// Read a value that another block wrote, past the L1 cache.
template <class A> DEVICE A fresh(const A* p) { return *(const volatile A*)p; }
template <class T> DEVICE At<T> fresh(const At<T>* p) {
    At<T> out; out.value = fresh(&p->value); out.at = fresh(&p->at); return out; }

// Reduce over a team of 1 to 32 consecutive threads, of those with the same number modulo WIDTH; all get the result.
template <int TEAM, int WIDTH, class A> DEVICE void team_reduce(A& a) {
    int first = (threadIdx.x % 32) / TEAM * TEAM;
    unsigned mask = (TEAM == 32 ? 0xffffffffu : (1u << TEAM) - 1u) << first;
    for (int d = TEAM / 2; d >= WIDTH; d /= 2) a.v = A::Functor::of(a.v, swap_lanes(mask, a.v, d));
}
// The same over the threads of a block, for several accumulators at once.
template <class A> struct Cell { enum { size = sizeof(typename A::Value) > 8 ? 16 : 8 }; };  // bytes
template <class A, class K> DEVICE char* put(char* room, K at, K size, const A& a) {
    ((typename A::Value*)room)[at] = a.v;
    return room + size * Cell<A>::size; }
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
    const unsigned at = threadIdx.x / 32 * WIDTH + threadIdx.x % 32;
    if (threadIdx.x % 32 < WIDTH) ((room = put(room, at, THREADS / 32u * WIDTH, a)), ...);
    __syncthreads();
    room = shared;
    ((room = get<WIDTH>(room, a)), ...);
}
// The inclusive scan of ALONG threads that are ACROSS apart; `total` is the last thread's result.
template <int ALONG, int ACROSS, class V, class A> DEVICE V scan(V v, const A& neutral, V& total) {
    constexpr int span = ACROSS > 1 ? 32 / ACROSS : ALONG < 32 ? ALONG : 32, warps = ALONG / span;  // of a line
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, at = ACROSS > 1 ? lane / ACROSS : lane % span;
    for (int d = 1; d < span; d *= 2) {
        const V o = lane_below(v, d * ACROSS);
        if (at >= d) v = A::Functor::of(o, v);
    }
    __shared__ V last[THREADS];
    __syncthreads();
    last[threadIdx.x] = v;
    __syncthreads();
    const int first = ACROSS > 1 ? 0 : warp / warps * warps, end = (span - 1 - at) * ACROSS + lane;  // of the line
    V before = neutral.none;
    total = neutral.none;
    for (int k = first; k < first + warps; k++) {
        const V one = last[k * 32 + end];
        if (k < warp) before = A::Functor::of(before, one);
        total = A::Functor::of(total, one);
    }
    return A::Functor::of(before, v);
}
// The end of a reduction over `parts` blocks: the last block combines all partial results in a fixed order. Returns
// whether this block holds the result of the columns at `column` and on.
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
    if (tid < WIDTH && column < columns) ((room = put(room, part * columns + column, parts * columns, a)), ...);
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

// -- segments: place p has the updates from end[p - 1] to end[p], in order

// Return the first place whose updates end behind `at`.
template <class I> DEVICE I segment_of(const unsigned* end, I places, i64 at) {
    I low = 0;
    for (I high = places; low < high;) {
        const I m = low + (high - low) / 2;
        if ((i64)end[m] > at) high = m; else low = m + 1;
    }
    return low;
}
// The k-th piece of a place that begins at `low` is [low + k PIECE, low + (k + 1) PIECE). Slots 0 to places - 1 are
// first pieces; slot places + c is the one later piece, of whatever place, that begins in chunk c + 1 of PIECE updates.
template <class I> struct Piece { bool is = false; I place = 0, low = 0, high = 0, first = 0, last = 0, cell = 0; };
template <int PIECE, class I> DEVICE Piece<I> piece_of(const unsigned* end, I slot, I places) {
    Piece<I> p;
    const I chunk = slot - places + 1;
    const bool begins = slot < places;
    p.place = begins ? slot : segment_of(end, places, (i64)chunk * PIECE);
    if (p.place == places) return p;
    p.low = p.place ? (I)end[p.place - 1] : 0;
    p.high = (I)end[p.place];
    p.first = begins ? p.low : p.low + (chunk - p.low / PIECE) * PIECE;
    p.cell = begins ? 2 * (p.low / PIECE) : 2 * chunk + 1;
    p.is = begins || (p.low < chunk * PIECE && p.first < p.high);
    p.last = !p.is ? p.first : p.high - p.first < PIECE ? p.high : p.first + PIECE;
    return p;
}
template <class I> struct Whole { I parts, place, low, group; };
// Store the reduction of a place: at once if it has one piece, else in the block that finishes its last piece.
template <int TEAM, int WIDTH, int PIECE, class I, class A, class S>
DEVICE void finish_pieces(char* partial, unsigned* counter, const Piece<I>& p, I group, I groups, I wide, A& a,
                          S store) {
    __shared__ Whole<I> whole[THREADS / TEAM];
    typename A::Value* const cells = (typename A::Value*)partial;
    const int lane = threadIdx.x % TEAM, across = threadIdx.x % WIDTH;
    const I w = group * WIDTH + across, stride = groups * WIDTH;
    const I parts = p.is ? (p.high - p.low + PIECE - 1) / PIECE : 0;
    bool last = false;
    a.close();
    team_reduce<TEAM, WIDTH>(a);
    if (p.is && parts <= 1 && lane < WIDTH && w < wide) store(p.place, w, a);
    if (parts > 1) {
        if (lane < WIDTH) cells[(i64)p.cell * stride + w] = a.v;
        __threadfence();
        __syncwarp((TEAM == 32 ? 0xffffffffu : (1u << TEAM) - 1u) << (threadIdx.x % 32 / TEAM * TEAM));
        last = lane == 0 && atomicAdd(counter + p.low / PIECE * groups + group, 1u) == (unsigned)parts - 1u;
    }
    if (!__syncthreads_or(last)) return;
    if (lane == 0) whole[threadIdx.x / TEAM] = Whole<I>{last ? parts : 0, p.place, p.low / PIECE, group};
    __threadfence();
    __syncthreads();
    #pragma unroll 1
    for (int t = 0; t < THREADS / TEAM; t++) {
        const Whole<I> one = whole[t];
        if (!one.parts) continue;
        const I column = one.group * WIDTH + across;
        A total{a.none};
        int taken = 0;
        for (I k = threadIdx.x / WIDTH; k < one.parts; k += THREADS / WIDTH) {
            total.take(fresh(cells + (i64)(2 * (one.low + k) + (k > 0)) * stride + column));
            if (++taken % RUN == 0) total.fold();
        }
        total.close();
        block_reduce<WIDTH>(total);
        if (threadIdx.x < WIDTH && column < wide) store(one.place, column, total);
        if (threadIdx.x == 0) counter[one.low * groups + one.group] = 0u;
    }
    __syncthreads();
}

// -- tiles of a matrix product: D terms of each of 16 M x 16 N sums, of which a thread has M x N

template <int D, int H, int W, int M, int N, class A>
DEVICE void multiply_tiles(const A (&x)[D][H], const A (&y)[D][W], A (&sum)[M][N]) {
    const int row = threadIdx.x / 16 * M, column = threadIdx.x % 16;
    #pragma unroll
    for (int d = 0; d < D; d++) {
        A a[M], b[N];
        #pragma unroll
        for (int i = 0; i < M; i++) a[i] = x[d][row + i];
        #pragma unroll
        for (int j = 0; j < N; j++) b[j] = y[d][column + 16 * j];
        #pragma unroll
        for (int e = 0; e < M * N; e++) sum[e / N][e % N] += a[e / N] * b[e % N];
    }
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

COMMON = PRELUDE + r"""
// Write pointers and numbers into a program's table, so that one captured graph serves all arguments.
struct Cells { u64 at[500]; };
extern "C" __global__ void mg_bind(const Cells cells, u64* table, int count) {
    if ((int)threadIdx.x < count) table[threadIdx.x] = cells.at[threadIdx.x];
}

// Fill the tables of a loop's steps. A spec has the terms of a cell: a base (n > 0: the content of cell n - 1 of the
// table around the loop; n < 0: the address of that cell; 0), an offset for even steps and one for odd steps, and a
// stride (the cell of a factor, or 0, and bytes) that counts steps from the first to the last one, or back.
extern "C" __global__ void mg_steps(const i64* spec, const u64* outer, const u64* counter, u64* tables, i64 cells,
                                    i64 steps, i64 last, i64 back) {
    const i64 first = (i64)*counter;
    for (i64 t = (i64)blockIdx.x * THREADS + threadIdx.x; t < cells * steps; t += (i64)gridDim.x * THREADS) {
        const i64* s = spec + t % cells * 5;
        const i64 step = first + t / cells, stride = s[4] * (s[3] ? (i64)outer[s[3] - 1] : 1);
        const u64 begin = s[0] > 0 ? outer[s[0] - 1] : s[0] < 0 ? (u64)(outer - s[0] - 1) : 0;
        tables[t] = begin + (u64)s[1 + step % 2] + (u64)((back ? last - step : step) * stride);
    }
}
extern "C" __global__ void mg_advance(u64* counter, i64 steps) {
    if (threadIdx.x == 0) *counter += (u64)steps;
}
// A while: `control` has the number of completed steps, and the end mark. A step past the end of an outer loop starts
// with the mark.
extern "C" __global__ void mg_begin(u64* control, const u64* stop) {
    if (threadIdx.x == 0) { control[0] = 0; control[1] = stop && *stop; }
}
extern "C" __global__ void mg_go(u64* control, const bool* go) {
    if (threadIdx.x == 0 && !control[1]) { if (*go) control[0]++; else control[1] = 1; }
}

// Write zeros behind as many elements, of `width` halves of a word each, as a number of the table says.
extern "C" __global__ void mg_clear(const u64* table, i64 cell, unsigned short* values, i64 width, i64 end) {
    const i64 first = (i64)table[cell] * width + (i64)blockIdx.x * THREADS + threadIdx.x;
    for (i64 t = first; t < end; t += (i64)gridDim.x * THREADS) values[t] = 0;
}

// A stable sort by 8 bits of the keys, in two launches: each block counts its digits, then moves its keys. Keys that
// are sorted at first stay where they are; `counts` begins with each block's finding.
DEVICE bool in_order(const unsigned* counts) {
    return !__syncthreads_or(threadIdx.x < gridDim.x && counts[threadIdx.x]);
}
extern "C" __global__ void mg_count_digits(const unsigned* keys, unsigned* counts, i64 n, i64 each, i64 shift,
                                           i64 first) {
    __shared__ unsigned own[256];
    const i64 low = blockIdx.x * each, high = low + each < n ? low + each : n;
    if (!first && in_order(counts)) return;
    own[threadIdx.x] = 0;
    __syncthreads();
    bool wrong = false;
    for (i64 i = low + threadIdx.x; i < high; i += THREADS) {
        const unsigned key = keys[i];
        atomicAdd(&own[key >> shift & 255], 1u);
        wrong |= i > 0 && keys[i - 1] > key;
    }
    wrong = __syncthreads_or(wrong);
    if (first && threadIdx.x == 0) counts[blockIdx.x] = wrong;
    counts[256 * (blockIdx.x + 1) + threadIdx.x] = own[threadIdx.x];
}
extern "C" __global__ void mg_order_by_digit(const unsigned* keys, const unsigned* order, const unsigned* places,
                                             const unsigned* counts, unsigned* keys_out, unsigned* order_out, i64 n,
                                             i64 each, i64 shift, i64 first, i64 last) {
    __shared__ unsigned base[256], warps[8][256];
    const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    const i64 low = blockIdx.x * each, high = low + each < n ? low + each : n;
    if (in_order(counts)) {
        if (last) for (i64 i = low + tid; i < high; i += THREADS) {
            keys_out[i] = places[i];
            order_out[i] = (unsigned)i;
        }
        return;
    }
    // The offset of the block's keys with digit `tid`: behind smaller digits, and behind this digit in earlier blocks.
    unsigned before = 0, total = 0;
    for (unsigned b = 0; b < gridDim.x; b++) {
        const unsigned count = counts[256 * (b + 1) + tid];
        before += b < blockIdx.x ? count : 0;
        total += count;
    }
    unsigned sum = total;
    for (int d = 1; d < 32; d *= 2) {
        const unsigned other = __shfl_up_sync(0xffffffffu, sum, d);
        sum += lane >= d ? other : 0;
    }
    if (lane == 31) base[warp] = sum;
    __syncthreads();
    for (int k = 0; k < warp; k++) sum += base[k];
    __syncthreads();
    base[tid] = sum - total + before;
    // A warp takes 256 keys in a row, 32 at a time; a key's rank counts the earlier ones with its digit.
    for (i64 tile = low; tile < high; tile += 8 * THREADS) {
        unsigned key[8], rank[8];
        for (int k = 0; k < 8; k++) warps[k][tid] = 0;
        __syncthreads();
        #pragma unroll
        for (int k = 0; k < 8; k++) {
            const i64 i = tile + warp * 256 + k * 32 + lane;
            const bool live = i < high;
            key[k] = live ? keys[i] : 0;
            const unsigned digit = live ? key[k] >> shift & 255 : 256;
            const unsigned same = __match_any_sync(0xffffffffu, digit), ahead = same & ((1u << lane) - 1u);
            const unsigned had = live ? warps[warp][digit] : 0;
            rank[k] = had + __popc(ahead);
            __syncwarp(0xffffffffu);
            if (live && !ahead) warps[warp][digit] = had + __popc(same);
            __syncwarp(0xffffffffu);
        }
        __syncthreads();
        unsigned begin = base[tid];
        for (int k = 0; k < 8; k++) { const unsigned own = warps[k][tid]; warps[k][tid] = begin; begin += own; }
        base[tid] = begin;
        __syncthreads();
        #pragma unroll
        for (int k = 0; k < 8; k++) {
            const i64 i = tile + warp * 256 + k * 32 + lane;
            if (i >= high) continue;
            const unsigned to = warps[warp][key[k] >> shift & 255] + rank[k];
            keys_out[to] = key[k];
            order_out[to] = first ? (unsigned)i : order[i];
        }
        __syncthreads();
    }
}
// The offset behind the keys of each place.
extern "C" __global__ void mg_ends(const unsigned* keys, unsigned* ends, i64 n, i64 places) {
    const i64 p = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (p < places) ends[p] = (unsigned)segment_of(keys, n, p);
}
"""
