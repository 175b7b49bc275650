// What every page has: dialogs, menus, confirmations and the choice of colours.

import { reachWide } from "./wide.js";

const THEMES = ["system", "light", "dark"];

function showTheme(button) {
  const theme = document.documentElement.dataset.theme ?? "system";
  for (const icon of button.querySelectorAll("[data-theme-icon]")) icon.hidden = icon.dataset.themeIcon !== theme;
  const label = button.getAttribute(`data-label-${theme}`);
  button.querySelector("[data-theme-label]").textContent = label;
  button.title = label;
}

function nextTheme(button) {
  const root = document.documentElement;
  const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % THEMES.length];
  if (theme === "system") {
    delete root.dataset.theme;
    localStorage.removeItem("hone.theme");
  } else {
    root.dataset.theme = theme;
    localStorage.setItem("hone.theme", theme);
  }
  showTheme(button);
  document.dispatchEvent(new CustomEvent("hone:theme"));
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : document.body;
  const opener = target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open)?.showModal();
  const dialog = target.closest("dialog");
  if (dialog && (target === dialog || target.closest("[data-close]"))) dialog.close();
  const toggle = target.closest("[data-theme-toggle]");
  if (toggle) nextTheme(toggle);
  for (const menu of document.querySelectorAll("[data-menu][open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("[data-menu][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A form that asks back is sent by the dialog that it names.
document.addEventListener("submit", (event) => {
  const dialog = document.getElementById(event.target.dataset.confirm ?? "");
  if (!dialog || event.target.dataset.confirmed) return;
  event.preventDefault();
  dialog.querySelector("[data-question]").textContent = event.target.dataset.question;
  dialog.querySelector("[data-yes]").onclick = () => {
    event.target.dataset.confirmed = "yes";
    event.target.requestSubmit(event.submitter);
  };
  dialog.showModal();
});

for (const button of document.querySelectorAll("[data-theme-toggle]")) showTheme(button);
// On a phone the tabs are wider than the window, and the one that is open may lie outside.
document.querySelector(".bar-tabs [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" });
reachWide(document);
