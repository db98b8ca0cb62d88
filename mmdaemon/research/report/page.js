/* Draws what the JSON in the page has under `drawn`. Figures and tables stand in the HTML already. */
"use strict";
(function () {
  const report = JSON.parse(document.getElementById("report").textContent);
  const run = report.run, drawn = report.drawn;
  const start = run.started_ts_ns / 1e9, end = Math.max(run.last_ts_ns / 1e9, start + 1);
  const at = (t) => t.map((ms) => start + ms / 1000);
  const range = document.getElementById("range");
  const told = (from, to) => { range.textContent = `${Drawing.moment(from)} to ${Drawing.moment(to)} UTC`; };
  const all = Drawing.group(start, end, told);
  const panels = document.getElementById("panels");
  const decimals = (values) => Math.min(8, Math.max(0, ...values.slice(0, 400).filter((v) => v != null)
    .map((v) => (String(v).split(".")[1] || "").length)));

  /* Tables of different moments as one: a moment that a table does not have is null there, and undefined to uPlot. */
  const joined = (...tables) => uPlot.join(tables.map((table) => [at(table.t_ms), ...Object.values(table.columns)]));

  const price = joined(drawn.price, drawn.minutes);
  const tick = decimals(drawn.fills.price.concat(drawn.price.columns.bid.slice(0, 200)));
  all.lines(panels, {
    title: "Price", unit: run.quote, height: 330, t: price[0],
    more: "band between our best target bid and ask; ▲ buys, ▼ sells",
    series: [
      { label: "our ask", values: price[3], colour: "red", step: true, width: 0.75, decimals: tick },
      { label: "our bid", values: price[2], colour: "blue", step: true, width: 0.75, decimals: tick },
      { label: "fair value", values: price[1], colour: "ink", width: 1, decimals: tick },
      { label: "mark", values: price[4], colour: "faint", dash: [2, 3], width: 1, span: true, decimals: tick },
      { label: "resting bid", values: price[5], colour: "sky", dots: true, width: 0, show: false, decimals: tick },
      { label: "resting ask", values: price[6], colour: "pink", dots: true, width: 0, show: false, decimals: tick },
    ],
    bands: [[1, 2, "sky"]],
    marks: {
      t: at(drawn.fills.t_ms), y: drawn.fills.price, side: drawn.fills.side,
      text: (i) => [`${drawn.fills.side[i] > 0 ? "bought" : "sold"} ${drawn.fills.size[i]} ${run.base} at ${Drawing.number(drawn.fills.price[i], tick)}`,
        `fee ${drawn.fills.fee[i]} ${run.quote}`, `after 5 s ${drawn.fills.markout_5s[i]}`,
        `${Drawing.moment(start + drawn.fills.t_ms[i] / 1000, true)} UTC`].join("\n"),
    },
  });

  const spans = (list) => list.map((s) => {
    const from = start + s.from_ms / 1000, to = start + s.to_ms / 1000;
    const shares = s.shares && Object.entries(s.shares).map(([state, share]) => `${state.replace(/_/g, " ")} ${(100 * share).toFixed(1)} %`);
    const text = [shares ? `${s.moves} states together: ${shares.join(", ")}` : s.state.replace(/_/g, " "), s.why,
      Drawing.lasting(to - from), `from ${Drawing.moment(from, true)}`, `to ${Drawing.moment(to, true)}`].filter(Boolean).join("\n");
    return { from, to, state: s.state, shares: s.shares, text };
  });
  all.ribbons(panels, {
    title: "Guard and regime",
    rows: [
      { label: "guard", spans: spans(drawn.guard), colours: Names.GUARD, grave: Names.GRAVE },
      { label: "regime", spans: spans(drawn.regime), colours: Names.REGIME },
    ],
  });

  const held = joined(drawn.position, drawn.limits);
  const hold = (column) => { let last = null; return column.map((v) => (v === undefined ? last : (last = v))); };
  const lot = decimals(drawn.position.columns.position);
  all.lines(panels, {
    title: "Inventory", unit: run.base, more: "between its limits", height: 190, t: held[0], zero: true,
    series: [
      { label: "position", values: hold(held[1]), colour: "blue", step: true, fill: true, decimals: lot },
      { label: "largest long", values: hold(held[2]), colour: "grey", step: true, dash: [5, 4], decimals: lot },
      { label: "largest short", values: hold(held[3]), colour: "grey", step: true, dash: [5, 4], decimals: lot },
    ],
  });

  const PARTS = Names.PNL;
  const pnl = drawn.pnl.columns;
  all.lines(panels, {
    title: "PnL", unit: run.quote, height: 250, t: at(drawn.pnl.t_ms), stack: true,
    more: "addends stacked, gains up and losses down; the line is their total",
    none: "No minute was journaled, so PnL over time is unknown.",
    series: [
      ...Object.keys(PARTS).filter((name) => name in pnl).map((name) => (
        { label: PARTS[name][0], values: pnl[name], colour: PARTS[name][1], area: true, decimals: 4 })),
      { label: "total", values: pnl.total, colour: "ink", width: 1.75, decimals: 4 },
    ],
  });

  const EDGE = Names.EDGE;
  const largest = (column) => Math.max(...column.filter((v) => v != null));
  for (const [side, table] of [["buys", drawn.buy_edge], ["sells", drawn.sell_edge]]) {
    const most = largest(table.columns.most), far = most > 4 * largest(table.columns.total);
    all.lines(panels, {
      title: `Required edge of ${side}`, unit: "bps from fair value", height: 170,
      more: Number.isFinite(most) ? `the gate closes at half of the widest spread, up to ${most} bps${far ? " (click to draw it)" : ""}` : "", stack: true, zero: true,
      t: table.columns.total.some((v) => v != null) ? at(table.t_ms) : [],
      none: "No decision came to a price, so no edge was required.",
      series: [
        ...Object.keys(EDGE).map((name) => ({ label: EDGE[name][0], values: table.columns[name], colour: EDGE[name][1],
          area: true, step: true, decimals: 2 })),
        { label: "total", values: table.columns.total, colour: "ink", step: true, decimals: 2 },
        { label: "half of the widest spread", values: table.columns.most, colour: "orange", step: true, dash: [5, 4],
          decimals: 2, within: true, show: !far },
      ],
    });
  }

  const lean = drawn.leans.columns;
  all.lines(panels, {
    title: "What moves both quotes", unit: "bps of fair value", height: 170, zero: true,
    t: lean.signal.some((v) => v != null) ? at(drawn.leans.t_ms) : [], none: "Nothing was quoted.",
    series: [
      { label: "signal", values: lean.signal, colour: "green", step: true, decimals: 3 },
      { label: "skew", values: lean.skew, colour: "blue", step: true, decimals: 3 },
      { label: "carry", values: lean.carry, colour: "pink", step: true, decimals: 3 },
    ],
  });

  const ratio = drawn.fill_ratio.columns;
  all.lines(panels, {
    title: "Fill ratio", unit: "% of orders placed", height: 170, t: at(drawn.fill_ratio.t_ms), zero: true,
    series: [
      { label: "in this stretch", values: ratio.ratio, colour: "sky", step: true, fill: true, decimals: 1 },
      { label: "since the start", values: ratio.overall, colour: "ink", width: 1.5, span: true, decimals: 1 },
    ],
  });

  const KIND = { order: ["orders", "blue"], amend: ["amends", "orange"], cancel: ["cancels", "red"], fill: ["fills", "green"] };
  const DASH = { order: undefined, amend: [6, 3], cancel: [2, 3], fill: [8, 3, 2, 3] };
  Drawing.curves(document.getElementById("latency-plot"), {
    title: "Share answered within", unit: "time on a logarithmic axis", height: 200, x: drawn.latency.within_ms,
    series: Object.keys(drawn.latency.share).map((name) => (
      { label: KIND[name][0], colour: KIND[name][1], dash: DASH[name], values: drawn.latency.share[name] })),
    none: "Nothing was answered.",
  });

  const worth = drawn.markouts, known = (side) => worth.mean[side].some((v) => v != null);
  const sides = Object.keys(worth.mean).filter(known), SIDE = Names.SIDE;
  Drawing.plot(document.getElementById("markout-plot"), {
    title: "Markout after our fills", unit: "bps, over the time since the fill; 95 % intervals", height: 220, of: "after",
    x: sides.length ? worth.horizon_s : [], tick: (v) => `${v} s`, log: true, zero: true,
    none: "No fill is old enough to be valued.",
    series: sides.flatMap((side) => [
      { label: SIDE[side][0], values: worth.mean[side], colour: SIDE[side][1], dots: true, decimals: 2 },
      { label: `${SIDE[side][0]}, at most`, values: worth.high[side], colour: SIDE[side][2], width: 0.75, decimals: 2 },
      { label: `${SIDE[side][0]}, at least`, values: worth.low[side], colour: SIDE[side][2], width: 0.75, decimals: 2 },
    ]),
    bands: sides.map((side, i) => [3 * i + 2, 3 * i + 3, SIDE[side][2]]),
  });

  told(start, end);
  document.getElementById("whole").addEventListener("click", all.all);
  for (const [i, row] of document.querySelectorAll("#stops tbody tr").entries()) {
    const stop = report.stops[i], room = Math.max(30, (stop.to_ms - stop.from_ms) / 1000);
    row.classList.add("go");
    row.title = "show it in the plots";
    row.addEventListener("click", () => {
      all.set(start + stop.from_ms / 1000 - room, start + stop.to_ms / 1000 + room);
      document.getElementById("plots").scrollIntoView({ behavior: "smooth" });
    });
  }
  document.documentElement.dataset.drawn = "yes";
})();
