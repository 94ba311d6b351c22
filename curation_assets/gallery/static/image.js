// One image: its EXIF tags when they are asked for, images like it, and a word where it can't be shown.
import { askJson, ask, byId, el, scored, shot } from "./dom.js";

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
    place.replaceChildren(
      ...images.map((image) =>
        el(
          "li",
          { className: "tile" },
          el(
            "a",
            { href: image.page, title: image.path },
            shot(image),
            el("span", { className: "name", textContent: image.name }),
            el("span", { className: "score", textContent: scored(image) }),
          ),
        ),
      ),
    );
    if (!images.length) byId("like-state").textContent = "There is no other image.";
  } catch (error) {
    byId("like-state").textContent = error.message;
  }
}

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
