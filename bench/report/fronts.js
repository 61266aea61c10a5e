"use strict";

const DRAWS = 400;
const INK = "#111111", GREY = "#8a8a8a";
let frontChart = null;

/** Preservation against editability: the front of the shown runs, in two or three axes. */
function drawFronts(parent) {
  const places = aggregatesShown(), options = columnOptions(places);
  const first = (axis) => places.find((place) => DATA.columns[place].axis === axis);
  const chosen = drawFronts.chosen || (drawFronts.chosen = {});
  for (const axis of ["x", "y", "z"]) if (chosen[axis] !== "" && !places.includes(Number(chosen[axis]))) delete chosen[axis];
  chosen.x ??= String(first("preservation") ?? places[0]);
  chosen.y ??= String(places.find((place) => DATA.columns[place].name.startsWith("landmarkdiff@strict")) ?? places.find((place) => DATA.columns[place].axis === "editability" && DATA.columns[place].higher !== null) ?? places[1] ?? places[0]);
  chosen.z ??= "";
  const canvas = el("canvas", { role: "img", "aria-label": "front of the shown methods", tabindex: 0 });
  const list = el("div", { class: "front-list" });
  const redraw = () => { draw(canvas, list, chosen); };
  const pick = (axis, options) => labelled(axis, select(options, chosen[axis], (value) => { chosen[axis] = value; redraw(); }, axis));
  parent.append(
    el("div", { class: "controls" },
      pick("x", options), pick("y", options), pick("z", [["", "none"], ...options])),
    el("p", { class: "hint" }, "Filled: on the front, with the share of resampled identities in which it is there. " +
      "Hollow: dominated. Bars: 95 % intervals; lines join runs that differ in one parameter. Where a column has no better direction, up is taken as better. " +
      "A metric of whole runs, such as FID, has no bar and is not resampled."),
    el("div", { class: "chart" }, canvas), list,
  );
  redraw();
}

function draw(canvas, list, chosen) {
  if (frontChart) { frontChart.destroy(); frontChart = null; }
  const axes = [chosen.x, chosen.y, chosen.z].filter((place) => place !== "").map(Number);
  const points = frontPoints(axes);
  const higher = axes.map((place) => DATA.columns[place].higher !== false);
  const on = frontOf(points.map((point) => point.means), higher);
  const samples = samplesShown();
  const sampled = axes.map((place) => points.some((point) => point.run.scores[place]));
  const parts = points.map((point) => axes.map((place, axis) => (sampled[axis] ? perIdentity(point.run, place, samples) : sameInEveryDraw(point.means[axis]))));
  const shares = sampled.some(Boolean)
    ? membership(parts.map((run) => run.map((part) => part.sums)), parts.map((run) => run.map((part) => part.weights)), higher, DRAWS)
    : null;
  const ends = new Set(curvesOf(points).map((curve) => curve.at(-1)));
  const crowded = window.innerWidth <= 600 && points.length > 10;
  points.forEach((point, place) => {
    point.on = on[place];
    point.share = shares ? shares[place] : null;
    // Along a curve the parameter says it all; its end carries the whole name.
    const inside = point.run.curve && !ends.has(point);
    const name = inside ? point.run.curve.text : point.run.label;
    point.name = point.on && point.share !== null ? `${name} (${Math.round(100 * point.share)} %)` : name;
    // A small screen has no room for every step; a tap shows it, and the list below has all.
    point.written = inside && crowded ? "" : point.name;
  });
  canvas.onpointerdown = canvas.onpointermove = canvas.onkeydown = null;
  if (axes.length === 3) draw3d(canvas, points, axes);
  else draw2d(canvas, points, axes, higher);
  list.replaceChildren(frontTable(points, axes));
}

/** One number of a whole run as if each identity had it, so that no draw changes it. */
function sameInEveryDraw(value) {
  const identities = new Set(suite().cases.map((each) => each.identity)).size;
  return { sums: new Array(identities).fill(value), weights: new Array(identities).fill(1) };
}

function frontPoints(axes) {
  const rows = new Map(aggregatesOf(state.tag).map((row) => [row.run + " " + row.column, row]));
  return runsShown()
    .map((run) => ({ run, rows: axes.map((place) => rows.get(run.run + " " + place)) }))
    .filter((point) => point.rows.every((row) => row && row.mean !== null))
    .map((point) => ({ ...point, means: point.rows.map((row) => row.mean) }));
}

