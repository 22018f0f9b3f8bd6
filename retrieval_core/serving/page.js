// The search page: a picture from the user, a motif on it that is clicked or cut out, and the ranking that the API gives for it.

const settings = document.documentElement.dataset;
const edges = ["x0", "y0", "x1", "y1"].map(find);
const TALLEST = 384, WIDEST = 640, SMALLEST = 256; // of the picture on the bench, in CSS pixels
const SMALLEST_DRAG = 5; // CSS pixels; less is a click
const STEP = 1.15; // by which a part becomes larger or smaller
const PAUSE = 250; // milliseconds without another step before the search

const EXPLANATIONS = {
  not_an_image: "This file is no picture that can be read",
  truncated: "This picture is damaged: the file ends too soon",
  corrupt: "This picture is damaged",
  empty: "This file is empty",
  too_large: "This picture has too many pixels",
};

let query = null; // {file, name, width, height, shown, at}; width and height are 0 for a picture that cannot be shown
let crop = null; // [x0, y0, x1, y1] in pixels of the picture
let running = null; // AbortController of the search under way
let waiting = 0; // timer of a search that waits for the last of several steps

// ---- a picture arrives: dropped, pasted or chosen

// Takes a picture as the query; `at`, shares of its sides, says where the motif is that is searched for.
function take(file, at = null) {
  if (!file) return;
  if (file.size > Number(settings.maxUpload)) {
    complain(`${file.name} is larger than ${Number(settings.maxUpload) / 1e6} MB`);
    return;
  }
  const picture = find("picture");
  URL.revokeObjectURL(picture.src);
  query = { file, name: file.name || "Pasted picture", width: 0, height: 0, shown: false, at };
  crop = null;
  find("motif-name").textContent = query.name;
  picture.alt = `The picture ${query.name}`;
  picture.src = URL.createObjectURL(file);
  find("drop").hidden = true;
  find("bench").hidden = false;
  if (!at) search();
}

function pictureLoaded(shown) {
  const picture = find("picture");
  Object.assign(query, { shown, width: shown ? picture.naturalWidth : 0, height: shown ? picture.naturalHeight : 0 });
  for (const id of ["picture", "hint", "numbers"]) find(id).hidden = !shown;
  find("unshown").hidden = shown;
  if (shown) {
    const fits = Math.min(TALLEST / query.height, WIDEST / query.width);
    const enlarged = Math.max(1, SMALLEST / Math.max(query.width, query.height));
    picture.style.width = `${Math.round(query.width * Math.min(fits, enlarged))}px`;
  }
  drawCrop();
  if (query.at && shown) pick([query.at[0] * query.width, query.at[1] * query.height]);
  else if (query.at) search();
}

find("picture").addEventListener("load", () => pictureLoaded(true));
find("picture").addEventListener("error", () => pictureLoaded(false));
find("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // the same file may be chosen again
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.documentElement.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.documentElement.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.documentElement.classList.remove("dragging");
  if (find("compare").open) find("compare").close();
  take(event.dataTransfer.files[0]);
});

// ---- the part that is searched for

function drawCrop() {
  const frame = find("crop");
  frame.hidden = !crop || !query.shown;
  for (const id of ["whole", "larger", "smaller"]) find(id).disabled = !crop;
  const shown = crop || [0, 0, query.width, query.height];
  edges.forEach((input, side) => {
    input.max = side % 2 ? query.height : query.width;
    input.value = shown[side];
  });
  if (frame.hidden) return;
  const [x0, y0, x1, y1] = crop;
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(frame.style, {
    left: percent(x0, query.width),
    top: percent(y0, query.height),
    width: percent(x1 - x0, query.width),
    height: percent(y1 - y0, query.height),
  });
}

function setCrop(corners) {
  const [xs, ys] = [[corners[0], corners[2]], [corners[1], corners[3]]].map((pair) => pair.sort((a, b) => a - b));
  const inside = (values, limit) => values.map((value) => Math.min(Math.max(Math.round(value), 0), limit));
  const [[x0, x1], [y0, y1]] = [inside(xs, query.width), inside(ys, query.height)];
  const whole = x0 === 0 && y0 === 0 && x1 === query.width && y1 === query.height;
  crop = whole || x0 >= x1 || y0 >= y1 ? null : [x0, y0, x1, y1];
  drawCrop();
}

