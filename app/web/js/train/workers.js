// Whether a worker is there that can train.

import { Problem, getJson } from "../api.js";
import { useEffect, useState } from "../html.js";
import { whileVisible } from "../jobs/polling.js";

/**
 * Asks again and again whether a worker consumes trainings.
 * @returns {boolean | null} null as long as it is not known.
 */
export function useWorkers() {
  const [has, setHas] = useState(/** @type {boolean | null} */ (null));
  useEffect(
    () =>
      whileVisible(async () => {
        try {
          const { workers } = await getJson("readyz");
          setHas((workers.train ?? 0) > 0);
        } catch (error) {
          // The answer names the queues that nobody consumes.
          if (error instanceof Problem) setHas(error.code === "workers_busy" ? !/\btrain\b/.test(error.message) : null);
        }
      }, 10),
    [],
  );
  return has;
}
