// What is beneath the first screen: two latents at once, the way from A to B, and what can be taken away.

import { html, useMemo } from "../html.js";
import { Pad } from "./pad.js";
import { PathCard } from "./path.js";
import { TakeAway } from "./take_away.js";
import { useSettled } from "./vector.js";

/**
 * The cards beneath the picture and its sliders.
 * @param {{
 *   session: ReturnType<typeof import("./session.js").useSession>, shown: NonNullable<ReturnType<typeof import("./session.js").useSession>["shown"]>,
 * }} props
 */
export function More({ session, shown }) {
  const { actions, choices, current, ends, latents, pair } = session;
  // Two of them are drawn anew only when the vector rests, or not at all in a drag.
  const settled = useSettled(shown.z);
  const z = settled.length === latents.length ? settled : shown.z;
  const path = useMemo(
    () => html`<${PathCard} decoder=${shown.decoder} ends=${ends} t=${choices.t ?? 0} path=${choices.path}
      onEnd=${actions.setEnd} onMove=${actions.movePath} onRelease=${actions.pathReleased} />`,
    [shown.decoder, ends, choices],
  );
  const takeAway = useMemo(
    () => html`<${TakeAway} model=${shown.model.id} z=${z} latents=${latents} current=${current} pair=${pair} ends=${ends}
      path=${choices.path} onProblem=${actions.fail} />`,
    [shown.model, z, latents, current, pair.join(), ends, choices.path],
  );
  return html`<div class="explore-more">
    <${Pad} latents=${latents} z=${shown.z} pair=${pair} strips=${shown.map}
      onPair=${actions.choosePair} onMove=${actions.movePad} onStep=${actions.stepPad} onRelease=${actions.padReleased} />
    ${path}${takeAway}
  </div>`;
}
