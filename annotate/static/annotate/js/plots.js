// Charts of tables. A table with data-plot is drawn beside itself: a row's data-x against each cell's data-y, with a
// bar from data-low to data-high where it has them. Tables with data-confidence, from guessing to certainty, have the same
// axes, so that they compare, and the line on which both are equal.

import uPlot from "../../vendor/uplot/uPlot.esm.js";

import { axesIn, coloursOf, onNewColours } from "./chart_style.js";

const HEIGHT = 260;
const LINES = ["chart-1", "chart-2", "chart-3", "chart-4", "chart-5"];
const GUESSING = 0.5;
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4]];

let plots = [];

const number = (text) => (text === undefined || text === "" ? null : Number(text));

/** What a table says: names of its lines, values of x, and for each line its points. */
function read(table) {
  const rows = [...table.tBodies[0].rows].filter((row) => "x" in row.dataset);
  const heads = [...table.tHead.rows[0].cells];
  const places = heads.flatMap((_head, place) => (rows.some((row) => "y" in row.cells[place].dataset) ? [place] : []));
  return {
    x: rows.map((row) => number(row.dataset.x)),
    lines: places.map((place) => ({
      name: heads[place].textContent.trim(),
      points: rows.map(({ cells }) => {
        const { y, low, high } = cells[place].dataset;
        return { y: number(y), low: number(low), high: number(high) };
      }),
    })),
  };
}

/** Draw a bar for each interval. */
function bars(plot, lines, colours) {
  const { ctx } = plot;
  ctx.save();
  lines.forEach(({ points }, line) => {
    ctx.strokeStyle = colours[line];
    ctx.lineWidth = devicePixelRatio;
    points.forEach(({ low, high }, place) => {
      if (low === null || high === null) return;
      const x = plot.valToPos(plot.data[0][place], "x", true);
      ctx.beginPath();
      ctx.moveTo(x, plot.valToPos(low, "y", true));
      ctx.lineTo(x, plot.valToPos(high, "y", true));
      ctx.stroke();
    });
  });
  ctx.restore();
}

function diagonal(plot, colour) {
  const { ctx } = plot;
  const from = Math.max(plot.scales.x.min, plot.scales.y.min);
  const to = Math.min(plot.scales.x.max, plot.scales.y.max);
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.setLineDash([6, 6]);
  ctx.beginPath();
  ctx.moveTo(plot.valToPos(from, "x", true), plot.valToPos(from, "y", true));
  ctx.lineTo(plot.valToPos(to, "x", true), plot.valToPos(to, "y", true));
  ctx.stroke();
  ctx.restore();
}

/** All values of some lines, interval ends included. */
const values = (lines) =>
  lines.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [y, low, high])).filter((value) => value !== null);

/** From the lowest to the highest value, with a little room. */
function roomy(low, high) {
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}

/** Axes of a table. */
const scalesOf = (lines) => ({
  x: { time: false, range: (_plot, low, high) => roomy(low, high) },
  y: { range: () => roomy(Math.min(...values(lines)), Math.max(...values(lines))) },
});

/** Axes of all tables of confidence: from guessing, or from where one of them falls below it, to certainty. */
function scalesOfConfidence() {
  const lines = [...document.querySelectorAll("table[data-confidence]")].flatMap((table) => read(table).lines);
  const low = Math.floor(Math.min(GUESSING, ...values(lines)) * 10) / 10;
  return { x: { time: false, range: () => [GUESSING, 1] }, y: { range: () => [low, 1] } };
}

function draw(table) {
  const { x, lines } = read(table);
  if (x.length < 2 || !lines.length) return;
  const figure = document.createElement("figure");
  figure.className = "chart";
  // The table beside it says the same in words.
  figure.setAttribute("aria-hidden", "true");
  const caption = figure.appendChild(document.createElement("figcaption"));
  const names = caption.appendChild(document.createElement("span"));
  names.className = "plot-names";
  lines.forEach(({ name }, line) => {
    const shown = names.appendChild(document.createElement("span"));
    shown.className = LINES[line % LINES.length];
    shown.textContent = name;
  });
  table.closest(".plotted").prepend(figure);
  const [equal, ...own] = coloursOf(figure, ["chart-diagonal", ...LINES]);
  const colours = lines.map((_line, place) => own[place % own.length]);
  const confidence = "confidence" in table.dataset;
  const share = "share" in table.dataset;
  const words = (_plot, ticks) => ticks.map((tick) => (share ? `${Math.round(tick * 100)} %` : String(Number(tick.toPrecision(4)))));
  const axes = axesIn(figure);
  const plain = (_plot, ticks) => ticks.map((tick) => String(Number(tick.toPrecision(4))));
  const options = {
    width: Math.max(200, figure.clientWidth - 32),
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: confidence ? scalesOfConfidence() : scalesOf(lines),
    axes: [
      { ...axes, size: 28, label: table.dataset.label, labelFont: axes.font, values: confidence ? words : plain },
      { ...axes, size: 56, values: words },
    ],
    series: [
      {},
      ...lines.map(({ name }, line) => ({
        label: name,
        stroke: colours[line],
        width: 2,
        dash: DASHES[line % DASHES.length],
        points: { show: !("smooth" in table.dataset) },
      })),
    ],
    hooks: {
      draw: [
        (plot) => {
          if (confidence) diagonal(plot, equal);
          bars(plot, lines, colours);
        },
      ],
    },
  };
  const data = [x, ...lines.map(({ points }) => points.map(({ y }) => y))];
  plots.push({ figure, plot: new uPlot(options, data, figure) });
}

function drawAll() {
  for (const { figure, plot } of plots) {
    plot.destroy();
    figure.remove();
  }
  plots = [];
  document.querySelectorAll("table[data-plot]").forEach(draw);
}

addEventListener("resize", () => {
  for (const { figure, plot } of plots) plot.setSize({ width: figure.clientWidth - 32, height: HEIGHT });
});
onNewColours(drawAll);
drawAll();
