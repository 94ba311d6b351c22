// What this browser keeps between pages.

/** A name for what is of this lake alone: another may be shown at the same address tomorrow. */
export const ofLake = (name) => `${name} ${document.body.dataset.lake}`;

/** What was kept; `otherwise` where nothing was, or it can't be read. */
export function recall(storage, name, otherwise) {
  try {
    return JSON.parse(storage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keep a value; whether there was room for it. */
export function keep(storage, name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false; // full or forbidden
  }
}

export const REVIEWER = "curation name";

/** Whose token this is, or else the name that was given once; empty where neither is. */
export const reviewer = () => document.body.dataset.reviewer ?? recall(localStorage, REVIEWER, "");
