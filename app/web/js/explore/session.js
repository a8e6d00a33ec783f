// What the explore view knows and does: the model, the vector that is shown, and each action of the visitor.

import { Problem } from "../api.js";
import { useEffect, useMemo, useRef, useState } from "../html.js";
import { replaceState } from "../router.js";
import { readState, writeState } from "./address.js";
import { useLabels } from "./labels.js";
import {
  describeVector,
  drawVector,
  latentsOf,
  nameOf,
  rounded,
  seededRandom,
  startVector,
  valueText,
  within,
} from "./latents.js";
import { useLoadedModel } from "./loading.js";
import { useMotion, wantsStillness } from "./motion.js";
import { encodePicture } from "./own_picture.js";
import { between, useLatentVector, withValue } from "./vector.js";

const FIRST_MODEL = "chairs";

/** @typedef {Omit<import("./address.js").ViewState, "model" | "z">} Choices The pad's latents, and the way from A to B. */

/** @type {Choices} */
export const NO_CHOICES = { pair: null, a: null, b: null, t: null, path: "slerp" };

/** The state in which the view was left, for the way back from another view. */
let left = new URLSearchParams();

/**
 * Holds the state of the explore view, in step with the address of the page.
 * @param {URLSearchParams} params The state in the address.
 */
export function useSession(params) {
  const given = useRef(params.has("model") ? params : left);
  const touched = useRef(given.current.has("z"));
  const [wanted, setWanted] = useState(given.current.get("model") || FIRST_MODEL);
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const fail = (/** @type {unknown} */ error) =>
    setProblem(error instanceof Problem ? error : new Problem({ code: "unexpected_answer", detail: String(error) }));
  const loaded = useLoadedModel(wanted, fail);
  const model = loaded?.model ?? null;
  const [labels, rename] = useLabels(model, fail);
  const latents = useMemo(() => (model ? latentsOf(model, labels) : []), [model, labels]);
  const active = latents.filter((latent) => latent.active);
  const dim = latents.length;

  const vector = useLatentVector();
  const motion = useMotion(vector, active);
  const [own, setOwn] = useState(/** @type {import("./own_picture.js").OwnPicture | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [current, setCurrent] = useState(0);
  const [announced, announce] = useState("");
  const [choices, setChoices] = useState(NO_CHOICES);
  const z = vector.z?.length === dim ? vector.z : null;
  const start = useMemo(
    () => (own ? rounded(own.mean) : loaded && startVector(latents, loaded.decoder)),
    [own, loaded],
  );
  const pair = /** @type {[number, number]} */ (choices.pair ?? [active[0]?.index ?? 0, active[1]?.index ?? 1]);
  const ends = useMemo(
    () => ({
      a: choices.a ?? drawVector(latents, seededRandom(5)),
      b: choices.b ?? drawVector(latents, seededRandom(8)),
    }),
    [model, choices.a, choices.b],
  );

  const apply = () => {
    const { z: wantedVector, ...others } = readState(given.current, dim);
    setChoices(others);
    vector.set(wantedVector ?? start);
    return wantedVector !== null;
  };
  useEffect(() => {
    if (!model) return;
    setOwn(null);
    setProblem(null);
    setCurrent(latents[0].index);
    if (!apply() && !wantsStillness()) motion.play({ once: true, first: latents[0].index });
    else motion.stop();
  }, [model]);
  useEffect(() => {
    if (params === given.current || !params.has("model")) return;
    motion.stop();
    given.current = params;
    if (params.get("model") !== wanted) setWanted(params.get("model") || FIRST_MODEL);
    else if (model) apply();
  }, [params]);
  useEffect(() => {
    if (!z || !touched.current || motion.playing !== null || model.id !== wanted) return;
    left = writeState({ model: wanted, z, ...choices });
    replaceState("explore", left);
  }, [z, choices, motion.playing, params]);

  /** Begins an action of the visitor: motion ends, and undo comes back here. @param {string} [key] */
  const act = (key) => {
    motion.stop();
    vector.remember(key);
    touched.current = true;
  };
  /** @param {Float32Array | null} next @param {string} text */
  const show = (next, text) => {
    act();
    if (next) vector.set(next);
    announce(text);
  };
  /** Sets values of the present vector. @param {string} key @param {[number, number][]} values */
  const move = (key, values) => {
    const present = vector.latest();
    if (!present) return;
    act(key);
    vector.set(values.reduce((next, [index, value]) => withValue(next, index, value), present));
  };
  /** @param {Partial<Choices>} chosen */
  const choose = (chosen) => {
    touched.current = true;
    setChoices((before) => ({ ...before, ...chosen }));
  };
  const actions = {
    chooseModel(/** @type {string} */ id) {
      given.current = new URLSearchParams({ model: id });
      touched.current = true;
      setWanted(id);
    },
    slide(/** @type {number} */ index, /** @type {number} */ value) {
      setCurrent(index);
      move(`slider ${index}`, [[index, value]]);
    },
    released(/** @type {number} */ index) {
      const latent = latents.find((one) => one.index === index);
      if (latent) announce(`${nameOf(latent)}, ${valueText(latent, vector.latest()?.[index] ?? 0)}`);
    },
    movePad: (/** @type {number} */ x, /** @type {number} */ y) =>
      move("pad", [
        [pair[0], x],
        [pair[1], y],
      ]),
    // The drawn vector may be older than the keys that came since.
    stepPad: (/** @type {number} */ x, /** @type {number} */ y) => {
      const moved = pair.map((index, axis) => within(latents[0], (vector.latest()?.[index] ?? 0) + [x, y][axis]));
      move("pad", [
        [pair[0], moved[0]],
        [pair[1], moved[1]],
      ]);
    },
    padReleased: () => announce(describeVector(latents, vector.latest() ?? [])),
    choosePair: (/** @type {[number, number]} */ chosen) => choose({ pair: chosen }),
    setEnd: (/** @type {"a" | "b"} */ end) => choose({ [end]: vector.latest() }),
    movePath(/** @type {number} */ t, /** @type {"slerp" | "linear"} */ path) {
      act("path");
      choose({ t, path });
      vector.set(between(ends.a, ends.b, t, path));
    },
    pathReleased: () => announce("Between A and B"),
    toggleMotion() {
      if (motion.playing !== null) return motion.stop();
      act("play");
      motion.play({ first: current });
    },
    random: () => show(drawVector(latents), "Another picture"),
    reset: () => show(start, own ? "Back at your picture" : "Back at the start"),
    undo() {
      motion.stop();
      if (vector.undo()) announce("Undone");
    },
    async takePicture(/** @type {Blob} */ file) {
      if (!model) return;
      setBusy(true);
      try {
        const picture = await encodePicture(model.id, file);
        if (own) URL.revokeObjectURL(own.url);
        setOwn(picture);
        setProblem(null);
        show(rounded(picture.mean), "The sliders stand at your picture.");
      } catch (failure) {
        fail(failure);
      }
      setBusy(false);
    },
    forgetPicture: () => setOwn(null),
    dismiss: () => setProblem(null),
    fail,
    rename,
  };
  const shown = loaded && z ? { ...loaded, z } : null;
  const state = { wanted, problem, latents, active, shown, start, own, busy, current, announced, choices, pair, ends };
  return { ...state, decoder: loaded?.decoder ?? null, playing: motion.playing, canUndo: vector.canUndo, actions };
}
