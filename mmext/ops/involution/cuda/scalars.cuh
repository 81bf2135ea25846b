// Element types, as SCALAR (float, double, Half or BFloat16) names them, and what the kernels ask of the compiler.
//
// No header is included, so that it does not matter where a run-time compiler looks for them.

enum Pass { FORWARD, GRAD_X, GRAD_WEIGHT };

#ifndef WITHOUT_PTX  // a processor without PTX brings these itself
__device__ inline float half_to_float(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ inline unsigned short float_to_half(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
// Left to itself, the compiler computes the 64 bits of each address anew from the start of the tensor, at five
// instructions each; from a pointer that it cannot look through it takes one.
template <typename T>
__device__ inline T* opaque(T* pointer) {
  asm("" : "+l"(pointer));
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}
// Nor does it leave a loop of a known count alone, pragma or not.
__device__ inline int opaque(int number) {
  asm("" : "+r"(number));
  return number;
}
#endif

struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};
__device__ inline double widen(double value) { return value; }
__device__ inline float widen(float value) { return value; }
__device__ inline float widen(Half value) { return half_to_float(value.bits); }
__device__ inline float widen(BFloat16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }
__device__ inline void narrow(double value, double& to) { to = value; }
__device__ inline void narrow(float value, float& to) { to = value; }
__device__ inline void narrow(float value, Half& to) { to.bits = float_to_half(value); }
__device__ inline void narrow(float value, BFloat16& to) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(value));
#else  // to nearest, ties to even
  const unsigned bits = __float_as_uint(value);
  to.bits = value == value ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fff;
#endif
}

using scalar_t = SCALAR;
using sum_t = decltype(widen(scalar_t()));
