// The sample browser of samples.html. Data come as scripts that call behaviorLlavaSamples, because a page opened
// from a file may not fetch. Whatever data hold is shown as text: this program makes no markup of it.
"use strict";

(() => {
  const PAGE = 20; // samples on a page: the number of elements does not grow with that of samples
  const KEPT = 40; // chunks of rows kept in memory
  const AT_ONCE = 4; // chunks that are loaded at a time while searching
  const VERDICTS = { r: "right", w: "wrong", u: "unparsed", n: "not judged", "-": "not run" };
  const KEY = 16;

  const $ = (id) => document.getElementById(id);
  const waiting = new Map(); // "kind-number" -> what to do with it
  const rows = new Map(); // number of a chunk -> its rows, the longest unused first
  const texts = []; // number of a chunk -> its texts, once loaded
  let index = null;
  let count = 0;
  let matches = new Int32Array(0);
  let page = 0;
  let found = null; // Uint8Array of the samples a search found; null where nothing is searched
  let searching = 0; // number of the search that counts; an older one ends
  let drawing = 0;
  let single = -1; // the sample a link names

  window.behaviorLlavaSamples = (kind, number, text) => {
    const name = `${kind}-${number}`;
    const done = waiting.get(name);
    waiting.delete(name);
    if (done) done(JSON.parse(text));
  };

  function load(kind, number) {
    return new Promise((resolve, reject) => {
      const name = `${kind}-${number}`;
      const script = document.createElement("script");
      waiting.set(name, (value) => {
        script.remove();
        resolve(value);
      });
      script.onerror = () => {
        script.remove();
        reject(new Error(`samples/${name}.js cannot be read`));
      };
      script.src = `samples/${name}.js`;
      document.head.append(script);
    });
  }

  async function chunk(number) {
    let value = rows.get(number);
    rows.delete(number);
    value = value || load("rows", number);
    rows.set(number, value);
    if (rows.size > KEPT) rows.delete(rows.keys().next().value);
    return value;
  }

  // ---- elements -------------------------------------------------------------------------------------------

  function make(tag, fields, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(fields || {})) {
      if (name === "class") element.className = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // Text from outside: marks that would turn or hide letters are shown by their numbers.
  const UNSEEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff])/;
  function told(text) {
    const line = make("bdi");
    text.split(UNSEEN).forEach((part, place) => {
      if (place % 2 === 0) line.append(part);
      else line.append(make("span", { class: "code" }, `U+${part.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`));
    });
    return line;
  }

  function options(select, names, every) {
    const all = every === null ? [] : [make("option", { value: "" }, every)];
    select.replaceChildren(...all, ...names.map((name, place) => make("option", { value: place }, name)));
  }

  function media(picture, id) {
    if (picture === null) return make("div", { class: "missing" }, "text only");
    if (picture.fault) return make("div", { class: "missing" }, `${picture.kind} cannot be shown (${picture.fault})`);
    const what = picture.kind === "image" ? "The image" : `${picture.frames} frames of the video`;
    return make("img", {
      src: `samples/media/${picture.file}`,
      width: picture.width,
      height: picture.height,
      loading: "lazy",
      decoding: "async",
      alt: `${what} of sample ${id}`,
    });
  }

  function shares(likely) {
    if (likely === null) return [make("span", { class: "quiet" }, "none recorded")];
    return likely.map(([label, share]) => {
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      bar.style.width = `${(4 * share).toFixed(3)}em`;
      return make("span", { class: "share" }, bar, `${(100 * share).toFixed(1)} % `, told(label));
    });
  }

  function answerRow(arm, answer, letter) {
    const name = make("th", { scope: "row" });
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = arm.color;
    name.append(swatch, told(arm.name));
    const tone = letter === "r" ? " good" : letter === "w" || letter === "u" ? " bad" : "";
    const judged = make("td", null, make("span", { class: `tag${tone}` }, VERDICTS[letter]));
    if (answer === null) return make("tr", null, name, make("td", { class: "absent" }, "not run"), make("td", null, "none"), judged);
    const said = make("td", null, told(answer.text));
    if (answer.context !== null) {
      said.append(make("details", null, make("summary", null, "what it wrote first"), told(answer.context)));
    }
    return make("tr", null, name, said, make("td", null, ...shares(answer.likely)), judged);
  }

  function card(number, row) {
    const contest = contestOf(number);
    const arms = index.arms.length;
    const head = make("tr", null, ...["arm", "answer", "probabilities", "judged"].map((name) => make("th", { scope: "col" }, name)));
    const body = index.arms.map((arm, place) => answerRow(arm, row.answers[place], index.verdicts[number * arms + place]));
    const link = make("a", { href: `#${key(number)}` }, told(`${contest.task} · ${row.id}`));
    const words = make(
      "div",
      null,
      make("h3", null, link),
      make("p", { class: "quiet" }, `${contest.setting}, seed ${contest.seed}`),
      make("p", null, told(row.question)),
      make("p", null, make("strong", null, "Label: "), told(row.label)),
      make("table", null, make("caption", null, "Answers"), make("thead", null, head), make("tbody", null, ...body)),
    );
    return make("article", { class: "sample", id: `s-${key(number)}` }, make("div", { class: "media" }, media(row.picture, row.id)), words);
  }

  // ---- which samples --------------------------------------------------------------------------------------

  const key = (number) => index.keys.slice(number * KEY, (number + 1) * KEY);

  function contestOf(number) {
    return index.contests.find((contest) => number < contest.start + contest.count);
  }

  function numberOf(wanted) {
    if (!/^[0-9a-f]{16}$/.test(wanted)) return -1;
    let at = index.keys.indexOf(wanted);
    while (at >= 0 && at % KEY !== 0) at = index.keys.indexOf(wanted, at + 1);
    return at < 0 ? -1 : at / KEY;
  }

  const isOf = (letter, wanted) => (wanted === "w" ? letter === "w" || letter === "u" : letter === wanted);

  function choose() {
    const [task, setting, seed] = ["task", "setting", "seed"].map((id) => index.names[id][$(id).value]);
    const relation = $("relation").value;
    const first = Number($("first").value);
    const second = Number($("second").value);
    const arms = index.arms.length;
    const kept = new Int32Array(count);
    let size = 0;
    for (const contest of index.contests) {
      if ((task !== undefined && contest.task !== task) || (setting !== undefined && contest.setting !== setting)) continue;
      if (seed !== undefined && contest.seed !== seed) continue;
      for (let number = contest.start; number < contest.start + contest.count; number += 1) {
        if (found !== null && !found[number]) continue;
        if (relation) {
          const at = number * arms;
          if (!isOf(index.verdicts[at + first], relation[0]) || !isOf(index.verdicts[at + second], relation[1])) continue;
        }
        kept[size] = number;
        size += 1;
      }
    }
    matches = kept.subarray(0, size);
  }

  async function draw(note = "") {
    drawing += 1;
    const own = drawing;
    const all = single >= 0 ? [single] : matches;
    page = Math.max(0, Math.min(page, Math.ceil(all.length / PAGE) - 1));
    const shown = Array.from(all.slice(page * PAGE, (page + 1) * PAGE));
    const some = await Promise.all(shown.map((number) => chunk(Math.floor(number / index.rowsAChunk))));
    if (own !== drawing) return;
    $("list").replaceChildren(...shown.map((number, place) => card(number, some[place][number % index.rowsAChunk])));
    const words = single >= 0 ? "One sample, as the link says" : `${all.length.toLocaleString("en")} of ${count.toLocaleString("en")} samples`;
    $("status").textContent = words + note;
    const last = Math.max(1, Math.ceil(all.length / PAGE));
    $("place").textContent = `page ${(page + 1).toLocaleString("en")} of ${last.toLocaleString("en")}`;
    $("previous").disabled = page === 0;
    $("next").disabled = page + 1 >= last;
    document.documentElement.dataset.drawn = String(own); // what tests and screenshots wait for
  }

  function show() {
    if (single >= 0) history.replaceState(null, "", location.pathname + location.search);
    single = -1;
    page = 0;
    choose();
    return draw();
  }

  async function search() {
    searching += 1;
    const own = searching;
    const terms = $("search").value.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean);
    found = terms.length ? new Uint8Array(count) : null;
    if (found === null) return show();
    const chunks = Math.ceil(count / index.textsAChunk);
    const look = (number, some) => {
      const start = number * index.textsAChunk;
      for (let place = 0; place < some.length; place += 1) {
        if (terms.every((term) => some[place].includes(term))) found[start + place] = 1;
      }
    };
    for (let number = 0; number < chunks; number += AT_ONCE) {
      const some = [];
      for (let next = number; next < Math.min(number + AT_ONCE, chunks); next += 1) {
        texts[next] = texts[next] || load("texts", next);
        some.push(texts[next]);
      }
      const loaded = await Promise.all(some);
      if (own !== searching) return undefined;
      loaded.forEach((one, place) => look(number + place, one));
    }
    return show();
  }

  // ---- what a person does ---------------------------------------------------------------------------------

  function fail(error) {
    $("status").textContent = `This cannot be shown: ${error.message}`;
  }

  const doing = (work) => () => Promise.resolve(work()).catch(fail);

  function armPlace(name, otherwise) {
    const exact = index.arms.findIndex((arm) => arm.name === name);
    const own = index.arms.findIndex((arm) => arm.name.endsWith(`/${name}`));
    return exact >= 0 ? exact : own >= 0 ? own : otherwise;
  }

  function pair(relation) {
    $("first").value = armPlace("base", 0);
    $("second").value = armPlace("behavior", index.arms.length - 1);
    $("relation").value = relation;
    return show();
  }

  function follow() {
    single = numberOf(location.hash.slice(1));
    if (single < 0 && location.hash.length > 1) return draw("; the link names a sample that is not here");
    return draw();
  }

  function turn(by) {
    page += by;
    scrollTo(0, 0);
    return draw();
  }

  async function start() {
    index = await load("index", 0);
    for (const contest of index.contests) {
      contest.start = count;
      count += contest.count;
    }
    index.names = {};
    for (const name of ["task", "setting", "seed"]) {
      index.names[name] = [...new Set(index.contests.map((contest) => contest[name]))];
      options($(name), index.names[name], "all");
      $(name).onchange = doing(show);
    }
    for (const name of ["first", "second"]) {
      options($(name), index.arms.map((arm) => arm.name), null);
      $(name).onchange = doing(show);
    }
    $("first").value = armPlace("base", 0);
    $("second").value = armPlace("behavior", index.arms.length - 1);
    $("relation").onchange = doing(show);
    $("gained").onclick = doing(() => pair("wr"));
    $("lost").onclick = doing(() => pair("rw"));
    $("all").onclick = doing(() => {
      $("controls").reset();
      pair("");
      return search();
    });
    $("previous").onclick = doing(() => turn(-1));
    $("next").onclick = doing(() => turn(1));
    let timer = 0;
    $("search").oninput = () => {
      clearTimeout(timer);
      timer = setTimeout(doing(search), 150);
    };
    $("controls").onsubmit = (event) => {
      event.preventDefault();
      doing(search)();
    };
    window.onhashchange = doing(follow);
    choose();
    return follow();
  }

  start().catch(fail);
})();
