// Talking to the site. What cannot be delivered is said, never swallowed.

/** The site could not be reached, or could not answer just now. */
export class Offline extends Error {}

/** The sign-in has ended. */
export class SignedOut extends Error {}

/** The item is not known to the site as the rater's. */
export class Gone extends Error {}

// Browsers refuse more than 64 KiB from a page that is being left; a character takes up to three bytes.
const KEEPALIVE_LENGTH = 20_000;

async function call(address, options) {
  let response;
  try {
    response = await fetch(address, { ...options, redirect: "manual" });
  } catch {
    throw new Offline();
  }
  if (response.type === "opaqueredirect" || response.status === 403) throw new SignedOut();
  if (response.status >= 500) throw new Offline();
  return response;
}

/** GET a piece of a page; null where there is none (204). */
export async function fetchPiece(address) {
  const response = await call(address, {});
  if (response.status === 204) return null;
  if (!response.ok) throw new Offline();
  return response.text();
}

/** POST JSON; gives the status and the answer's JSON. `keepalive` lets it arrive after the page is left. */
export async function post(address, body, { keepalive = false } = {}) {
  const text = JSON.stringify(body);
  const response = await call(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": cookie("csrftoken") },
    body: text,
    keepalive: keepalive && text.length < KEEPALIVE_LENGTH,
  });
  if (!response.headers.get("Content-Type")?.includes("json")) {
    if (response.status === 404) throw new Gone();
    throw new Offline();
  }
  try {
    return { status: response.status, data: await response.json() };
  } catch {
    throw new Offline();
  }
}

// Read each time: signing in again in another tab changes it.
function cookie(name) {
  const entry = document.cookie.split("; ").find((each) => each.startsWith(`${name}=`));
  return entry ? decodeURIComponent(entry.slice(name.length + 1)) : "";
}

/** A random UUID; crypto.randomUUID exists only on https and on the same machine. */
export function newUuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
