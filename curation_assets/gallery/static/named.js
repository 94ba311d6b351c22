// Images that a version or a pair names: their tiles, also where there is no picture any more, and what makes two alike.
import { el, linkTile } from "./dom.js";

/** A tile of an image that may be gone, or another by now: then it has its name alone. */
export function namedTile(one, ...lines) {
  const made = linkTile(one.image ?? { name: one.name, path: one.path, thumbnail: null, status: one.why }, ...lines.filter(Boolean));
  made.classList.toggle("absent", !one.image);
  return made;
}

const METHODS = {
  bytes: "the same bytes",
  cosine: "the model's cosine",
  hash: "found by its hash",
  neighbours: "found among the model's neighbours",
  witness: "found by time, number or looks",
  copies: "both near to a third",
  frame: "compared as it lies",
};

/** How alike two images are, what was done to one of them, and how that was found, in words. */
export function likeness(one) {
  const said = [one.similarity === null ? "" : one.similarity.toFixed(3), one.how, METHODS[one.method] ?? one.method];
  return [...new Set(said.filter(Boolean))].join(" · ");
}

/** A line for a shell, with a button that copies it. */
export function commandLine(text) {
  const code = el("code", { textContent: text });
  const state = el("span", { className: "soft", role: "status" });
  const copy = el("button", { type: "button", className: "quiet", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      state.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(code); // a page that isn't from this machine may not write to the clipboard
      state.textContent = "It is marked: copy it with Ctrl+C.";
    }
  });
  return el("div", { className: "command" }, el("pre", { tabIndex: 0 }, code), copy, state);
}

/** A word as a shell takes it for one. */
export const quoted = (word) => (/^[\w./@:+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);
