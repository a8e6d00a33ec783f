// A network whose layers are laid out once in one memory, on which the kernel then runs.

/** @typedef {import("./weights.js").Layer} Layer */
/** @typedef {import("./weights.js").NetworkShape} NetworkShape */
/** @typedef {{layer: number, input: number, weights: number, bias: number, output: number}} Call */
/** @typedef {(layer: number, input: number, weights: number, bias: number, output: number) => void} Kernel */
/** @typedef {{address: number, width: number, side: number, channels: number, border: number}} Buffer A picture, or numbers (side 1). */

const SMALLEST_PICTURE = 4;
const FIRST_ADDRESS = 16384; // What lies below belongs to the compiled kernel.
const PAGE_BYTES = 65536;

export class Network {
  /**
   * Lays out a network.
   * @param {NetworkShape} network
   * @param {Layer[]} layers
   * @param {WebAssembly.Module | ((memory: Float32Array) => Kernel)} kernel The compiled one, or its JavaScript twin.
   */
  constructor(network, layers, kernel) {
    this.network = network;
    this.next = FIRST_ADDRESS;
    /** @type {[number, Float32Array | Int32Array][]} */
    this.contents = [];
    this.parts = {
      decoder: this.layOut(
        layers.filter((layer) => layer.part === "decoder"),
        network.latent_dim,
        1,
      ),
      encoder: this.layOut(
        layers.filter((layer) => layer.part === "encoder"),
        network.num_channels,
        network.image_size,
      ),
    };
    const pages = Math.ceil(this.next / PAGE_BYTES);
    const memory = typeof kernel === "function" ? null : new WebAssembly.Memory({ initial: pages });
    this.memory = new Float32Array(memory ? memory.buffer : new ArrayBuffer(pages * PAGE_BYTES));
    for (const [address, numbers] of this.contents) {
      const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
      new Uint8Array(this.memory.buffer).set(bytes, address);
    }
    this.contents = [];
    /** @type {Kernel} */
    this.kernel =
      typeof kernel === "function"
        ? kernel(this.memory)
        : /** @type {any} */ (
            new WebAssembly.Instance(kernel, { env: { memory: /** @type {any} */ (memory) } }).exports
          ).layer;
  }

  /**
   * Decodes a latent vector.
   * @param {ArrayLike<number>} z (latent_dim)
   * @param {ImageData} [image] Where the picture goes; a new one where none is given.
   * @returns {ImageData} The pixel means, image_size squared.
   */
  decode(z, image = new ImageData(this.network.image_size, this.network.image_size)) {
    const { num_channels: channels, image_size: side } = this.network;
    const logits = this.logits(z);
    const pixels = image.data;
    for (let i = 0; i < side * side; i++) {
      const red = toByte(logits[4 * i]);
      pixels[4 * i] = red;
      pixels[4 * i + 1] = channels === 1 ? red : toByte(logits[4 * i + 1]);
      pixels[4 * i + 2] = channels === 1 ? red : toByte(logits[4 * i + 2]);
      pixels[4 * i + 3] = 255;
    }
    return image;
  }

  /**
   * Returns the logits of the pixels, four numbers a pixel, in row order; they are overwritten by the next call.
   * @param {ArrayLike<number>} z (latent_dim)
   * @returns {Float32Array} (image_size, image_size, 4)
   */
  logits(z) {
    const part = /** @type {Part} */ (this.parts.decoder);
    this.memory.set(z, part.input.address / 4);
    this.run(part);
    const start = part.output.address / 4;
    return this.memory.subarray(start, start + this.network.image_size ** 2 * 4);
  }

  /** @param {Part} part */
  run(part) {
    for (const step of part.steps) {
      if (typeof step === "function") step();
      else this.kernel(step.layer, step.input, step.weights, step.bias, step.output);
    }
  }

