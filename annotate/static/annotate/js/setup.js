// A project's form: rows that come, go and change places, a name for addresses, and the preview on narrow screens.

import Sortable from "../../vendor/sortable/sortable.esm.js";

const BLANK = /rowkey0/g;
const LONGEST_SLUG = 50;

const form = document.getElementById("setup-form");
const setup = document.querySelector("[data-setup]");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
let changed = false;
let made = 0;

// Rows

const listOf = (kind) => form.querySelector(`[data-rows="${kind}"]`);

function number(list) {
  [...list.children].forEach((row, index) => (row.querySelector("[data-number]").textContent = index + 1));
}

/** The rows of a list are other ones, or in another order. */
function rowsChanged(list) {
  number(list);
  changed = true;
  form.dispatchEvent(new CustomEvent("hone:rows"));
}

function add(kind) {
  made += 1;
  const key = `n${Date.now().toString(36)}${made}`;
  const list = listOf(kind);
  list.insertAdjacentHTML(
    "beforeend",
    form.querySelector(`[data-blank="${kind}"]`).innerHTML.trim().replace(BLANK, key),
  );
  rowsChanged(list);
  list.lastElementChild.querySelector("input:not([type=hidden])").focus();
}

function remove(row) {
  const list = row.parentElement;
  const next = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  rowsChanged(list);
  (next?.querySelector("[data-remove]") ?? list.parentElement.querySelector("[data-add]")).focus();
}

function move(row, button) {
  const up = button.hasAttribute("data-up");
  const other = up ? row.previousElementSibling : row.nextElementSibling;
  if (!other) return;
  other[up ? "before" : "after"](row);
  rowsChanged(row.parentElement);
  // At the end of the way the button is gone, and the other one takes the focus.
  const left = up ? row.previousElementSibling : row.nextElementSibling;
  (left ? button : row.querySelector(up ? "[data-down]" : "[data-up]")).focus();
}

form.addEventListener("click", (event) => {
  const button = event.target.closest("button[type=button]");
  if (!button) return;
  const row = button.closest("[data-row]");
  if (button.dataset.add) add(button.dataset.add);
  else if (button.hasAttribute("data-remove")) remove(row);
  else if (row) move(row, button);
});

for (const list of form.querySelectorAll("[data-rows]")) {
  number(list);
  Sortable.create(list, {
    handle: "[data-grip]",
    animation: still ? 0 : 120,
    ghostClass: "is-dragged",
    onEnd: () => rowsChanged(list),
  });
}

// The name in addresses follows the name until somebody writes it themselves.

const slug = form.elements.slug;
let follows = !slug.readOnly && !slug.value;

function slugOf(name) {
  const plain = name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  return plain.replace(/[^a-z0-9]+/g, "-").slice(0, LONGEST_SLUG).replace(/^-+|-+$/g, "");
}

// A quick writer may have named it before this was loaded.
if (follows) slug.value = slugOf(form.elements.name.value);

form.addEventListener("input", ({ target }) => {
  changed = true;
  if (target === slug) follows = !slug.value;
  else if (target === form.elements.name && follows) slug.value = slugOf(target.value);
});

// Leaving

form.addEventListener("submit", () => (changed = false));
addEventListener("beforeunload", (event) => {
  if (changed) event.preventDefault();
});

// Narrow screens show one of the two

for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => {
    setup.dataset.shown = button.dataset.show;
    for (const each of document.querySelectorAll("[data-show]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
  });
}

document.querySelector("[data-summary]")?.focus();
