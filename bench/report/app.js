"use strict";

const VIEWS = {
  table: ["Table", drawTable],
  fronts: ["Fronts", drawFronts],
  distributions: ["Distributions", drawDistributions],
  gallery: ["Gallery", drawGallery],
  vote: ["Vote", drawVote],
};

function drawPage() {
  const app = document.getElementById("app");
  const main = el("main", {});
  const tags = [...new Set(suite().aggregates.map((row) => row.tag))].filter(Boolean);
  if (!tags.includes(state.tag)) state.tag = "";
  const filter = el("input", { type: "search", value: state.methods, placeholder: "part of a name", oninput: () => { state.methods = filter.value; drawView(); } });

  function drawView() {
    disposeTable();
    main.replaceChildren();
    if (!columnsShown().length) main.append(el("p", {}, "These runs have no scores."));
    else VIEWS[state.view][1](main);
    for (const link of links) link.classList.toggle("current", link.dataset.view === state.view);
  }

  const links = Object.entries(VIEWS).map(([view, [name]]) => {
    const link = el("a", { href: `#${view}`, "data-view": view }, name);
    return link;
  });
  app.replaceChildren(
    el("header", {},
      el("h1", {}, DATA.title),
      el("nav", {}, links),
      el("div", { class: "controls" },
        DATA.suites.length > 1 ? labelled("suite", select(DATA.suites.map((each, place) => [String(place), each.name]), String(state.suite), (place) => { state.suite = Number(place); drawPage(); }, "suite")) : labelled("suite", el("span", { class: "fixed" }, suite().name)),
        tags.length ? labelled("tag", select([["", "all samples"], ...tags.map((tag) => [tag, tag])], state.tag, (tag) => { state.tag = tag; drawView(); }, "tag")) : null,
        labelled("methods", filter))),
    main);
  drawPage.view = drawView;
  drawView();
}

function followHash() {
  const view = location.hash.slice(1);
  if (view in VIEWS) state.view = view;
  if (drawPage.view) drawPage.view();
}

window.addEventListener("hashchange", followHash);
Chart.defaults.font.family = "system-ui, sans-serif";
followHash();
if (DATA.suites.length) drawPage();
else document.getElementById("app").append(el("p", {}, "This report has no runs."));
