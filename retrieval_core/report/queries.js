// The queries of the report: sorted, filtered, a page at a time, and a fabric enlarged beside its motif.
// Texts enter the page as text nodes only. Pictures lie in the page in blocks; a block is read when one of it is shown.
"use strict";

const find = (id) => document.getElementById(id);
const read = (node) => JSON.parse(node.textContent);
const SVG = "http://www.w3.org/2000/svg";
const PER_PAGE = 20;
const RANKS_NAMED = 24; // of further hits; the strip shows them all
const NO_ROOM = "no room";

const section = find("queries");
const depth = Number(section.dataset.depth); // of the pool
const cards = read(find("cards-data")).map((card, place) => ({ ...card, place, name: card.title.toLowerCase() }));
const places = read(document.querySelector(".places"));
const blocks = [...document.querySelectorAll(".pictures")];
const perBlock = Number(section.dataset.block);
const parsed = new Map();

let shown = cards; // in the order chosen, filtered
let start = 0; // of the page
let opened = null; // {card, fabrics, place, button}: what is enlarged

function element(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children.filter((child) => child !== null));
  return made;
}

function svg(tag, values, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const number = (value) => value.toLocaleString("en-US");
const figure = (value) => (value === null ? "–" : value.toFixed(3).replace("-", "−"));
const baseName = (path) => path.split("/").pop() || path;
const asFabric = ([rank, similarity, hit, path, picture, box]) => ({ rank, similarity, hit, path, picture, box });

// ---- pictures

function source(slot) {
  const block = Math.floor(slot / perBlock);
  if (!parsed.has(block)) parsed.set(block, read(blocks[block]));
  return `data:image/jpeg;base64,${parsed.get(block)[slot % perBlock]}`;
}

// An image with the outline of the region that matched, or an empty box that says why there is none. It is named where
// it stands alone; inside a button, the button's name says what it is.
function picture(place, box, name) {
  const known = places[place];
  if (typeof known === "string") {
    const why = known === NO_ROOM ? "left out to keep this page small" : known.replaceAll("_", " ");
    const empty = element("span", "picture missing", element("span", "", `no picture: ${why}`));
    if (name) empty.setAttribute("aria-label", `${name}: no picture, ${why}`);
    if (name) empty.setAttribute("role", "img");
    return empty;
  }
  const [slot, width, height] = known;
  const image = Object.assign(document.createElement("img"), { src: source(slot), alt: name || "", decoding: "async" });
  const view = element("span", "picture view", image);
  const [x0, y0, x1, y1] = box || [0, 0, width, height];
  if (x1 - x0 < width || y1 - y0 < height) {
    const corners = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
    const layers = ["under", "over"].map((layer) => svg("rect", { class: `box ${layer}`, ...corners }));
    view.append(svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...layers));
  }
  return view;
}

// ---- one query

const standing = (fabric) => (fabric.rank === null ? "no rank" : `rank ${number(fabric.rank)}`);

function verdict(fabric, lost) {
  if (lost) return ["lost", "○ lost"];
  if (fabric.hit === null) return null;
  return fabric.hit ? ["hit", "✓ hit"] : ["miss", "✕ miss"];
}

function candidate(card, fabrics, place, lost) {
  const fabric = fabrics[place];
  const kind = verdict(fabric, lost);
  const button = element(
    "button",
    "open",
    picture(fabric.picture, fabric.box, ""),
    element(
      "span",
      "caption",
      element("span", fabric.rank === null ? "score" : "rank", fabric.rank === null ? "rejected" : number(fabric.rank)),
      fabric.similarity === null ? null : element("span", "score", figure(fabric.similarity)),
      kind && element("span", `mark ${kind[0]}`, kind[1]),
    ),
    element("span", "name", baseName(fabric.path)),
  );
  button.type = "button";
  const words = [standing(fabric), fabric.similarity !== null && `similarity ${figure(fabric.similarity)}`];
  const spoken = [...words, kind && kind[0], baseName(fabric.path)].filter(Boolean).join(", ");
  button.setAttribute("aria-label", `${spoken[0].toUpperCase()}${spoken.slice(1)}: enlarge`);
  button.addEventListener("click", () => compare({ card, fabrics, place, button }));
  return element("li", `candidate ${kind ? kind[0] : ""}`, button);
}

