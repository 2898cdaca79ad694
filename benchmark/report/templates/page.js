"use strict";
// The page is complete without this: what needs it is made here, so that no button stands there that does nothing.
(() => {
  const make = (tag, attributes = {}, text = "") => {
    const element = Object.assign(document.createElement(tag), attributes);
    if (text) element.textContent = text;
    return element;
  };
  const status = make("p", {className: "unseen"});
  status.setAttribute("role", "status");
  document.querySelector("main").append(status);

  // Copying
  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // not allowed here: the old way
      const area = make("textarea", {value: text, className: "unseen"});
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const before = button.textContent;
    button.textContent = "copied";
    status.textContent = `${before}: copied`;
    setTimeout(() => { button.textContent = before; }, 1200);
  };
  const copyButton = (name, text, about) => {
    const button = make("button", {type: "button"}, name);
    button.setAttribute("aria-label", about);
    button.addEventListener("click", () => copy(text, button));
    return button;
  };
  for (const data of document.querySelectorAll("script.exports")) {
    const table = data.parentElement.querySelector("table");
    const tools = make("p", {className: "tools"});
    tools.append(make("span", {}, "Copy as"));
    for (const [name, text] of Object.entries(JSON.parse(data.textContent))) {
      tools.append(copyButton(name, text, `Copy “${table.caption.textContent}” as ${name}`));
    }
    data.before(tools);
  }
  for (const block of document.querySelectorAll("pre[data-copy]")) {
    const tools = make("p", {className: "tools"});
    tools.append(copyButton("Copy", block.textContent, `Copy ${block.dataset.copy}`));
    block.after(tools);
  }

  // Sorting: upwards, downwards, as it was
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim().replaceAll("−", "-").replaceAll(/[\u2009\u00a0]/g, "");
    const number = /^[+-]?\d+(\.\d+)?(?=$|[^\d.])/.exec(text);
    return number && column ? Number(number[0]) : text.toLowerCase();
  };
  const missing = (key) => key === "" || key === "–" || key === "-" || String(key).startsWith("n/a");
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number"
      ? one - other
      : String(one).localeCompare(String(other), "en", {numeric: true});
  const sortBy = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.forEach((row, index) => { row.dataset.place ??= String(index); });
    rows.sort((a, b) => {
      const [one, other] = [keyOf(a, column), keyOf(b, column)];
      if (!direction) return a.dataset.place - b.dataset.place;
      if (missing(one) !== missing(other)) return missing(one) - missing(other);  // last, either way
      return direction * compare(one, other) || a.dataset.place - b.dataset.place;
    });
    body.append(...rows);
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      if (index === column && direction) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
  };
  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || table.tBodies[0].rows.length < 3) continue;
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = make("button", {type: "button", className: "sort"});
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const next = {ascending: -1, descending: 0}[cell.getAttribute("aria-sort")] ?? 1;
        sortBy(table, column, next);
      });
    });
  }

  // Long tables show their first rows, until asked for all
  const SHOWN = 15;
  for (const table of document.querySelectorAll(".table table")) {
    const rows = table.tBodies[0].rows.length;
    if (rows <= 24) continue;
    const button = make("button", {type: "button", className: "more"});
    const fold = (folded) => {
      table.classList.toggle("folded", folded);
      button.textContent = folded ? `Show all ${rows} rows` : `Show the first ${SHOWN} rows`;
      button.setAttribute("aria-expanded", String(!folded));
    };
    button.addEventListener("click", () => fold(!table.classList.contains("folded")));
    fold(true);
    table.parentElement.after(button);
  }

  // Where the reader is
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, {rootMargin: "-20% 0px -70% 0px"});
  for (const id of links.keys()) {
    const section = document.getElementById(id);
    if (section) watch.observe(section);
  }

  // Paper shows everything
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => { opened.forEach((details) => { details.open = false; }); });

  // The page of a run that goes on is written again as cells finish
  if (document.body.dataset.running !== undefined) {
    setInterval(() => {
      const busy = document.querySelector("canvas") || document.visibilityState === "hidden";
      if (!busy) location.reload();
    }, 60_000);
  }
})();
