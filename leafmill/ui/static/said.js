// Text of models: formulas become what KaTeX makes of them. One that it cannot read stays as its source.

(() => {
  /** Commands that would link, load or set attributes make a formula one that is not read. */
  const refuse = ({ command }) => { throw new Error(`${command} is not shown`); };
  const LIMITS = { trust: refuse, strict: "ignore", maxExpand: 200, maxSize: 20, throwOnError: true };

  function formulas(root) {
    for (const element of root.querySelectorAll(".math:not([data-done])")) {
      const source = element.textContent;
      element.dataset.done = "";
      try {
        katex.render(source, element, { ...LIMITS, displayMode: element.classList.contains("display") });
        element.title = source;
      } catch (fault) {
        element.textContent = source;
        element.title = String(fault.message ?? fault);
        element.classList.add("unread");
      }
    }
  }

  document.addEventListener("DOMContentLoaded", () => formulas(document));
  document.addEventListener("htmx:load", (event) => formulas(event.detail.elt));
})();
