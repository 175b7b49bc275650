// Live charts of a run: one for each measure, drawn again as numbers come. The same numbers stand in the table.

import uPlot from "../../vendor/uplot/uPlot.esm.js";

import { axesIn, coloursOf, onNewColours } from "./chart_style.js";

const POLL_MS = 2_000;
const HEIGHT = 170;

const box = document.querySelector("[data-charts]");
const charts = new Map();

/** Steps are counted: their axis has no fractions. */
const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

function short(value) {
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  return Number.isInteger(value) ? String(value) : Number(value.toPrecision(4)).toString();
}

function draw(series) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  figure.title = series.meaning;
  const caption = document.createElement("figcaption");
  const value = document.createElement("span");
  value.className = "chart-value";
  caption.append(series.name, value);
  figure.append(caption);
  box.append(figure);
  const [line] = coloursOf(box, ["chart-value"]);
  const axes = axesIn(box);
  const options = {
    width: Math.max(200, figure.clientWidth - 32),
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false },
    scales: { x: { time: false } },
    axes: [{ ...axes, size: 30, incrs: WHOLE }, { ...axes, size: 52, values: (_plot, ticks) => ticks.map(short) }],
    series: [{}, { stroke: line, width: 2, points: { show: series.y.length < 3 } }],
    hooks: {
      setCursor: [({ cursor: { idx }, data }) => (value.textContent = short(data[1][idx ?? data[1].length - 1]))],
    },
  };
  return { plot: new uPlot(options, [series.x, series.y], figure), value, figure };
}

function show(all) {
  box.hidden = !all.some((series) => series.y.length > 1);
  for (const series of all) {
    if (series.y.length < 2) continue;
    if (!charts.has(series.name)) charts.set(series.name, draw(series));
    const { plot, value } = charts.get(series.name);
    plot.setData([series.x, series.y]);
    value.textContent = short(series.y.at(-1));
  }
}

function redraw() {
  for (const { figure, plot } of charts.values()) {
    plot.destroy();
    figure.remove();
  }
  charts.clear();
  refresh();
}

async function refresh() {
  try {
    const response = await fetch(box.dataset.series);
    if (response.ok) show((await response.json()).series);
  } catch {
    // The next poll tries again.
  }
}

addEventListener("resize", () => {
  for (const { plot, figure } of charts.values()) plot.setSize({ width: figure.clientWidth - 32, height: HEIGHT });
});
onNewColours(redraw);

await refresh();
if ("live" in box.dataset) setInterval(refresh, POLL_MS);
