// Colours that the style sheets resolved, light or dark, for what is drawn on a canvas.

/** The colour that each of some classes has within a part of the page. */
export function coloursOf(part, names) {
  const probe = document.createElement("span");
  part.append(probe);
  const found = names.map((name) => {
    probe.className = name;
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return found;
}

/** Call when the colours have changed. */
export function onNewColours(act) {
  document.addEventListener("hone:theme", act);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", act);
}