  /**
   * Plans the calls of a part.
   * @param {Layer[]} layers
   * @param {number} channels Channels of the input.
   * @param {number} side Side of the input, 1 for numbers.
   * @returns {Part | null} Null where there are no layers.
   *
   * @typedef {{input: Buffer, output: Buffer, steps: (Call | (() => void))[]}} Part
   */
  layOut(layers, channels, side) {
    if (!layers.length) return null;
    const input = this.buffer(side, channels, side > 1 ? 1 : 0);
    let current = input;
    /** @type {(Call | (() => void))[]} */
    const steps = [];
    layers.forEach((layer, i) => {
      if (layer.kind === "linear" && current.side > 1) {
        const numbers = this.buffer(SMALLEST_PICTURE, current.channels, 0);
        this.copy(current, numbers, steps);
        current = { ...numbers, width: 1, side: 1, channels: layer.inputs };
      } else if (layer.kind !== "linear" && current.side === 1) {
        const numbers = { ...current, width: SMALLEST_PICTURE, side: SMALLEST_PICTURE, channels: layer.inputs };
        current = this.buffer(SMALLEST_PICTURE, layer.inputs, 1);
        this.copy(numbers, current, steps);
      }
      const last = i === layers.length - 1;
      const scale = { linear: 1, convolution: 0.5, transposed: 2 }[layer.kind];
      const output = this.buffer(current.side * scale, layer.outputs, layer.kind === "linear" || last ? 0 : 1);
      this.plan(layer, current, output, steps);
      current = output;
    });
    return { input, output: current, steps };
  }

  /**
   * Plans the kernel's calls of one layer.
   * @param {Layer} layer
   * @param {Buffer} input
   * @param {Buffer} output
   * @param {(Call | (() => void))[]} steps
   */
  plan(layer, input, output, steps) {
    const transposed = layer.kind === "transposed";
    const weights = this.place(layer.weight);
    const bias = this.place(layer.bias);
    const phases = transposed ? 2 : 1;
    const taps = { linear: 1, convolution: 4, transposed: 2 }[layer.kind];
    const stride = layer.kind === "convolution" ? 2 : 1;
    const rows = output.side / phases;
    const inRow = input.width * input.channels;
    const outRow = output.width * output.channels;
    const description = this.place(
      Int32Array.of(
        rows,
        rows,
        stride * inRow,
        stride * input.channels,
        phases * outRow,
        phases * output.channels,
        taps,
        inRow,
        taps * layer.inputs,
        layer.outputs,
        Number(layer.rectify),
      ),
    );
    for (let row = 0; row < phases; row++) {
      for (let column = 0; column < phases; column++) {
        steps.push({
          layer: description,
          // An odd output lies between its input and the next one, an even output between the one before and its input.
          input: input.address + 4 * (row * inRow + column * input.channels),
          weights: weights + 4 * (2 * row + column) * (layer.weight.length / (phases * phases)),
          bias,
          output: output.address + 4 * ((row + output.border) * outRow + (column + output.border) * output.channels),
        });
      }
    }
  }

  /**
   * Reserves a picture with a border of zeros.
   * @param {number} side
   * @param {number} channels
   * @param {number} border
   * @returns {Buffer}
   */
  buffer(side, channels, border) {
    const width = side + 2 * border;
    return { address: this.reserve(4 * width * width * channels), width, side, channels, border };
  }

  /**
   * Plans a copy between numbers and a picture with a border, of 4 by 4 pixels.
   * @param {Buffer} from
   * @param {Buffer} to
   * @param {(Call | (() => void))[]} steps
   */
  copy(from, to, steps) {
    const row = SMALLEST_PICTURE * to.channels;
    const inner = (/** @type {Buffer} */ picture, /** @type {number} */ y) =>
      picture.address / 4 + ((y + picture.border) * picture.width + picture.border) * picture.channels;
    steps.push(() => {
      for (let y = 0; y < SMALLEST_PICTURE; y++)
        this.memory.copyWithin(inner(to, y), inner(from, y), inner(from, y) + row);
    });
  }

  /** @param {Float32Array | Int32Array} numbers */
  place(numbers) {
    const address = this.reserve(numbers.byteLength);
    this.contents.push([address, numbers]);
    return address;
  }

  /** @param {number} bytes */
  reserve(bytes) {
    const address = this.next;
    this.next += Math.ceil(bytes / 16) * 16;
    return address;
  }
}

/** @param {number} logit */
function toByte(logit) {
  return 255 / (1 + Math.exp(-logit)); // The array of the picture rounds.
}
