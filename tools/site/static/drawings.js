// Draws the mermaid blocks of a page; the library is loaded only where there is one.
addEventListener("DOMContentLoaded", () => {
  const blocks = document.querySelectorAll(".highlight-mermaid");
  if (!blocks.length) return;
  for (const block of blocks) {
    const drawing = Object.assign(document.createElement("pre"), { className: "mermaid" });
    drawing.textContent = block.textContent;
    block.replaceWith(drawing);
  }
  const library = document.createElement("script");
  library.src = new URL("mermaid.js", document.querySelector("script[src*='drawings.js']").src);
  library.onload = () => {
    mermaid.initialize({ startOnLoad: false, theme: "neutral", flowchart: { useMaxWidth: false } });
    mermaid.run();
  };
  document.head.append(library);
});
