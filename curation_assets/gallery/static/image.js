// One image: its EXIF tags when they are asked for, images like it, and a word where it can't be shown.
import { askJson, ask, byId, el, keyButton, linkTile, notice, scored, told } from "./dom.js";
import { Decider, tellOfTrouble } from "./decide.js";
import { ANSWERS, decisionOf } from "./pictures.js";
import { askForAnyLabel, relabelOf } from "./labelling.js";
import { askForTag, taggingOf } from "./selection.js";
import { isTyping } from "./tiles.js";

async function showExif(place) {
  const state = byId("exif-state");
  try {
    const { tags } = await askJson(place.dataset.from);
    byId("exif-tags").replaceChildren(
      ...tags.map((tag) =>
        el(
          "div",
          {},
          el("dt", { textContent: tag.name, title: tag.group }),
          el("dd", { textContent: tag.value }),
        ),
      ),
    );
    state.textContent = tags.length ? "" : "This file has no EXIF tags.";
  } catch (error) {
    state.textContent = `The tags can't be read: ${error.message}`;
  }
}

async function showLike(place) {
  try {
    const { images } = await askJson(place.dataset.from);
    place.replaceChildren(...images.map((image) => linkTile(image, scored(image))));
    if (!images.length) byId("like-state").textContent = "There is no other image.";
  } catch (error) {
    byId("like-state").textContent = error.message;
  }
}

function showGroup(place) {
  const here = new URLSearchParams(location.search).get("key");
  const { kind, images } = JSON.parse(place.dataset.group);
  const tileOf = ({ image, is_keeper: isKeeper, rule, how }) => {
    const folder = image.path.slice(0, -image.name.length - 1) || ".";
    const tile = linkTile(image, folder, isKeeper ? `keep: ${rule}` : how ?? kind);
    if (image.relative_path === here) tile.firstElementChild.setAttribute("aria-current", "page");
    return tile;
  };
  place.replaceChildren(...images.map(tileOf));
}

document.querySelectorAll("[data-group]").forEach(showGroup);
const exif = byId("exif");
exif?.addEventListener("toggle", () => showExif(exif), { once: true });
const like = byId("like");
if (like) showLike(like);

const picture = byId("picture");
async function tellWhy() {
  picture.hidden = true;
  byId("no-picture").hidden = false;
  try {
    await ask(picture.src, { headers: { Accept: "application/json" } });
    byId("no-picture").textContent = "The picture can't be shown.";
  } catch (error) {
    byId("no-picture").textContent = error.message;
  }
}
if (picture?.complete && !picture.naturalWidth) tellWhy();
else picture?.addEventListener("error", tellWhy);

const boxes = byId("show-boxes");
boxes?.addEventListener("change", () => (byId("boxes").style.display = boxes.checked ? "" : "none"));

// Decisions

const tellTrouble = (error) => byId("notices").replaceChildren(notice(error.message, "alert"));

function decideHere(place) {
  const decider = new Decider(byId("saved"));
  decider.latest = place.dataset.latest;
  tellOfTrouble(decider, byId("notices"));
  const image = { relative_path: new URLSearchParams(location.search).get("key"), content_sha256: place.dataset.content };
  const say = async (decision, label) => {
    if (!(await decider.say([decision], label))) return;
    await decider.settled();
    show();
  };
  const answer = (one) => say(decisionOf(image, one), one.name);
  const tag = async () => {
    const has = [...byId("decisions").querySelectorAll("[data-tag]")].map((one) => one.dataset.tag);
    const asked = await askForTag("Tag this image", has);
    if (asked) say(taggingOf(image.relative_path, image.content_sha256, asked), told({ ...asked, value: asked.tag }));
  };
  const label = async () => {
    const asked = await askForAnyLabel("What is it?").catch(tellTrouble);
    if (asked) say(relabelOf(image.relative_path, image.content_sha256, asked), told({ kind: "relabel", ...asked }));
  };
  const undo = async () => {
    if (!(await decider.undo())) return;
    await decider.settled();
    show();
  };
  const show = async () => {
    try {
      const { decisions } = await askJson(`/api/image?${new URLSearchParams({ key: image.relative_path })}`);
      byId("decisions").replaceChildren(
        ...decisions.map((one) =>
          el("li", { "data-tag": one.kind === "tag" ? one.value : undefined }, `${told(one)}${one.field && one.field !== "quality" ? ` (${one.field})` : ""} `,
            el("span", { className: "soft", textContent: `${one.decided_by ?? "somebody"}${one.reason ? `: ${one.reason}` : ""}` })),
        ),
      );
    } catch (error) {
      tellTrouble(error);
    }
  };
  decider.addEventListener("others", show);
  const buttons = [
    ...ANSWERS.map((one) => ({ ...one, does: () => answer(one) })),
    { keys: ["l"], name: "Label", title: "It is labelled otherwise than it should be", does: label },
    { keys: ["t"], name: "Tag", title: "It joins a set, or leaves one", does: tag },
    { keys: ["z"], name: "Undo", title: "Take the last decision of this visit back", does: undo },
  ];
  for (const one of buttons) {
    byId("say").append(keyButton(one.name, one.keys[0].toUpperCase(), { title: one.title, does: one.does }));
  }
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const one = buttons.find(({ keys }) => keys.includes(event.key.toLowerCase()));
    if (!one) return;
    event.preventDefault();
    one.does();
  });
}
if (byId("decide")) decideHere(byId("decide"));
