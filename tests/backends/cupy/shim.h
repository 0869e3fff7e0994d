// CUDA's words for a processor: a kernel compiled under this header runs block after block, and each thread of a
// block is a fiber, so that barriers, shuffles and shared memory mean what they mean on a device. Blocks, and the
// threads between two barriers, run in any order that `shim_order` asks for: what needs another order is an error.
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define MINIGRAD_HOST
#define DEVICE static inline
#define METHOD inline
#define __global__
#define __shared__ static
#define __launch_bounds__(n)
#define __align__(n) __attribute__((aligned(n)))

struct Triple { unsigned x = 0, y = 0, z = 0; };
static Triple blockIdx, threadIdx, blockDim, gridDim;
extern "C" { int shim_order = 0; }  // 1: the last block and the last thread come first

static inline float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }
#define MG_INF __int_as_float(0x7f800000)
#define MG_NAN __int_as_float(0x7fc00000)
static inline float from_half(unsigned short h) { _Float16 x; memcpy(&x, &h, 2); return (float)x; }
static inline unsigned short to_half(float f) { _Float16 x = (_Float16)f; unsigned short h; memcpy(&h, &x, 2); return h; }

template <class T> static T* global(T* p) { return p; }
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };

// -- fibers

struct Fiber { jmp_buf at; bool begun = false, done = true; std::vector<char> stack; ucontext_t context; };
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static unsigned current, waiting, generation, alive;
static unsigned waits[1024];  // the mask of the lanes that a thread waits for
static unsigned long long brought[1024], answers[1024];
static void (*body)(void*);
static void* body_args;

static void enter() { body(body_args); fibers[current].done = true; _longjmp(scheduler, 1); }
static void resume(unsigned t) {
    current = t; threadIdx.x = t;
    if (_setjmp(scheduler)) return;
    Fiber& f = fibers[t];
    if (f.begun) _longjmp(f.at, 1);
    f.begun = true;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data(); f.context.uc_stack.ss_size = f.stack.size(); f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
    setcontext(&f.context);
}
static void pause_fiber() {
    unsigned t = current;
    if (!_setjmp(fibers[t].at)) _longjmp(scheduler, 1);
    current = t; threadIdx.x = t;
}
static void __syncthreads() {
    if (fibers.empty() || fibers[current].done) { fprintf(stderr, "shim: a barrier without fibers\n"); abort(); }
    unsigned mine = generation;
    if (++waiting == alive) { waiting = 0; generation++; return; }
    while (generation == mine) pause_fiber();
}
// What the lanes of `mask` exchange: the last one to come finds every lane's answer, f(lane), from what all have brought.
template <class F> static unsigned long long meet(unsigned mask, unsigned long long v, F f) {
    unsigned t = current, lane = t % 32, first = t - lane;
    if (!(mask >> lane & 1)) { fprintf(stderr, "shim: a lane outside of its mask\n"); abort(); }
    brought[t] = v; waits[t] = mask;
    bool all = true;
    for (unsigned l = 0; l < 32; l++) if (mask >> l & 1) all &= waits[first + l] == mask;
    if (all) {
        for (unsigned l = 0; l < 32; l++) if (mask >> l & 1) { answers[first + l] = f(l); waits[first + l] = 0; }
    }
    while (waits[t]) pause_fiber();
    return answers[t];
}
template <class T> static T __shfl_xor_sync(unsigned mask, T v, int d) {
    unsigned first = current / 32 * 32;
    if (!(mask >> (current % 32 ^ d) & 1)) { fprintf(stderr, "shim: a lane outside of its mask\n"); abort(); }
    unsigned long long bits = 0; memcpy(&bits, &v, sizeof(T));
    bits = meet(mask, bits, [&](unsigned lane) { return brought[first + (lane ^ d)]; });
    T out; memcpy(&out, &bits, sizeof(T));
    return out;
}
template <class T> static T __shfl_up_sync(unsigned mask, T v, unsigned d) {
    unsigned first = current / 32 * 32;
    unsigned long long bits = 0; memcpy(&bits, &v, sizeof(T));
    bits = meet(mask, bits, [&](unsigned lane) { return brought[first + (lane < d ? lane : lane - d)]; });
    T out; memcpy(&out, &bits, sizeof(T));
    return out;
}
static unsigned __match_any_sync(unsigned mask, unsigned v) {
    unsigned first = current / 32 * 32;
    return (unsigned)meet(mask, v, [&](unsigned lane) {
        unsigned same = 0;
        for (unsigned l = 0; l < 32; l++) same |= (unsigned)(mask >> l & 1 && brought[first + l] == brought[first + lane]) << l;
        return (unsigned long long)same; });
}
static int __popc(unsigned x) { return __builtin_popcount(x); }
template <class T> static T __ldg(const T* p) { return *p; }
static void __syncwarp(unsigned mask) { meet(mask, 0, [](unsigned) { return 0ull; }); }
static int __syncthreads_or(int v) {
    static int any;
    __syncthreads(); any = 0; __syncthreads(); any |= v != 0; __syncthreads();
    return any;
}
static void __threadfence() {}
static unsigned atomicAdd(unsigned* p, unsigned v) { unsigned old = *p; *p += v; return old; }

