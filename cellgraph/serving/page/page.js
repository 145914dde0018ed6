"use strict";

// Texts of questions and answers are put in as text, never as markup.
const at = (id) => document.getElementById(id);
const RAMP = [[13, 8, 65], [114, 31, 129], [205, 64, 113], [253, 159, 108], [252, 253, 191]];
const PAUSE = 450; // milliseconds of a step

let about = null; // what the server says of itself
let dialogue = []; // the questions so far, where the network remembers
let cube = null; // what the cells did with the last question
let playing = 0;
let busy = false;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function say(text, wrong) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", Boolean(wrong));
  at("heard").textContent = "";
}

async function fetched(path, body) {
  let reply;
  try {
    reply = await fetch(path, body && {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const found = await reply.json().catch(() => ({}));
  if (reply.ok) return found;
  const wait = reply.headers.get("Retry-After");
  throw new Error(reply.status === 503 && wait ? `The server is busy: ask again in ${wait} s.` : `Refused: ${found.detail || reply.status}`);
}

function list(place, candidates) {
  place.replaceChildren(...candidates.map((candidate) => {
    const item = element("li");
    item.append(element("span", candidate.score.toFixed(3), "score"), candidate.text);
    return item;
  }));
}

function showAnswer(answer) {
  const percent = `${Math.round(100 * answer.confidence)}%`;
  at("said").replaceChildren(
    element("strong", answer.known ? answer.answers[0].text : "I do not know"), ` (confidence ${percent})`,
  );
  at("generated").hidden = answer.generated === null;
  at("generated").textContent = answer.generated === null ? "" : `Generated: ${answer.generated}`;
  list(at("nearest"), answer.answers);
  list(at("alone"), answer.teacher_answers);
  const times = Object.entries(answer.seconds).map(([part, seconds]) => `${part} ${Math.round(1000 * seconds)} ms`);
  at("times").textContent = `${answer.num_steps} steps; ${times.join(", ")}`;
  at("answer").hidden = at("others").hidden = false;
}

function showDialogue() {
  at("turns").replaceChildren(...dialogue.map((question) => element("li", question)));
  at("dialogue").hidden = dialogue.length === 0;
  const most = about ? about.limits.turns : 0;
  at("unheard").hidden = dialogue.length <= most;
  at("unheard").textContent = `The next question hears the last ${most} of these and no more: earlier ones are left out.`;
}

// --- the cube ---

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  return `rgb(${RAMP[low].map((from, i) => Math.round(from + (place - low) * (RAMP[low + 1][i] - from))).join()})`;
}

function span(step) {
  const shown = (at("scale").value === "step" ? cube.steps[step] : cube.steps.flat()).filter((value) => value !== null);
  return shown.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
}

function name(layer) {
  const ends = [cube.question_layers.includes(layer) && "question", cube.answer_layers.includes(layer) && "answer"];
  const told = ends.filter(Boolean).join(", ");
  return `${layer + 1}${told && `: ${told}`}`;
}

function draw() {
  if (!cube) return;
  const step = Number(at("step").value);
  const [layers, rows, columns] = cube.shape;
  const canvas = at("layers");
  const width = canvas.clientWidth;
  const gap = 14;
  const label = 18;
  const room = Math.max(74, Math.min(150, width)); // of a layer: its name must fit
  const across = Math.min(layers, Math.max(1, Math.floor((width + gap) / (room + gap))));
  const side = Math.max(1, Math.min(40, Math.floor(((width + gap) / across - gap) / columns)));
  const wide = Math.max(room, side * columns);
  const tall = side * rows + label + gap;
  const height = Math.ceil(layers / across) * tall;
  const dense = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  pen.font = "13px system-ui, 'DejaVu Sans', sans-serif";
  pen.textBaseline = "top";
  const [least, most] = span(step);
  for (let layer = 0; layer < layers; layer++) {
    const left = (layer % across) * (wide + gap);
    const top = Math.floor(layer / across) * tall;
    pen.fillStyle = "#1b1f24";
    pen.fillText(name(layer), left, top, wide);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = cube.steps[step][(layer * rows + row) * columns + column];
        if (value === null) continue;
        pen.fillStyle = colour(most > least ? (value - least) / (most - least) : 0);
        pen.fillRect(left + column * side, top + label + row * side, Math.max(1, side - 1), Math.max(1, side - 1));
      }
    }
  }
  at("number").textContent = `${step} of ${cube.steps.length - 1}`;
  at("least").textContent = least.toPrecision(2);
  at("most").textContent = most.toPrecision(2);
  const means = means_of(step);
  const strongest = means.indexOf(Math.max(...means));
  const told = `Step ${step} of ${cube.steps.length - 1}: the most active of ${layers} layers is ${name(strongest)}`;
  canvas.setAttribute("aria-label", `Activity of the cells. ${told}`);
  at("step").setAttribute("aria-valuetext", told);
}

