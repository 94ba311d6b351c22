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

/** A notice that stays: a warning, or what went wrong. */
export function notice(text, role = "note") {
  return el("p", { className: "banner", role, textContent: text });
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

/** A cosine, or nothing where images aren't ranked. */
export const scored = (image) => (image.score === null ? "" : `cosine ${image.score.toFixed(3)}`);

/** How many other images have the same content, in words; nothing where none has. */
export const copied = (image) => (image.copies ? `${number(image.copies)} ${image.copies === 1 ? "copy" : "copies"}` : "");

/** How many other images show the same photograph under other bytes, in words; nothing where none does. */
export const alike = (image) => (image.near_copies > image.copies ? `${number(image.near_copies - image.copies)} alike` : "");

const DECIDED = { keep: "keep", remove: "remove", unsure: "can't tell" };

/** What a person decided of the picture, in words; nothing where nobody did. */
export const decided = (image) => DECIDED[image.decided] ?? "";

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
  if (image.decided) found.unshift(el("span", { className: "decided", textContent: decided(image) }));
  return found.length ? el("span", { className: "marks" }, ...found) : null;
}

/** A tile that leads to an image's page, with lines below its name. */
export function linkTile(image, ...lines) {
  return el(
    "li",
    { className: "tile" },
    el(
      "a",
      { href: image.page, title: image.path },
      shot(image),
      el("span", { className: "name", textContent: image.name }),
      ...lines.map((line) => el("span", { className: "score", textContent: line })),
    ),
  );
}
