// Runs the released student in the browser: probabilities of a sentence, and of it without each word.
import * as ort from "./student/runtime.mjs";
import { tokenize } from "./tokenize.mjs";

const UNKNOWN = 1, MAX_WORDS = 512; // as in distil/batching.py

async function unpack(name) {
  const answer = await fetch(new URL(`student/${name}.gzip`, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return new Response(answer.body.pipeThrough(new DecompressionStream("gzip")));
}

async function load() {
  const [wasm, onnx, facts] = await Promise.all(["runtime.wasm", "student.onnx", "student.json"].map(unpack));
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await wasm.arrayBuffer() });
  const session = await ort.InferenceSession.create(await onnx.arrayBuffer(), { executionProviders: ["wasm"] });
  const { ids, ...rest } = await facts.json();
  return { session, ids: new Map(ids.map((word, id) => [word, id])), ...rest };
}

export const student = load();

async function probabilities(session, ids) {
  const inputs = {
    ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
    lengths: new ort.Tensor("int64", [BigInt(ids.length)], [1]),
  };
  const logits = [...(await session.run(inputs)).logits.data], top = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - top)), sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

// One sentence at a time: int8 scales the numbers of a whole batch together.
export async function classify(text) {
  const { session, ids, rules, labels } = await student;
  const words = tokenize(text, rules).slice(0, MAX_WORDS);
  const row = words.map((word) => ids.get(word) ?? UNKNOWN), masked = [];
  const whole = await probabilities(session, row.length ? row : [UNKNOWN]);
  for (const place of row.keys()) {
    masked.push(await probabilities(session, row.map((id, other) => (other === place ? UNKNOWN : id))));
  }
  return { labels, words, whole, masked, known: row.map((id) => id !== UNKNOWN) };
}

const element = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });

function show(page, { labels, words, whole, masked, known }) {
  page.querySelector(".answer").replaceChildren(...labels.flatMap((label, k) =>
    [element("span", label), element("meter", "", { value: whole[k] }), element("span", whole[k].toFixed(3))]));
  const top = whole.indexOf(Math.max(...whole));
  page.querySelector(".label").textContent = labels[top];
  page.querySelector(".words").replaceChildren(...words.map((word, place) => {
    const change = masked[place][top] - whole[top];
    const chip = element("span", "", { className: known[place] ? "" : "unknown" });
    chip.style.background = `rgb(${change < 0 ? "0 114 178" : "230 159 0"} / ${Math.min(0.7, Math.abs(change))})`;
    chip.append(element("b", word), element("small", (change < 0 ? "−" : "+") + Math.abs(change).toFixed(3)));
    return chip;
  }));
}

const page = document.querySelector("#try");
if (page) {
  const text = page.querySelector("textarea"), state = page.querySelector(".state");
  const answer = async () => {
    const asked = text.value, found = await classify(asked);
    if (asked === text.value) show(page, found);
  };
  let queue = student.then(({ name, ids }) => (state.textContent = `Ready: ${name}, ${ids.size} words.`)).then(answer);
  queue.catch((error) => (state.textContent = `The student cannot run here: ${error.message}`));
  text.addEventListener("input", () => (queue = queue.then(answer)));
}
