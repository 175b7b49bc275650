// Drafts in the browser's own storage, kept until the site has confirmed the answer.

const PREFIX = "hone.draft.";
const BROWSER = "hone.browser";
const KEPT_MS = 14 * 24 * 3600 * 1000;

const keyOf = (user, slot) => `${PREFIX}${user}.${slot}`;

/** Keep a draft; false where the browser has no room or forbids it. */
export function keep(user, slot, draft) {
  try {
    localStorage.setItem(keyOf(user, slot), JSON.stringify({ ...draft, at: Date.now() }));
    return true;
  } catch {
    return false;
  }
}

export function recall(user, slot) {
  try {
    return JSON.parse(localStorage.getItem(keyOf(user, slot)));
  } catch {
    return null;
  }
}

export function forget(user, slot) {
  localStorage.removeItem(keyOf(user, slot));
}

/** Call back with each draft of an item that another tab of this browser keeps; gives the function that ends it. */
export function watch(user, slot, found) {
  const listen = ({ key, newValue }) => {
    if (key === keyOf(user, slot) && newValue) found(JSON.parse(newValue));
  };
  addEventListener("storage", listen);
  return () => removeEventListener("storage", listen);
}

/** This browser's name for the site, the same in all its tabs. */
export function browserId(make) {
  try {
    const known = localStorage.getItem(BROWSER) ?? make();
    localStorage.setItem(BROWSER, known);
    return known;
  } catch {
    return make();
  }
}

/** Drop drafts of long ago. */
export function tidy() {
  for (const key of Object.keys(localStorage).filter((each) => each.startsWith(PREFIX))) {
    try {
      if (Date.now() - JSON.parse(localStorage.getItem(key)).at < KEPT_MS) continue;
    } catch {
      // What cannot be read is no draft.
    }
    localStorage.removeItem(key);
  }
}