function startDrag(event) {
  if (!query || !query.shown || event.button !== 0) return;
  event.preventDefault();
  const stage = find("stage"), before = crop, edge = event.target.dataset.edge;
  const area = find("picture").getBoundingClientRect();
  const at = (moved) => [
    ((moved.clientX - area.left) * query.width) / area.width,
    ((moved.clientY - area.top) * query.height) / area.height,
  ];
  const start = at(event);
  // A corner that is dragged moves against the opposite one; inside, the whole frame moves.
  const fixed = edge && [edge.includes("w") ? crop[2] : crop[0], edge.includes("n") ? crop[3] : crop[1]];
  const moves = !edge && find("crop").contains(event.target);
  const drag = (moved) => {
    const end = at(moved);
    if (!moves) return setCrop([...(fixed || start), ...end]);
    const by = [0, 1].map((axis) => {
      const limit = axis ? query.height : query.width;
      return Math.min(Math.max(end[axis] - start[axis], -before[axis]), limit - before[axis + 2]);
    });
    setCrop([before[0] + by[0], before[1] + by[1], before[2] + by[0], before[3] + by[1]]);
  };
  const end = (last) => {
    stage.removeEventListener("pointermove", drag);
    stage.removeEventListener("pointerup", end);
    stage.removeEventListener("pointercancel", end);
    const distance = Math.hypot(last.clientX - event.clientX, last.clientY - event.clientY);
    if (distance >= SMALLEST_DRAG && last.type === "pointerup") return search();
    crop = before;
    drawCrop();
    if (settings.clicks && last.type === "pointerup" && !edge) pick(start);
  };
  stage.setPointerCapture(event.pointerId);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
}

find("stage").addEventListener("pointerdown", startDrag);
for (const input of edges) {
  input.addEventListener("change", () => {
    setCrop(edges.map((edge) => edge.valueAsNumber || 0));
    search();
  });
}

function resizeCrop(factor) {
  if (!crop) return;
  const [x0, y0, x1, y1] = crop;
  // By a pixel on either side at least, and not to nothing.
  const grown = (side) => (factor > 1 ? Math.max(side * factor, side + 2) : Math.max(2, Math.min(side * factor, side - 2)));
  const [across, down] = [x1 - x0, y1 - y0].map((side) => (grown(side) - side) / 2);
  setCrop([x0 - across, y0 - down, x1 + across, y1 + down]);
  clearTimeout(waiting);
  waiting = setTimeout(() => search(), PAUSE);
}

find("larger").addEventListener("click", () => resizeCrop(STEP));
find("smaller").addEventListener("click", () => resizeCrop(1 / STEP));
find("stage").addEventListener("wheel", (event) => {
  if (!crop) return;
  event.preventDefault(); // the page stays where it is
  resizeCrop(event.deltaY < 0 ? STEP : 1 / STEP);
});
document.addEventListener("keydown", (event) => {
  if (find("compare").open || event.ctrlKey || event.metaKey || event.target.matches("input, select")) return;
  if (event.key === "+") resizeCrop(STEP);
  if (event.key === "-") resizeCrop(1 / STEP);
});

find("whole").addEventListener("click", () => {
  crop = null;
  drawCrop();
  search();
});
find("top").addEventListener("change", () => search());

// ---- the search

function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

// Search for the part that is framed; for the motif at a place, if there is one; else for the whole picture.
async function search(at = null) {
  if (!query) return;
  clearTimeout(waiting);
  running?.abort();
  const own = (running = new AbortController());
  const form = new FormData();
  form.append("image", query.file, "query");
  form.append("top", find("top").value);
  if (at) form.append("at", at.join(","));
  else if (crop) form.append("crop", crop.join(","));
  complain("");
  find("status").textContent = "Searching …";
  document.body.classList.add("searching");
  const began = performance.now();
  try {
    const answer = await fetch("/api/search", { method: "POST", body: form, signal: own.signal });
    const content = await answer.json();
    if (own !== running) return;
    if (!answer.ok) return fail(content.error);
    if (at) setCrop(content.query.crop);
    show(content, (performance.now() - began) / 1000);
  } catch (error) {
    if (own === running) fail({ detail: `No answer from the server (${error.message}). Is it still running?` });
  } finally {
    if (own === running) document.body.classList.remove("searching");
  }
}

