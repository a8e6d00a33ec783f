/* The arithmetic of convolutions of kernel 4, stride 2 and padding 1, of transposed ones, and of the gradients of both.

   A file for each level of instructions (avx512.c, avx2.c, neon.c) includes this one. It defines:

       LEVEL    the suffix of the functions at the end
       TARGET   the attribute of a function that uses the level's instructions; a definition on the compiler's command
                line comes first, so that tests compile every level for the processor that they run on
       LANES    floats of a vector
       ROWS     rows of a product that are computed together; 8 is a multiple of it
       COLUMNS  vectors of a row that are computed together; 32 floats are a multiple of them
       TAPS     weights of a picture whose gradients are summed together, at most; 12 is a multiple of it
       BLOCKS   vectors of a picture's 2x2 blocks that are computed together

   Every level computes the same bits: the order of the terms of a sum depends on none of these numbers, and each
   product is added to its sum by one fused operation.

   A convolution takes a fine map (2h x 2w) to a coarse one (h x w); a transposed one goes back. Let a block be the 2x2
   pixels of the fine map at rows 2i-1, 2i and columns 2j-1, 2j, zeros outside of the map: over blocks, a convolution
   has kernel 2 and stride 1, and so has a transposed one. Maps are (n, rows, columns, channels), float32; weights are
   (coarse channels, fine channels, 4, 4), with the distances of their indices in memory as `steps`.

   Maps of many channels are convolved by Winograd's minimal filtering, further down. Pictures have few channels: a
   patch or a block of a picture is a row of an ordinary product of matrices.

   Everything runs in the calling thread. Sums are finite where those of numbers below 1e37 are; beyond, and where an
   input is infinite, more of them may be NaN than with other algorithms. */

#include <string.h>

#define INLINE TARGET static inline __attribute__((always_inline))
/* Sums stay in registers only where the loops over them are unrolled. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 24")
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int mask __attribute__((vector_size(4 * LANES)));

typedef struct {
  long n, h, w, fine, coarse; /* images, size of the coarse map, channels of both */
} shape;

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE vec relu(vec v) { return (vec)((mask)v & ~(v <= 0)); } /* NaN stays NaN */

/* Sizes of a fine map with a border of one pixel. */
static long line_of(shape s) { return (2 * s.w + 2) * s.fine; }
static long padded_size(shape s) { return (2 * s.h + 2) * line_of(s); }

/* ---- Pictures: 1 or 3 fine channels. w is a multiple of 8. */

/* Copies one image's fine map into a map with a border. */
INLINE void pad(shape s, const float *image, float *padded) {
  long row = 2 * s.w * s.fine;
  for (long y = 0; y < 2 * s.h; y++)
    memcpy(padded + (y + 1) * line_of(s) + s.fine, image + y * row, row * sizeof(float));
}

/* Coarse pixel (i, j) comes from the patch at rows 2i to 2i+3 of the padded map: 4 runs of 4 * fine numbers. */
INLINE void picture_coarser(shape s, const float *from, const float *weight, const long *steps, const float *bias,
                            int rectify, float *to, float *scratch) {
  float *kernel = scratch, *padded = kernel + 64 * s.coarse;
  long run = 4 * s.fine;
  for (long y = 0; y < 4; y++)
    for (long k = 0; k < run; k++)
      for (long o = 0; o < s.coarse; o++)
        kernel[(y * run + k) * s.coarse + o] =
            weight[o * steps[0] + k % s.fine * steps[1] + y * steps[2] + k / s.fine * steps[3]];
  memset(padded, 0, padded_size(s) * sizeof(float));
  for (long image = 0; image < s.n; image++, from += 4 * s.h * s.w * s.fine) {
    pad(s, from, padded);
    for (long i = 0; i < s.h; i++)
      for (long j = 0; j < s.w; j += ROWS)
        for (long column = 0; column < s.coarse; column += COLUMNS * LANES) {
          float *pixels = to + ((image * s.h + i) * s.w + j) * s.coarse + column;
          vec sum[ROWS][COLUMNS];
          UNROLL for (int p = 0; p < ROWS; p++)
            UNROLL for (int v = 0; v < COLUMNS; v++) sum[p][v] = bias ? load(bias + column + v * LANES) : (vec){0};
          for (long y = 0; y < 4; y++) {
            const float *patch = padded + (2 * i + y) * line_of(s) + 2 * j * s.fine;
            for (long k = 0; k < run; k++) {
              const float *row = kernel + (y * run + k) * s.coarse + column;
              UNROLL for (int p = 0; p < ROWS; p++)
                UNROLL for (int v = 0; v < COLUMNS; v++) sum[p][v] += patch[2 * p * s.fine + k] * load(row + v * LANES);
            }
          }
          UNROLL for (int p = 0; p < ROWS; p++)
            UNROLL for (int v = 0; v < COLUMNS; v++)
              store(pixels + p * s.coarse + v * LANES, rectify ? relu(sum[p][v]) : sum[p][v]);
        }
  }
}

