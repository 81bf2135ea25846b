// Involution on the GPU: the forward pass and the gradients of x and of the weights, one of them per compilation.
//
// x [maps, channels, height, width], weights [maps, K, K, out_height, out_width] and out [maps, channels, out_height,
// out_width] are contiguous; a map is one group of one image. At K = 7 and 16 channels per group the weights are three
// quarters of what must be read, so each pass touches every weight once and reuses it for the channels of its group:
//
// - A thread owns one column of ROWS sites: output pixels, or pixels of x for the gradient of x. Neighbouring threads
//   own neighbouring columns, so that reads and writes are coalesced for any width and alignment.
// - It goes through the tap columns v one at a time. The K * ROWS weights of that column and the CHANNELS * ROWS sums
//   are in registers; the weights of the next column are already on their way meanwhile.
// - The image under the sites (x; for the gradient of x: the gradient of the output) is in shared memory, as packs of
//   16 bytes of channels, with zeros where it ends. One pack is read per image row and serves all taps and sites that
//   meet that row: ROWS + K - 1 reads instead of ROWS * K.
// - The gradient of the weights is the same walk with the roles changed: the CHANNELS * ROWS gradients stay in
//   registers, the K * ROWS sums of one tap column are written, and the next column begins.
// - The gradient of x gathers, so that no two threads write to one place. With a stride, the taps that meet a pixel
//   depend only on its row and column modulo the stride (its phase); pixels of one phase are the sites of a block, and
//   for them the sum is one of stride 1 over every STEP-th tap.
// - Where the tile does not fit into shared memory (large dilations), or the gradient of the weights has more channels
//   than CHANNELS to add up, the same code reads the image from global memory instead (TILED = 0).
//
// plan.py defines, beside what scalars.cuh in front of this file needs: NAME, of the kernel; PASS; KERNEL_SIZE, STRIDE,
// DILATION; CHANNELS and ROWS of a thread; the tile of TILE_ROWS x TILE_COLUMNS threads and the MAPS such tiles in a
// block; TILED; OFFSET, the integer type that can address one map.

using offset_t = OFFSET;

__host__ __device__ constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
constexpr int common_divisor(int a, int b) { return b == 0 ? a : common_divisor(b, a % b); }
constexpr int largest_divisor(int a, int limit) { return a % limit == 0 ? limit : largest_divisor(a, limit - 1); }

// As seen from the sites, the taps are TAPS rows and columns, SITE_STEP image pixels per site and TAP_STEP per tap.
constexpr bool GATHER = PASS == GRAD_X;
constexpr int STEP = STRIDE / common_divisor(STRIDE, DILATION);  // of two successive taps that meet one pixel of x
constexpr int TAPS = GATHER ? divide_up(KERNEL_SIZE, STEP) : KERNEL_SIZE;
constexpr int SITE_STEP = GATHER ? 1 : STRIDE;
constexpr int TAP_STEP = GATHER ? DILATION / common_divisor(STRIDE, DILATION) : DILATION;
constexpr int RESULT_STEP = GATHER ? STRIDE : 1;

constexpr int TAP_ROWS = largest_divisor(TAPS, 7);  // of one tap column, in registers at once
constexpr int THREADS = MAPS * TILE_ROWS * TILE_COLUMNS;
constexpr int LANES = divide_up(THREADS, 32) * 32;
constexpr int PACK = CHANNELS * sizeof(sum_t) < 16 ? CHANNELS : 16 / sizeof(sum_t);
constexpr int PACKS = CHANNELS / PACK;
struct alignas(PACK * sizeof(sum_t)) Pack {
  sum_t at[PACK];
};

// Image columns that successive sites meet at one tap lie side by side: bank conflicts would halve the speed otherwise.
constexpr int IMAGE_ROWS = (TILE_ROWS * ROWS - 1) * SITE_STEP + (TAPS - 1) * TAP_STEP + 1;
constexpr int IMAGE_COLUMNS = (TILE_COLUMNS - 1) * SITE_STEP + (TAPS - 1) * TAP_STEP + 1;
constexpr int LANE_COLUMNS = divide_up(IMAGE_COLUMNS, SITE_STEP);
constexpr int PITCH = LANE_COLUMNS * SITE_STEP;
constexpr int AREA = IMAGE_ROWS * PITCH;
constexpr int TILE = TILED ? PACKS * MAPS * AREA : 1;
constexpr int TOGETHER = CHANNELS > 4 ? 32 / CHANNELS : 8;  // pixels that a thread loads at once
__device__ inline int slot(int column) { return column % SITE_STEP * LANE_COLUMNS + column / SITE_STEP; }