/** The points of each curve, in the order of its parameter. */
function curvesOf(points) {
  const names = new Set(points.map((point) => point.run.curve && point.run.curve.name).filter(Boolean));
  return [...names].map((name) => points.filter((point) => point.run.curve && point.run.curve.name === name)
    .sort((a, b) => a.run.curve.value - b.run.curve.value));
}

function frontTable(points, axes) {
  const head = ["method", ...axes.map((place) => DATA.columns[place].name), "on the front"];
  const order = [...points].sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || a.run.label.localeCompare(b.run.label));
  return el("table", { class: "plain" },
    el("thead", {}, el("tr", {}, head.map((text) => el("th", {}, text)))),
    el("tbody", {}, order.map((point) => el("tr", {},
      el("td", {}, point.run.label),
      point.rows.map((row, axis) => el("td", {}, aggregateCell(axes[axis], row, ""))),
      el("td", {}, `${point.on ? "yes" : "no"}${point.share === null ? "" : `, in ${Math.round(100 * point.share)} % of resamples`}`)))));
}

function limits(points, axis, column) {
  const ends = points.flatMap((point) => [-1, 1].map((sign) => {
    const value = point.means[axis] + sign * (point.rows[axis].margin ?? 0);
    const { low, high } = DATA.columns[column];
    return Math.min(high ?? Infinity, Math.max(low ?? -Infinity, value));
  }));
  const low = Math.min(...ends), high = Math.max(...ends);
  const room = 0.08 * (high - low) || 0.05 * Math.max(1, Math.abs(high));
  return [low - room, high + room];
}

function draw2d(canvas, points, axes, higher) {
  const [xs, ys] = points.length ? [limits(points, 0, axes[0]), limits(points, 1, axes[1])] : [[0, 1], [0, 1]];
  const scale = (axis, range) => ({
    min: range[0], max: range[1], type: "linear",
    grid: { color: "#e8e8e8" },
    ticks: { callback: (value) => shown(axes[axis], value), maxTicksLimit: 7, includeBounds: false },
    title: { display: true, color: INK, text: `${window.innerWidth > 600 ? DATA.columns[axes[axis]].axis + ": " : ""}${DATA.columns[axes[axis]].name}  (${higher[axis] ? (axis ? "↑" : "→") : (axis ? "↓" : "←")} better)` },
  });
  frontChart = new Chart(canvas, {
    type: "scatter",
    data: { datasets: [
      { data: points.map((point) => ({ x: point.means[0], y: point.means[1] })), pointRadius: 6, pointHoverRadius: 7,
        pointBorderColor: INK, pointBorderWidth: 1.5, pointBackgroundColor: points.map((point) => (point.on ? INK : "#ffffff")) },
    ] },
    options: {
      animation: false, maintainAspectRatio: false, responsive: true,
      scales: { x: scale(0, xs), y: scale(1, ys) },
      plugins: {
        legend: { display: false },
        tooltip: { callbacks: { label: (item) => {
          const point = points[item.dataIndex];
          return [point.name, ...axes.map((place, axis) => {
            const row = point.rows[axis];
            return `${DATA.columns[place].name} ${shown(place, row.mean)}${row.margin === null ? "" : ` ±${shown(place, row.margin)}`}, ${row.n}/${row.total}`;
          })];
        } } },
      },
    },
    plugins: [{ id: "marks", beforeDatasetsDraw: (chart) => underPoints(chart, points, axes, higher), afterDatasetsDraw: (chart) => {
      const spots = points.map((point) => [chart.scales.x.getPixelForValue(point.means[0]), chart.scales.y.getPixelForValue(point.means[1])]);
      writeNames(chart.ctx, spots, points.map((point) => point.written), chart.chartArea, linesOf(chart, points, axes, higher));
    } }],
  });
}

