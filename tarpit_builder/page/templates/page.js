"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const byId = new Map(data.cells.map((cell, i) => [cell.id, i]));
  const symbols = { verified: "v", booted: "o", built: "b", failed: "f", "not tried": "u", damaged: "d" };
  const words = { p: "passed", f: "failed", s: "not judged here", e: "could not be judged" };
  const shapes = { p: "verified", f: "failed", s: "built", e: "not tried" };
  const worst = "fepds";

  /* Everything below puts text into the page as text: nothing in the records is ever HTML. */
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  };
  const mark = (state) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("class", "m");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(space, "use");
    use.setAttribute("href", "#i-" + symbols[state]);
    svg.append(use);
    return svg;
  };
  const table = (header, rows, kind = "scroll") =>
    make("div", { class: kind, tabindex: "0", role: "region", "aria-label": header.join(", ") },
      make("table", {},
        make("thead", {}, make("tr", {}, ...header.map((name) => make("th", { scope: "col" }, name)))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, i) =>
          i ? make("td", {}, value) : make("th", { scope: "row" }, value)))))));
  const size = (bytes) => (bytes / 1000).toLocaleString("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 }) + "\u00a0kB";
  const name = (cell) => [cell.k, cell.a, cell.u].filter(Boolean).join(" · ");

  /* -- filters ---------------------------------------------------------------------------- */
  const rows = [...document.querySelectorAll("#rows tr")].map((row) => ({
    row,
    chips: [...row.querySelectorAll(".c")].map((chip) => {
      const cell = data.cells[Number(chip.dataset.i)];
      const text = [cell.k, cell.a, cell.u, cell.s, cell.compiler, cell.built, cell.verified, cell.failed, cell.detail]
        .filter(Boolean).join(" ").toLowerCase();
      return { chip, cell, text };
    }),
  }));
  const filter = () => {
    const wanted = at("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    const arch = at("arch").value;
    const series = at("series").value;
    const states = new Set([...document.querySelectorAll("[name=state]:checked")].map((box) => box.value));
    let count = 0;
    for (const { row, chips } of rows) {
      let any = false;
      for (const { chip, cell, text } of chips) {
        const fits = states.has(cell.s) && (!arch || (cell.a || "?") === arch)
          && (!series || cell.n === series) && wanted.every((word) => text.includes(word));
        chip.hidden = !fits;
        any = any || fits;
        count += fits;
      }
      for (const part of row.querySelectorAll("td[data-a]")) part.hidden = false;
      row.hidden = !any;
      if (any) for (const part of row.querySelectorAll("td[data-a]")) part.classList.toggle("off", !part.querySelector(".c:not([hidden])"));
    }
    const all = data.cells.length;
    at("found").textContent = count === all ? `${all.toLocaleString("en")} results` : `${count.toLocaleString("en")} of ${all.toLocaleString("en")} results`;
    at("reset").hidden = count === all;
    at("none").hidden = count > 0;
  };
  const form = at("filter");
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { filter(); at("q").focus(); }));
  at("again").addEventListener("click", (event) => { event.preventDefault(); form.reset(); });

  /* -- details ---------------------------------------------------------------------------- */
  const section = (title, ...content) => [make("h3", {}, title), ...content];
  const milestone = (title, when, state) =>
    make("li", { class: symbols[when ? state : "not tried"] }, mark(when ? state : "not tried"), `${title} `, when ? make("time", {}, when) : "– not on record");
  const facts = (pairs) => make("dl", {}, ...pairs.filter(([, value]) => value && value.length).flatMap(([title, value]) =>
    [make("dt", {}, title), ...(Array.isArray(value) ? value : [value]).map((one, i) => make("dd", i ? { class: "more" } : {}, make("span", { class: "mono" }, one)))]));
  const instance = (number) => {
    const [row, backend, family] = data.instances[number];
    const [title, paragraph, group] = data.checks[row];
    return { row, title, paragraph, group, place: [group, backend].filter(Boolean).join("/") + (family ? ` IPv${family}` : "") };
  };
  const outcome = (letter) => make("span", { class: symbols[shapes[letter]] }, mark(shapes[letter]), words[letter]);
  const wrong = (cell, number) => {
    const [detail, ...packets] = (cell.wrong || {})[number] || [];
    return [detail ? make("pre", { tabindex: "0" }, [detail, ...packets].join("\n")) : ""];
  };
  const checks = (cell) => {
    if (!cell.results) return [make("p", { class: "none" }, cell.recorded ? `On record: ${cell.recorded}. Its checks one by one are not.` : cell.summary ? `On record: ${cell.summary}. Its checks one by one are not.` : "Not measured: it was not booted.")];
    const groups = new Map();
    const bad = [];
    [...cell.results].forEach((letter, number) => {
      if (letter === ".") return;
      const one = instance(number);
      const counts = groups.get(one.group) || {};
      counts[letter] = (counts[letter] || 0) + 1;
      groups.set(one.group, counts);
      if (letter !== "p") bad.push([letter, number, one]);
    });
    const shown = table(["group", "passed", "failed", "not judged"], [...groups].map(([group, counts]) =>
      [group, String(counts.p || "–"), counts.f ? make("span", { class: "f bad" }, mark("failed"), String(counts.f)) : "–", String((counts.s || 0) + (counts.e || 0) || "–")]));
    const others = bad.sort((a, b) => worst.indexOf(a[0]) - worst.indexOf(b[0])).map(([letter, number, one]) =>
      make("details", letter === "f" ? { open: "" } : {}, make("summary", {}, outcome(letter), ` · ${one.place}: ${one.title}`), ...wrong(cell, number)));
    return [make("p", {}, cell.summary), shown, ...others];
  };
  const aboutCell = (cell) => [
    make("ul", { class: "steps" }, milestone("built", cell.built, "built"), milestone("booted", cell.booted, "booted"), milestone("verified", cell.verified, "verified"),
      cell.failed ? milestone(cell.s === "damaged" || cell.s === "not tried" ? cell.s : "failed", cell.failed, cell.s === "damaged" || cell.s === "not tried" ? cell.s : "failed") : null),
    cell.older ? make("p", { class: "note" }, "That was an older source of the module than today’s.") : null,
    cell.untried ? make("p", { class: "wrong u" }, mark("not tried"), `The last run could not try it: ${cell.untried}. What is known is from before.`) : null,
    cell.detail && cell.detail !== cell.summary ? make("pre", { tabindex: "0" }, cell.detail) : null,
    ...(cell.problems || []).filter((text) => text !== cell.detail).map((text) => make("p", { class: "wrong d" }, mark("damaged"), text)),
    cell.links ? make("p", { class: "links" }, ...Object.entries(cell.links).map(([title, url]) => make("a", { href: url }, title))) : null,
    ...section("Packages", cell.packages ? table(["package", "size", "SHA-256"], cell.packages.map(([file, bytes, sum]) => [file, make("span", { class: "n" }, size(bytes)), make("span", { class: "mono sha" }, sum)]), "scroll stack")
      : make("p", { class: "none" }, "None on record here.")),
    ...section("Checks", ...checks(cell)),
    ...(cell.notes ? section("Measured", make("pre", { tabindex: "0" }, cell.notes.join("\n"))) : []),
    ...section("Manifest", facts([["command", cell.command], ["module", cell.module], ["compiler", cell.compiler], ["image", cell.image], ["sources", cell.sources], ["key", cell.key]])),
    ...(cell.choices ? [make("details", {}, make("summary", {}, "Every choice with its reason"), table(["choice", "value", "reason"], cell.choices, "scroll stack"))] : []),
    ...(cell.stages && cell.stages.length ? section("Time", table(["step", "seconds"], cell.stages.map(([title, seconds]) => [title, seconds.toLocaleString("en", { minimumFractionDigits: 1 })]))) : []),
    ...(cell.runs ? section("Runs", table(["run", "outcome", "seconds"], cell.runs.map(([when, how, seconds]) => [when, how, seconds.toLocaleString("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 })]))) : []),
    ...(cell.log ? section("The end of the log", make("pre", { tabindex: "0" }, cell.log)) : []),
  ];
  const aboutCheck = (row) => {
    const [title, paragraph, group] = data.checks[row];
    const numbers = data.instances.map(([of], number) => (of === row ? number : -1)).filter((number) => number >= 0);
    const found = [];
    for (const cell of data.cells) for (const number of numbers) {
      const letter = (cell.results || "")[number];
      if (letter && letter !== ".") found.push([letter, cell, number]);
    }
    found.sort((a, b) => worst.indexOf(a[0]) - worst.indexOf(b[0]));
    return [
      make("p", {}, `${group}: ${title}.`, paragraph ? ` Section ${paragraph} of the contract.` : ""),
      table(["kernel", "with", "result"], found.slice(0, 400).map(([letter, cell, number]) => [
        make("a", { href: "#" + cell.id }, name(cell)), instance(number).place, make("div", {}, outcome(letter), ...(letter === "p" ? [] : wrong(cell, number)))])),
      found.length > 400 ? make("p", { class: "note" }, `${found.length - 400} more are not shown.`) : null,
    ];
  };

  const dialog = at("dialog");
  let back = null;
  const open = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const check = /^check-(\d+)$/.exec(id);
    const cell = data.cells[byId.get(id)];
    if (!cell && !(check && data.checks[Number(check[1])])) {
      if (dialog.open) dialog.close();
      return;
    }
    const title = at("d-title");
    title.replaceChildren(...(cell ? [make("span", { class: symbols[cell.s] }, mark(cell.s)), `${name(cell)}: ${cell.s}`] : ["On each kernel"]));
    at("d-body").replaceChildren(...(cell ? aboutCell(cell) : aboutCheck(Number(check[1]))).filter(Boolean));
    if (!dialog.open) {
      back = document.activeElement;
      dialog.showModal();
    }
    dialog.scrollTop = 0;
    title.focus();
  };
  dialog.addEventListener("close", () => {
    if (byId.has(decodeURIComponent(location.hash.slice(1))) || location.hash.startsWith("#check-"))
      history.pushState(null, "", location.pathname + location.search);
    if (back && back.isConnected) back.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  at("close").addEventListener("click", () => dialog.close());
  window.addEventListener("hashchange", open);
  open();

  /* -- colours ---------------------------------------------------------------------------- */
  const theme = at("theme");
  const paint = (value) => { if (value) document.documentElement.dataset.theme = value; else delete document.documentElement.dataset.theme; };
  try { theme.value = localStorage.getItem("theme") || ""; } catch { /* not everywhere */ }
  paint(theme.value);
  theme.addEventListener("change", () => {
    paint(theme.value);
    try { localStorage.setItem("theme", theme.value); } catch { /* not everywhere */ }
  });
})();
