// distil.words.tokenize; the rules are Python's own, rewritten by tools/site.py.
export function tokenize(text, rules) {
  for (const [number, [pattern, flags, replacement]] of rules.entries()) {
    text = text.replace(new RegExp(pattern, flags), replacement);
    if (number === 0) text = text.toLowerCase(); // the first rule looks for capitals
  }
  return text.split(/[\s\x1c-\x1f\x85]+/u).filter(Boolean).map((word) => (word === "``" || word === "''" ? '"' : word));
}
