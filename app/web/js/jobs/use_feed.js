// The feed of a job as a hook of a view.

import { useEffect, useState } from "../html.js";
import { Feed } from "./feed.js";

/**
 * Follows a job while the view is shown.
 * @param {string} jobId
 * @returns {Feed | null} The feed; the view is drawn anew when it changes.
 */
export function useFeed(jobId) {
  const [feed, setFeed] = useState(/** @type {Feed | null} */ (null));
  const [, setVersion] = useState(0);
  useEffect(() => {
    const opened = new Feed(jobId, () => setVersion((version) => version + 1));
    setFeed(opened);
    return () => opened.close();
  }, [jobId]);
  return feed?.path === `train-jobs/${jobId}` ? feed : null;
}
