// The grid of images: one tab stop, arrow keys between the tiles, and a selection by mouse and keyboard.
import { alike, copied, decided, el, labelled, marks, scored, tileLink } from "./dom.js";
import { keep, ofLake, recall } from "./kept.js";

const TYPING = "input:not([type=checkbox]), select, textarea, [contenteditable]";

const SELECTION = ofLake("curation selection");

export const isTyping = (target) => target instanceof Element && target.matches(TYPING);

export class Tiles extends EventTarget {
  /**
   * Events: `selection` when it changes, `images` when others are shown.
   *
   * What is selected outlives the images that are shown, and the page: it is one selection in all pages of a browser.
   */
  constructor(place, row) {
    super();
    this.place = place;
    this.row = row;
    this.images = [];
    this.latest = () => null; // id of the latest decision that the page knows of
    this.recallSelection();
    this.isKept = true; // for other pages, in this browser
    this.focused = 0;
    this.anchor = null;
    this.before = null; // the selection that an extension with Shift began from
    row.addEventListener("click", (event) => this.clicked(event));
    row.addEventListener("keydown", (event) => this.pressed(event));
    row.addEventListener("focusin", (event) => {
      const at = this.indexOf(event.target);
      if (at >= 0) this.rove(at);
    });
    addEventListener("storage", (event) => {
      if (event.key !== SELECTION) return;
      this.recallSelection();
      this.choose(this.selected, { quietly: true });
    });
  }

  recallSelection() {
    const kept = recall(localStorage, SELECTION, []);
    this.selected = new Map(kept); // relative path → SHA-256 of the content, or null
    this.seen = new Map(kept.map(([key, , seen]) => [key, seen ?? ""])); // → the latest decision when it was selected
  }

  /** What is said along with a decision on an image: where it isn't here, whoever selected it saw no later decision. */
  seenOf(key) {
    return this.images.some((image) => image.relative_path === key) ? {} : { seen: this.seen.get(key) ?? "" };
  }

  clear() {
    this.images = [];
    this.row.replaceChildren();
    this.focused = 0;
    this.anchor = this.before = null;
    this.dispatchEvent(new Event("images"));
  }

  /** More images at the end. */
  add(images, total) {
    const first = this.images.length;
    this.images.push(...images);
    this.place.setAttribute("aria-colcount", String(total));
    this.row.append(...images.map((image, at) => this.tile(image, first + at)));
    this.dispatchEvent(new Event("images"));
  }

  tile(image, at) {
    const chosen = this.selected.has(image.relative_path);
    const lines = [scored(image) || image.folder, labelled(image)].filter((line, place) => line || !place);
    const link = tileLink(image, lines, { tabIndex: -1, draggable: false });
    const box = el("input", { type: "checkbox", tabIndex: -1, checked: chosen, "aria-label": `Select ${image.name}` });
    return el(
      "div",
      {
        className: "tile",
        role: "gridcell",
        tabIndex: at === this.focused ? 0 : -1,
        "aria-selected": String(chosen),
        "aria-colindex": String(at + 1),
        "data-decided": image.decided ?? undefined,
        "aria-label": [image.name, scored(image), labelled(image), copied(image), alike(image), ...image.problems, decided(image), image.status === "ok" ? "" : image.status].filter(Boolean).join(", "),
      },
      link,
      marks(image),
      box,
    );
  }

  /** Draw a tile anew, when what it tells of its image is another. */
  redraw(at) {
    const before = this.row.children[at];
    const hadFocus = before === document.activeElement;
    const now = this.tile(this.images[at], at);
    now.className = before.className;
    before.replaceWith(now);
    if (hadFocus) now.focus();
  }

  indexOf(target) {
    const tile = target.closest?.(".tile");
    return tile ? [...this.row.children].indexOf(tile) : -1;
  }

  rove(at) {
    this.row.children[this.focused]?.setAttribute("tabindex", "-1");
    this.focused = at;
    this.row.children[at]?.setAttribute("tabindex", "0");
  }