/* Block (i, j) comes from the coarse pixels at rows i-1 and i and columns j-1 and j: a row of the sum is a block. */
INLINE void picture_finer(shape s, const float *from, const float *weight, const long *steps, const float *bias,
                          int rectify, float *to, float *scratch) {
  long run = (s.w + 2) * s.coarse, pair = 2 * s.fine, num_blocks = (s.h + 1) * (s.w + 2) - 1;
  long vectors = (2 * pair + LANES - 1) / LANES, width = vectors * LANES, count = BLOCKS / vectors;
  float *kernel = scratch, *padded = kernel + 64 * s.coarse, *framed = padded + padded_size(s);
  float offsets[16] = {0};
  memset(kernel, 0, 64 * s.coarse * sizeof(float));
  for (long r = 0; r < 2; r++)
    for (long c = 0; c < pair; c++) {
      if (bias) offsets[r * pair + c] = bias[c % s.fine];
      /* Row r of a block takes kernel row 2 + r for the pixels above, row r for those below; likewise its columns. */
      for (long a = 0; a < 2; a++)
        for (long b = 0; b < 2; b++)
          for (long o = 0; o < s.coarse; o++)
            kernel[((2 * a + b) * s.coarse + o) * width + r * pair + c] =
                weight[o * steps[0] + c % s.fine * steps[1] + (2 - 2 * a + r) * steps[2] +
                       (2 - 2 * b + c / s.fine) * steps[3]];
    }
  memset(framed, 0, (s.h + 2) * run * sizeof(float));
  for (long image = 0; image < s.n; image++) {
    for (long i = 0; i < s.h; i++)
      memcpy(framed + (i + 1) * run + s.coarse, from + (image * s.h + i) * s.w * s.coarse,
             s.w * s.coarse * sizeof(float));
    /* All blocks in turn, with one too many at the end of each row; some of the last ones are computed twice. */
    for (long done = 0; done < num_blocks; done += count) {
      long first = done + count > num_blocks ? num_blocks - count : done;
      vec sum[BLOCKS];
      UNROLL for (int p = 0; p < count; p++)
        UNROLL for (int v = 0; v < vectors; v++) sum[p * vectors + v] = load(offsets + v * LANES);
      for (long corner = 0; corner < 4; corner++) {
        const float *pixels = framed + first * s.coarse + corner / 2 * run + corner % 2 * s.coarse;
        for (long o = 0; o < s.coarse; o++) {
          const float *row = kernel + (corner * s.coarse + o) * width;
          UNROLL for (int p = 0; p < count; p++)
            UNROLL for (int v = 0; v < vectors; v++)
              sum[p * vectors + v] += pixels[p * s.coarse + o] * load(row + v * LANES);
        }
      }
      UNROLL for (int p = 0; p < count; p++) {
        long i = (first + p) / (s.w + 2), j = (first + p) % (s.w + 2);
        float block[16], *corner = padded + 2 * i * line_of(s) + j * pair;
        UNROLL for (int v = 0; v < vectors; v++)
          store(block + v * LANES, rectify ? relu(sum[p * vectors + v]) : sum[p * vectors + v]);
        if (j > s.w) continue;
        memcpy(corner, block, pair * sizeof(float));
        memcpy(corner + line_of(s), block + pair, pair * sizeof(float));
      }
    }
    for (long y = 0; y < 2 * s.h; y++)
      memcpy(to + (image * 2 * s.h + y) * s.w * pair, padded + (y + 1) * line_of(s) + s.fine,
             s.w * pair * sizeof(float));
  }
}

