"use strict";

let aggregateTable = null;

/** Lets go of the table; one that is still being built has nothing to take down yet. */
function disposeTable() {
  if (aggregateTable && aggregateTable.initialized) aggregateTable.destroy();
  aggregateTable = null;
}

/** The table of aggregates: sortable by every column, with interval and coverage in each cell. */
function drawTable(parent) {
  const hidden = drawTable.hidden || (drawTable.hidden = new Set());
  const places = aggregatesShown();
  const chooser = el("details", { class: "chooser" }, el("summary", {}, "columns"));
  for (const place of places) {
    const box = el("input", { type: "checkbox", checked: !hidden.has(place), onchange: () => {
      if (box.checked) hidden.delete(place); else hidden.add(place);
      build();
    } });
    chooser.append(el("label", { class: "choice" }, box, DATA.columns[place].name));
  }
  const target = el("div", { class: "table" });
  parent.append(
    el("p", { class: "hint" }, "Mean ± half of the 95 % interval, then values / planned samples. " +
      "Bold is best, underlined second. A column header sorts."),
    chooser, target,
    el("ul", { class: "notes" }, suite().notes.map((note) => el("li", {}, note))),
  );

  function build() {
    const visible = places.filter((place) => !hidden.has(place));
    const runs = runsShown();
    const rows = new Map(runs.map((run) => [run.run, { id: run.run, label: run.label }]));
    const cells = new Map();
    for (const row of aggregatesOf(state.tag)) {
      if (!rows.has(row.run)) continue;
      rows.get(row.run)["c" + row.column] = row.mean;
      cells.set(row.run + " " + row.column, row);
    }
    const marks = marksOf([...rows.keys()], visible, cells);
    disposeTable();
    const inner = el("div", {});
    target.replaceChildren(inner);
    aggregateTable = new Tabulator(inner, {
      data: [...rows.values()],
      layout: "fitDataFill",
      columnDefaults: { resizable: false },
      placeholder: "no method matches",
      initialSort: visible.length && DATA.columns[visible[0]].higher !== null
        ? [{ column: "c" + visible[0], dir: DATA.columns[visible[0]].higher ? "desc" : "asc" }] : [],
      columns: [
        { title: "method", field: "label", frozen: window.innerWidth > 600, sorter: "string",
          formatter: (cell) => el("span", { class: "method" }, cell.getValue()) },
        ...visible.map((place) => ({
          title: DATA.columns[place].name,
          field: "c" + place,
          hozAlign: "right",
          headerHozAlign: "right",
          sorter: "number",
          sorterParams: { alignEmptyValues: "bottom" },
          headerSortStartingDir: DATA.columns[place].higher === false ? "asc" : "desc",
          titleFormatter: () => columnTitle(place),
          formatter: (cell) => {
            const key = cell.getRow().getData().id + " " + place;
            return aggregateCell(place, cells.get(key), marks.get(key));
          },
        })),
      ],
    });
  }
  build();
}

function columnTitle(place) {
  const column = DATA.columns[place];
  return el("span", { class: "head" },
    el("span", { class: "head-name" }, column.metric),
    el("span", { class: "head-below" }, column.below + (column.name.includes(" #") ? column.name.slice(column.name.indexOf(" #")) : "")),
    el("span", { class: "head-below" }, column.unit + arrow(place)),
  );
}

function aggregateCell(place, row, mark) {
  if (!row) return el("span", {}, "");
  const coverage = el("span", { class: "coverage" + (row.n < row.total ? " partial" : "") }, `${row.n}/${row.total}`);
  if (row.mean === null) {
    const why = Object.entries(row.reasons).map(([reason, count]) => `${reason} ${count}`).join(", ");
    return el("span", { class: "number", title: why }, el("span", { class: "mean" }, "–"), " ", coverage);
  }
  const margin = row.margin === null ? "" : ` ±${shown(place, row.margin)}`;
  return el("span", { class: "number" },
    el("span", { class: "mean" + (mark ? " " + mark : "") }, shown(place, row.mean)),
    el("span", { class: "margin" }, margin), " ", coverage);
}

/** "run column" to "best" or "second", by the numbers as printed: equal ones share the mark. */
function marksOf(runs, places, cells) {
  const marks = new Map();
  for (const place of places) {
    const higher = DATA.columns[place].higher;
    if (higher === null) continue;
    const printed = runs.map((run) => cells.get(run + " " + place))
      .filter((row) => row && row.mean !== null)
      .map((row) => [row.run, Number(shown(place, row.mean))]);
    const ranked = [...new Set(printed.map(([, value]) => value))].sort((a, b) => (higher ? b - a : a - b));
    if (printed.length < 2 || ranked.length < 2) continue;
    for (const [run, value] of printed) {
      if (value === ranked[0]) marks.set(run + " " + place, "best");
      else if (value === ranked[1]) marks.set(run + " " + place, "second");
    }
  }
  return marks;
}