  focus(at) {
    if (!this.images.length) return;
    const to = Math.max(0, Math.min(at, this.images.length - 1));
    this.rove(to);
    this.row.children[to].focus();
    this.row.children[to].scrollIntoView({ block: "nearest" });
  }

  /** Tiles side by side. */
  get columns() {
    const tiles = this.row.children;
    const top = tiles[0]?.offsetTop;
    let count = 0;
    while (count < tiles.length && tiles[count].offsetTop === top) count += 1;
    return Math.max(1, count);
  }

  clicked(event) {
    const at = this.indexOf(event.target);
    if (at < 0) return;
    const onBox = event.target.matches("input");
    if (event.shiftKey) {
      event.preventDefault();
      getSelection()?.removeAllRanges();
      const from = this.anchor ?? this.focused;
      this.select([...this.selected.keys(), ...this.between(from, at)]);
      this.anchor = from;
      this.focus(at);
      if (onBox) setTimeout(() => this.show()); // the box would go back to what it was before the click
    } else if (onBox) {
      this.toggle(at);
      this.focus(at);
    }
  }

  pressed(event) {
    const at = this.indexOf(event.target);
    if (at < 0) return;
    const step = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: this.columns,
      ArrowUp: -this.columns,
      PageDown: 3 * this.columns,
      PageUp: -3 * this.columns,
      Home: -at,
      End: this.images.length - 1 - at,
    }[event.key];
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (step !== undefined && plain) {
      event.preventDefault();
      const to = Math.max(0, Math.min(at + step, this.images.length - 1));
      if (event.shiftKey) this.extend(at, to);
      else this.anchor = this.before = null;
      this.focus(to);
    } else if (event.key === " " && plain) {
      event.preventDefault();
      this.toggle(at);
      this.focus(at);
    } else if (event.key === "Enter" && plain) {
      event.preventDefault();
      location.assign(this.images[at].page);
    } else if (event.key.toLowerCase() === "m" && plain) {
      event.preventDefault();
      this.dispatchEvent(new CustomEvent("like", { detail: this.images[at] }));
    } else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.selectLoaded();
    }
  }

  between(one, other) {
    const [from, to] = one < other ? [one, other] : [other, one];
    return this.images.slice(from, to + 1).map((image) => image.relative_path);
  }

  extend(at, to) {
    if (this.before === null) {
      this.anchor ??= at;
      this.before = [...this.selected.keys()];
    }
    this.select([...this.before, ...this.between(this.anchor, to)], true);
  }

  toggle(at) {
    const key = this.images[at].relative_path;
    const keys = new Set(this.selected.keys());
    if (!keys.delete(key)) keys.add(key);
    this.anchor = at;
    this.select(keys);
  }

  selectLoaded() {
    this.select([...this.selected.keys(), ...this.images.map((image) => image.relative_path)]);
  }

  /** Make these the selection: keys of images that are shown, or were selected before. */
  select(keys, extending = false) {
    const contents = new Map(this.images.map((image) => [image.relative_path, image.content_sha256]));
    if (!extending) this.before = null;
    this.choose(new Map([...keys].map((key) => [key, this.selected.get(key) ?? contents.get(key) ?? null])));
  }

  /** Make this the selection: relative path → SHA-256 of the content. */
  choose(selected, { quietly = false } = {}) {
    this.selected = selected;
    this.seen = new Map([...selected.keys()].map((key) => [key, this.seen.get(key) ?? this.latest() ?? ""]));
    if (!quietly) this.isKept = keep(localStorage, SELECTION, [...selected].map((one) => [...one, this.seen.get(one[0])]));
    this.show();
    this.dispatchEvent(new Event("selection"));
  }

  show() {
    this.images.forEach((image, at) => {
      const tile = this.row.children[at];
      const chosen = this.selected.has(image.relative_path);
      if (tile.getAttribute("aria-selected") !== String(chosen)) tile.setAttribute("aria-selected", String(chosen));
      tile.lastElementChild.checked = chosen;
    });
  }
}