INLINE void picture_weight_gradient(shape s, const float *from, const float *to, float *gradient, const long *steps,
                                    float *scratch) {
  float *sums = scratch, *padded = sums + 64 * s.coarse;
  long run = 4 * s.fine, taps = run < TAPS ? run : TAPS;
  memset(sums, 0, 4 * run * s.coarse * sizeof(float));
  memset(padded, 0, padded_size(s) * sizeof(float));
  for (long image = 0; image < s.n; image++, from += 4 * s.h * s.w * s.fine, to += s.h * s.w * s.coarse) {
    pad(s, from, padded);
    for (long y = 0; y < 4; y++)
      for (long tap = 0; tap < run; tap += taps)
        for (long column = 0; column < s.coarse; column += COLUMNS * LANES) {
          float *rows = sums + (y * run + tap) * s.coarse + column;
          vec sum[TAPS][COLUMNS];
          UNROLL for (int k = 0; k < taps; k++)
            UNROLL for (int v = 0; v < COLUMNS; v++) sum[k][v] = load(rows + k * s.coarse + v * LANES);
          for (long i = 0; i < s.h; i++)
            for (long j = 0; j < s.w; j++) {
              const float *patch = padded + (2 * i + y) * line_of(s) + 2 * j * s.fine + tap;
              const float *pixel = to + (i * s.w + j) * s.coarse + column;
              UNROLL for (int k = 0; k < taps; k++)
                UNROLL for (int v = 0; v < COLUMNS; v++) sum[k][v] += patch[k] * load(pixel + v * LANES);
            }
          UNROLL for (int k = 0; k < taps; k++)
            UNROLL for (int v = 0; v < COLUMNS; v++) store(rows + k * s.coarse + v * LANES, sum[k][v]);
        }
  }
  for (long y = 0; y < 4; y++)
    for (long k = 0; k < run; k++)
      for (long o = 0; o < s.coarse; o++)
        gradient[o * steps[0] + k % s.fine * steps[1] + y * steps[2] + k / s.fine * steps[3]] =
            sums[(y * run + k) * s.coarse + o];
}

/* ---- Maps of many channels: multiples of 32; h and w are even.

   Let a block D be a row of K = 4 * fine channels numbers. Along one dimension, two outputs of the convolution are

       y0 = w0 d0 + w1 d1 = m0 + m1        m0 = w0 (d0 - d1)    m1 = (w0 + w1) d1
       y1 = w0 d1 + w1 d2 = m1 - m2        m2 = w1 (d1 - d2)

   three products instead of four; along both dimensions, nine instead of sixteen (Lavin and Gray 2016, F(2x2, 2x2)). A
   tile is 2x2 outputs. Each of the nine points is a product of matrices, (tiles x K) by (K x coarse channels). */

#define POINTS 9
#define TILES 64 /* at least, in a pass over the nine points; they stay in the cache where an image has no more */

static long tiles_of(shape s) { return s.h / 2 * (s.w / 2); }
static long images_at_once(shape s) { return tiles_of(s) >= TILES ? 1 : TILES / tiles_of(s); }
static long rows_of(shape s) { return (images_at_once(s) * tiles_of(s) + ROWS - 1) / ROWS * ROWS; }

/* The parts of a function's `scratch`: the weights and both maps at the nine points, and one image with a border of
   zeros. */
typedef struct {
  float *kernel, *fine, *coarse, *padded;
  long fine_point, coarse_point; /* floats from one point of a map to the next */
} parts;

