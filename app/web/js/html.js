// The one place that names the vendored library: Preact with htm templates.
export { html, render, Component, createContext } from "../vendor/htm-preact.js";
export {
  useState,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useCallback,
  useReducer,
  useContext,
} from "../vendor/htm-preact.js";
