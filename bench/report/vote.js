"use strict";

const QUESTIONS = ["Which picture preserves the person better?", "Which picture follows the prompt better?", "Which picture do you prefer?"];
const HEADER = ["rater", "question", "suite", "case_id", "sample", "left", "right", "choice", "chosen"];
const voting = { rater: "", question: QUESTIONS[0], a: "", b: "", votes: new Map(), loaded: [] };

/** Blind voting between two methods: sides are drawn at random per case, names stay hidden. */
function drawVote(parent) {
  const runs = runsShown();
  const names = runs.map((run) => run.run);
  if (!names.includes(voting.a)) voting.a = names[0] || "";
  if (!names.includes(voting.b) || voting.b === voting.a) voting.b = names.find((name) => name !== voting.a) || "";
  const options = runs.map((run) => [run.run, run.label]);
  const stage = el("div", { class: "stage", tabindex: 0 });
  const results = el("div", { class: "results" });
  const rater = el("input", { type: "text", value: voting.rater, placeholder: "your name", maxlength: 60, oninput: () => { voting.rater = rater.value; } });
  const files = el("input", { type: "file", accept: ".csv,text/csv", multiple: true, onchange: async () => {
    for (const file of files.files) voting.loaded.push(...readVotes(await file.text()));
    files.value = "";
    summarise();
  } });

  function pairs() {
    const one = runs.find((run) => run.run === voting.a), two = runs.find((run) => run.run === voting.b);
    if (!one || !two) return [];
    const key = [voting.a, voting.b].sort().join(" ");
    return samplesShown()
      .filter((sample) => one.pictures[sample] && two.pictures[sample])
      .map((sample) => {
        const random = randomFrom(seedOf(`${voting.rater} ${key} ${voting.question} ${sample}`));
        const turned = random() < 0.5;
        return { sample, place: random(), left: turned ? two : one, right: turned ? one : two };
      })
      .sort((a, b) => a.place - b.place || a.sample - b.sample);
  }

  const idOf = (pair) => [voting.question, suite().name, pair.sample, ...[voting.a, voting.b].sort()].join("\n");

  function next() {
    const all = pairs(), left = all.filter((pair) => !voting.votes.has(idOf(pair)));
    if (!all.length) {
      stage.replaceChildren(el("p", { class: "hint" }, DATA.faces === "omit" ? "This report has no pictures to vote on." : "Choose two methods that both have pictures."));
      return;
    }
    if (!left.length) {
      stage.replaceChildren(el("p", { class: "done" }, `All ${all.length} pairs are judged. Save the votes below.`));
      return;
    }
    const pair = left[0];
    const [place, repetition] = suite().samples[pair.sample];
    const found = suite().cases[place];
    const vote = (choice) => {
      const chosen = choice === "tie" ? "tie" : pair[choice].label;
      voting.votes.set(idOf(pair), [voting.rater || "anonymous", voting.question, suite().name, found.id, repetition, pair.left.label, pair.right.label, choice, chosen]);
      next();
      summarise();
      stage.focus();
    };
    stage.onkeydown = (event) => {
      const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
      if (!choice) return;
      event.preventDefault();
      vote(choice);
    };
    stage.replaceChildren(
      el("p", { class: "progress" }, `${all.length - left.length} of ${all.length} judged. Keys: ←, →, ↓ for a tie.`),
      el("p", { class: "prompt" }, found.prompt),
      el("div", { class: "pair" },
        el("figure", { class: "reference" }, picture(found.references[0], "no reference"), el("figcaption", {}, "reference")),
        el("button", { class: "side", onclick: () => vote("left"), "aria-label": "left is better" }, picture(pair.left.pictures[pair.sample], "left"), el("span", {}, "left")),
        el("button", { class: "side", onclick: () => vote("right"), "aria-label": "right is better" }, picture(pair.right.pictures[pair.sample], "right"), el("span", {}, "right"))),
      el("button", { class: "tie", onclick: () => vote("tie") }, "tie"));
  }

  function summarise() {
    const all = [...voting.votes.values(), ...voting.loaded];
    results.replaceChildren(
      el("div", { class: "controls" },
        el("button", { disabled: !voting.votes.size, onclick: () => download("votes.csv", toCsv([HEADER, ...voting.votes.values()]), "text/csv") }, `save ${voting.votes.size} votes as CSV`),
        labelled("add votes of others", files)),
      all.length ? voteTable(all) : el("p", { class: "hint" }, "Results appear here; they reveal which method is which, so judge first."));
  }

  parent.append(
    el("div", { class: "controls" },
      labelled("rater", rater),
      labelled("question", select(QUESTIONS.map((text) => [text, text]), voting.question, (question) => { voting.question = question; next(); }, "question")),
      labelled("method", select(options, voting.a, (a) => { voting.a = a; next(); }, "first method")),
      labelled("against", select(options, voting.b, (b) => { voting.b = b; next(); }, "second method"))),
    stage,
    el("details", { open: voting.loaded.length > 0 }, el("summary", {}, "votes and agreement"), results));
  next();
  summarise();
}

/** Votes of a file that this page, or another, saved; other rows are left out. */
function readVotes(text) {
  const [head, ...rows] = fromCsv(text);
  if (!head || head.join(",") !== HEADER.join(",")) return [];
  return rows.filter((row) => row.length === HEADER.length && ["left", "right", "tie"].includes(row[7]));
}

/** Per question and pair of methods: wins with an interval, and how far raters agree. */
function voteTable(votes) {
  const groups = new Map();
  for (const vote of votes) {
    const [rater, question, suiteName, caseId, sample, left, right, , chosen] = vote.map(String);
    const methods = [left, right].sort();
    const key = [question, ...methods].join("\n");
    if (!groups.has(key)) groups.set(key, { question, methods, wins: [0, 0], ties: 0, items: new Map(), raters: new Set() });
    const group = groups.get(key);
    if (chosen === "tie") group.ties++;
    else group.wins[methods.indexOf(chosen)]++;
    group.raters.add(rater);
    const item = [suiteName, caseId, sample].join("\n");
    if (!group.items.has(item)) group.items.set(item, new Map());
    group.items.get(item).set(rater, chosen);
  }
  const percent = (share) => `${Math.round(100 * share)} %`;
  return el("table", { class: "plain votes" },
    el("thead", {}, el("tr", {}, ["question", "methods", "wins", "ties", "share of the first, 95 % interval", "raters", "agreement (Krippendorff's alpha)"].map((text) => el("th", {}, text)))),
    el("tbody", {}, [...groups.values()].map((group) => {
      const decided = group.wins[0] + group.wins[1];
      const [low, high] = wilson(group.wins[0], decided);
      const alpha = krippendorff([...group.items.values()].map((choices) => [...choices.values()]));
      return el("tr", {},
        el("td", {}, group.question), el("td", {}, group.methods.join(" : ")), el("td", {}, group.wins.join(" : ")), el("td", {}, String(group.ties)),
        el("td", {}, decided ? `${percent(group.wins[0] / decided)} [${percent(low)}, ${percent(high)}] of ${decided}` : ""),
        el("td", {}, String(group.raters.size)), el("td", {}, alpha === null ? "one rater per case" : alpha.toFixed(2)));
    })));
}