static parts parts_of(shape s, float *scratch) {
  parts p = {.fine_point = rows_of(s) * 4 * s.fine, .coarse_point = rows_of(s) * s.coarse};
  p.kernel = scratch;
  p.fine = p.kernel + POINTS * 4 * s.fine * s.coarse;
  p.coarse = p.fine + POINTS * p.fine_point;
  p.padded = p.coarse + POINTS * p.coarse_point;
  return p;
}

/* Sets c to the product a b, or adds it if `add`: c is ROWS x COLUMNS vectors, a is ROWS x depth. The other arguments
   are the distances in memory of the rows of all three and of the columns of a. */
INLINE void multiply(long depth, const float *a, long a_row, long a_column, const float *b, long b_row, float *c,
                     long c_row, int add) {
  vec sum[ROWS][COLUMNS];
  UNROLL for (int i = 0; i < ROWS; i++)
    UNROLL for (int v = 0; v < COLUMNS; v++) sum[i][v] = add ? load(c + i * c_row + v * LANES) : (vec){0};
  for (long k = 0; k < depth; k++)
    UNROLL for (int i = 0; i < ROWS; i++)
      UNROLL for (int v = 0; v < COLUMNS; v++)
        sum[i][v] += a[i * a_row + k * a_column] * load(b + k * b_row + v * LANES);
  UNROLL for (int i = 0; i < ROWS; i++)
    UNROLL for (int v = 0; v < COLUMNS; v++) store(c + i * c_row + v * LANES, sum[i][v]);
}

/* Transforms one image's fine map to (d0 - d1, d1, d1 - d2) along both dimensions, (point, tile, K). `padded` is the
   image with its border. */
INLINE void transform_fine(shape s, const float *image, float *padded, float *to, long point) {
  long line = line_of(s), pair = 2 * s.fine;
  pad(s, image, padded);
  for (long i = 0; i < s.h / 2; i++)
    for (long j = 0; j < s.w / 2; j++) {
      const float *corner = padded + 4 * i * line + 2 * j * pair;
      float *tile = to + (i * (s.w / 2) + j) * 2 * pair;
      for (long r = 0; r < 2; r++)
        for (long k = 0; k < pair; k += LANES) {
          vec d[3][3];
          UNROLL for (int a = 0; a < 3; a++) {
            const float *p = corner + (2 * a + r) * line + k;
            vec d0 = load(p), d1 = load(p + pair), d2 = load(p + 2 * pair);
            d[a][0] = d0 - d1, d[a][1] = d1, d[a][2] = d1 - d2;
          }
          UNROLL for (int b = 0; b < 3; b++) {
            float *p = tile + b * point + r * pair + k;
            store(p, d[0][b] - d[1][b]);
            store(p + 3 * point, d[1][b]);
            store(p + 6 * point, d[1][b] - d[2][b]);
          }
        }
    }
}

/* Transforms one image's coarse map, the gradient of the sums y0 and y1, to that of their terms: (y0, y0 + y1, -y1)
   along both dimensions, (point, tile, coarse channels). */
INLINE void transform_coarse(shape s, const float *image, float *to, long point) {
  for (long i = 0; i < s.h / 2; i++)
    for (long j = 0; j < s.w / 2; j++)
      for (long k = 0; k < s.coarse; k += LANES) {
        const float *p = image + (2 * i * s.w + 2 * j) * s.coarse + k;
        vec a = load(p), b = load(p + s.coarse), c = load(p + s.w * s.coarse), d = load(p + (s.w + 1) * s.coarse);
        vec upper[3] = {a, a + b, -b}, lower[3] = {c, c + d, -d};
        float *q = to + (i * (s.w / 2) + j) * s.coarse + k;
        UNROLL for (int x = 0; x < 3; x++) {
          store(q + x * point, upper[x]);
          store(q + (3 + x) * point, upper[x] + lower[x]);
          store(q + (6 + x) * point, -lower[x]);
        }
      }
}

