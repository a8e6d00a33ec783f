// The view "Explore": a picture, the sliders that make it, and everything that can be done with the two.

import { Problem } from "../api.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { ProblemBanner } from "../problems/banner.js";
import { replaceState } from "../router.js";
import { readState, writeState } from "./address.js";
import { Controls } from "./controls.js";
import { useLabels } from "./labels.js";
import { LatentSliders } from "./latent_sliders.js";
import { describeVector, drawVector, latentsOf, nameOf, rounded, seededRandom, signed, startVector } from "./latents.js";
import { useLoadedModel, useModelList } from "./loading.js";
import { ModelChooser } from "./model_chooser.js";
import { useMotion, wantsStillness } from "./motion.js";
import { encodePicture, OwnPictureCard, useDroppedPictures } from "./own_picture.js";
import { Pad } from "./pad.js";
import { between, PathCard } from "./path.js";
import { Picture, SmallPicture } from "./picture.js";
import { TakeAway } from "./take_away.js";
import { useLatentVector, withValue } from "./vector.js";

const FIRST_MODEL = "chairs";
const TAKEN_STEPS = 9;

/** The state in which the view was left, for the way back from another view. */
let left = new URLSearchParams();

/** @param {{params: URLSearchParams}} props */
export function ExploreView({ params }) {
  const given = useRef(params.has("model") ? params : left);
  const touched = useRef(given.current.has("z"));
  const [wanted, setWanted] = useState(given.current.get("model") || FIRST_MODEL);
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const fail = (/** @type {Error} */ error) => setProblem(error instanceof Problem ? error : new Problem({ code: "unexpected_answer", detail: String(error) }));
  const loaded = useLoadedModel(wanted, fail);
  const models = useModelList(fail);
  const model = loaded?.model ?? null;
  const [labels, rename] = useLabels(model, fail);
  const latents = useMemo(() => (model ? latentsOf(model, labels) : []), [model, labels]);
  const active = latents.filter((latent) => latent.active);

  const vector = useLatentVector();
  const motion = useMotion(vector, active.map((latent) => latent.index));
  const [own, setOwn] = useState(/** @type {import("./own_picture.js").OwnPicture | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [comparing, setComparing] = useState(false);
  const [current, setCurrent] = useState(0);
  const [announced, announce] = useState("");
  const [extra, setExtra] = useState(/** @type {Omit<import("./address.js").ViewState, "model" | "z">} */ ({ pair: null, a: null, b: null, t: null, path: "slerp" }));

  const dim = model?.network.latent_dim ?? 0;
  const z = vector.z?.length === dim ? vector.z : null;
  const start = useMemo(() => (own ? rounded(own.mean) : loaded && startVector(latents, loaded.decoder)), [own, loaded]);
  const pair = extra.pair ?? [active[0]?.index ?? 0, active[1]?.index ?? 1];
  const ends = useMemo(
    () => ({ a: extra.a ?? drawVector(latents, seededRandom(5)), b: extra.b ?? drawVector(latents, seededRandom(8)) }),
    [model, extra.a, extra.b],
  );
  const steps = useMemo(() => Array.from({ length: TAKEN_STEPS }, (_, k) => between(ends.a, ends.b, k / (TAKEN_STEPS - 1), extra.path)), [ends, extra.path]);

  const apply = () => {
    const state = readState(given.current, dim);
    setExtra({ pair: state.pair, a: state.a, b: state.b, t: state.t, path: state.path });
    vector.set(state.z ?? start);
    return state.z !== null;
  };
  useEffect(() => {
    if (!model) return;
    setOwn(null);
    setProblem(null);
    const strongest = latentsOf(model)[0].index;
    setCurrent(strongest);
    if (!apply() && !wantsStillness()) motion.play({ once: true, first: strongest });
    else motion.stop();
  }, [model]);
  useEffect(() => {
    if (params === given.current || !params.has("model")) return;
    given.current = params;
    motion.stop();
    if (params.get("model") !== wanted) setWanted(params.get("model"));
    else if (model) apply();
  }, [params]);
  useEffect(() => {
    if (!z || !touched.current || motion.playing !== null || model.id !== wanted) return;
    left = writeState({ model: wanted, z, ...extra });
    replaceState("explore", left);
  }, [z, extra, motion.playing, params]);

  /** Begins an action of the visitor: motion ends, and undo comes back here. @param {string} [key] */
  const act = (key) => {
    motion.stop();
    vector.remember(key);
    touched.current = true;
  };
  const show = (/** @type {Float32Array} */ next, /** @type {string} */ text) => {
    act();
    vector.set(next);
    announce(text);
  };
  const onInput = (/** @type {number} */ index, /** @type {number} */ value) => {
    act(`slider ${index}`);
    setCurrent(index);
    vector.set(withValue(vector.latest(), index, value));
  };
  const onRelease = (/** @type {number} */ index) => {
    const latent = latents.find((one) => one.index === index);
    announce(`${nameOf(latent)}, ${signed(vector.latest()[index])} σ`);
  };
  const onPad = (/** @type {number} */ x, /** @type {number} */ y) => {
    act("pad");
    vector.set(withValue(withValue(vector.latest(), pair[0], x), pair[1], y));
  };
  const onPath = (/** @type {number} */ t, /** @type {"slerp" | "linear"} */ path) => {
    act("path");
    setExtra((before) => ({ ...before, t, path }));
    vector.set(between(ends.a, ends.b, t, path));
  };
  const undo = () => {
    motion.stop();
    if (vector.undo()) announce("Undone");
  };
  const onFile = async (/** @type {Blob} */ file) => {
    if (!model) return;
    setBusy(true);
    try {
      const picture = await encodePicture(model.id, file);
      if (own) URL.revokeObjectURL(own.url);
      setOwn(picture);
      setProblem(null);
      show(rounded(picture.mean), "The sliders stand at your picture.");
    } catch (failure) {
      fail(/** @type {Error} */ (failure));
    }
    setBusy(false);
  };
  const over = useDroppedPictures(onFile);
  useUndoKey(undo);

  const ready = loaded && z;
  const startPixels = useMemo(() => (loaded && comparing && start ? loaded.decoder.decode(start) : null), [loaded, comparing, start]);
  return html`<div class="explore">
    ${problem && html`<div class="explore-problem"><${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} /></div>`}
    <div class="explore-left">
      <${ModelChooser} models=${models} chosen=${wanted} model=${model} onChoose=${(/** @type {string} */ id) => {
        given.current = new URLSearchParams({ model: id });
        touched.current = true;
        setWanted(id);
      }} />
      <div class="stage">
        <div class="stage-picture">
          <${Picture} decoder=${loaded?.decoder ?? null} z=${z} alt=${ready ? `Picture that ${model.name} decodes: ${describeVector(latents, z)}` : "The picture is being loaded"} />
          ${startPixels && html`<figure class="stage-start"><${SmallPicture} pixels=${startPixels} /><figcaption>${own ? "your picture, decoded" : "start"}</figcaption></figure>`}
        </div>
        <${Controls} playing=${motion.playing !== null} comparing=${comparing} canUndo=${vector.canUndo} onUndo=${undo}
          onPlay=${() => (motion.playing === null ? (act("play"), motion.play({ first: current })) : motion.stop())}
          onRandom=${() => show(drawVector(latents), "Another picture")} onReset=${() => show(start, "Back at the start")}
          onCompare=${() => setComparing(!comparing)} />
      </div>
      <${OwnPictureCard} own=${own} busy=${busy} over=${over} onFile=${onFile} onShow=${() => show(start, "Back at your picture")} onForget=${() => setOwn(null)} />
    </div>
    <div class="explore-right">
      <div class="explore-title">
        <h1>Drag a slider, see what one latent does</h1>
        <p class="muted">${ready ? `${active.length} of ${dim} latents are in use, the strongest first. Each film shows the present picture along one of them.` : "\u00a0"}</p>
      </div>
      ${ready && html`<${LatentSliders} latents=${latents} z=${z} onInput=${onInput} onRelease=${onRelease} onRename=${rename} strips=${loaded.strips}
        posterior=${own} playing=${motion.playing} />`}
    </div>
    ${ready && html`<div class="explore-more">
      <${Pad} latents=${latents} z=${z} pair=${pair} strips=${loaded.map} onMove=${onPad} onRelease=${() => announce(describeVector(latents, vector.latest()))}
        onPair=${(/** @type {[number, number]} */ chosen) => (touched.current = true, setExtra((before) => ({ ...before, pair: chosen })))} />
      <${PathCard} decoder=${loaded.decoder} z=${z} ends=${ends} t=${extra.t ?? 0} path=${extra.path} onMove=${onPath} onRelease=${() => announce("Between A and B")}
        onEnd=${(/** @type {"a" | "b"} */ end, /** @type {Float32Array} */ value) => (touched.current = true, setExtra((before) => ({ ...before, [end]: value })))} />
      <${TakeAway} model=${model.id} z=${z} latents=${latents} current=${current} pair=${pair} steps=${steps} onProblem=${fail} />
    </div>`}
    <p class="visually-hidden" aria-live="polite">${announced}</p>
  </div>`;
}

/** @param {() => void} undo Called for Ctrl+Z and ⌘Z outside text fields. */
function useUndoKey(undo) {
  const call = useRef(undo);
  call.current = undo;
  useEffect(() => {
    const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
      const typing = /** @type {HTMLElement} */ (event.target).matches?.("input:not([type=range], [type=radio]), textarea");
      if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || typing) return;
      event.preventDefault();
      call.current();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
}
