// A model with its decoder and the workers that draw its filmstrips, loaded together.

import { getAllPages, getJson } from "../api.js";
import { loadDecoder } from "../decoder/decoder.js";
import { Filmstrips } from "../decoder/filmstrips.js";
import { useEffect, useState } from "../html.js";

/**
 * @typedef {{model: any, decoder: import("../decoder/decoder.js").Decoder, strips: Filmstrips, map: Filmstrips}} Loaded
 *   The model as the API shows it, its decoder, and who renders the filmstrips of the sliders and those of the pad.
 */

/**
 * Loads a model; the one before stays until the next is there.
 * @param {string} id Id of the model.
 * @param {(problem: Error) => void} onProblem Called where it cannot be loaded.
 * @returns {Loaded | null}
 */
export function useLoadedModel(id, onProblem) {
  const [loaded, setLoaded] = useState(/** @type {Loaded | null} */ (null));
  useEffect(() => {
    const stop = new AbortController();
    const path = `models/${encodeURIComponent(id)}`;
    Promise.all([getJson(path, { signal: stop.signal }), loadDecoder(`${path}/web`)])
      .then(([model, decoder]) => {
        if (!stop.signal.aborted)
          setLoaded({ model, decoder, strips: new Filmstrips(`${path}/web`), map: new Filmstrips(`${path}/web`) });
      })
      .catch((problem) => stop.signal.aborted || onProblem(problem));
    return () => stop.abort();
  }, [id]);
  useEffect(() => {
    if (!loaded) return;
    return () => {
      loaded.strips.close();
      loaded.map.close();
    };
  }, [loaded]);
  return loaded;
}

/**
 * Returns all models for the chooser; an empty list until they are there.
 * @param {(problem: Error) => void} onProblem
 * @returns {any[]}
 */
export function useModelList(onProblem) {
  const [models, setModels] = useState(/** @type {any[]} */ ([]));
  useEffect(() => {
    const stop = new AbortController();
    getAllPages("models", { signal: stop.signal })
      .then(setModels)
      .catch((problem) => stop.signal.aborted || onProblem(problem));
    return () => stop.abort();
  }, []);
  return models;
}