/* Sums the products of the points to one image's coarse map. */
INLINE void sum_coarse(shape s, const float *from, long point, const float *bias, int rectify, float *image) {
  for (long i = 0; i < s.h / 2; i++)
    for (long j = 0; j < s.w / 2; j++)
      for (long k = 0; k < s.coarse; k += LANES) {
        const float *p = from + (i * (s.w / 2) + j) * s.coarse + k;
        vec offset = bias ? load(bias + k) : (vec){0}, m[2][3];
        UNROLL for (int x = 0; x < 3; x++) {
          vec m0 = load(p + x * point), m1 = load(p + (3 + x) * point), m2 = load(p + (6 + x) * point);
          m[0][x] = m0 + m1, m[1][x] = m1 - m2;
        }
        UNROLL for (int y = 0; y < 2; y++) {
          vec left = m[y][0] + m[y][1] + offset, right = m[y][1] - m[y][2] + offset;
          float *q = image + ((2 * i + y) * s.w + 2 * j) * s.coarse + k;
          store(q, rectify ? relu(left) : left);
          store(q + s.coarse, rectify ? relu(right) : right);
        }
      }
}

/* Finds the points, tiles and signs of the terms of block b along a dimension of `blocks` - 1 outputs, and returns how
   many terms there are. d0 of a tile is d2 of the tile before it. */
INLINE int terms_of(long b, long blocks, int points[3], long tiles[3], int signs[3]) {
  int count = 0;
  if (b % 2) {
    for (; count < 3; count++) points[count] = count, tiles[count] = b / 2, signs[count] = count ? 1 : -1;
    return count;
  }
  if (b < blocks - 1) points[count] = 0, tiles[count] = b / 2, signs[count++] = 1;
  if (b > 0) points[count] = 2, tiles[count] = b / 2 - 1, signs[count++] = -1;
  return count;
}

/* Sums the products of the points to one image's fine map. */
INLINE void sum_fine(shape s, const float *from, long point, const float *bias, int rectify, float *image) {
  long block = 4 * s.fine;
  for (long i = 0; i <= s.h; i++)
    for (long j = 0; j <= s.w; j++) {
      int y_points[3], y_signs[3], x_points[3], x_signs[3], count = 0, positive[9];
      long y_tiles[3], x_tiles[3];
      const float *terms[9];
      int ys = terms_of(i, s.h + 1, y_points, y_tiles, y_signs), xs = terms_of(j, s.w + 1, x_points, x_tiles, x_signs);
      for (int y = 0; y < ys; y++)
        for (int x = 0; x < xs; x++) {
          terms[count] = from + (3 * y_points[y] + x_points[x]) * point + (y_tiles[y] * (s.w / 2) + x_tiles[x]) * block;
          positive[count++] = y_signs[y] == x_signs[x];
        }
      for (long r = 0; r < 2; r++)
        for (long c = 0; c < 2; c++) {
          long row = 2 * i - 1 + r, column = 2 * j - 1 + c;
          if (row < 0 || row >= 2 * s.h || column < 0 || column >= 2 * s.w) continue;
          for (long k = 0; k < s.fine; k += LANES) {
            vec sum = bias ? load(bias + k) : (vec){0};
            for (int t = 0; t < count; t++) {
              vec term = load(terms[t] + (2 * r + c) * s.fine + k);
              sum = positive[t] ? sum + term : sum - term;
            }
            store(image + (row * 2 * s.w + column) * s.fine + k, rectify ? relu(sum) : sum);
          }
        }
    }
}

/* Transforms weights (coarse, fine, 4, 4) to (w0, w0 + w1, w1) along both dimensions, (point, K, coarse), or
   (point, coarse, K) if `back`. `steps` are the distances in memory of their four indices. */
