// Uploads with progress, which fetch cannot report.

import { address, Problem } from "./api.js";

/**
 * Sends a form with progress.
 * @param {string} method HTTP method.
 * @param {string} path Path of the service.
 * @param {FormData} form Fields and files.
 * @param {(fraction: number) => void} onProgress Called with the share of the body that has been sent.
 * @param {AbortSignal} [signal] Stops the upload.
 * @returns {Promise<any>} JSON of the answer.
 */
export function upload(method, path, form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open(method, address(path));
    call.setRequestHeader("Accept", "application/json");
    call.responseType = "json";
    call.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    call.onload = () => {
      if (call.status < 400) resolve(call.response);
      else
        reject(new Problem(call.response?.code ? call.response : { code: "unexpected_answer", status: call.status }));
    };
    call.onerror = () => reject(new Problem({ code: "unreachable", detail: "The service does not answer." }));
    call.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    signal?.addEventListener("abort", () => call.abort());
    call.send(form);
  });
}
