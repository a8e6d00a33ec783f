// Requests to the service. Addresses are relative to the page, so that a path prefix of a proxy is kept.

/** A refused request: the service's problem document, or what stands in for one when no answer came. */
export class Problem extends Error {
  /**
   * @param {{code: string, status?: number, title?: string, detail?: string, errors?: {field: string, message: string}[]}} body
   */
  constructor(body) {
    super(body.detail || body.title || body.code);
    this.code = body.code;
    this.status = body.status ?? 0;
    this.errors = body.errors ?? [];
  }
}

const refusals = new EventTarget();

/**
 * Calls a function whenever the service refuses a request for want of a token.
 * @param {() => void} listener
 * @returns {() => void} Stops the calls.
 */
export function onTokenRequired(listener) {
  refusals.addEventListener("token", listener);
  return () => refusals.removeEventListener("token", listener);
}

/**
 * Returns the address of a path of the service.
 * @param {string} path Path such as "models/chairs"; a leading slash is taken off.
 * @returns {string} Absolute address.
 */
export function address(path) {
  return new URL(path.replace(/^\//, ""), document.baseURI.split("#")[0]).href;
}

/**
 * Sends a request and returns the response.
 * @param {string} method HTTP method.
 * @param {string} path Path of the service.
 * @param {{json?: unknown, form?: FormData, accept?: string, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} A response with a status below 400.
 * @throws {Problem} Where the service refuses, or does not answer (code `unreachable`).
 */
export async function request(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: options.accept ?? "application/json", ...options.headers };
  let body;
  if (options.json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(options.json);
  } else if (options.form) {
    body = options.form;
  }
  let response;
  try {
    response = await fetch(address(path), { method, headers, body, signal: options.signal });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem({ code: "unreachable", detail: "The service does not answer." });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/**
 * Reads the problem of a refused response.
 * @param {Response} response Response with a status of 400 or more.
 * @returns {Promise<Problem>}
 */
export async function problemOf(response) {
  try {
    const body = await response.json();
    if (body.code === "token_required") refusals.dispatchEvent(new Event("token"));
    if (typeof body.code === "string") return new Problem(body);
  } catch {
    // A proxy answers with a page of its own.
  }
  return new Problem({
    code: "unexpected_answer",
    status: response.status,
    detail: `The answer was HTTP ${response.status}.`,
  });
}

/**
 * Returns the JSON of a GET request.
 * @param {string} path Path of the service.
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function getJson(path, options = {}) {
  return (await request("GET", path, options)).json();
}

/**
 * Returns all entries of a list that the service gives page by page.
 * @param {string} path Path of the list, which is also its name in the answers, such as "models".
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any[]>}
 */
export async function getAllPages(path, options = {}) {
  const found = [];
  let after = "";
  while (true) {
    const page = await getJson(`${path}?limit=200${after}`, options);
    found.push(...page[path]);
    if (!page.next) return found;
    after = `&after=${encodeURIComponent(page.next)}`;
  }
}

/**
 * Sends JSON and returns the JSON of the answer; null where there is none.
 * @param {string} method HTTP method.
 * @param {string} path Path of the service.
 * @param {unknown} [json] Body.
 * @returns {Promise<any>}
 */
export async function sendJson(method, path, json) {
  const response = await request(method, path, { json });
  return response.status === 204 ? null : response.json();
}
