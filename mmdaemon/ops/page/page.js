/* Fills in what the stream says, and draws it. Nothing is computed here that the daemon says itself. */
"use strict";
(function () {
  const VERSION = 1, SILENT_MS = 3500, AGAIN_MS = 3000;
  const by = (id) => document.getElementById(id);
  const { base, quote } = document.querySelector("main").dataset;
  const words = (name) => String(name).replace(/_/g, " ");
  const made = (tag, parent, text, name) => {
    const el = document.createElement(tag);
    if (text) el.textContent = text;
    if (name) el.className = name;
    parent.appendChild(el);
    return el;
  };
  const put = (el, text) => { if (el.textContent !== text) el.textContent = text; };

  /* --- figures ---------------------------------------------------------------------------------------------------- */
  const near = (v) => Number(Number(v).toPrecision(9)).toLocaleString("en-US", { maximumFractionDigits: 9 });
  const money = (v) => Drawing.number(Number(v), 2);
  const SHOWN = {
    text: String, state: words, px: near, held: near, money,
    signed: (v) => { const n = Number(v); return (n > 0 ? "+" : "") + Drawing.number(n, Math.abs(n) < 100 ? 4 : 2); },
    count: (v) => Drawing.number(Number(v), 0),
    bps: (v) => Drawing.number(Number(v), 2),
    s: (v) => (v < 0.01 ? `${Drawing.number(1e3 * v, 2)} ms` : v < 60 ? `${Drawing.number(v, 2)} s` : Drawing.lasting(v)),
    span: (v) => Drawing.lasting(v),
    share: (v) => `${Drawing.number(100 * v, 0)} %`,
    up: (v) => (v ? "up" : "DOWN"),
  };
  const at = (data, key) => key.split(".").reduce((d, step) => (d == null ? undefined : d[step]), data);
  /* What is unknown says so; an empty text is an empty text; who is flat has no average price. */
  function show(el, status, key, kind) {
    const value = at(status, key);
    put(el, value == null ? (kind === "held" && Number(status.position) === 0 ? "none" : "unknown") : SHOWN[kind](value));
    el.dataset.exact = value == null ? "" : typeof value === "string" ? value : JSON.stringify(value);
  }

  /* A table that keeps its cells while its shape stays: a selection, a scroll and a reader's place are kept. A cell is
     {key, as} of the status, or {text}; with `kind` its class. */
  function fill(table, titles, rows, status) {
    const shape = JSON.stringify([titles, rows.map((row) => row.map((c) => [c.key, c.kind, c.bar != null]))]);
    const [head, body] = [table.tHead, table.tBodies[0]];
    if (table.dataset.shape !== shape) {
      table.dataset.shape = shape;
      head.replaceChildren();
      body.replaceChildren();
      const top = made("tr", head);
      for (const [title, kind] of titles) made("th", top, title, kind).scope = "col";
      for (const row of rows) {
        const line = made("tr", body);
        row.forEach((c, i) => {
          const cell = made(i ? "td" : "th", line, "", c.kind);
          if (!i) cell.scope = "row";
          if (c.key) Object.assign(cell.dataset, { key: c.key, as: c.as });
          if (c.bar != null) bar(cell);
        });
      }
    }
    rows.forEach((row, r) => row.forEach((c, i) => {
      const cell = body.rows[r].cells[i];
      if (c.key) show(cell, status, c.key, c.as);
      else if (c.bar != null) cell.firstChild.firstChild.setAttribute("width", Math.min(100, c.bar).toFixed(1));
      else put(cell, c.text);
    }));
  }
  function bar(cell) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of Object.entries({ viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }))
      svg.setAttribute(name, value);
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("height", "8");
    svg.appendChild(rect);
    cell.appendChild(svg);
  }

  /* --- what is kept ----------------------------------------------------------------------------------------------- */
  let rows = {}, fills = [], notes = [], keep = 0, status = null, heard = 0, program = "";
  function take(update, whole) {
    heard = performance.now();
    if (update.version !== VERSION || (program && update.status.program_version !== program)) return location.reload();
    status = update.status;
    program = status.program_version;
    keep = update.keep_s;
    if (whole) {
      rows = Object.fromEntries(update.columns.map((name) => [name, []]));
      fills = [];
      notes = [];
    }
    for (const row of update.rows) update.columns.forEach((name, i) => rows[name].push(name === "ts_ms" ? row[i] / 1e3 : row[i]));
    const first = rows.ts_ms[rows.ts_ms.length - 1] - keep;
    const old = rows.ts_ms.findIndex((t) => t >= first);
    if (old > 0) for (const name of update.columns) rows[name].splice(0, old);
    fills = fills.concat(update.fills).filter((each) => each.ts_ms / 1e3 >= first);
    notes = notes.concat(update.notes).slice(-300);
    tell();
    if (!document.hidden) draw();
  }

  /* --- words ------------------------------------------------------------------------------------------------------ */
  const title = document.title;
  let saidGuard = "";
  function tell() {
    for (const el of document.querySelectorAll("body [data-key]:not(td):not(th)")) show(el, status, el.dataset.key, el.dataset.as);
    const guard = status.guard, stopped = status.kill !== "armed";
    by("state").dataset.guard = guard;
    by("gate").hidden = !status.gate_closed;
    why();
    document.title = (guard === "running" ? "" : `${words(guard)}: `) + title;
    const now = `${words(guard)}${stopped ? `, kill switch ${words(status.kill)}` : ""}`;
    if (saidGuard && now !== saidGuard) put(by("told"), `Guard: ${now}`);
    saidGuard = now;
    ladder();
    worth();
    answered();
    happened();
  }
  function why() {
    const list = by("why").firstElementChild, lines = status.why_not_quoting;
    while (list.children.length > Math.max(1, lines.length)) list.lastElementChild.remove();
    while (list.children.length < Math.max(1, lines.length)) made("li", list);
    if (!lines.length) {
      put(list.firstElementChild, "Both sides are quoted.");
      delete list.firstElementChild.dataset.key;
    }
    lines.forEach((line, i) => {
      list.children[i].dataset.key = `why_not_quoting.${i}`;
      list.children[i].dataset.as = "text";
      show(list.children[i], status, `why_not_quoting.${i}`, "text");
    });
  }
  function ladder() {
    const quotes = status.quotes.map((q, i) => ({ ...q, i })), names = [...new Set(quotes.flatMap((q) => Object.keys(q.addends_bps)))];
    const far = Math.max(1e-9, ...quotes.map((q) => Math.abs(q.distance_bps)));
    const sells = quotes.filter((q) => q.side === "sell").sort((a, b) => b.level - a.level);
    const buys = quotes.filter((q) => q.side === "buy").sort((a, b) => a.level - b.level);
    const line = (q) => [
      { text: `${q.side} ${q.level}`, kind: q.side }, { key: `quotes.${q.i}.px`, as: "px", kind: "n" },
      { key: `quotes.${q.i}.qty`, as: "text", kind: "n" }, { text: q.working ? "stands" : "not yet" },
      { bar: 100 * Math.abs(q.distance_bps) / far, kind: `bar ${q.side}` }, { key: `quotes.${q.i}.distance_bps`, as: "bps", kind: "n" },
      ...names.map((name) => ({ key: `quotes.${q.i}.addends_bps.${name}`, as: "bps", kind: "n" })),
    ];
    const middle = [{ text: "fair value", kind: "fair" }, { key: "fair", as: "px", kind: "n" },
      ...Array.from({ length: 4 + names.length }, () => ({ text: "" }))];
    fill(by("quotes"), [["side and level"], [`price${quote && `, ${quote}`}`, "n"], [`size${base && `, ${base}`}`, "n"],
      ["at the venue"], ["from fair value"], ["bps", "n"], ...names.map((name) => [`${words(name)}`, "n"])],
      [...sells.map(line), middle, ...buys.map(line)], status);
    const edges = Object.keys(Names.EDGE), sides = Object.keys(status.sides);
    fill(by("edges"), [["side"], ...edges.map((name) => [Names.EDGE[name][0], "n"]), ["required", "n"], ["most it may be", "n"], ["edge gate"], ["fills say"],
      ["size", "n"], ["nothing rests because"]],
      sides.map((side) => [
        { text: Names.SIDE[side][0], kind: side }, ...edges.map((name) => ({ key: `edge_bps.${side}.${name}`, as: "bps", kind: "n" })),
        { key: `sides.${side}.required_bps`, as: "bps", kind: "n" }, { key: `sides.${side}.most_bps`, as: "bps", kind: "n" },
        { key: `sides.${side}.gate`, as: "state" }, { key: `sides.${side}.pull`, as: "state" },
        { key: `sides.${side}.size_share`, as: "share", kind: "n" }, { text: words(status.absent[side] || ""), kind: "w" },
      ]), status);
  }
  const mean = (m) => (m.count ? m.sum_bps / m.count : null);
  function worth() {
    const list = status.markouts.map((m, i) => ({ ...m, i }));
    const horizons = [...new Set(list.map((m) => m.horizon_s))];
    fill(by("worth"), [["fills"], ...horizons.flatMap((h) => [[`${h} s, bps`, "n"], ["of", "n"]])],
      ["buy", "sell"].map((side) => [{ text: Names.SIDE[side][0], kind: side }, ...horizons.flatMap((h) => {
        const m = list.find((each) => each.side === side && each.horizon_s === h);
        return m ? [{ text: mean(m) == null ? "none yet" : Drawing.number(mean(m), 2), kind: "n" }, { key: `markouts.${m.i}.count`, as: "count", kind: "n" }]
          : [{ text: "unknown", kind: "n" }, { text: "", kind: "n" }];
      })]), status);
  }
  const KIND = { event_to_send: ["event to send", "green", [8, 3, 2, 3]], place_to_answer: ["order to answer", "blue", undefined],
    amend_to_answer: ["amend to answer", "orange", [6, 3]], cancel_to_answer: ["cancel to answer", "red", [2, 3]],
    loop_lag: ["event loop late by", "grey"], journal_commit: ["journal commit", "grey"] };
  const histograms = () => Object.entries((status.health || {}).histograms || {}).map(([name, h]) =>
    ({ name, h, total: h.counts.reduce((sum, n) => sum + n, 0) }));
  function within(h, total, share) {
    if (!total) return "none yet";
    let sum = 0;
    for (let i = 0; i < h.bounds_s.length; i++) {
      sum += h.counts[i];
      if (sum >= share * total) return `≤ ${SHOWN.s(h.bounds_s[i])}`;
    }
    return `> ${SHOWN.s(h.bounds_s[h.bounds_s.length - 1])}`;
  }
  function answered() {
    fill(by("answers"), [["from"], ["number", "n"], ["half", "n"], ["90 %", "n"], ["99 %", "n"], ["mean", "n"]],
      histograms().map(({ name, h, total }) => [{ text: (KIND[name] || [words(name)])[0] }, { text: Drawing.number(total, 0), kind: "n" },
        ...[0.5, 0.9, 0.99].map((share) => ({ text: within(h, total, share), kind: "n" })),
        { text: total ? SHOWN.s(h.sum_s / total) : "none yet", kind: "n" }]), status);
  }
  function happened() {
    const ages = rows.read_age_s, age = ages[ages.length - 1];
    put(by("read"), age == null ? "The venue's truth was not read yet." : `The venue's truth was read ${SHOWN.s(age)} ago; ${
      status.breaks.length ? "what does not agree:" : "nothing is open between venue and books."}`);
    fill(by("breaks"), status.breaks.length ? [["break"], ["owner"], ["hard"], ["open since, UTC"], ["what"]] : [],
      status.breaks.map((each, i) => [{ key: `breaks.${i}.name`, as: "text" }, { key: `breaks.${i}.owner`, as: "text" },
        { text: each.hard ? "hard" : "soft" }, { text: Drawing.moment(each.opened_ts_ns / 1e9) }, { key: `breaks.${i}.detail`, as: "text", kind: "w" }]), status);
    const latest = notes.slice(-100).reverse();
    fill(by("notes"), [["time, UTC"], ["what"], ["", "w"]], latest.map((note) => [{ text: Drawing.moment(note.ts_ms / 1e3).slice(5) },
      { text: words(note.name), kind: Names.GRAVE.includes(note.fields.after) ? "grave" : "" }, { text: said(note), kind: "w" }]), status);
    if (!latest.length) fill(by("notes"), [["Nothing happened since the daemon began."]], [], status);
  }
  function said({ name, fields }) {
    if (name === "guard") return `${words(fields.before)} → ${words(fields.after)}${fields.reasons && `: ${words(fields.reasons.split(" ").join(", "))}`}`;
    return Object.entries(fields).filter(([, value]) => value).map(([key, value]) => `${words(key)} ${value}`).join(", ");
  }

  /* --- plots ------------------------------------------------------------------------------------------------------ */
  let all = null, price, bands, held, pnl, curve, marks, span = 900;
  const decimals = (values) => Math.min(8, Math.max(0, ...values.slice(-200).filter((v) => v != null).map((v) => (String(v).split(".")[1] || "").length)));
  const stretch = () => {
    const last = rows.ts_ms[rows.ts_ms.length - 1];
    return [Math.min(Math.max(last - (span || keep), rows.ts_ms[0]), last - 60), last];
  };
  const spans = (column) => {
    const found = [], t = rows.ts_ms;
    t.forEach((from, i) => {
      const last = found[found.length - 1], to = i + 1 < t.length ? t[i + 1] : from + 1;
      if (last && last.state === rows[column][i]) last.to = to;
      else found.push({ from, to, state: rows[column][i] });
    });
    for (const s of found) s.text = [words(s.state), Drawing.lasting(s.to - s.from), `from ${Drawing.moment(s.from)}`, `to ${Drawing.moment(s.to)}`].join("\n");
    return found;
  };
  const filled = () => ({
    t: fills.map((f) => f.ts_ms / 1e3), y: fills.map((f) => Number(f.fields.px)), side: fills.map((f) => (f.fields.side === "buy" ? 1 : -1)),
    text: (i) => {
      const f = fills[i].fields;
      return [`${f.side === "buy" ? "bought" : "sold"} ${f.qty} ${base} at ${near(f.px)}`, `fee ${f.fee} ${quote}`, `position ${f.position} ${base}`,
        `${Drawing.moment(fills[i].ts_ms / 1e3, true)} UTC`].join("\n");
    },
  });
  const priced = () => [rows.quote_ask, rows.quote_bid, rows.fair, rows.bid, rows.ask];
  const limits = () => [rows.position, rows.largest, rows.largest.map((v) => (v == null ? null : -v))];
  const PARTS = ["spread", "impact", "inventory", "fees", "funding"];
  const earned = () => [...PARTS.map((name) => rows[name]), rows.total];
  function begin() {
    const panels = by("panels"), [from, to] = stretch(), tick = decimals(rows.bid.concat(rows.ask)), lot = 8;
    all = Drawing.group(from, to, (a, b) => put(by("range"), `${Drawing.moment(a)} to ${Drawing.moment(b)} UTC`));
    const [ask, bid, fair, marketBid, marketAsk] = priced();
    price = all.lines(panels, {
      title: "Price", unit: quote, height: 330, t: rows.ts_ms, marks: filled(),
      more: "band between our best quotes, in the guard's colour; all over where nothing is quoted; ▲ buys, ▼ sells",
      shades: { states: rows.guard, colours: Names.GUARD, upper: 0, lower: 1, middle: 2 },
      series: [
        { label: "our ask", values: ask, colour: "red", step: true, width: 1, decimals: tick },
        { label: "our bid", values: bid, colour: "blue", step: true, width: 1, decimals: tick },
        { label: "fair value", values: fair, colour: "ink", width: 1, decimals: tick },
        { label: "best bid", values: marketBid, colour: "sky", width: 1, show: false, decimals: tick },
        { label: "best ask", values: marketAsk, colour: "pink", width: 1, show: false, decimals: tick },
      ],
    });
    bands = all.ribbons(panels, { title: "Guard and regime", rows: [
      { label: "guard", spans: spans("guard"), colours: Names.GUARD, grave: Names.GRAVE }, { label: "regime", spans: spans("regime"), colours: Names.REGIME }] });
    const [position, long, short] = limits();
    held = all.lines(panels, {
      title: "Inventory", unit: base, more: "between its limits", height: 190, t: rows.ts_ms, zero: true,
      series: [
        { label: "position", values: position, colour: "blue", step: true, fill: true, decimals: lot },
        { label: "largest long", values: long, colour: "grey", step: true, dash: [5, 4], decimals: lot },
        { label: "largest short", values: short, colour: "grey", step: true, dash: [5, 4], decimals: lot },
      ],
    });
    pnl = all.lines(panels, {
      title: "PnL", unit: quote, height: 250, t: rows.ts_ms, stack: true,
      more: "addends stacked, gains up and losses down; the line is their total",
      series: [...PARTS.map((name) => ({ label: Names.PNL[name][0], values: rows[name], colour: Names.PNL[name][1], area: true, decimals: 4 })),
        { label: "total", values: rows.total, colour: "ink", width: 1.75, decimals: 4 }],
    });
  }
  function draw() {
    if (!status) return;
    const first = !all;
    if (first) begin();
    else {
      price.renew({ t: rows.ts_ms, values: priced(), marks: filled(), states: rows.guard });
      bands.renew([spans("guard"), spans("regime")]);
      held.renew({ t: rows.ts_ms, values: limits() });
      pnl.renew({ t: rows.ts_ms, values: earned() });
      all.move(...stretch());
    }
    drawWorth();
    drawLatency();
    document.documentElement.dataset.drawn = "yes";
  }
  function drawWorth() {
    const horizons = [...new Set(status.markouts.map((m) => m.horizon_s))];
    const means = ["buy", "sell"].map((side) => horizons.map((h) => {
      const m = status.markouts.find((each) => each.side === side && each.horizon_s === h);
      return m ? mean(m) : null;
    }));
    if (marks) return marks.setData([horizons, ...means]);
    const known = means.some((side) => side.some((v) => v != null)), parent = by("markout-plot");
    if (!known && parent.childElementCount) return;
    parent.replaceChildren();
    marks = Drawing.plot(parent, {
      title: "Markout after our fills", unit: "mean, bps, over the time since the fill", height: 220, of: "after", x: known ? horizons : [],
      tick: (v) => `${v} s`, log: true, zero: true, none: "No fill is old enough to be valued.",
      series: ["buy", "sell"].map((side, i) => ({ label: Names.SIDE[side][0], values: means[i], colour: Names.SIDE[side][1], dots: true, decimals: 2, span: true })),
    });
  }
  function drawLatency() {
    const told = histograms().filter(({ name }) => KIND[name] && name.endsWith("to_answer") || name === "event_to_send");
    const x = [...new Set(told.flatMap(({ h }) => h.bounds_s))].sort((a, b) => a - b);
    const shares = told.map(({ h, total }) => {
      const upTo = new Map();
      let sum = 0;
      h.bounds_s.forEach((bound, i) => { sum += h.counts[i]; upTo.set(bound, total ? sum / total : null); });
      return x.map((bound) => upTo.get(bound));
    });
    if (curve) return curve.setData([x.map((s) => 1e3 * s), ...shares]);
    const known = told.some(({ total }) => total), parent = by("latency-plot");
    if (!known && parent.childElementCount) return;
    parent.replaceChildren();
    curve = Drawing.curves(parent, {
      title: "Share answered within", unit: "time on a logarithmic axis", height: 200, x: known ? x.map((s) => 1e3 * s) : [], none: "Nothing was sent yet.",
      series: told.map(({ name }, i) => ({ label: KIND[name][0], colour: KIND[name][1], dash: KIND[name][2], values: shares[i], span: true })),
    });
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) draw(); });
  const buttons = [...by("spans").querySelectorAll("button")];
  const press = () => buttons.forEach((each) => each.setAttribute("aria-pressed", String(Number(each.dataset.s) === span)));
  for (const button of buttons) button.addEventListener("click", () => {
    span = Number(button.dataset.s);
    press();
    if (all) { all.all(); all.move(...stretch()); }
  });
  press();

  /* --- the stream ------------------------------------------------------------------------------------------------- */
  let refused = "";
  function listen() {
    const source = new EventSource("/events");
    source.addEventListener("whole", (event) => { refused = ""; take(JSON.parse(event.data), true); });
    source.addEventListener("more", (event) => take(JSON.parse(event.data), false));
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      refused = "the daemon takes no more pages, or is another one: ";
      setTimeout(listen, AGAIN_MS);
    });
  }
  function liveness() {
    const silent = performance.now() - heard, live = heard > 0 && silent < SILENT_MS;
    by("live").className = live ? "live" : "old";
    document.documentElement.classList.toggle("stale", !live);
    if (live) return put(by("live"), `live, ${Drawing.moment(status.at_ts_ns / 1e9)} UTC`);
    const text = heard ? `NOT LIVE: ${refused}nothing heard for ${Drawing.lasting(silent / 1e3).replace(/\.\d/, "")}` : `${refused}connecting`;
    put(by("live"), text);
    if (heard) put(by("told"), "Not live: the daemon is not heard. What is shown is old.");
  }
  setInterval(liveness, 250);
  listen();

  /* --- kill ------------------------------------------------------------------------------------------------------- */
  const ask = by("ask"), done = by("done"), token = by("token");
  const line = (text, kind) => made("li", done, text, kind);
  by("kill").addEventListener("click", () => {
    done.replaceChildren();
    by("throw").disabled = false;
    ask.showModal();
    token.focus();
  });
  by("leave").addEventListener("click", () => ask.close());
  ask.addEventListener("close", () => { token.value = ""; });
  ask.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = JSON.stringify({ token: token.value.trim(), reason: by("reason").value, flatten: by("flatten").checked });
    done.replaceChildren();
    by("throw").disabled = true;
    let answered_ = false;
    try {
      const response = await fetch("/kill", { method: "POST", headers: { "Content-Type": "application/json" }, body, credentials: "omit" });
      if (!response.ok) { line(await response.text(), "bad"); answered_ = true; return; }
      token.value = "";
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = "", part = await reader.read(); !part.done; part = await reader.read()) {
        const lines = (rest + part.value).split("\n");
        rest = lines.pop();
        for (const each of lines) {
          const said_ = JSON.parse(each);
          if (said_.type === "say") line(said_.line);
          if (said_.type === "answer") { answered_ = true; for (const text of said_.lines) line(text, said_.ok ? "good" : "bad"); }
        }
      }
      if (!answered_) line("The daemon broke off. Look at `mmdaemon status`: the kill may have been thrown.", "bad");
    } catch (error) {
      line(`No answer (${error.message}). Look at \`mmdaemon status\`: the kill may or may not have been thrown.`, "bad");
    } finally {
      by("throw").disabled = false;
    }
  });
})();
