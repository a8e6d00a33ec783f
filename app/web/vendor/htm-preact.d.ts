// Types of the parts of htm-preact.js that js/html.js names. Type checkers and editors read this file; browsers do not.

export type Child = unknown;
export function html(strings: TemplateStringsArray, ...values: unknown[]): any;
export function render(tree: unknown, parent: Element): void;
export class Component<P = any, S = any> {
  constructor(props?: P);
  props: P;
  state: S;
  setState(state: Partial<S>): void;
}
export function createContext<T>(value: T): { Provider: any; Consumer: any; value?: T };

export type Setter<T> = (value: T | ((before: T) => T)) => void;
export function useState<T>(start: T | (() => T)): [T, Setter<T>];
export function useReducer<S, A>(reduce: (state: S, action: A) => S, start: S): [S, (action: A) => void];
export function useEffect(effect: () => void | (() => void), inputs?: readonly unknown[]): void;
export function useLayoutEffect(effect: () => void | (() => void), inputs?: readonly unknown[]): void;
export function useMemo<T>(make: () => T, inputs: readonly unknown[]): T;
export function useRef<T>(start: T): { current: T };
export function useCallback<F extends Function>(call: F, inputs: readonly unknown[]): F;
export function useContext<T>(context: { value?: T }): T;
