"use strict";
// The page is whole without this: it sorts, filters and cites the results, serves the page's own files, and opens what
// is folded for print.
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const form = one("#filters"), table = one("#all"), selects = form ? all("select", form) : [];
  const collator = new Intl.Collator("en", { numeric: true });

  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 50));

  const plain = (text) => text.replace(/\u200b/g, "").replace(/\s+/g, " ").trim();
  const SIGN = / [=?]$/; // of a verdict
  const words = (element) => plain(element.textContent);

  // A body names its trial in its first row.
  function trial(body) {
    const [head, ...elements] = body.rows, name = words(head);
    const rows = elements.map((element) => {
      const way = words(element.cells[0]), verdict = element.className === "failed" ? "" : words(element.cells[4]).replace(SIGN, "");
      return { element, way, trial: name, values: { ...body.dataset, way, verdict }, text: [name, ...[...element.cells].map(words)].join(" ").toLowerCase() };
    });
    return { body, rows };
  }

  function key(item, column, place) {
    const { cells, className } = item.element, cell = cells[place];
    if (column === "way") return item.way;
    if (className === "failed") return null; // it has a reason in the place of numbers
    if (column === "drawn") return cell.firstChild ? key(item, "speedup", 1) : null;
    if (column === "verdict") return cell.textContent.trim() || null;
    return size(cell.textContent);
  }

  const UNITS = { "ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "kB": 1e3, "MB": 1e6 };
  function size(text) {
    const number = parseFloat(text.replace("[", ""));
    return Number.isNaN(number) ? null : number * (UNITS[text.split(" ")[1]] || 1);
  }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" ? a - b : collator.compare(a, b);
  }

  function results() {
    const trials = [...table.tBodies].map(trial), rows = trials.flatMap((each) => each.rows), heads = all("thead th", table);
    const items = new Map(rows.map((item) => [item.element, item])), together = table.createTBody();
    let order = { by: "", down: false }, placed = order;
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const by = head.dataset.key;
        order = order.by !== by ? { by, down: by !== "way" && by !== "seconds" } : { by, down: !order.down };
        remember();
      });
    }
    citable(rows);
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button.cite");
      if (button) copy(citation(items.get(button.closest("tr"))), button);
    });

    function show() {
      const asked = new FormData(form), words = asked.get("q").toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = [...asked].filter(([name, value]) => name !== "q" && value);
      let shown = 0;
      for (const { element, values, text } of rows) {
        const fits = wanted.every(([name, value]) => plain(values[name]) === plain(value)) && words.every((word) => text.includes(word));
        element.hidden = !fits;
        shown += fits;
      }
      one("output", form).textContent = `${shown} of ${rows.length}`;
      one("#none").hidden = shown > 0;
      if (placed !== order) place();
      placed = order;
      for (const { body, rows } of trials) body.hidden = table.classList.contains("sorted") || rows.every(({ element }) => element.hidden);
      for (const head of heads) {
        if (head.dataset.key === order.by) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      }
    }

    // In order of a column all rows are in one body, and each names its trial.
    function place() {
      const column = heads.findIndex((head) => head.dataset.key === order.by);
      table.classList.toggle("sorted", column >= 0);
      if (column < 0) for (const { body, rows } of trials) body.append(...rows.map(({ element }) => element));
      else together.append(...inOrder(column));
    }

    function inOrder(column) {
      const keyed = rows.map((item) => [key(item, order.by, column), item.element]);
      keyed.sort(([a], [b]) => (order.down && a !== null && b !== null ? compare(b, a) : compare(a, b)));
      return keyed.map(([, element]) => element);
    }

    function remember() {
      const state = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
      if (order.by) state.set("sort", (order.down ? "-" : "") + order.by);
      history.replaceState(null, "", String(state) ? `#results?${state}` : "#results");
      show();
    }

    // Filters hide nothing that an address leads to.
    function reveal(target) {
      show();
      const found = target && target.closest("#all tbody tr");
      if (!found || !found.hidden) return;
      for (const field of form.elements) if (field.name) field.value = "";
      show();
      target.scrollIntoView();
    }

    function recall() {
      const [name, asked = ""] = location.hash.slice(1).split("?");
      if (name !== "results" || !asked) return reveal(document.getElementById(name));
      const state = new URLSearchParams(asked), sort = state.get("sort") || "";
      for (const field of form.elements) if (field.name) field.value = state.get(field.name) || "";
      const by = sort.replace("-", ""), known = heads.some((head) => head.dataset.key === by);
      order = { by: known ? by : "", down: known && sort.startsWith("-") };
      show();
      one("#results").scrollIntoView();
    }

    form.hidden = false;
    form.addEventListener("input", remember);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => { order = { by: "", down: false }; remember(); }));
    addEventListener("hashchange", recall);
    recall();
  }

  // When there is nothing else to do: the page is there sooner without.
  function citable(rows) {
    for (const { element, way, trial } of rows.slice(0, 100)) {
      const link = document.createElement("button"), name = document.createElement("small");
      link.type = "button";
      link.className = "cite";
      link.textContent = "cite";
      link.setAttribute("aria-label", `Copy the citation of ${way} on ${trial}`);
      name.textContent = trial;
      element.cells[0].append(name, " ", link);
    }
    if (rows.length > 100) idle(() => citable(rows.slice(100)));
  }

  function citation({ element, way, trial }) {
    const { machine, commit, edition } = document.body.dataset, cells = element.cells;
    const said = cells.length < 3 ? [words(cells[1])] : measured(cells);
    const where = [machine, commit && `commit ${commit}`, edition && `edition ${edition}`].filter(Boolean).join(", ");
    return `${way} on ${trial}: ${said.join(", ")}. Linear Lasagna, ${where}. ${address(element.id)}`;
  }

  function measured(cells) {
    const [speedup, interval, , verdict, time, , , error, , processes] = [...cells].slice(1).map(words);
    const told = verdict.replace(SIGN, ""), n = `n = ${processes} ${processes === "1" ? "process" : "processes"}`;
    const ratio = speedup && `speedup over the baseline ${speedup}×`;
    const of = interval ? `${ratio} ${interval} (${told}; 95 % interval, ${n})` : ratio && `${ratio} (${told}; ${n})`;
    return [
      told === "baseline" ? `the baseline, ${n}` : of,
      time && `time ${time}`,
      error && `error ${error} u`,
    ].filter(Boolean);
  }

  // A page that is no file has the row's own address; of one that is, the repository says where it comes from.
  function address(id) {
    const page = location.href.split("#")[0], { address } = document.body.dataset;
    return location.protocol === "file:" && address ? `Row ${id}, ${address}` : `${page}#${id}`;
  }

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
      button.focus();
    }
    button.textContent = "copied";
    button.dataset.copied = text;
    setTimeout(() => { button.textContent = "cite"; }, 1500);
  }

  // The archive that the page carries, member by member: what a mailed page links to lies in it.
  async function member(name) {
    const packed = Uint8Array.from(atob(one("#attached").href.split(",")[1]), (letter) => letter.charCodeAt(0));
    const view = new DataView(packed.buffer), end = packed.length - 22;
    let at = view.getUint32(end + 16, true);
    for (let count = view.getUint16(end + 10, true); count > 0; count--) {
      const [size, names, extra, note] = [20, 28, 30, 32].map((place) => place === 20 ? view.getUint32(at + 20, true) : view.getUint16(at + place, true));
      const found = new TextDecoder().decode(packed.subarray(at + 46, at + 46 + names)), start = view.getUint32(at + 42, true);
      if (found === name) {
        const from = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
        const stream = new Blob([packed.subarray(from, from + size)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
        return new Response(stream).blob();
      }
      at += 46 + names + extra + note;
    }
    return null;
  }

  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[download]");
    if (!link || link.id === "attached" || link.dataset.ready || !one("#attached")) return;
    const name = link.getAttribute("href");
    event.preventDefault();
    const blob = await member(name);
    const own = document.createElement("a");
    own.dataset.ready = "yes";
    own.download = name.split("/").pop();
    own.href = blob ? URL.createObjectURL(blob) : name;
    own.click();
  });

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });

  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      const link = links.get(target.id);
      if (link && isIntersecting) {
        for (const each of links.values()) each.removeAttribute("aria-current");
        link.setAttribute("aria-current", "true");
      }
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const section of all("main section[id]")) watch.observe(section);

  if (form && table) results();
})();
