// What an image is, in a person's word: asked for with the labels that there are.
import { askFor, askJson, choice, el, number } from "./dom.js";

const FREQUENT = 9; // classes that are offered as buttons

/** What goes to the gallery of an image's label. */
export const relabelOf = (key, content, { field, value }, shown) => ({ kind: "relabel", field, value, key, content, shown });

/**
 * Ask for a label; null where none is given, or where a new one is not meant.
 * @param classes of the field: [{name}], the most frequent first
 */
export async function askForLabel(title, classes) {
  const list = el("datalist", { id: "classes" }, ...classes.map((one) => el("option", { value: one.name })));
  const input = el("input", { required: true, maxLength: 1000, autocomplete: "off", spellcheck: false });
  input.setAttribute("list", "classes");
  const frequent = classes.slice(0, FREQUENT).map((one) => choice(input, one.name));
  const choices = frequent.length ? el("p", { className: "choices" }, ...frequent) : null;
  const value = await askFor(input, { title, label: "Label", more: [list, choices], go: "It is that" });
  if (value && !classes.some((one) => one.name === value) && !confirm(`No image is labelled “${value}” yet. Make it a new label?`)) return null;
  return value;
}

/** Ask what some images are, of whichever field of labels: {field, value}; null where that is not told. */
export async function askForAnyLabel(title) {
  const { fields } = await askJson("/api/label-fields");
  let [field] = fields;
  if (fields.length > 1) {
    const select = el("select", {}, ...fields.map((one) => el("option", { value: one.field, textContent: `${one.field} (${number(one.classes.length)} labels)` })));
    const asked = await askFor(select, { title, label: "Field" });
    field = fields.find((one) => one.field === asked);
  }
  if (!field) return null;
  const value = await askForLabel(`${title} (${field.field})`, field.classes);
  return value && { field: field.field, value };
}
