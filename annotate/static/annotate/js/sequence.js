// A figure with its bounds, along prompts or generations. The same numbers stand in a table.

import uPlot from "../../vendor/uplot/uPlot.esm.js";

import { axesIn, coloursOf, onNewColours } from "./chart_style.js";

const HEIGHT = 220;
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

const figure = document.querySelector("[data-sequence]");
const { x, y, low, high, line, share } = JSON.parse(figure.dataset.sequence);
let plot;

const width = () => Math.max(200, figure.clientWidth - 32);
const named = (value) => (share ? `${Math.round(100 * value)} %` : String(Math.round(value)));

function draw() {
  plot?.destroy();
  const [middle, bound, band] = coloursOf(figure, ["chart-value", "chart-axis", "chart-band"]);
  const axes = axesIn(figure);
  plot = new uPlot(
    {
      width: width(),
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: share ? { range: [0, 1] } : {} },
      axes: [
        { ...axes, size: 30, incrs: WHOLE },
        { ...axes, size: 52, values: (_plot, ticks) => ticks.map(named) },
      ],
      bands: [{ series: [1, 2], fill: band }],
      series: [
        {},
        { stroke: bound, width: 1, points: { show: false } },
        { stroke: bound, width: 1, points: { show: false } },
        { stroke: middle, width: 2, points: { show: !share } },
        { stroke: bound, width: 1, dash: [4, 4], points: { show: false } },
      ],
    },
    [x, high, low, y, x.map(() => line)],
    figure,
  );
}

addEventListener("resize", () => plot.setSize({ width: width(), height: HEIGHT }));
onNewColours(draw);
draw();