// Lanes that a multiprocessor's registers must do for: 384, where 220 KiB of shared memory do as well.
constexpr bool MANY = TILED && sizeof(sum_t) == 4 && 220 * 1024 / (TILE * sizeof(Pack) + 1024) * LANES >= 384;
constexpr int RESIDENT = MANY ? 384 : 256;

// What the kernel is called with, and the sizes of the image and of the result among them.
struct Sizes {
  long long maps;
  int channels, height, width, out_height, out_width, padding;
  __device__ int image_height() const { return GATHER ? out_height : height; }
  __device__ int image_width() const { return GATHER ? out_width : width; }
  __device__ offset_t image_area() const { return static_cast<offset_t>(image_height()) * image_width(); }
  __device__ offset_t weight_area() const { return static_cast<offset_t>(out_height) * out_width; }
  __device__ int result_height() const { return GATHER ? height : out_height; }
  __device__ int result_width() const { return GATHER ? width : out_width; }
};

// Where a thread works: its column of sites, and the part of the image that its block needs.
struct Place {
  long long first_map, map;
  int first_channel;
  int row, column;                         // of the first site, counted in sites of the phase
  int y, x;                                // of the first site, in the result
  int top, left;                           // the tile's corner in the image
  int local_row, local_column, local_map;  // in the tile
  // of the gradient of x, whose walk goes from the last tap to the first, so that the image pixel moves on with the tap
  int first_tap_row, first_tap_column;
  bool column_exists;

  // The block number counts, from its lowest digit on, blocks of channels, phases, tile columns, tile rows and groups
  // of MAPS maps.
  __device__ Place(const Sizes& s) {
    unsigned block = blockIdx.x;
    const auto digit = [&block](int base) {
      const int value = block % base;
      block /= base;
      return value;
    };
    first_channel = PASS == GRAD_WEIGHT ? 0 : digit(divide_up(s.channels, CHANNELS)) * CHANNELS;
    const int phase_column = digit(RESULT_STEP), phase_row = digit(RESULT_STEP);
    const int width = divide_up(s.result_width(), RESULT_STEP), height = divide_up(s.result_height(), RESULT_STEP);
    column = digit(divide_up(width, TILE_COLUMNS)) * TILE_COLUMNS;
    row = digit(divide_up(height, TILE_ROWS * ROWS)) * TILE_ROWS * ROWS;
    first_map = static_cast<long long>(block) * MAPS;
    top = start(row, phase_row, s.padding, first_tap_row);
    left = start(column, phase_column, s.padding, first_tap_column);

    const int thread = threadIdx.x;
    local_column = thread % TILE_COLUMNS;
    local_row = thread / TILE_COLUMNS % TILE_ROWS * ROWS;
    local_map = thread / (TILE_COLUMNS * TILE_ROWS);
    row += local_row;
    column += local_column;
    map = first_map + local_map;
    y = phase_row + row * RESULT_STEP;
    x = phase_column + column * RESULT_STEP;
    column_exists = map < s.maps && x < s.result_width();
  }

  // The image row (or column) that the first site of a tile meets at the first step of the walk.
  __device__ static int start(int site, int phase, int padding, int& tap) {
    tap = 0;
    if constexpr (GATHER) {
      while (tap < STEP && (phase + padding - tap * DILATION) % STRIDE != 0) ++tap;
      if (tap == STEP) tap = KERNEL_SIZE;  // none meets the phase
      return site + (phase + padding - tap * DILATION) / STRIDE - (TAPS - 1) * TAP_STEP;
    }
    return site * SITE_STEP - padding;
  }
};

__device__ inline bool within(int index, int size) { return 0 <= index && index < size; }

__device__ inline void fill(Pack* tile, const scalar_t* image, const Sizes& s, const Place& p) {
  const scalar_t* first_image = image + (p.first_map * s.channels + p.first_channel) * s.image_area();
#pragma unroll TOGETHER
  for (int pixel = threadIdx.x; pixel < MAPS * AREA; pixel += THREADS) {
    const int map = MAPS == 1 ? 0 : pixel / AREA, image_row = p.top + pixel / PITCH - map * IMAGE_ROWS;
    const int image_column = p.left + pixel % PITCH;
    const bool inside = within(image_row, s.image_height()) && within(image_column, s.image_width());
    const int present = inside && p.first_map + map < s.maps ? s.channels - p.first_channel : 0;
    const offset_t position = static_cast<offset_t>(image_row) * s.image_width() + image_column;
    const scalar_t* from = opaque(first_image + map * s.channels * static_cast<long long>(s.image_area()) + position);
    Pack* to = tile + pixel / PITCH * PITCH + slot(pixel % PITCH);
#pragma unroll
    for (int k = 0; k < PACKS; ++k) {
      Pack pack;
#pragma unroll
      for (int e = 0; e < PACK; ++e)
        pack.at[e] = k * PACK + e < present ? widen(from[(k * PACK + e) * s.image_area()]) : sum_t(0);
      to[k * MAPS * AREA] = pack;
    }
  }
}

