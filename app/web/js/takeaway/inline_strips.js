// Filmstrips without a Web Worker, which a page from disk cannot start: one latent at a time, between which the page lives.

export class InlineStrips {
  /** @param {{decode: (z: ArrayLike<number>) => ImageData}} network */
  constructor(network) {
    this.network = network;
    this.turn = 0;
  }

  /**
   * Decodes one strip per latent, as Filmstrips does.
   * @param {ArrayLike<number>} z (latent_dim)
   * @param {number[]} latents Indices.
   * @param {number[]} values Values that each latent takes.
   * @returns {Promise<ImageData[][] | null>} Pictures, (latents, values); null where a later call came first.
   */
  async render(z, latents, values) {
    const turn = ++this.turn;
    const pictures = [];
    for (const latent of latents) {
      await new Promise((resolve) => setTimeout(resolve));
      if (turn !== this.turn) return null;
      pictures.push(
        values.map((value) => this.network.decode(Array.from(z, (before, k) => (k === latent ? value : before)))),
      );
    }
    return pictures;
  }
}
