// How charts look: colours that the style sheets resolved, light or dark, and short numbers.

/** Colours of the classes .chart-value, .chart-grid, .chart-axis and .chart-band where an element stands. */
export function colours(place) {
  const probe = document.createElement("span");
  place.append(probe);
  const of = (name) => {
    probe.className = name;
    return getComputedStyle(probe).color;
  };
  const found = { line: of("chart-value"), grid: of("chart-grid"), axis: of("chart-axis"), band: of("chart-band") };
  probe.remove();
  return found;
}

/** What both axes of a chart have in common. */
export function axis({ axis, grid }) {
  return { stroke: axis, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "12px Inter, sans-serif" };
}
