// The lists of models and data sets, and what was deleted but can still come back.

import { getAllPages } from "../api.js";
import { useCallback, useEffect, useRef, useState } from "../html.js";
import { inOrder } from "../newest.js";
import { deleteLater } from "../undo.js";

/** @typedef {import("../api.js").Problem} Problem */

/**
 * Loads both lists.
 * @returns {{
 *   models: any[] | null, datasets: any[] | null, isLoading: boolean, problem: Problem | null, dismiss: () => void, refuse: (problem: Problem) => void,
 *   reload: () => Promise<void>, remove: (path: string, name: string) => void,
 * }} `models` and `datasets` are null until they are loaded. `remove` deletes what a path names, after the time to undo it.
 */
export function useLists() {
  const [models, setModels] = useState(/** @type {any[] | null} */ (null));
  const [datasets, setDatasets] = useState(/** @type {any[] | null} */ (null));
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const [hidden, setHidden] = useState(/** @type {string[]} */ ([]));
  const [isLoading, setLoading] = useState(true);
  const ask = useRef(inOrder());
  const reload = useCallback(async () => {
    const isNewest = ask.current();
    setLoading(true);
    try {
      const [ofModels, ofDatasets] = await Promise.all([getAllPages("models"), getAllPages("datasets")]);
      if (!isNewest()) return;
      setModels(ofModels);
      setDatasets(ofDatasets);
    } catch (failure) {
      setProblem(/** @type {Problem} */ (failure));
    } finally {
      if (isNewest()) setLoading(false);
    }
  }, []);
  useEffect(() => void reload(), []);
  /** @param {string} path @param {string} name */
  const remove = (path, name) => {
    setHidden((before) => [...before, path]);
    const show = () => setHidden((before) => before.filter((one) => one !== path));
    deleteLater({ path, name, onUndone: show, onRefused: setProblem, onDone: () => reload().then(show) });
  };
  /** @param {string} kind @param {any[] | null} all */
  const shown = (kind, all) => all && all.filter(({ id }) => !hidden.includes(`${kind}/${id}`));
  return {
    models: shown("models", models),
    datasets: shown("datasets", datasets),
    isLoading,
    problem,
    dismiss: () => setProblem(null),
    refuse: setProblem,
    reload,
    remove,
  };
}
