// A processor in the part of a GPU: what the kernels ask of CUDA, and `launch`, which runs one of its kernels.
//
// The threads of a block are fibers on one processor, switched at __syncthreads only, from first to last and back in
// turn, so that a missing barrier shows. Shared memory holds NaN at a block's start and the result at the kernel's.
// Inputs are read-only, and each buffer touches a page that must not be touched, at its end or at its start: a read or
// write out of bounds stops the kernel. Indices into arrays of known size are checked by the compiler
// (-fsanitize=bounds -fsanitize-undefined-trap-on-error).
#pragma once
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define WITHOUT_PTX
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))

extern "C" char __start_shared_memory[], __stop_shared_memory[];  // from the linker
__attribute__((section("shared_memory"), used)) static char at_least_one_byte;

struct Index {
  unsigned x;
};
static Index blockIdx, blockDim, threadIdx;

inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float half_to_float(unsigned short bits) {
  _Float16 value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline unsigned short float_to_half(float value) {
  const _Float16 half = value;
  unsigned short bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}
template <typename T>
T opaque(T value) {
  return value;
}

namespace shim {

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  bool finished;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static std::function<void()> body;
static sigjmp_buf escape;

inline void run_body() {
  body();
  fibers[threadIdx.x].finished = true;
}

// Runs one block; false if some of its threads ended while others wait at a barrier.
inline bool run_block(int threads) {
  memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    fiber.finished = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, run_body, 0);
  }
  for (int round = 0;; ++round) {
    int finished = 0;
    for (int n = 0; n < threads; ++n) {
      threadIdx.x = round % 2 ? threads - 1 - n : n;
      swapcontext(&scheduler, &fibers[threadIdx.x].context);
      finished += fibers[threadIdx.x].finished;
    }
    if (finished) return finished == threads;
  }
}

// A buffer between two pages that must not be touched, next to one of them.
struct Buffer {
  static constexpr size_t PAGE = 4096;
  size_t inner, bytes;
  char *mapped, *data;
  Buffer(size_t bytes, bool at_end) : inner((bytes + PAGE - 1) / PAGE * PAGE), bytes(bytes) {
    mapped = static_cast<char*>(mmap(nullptr, inner + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(mapped + PAGE, inner, PROT_READ | PROT_WRITE);
    memset(mapped + PAGE, 0xff, inner);
    data = mapped + PAGE + (at_end ? inner - bytes : 0);
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { munmap(mapped, inner + 2 * PAGE); }
  bool intact() const {  // what lies beside the data on its own pages
    for (const char* p = mapped + PAGE; p < mapped + PAGE + inner; ++p)
      if ((p < data || p >= data + bytes) && *p != static_cast<char>(0xff)) return false;
    return true;
  }
};

inline void on_fault(int signal) { siglongjmp(escape, signal); }

}  // namespace shim

inline void __syncthreads() {
  shim::Fiber& fiber = shim::fibers[threadIdx.x];
  swapcontext(&fiber.context, &shim::scheduler);
}

using Kernel = void(const void*, const void*, void*, long long, int, int, int, int, int, int);

// Runs blocks first_block to end_block - 1. Returns 0, the number of the signal that stopped the kernel, or -1 for a
// barrier that not all threads reach.
extern "C" int launch_in_place(Kernel* kernel, unsigned first_block, unsigned end_block, int threads, const void* image,
                               const void* other, void* result, long long maps, int channels, int height, int width,
                               int out_height, int out_width, int padding) {
  shim::fibers.resize(threads);
  blockDim.x = threads;
  shim::body = [&] {
    kernel(image, other, result, maps, channels, height, width, out_height, out_width, padding);
  };
  const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
  struct sigaction before[5], action = {};
  action.sa_handler = shim::on_fault;
  for (int i = 0; i < 5; ++i) sigaction(signals[i], &action, &before[i]);
  int status = sigsetjmp(shim::escape, 1);
  if (status == 0)
    for (blockIdx.x = first_block; blockIdx.x < end_block && status == 0; ++blockIdx.x)
      if (!shim::run_block(threads)) status = -1;
  for (int i = 0; i < 5; ++i) sigaction(signals[i], &before[i], nullptr);
  return status;
}

// The same between pages that must not be touched, with inputs that cannot be written; also returns -2 for a write
// beside the result.
extern "C" int launch(Kernel* kernel, unsigned first_block, unsigned end_block, int threads, bool at_end,
                      const void* image, size_t image_bytes, const void* other, size_t other_bytes, void* result,
                      size_t result_bytes, long long maps, int channels, int height, int width, int out_height,
                      int out_width, int padding) {
  shim::Buffer in(image_bytes, at_end), also_in(other_bytes, at_end), out(result_bytes, at_end);
  memcpy(in.data, image, image_bytes);
  memcpy(also_in.data, other, other_bytes);
  mprotect(in.mapped + in.PAGE, in.inner, PROT_READ);
  mprotect(also_in.mapped + also_in.PAGE, also_in.inner, PROT_READ);
  int status = launch_in_place(kernel, first_block, end_block, threads, in.data, also_in.data, out.data, maps, channels,
                               height, width, out_height, out_width, padding);
  if (status == 0 && !out.intact()) status = -2;
  memcpy(result, out.data, result_bytes);
  return status;
}