// Search for the motif at a place of the picture.
function pick([x, y]) {
  const inside = (value, limit) => Math.min(Math.max(Math.floor(value), 0), limit - 1);
  search([inside(x, query.width), inside(y, query.height)]);
}

function fail({ code, detail }) {
  find("status").textContent = "";
  complain(EXPLANATIONS[code] ? `${EXPLANATIONS[code]} (${detail})` : detail);
  find("sheet").replaceChildren();
  find("results").hidden = true;
}

function show(answer, seconds) {
  find("sheet").replaceChildren(...answer.results.map(card));
  find("results").hidden = false;
  const part = crop ? "part of the picture" : "whole picture";
  find("status").textContent =
    `${number(answer.results.length)} of ${number(answer.fabrics)} fabrics for the ${part}, in ${seconds.toFixed(2)} s`;
}

// ---- the fabrics

function card(hit, place, hits) {
  const caption = [element("span", "rank", String(hit.rank)), element("span", "score", figure(hit.similarity))];
  const label = `Rank ${hit.rank}, similarity ${figure(hit.similarity)}: ${hit.path}. Enlarge`;
  const button = fabricButton(fabric(hit, hit.thumbnail, best(hit)), caption, label, hits, place, drawPair);
  button.title = hit.path;
  return element("li", "candidate", button);
}

const best = (hit) => (hit.box ? [hit.box] : []);

function fabric(hit, address, boxes) {
  const image = element("img");
  Object.assign(image, { alt: "", loading: "lazy", decoding: "async", src: address });
  const view = outlined(image, hit.width, hit.height, boxes);
  image.addEventListener("error", () => view.replaceChildren(element("span", "lost", "no preview")));
  return view;
}

// ---- one fabric beside the motif

function drawPair(hit) {
  const places = hit.occurrences.length, counted = places ? ` · ${number(places)} ${places === 1 ? "place" : "places"}` : "";
  find("compare-title").textContent = `Rank ${hit.rank} · similarity ${figure(hit.similarity)}${counted}`;
  const view = fabric(hit, hit.preview, hit.occurrences.length ? hit.occurrences : best(hit));
  view.setAttribute("role", "img");
  view.setAttribute("aria-label", `The fabric ${hit.path}`);
  find("compare-fabric").replaceChildren(view);
  if (settings.clicks) {
    view.title = "Click a motif to search for it";
    view.addEventListener("click", (event) => {
      const area = view.getBoundingClientRect();
      searchIn(hit, [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height]);
    });
  }
  drawMotif();
}

function drawMotif() {
  const canvas = find("compare-motif");
  const [x0, y0, x1, y1] = crop || [0, 0, query.width, query.height];
  canvas.hidden = !query.shown;
  if (!query.shown) return;
  // A small motif is enlarged here, as a canvas is never drawn larger than its own pixels.
  const scale = Math.max(1, Math.min(8, 480 / Math.max(x1 - x0, y1 - y0)));
  [canvas.width, canvas.height] = [(x1 - x0) * scale, (y1 - y0) * scale];
  canvas.getContext("2d").drawImage(find("picture"), x0, y0, x1 - x0, y1 - y0, 0, 0, canvas.width, canvas.height);
}

async function searchIn(hit, at) {
  find("compare").close();
  const answer = await fetch(hit.preview);
  if (!answer.ok) return complain("The file of this fabric cannot be read");
  take(new File([await answer.blob()], baseName(hit.path), { type: "image/jpeg" }), at);
  find("motif").scrollIntoView({ block: "start" });
}

find("search-this").addEventListener("click", () => searchIn(series.fabrics[opened], null));
