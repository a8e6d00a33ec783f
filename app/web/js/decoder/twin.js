// The kernel in plain JavaScript, for browsers without WebAssembly SIMD; kernel.c explains the order of the numbers.

/**
 * Computes one layer on a shared memory of floats; all addresses are in bytes, as in the kernel.
 * @param {Float32Array} memory
 * @returns {(layer: number, input: number, weights: number, bias: number, output: number) => void}
 */
export function javascriptKernel(memory) {
  const integers = new Int32Array(memory.buffer);
  return (layer, input, weights, bias, output) => {
    const [rows, columns, inRow, inColumn, outRow, outColumn, taps, tapRow, run, outputs, rectify] = integers.subarray(
      layer / 4,
      layer / 4 + 11,
    );
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        for (let o = 0; o < outputs; o += 4) {
          let w = weights / 4 + o;
          let a = memory[bias / 4 + o],
            b = memory[bias / 4 + o + 1],
            c = memory[bias / 4 + o + 2],
            d = memory[bias / 4 + o + 3];
          for (let tap = 0; tap < taps; tap++) {
            const from = input / 4 + y * inRow + x * inColumn + tap * tapRow;
            for (let i = from; i < from + run; i++, w += outputs) {
              const value = memory[i];
              a += value * memory[w];
              b += value * memory[w + 1];
              c += value * memory[w + 2];
              d += value * memory[w + 3];
            }
          }
          const to = output / 4 + y * outRow + x * outColumn + o;
          memory[to] = rectify && a < 0 ? 0 : a;
          memory[to + 1] = rectify && b < 0 ? 0 : b;
          memory[to + 2] = rectify && c < 0 ? 0 : c;
          memory[to + 3] = rectify && d < 0 ? 0 : d;
        }
      }
    }
  };
}
