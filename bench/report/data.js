"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

/** What the reader chose; the parts of the page read it and are drawn again when it changes. */
const state = { suite: 0, tag: "", methods: "", view: "table" };

function suite() {
  return DATA.suites[state.suite];
}

/** Runs of the chosen suite whose label holds every word of the filter. */
function runsShown() {
  const words = state.methods.toLowerCase().split(/\s+/).filter(Boolean);
  return DATA.runs.filter(
    (run) =>
      run.suite === suite().name && words.every((word) => run.label.toLowerCase().includes(word)),
  );
}

/** Places of the columns that have a value per sample. */
function columnsShown() {
  const runs = DATA.runs.filter((run) => run.suite === suite().name);
  return DATA.columns.map((_, place) => place).filter((place) => runs.some((run) => run.scores[place]));
}

/** Places of all columns of the suite, those of whole sets (FID) included. */
function aggregatesShown() {
  const measured = new Set(suite().aggregates.map((row) => row.column));
  return DATA.columns.map((_, place) => place).filter((place) => measured.has(place));
}

/** Places of the samples whose case has the chosen tag. */
function samplesShown() {
  const { cases, samples } = suite();
  const places = samples.map((_, place) => place);
  if (!state.tag) return places;
  const [name, ...rest] = state.tag.split("=");
  const value = rest.join("=");
  return places.filter((place) => (cases[samples[place][0]].tags[name] || []).includes(value));
}

function score(run, column, sample) {
  const scores = run.scores[column];
  return scores ? scores[sample] : null;
}

/** Decimals to print a column with. */
function decimals(column) {
  const { low, high } = DATA.columns[column];
  if (low !== null && high !== null) return high - low <= 10 ? 3 : 2;
  const means = suite().aggregates.filter((row) => row.column === column && row.mean !== null);
  return Math.max(0, ...means.map((row) => Math.abs(row.mean))) < 10 ? 3 : 2;
}

function shown(column, value) {
  const text = value.toFixed(decimals(column));
  return /[1-9]/.test(text) ? text : text.replace("-", "");
}

function arrow(column) {
  return { true: " ↑", false: " ↓", null: "" }[String(DATA.columns[column].higher)];
}

function columnOptions(places = columnsShown()) {
  return places.map((place) => [String(place), DATA.columns[place].name]);
}

function aggregatesOf(tag) {
  return suite().aggregates.filter((row) => row.tag === tag);
}

/** Sum and weight of each identity for a run and column, over the shown samples. */
function perIdentity(run, column, samples) {
  const { cases } = suite();
  const names = [...new Set(cases.map((each) => each.identity))].sort();
  const place = new Map(names.map((name, index) => [name, index]));
  const sums = new Array(names.length).fill(0), weights = new Array(names.length).fill(0);
  for (const sample of samples) {
    const value = score(run, column, sample);
    if (typeof value !== "number") continue;
    const { identity, weight } = cases[suite().samples[sample][0]];
    sums[place.get(identity)] += weight * value;
    weights[place.get(identity)] += weight;
  }
  return { sums, weights };
}
