"use strict";

const PAGE = 24;
const gallery = { order: "case", column: null, a: "", b: "", search: "", missesOnly: false, page: 0, places: [] };

/** Every case with its references, prompt and the picture of every method side by side. */
function drawGallery(parent) {
  const columns = columnsShown();
  if (gallery.column === null || !columns.includes(Number(gallery.column))) gallery.column = String(columns[0]);
  const runs = runsShown();
  const names = runs.map((run) => run.run);
  if (!names.includes(gallery.a)) gallery.a = names[0] || "";
  if (!names.includes(gallery.b)) gallery.b = names[1] || names[0] || "";
  const grid = el("div", { class: "cases" });
  const pager = el("div", { class: "pager" });
  const second = el("span", { class: "inline" });
  const runOptions = runs.map((run) => [run.run, run.label]);
  const update = (change) => {
    Object.assign(gallery, change, { page: change.page ?? 0 });
    if (gallery.order === "changed") gallery.a ||= names[0] || "";
    second.replaceChildren(...orderControls());
    fill();
  };

  function orderControls() {
    if (gallery.order === "worst") return [labelled("method", select([["", "any"], ...runOptions], gallery.a, (a) => update({ a }), "method"))];
    if (gallery.order === "changed") {
      return [
        labelled("from", select(runOptions, gallery.a, (a) => update({ a }), "from")),
        labelled("to", select(runOptions, gallery.b, (b) => update({ b }), "to")),
      ];
    }
    return [];
  }

  function fill() {
    gallery.places = orderedSamples(runs);
    const pages = Math.max(1, Math.ceil(gallery.places.length / PAGE));
    gallery.page = Math.min(gallery.page, pages - 1);
    const from = gallery.page * PAGE;
    grid.replaceChildren(...gallery.places.slice(from, from + PAGE).map((sample, offset) => caseCard(sample, runs, from + offset)));
    if (!gallery.places.length) grid.replaceChildren(el("p", { class: "hint" }, "No case matches."));
    pager.replaceChildren(
      el("button", { disabled: gallery.page === 0, onclick: () => update({ page: gallery.page - 1 }) }, "previous"),
      el("span", {}, `${gallery.places.length ? from + 1 : 0} to ${Math.min(from + PAGE, gallery.places.length)} of ${gallery.places.length}`),
      el("button", { disabled: gallery.page >= pages - 1, onclick: () => update({ page: gallery.page + 1 }) }, "next"),
    );
  }

  const search = el("input", { type: "search", value: gallery.search, placeholder: "prompt, case, identity", oninput: () => update({ search: search.value }) });
  const misses = el("input", { type: "checkbox", checked: gallery.missesOnly, onchange: () => update({ missesOnly: misses.checked }) });
  parent.append(
    el("div", { class: "controls" },
      labelled("order", select([["case", "by case"], ["worst", "worst first"], ["changed", "most changed first"], ["misses", "most misses first"]], gallery.order, (order) => update({ order }), "order")),
      labelled("column", select(columnOptions(), gallery.column, (column) => update({ column }), "column")),
      second,
      labelled("search", search),
      el("label", { class: "choice" }, misses, "only cases with misses")),
    el("p", { class: "hint" }, facesNote()), pager, grid);
  second.replaceChildren(...orderControls());
  fill();
}

function facesNote() {
  const keys = "Open a case with a click or Enter; there, ← and → go through the cases, Esc closes.";
  if (DATA.faces === "blur") return `Pictures are blurred: these faces may not be passed on. ${keys}`;
  if (DATA.faces === "omit") return `Pictures are left out of this report. ${keys}`;
  return keys;
}

/** Samples that pass the filters, in the chosen order; ties keep the order of cases. */
function orderedSamples(runs) {
  const { cases, samples } = suite();
  const column = Number(gallery.column);
  const words = gallery.search.toLowerCase().split(/\s+/).filter(Boolean);
  const missesOf = (sample) => runs.filter((run) => run.scores[column] && typeof score(run, column, sample) !== "number").length;
  const places = samplesShown().filter((sample) => {
    const found = cases[samples[sample][0]];
    const text = `${found.id} ${found.alias} ${found.prompt} ${found.identity}`.toLowerCase();
    return words.every((word) => text.includes(word)) && (!gallery.missesOnly || missesOf(sample) > 0);
  });
  const by = (key) => {
    const keys = new Map(places.map((sample) => [sample, key(sample)]));
    return places.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
  };
  const one = runs.find((run) => run.run === gallery.a), two = runs.find((run) => run.run === gallery.b);
  if (gallery.order === "misses") return by((sample) => -missesOf(sample));
  if (gallery.order === "changed" && one && two) {
    return by((sample) => {
      const values = [score(one, column, sample), score(two, column, sample)];
      return values.every((value) => typeof value === "number") ? -Math.abs(values[1] - values[0]) : Infinity;
    });
  }
  if (gallery.order === "worst") {
    const sign = DATA.columns[column].higher === false ? -1 : 1;
    const asked = gallery.a ? [one].filter(Boolean) : runs;
    return by((sample) => {
      const values = asked.map((run) => score(run, column, sample)).filter((value) => value !== null);
      // A miss is worse than any number.
      return Math.min(...values.map((value) => (typeof value === "number" ? sign * value : -Number.MAX_VALUE)), Infinity);
    });
  }
  return places;
}

