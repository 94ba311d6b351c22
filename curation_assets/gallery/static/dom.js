// Elements and requests, the same way everywhere. Data becomes text, never markup.

/** A new element: properties, `on…` listeners, `aria-…`, `data-…` and `role` attributes, and children. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** The answer of the gallery; throws an Error with one readable sentence. */
export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the gallery can't be reached; is it still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) location.assign("/login?next=" + encodeURIComponent(location.pathname + location.search));
  let said = null;
  try {
    said = (await answer.json()).error;
  } catch {
    // no JSON: some proxy's page
  }
  throw Object.assign(new Error(said ?? `the gallery answered with ${answer.status}`), { status: answer.status });
}

export const askJson = async (address, options) => (await ask(address, options)).json();

export const number = (value) => value.toLocaleString("en");

/** A number of images in words. */
export const images = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;

/** A number of bytes in words. */
export function size(bytes) {
  const [unit, name] = bytes < 1e6 ? [1e3, "kB"] : bytes < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  return `${Number((bytes / unit).toPrecision(3)).toLocaleString("en")} ${name}`;
}

/** A notice that stays: a warning, or what went wrong. */
export function notice(text, role = "note") {
  return el("p", { className: "banner", role, textContent: text });
}

/** Tell on the page what went wrong. */
export const fail = (error) => byId("notices").replaceChildren(notice(error.message, "alert"));

/** A button that says which key does the same. */
export function keyButton(name, key, { title, className = "", does } = {}) {
  const made = el("button", { type: "button", className, title }, name, " ", el("kbd", { textContent: key }));
  if (does) made.addEventListener("click", does);
  return made;
}

/**
 * Ask for a line of text in a dialog; null where none is given.
 * @param input its element; what else is said of it stands in `more`
 */
export async function askFor(input, { title, label, text = null, more = [], go = "Go on" }) {
  const form = el(
    "form",
    { method: "dialog" },
    el("h2", { textContent: title, id: "asked-title" }),
    text === null ? null : el("p", { textContent: text }),
    el("label", {}, label, input),
    ...more,
    el("p", { className: "actions" }, el("button", { className: "strong", value: "ok", textContent: go }),
      el("button", { className: "quiet", value: "", formNoValidate: true, textContent: "Cancel" })),
  );
  const dialog = el("dialog", { "aria-labelledby": "asked-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  input.select?.();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  dialog.remove();
  return (dialog.returnValue === "ok" && input.value.trim()) || null;
}

/** A button of such a dialog that answers with a value; `before` is called first. */
export function choice(input, value, text = value, before = () => {}) {
  const button = el("button", { type: "button", className: "quiet", textContent: text });
  button.addEventListener("click", () => {
    before();
    input.value = value;
    input.form.requestSubmit(input.form.querySelector("[value=ok]"));
  });
  return button;
}

/** What the index says of itself that a visitor should know. */
export function indexNotices(index) {
  const found = [];
  if (index.behind) found.push(notice(`The tables have gone on: ${index.behind}.`));
  if (index.demonstration) {
    found.push(
      notice(
        "For demonstration only. The embedded model is small and knows little more than the kinds of photographs it " +
          "was trained on. Base no decision on it.",
      ),
    );
  }
  return found;
}

/** Offer bytes to be stored under the name that the answer gives. */
export async function download(answer) {
  const header = answer.headers.get("Content-Disposition") ?? "";
  const named = /filename="([^"]+)"/.exec(header);
  const whole = /filename\*=UTF-8''([^;]+)/.exec(header); // the name, where the other one has no letters for it
  const address = URL.createObjectURL(await answer.blob());
  const link = el("a", { href: address, download: whole ? decodeURIComponent(whole[1]) : named ? named[1] : "images" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** What a tile shows of an image: its preview, or why there is none. */
export function shot(image) {
  if (!image.thumbnail) return el("span", { className: "shot", textContent: image.status.replace("_", " ") });
  const picture = el("img", { className: "shot", alt: image.name, loading: "lazy", decoding: "async" });
  picture.addEventListener("error", () => {
    picture.replaceWith(el("span", { className: "shot", textContent: "no preview" }));
  });
  picture.src = image.thumbnail;
  return picture;
}

/** Address of an image's large upright picture. */
export const large = (image) => `/picture?${new URLSearchParams({ key: image.relative_path, v: (image.content_sha256 ?? "").slice(0, 16) })}`;

/** An image's large picture; where its file is gone, say, the preview. */
export function largeShot(image) {
  const picture = el("img", { src: large(image), alt: image.name });
  picture.addEventListener("error", () => {
    if (image.thumbnail && !picture.src.endsWith(image.thumbnail)) picture.src = image.thumbnail;
    else picture.replaceWith(el("p", { className: "nothing", textContent: "The picture can't be shown." }));
  });
  return picture;
}

/** Labels and split of an image, in words; nothing where it has none. */
export const labelled = (image) =>
  [...Object.entries(image.labels ?? {}).map(([field, value]) => (field === "class" ? value : `${field}: ${value}`)), image.split].filter(Boolean).join(" · ");

/** A cosine, or nothing where images aren't ranked. */
export const scored = (image) => (image.score === null ? "" : `cosine ${image.score.toFixed(3)}`);

/** How many other images have the same content, in words; nothing where none has. */
export const copied = (image) => (image.copies ? `${number(image.copies)} ${image.copies === 1 ? "copy" : "copies"}` : "");

/** How many other images show the same photograph under other bytes, in words; nothing where none does. */
export const alike = (image) => (image.near_copies > image.copies ? `${number(image.near_copies - image.copies)} alike` : "");

const SAID = { keep: "keep", remove: "remove", unsure: "can't tell", keeper: "the one to keep", same: "the same", different: "not the same" };

/** A decision as people read it. */
export function told(decision) {
  if (decision.kind === "relabel") return `it is ${decision.value}`;
  if (decision.kind === "tag") return `tagged ${decision.value}`;
  if (decision.kind === "untag") return `${decision.value} taken off`;
  return SAID[decision.kind] ?? decision.kind;
}

/** What a person decided of the picture, in words; nothing where nobody did. */
export const decided = (image) => (image.decided ? told({ kind: image.decided }) : "");

/** Marks of an image that has copies, or problems. */
export function marks(image) {
  const found = image.problems.map((kind) => el("span", { className: "problem", textContent: kind.replaceAll("_", " ") }));
  if (image.copies) {
    const title = `${number(image.copies)} other ${image.copies === 1 ? "image has" : "images have"} the same content`;
    found.push(el("span", { className: "copies", title, textContent: copied(image) }));
  }
  if (alike(image)) {
    const near = image.near_copies - image.copies;
    const title = `${number(near)} other ${near === 1 ? "image shows" : "images show"} the same photograph under other bytes`;
    found.push(el("span", { className: "copies", title, textContent: alike(image) }));
  }
  for (const tag of image.tags ?? []) found.push(el("span", { className: "tag", textContent: tag }));
  if (image.decided) found.unshift(el("span", { className: "decided", textContent: decided(image) }));
  return found.length ? el("span", { className: "marks" }, ...found) : null;
}

/** What a tile shows of an image, and that leads to its page, with lines below its name. */
export function tileLink(image, lines, properties = {}) {
  return el(
    "a",
    { href: image.page, title: image.path, ...properties },
    shot(image),
    el("span", { className: "name", textContent: image.name }),
    ...lines.map((line) => el("span", { className: "score", textContent: line })),
  );
}

/** A tile of a list. */
export const linkTile = (image, ...lines) => el("li", { className: "tile" }, tileLink(image, lines));
