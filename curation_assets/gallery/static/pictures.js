// Decisions on pictures themselves, in any grid: of what is selected or in focus, by buttons and by one key each.
import { askJson, images, keyButton, number } from "./dom.js";
import { isTyping } from "./tiles.js";

export const ANSWERS = [
  { kind: "keep", keys: ["k"], name: "Keep", title: "It is good enough, whatever its scores", effect: "are good enough: no problem names them any more" },
  { kind: "remove", keys: ["r"], name: "Remove", title: "Versions of datasets leave it out; no file is deleted", effect: "are left out of the next versions of datasets; no file is deleted" },
  { kind: "unsure", keys: ["s"], name: "Can't tell", title: "It is not asked again, and nothing changes", effect: "are not asked about again; nothing else changes" },
];

/** What goes to the gallery of an image's picture. */
export const decisionOf = (image, answer, shown) => ({
  kind: answer.kind, field: "quality", key: image.relative_path, content: image.content_sha256, shown,
});

/** Let a grid's images tell what is decided of them by now: `keys`, where the page doesn't know it. */
export async function tellAnew({ tiles, decider, keys, changed }) {
  if (!keys.size) return;
  await decider.settled();
  for (const image of tiles.images.filter((one) => keys.has(one.relative_path))) {
    try {
      const now = await askJson(`/api/image?${new URLSearchParams({ key: image.relative_path })}`);
      image.decided = now.image.decided;
      image.labels = now.image.labels;
      image.tags = now.decisions.filter((one) => one.kind === "tag").map((one) => one.value).sort();
    } catch {
      continue; // it can't be asked for now
    }
    const at = tiles.images.indexOf(image);
    if (at >= 0) tiles.redraw(at);
  }
  changed();
}

/**
 * Let a grid's images be decided on.
 * @param tiles the grid
 * @param decider who takes the answers
 * @param place element for the buttons
 * @param shown image → what was seen of it, or undefined
 * @param changed called after images have another decision
 * @param active () → whether the keys are meant for the grid now
 */
export function decideOnTiles({ tiles, decider, place, shown = () => undefined, changed = () => {}, active = () => true }) {
  tiles.latest = () => decider.latest;
  const before = new Map(); // key → what was decided before each step of this page

  async function say(answer) {
    const there = new Set(tiles.images.map((image) => image.relative_path));
    const chosen = [...tiles.selected].filter(([, content]) => content).map(([relative_path, content_sha256]) => ({ relative_path, content_sha256 }));
    const away = chosen.filter((image) => !there.has(image.relative_path)).length;
    const where = away ? `, ${number(away)} of them not on this page,` : "";
    if (!chosen.length) return;
    if ((away || chosen.length > 1) && !confirm(`${answer.name}: ${images(chosen.length)}${where} ${answer.effect}. Undo takes it back.`)) return;
    const said = await decider.say(chosen.map((image) => ({ ...decisionOf(image, answer, shown(image)), ...tiles.seenOf(image.relative_path) })), `${answer.name}, ${images(chosen.length)}`);
    if (!said) return;
    const decided = new Map(tiles.images.map((image) => [image.relative_path, image.decided ?? null]));
    for (const { relative_path: key } of chosen) before.set(key, [...(before.get(key) ?? []), decided.get(key)]);
    show(new Set(chosen.map((image) => image.relative_path)), () => answer.kind);
    tiles.select([]);
  }

  /** Let some images' tiles say what is decided. */
  function show(keys, decidedOf) {
    tiles.images.forEach((image, at) => {
      if (!keys.has(image.relative_path)) return;
      image.decided = decidedOf(image);
      tiles.redraw(at);
    });
    changed();
  }

  place.append(...ANSWERS.map((one) => keyButton(one.name, one.keys[0].toUpperCase(), { title: one.title, does: () => say(one) })));
  addEventListener("keydown", async (event) => {
    if (!active() || event.defaultPrevented || isTyping(event.target) || event.altKey || document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    if (key === "z") {
      event.preventDefault();
      await decider.undo();
      return;
    }
    const answer = ANSWERS.find((one) => one.keys.includes(key));
    if (!answer || event.ctrlKey || event.metaKey || event.repeat) return;
    if (!tiles.selected.size && document.activeElement?.classList.contains("tile")) tiles.toggle(tiles.focused);
    say(answer);
  });
  decider.addEventListener("undone", ({ detail: step }) => {
    if (!ANSWERS.some((one) => one.kind === step.said?.kind)) return;
    const had = new Map(step.keys.map((key) => [key, before.get(key)?.pop()]));
    const [unknown, known] = [new Set(), new Set()]; // it was not here before that step, of an earlier page, say
    for (const [key, kind] of had) (kind === undefined ? unknown : known).add(key);
    show(known, (image) => had.get(image.relative_path));
    tellAnew({ tiles, decider, changed, keys: unknown });
  });
  const notWritten = ({ detail: { mine, decision } }) => {
    const { key, kind } = mine ?? decision;
    if (ANSWERS.some((one) => one.kind === kind)) before.get(key)?.pop();
    tellAnew({ tiles, decider, changed, keys: new Set([key]) });
  };
  decider.addEventListener("conflict", notWritten);
  decider.addEventListener("refused", notWritten);
  decider.addEventListener("others", (event) => {
    const said = event.detail.filter((one) => one.field === "quality");
    const of = new Map(said.filter((one) => !one.undoes).map((one) => [one.relative_path, one.kind]));
    show(new Set(of.keys()), (image) => of.get(image.relative_path));
    tellAnew({ tiles, decider, changed, keys: new Set(said.filter((one) => one.undoes).map((one) => one.relative_path)) });
  });
}