/** What is drawn under the points, in pixels: intervals, curves, the staircase of the front. */
function linesOf(chart, points, axes, higher) {
  const { chartArea } = chart;
  const x = (value) => chart.scales.x.getPixelForValue(value), y = (value) => chart.scales.y.getPixelForValue(value);
  const clamp = (column, value) => Math.min(DATA.columns[column].high ?? Infinity, Math.max(DATA.columns[column].low ?? -Infinity, value));
  const bars = points.flatMap((point) => {
    const [mx, my] = point.rows.map((row) => row.margin ?? 0);
    return [
      [[x(clamp(axes[0], point.means[0] - mx)), y(point.means[1])], [x(clamp(axes[0], point.means[0] + mx)), y(point.means[1])]],
      [[x(point.means[0]), y(clamp(axes[1], point.means[1] - my))], [x(point.means[0]), y(clamp(axes[1], point.means[1] + my))]],
    ];
  });
  const curves = curvesOf(points).map((curve) => curve.map((point) => [x(point.means[0]), y(point.means[1])]));
  const members = points.filter((point) => point.on).sort((a, b) => (higher[0] ? 1 : -1) * (a.means[0] - b.means[0]));
  const stairs = members.flatMap((point, place) => {
    const next = members[place + 1];
    return [[x(point.means[0]), y(point.means[1])], [x(point.means[0]), next ? y(next.means[1]) : higher[1] ? chartArea.bottom : chartArea.top]];
  });
  if (stairs.length) stairs.unshift([higher[0] ? chartArea.left : chartArea.right, stairs[0][1]]);
  return { bars, curves, stairs };
}

/** Draws intervals, curves of a method's runs, and the staircase of the front. */
function underPoints(chart, points, axes, higher) {
  const { ctx, chartArea } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(chartArea.left, chartArea.top, chartArea.width, chartArea.height);
  ctx.clip();
  const { bars, curves, stairs } = linesOf(chart, points, axes, higher);
  const trace = (path) => {
    ctx.beginPath();
    path.forEach((spot) => ctx.lineTo(...spot));
    ctx.stroke();
  };
  ctx.strokeStyle = GREY;
  bars.forEach(trace);
  ctx.lineWidth = 1.4;
  curves.forEach(trace);
  ctx.lineWidth = 1;
  ctx.strokeStyle = INK;
  ctx.setLineDash([6, 4]);
  trace(stairs);
  ctx.restore();
}

/** Names beside their points, where they cover no other name, point or line if there is room. */
function writeNames(ctx, spots, names, area, lines) {
  ctx.save();
  ctx.font = `${window.innerWidth > 600 ? 12 : 10}px system-ui, sans-serif`;
  ctx.textBaseline = "middle";
  const taken = spots.map(([x, y]) => [x - 7, y - 7, x + 7, y + 7]);
  const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const pieces = [...lines.bars, ...lines.curves, lines.stairs].flatMap((path) => path.slice(1).map((end, place) => [path[place], end]));
  spots.forEach(([x, y], place) => {
    if (!names[place]) return;
    const width = ctx.measureText(names[place]).width, height = 14;
    let best = null, least = Infinity;
    for (const ring of [10, 18, 30, 46, 64]) {
      for (let turn = 0; turn < 12; turn += 1) {
        const angle = ((turn - 1) * Math.PI) / 6, dx = Math.cos(angle), dy = Math.sin(angle);
        const left = x + dx * ring + ((dx - 1) / 2) * width, top = y + dy * (ring + height / 4) - height / 2;
        const box = [left, top, left + width, top + height];
        const crossed = pieces.reduce((sum, [from, to]) => sum + within(from, to, box), 0);
        const outside = width * height - overlap(box, [area.left, area.top, area.right, area.bottom]);
        const cost = taken.reduce((sum, other) => sum + overlap(box, other), 0) * 10 + outside * 10 + crossed * 6 + ring * 3;
        if (cost < least) { least = cost; best = box; }
      }
    }
    taken.push(best);
    const near = [Math.min(Math.max(x, best[0]), best[2]), Math.min(Math.max(y, best[1]), best[3])];
    if (Math.hypot(near[0] - x, near[1] - y) > 20) {
      ctx.strokeStyle = GREY;
      ctx.beginPath();
      ctx.moveTo(x, y);
      ctx.lineTo(near[0], near[1]);
      ctx.stroke();
    }
    ctx.strokeStyle = "#ffffff";
    ctx.lineWidth = 3;
    ctx.strokeText(names[place], best[0], (best[1] + best[3]) / 2);
    ctx.fillStyle = INK;
    ctx.fillText(names[place], best[0], (best[1] + best[3]) / 2);
    ctx.lineWidth = 1;
  });
  ctx.restore();
}

