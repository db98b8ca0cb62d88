/* Draws what the JSON in the page has. Figures and tables stand in the HTML already. */
"use strict";
(function () {
  const made = JSON.parse(document.getElementById("calibration").textContent);
  const COLOURS = ["blue", "orange", "green", "red", "sky", "pink", "sand", "ink", "grey"];
  const at = (name) => document.getElementById(`plot-${name}`);
  const fit = (each) => (each.type === "refused" ? each.found : each.type === "fit" ? each : null);
  const bps = (v) => `${v} bps`;
  const seconds = (v) => `${v} s`;
  const unique = (values) => [...new Set(values)].sort((a, b) => a - b);
  const low = (each) => (each && each.interval_bps ? each.interval_bps.low : null);
  const high = (each) => (each && each.interval_bps ? each.interval_bps.high : null);

  const sigmas = made.sigma.filter((each) => each.type === "fit");
  Drawing.plot(at("sigma"), {
    title: "Signature", unit: "sigma, bps / sqrt(s), by the length of the step; the band is its 95 %", height: 200, log: true,
    tick: seconds, of: "steps of", x: sigmas.map((s) => s.step_s), bands: [[3, 2, "blue"]], zero: true,
    series: [
      { label: "sigma", values: sigmas.map((s) => s.bps), colour: "blue", dots: true, decimals: 3 },
      { label: "low", values: sigmas.map(low), colour: "blue", width: 0.5, decimals: 3 },
      { label: "high", values: sigmas.map(high), colour: "blue", width: 0.5, decimals: 3 },
    ],
    none: "Not made, see below.",
  });

  const KINDS = [["both", "ink"], ["bids", "blue"], ["asks", "red"]];
  const fits = KINDS.map(([name, colour]) => ({ name, colour, found: fit(made.intensity[name]) })).filter((each) => each.found);
  const tables = fits.map(({ found }) => [
    found.points.map((p) => p.distance_bps), found.points.map((p) => p.per_s),
    found.points.map((p) => found.a_per_s * Math.exp(-found.k_per_bp * p.distance_bps))]);
  const joined = fits.length ? uPlot.join(tables) : [[]];
  Drawing.plot(at("intensity"), {
    title: "Arrivals", unit: "1/s for one order, by its distance from the mid; the lines are the fits", height: 260,
    tick: bps, of: "from the mid", x: joined[0], logarithmic: true,
    series: fits.flatMap(({ name, colour }, i) => [
      { label: `${name}, counted`, values: joined[2 * i + 1], colour, dots: true, width: 0, decimals: 5 },
      { label: `${name}, fitted`, values: joined[2 * i + 2], colour, span: true, decimals: 5 }]),
    none: "Not made, see below.",
  });

  const lengths = unique(made.windows.map((w) => w.window_s)), reached = unique(made.windows.map((w) => w.distance_bps));
  Drawing.plot(at("windows"), {
    title: "Reached on either side", unit: "% of windows", height: 200, log: true, tick: bps, of: "from the mid", x: reached, zero: true,
    series: lengths.map((length, i) => ({ label: `within ${length} s`, colour: COLOURS[i], dots: true, decimals: 2,
      values: reached.map((d) => 100 * made.windows.find((w) => w.window_s === length && w.distance_bps === d).either) })),
    none: "Not made, see below.",
  });

  const both = made.markouts.filter((m) => m.makers === "both"), horizons = unique(both.map((m) => m.horizon_s));
  const buckets = [...new Map(both.map((m) => [`${m.from_bps} ${m.to_bps}`, [m.from_bps, m.to_bps]])).values()];
  const named = ([from, to]) => (from == null && to == null ? "all" : from == null ? `below ${to} bps`
    : to == null ? `${from} bps and more` : `${from} to ${to} bps`);
  Drawing.plot(at("markouts"), {
    title: "Markouts of the average print", unit: "bps, before fees, by distance from F; bids and asks together", height: 260, log: true,
    tick: seconds, of: "after", x: horizons, zero: true,
    series: buckets.map(([from, to], i) => ({ label: named([from, to]), colour: COLOURS[i % COLOURS.length], dots: true,
      width: from == null && to == null ? 2.5 : 1.25, decimals: 2,
      values: horizons.map((h) => (both.find((m) => m.horizon_s === h && m.from_bps === from && m.to_bps === to) || {}).mean_bps ?? null) })),
    none: "Not made, see below.",
  });

  const distances = unique(made.beyond.map((b) => b.distance_bps));
  const row = (of, regime, d) => made.beyond.find((b) => b.of === of && b.regime === regime && b.distance_bps === d);
  const NAMES = { fair: "F", signal: "F with the signal" };
  const worth = (of, regime) => distances.map((d) => (row(of, regime, d) || {}).worth_bps ?? null);
  const kinds = [...new Set(made.beyond.map((b) => `${b.of} ${b.regime}`))].map((each) => each.split(" "));
  const main = kinds.find(([of, regime]) => regime === "all" && of === "signal") || ["fair", "all"];
  kinds.sort((a, b) => (b[1] === "all") - (a[1] === "all"));
  // A colour is a regime, a dashed line is from F alone.
  const REGIME = { all: "blue", neutral_low_vol: "sky", neutral_high_vol: "grey", up: "green", down: "pink", high_vol_shock: "orange" };
  const shown = kinds.map(([of, regime]) => ({ label: `${regime}, from ${NAMES[of]}`, values: worth(of, regime), colour: REGIME[regime],
    dash: of === "fair" ? [4, 4] : undefined, width: regime === "all" ? 2.5 : 1.25, decimals: 2, show: regime === "all" || of === main[0] }));
  Drawing.plot(at("beyond"), {
    title: "Worth after 5 s", unit: "bps, of an order at that distance; dashed: from F without the signal; the band is 95 % over all regimes", height: 280, log: true,
    tick: bps, of: "distance", x: distances, zero: true, bands: [[shown.length + 2, shown.length + 1, "blue"]],
    series: [...shown,
      { label: "low", values: distances.map((d) => low(row(main[0], "all", d))), colour: "blue", width: 0.5, decimals: 2 },
      { label: "high", values: distances.map((d) => high(row(main[0], "all", d))), colour: "blue", width: 0.5, decimals: 2 }],
    none: "Too few prints.",
  });

  const predicted = fit(made.signal), blocks = predicted ? predicted.blocks.map((b) => b.r2) : [];
  Drawing.plot(at("signal"), {
    title: "R2 out of sample", unit: "of each block of time, predicted by the others", height: 180, tick: (v) => (Number.isInteger(v) ? `block ${v}` : ""),
    of: "", x: blocks.map((_, i) => i + 1), zero: true,
    series: [{ label: "R2", values: blocks, colour: "blue", dots: true, decimals: 4 },
      { label: "all", values: blocks.map(() => predicted.r2_out), colour: "ink", dash: [4, 4], decimals: 4 }],
    none: "Not made, see below.",
  });
  document.documentElement.dataset.drawn = "yes";
})();