// The pack of channels from `channel` on that site q of this thread meets at tap (t, v); k is its number in the tile.
__device__ inline Pack pixels(const Pack* tile, const scalar_t* image, const Sizes& s, const Place& p, int channel,
                              int k, int q, int t, int v) {
  const int down = (p.local_row + q) * SITE_STEP + t * TAP_STEP;
  if constexpr (TILED)
    return tile[(k * MAPS + p.local_map) * AREA + down * PITCH + slot(v * TAP_STEP) + p.local_column];
  const int image_row = p.top + down, image_column = p.left + p.local_column * SITE_STEP + v * TAP_STEP;
  const bool inside = within(image_row, s.image_height()) && within(image_column, s.image_width());
  const int present = inside && p.map < s.maps ? s.channels - channel : 0;
  const offset_t position = static_cast<offset_t>(image_row) * s.image_width() + image_column;
  const scalar_t* from = image + (p.map * s.channels + channel) * s.image_area() + position;
  Pack pack;
#pragma unroll
  for (int e = 0; e < PACK; ++e) pack.at[e] = e < present ? widen(from[e * s.image_area()]) : sum_t(0);
  return pack;
}

constexpr int BLOCKS = TAPS / TAP_ROWS;  // of tap rows; a step of the walk is one block of one tap column
__device__ inline int tap_column(int step) { return BLOCKS == 1 ? step : step % TAPS; }
__device__ inline int first_tap_row(int step) { return BLOCKS == 1 ? 0 : step / TAPS * TAP_ROWS; }

// FORWARD and GRAD_X
__device__ inline void aggregate(const Pack* tile, const scalar_t* image, const scalar_t* weights, scalar_t* result,
                                 const Sizes& s, const Place& p) {
  const offset_t result_area = static_cast<offset_t>(s.result_height()) * s.result_width();
  const int rows = p.column_exists ? divide_up(s.result_height() - p.y, RESULT_STEP) : 0;
  scalar_t* to = opaque(result + (p.map * s.channels + p.first_channel) * result_area +
                        static_cast<offset_t>(p.y) * s.result_width() + p.x);

  // the weight of tap (t, v) at site q lies t * row_step + v * column_step + q * out_width behind that of the first tap
  const offset_t area = s.weight_area();
  const offset_t row_step = GATHER ? TAP_STEP * s.out_width - STEP * KERNEL_SIZE * area : KERNEL_SIZE * area;
  const offset_t column_step = GATHER ? TAP_STEP - STEP * area : area;
  const int i = GATHER ? p.top + p.local_row : p.row, j = GATHER ? p.left + p.local_column : p.column;
  const int last_row = p.first_tap_row + (TAPS - 1) * STEP, last_column = p.first_tap_column + (TAPS - 1) * STEP;
  const scalar_t* weight = opaque(weights + p.map * KERNEL_SIZE * KERNEL_SIZE * area +
                                  (GATHER ? last_row * KERNEL_SIZE + last_column : 0) * area +
                                  static_cast<offset_t>(i) * s.out_width + j);
  const bool taps_exist = p.column_exists && p.first_tap_row < KERNEL_SIZE && p.first_tap_column < KERNEL_SIZE;
  const int first_i = taps_exist ? i : s.out_height;  // where nothing exists
  const int steps = opaque(TAPS * BLOCKS);
  const auto read = [&](int step, scalar_t(&to)[TAP_ROWS][ROWS]) {
    const int v = tap_column(step), first_row = first_tap_row(step);
    bool column_exists = step < steps && (STEP == 1 || !GATHER || last_column - v * STEP < KERNEL_SIZE);
    if (GATHER) column_exists &= within(j + v * TAP_STEP, s.out_width);
#pragma unroll
    for (int t = 0; t < TAP_ROWS; ++t) {
      const int row = first_i + (GATHER ? (first_row + t) * TAP_STEP : 0);
      const bool tap_exists = STEP == 1 || !GATHER || last_row - (first_row + t) * STEP < KERNEL_SIZE;
      const scalar_t* from = opaque(weight + t * row_step);
#pragma unroll
      for (int q = 0; q < ROWS; ++q) {
        const bool exists = column_exists && tap_exists && (!GATHER || 0 <= row + q) && row + q < s.out_height;
        to[t][q] = exists ? from[q * s.out_width] : scalar_t();
      }
    }
    weight += v + 1 < TAPS ? column_step : TAP_ROWS * row_step - (TAPS - 1) * column_step;
  };

  sum_t sums[CHANNELS][ROWS] = {};
  scalar_t ahead[TAP_ROWS][ROWS];
  read(0, ahead);
  if constexpr (TILED) __syncthreads();
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    sum_t weights_of_step[TAP_ROWS][ROWS];
#pragma unroll
    for (int t = 0; t < TAP_ROWS; ++t)
#pragma unroll
      for (int q = 0; q < ROWS; ++q) weights_of_step[t][q] = widen(ahead[t][q]);
    read(step + 1, ahead);
#pragma unroll
    for (int k = 0; k < PACKS; ++k)
#pragma unroll
      for (int t = 0; t < TAP_ROWS; ++t)
#pragma unroll
        for (int q = 0; q < ROWS; ++q) {
          const int channel = p.first_channel + k * PACK;
          const Pack pack = pixels(tile, image, s, p, channel, k, q, first_tap_row(step) + t, tap_column(step));
#pragma unroll
          for (int e = 0; e < PACK; ++e) sums[k * PACK + e][q] += weights_of_step[t][q] * pack.at[e];
        }
  }
