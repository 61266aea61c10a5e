"use strict";

let distributionChart = null;

/** How the scores of each method spread in one column. */
function drawDistributions(parent) {
  const places = columnsShown();
  if (drawDistributions.column === undefined || !places.includes(Number(drawDistributions.column))) drawDistributions.column = String(places[0]);
  const canvas = el("canvas", { role: "img", "aria-label": "distribution of scores per method" });
  const box = el("div", { class: "chart distribution" }, canvas);
  const redraw = () => {
    if (distributionChart) distributionChart.destroy();
    distributionChart = distribution(canvas, box, Number(drawDistributions.column));
  };
  parent.append(
    el("div", { class: "controls" }, labelled("column", select(columnOptions(), drawDistributions.column, (value) => {
      drawDistributions.column = value;
      redraw();
    }, "column"))),
    el("p", { class: "hint" }, "Box: the middle half of the samples; line: from 5 % to 95 %; bar: median; dot: mean. After the name: values / planned samples."),
    box,
  );
  redraw();
}

function distribution(canvas, box, column) {
  const samples = samplesShown();
  const rows = runsShown().map((run) => {
    const values = samples.map((sample) => score(run, column, sample)).filter((value) => typeof value === "number").sort((a, b) => a - b);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return { run, values, mean, label: `${run.label}  ${values.length}/${samples.length}` };
  }).filter((row) => row.run.scores[column]);
  box.style.height = `${90 + 30 * rows.length}px`;
  const full = rows.filter((row) => row.values.length);
  const box5 = (row, share) => quantile(row.values, share);
  const low = Math.min(...full.map((row) => box5(row, 0.05))), high = Math.max(...full.map((row) => box5(row, 0.95)));
  const room = 0.04 * (high - low) || 0.05 * Math.max(1, Math.abs(high));
  const ends = full.length ? { min: low - room, max: high + room } : {};
  return new Chart(canvas, {
    type: "bar",
    data: { labels: rows.map((row) => row.label), datasets: [{
      data: rows.map((row) => (row.values.length ? [box5(row, 0.25), box5(row, 0.75)] : null)),
      backgroundColor: "#d9d9d9", borderColor: INK, borderWidth: 1, borderSkipped: false, barPercentage: 0.6,
    }] },
    options: {
      animation: false, indexAxis: "y", maintainAspectRatio: false, responsive: true,
      scales: {
        x: { title: { display: true, color: INK, text: `${DATA.columns[column].name}, ${DATA.columns[column].unit}${arrow(column)}` }, grid: { color: "#e8e8e8" },
          ticks: { callback: (value) => shown(column, value), maxTicksLimit: 8, includeBounds: false }, ...ends },
        y: { grid: { display: false }, ticks: { autoSkip: false } },
      },
      plugins: { legend: { display: false }, tooltip: { callbacks: { label: (item) => {
        const row = rows[item.dataIndex];
        return [["mean", row.mean], ["median", box5(row, 0.5)], ["5 %", box5(row, 0.05)], ["95 %", box5(row, 0.95)]].map(([name, value]) => `${name} ${shown(column, value)}`);
      } } } },
    },
    plugins: [{ id: "whiskers", afterDatasetsDraw: (chart) => {
      const { ctx, scales } = chart;
      ctx.save();
      ctx.strokeStyle = INK;
      ctx.fillStyle = INK;
      rows.forEach((row, place) => {
        if (!row.values.length) return;
        const y = scales.y.getPixelForValue(place), x = (value) => scales.x.getPixelForValue(value);
        ctx.lineWidth = 1;
        ctx.beginPath();
        ctx.moveTo(x(box5(row, 0.05)), y);
        ctx.lineTo(x(box5(row, 0.25)), y);
        ctx.moveTo(x(box5(row, 0.75)), y);
        ctx.lineTo(x(box5(row, 0.95)), y);
        ctx.stroke();
        ctx.lineWidth = 2;
        ctx.beginPath();
        ctx.moveTo(x(box5(row, 0.5)), y - 8);
        ctx.lineTo(x(box5(row, 0.5)), y + 8);
        ctx.stroke();
        ctx.beginPath();
        ctx.arc(x(row.mean), y, 3, 0, 7);
        ctx.fill();
      });
      ctx.restore();
    } }],
  });
}