function means_of(step) {
  const [layers, rows, columns] = cube.shape;
  return Array.from({ length: layers }, (_, layer) => {
    const cells = cube.steps[step].slice(layer * rows * columns, (layer + 1) * rows * columns);
    const there = cells.filter((value) => value !== null);
    return there.length ? there.reduce((sum, value) => sum + value, 0) / there.length : 0;
  });
}

function showMeans() {
  const head = element("tr");
  const titles = ["step", ...Array.from({ length: cube.shape[0] }, (_, layer) => name(layer))];
  head.append(...titles.map((title) => Object.assign(element("th", title), { scope: "col" })));
  at("means").tHead.replaceChildren(head);
  at("means").tBodies[0].replaceChildren(...cube.steps.map((_, step) => {
    const row = element("tr");
    const first = Object.assign(element("th", String(step)), { scope: "row" });
    row.append(first, ...means_of(step).map((mean) => element("td", mean.toPrecision(3))));
    return row;
  }));
}

function pause() {
  window.clearInterval(playing);
  playing = 0;
  at("play").textContent = "Play";
}

function play() {
  const slider = at("step");
  if (slider.value === slider.max) slider.value = 0;
  draw();
  at("play").textContent = "Pause";
  playing = window.setInterval(() => {
    slider.value = Number(slider.value) + 1;
    draw();
    if (slider.value === slider.max) pause();
  }, PAUSE);
}

function showCube(found) {
  pause();
  cube = found;
  at("cube").hidden = false;
  at("step").max = cube.steps.length - 1;
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  at("step").value = still ? cube.steps.length - 1 : 0;
  showMeans();
  draw();
  if (!still) play();
}

// --- asking ---

async function ask(question) {
  const turns = dialogue; // another list, once they are forgotten
  const given = about && about.remembers ? { question, dialogue: turns.slice(Math.max(0, turns.length - about.limits.turns)) } : { question };
  const answer = await fetched("ask", given);
  showAnswer(answer);
  if (about && about.remembers) turns.push(question);
  showDialogue();
  at("question").select();
  say("");
  // Those who do not see the answer appear below are read it.
  at("heard").textContent = at("said").textContent;
  if (about && about.cells) showCube(await fetched("cells", given));
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (busy || !question) return;
  busy = true;
  at("ask").setAttribute("aria-disabled", "true");
  say("Asking…");
  try {
    await ask(question);
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = false;
    at("ask").removeAttribute("aria-disabled");
  }
});
at("forget").addEventListener("click", () => {
  dialogue = [];
  showDialogue();
  say("All turns are forgotten.");
  at("question").focus();
});
at("play").addEventListener("click", () => (playing ? pause() : play()));
at("step").addEventListener("input", () => { pause(); draw(); });
at("scale").addEventListener("change", draw);
window.addEventListener("resize", draw);

fetched("health").then((found) => {
  about = found;
  at("question").maxLength = found.limits.chars;
  const memory = found.remembers ? "each question builds on those before it" : "each question stands alone";
  at("about").textContent = `${found.answers.toLocaleString("en")} answers are known; ${memory}.`;
  at("question").focus();
}).catch((error) => say(error.message, true));