static void run_block(unsigned threads, bool together) {
    if (!together) {
        for (unsigned k = 0; k < threads; k++) { threadIdx.x = shim_order ? threads - 1 - k : k; body(body_args); }
        return;
    }
    if (fibers.size() < threads) { fibers.resize(threads); for (Fiber& f : fibers) f.stack.resize(65536); }
    for (unsigned t = 0; t < threads; t++) { fibers[t].begun = fibers[t].done = false; waits[t] = 0; }
    waiting = 0; alive = threads;
    for (unsigned rounds = 0; alive; rounds++) {
        if (rounds > 100000) { fprintf(stderr, "shim: threads wait for each other\n"); abort(); }
        for (unsigned k = 0; k < threads; k++) {
            unsigned t = shim_order ? threads - 1 - k : k;
            if (fibers[t].done) continue;
            resume(t);
            if (fibers[t].done && --alive && waiting == alive) { waiting = 0; generation++; }
        }
    }
}
template <class... P, size_t... K>
static void run_kernel(void (*kernel)(P...), unsigned grid, unsigned block, int together, void** args,
                       std::index_sequence<K...>) {
    auto call = [&] { kernel(*(std::remove_cv_t<P>*)args[K]...); };
    body_args = &call;
    body = [](void* f) { (*(decltype(call)*)f)(); };
    gridDim.x = grid; blockDim.x = block;
    for (unsigned k = 0; k < grid; k++) { blockIdx.x = shim_order ? grid - 1 - k : k; run_block(block, together); }
}
template <class... P> static void run(void (*kernel)(P...), unsigned grid, unsigned block, int together, void** args) {
    run_kernel(kernel, grid, block, together, args, std::index_sequence_for<P...>());
}

// -- functions that CUDA has and the C library has not: good to about 1e-13, for the range that tests use

static double erfinv(double y) {
    if (y <= -1 || y >= 1) return y == 1 ? INFINITY : y == -1 ? -INFINITY : NAN;
    double x = 0;
    for (int i = 0; i < 60; i++) x -= (y > 0 ? (1 - y) - erfc(x) : erfc(-x) - (1 + y)) * 0.88622692545275801 * exp(x * x) *
        1.0;
    return x;
}
static double erfcinv(double y) { return erfinv(1 - y); }
static double erfcx(double x) { return exp(x * x) * erfc(x); }
static double normcdfinv(double y) { return -1.4142135623730951 * erfinv(1 - 2 * y); }
static double cyl_bessel_i0(double x) { return std::cyl_bessel_i(0.0, fabs(x)); }
static double cyl_bessel_i1(double x) { return copysign(std::cyl_bessel_i(1.0, fabs(x)), x); }
static float erfinvf(float x) { return (float)erfinv(x); }
static float erfcinvf(float x) { return (float)erfcinv(x); }
static float erfcxf(float x) { return (float)erfcx(x); }
static float normcdfinvf(float x) { return (float)normcdfinv(x); }
static float cyl_bessel_i0f(float x) { return (float)cyl_bessel_i0(x); }
static float cyl_bessel_i1f(float x) { return (float)cyl_bessel_i1(x); }
