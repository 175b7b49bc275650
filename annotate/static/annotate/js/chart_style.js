// How charts look on their canvas: colours that the style sheets resolved, light or dark, and axes.

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

/** What both axes of a chart within a part of the page have in common. */
export function axesIn(part) {
  const [stroke, grid] = coloursOf(part, ["chart-axis", "chart-grid"]);
  return { stroke, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "12px Inter, sans-serif" };
}

/** Call when the colours have changed. */
export function onNewColours(act) {
  document.addEventListener("hone:theme", act);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", act);
}
