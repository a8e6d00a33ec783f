// Whether something is on the screen, so that only what is seen is drawn.

import { useEffect, useState } from "./html.js";

/**
 * Returns whether an element is on the screen, or was.
 * @param {{current: Element | null}} reference
 * @param {{once?: boolean}} [options] `once`: what was seen stays true.
 * @returns {boolean}
 */
export function useVisible(reference, { once = false } = {}) {
  const [visible, setVisible] = useState(false);
  useEffect(() => {
    const element = reference.current;
    if (!element) return undefined;
    const observer = new IntersectionObserver(
      (entries) => {
        const now = entries[entries.length - 1].isIntersecting;
        setVisible((before) => now || (once && before));
        if (now && once) observer.disconnect();
      },
      { rootMargin: "100px" },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return visible;
}
