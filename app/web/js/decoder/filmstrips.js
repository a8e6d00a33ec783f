// Filmstrips: the pictures of a latent over several values, decoded in a Web Worker while the page stays responsive.

/**
 * @typedef {{z: number[], latents: number[], values: number[]}} Request
 */

export class Filmstrips {
  /**
   * Starts the worker, which loads the decoder.
   * @param {string} path Path such as "models/chairs/web".
   */
  constructor(path) {
    this.worker = new Worker(new URL("filmstrips_worker.js", import.meta.url), { type: "module" });
    this.worker.postMessage({ base: document.baseURI.split("#")[0], path });
    this.worker.onmessage = (message) => this.answered(message.data);
    /** @type {{request: Request, resolve: (pictures: ImageData[][] | null) => void} | null} */
    this.waiting = null;
    /** @type {((pictures: ImageData[][] | null) => void) | null} */
    this.running = null;
  }

  /**
   * Decodes one strip per latent; all other latents stay at z.
   * @param {ArrayLike<number>} z (latent_dim)
   * @param {number[]} latents Indices.
   * @param {number[]} values Values that each latent takes.
   * @returns {Promise<ImageData[][] | null>} Pictures, (latents, values); null where a later request came first, and
   *   where the decoder cannot be loaded.
   */
  render(z, latents, values) {
    return new Promise((resolve) => {
      this.waiting?.resolve(null);
      this.waiting = { request: { z: Array.from(z), latents, values }, resolve };
      if (!this.running) this.next();
    });
  }

  /** Stops the worker; what is asked for is answered with null. */
  close() {
    this.worker.terminate();
    this.running?.(null);
    this.waiting?.resolve(null);
    this.running = this.waiting = null;
  }

  next() {
    if (!this.waiting) return;
    this.running = this.waiting.resolve;
    this.worker.postMessage(this.waiting.request);
    this.waiting = null;
  }

  /** @param {ImageData[][] | null} pictures */
  answered(pictures) {
    this.running?.(pictures);
    this.running = null;
    this.next();
  }
}
