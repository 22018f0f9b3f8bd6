// The queries of the report: sorted, filtered, and drawn a page at a time. Pictures lie in the page in blocks; a block is
// read when one of its pictures is shown.

const read = (node) => JSON.parse(node.textContent);
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
let perPage = 5;

const asFabric = ([rank, similarity, hit, path, picture, box]) => ({ rank, similarity, hit, path, picture, box });

// ---- pictures

function source(slot) {
  const block = Math.floor(slot / perBlock);
  if (!parsed.has(block)) parsed.set(block, read(blocks[block]));
  return `data:image/jpeg;base64,${parsed.get(block)[slot % perBlock]}`;
}

// An image with the region that matched, or an empty box that says why there is none. Inside a button it needs no name.
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
  return outlined(image, width, height, box ? [box] : []);
}

// ---- one query

const capitalized = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;
const rankText = (fabric) => (fabric.rank === null ? "no rank" : `rank ${number(fabric.rank)}`);

function verdict(fabric, lost) {
  if (lost) return ["lost", "○ lost"];
  if (fabric.hit === null) return null;
  return fabric.hit ? ["hit", "✓ hit"] : ["miss", "✕ miss"];
}

function candidate(card, fabrics, place, lost) {
  const fabric = fabrics[place];
  const kind = verdict(fabric, lost);
  const caption = [
    fabric.rank === null ? element("span", "score", "rejected") : element("span", "rank", number(fabric.rank)),
    fabric.similarity === null ? null : element("span", "score", figure(fabric.similarity)),
    kind && element("span", `mark ${kind[0]}`, kind[1]),
  ];
  const words = [rankText(fabric), fabric.similarity !== null && `similarity ${figure(fabric.similarity)}`];
  const label = [...words, kind && kind[0], baseName(fabric.path)].filter(Boolean).join(", ");
  const draw = (shown, at) => drawPair(card, shown, at >= card.candidates.length);
  const view = picture(fabric.picture, fabric.box, "");
  const button = fabricButton(view, caption, `${capitalized(label)}: enlarge`, fabrics, place, draw);
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
    if (card.why) parts.push(element("p", "why", card.why));
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

// ---- sort, filter, and a page at a time

const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0) || (a.path < b.path ? -1 : 1);

// Figures in their order, ties by name; a query without a figure comes last either way.
function byFigures(sign) {
  const value = (card, place) => card.metrics[place]?.[1] ?? sign * Infinity;
  return (a, b) => {
    for (let place = 0; place < Math.max(a.metrics.length, b.metrics.length); place++) {
      const [x, y] = [value(a, place), value(b, place)];
      if (x !== y) return sign * (x - y);
    }
    return byName(a, b);
  };
}

// Average precision nearest to the median first, ties by name; the rest come last.
const byDistance = (a, b) => (a.untypical ?? Infinity) - (b.untypical ?? Infinity) || byName(a, b);

const ORDERS = {
  typical: byDistance,
  worst: byFigures(1),
  best: byFigures(-1),
  list: (a, b) => a.place - b.place,
  name: byName,
};

function sortAndFilter() {
  const wanted = find("filter").value.trim();
  const word = wanted.toLowerCase();
  const ofCategory = (card) => card.categories.includes(wanted);
  const holdsWord = (card) => card.name.includes(word) || card.path.toLowerCase().includes(word);
  shown = cards.filter(cards.some(ofCategory) ? ofCategory : holdsWord).sort(ORDERS[find("sort").value]);
  showPage(0);
}

function showPage(place) {
  start = place;
  const end = Math.min(start + perPage, shown.length);
  find("cards").replaceChildren(...shown.slice(start, end).map(draw));
  const range = shown.length > perPage ? `${number(start + 1)} to ${number(end)} of ${number(shown.length)}` : number(shown.length);
  const of = shown.length < cards.length ? `, filtered from ${number(cards.length)}` : "";
  find("status").textContent = shown.length ? `Queries: ${range}${of}` : "No query matches this filter.";
  find("pager").hidden = shown.length <= find("per-page").options[0].value;
  find("page-name").textContent = `${Math.floor(start / perPage) + 1} / ${Math.ceil(shown.length / perPage)}`;
  find("earlier").disabled = start === 0;
  find("later").disabled = end === shown.length;
}

function turnPage(to) {
  showPage(to);
  section.scrollIntoView({ block: "start", behavior: "instant" });
  find("status").focus({ preventScroll: true });
}

find("earlier").addEventListener("click", () => turnPage(start - perPage));
find("later").addEventListener("click", () => turnPage(start + perPage));
find("per-page").addEventListener("change", () => {
  perPage = Number(find("per-page").value);
  turnPage(start - (start % perPage)); // the page that has what was first
});
find("sort").addEventListener("change", sortAndFilter);
find("filter").addEventListener("input", sortAndFilter);
find("worst")?.addEventListener("click", () => {
  find("sort").value = "worst";
  sortAndFilter();
});
find("toolbar").addEventListener("submit", (event) => event.preventDefault());

// ---- one fabric beside the motif

function drawPair(card, fabric, lost) {
  const kind = verdict(fabric, lost);
  const score = fabric.similarity === null ? "the image was rejected" : `similarity ${figure(fabric.similarity)}`;
  find("compare-title").replaceChildren(`${capitalized(rankText(fabric))} · ${score} `);
  if (kind) find("compare-title").append(element("span", `mark ${kind[0]}`, kind[1]));
  find("compare-motif").replaceChildren(picture(card.picture, null, `The motif ${card.title}`));
  find("compare-query").textContent = `${card.title} · ${card.path}`;
  find("compare-fabric").replaceChildren(picture(fabric.picture, fabric.box, `The fabric ${fabric.path}`));
}

find("unscripted").hidden = true;
find("toolbar").hidden = false;
sortAndFilter();