function sheet(card, fabrics, from, to, lost) {
  const list = element("ol", lost ? "sheet lost" : "sheet");
  for (let place = from; place < to; place++) list.append(candidate(card, fabrics, place, lost));
  // One tab stop a sheet; the arrow keys go from fabric to fabric.
  const buttons = [...list.querySelectorAll("button")];
  buttons.forEach((button, place) => (button.tabIndex = place ? -1 : 0));
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || !buttons[to]) return;
    event.preventDefault();
    buttons[at].tabIndex = -1;
    buttons[to].tabIndex = 0;
    buttons[to].focus();
  });
  return list;
}

function strip(card) {
  const name = `Hits in the pool at ${card.hits.length ? `ranks ${card.hits.join(", ")}` : "no rank"} of ${depth}`;
  const bars = card.hits.map((rank) => svg("rect", { class: "fill", x: rank - 1, y: 0, width: 1, height: 10 }));
  const track = svg("rect", { class: "track", x: 0, y: 0, width: depth, height: 10 });
  const values = { class: "strip", viewBox: `0 0 ${depth} 10`, preserveAspectRatio: "none", role: "img", "aria-label": name };
  const ends = element("p", "ends", element("span", "", "1"), element("span", "", "hits by rank"), element("span", "", number(depth)));
  return [svg("svg", values, track, ...bars), ends];
}

function about(card, title) {
  const rows = card.relevant === null ? [] : [["relevant fabrics", number(card.relevant)]];
  if (card.relevant && card.candidates.length) rows.push(["in the pool", number(card.hits.length)]);
  rows.push(...card.metrics.map(([name, value]) => [name, figure(value)]));
  const list = element("dl", "", ...rows.map((row) => element("div", "", element("dt", "", row[0]), element("dd", "", row[1]))));
  const drawn = card.relevant && card.candidates.length && depth ? strip(card) : [];
  return element("div", "about", title, element("p", "path", card.path), list, ...drawn);
}

function beyond(card, fabrics) {
  const parts = [];
  const further = card.hits.filter((rank) => rank > card.candidates.length);
  if (further.length) {
    const more = further.length - RANKS_NAMED;
    const named = further.slice(0, RANKS_NAMED).map(number).join(", ");
    parts.push(element("p", "further", `Further hits at rank${further.length > 1 ? "s" : ""} ${named}${more > 0 ? ` and ${number(more)} more` : ""}.`));
  }
  if (card.lost) {
    const some = card.nearest.length < card.lost ? `, the nearest ${card.nearest.length} of them` : "";
    const words = `Not in the pool: ${number(card.lost)} of ${number(card.relevant)} relevant fabrics`;
    parts.push(element("h4", "", words, card.nearest.length ? some : ""));
    parts.push(sheet(card, fabrics, card.candidates.length, fabrics.length, true));
  }
  return parts;
}

function draw(card) {
  const title = element("h3", "", card.title);
  title.id = `query-${card.place + 1}`;
  const fabrics = [...card.candidates, ...card.nearest].map(asFabric);
  const found = card.candidates.length
    ? [sheet(card, fabrics, 0, card.candidates.length, false), ...beyond(card, fabrics)]
    : [element("p", "none", "No candidates: the query image was rejected.")];
  const motif = element("div", "motif", picture(card.picture, null, `The motif ${card.title}`), about(card, title));
  const article = element("article", "card", motif, element("div", "found", ...found));
  article.setAttribute("aria-labelledby", title.id);
  return article;
}

// ---- sorted, filtered, a page at a time

const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0) || (a.path < b.path ? -1 : 1);