function picture(file, alternative) {
  if (!file) return el("div", { class: "no-picture" }, DATA.faces === "omit" ? "picture left out" : alternative);
  // "loading" comes before "src", or the picture would be fetched at once.
  return el("img", { loading: "lazy", decoding: "async", alt: alternative, src: `images/${file}` });
}

function scoreText(run, column, sample) {
  const value = score(run, column, sample);
  if (value === null) return "";
  return typeof value === "number" ? shown(column, value) : value;
}

function caseCard(sample, runs, position) {
  const [place] = suite().samples[sample];
  const found = suite().cases[place];
  const column = Number(gallery.column);
  const open = () => openCase(position, runs);
  return el("article", { class: "case", tabindex: 0, role: "button", "aria-label": `open case ${found.id}`, onclick: open,
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } } },
    el("p", { class: "prompt" }, found.prompt),
    el("div", { class: "strip" },
      el("figure", {}, picture(found.references[0], "no reference"), el("figcaption", {}, "reference")),
      runs.map((run) => el("figure", {},
        picture(run.pictures[sample], run.failures[sample] || "no picture"),
        el("figcaption", { class: typeof score(run, column, sample) === "string" ? "miss" : "" }, el("b", {}, run.label), " ", scoreText(run, column, sample))))));
}

/** A case in full: every picture, every score, every reason of a miss. */
function openCase(position, runs) {
  const dialog = el("dialog", { class: "detail", "aria-label": "case" });
  const show = (next) => {
    position = Math.max(0, Math.min(gallery.places.length - 1, next));
    dialog.replaceChildren(...caseDetail(position, runs, show, () => dialog.close()));
    dialog.scrollTop = 0;
    // What had the focus is gone, and with it the keys would be.
    if (dialog.open) dialog.querySelector(".close").focus();
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight" || event.key === "j") show(position + 1);
    else if (event.key === "ArrowLeft" || event.key === "k") show(position - 1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  show(position);
  dialog.showModal();
}

/** A column's name that may break before its protocol. */
function breakable(name) {
  const at = name.indexOf("@");
  return at < 0 ? [name] : [name.slice(0, at), el("wbr", {}), name.slice(at)];
}

function caseDetail(position, runs, show, close) {
  const sample = gallery.places[position];
  const [place, repetition] = suite().samples[sample];
  const found = suite().cases[place];
  const columns = columnsShown();
  const tags = Object.entries(found.tags).flatMap(([name, values]) => values.map((value) => `${name}=${value}`));
  return [
    el("div", { class: "detail-bar" },
      el("button", { disabled: position === 0, onclick: () => show(position - 1) }, "← previous"),
      el("span", {}, `${position + 1} of ${gallery.places.length}`),
      el("button", { disabled: position === gallery.places.length - 1, onclick: () => show(position + 1) }, "next →"),
      el("button", { class: "close", autofocus: true, onclick: close }, "close")),
    el("p", { class: "prompt" }, found.prompt),
    el("p", { class: "hint" }, [`case ${found.id}`, `sample ${repetition}`, found.alias, `identity ${found.identity}`,
      found.weight > 1 ? `counts ${found.weight} times` : null, ...found.asked.map((asked) => `asked: ${asked}`), ...tags].filter(Boolean).join(" · ")),
    el("div", { class: "figures" },
      found.references.map((file, index) => el("figure", {}, picture(file, "no reference"),
        el("figcaption", {}, el("b", {}, found.references.length > 1 ? `reference ${index + 1}` : "reference")))),
      runs.map((run) => el("figure", {}, picture(run.pictures[sample], run.failures[sample] || "no picture"),
        el("figcaption", {}, el("b", {}, run.label), run.failures[sample] ? el("div", { class: "miss" }, run.failures[sample]) : null,
          el("table", { class: "scores" }, columns.filter((column) => run.scores[column]).map((column) =>
            el("tr", {}, el("td", {}, ...breakable(DATA.columns[column].name)),
              el("td", { class: typeof score(run, column, sample) === "string" ? "miss" : "" }, scoreText(run, column, sample))))))))),
  ];
}