/** Length of the part of a straight line that lies in a box (Liang and Barsky's clipping). */
function within([x0, y0], [x1, y1], [left, top, right, bottom]) {
  const dx = x1 - x0, dy = y1 - y0;
  let from = 0, to = 1;
  for (const [step, room] of [[-dx, x0 - left], [dx, right - x0], [-dy, y0 - top], [dy, bottom - y0]]) {
    if (step === 0) {
      if (room < 0) return 0;
    } else if (step < 0) from = Math.max(from, room / step);
    else to = Math.min(to, room / step);
  }
  return to > from ? (to - from) * Math.hypot(dx, dy) : 0;
}

/** Three axes as a box that is turned by dragging or with the arrow keys. */
function draw3d(canvas, points, axes) {
  const ranges = points.length ? axes.map((place, axis) => limits(points, axis, place)) : axes.map(() => [0, 1]);
  let yaw = 0.6, pitch = 0.35;
  const paint = () => {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.parentElement.clientWidth, height = canvas.parentElement.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    const size = Math.min(width, height * 1.2) / 2.3;
    const project = ([x, y, z]) => {
      const right = x * Math.cos(yaw) - y * Math.sin(yaw), away = x * Math.sin(yaw) + y * Math.cos(yaw);
      return [width / 2 + size * right, height / 2 - size * (z * Math.cos(pitch) - away * Math.sin(pitch)) * 0.9];
    };
    const unit = (point) => point.means.map((value, axis) => (2 * (value - ranges[axis][0])) / (ranges[axis][1] - ranges[axis][0]) - 1).map((value) => value * 0.7);
    const line = (a, b, colour, dash) => {
      ctx.strokeStyle = colour;
      ctx.setLineDash(dash || []);
      ctx.beginPath();
      ctx.moveTo(...project(a));
      ctx.lineTo(...project(b));
      ctx.stroke();
    };
    const s = 0.7, curves = curvesOf(points);
    for (const a of [-s, s]) for (const b of [-s, s]) {
      line([-s, a, b], [s, a, b], "#dddddd");
      line([a, -s, b], [a, s, b], "#dddddd");
      line([a, b, -s], [a, b, s], "#dddddd");
    }
    ctx.font = "12px system-ui, sans-serif";
    ctx.fillStyle = "#444444";
    axes.forEach((place, axis) => {
      const end = [-s, -s, -s], start = [-s, -s, -s];
      end[axis] = s * 1.1;
      line(start, end, INK);
      const [x, y] = project(end);
      ctx.fillText(DATA.columns[place].name + arrow(place), Math.min(Math.max(4, x - 40), width - 190), y - 6);
    });
    const spots = points.map((point) => project(unit(point)));
    for (const curve of curves) curve.slice(1).forEach((point, place) => line(unit(curve[place]), unit(point), GREY));
    points.forEach((point, place) => {
      const at = unit(point);
      line(at, [at[0], at[1], -s], GREY, [2, 3]);
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.arc(spots[place][0], spots[place][1], 6, 0, 7);
      ctx.fillStyle = point.on ? INK : "#ffffff";
      ctx.strokeStyle = INK;
      ctx.fill();
      ctx.stroke();
    });
    const paths = { bars: [], stairs: [], curves: curves.map((curve) => curve.map((point) => project(unit(point)))) };
    writeNames(ctx, spots, points.map((point) => point.written), { left: 0, top: 0, right: width, bottom: height }, paths);
  };
  canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
  canvas.onpointermove = (event) => {
    if (!event.buttons) return;
    yaw += event.movementX * 0.01;
    pitch = Math.max(-1.4, Math.min(1.4, pitch + event.movementY * 0.01));
    paint();
  };
  canvas.onkeydown = (event) => {
    const turn = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (!turn) return;
    event.preventDefault();
    yaw += turn[0];
    pitch += turn[1];
    paint();
  };
  paint();
}