// Figures in their order, ties by name; a query without a figure comes last either way.
function byFigures(sign) {
  return (a, b) => {
    for (let place = 0; place < Math.max(a.metrics.length, b.metrics.length); place++) {
      const [x, y] = [a, b].map((card) => card.metrics[place]?.[1] ?? null);
      if (x === null || y === null) {
        if (x !== y) return x === null ? 1 : -1;
      } else if (x !== y) return sign * (x - y);
    }
    return byName(a, b);
  };
}

const ORDERS = { list: (a, b) => a.place - b.place, worst: byFigures(1), best: byFigures(-1), name: byName };

function arrange() {
  const wanted = find("filter").value.trim();
  const exact = cards.some((card) => card.categories.includes(wanted));
  const word = wanted.toLowerCase();
  const holds = (card) => card.name.includes(word) || card.path.toLowerCase().includes(word);
  shown = cards.filter((card) => (exact ? card.categories.includes(wanted) : holds(card))).sort(ORDERS[find("sort").value]);
  turnTo(0);
}

function turnTo(place) {
  start = place;
  const end = Math.min(start + PER_PAGE, shown.length);
  find("cards").replaceChildren(...shown.slice(start, end).map(draw));
  const range = shown.length > PER_PAGE ? `${number(start + 1)} to ${number(end)} of ${number(shown.length)}` : number(shown.length);
  const of = shown.length < cards.length ? `, filtered from ${number(cards.length)}` : "";
  find("status").textContent = shown.length ? `Queries: ${range}${of}` : "No query matches this filter.";
  find("pager").hidden = shown.length <= PER_PAGE;
  find("page-name").textContent = `${start / PER_PAGE + 1} / ${Math.ceil(shown.length / PER_PAGE)}`;
  find("earlier").disabled = start === 0;
  find("later").disabled = end === shown.length;
}

function turn(by) {
  turnTo(start + by * PER_PAGE);
  section.scrollIntoView({ block: "start", behavior: "instant" });
  find("status").focus({ preventScroll: true });
}

find("earlier").addEventListener("click", () => turn(-1));
find("later").addEventListener("click", () => turn(1));
find("sort").addEventListener("change", arrange);
find("filter").addEventListener("input", arrange);
find("toolbar").addEventListener("submit", (event) => event.preventDefault());

// ---- one fabric beside the motif

function compare(target) {
  opened = target;
  const { card, fabrics, place } = opened;
  const fabric = fabrics[place];
  const kind = verdict(fabric, place >= card.candidates.length);
  const score = fabric.similarity === null ? "the image was rejected" : `similarity ${figure(fabric.similarity)}`;
  const rank = standing(fabric);
  find("compare-title").replaceChildren(`${rank[0].toUpperCase()}${rank.slice(1)} · ${score} `);
  if (kind) find("compare-title").append(element("span", `mark ${kind[0]}`, kind[1]));
  find("compare-motif").replaceChildren(picture(card.picture, null, `The motif ${card.title}`));
  find("compare-fabric").replaceChildren(picture(fabric.picture, fabric.box, `The fabric ${fabric.path}`));
  find("compare-query").textContent = `${card.title} · ${card.path}`;
  find("compare-path").textContent = fabric.path;
  find("previous").disabled = place === 0;
  find("next").disabled = place === fabrics.length - 1;
  if (!find("compare").open) find("compare").showModal();
}

function step(by) {
  const place = opened.place + by;
  if (opened.fabrics[place]) compare({ ...opened, place });
}

find("previous").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
find("close").addEventListener("click", () => find("compare").close());
find("compare").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
find("compare").addEventListener("click", (event) => {
  if (event.target === find("compare")) find("compare").close(); // the dark ground around it
});
find("compare").addEventListener("close", () => {
  const buttons = opened.button.closest(".found").querySelectorAll("button");
  buttons[opened.place].focus();
});

find("unscripted").hidden = true;
find("toolbar").hidden = false;
arrange();