#pragma unroll
  for (int c = 0; c < CHANNELS; ++c)
#pragma unroll
    for (int q = 0; q < ROWS; ++q)
      if (q < rows && p.first_channel + c < s.channels)
        narrow(sums[c][q], to[c * result_area + static_cast<offset_t>(q) * RESULT_STEP * s.result_width()]);
}

// GRAD_WEIGHT
__device__ inline void correlate(const Pack* tile, const scalar_t* image, const scalar_t* grad_out, scalar_t* result,
                                 const Sizes& s, const Place& p) {
  const offset_t area = s.weight_area(), site = static_cast<offset_t>(p.row) * s.out_width + p.column;
  const scalar_t* from = opaque(grad_out + p.map * s.channels * area + site);
  scalar_t* to = opaque(result + p.map * KERNEL_SIZE * KERNEL_SIZE * area + site);
  sum_t grads[CHANNELS][ROWS];
  const auto read = [&](int first_channel) {
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
#pragma unroll
      for (int q = 0; q < ROWS; ++q) {
        const bool exists = p.column_exists && p.row + q < s.out_height && first_channel + c < s.channels;
        grads[c][q] = exists ? widen(from[(first_channel + c) * area + q * s.out_width]) : sum_t(0);
      }
  };
  if constexpr (TILED) {
    read(0);
    __syncthreads();
  }
  const int steps = opaque(TAPS * BLOCKS);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int v = tap_column(step), first_row = first_tap_row(step);
    sum_t sums[TAP_ROWS][ROWS] = {};
    for (int channel = 0; channel == 0 || (!TILED && channel < s.channels); channel += CHANNELS) {
      if constexpr (!TILED) read(channel);
#pragma unroll
      for (int k = 0; k < PACKS; ++k)
#pragma unroll
        for (int t = 0; t < TAP_ROWS; ++t)
#pragma unroll
          for (int q = 0; q < ROWS; ++q) {
            const Pack pack = pixels(tile, image, s, p, channel + k * PACK, k, q, first_row + t, v);
#pragma unroll
            for (int e = 0; e < PACK; ++e) sums[t][q] += grads[k * PACK + e][q] * pack.at[e];
          }
    }
#pragma unroll
    for (int t = 0; t < TAP_ROWS; ++t)
#pragma unroll
      for (int q = 0; q < ROWS; ++q)
        if (p.column_exists && p.row + q < s.out_height)
          narrow(sums[t][q], to[((first_row + t) * KERNEL_SIZE + v) * area + q * s.out_width]);
  }
}

// FORWARD: image is x, other the weights, result the output. GRAD_X: the gradient of the output, the weights, the
// gradient of x. GRAD_WEIGHT: x, the gradient of the output, the gradient of the weights.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT < LANES ? 1 : RESIDENT / LANES)
    NAME(const scalar_t* __restrict__ image, const scalar_t* __restrict__ other, scalar_t* __restrict__ result,
         long long maps, int channels, int height, int width, int out_height, int out_width, int padding) {
  const Sizes sizes{maps, channels, height, width, out_height, out_width, padding};
  const Place place(sizes);
  __shared__ Pack tile[TILE];
  if constexpr (TILED) fill(tile, image, sizes, place);
  if constexpr (PASS == GRAD_WEIGHT)
    correlate(tile, image, other, result, sizes, place);
  else
    aggregate(tile, image, other, result, sizes, place);
}
