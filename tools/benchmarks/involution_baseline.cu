// Involution with one thread per element of the result, to measure the backend's kernels against.
//
// This is how the published implementation works, written anew from its description: the thread of an output element
// goes through the K * K taps, reads a weight and a pixel for each and adds their product up; so do the threads of the
// gradients. Threads share nothing but what the caches hold.
//
// Compiled with the backend's scalars.cuh in front and called as its kernels.cu: of the macros NAME, PASS, SCALAR,
// KERNEL_SIZE, STRIDE and DILATION are needed, the arguments are the same, and the grid has one thread for each element
// of the result. Indices have 32 bits.

// FORWARD: other is the weights, result the output
__device__ inline void forward(const scalar_t* x, const scalar_t* weight, scalar_t* out, int index, int channels,
                               int height, int width, int out_height, int out_width, int padding) {
  const int j = index % out_width, i = index / out_width % out_height, plane = index / out_width / out_height;
  const int map = plane / channels;
  sum_t sum = 0;
#pragma unroll
  for (int u = 0; u < KERNEL_SIZE; ++u)
#pragma unroll
    for (int v = 0; v < KERNEL_SIZE; ++v) {
      const int y = i * STRIDE - padding + u * DILATION, x_ = j * STRIDE - padding + v * DILATION;
      if (0 <= y && y < height && 0 <= x_ && x_ < width) {
        const int tap = (map * KERNEL_SIZE + u) * KERNEL_SIZE + v;
        sum += widen(weight[(tap * out_height + i) * out_width + j]) * widen(x[(plane * height + y) * width + x_]);
      }
    }
  narrow(sum, out[index]);
}

// GRAD_X: image is the gradient of the output, other the weights
__device__ inline void grad_x(const scalar_t* grad_out, const scalar_t* weight, scalar_t* grad, int index, int channels,
                              int height, int width, int out_height, int out_width, int padding) {
  const int x = index % width, y = index / width % height, plane = index / width / height;
  const int map = plane / channels;
  sum_t sum = 0;
#pragma unroll
  for (int u = 0; u < KERNEL_SIZE; ++u)
#pragma unroll
    for (int v = 0; v < KERNEL_SIZE; ++v) {
      const int down = y + padding - u * DILATION, right = x + padding - v * DILATION;
      if (down % STRIDE == 0 && right % STRIDE == 0) {
        const int i = down / STRIDE, j = right / STRIDE;
        if (0 <= i && i < out_height && 0 <= j && j < out_width) {
          const int tap = (map * KERNEL_SIZE + u) * KERNEL_SIZE + v;
          sum += widen(weight[(tap * out_height + i) * out_width + j]) *
                 widen(grad_out[(plane * out_height + i) * out_width + j]);
        }
      }
    }
  narrow(sum, grad[index]);
}

// GRAD_WEIGHT: image is x, other the gradient of the output
__device__ inline void grad_weight(const scalar_t* x, const scalar_t* grad_out, scalar_t* grad, int index, int channels,
                                   int height, int width, int out_height, int out_width, int padding) {
  const int j = index % out_width, i = index / out_width % out_height, tap = index / out_width / out_height;
  const int v = tap % KERNEL_SIZE, u = tap / KERNEL_SIZE % KERNEL_SIZE, map = tap / KERNEL_SIZE / KERNEL_SIZE;
  const int y = i * STRIDE - padding + u * DILATION, x_ = j * STRIDE - padding + v * DILATION;
  sum_t sum = 0;
  if (0 <= y && y < height && 0 <= x_ && x_ < width)
    for (int plane = map * channels; plane < (map + 1) * channels; ++plane)
      sum += widen(x[(plane * height + y) * width + x_]) * widen(grad_out[(plane * out_height + i) * out_width + j]);
  narrow(sum, grad[index]);
}

extern "C" __global__ void NAME(const scalar_t* __restrict__ image, const scalar_t* __restrict__ other,
                                scalar_t* __restrict__ result, long long maps, int channels, int height, int width,
                                int out_height, int out_width, int padding) {
  const int planes = static_cast<int>(maps) * (PASS == GRAD_WEIGHT ? KERNEL_SIZE * KERNEL_SIZE : channels);
  const int elements = planes * (PASS == GRAD_X ? height * width : out_height * out_width);
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= elements) return;
  if constexpr (PASS == FORWARD)
    forward(image, other, result, index, channels, height, width, out_height, out_width, padding);
  else if constexpr (PASS == GRAD_X)
    grad_x(image, other, result, index, channels, height, width, out_height, out_width, padding);
  else
    grad_weight(image, other, result, index, channels, height, width, out_height, out_width, padding);
}