INLINE void transform_weights(shape s, const float *weight, const long *steps, int back, float *kernel) {
  long size = 4 * s.fine * s.coarse;
  for (long y = 0; y < 4; y++)
    for (long x = 0; x < 4; x++) {
      /* Kernel row 2 i + r is row r of block row i. */
      float *corner = kernel + (y / 2 * 6 + x / 2 * 2) * size;
      long first = (y % 2 * 2 + x % 2) * s.fine;
      for (long o = 0; o < s.coarse; o++)
        for (long c = 0; c < s.fine; c++)
          corner[back ? o * 4 * s.fine + first + c : (first + c) * s.coarse + o] =
              weight[o * steps[0] + c * steps[1] + y * steps[2] + x * steps[3]];
    }
  for (int y = 0; y < 3; y += 2)
    for (long k = 0; k < size; k++) {
      float *p = kernel + 3 * y * size + k;
      p[size] = p[0] + p[2 * size];
    }
  for (long k = 0; k < 3 * size; k++) kernel[3 * size + k] = kernel[k] + kernel[6 * size + k];
}

/* Transforms gradients at the points, (point, K, coarse), to the gradient of the weights; overwrites `kernel`. */
INLINE void sum_weights(shape s, float *kernel, const long *steps, float *gradient) {
  long size = 4 * s.fine * s.coarse;
  /* w0 is part of the points 0 and 1, w1 of 1 and 2. */
  for (int p = 0; p < 8; p++)
    if (p % 3 < 2)
      for (long k = 0; k < size; k++) kernel[p * size + k] += kernel[(p + 1) * size + k];
  for (int p = 0; p < 5; p++)
    if (p % 3 < 2)
      for (long k = 0; k < size; k++) kernel[p * size + k] += kernel[(p + 3) * size + k];
  for (long y = 0; y < 4; y++)
    for (long x = 0; x < 4; x++) {
      const float *corner = kernel + (y / 2 * 3 + x / 2) * size + (y % 2 * 2 + x % 2) * s.fine * s.coarse;
      for (long o = 0; o < s.coarse; o++)
        for (long c = 0; c < s.fine; c++)
          gradient[o * steps[0] + c * steps[1] + y * steps[2] + x * steps[3]] = corner[c * s.coarse + o];
    }
}

INLINE void winograd_coarser(shape s, const float *from, const float *weight, const long *steps, const float *bias,
                             int rectify, float *to, float *scratch) {
  parts at = parts_of(s, scratch);
  long tiles = tiles_of(s), depth = 4 * s.fine, step = images_at_once(s);
  transform_weights(s, weight, steps, 0, at.kernel);
  memset(at.padded, 0, padded_size(s) * sizeof(float));
  for (long first = 0; first < s.n; first += step) {
    long count = s.n - first < step ? s.n - first : step;
    for (long i = 0; i < count; i++)
      transform_fine(s, from + (first + i) * 4 * s.h * s.w * s.fine, at.padded, at.fine + i * tiles * depth,
                     at.fine_point);
    for (long p = 0; p < POINTS; p++)
      for (long column = 0; column < s.coarse; column += COLUMNS * LANES)
        for (long row = 0; row < count * tiles; row += ROWS)
          multiply(depth, at.fine + p * at.fine_point + row * depth, depth, 1,
                   at.kernel + p * depth * s.coarse + column, s.coarse,
                   at.coarse + p * at.coarse_point + row * s.coarse + column, s.coarse, 0);
    for (long i = 0; i < count; i++)
      sum_coarse(s, at.coarse + i * tiles * s.coarse, at.coarse_point, bias, rectify,
                 to + (first + i) * s.h * s.w * s.coarse);
  }
}

INLINE void winograd_finer(shape s, const float *from, const float *weight, const long *steps, const float *bias,
                           int rectify, float *to, float *scratch) {
  parts at = parts_of(s, scratch);
  long tiles = tiles_of(s), width = 4 * s.fine, step = images_at_once(s);
  transform_weights(s, weight, steps, 1, at.kernel);
  for (long first = 0; first < s.n; first += step) {
    long count = s.n - first < step ? s.n - first : step;
    for (long i = 0; i < count; i++)
      transform_coarse(s, from + (first + i) * s.h * s.w * s.coarse, at.coarse + i * tiles * s.coarse, at.coarse_point);
    for (long p = 0; p < POINTS; p++)
      for (long column = 0; column < width; column += COLUMNS * LANES)
        for (long row = 0; row < count * tiles; row += ROWS)
          multiply(s.coarse, at.coarse + p * at.coarse_point + row * s.coarse, s.coarse, 1,
                   at.kernel + p * width * s.coarse + column, width,
                   at.fine + p * at.fine_point + row * width + column, width, 0);
    for (long i = 0; i < count; i++)
      sum_fine(s, at.fine + i * tiles * width, at.fine_point, bias, rectify, to + (first + i) * 4 * s.h * s.w * s.fine);
  }
}

