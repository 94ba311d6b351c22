// The bar of what is selected: how many images, what can be done with them, and which they are.
import { ask, askFor, askJson, byId, choice, download, el, fail, images, linkTile, number } from "./dom.js";
import { tellAnew } from "./pictures.js";
import { askForAnyLabel, relabelOf } from "./labelling.js";
import { isTyping } from "./tiles.js";

/** The gallery's tags as choices: [{tag, images}]; none where they can't be had. */
async function known() {
  try {
    return (await askJson("/api/tags")).tags;
  } catch {
    return [];
  }
}

/** Ask for a tag, to give or to take off: {tag, kind: "tag" or "untag"}; null where none is given. */
export async function askForTag(title, has = []) {
  const tags = await known();
  const input = el("input", { required: true, maxLength: 100, pattern: "(?:[^,\\p{C}\\p{Z}]| )+", title: "a name without a comma or what can't be seen", autocomplete: "off", spellcheck: false });
  let kind = "tag";
  const given = tags.map((one) => choice(input, one.tag, `${one.tag} (${number(one.images)})`));
  const off = has.map((tag) => choice(input, tag, `${tag} ×`, () => (kind = "untag")));
  const tag = await askFor(input, {
    title,
    label: "Tag",
    text: "What carries a tag is a set: it can be filtered by, exported, and made a dataset of. Copies of the same bytes carry it too.",
    more: [
      given.length ? el("p", { className: "choices" }, "There are ", ...given) : null,
      off.length ? el("p", { className: "choices" }, "Take off ", ...off) : null,
    ],
    go: "Tag",
  });
  return tag && { tag, kind };
}

/** What goes to the gallery of an image's tag. */
export const taggingOf = (key, content, { tag, kind }) => ({ kind, value: tag, key, content });

/**
 * The bar below a grid, with what is selected there and on earlier pages.
 * @param tiles the grid
 * @param decider who takes the answers
 * @param search () → the search that the grid shows, as the body of an export has it; {} where it is none
 * @param changed called after images have other tags
 * @param active () → whether the keys are meant for the grid now
 */
