// Runs the released student in the browser: probabilities of a sentence, and of it without each word.
import * as ort from "./student/runtime.mjs";
import { tokenize } from "./tokenize.mjs";

const UNKNOWN = 1, MAX_WORDS = 512; // as in distil/batching.py and distil/student.py

async function unpack(name) {
  const answer = await fetch(new URL(`student/${name}.gzip`, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return new Response(answer.body.pipeThrough(new DecompressionStream("gzip")));
}

async function load() {
  const [wasm, onnx, facts] = await Promise.all(["runtime.wasm", "student.onnx", "student.json"].map(unpack));
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await wasm.arrayBuffer() });
  const session = await ort.InferenceSession.create(await onnx.arrayBuffer(), { executionProviders: ["wasm"] });
  const { words, ...rest } = await facts.json();
  return { session, ids: new Map(words.map((word, id) => [word, id])), ...rest };
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
  const row = words.map((word) => ids.get(word) ?? UNKNOWN);
  const whole = await probabilities(session, row.length ? row : [UNKNOWN]);
  const masked = [];
  for (const place of row.keys()) masked.push(await probabilities(session, row.with(place, UNKNOWN)));
  return { labels, words, whole, masked, known: row.map((id) => id !== UNKNOWN) };
}

function element(tag, text, more = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...more });
}

function show({ labels, words, whole, masked, known }, page) {
  const bars = labels.flatMap((label, k) => [
    element("span", label), element("meter", "", { value: whole[k] }), element("span", whole[k].toFixed(3)),
  ]);
  page.querySelector(".answer").replaceChildren(...bars);
  const top = whole.indexOf(Math.max(...whole));
  page.querySelector(".label").textContent = labels[top];
  page.querySelector(".words").replaceChildren(...words.map((word, place) => {
    const change = masked[place][top] - whole[top], strength = Math.min(0.7, Math.abs(change));
    const chip = element("span", "", { className: known[place] ? "" : "unknown" });
    chip.style.background = `rgb(${change < 0 ? "0 114 178" : "230 159 0"} / ${strength})`;
    chip.append(element("b", word), element("small", (change < 0 ? "−" : "+") + Math.abs(change).toFixed(3)));
    return chip;
  }));
}

const page = document.querySelector("#try"), text = page?.querySelector("textarea");
let queue = student.then(({ onnx }) => page && (page.querySelector(".state").textContent = `Ready: ${onnx}.`));
const answer = () => (queue = queue.then(async () => show(await classify(text.value), page)));
if (page) {
  text.addEventListener("input", answer);
  answer().catch((error) => (page.querySelector(".state").textContent = `The student cannot run here: ${error.message}`));
}