INLINE void winograd_weight_gradient(shape s, const float *from, const float *to, float *gradient, const long *steps,
                                     float *scratch) {
  parts at = parts_of(s, scratch);
  long tiles = tiles_of(s), depth = 4 * s.fine, step = images_at_once(s);
  memset(at.padded, 0, padded_size(s) * sizeof(float));
  memset(at.kernel, 0, POINTS * depth * s.coarse * sizeof(float));
  for (long first = 0; first < s.n; first += step) {
    long count = s.n - first < step ? s.n - first : step;
    for (long i = 0; i < count; i++) {
      transform_fine(s, from + (first + i) * 4 * s.h * s.w * s.fine, at.padded, at.fine + i * tiles * depth,
                     at.fine_point);
      transform_coarse(s, to + (first + i) * s.h * s.w * s.coarse, at.coarse + i * tiles * s.coarse, at.coarse_point);
    }
    for (long p = 0; p < POINTS; p++)
      for (long column = 0; column < s.coarse; column += COLUMNS * LANES)
        for (long row = 0; row < depth; row += ROWS)
          multiply(count * tiles, at.fine + p * at.fine_point + row, 1, depth,
                   at.coarse + p * at.coarse_point + column, s.coarse,
                   at.kernel + (p * depth + row) * s.coarse + column, s.coarse, 1);
  }
  sum_weights(s, at.kernel, steps, gradient);
}

/* ---- The level's functions for callers. */

#define JOINED(name, level) name##_##level
#define NAME(name, level) JOINED(name, level)
#define PUBLIC(name) NAME(name, LEVEL)
#define SHAPE long n, long h, long w, long fine, long coarse
#define DISPATCH(name, ...)                                   \
  if (fine == 1)                                              \
    picture_##name((shape){n, h, w, 1, coarse}, __VA_ARGS__); \
  else if (fine == 3)                                         \
    picture_##name((shape){n, h, w, 3, coarse}, __VA_ARGS__); \
  else                                                        \
    winograd_##name((shape){n, h, w, fine, coarse}, __VA_ARGS__)

/* Floats that each function needs as `scratch`. */
long PUBLIC(scratch_size)(SHAPE) {
  shape s = {n, h, w, fine, coarse};
  if (fine <= 3) return 64 * coarse + padded_size(s) + (h + 2) * (w + 2) * coarse;
  return POINTS * (4 * fine * coarse + rows_of(s) * (4 * fine + coarse)) + padded_size(s);
}

/* The convolution: fine map, weights and bias (or NULL) -> coarse map, followed by a ReLU if `rectify`. */
TARGET void PUBLIC(coarser)(const float *from, const float *weight, const long *steps, const float *bias, int rectify,
                            float *to, float *scratch, SHAPE) {
  DISPATCH(coarser, from, weight, steps, bias, rectify, to, scratch);
}

/* The transposed convolution: coarse map, weights and bias (or NULL) -> fine map, followed by a ReLU if `rectify`. */
TARGET void PUBLIC(finer)(const float *from, const float *weight, const long *steps, const float *bias, int rectify,
                          float *to, float *scratch, SHAPE) {
  DISPATCH(finer, from, weight, steps, bias, rectify, to, scratch);
}

/* The gradient of the weights from a fine map and a coarse one, of which one is the gradient of the layer's output. */
TARGET void PUBLIC(weight_gradient)(const float *from, const float *to, float *gradient, const long *steps,
                                    float *scratch, SHAPE) {
  DISPATCH(weight_gradient, from, to, gradient, steps, scratch);
}