export function selectionBar({ tiles, decider, search = () => ({}), changed = () => {}, active = () => true }) {
  const before = new Map(); // key → the tags that it had before each step of this page
  const bar = byId("selection");
  const shownKeys = () => new Set(tiles.images.map((image) => image.relative_path));

  function show() {
    const { size } = tiles.selected;
    const there = shownKeys();
    const away = [...tiles.selected.keys()].filter((key) => !there.has(key)).length;
    bar.hidden = !size;
    byId("selected-count").textContent = number(size);
    const said = away ? `, ${number(away)} of them not here` : "";
    byId("away").textContent = tiles.isKept ? said : `${said}. This browser has no room for it: it is of this page alone`;
    const isThere = [...tiles.selected.values()].some(Boolean); // else no file of them could be read
    for (const button of bar.querySelectorAll("#say button, #label, #tag")) button.disabled = !isThere;
    if (size && !isThere) byId("away").textContent += ", without a readable file";
  }

  async function tag() {
    const chosen = [...tiles.selected].filter(([, content]) => content);
    if (!chosen.length) return;
    const has = new Set(tiles.images.filter((image) => tiles.selected.has(image.relative_path)).flatMap((image) => image.tags ?? []));
    const asked = await askForTag(`Tag ${images(chosen.length)}`, [...has].sort());
    if (!asked) return;
    const label = `${asked.kind === "tag" ? "Tagged" : "Taken off:"} “${asked.tag}”, ${images(chosen.length)}`;
    if (!(await decider.say(chosen.map(([key, content]) => ({ ...taggingOf(key, content, asked), ...tiles.seenOf(key) })), label))) return;
    const had = new Map(tiles.images.map((image) => [image.relative_path, image.tags ?? []]));
    for (const [key] of chosen) before.set(key, [...(before.get(key) ?? []), had.get(key)]);
    mark(asked, new Set(chosen.map(([key]) => key)));
  }

  async function label() {
    const chosen = [...tiles.selected].filter(([, content]) => content);
    if (!chosen.length) return;
    const asked = await askForAnyLabel(`What ${chosen.length === 1 ? "is it" : `are these ${images(chosen.length)}`}?`).catch(fail);
    if (!asked) return;
    const said = `${asked.value}, ${images(chosen.length)}`;
    if (!(await decider.say(chosen.map(([key, content]) => ({ ...relabelOf(key, content, asked), ...tiles.seenOf(key) })), said))) return;
    markLabel(asked, new Set(chosen.map(([key]) => key)));
  }

  /** Let tiles show the label that they have now. */
  function markLabel({ field, value }, keys) {
    tiles.images.forEach((image, at) => {
      if (!keys.has(image.relative_path)) return;
      image.labels = { ...image.labels, [field]: value };
      tiles.redraw(at);
    });
    changed();
  }

  /** Let tiles show a tag that is given or taken off. */
  function mark({ tag: name, kind }, keys) {
    tiles.images.forEach((image, at) => {
      if (!keys.has(image.relative_path)) return;
      const others = (image.tags ?? []).filter((one) => one !== name);
      image.tags = kind === "tag" ? [...others, name].sort() : others;
      tiles.redraw(at);
    });
    changed();
  }

  /** Let tiles show the tags that they had before a step that is taken back. */
  function takeBack(keys) {
    const had = new Map(keys.map((key) => [key, before.get(key)?.pop()]));
    tiles.images.forEach((image, at) => {
      const tags = had.get(image.relative_path);
      if (tags === undefined) return;
      image.tags = tags;
      tiles.redraw(at);
    });
    changed();
    tellAnew({ tiles, decider, changed, keys: new Set(keys.filter((key) => had.get(key) === undefined)) });
  }

  async function take(event) {
    event.preventDefault();
    const button = event.submitter;
    button.disabled = true;
    const there = shownKeys();
    const keys = [...tiles.selected.keys()];
    // Scores are those of the search; what it doesn't find is taken along without any.
    const asked = keys.every((key) => there.has(key)) ? search() : {};
    try {
      const body = JSON.stringify({ format: bar.elements.format.value, search: asked, keys });
      await download(await ask("/api/export", { method: "POST", headers: { "Content-Type": "application/json" }, body }));
    } catch (error) {
      fail(error);
    } finally {
      button.disabled = false;
    }
  }

  /** All that is selected, to look at and to take out again. */
  function look() {
    const most = 300;
    const list = el("ul", { className: "tiles" });
    const dialog = el("dialog", { className: "wide-dialog", "aria-labelledby": "chosen-title" },
      el("h2", { id: "chosen-title", textContent: `${images(tiles.selected.size)} selected` }), list,
      tiles.selected.size > most ? el("p", { className: "soft", textContent: `The first ${number(most)}. Tag them to see all.` }) : null,
      el("form", { method: "dialog" }, el("button", { className: "strong", textContent: "Close" })));
    list.append(...[...tiles.selected].slice(0, most).map(([key, content]) => {
      const thumbnail = content && `/thumbnail?${new URLSearchParams({ key, v: content.slice(0, 16) })}`;
      const image = { name: key.split("/").at(-1), path: key, thumbnail, status: "not usable", page: `/image?${new URLSearchParams({ key })}` };
      const tile = linkTile(image);
      const box = el("input", { type: "checkbox", checked: true, "aria-label": `Select ${image.name}` });
      box.addEventListener("change", () => {
        const kept = new Map(tiles.selected);
        if (box.checked) kept.set(key, content);
        else kept.delete(key);
        tiles.choose(kept);
      });
      tile.append(box);
      return tile;
    }));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  byId("tag").addEventListener("click", tag);
  byId("label").addEventListener("click", label);
  byId("show-selected").addEventListener("click", look);
  byId("unselect").addEventListener("click", () => {
    tiles.select([]);
    tiles.focus(tiles.focused);
  });
  bar.addEventListener("submit", take);
  addEventListener("keydown", (event) => {
    if (!active() || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const does = { t: tag, l: label }[event.key.toLowerCase()];
    if (!does || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    if (!tiles.selected.size && document.activeElement?.classList.contains("tile")) tiles.toggle(tiles.focused);
    does();
  });
  tiles.addEventListener("selection", show);
  tiles.addEventListener("images", show);
  const isTagging = (one) => one.kind === "tag" || one.kind === "untag";
  decider.addEventListener("others", (event) => {
    const said = event.detail.filter(isTagging);
    for (const one of said.filter(({ undoes }) => !undoes)) mark({ tag: one.value, kind: one.kind }, new Set([one.relative_path]));
    anew(event.detail.filter((one) => one.kind === "relabel").map((one) => one.relative_path));
    tellAnew({ tiles, decider, changed, keys: new Set(said.filter(({ undoes }) => undoes).map((one) => one.relative_path)) });
  });
  const anew = (keys) => tellAnew({ tiles, decider, changed, keys: new Set(keys) });
  const notWritten = ({ detail: { mine, decision } }) => {
    const { key, kind } = mine ?? decision;
    if (isTagging({ kind })) before.get(key)?.pop();
    if (kind === "relabel") anew([key]);
  };
  decider.addEventListener("conflict", notWritten);
  decider.addEventListener("refused", notWritten);
  decider.addEventListener("undone", ({ detail: { said, keys } }) => {
    if (isTagging(said)) takeBack(keys);
    if (said.kind === "relabel") anew(keys);
  });
  show();
}
