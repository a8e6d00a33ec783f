// The one computation of the page's networks, for WebAssembly with SIMD. It is compiled by kernel.sh into kernel.wasm.
//
// Pictures are rows of pixels of channels (channels last), with a border of zeros where a layer reads beyond the edge.
// Weights lie in the order in which they are read: (taps down, taps across, inputs, outputs); the outputs are a multiple
// of 4. A linear layer is a layer of one pixel and one tap, a transposed convolution is four of two by two taps, one
// for each parity of the output's row and column.

#include <wasm_simd128.h>

typedef struct {
  int rows, columns;                            // size of the output
  int in_row, in_column, out_row, out_column;   // floats from one output pixel to the next, in input and output
  int taps, tap_row, run;                       // taps down; floats from one to the next; contiguous floats of each
  int outputs, rectify;                         // output channels; whether a ReLU follows
} Layer;

// Computes PIXELS neighbouring pixels at VECTORS * 4 output channels, whose sums stay in registers.
#define DEFINE_TILE(PIXELS, VECTORS)                                                                                  \
  static void tile_##PIXELS##_##VECTORS(const Layer *l, const float *in, const float *w, const float *bias, float *out) { \
    v128_t sum[PIXELS][VECTORS];                                                                                      \
    for (int p = 0; p < PIXELS; p++)                                                                                  \
      for (int v = 0; v < VECTORS; v++) sum[p][v] = wasm_v128_load(bias + 4 * v);                                     \
    for (int tap = 0; tap < l->taps; tap++) {                                                                         \
      const float *row = in + tap * l->tap_row;                                                                       \
      for (int i = 0; i < l->run; i++, w += l->outputs)                                                               \
        for (int p = 0; p < PIXELS; p++) {                                                                            \
          v128_t x = wasm_v128_load32_splat(row + i + p * l->in_column);                                              \
          for (int v = 0; v < VECTORS; v++)                                                                           \
            sum[p][v] = wasm_f32x4_add(sum[p][v], wasm_f32x4_mul(x, wasm_v128_load(w + 4 * v)));                      \
        }                                                                                                             \
    }                                                                                                                 \
    for (int p = 0; p < PIXELS; p++)                                                                                  \
      for (int v = 0; v < VECTORS; v++)                                                                               \
        wasm_v128_store(out + p * l->out_column + 4 * v,                                                              \
                        l->rectify ? wasm_f32x4_pmax(wasm_f32x4_splat(0), sum[p][v]) : sum[p][v]);                    \
  }
DEFINE_TILE(4, 2)
DEFINE_TILE(4, 1)
DEFINE_TILE(1, 4)
DEFINE_TILE(1, 1)

__attribute__((export_name("layer"))) void layer(const Layer *l, const float *in, const float *weights,
                                                 const float *bias, float *out) {
  int pixels = l->columns % 4 ? 1 : 4, widest = pixels == 4 ? 2 : 4;
  for (int y = 0; y < l->rows; y++)
    for (int x = 0; x < l->columns; x += pixels)
      for (int o = 0, vectors; o < l->outputs; o += 4 * vectors) {
        const float *i = in + y * l->in_row + x * l->in_column;
        float *to = out + y * l->out_row + x * l->out_column + o;
        vectors = o + 4 * widest <= l->outputs ? widest : 1;
        if (pixels == 4 && vectors == 2) tile_4_2(l, i, weights + o, bias + o, to);
        else if (pixels == 4) tile_4_1(l, i, weights + o, bias + o, to);
        else if (vectors == 4) tile_1_4(l, i, weights + o, bias + o, to);
        else tile_1_1(l, i, weights + o, bias + o, to);
      }
}
