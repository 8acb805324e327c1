"use strict";
(() => {
  const PAGE = 100;
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  const list = document.getElementById("list");
  if (!list) return;
  const rows = JSON.parse(document.getElementById("data").textContent);
  const find = document.getElementById("find");
  const chips = document.getElementById("chips");
  const count = document.getElementById("count");
  const detail = document.getElementById("detail");
  const texts = rows.map(() => null);
  const wanted = new Set();
  let shown = [], page = PAGE, chosen = -1, words = [];

  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const textOf = (place) => {
    if (texts[place] === null) {
      const row = rows[place];
      const parts = row.groups.flatMap((group) => group.parts);
      texts[place] = [row.id, row.note, ...row.tags, ...parts.flatMap((part) => [part.head, part.meta, part.text])]
        .join("\n").toLowerCase();
    }
    return texts[place];
  };
  const fits = (place) =>
    [...wanted].every((tag) => rows[place].tags.includes(tag)) && words.every((word) => textOf(place).includes(word));

  const marked = (node, text) => {
    const lower = text.toLowerCase();
    if (!words.length || lower.length !== text.length) { node.textContent = text; return node; }
    let from = 0;
    while (from < text.length) {
      let at = -1, length = 0;
      for (const word of words) {
        const found = lower.indexOf(word, from);
        if (found >= 0 && (at < 0 || found < at)) { at = found; length = word.length; }
      }
      if (at < 0) break;
      node.append(text.slice(from, at), make("mark", "", text.slice(at, at + length)));
      from = at + length;
    }
    node.append(text.slice(from));
    return node;
  };

  const draw = () => {
    list.replaceChildren(...shown.slice(0, page).map((place) => {
      const row = rows[place];
      const entry = make("div", "entry");
      entry.id = `entry-${place}`;
      entry.setAttribute("role", "option");
      entry.setAttribute("aria-selected", String(place === chosen));
      const name = make("bdi", "", row.id);
      const note = make("bdi", "word", row.note);
      const tags = make("span", "tags");
      tags.append(...row.tags.map((tag) => make("span", "tag", tag)));
      entry.append(name, note, tags);
      entry.addEventListener("click", () => choose(place, false));
      return entry;
    }));
    if (shown.length > page) {
      const more = make("button", "more", `Show ${Math.min(PAGE, shown.length - page)} more`);
      more.type = "button";
      more.addEventListener("click", () => { page += PAGE; draw(); });
      list.append(more);
    }
    count.textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows listed`;
  };

  const show = (place) => {
    if (place < 0) { detail.replaceChildren(make("p", "word", "No row fits.")); return; }
    const row = rows[place];
    const head = make("h3");
    head.append(make("bdi", "", row.id));
    const groups = row.groups.map((group) => {
      const box = make("div", "group");
      const side = make("div", "side");
      side.append(...group.parts.map((part) => {
        const card = make("div", `part ${part.mark}`);
        const title = make("h5");
        title.append(make("bdi", "", part.head));
        const text = marked(make("pre"), part.text);
        text.dir = "auto";
        text.tabIndex = 0;
        card.append(title, make("p", "word", part.meta), text);
        return card;
      }));
      box.append(make("h4", "", group.title), side);
      return box;
    });
    const tags = make("span", "tags");
    tags.append(...row.tags.map((tag) => make("span", "tag", tag)));
    detail.replaceChildren(head, make("p", "word", row.note), tags, ...groups);
  };

  const choose = (place, scroll) => {
    const before = document.getElementById(`entry-${chosen}`);
    if (before) before.setAttribute("aria-selected", "false");
    chosen = place;
    const entry = document.getElementById(`entry-${place}`);
    if (entry) {
      entry.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", entry.id);
      if (scroll) entry.scrollIntoView({ block: "nearest" });
    }
    show(place);
  };

  const sift = () => {
    words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = rows.map((_, place) => place).filter(fits);
    page = PAGE;
    list.scrollTop = 0;
    if (!shown.includes(chosen)) chosen = shown.length ? shown[0] : -1;
    draw();
    show(chosen);
  };

  const step = (by) => {
    const at = shown.indexOf(chosen) + by;
    if (at < 0 || at >= shown.length) return;
    if (at >= page) { page += PAGE; draw(); }
    choose(shown[at], true);
  };

  const counts = new Map();
  for (const row of rows) for (const tag of row.tags) counts.set(tag, (counts.get(tag) || 0) + 1);
  for (const [tag, rowsOf] of [...counts].sort((a, b) => b[1] - a[1])) {
    const chip = make("button", "chip", `${tag} ${rowsOf.toLocaleString("en")}`);
    chip.type = "button";
    chip.setAttribute("aria-pressed", "false");
    chip.addEventListener("click", () => {
      if (!wanted.delete(tag)) wanted.add(tag);
      chip.setAttribute("aria-pressed", String(wanted.has(tag)));
      sift();
    });
    chips.append(chip);
  }

  let waiting = 0;
  find.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(sift, 80); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === find;
    if (event.key === "/" && !typing) { event.preventDefault(); find.focus(); find.select(); }
    else if (event.key === "Escape" && typing) { find.value = ""; sift(); list.focus(); }
    else if (event.key === "j" && !typing) step(1);
    else if (event.key === "k" && !typing) step(-1);
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (typing || event.target === list)) {
      event.preventDefault();
      step(event.key === "ArrowDown" ? 1 : -1);
    }
  });
  sift();
})();
