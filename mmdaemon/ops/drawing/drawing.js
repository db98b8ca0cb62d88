/* Panels over uPlot: lines, filled bands, stacked addends, fills as marks and ribbons, on one time axis that is zoomed
   and read together. Time is seconds UTC. Knows nothing of where the numbers come from, nor whether they go on coming:
   a panel that does is given the rest by its `renew`, and a group its time by `move`. */
"use strict";
var Drawing = (function () {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue("--" + name).trim();
  const alpha = (name, share) => {
    const hex = colour(name).slice(1);
    const [r, g, b] = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${share})`;
  };
  const tint = (name) => alpha(name, parseFloat(colour("fill")) + 0.25);
  const narrow = () => window.innerWidth < 620;
  const font = () => `${narrow() ? 10 : 11}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;
  const pad = (n, width) => String(n).padStart(width || 2, "0");
  const day = (d) => `${d.getUTCFullYear()}-${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())}`;
  const clock = (d) => `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}`;
  const moment = (s, fine) => {
    const d = new Date(Math.round(s * 1000));
    const ms = fine ? "." + pad(d.getUTCMilliseconds(), 3) : "";
    return `${day(d)} ${clock(d)}:${pad(d.getUTCSeconds())}${ms}`;
  };
  const lasting = (s) => {
    if (s < 60) return `${s.toFixed(1)} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  };
  const number = (v, decimals) =>
    v == null ? "" : v.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  const made = (tag, parent, name, text) => {
    const el = document.createElement(tag);
    if (name) el.className = name;
    if (text) el.textContent = text;
    parent.appendChild(el);
    return el;
  };

  /* As many decimals as the distance between ticks needs. */
  const ticks = (u, splits, axis, space, step) => {
    let decimals = 0;
    while (decimals < 8 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals += 1;
    return splits.map((v) => (v == null ? "" : number(v, decimals)));
  };
  const times = (u, splits, axis, space, step) => {
    let before = "";
    return splits.map((s) => {
      const d = new Date(Math.round(s * 1000));
      const today = day(d).slice(5);
      const text = step >= 86400 ? today : step >= 60 ? clock(d) : step >= 1
        ? `${clock(d)}:${pad(d.getUTCSeconds())}` : `${pad(d.getUTCSeconds())}.${pad(d.getUTCMilliseconds(), 3)}`;
      const dated = step < 86400 && today !== before ? `${text}\n${today}` : text;
      before = today;
      return dated;
    });
  };
  const STEPS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 14400,
    21600, 43200, 86400, 172800, 345600, 604800, 1209600, 2419200, 7257600];
  const axes = (x) => {
    const line = () => colour("rule");
    const common = { stroke: () => colour("soft"), font: font(), ticks: { show: false } };
    return [
      { ...common, ...x, grid: { stroke: line, width: 1 } },
      { ...common, size: narrow() ? 54 : 72, gap: 6, space: 30, values: ticks, grid: { stroke: line, width: 1 } },
    ];
  };
  const TIME = { values: times, incrs: STEPS, size: 38, gap: 5, space: () => (narrow() ? 62 : 86) };

  function tip(panel) {
    const el = made("div", panel, "tip");
    el.hidden = true;
    return {
      at(u, left, top, text) {
        el.textContent = text;
        el.hidden = false;
        const box = u.over.getBoundingClientRect(), own = panel.getBoundingClientRect();
        const x = box.left - own.left + left, y = box.top - own.top + top;
        el.style.left = Math.max(0, Math.min(x + 14, own.width - el.offsetWidth - 4)) + "px";
        el.style.top = (y + 18 + el.offsetHeight > own.height && y > el.offsetHeight + 10
          ? y - el.offsetHeight - 10 : y + 16) + "px";
      },
      off() { el.hidden = true; },
    };
  }

  /* Addends stacked upwards where positive and downwards where negative, so that both heights less one another are the
     total. Returns [lower, upper] boundaries for each. */
  function stacked(columns) {
    const n = columns.length ? columns[0].length : 0;
    const up = new Float64Array(n), down = new Float64Array(n);
    return columns.map((column) => {
      const bounds = { up0: up.slice(), up1: null, down0: down.slice(), down1: null };
      for (let i = 0; i < n; i++) {
        const v = column[i] || 0;
        if (v > 0) up[i] += v; else down[i] += v;
      }
      bounds.up1 = up.slice();
      bounds.down1 = down.slice();
      return bounds;
    });
  }
  /* What is held until it ends is drawn up to its end: before a value that becomes null, the last one once more.
     (null is a hole; undefined is no news.) */
  function closed(spec) {
    const steps = spec.series.filter((s) => s.step);
    const ends = new Set(), held = new Map();
    for (const s of steps) {
      let last = null;
      const own = s.values.map((v, i) => {
        const before = last;
        if (v === null && last !== null) ends.add(i);
        if (v !== undefined) last = v;
        return before;
      });
      held.set(s, own);
    }
    if (!ends.size) return spec;
    const wider = (values, extra) => values.flatMap((v, i) => (ends.has(i) ? [extra(i), v] : [v]));
    return {
      ...spec, t: wider(spec.t, (i) => spec.t[i] - 2e-6),
      shades: spec.shades && { ...spec.shades, states: wider(spec.shades.states, (i) => spec.shades.states[i - 1]) },
      series: spec.series.map((s) => ({ ...s, values: wider(s.values, (i) => (s.step ? held.get(s)[i] : undefined)) })),
    };
  }
  const area = (found, stepped) => (u, sidx, i0, i1) => {
    const fill = new Path2D(), x = u.data[0], bounds = found();
    const px = (i) => u.valToPos(x[i], "x", true), py = (v) => u.valToPos(v, "y", true);
    for (const [low, high] of [[bounds.up0, bounds.up1], [bounds.down1, bounds.down0]]) {
      fill.moveTo(px(i0), py(high[i0]));
      for (let i = i0 + 1; i <= i1; i++) {
        if (stepped) fill.lineTo(px(i), py(high[i - 1]));
        fill.lineTo(px(i), py(high[i]));
      }
      for (let i = i1; i >= i0; i--) {
        fill.lineTo(px(i), py(low[i]));
        if (stepped && i > i0) fill.lineTo(px(i), py(low[i - 1]));
      }
      fill.closePath();
    }
    return { stroke: null, fill, clip: null, band: null, gaps: null, flags: 1 };
  };

  const HOVER = new Set(["mousemove", "mouseleave", "mouseenter"]);

  const framed = (parent, title) => {
    const panel = made("div", parent, "panel");
    panel.setAttribute("role", "figure");
    panel.setAttribute("aria-label", title);
    return panel;
  };

  /* Panels that share one axis of time. */
  function group(from, to, told) {
    const panels = [];
    let busy = false, now = [from, to];
    const key = uPlot.sync("time" + from + Math.random());
    const all = () => set(from, to);
    function set(min, max) {
      now = [Math.max(from, min), Math.min(to, max)];
      busy = true;
      for (const u of panels) u.setScale("x", { min: now[0], max: now[1] });
      busy = false;
      if (told) told(now[0], now[1]);
    }
    /* Time went on. Who looks at the whole of it goes with it; who has zoomed stays. */
    function move(first, last) {
      const whole = now[0] === from && now[1] === to, before = now;
      from = first;
      to = last;
      if (whole) set(from, to); else set(before[0], before[1]);
    }
    const x = { time: true, auto: false, min: from, max: to, range: (u, min, max) => [min == null ? from : min, max == null ? to : max] };
    const base = (el, height, more) => ({
      width: Math.max(240, el.clientWidth), height, padding: [8, 20, 0, 0], ...more,
      cursor: { sync: { key: key.key, setSeries: false, scales: ["x", null], filters: { pub: (type) => HOVER.has(type) } }, drag: { x: true, y: false, setScale: true },
        points: { size: 6 }, bind: { dblclick: () => () => { all(); return null; } }, ...(more.cursor || {}) },
      legend: more.legend || { markers: { width: 0 } },
      hooks: { ...(more.hooks || {}), setScale: [(u, name) => {
        if (name === "x" && !busy && u.scales.x.min != null && (u.scales.x.min !== now[0] || u.scales.x.max !== now[1]))
          set(u.scales.x.min, u.scales.x.max);
      }] },
    });
    function add(u, el, names) {
      panels.push(u);
      keep(u, el, names);
      u.setScale("x", { min: now[0], max: now[1] });
      return u;
    }

    /* spec: {title, unit, height, t, series: [{label, values, colour, width, dash, step, fill, decimals, area, within}],
       bands: [[upper, lower, colour]], stack: true, marks: {t, y, side, text(i)}, zero: true,
       shades: {states, colours, lower, upper, middle}}: a state a moment, its colour between two series (by number),
       from the middle one where one of them is missing, and all over where both are. `renew` takes the parts of a spec that are new: t, the values of each series, marks,
       states. */
    function lines(parent, spec) {
      const panel = framed(parent, spec.title);
      const title = made("h3", panel, "", spec.title);
      made("small", title, "", spec.unit + (spec.more ? "; " + spec.more : ""));
      if (!spec.t.length && !(spec.marks && spec.marks.t.length)) {
        made("p", panel, "empty", spec.none || "Nothing in the journal.");
        return null;
      }
      const original = spec;
      let addends, bounds;
      const take = (given) => {
        spec = closed(given);
        addends = spec.stack ? spec.series.filter((s) => s.area) : [];
        bounds = stacked(addends.map((s) => s.values));
      };
      take(spec);
      const series = [{ label: "UTC", value: (u, s) => (s == null ? "" : moment(s)) }];
      for (const s of spec.series) {
        const place = addends.indexOf(s), stack = place >= 0;
        const paths = stack ? area(() => bounds[place], s.step) : s.step ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
        series.push({
          label: s.label, paths, scale: "y", spanGaps: !!s.span, show: s.show !== false,
          width: stack ? 0 : s.width || 1.25, dash: s.dash, points: { show: !!s.dots, size: 4, fill: () => colour(s.colour), stroke: () => colour(s.colour) },
          stroke: () => (s.width === 0 ? "transparent" : colour(s.colour)),
          fill: stack ? () => tint(s.colour) : s.fill ? () => alpha(s.colour, parseFloat(colour("fill"))) : undefined,
          fillTo: s.fill ? () => 0 : undefined,
          value: (u, v) => (v == null ? "" : number(v, s.decimals)),
        });
      }
      const hint = tip(panel);
      const height = (u, min, max) => {
        const marks = spec.marks;
        // While scales are set, the new range of time is known by its first and last row alone.
        const t = u.data[0], [i0, i1] = u.series[0].idxs.map((i) => i || 0);
        const first = Math.max(0, i0 - 1), final = Math.min(t.length - 1, i1 + 1);
        if (addends.length) {
          const last = bounds[bounds.length - 1];
          min = max = 0;
          for (let i = first; i <= final; i++) {
            max = Math.max(max, last.up1[i]);
            min = Math.min(min, last.down1[i]);
            spec.series.forEach((each, k) => { if (each.within && u.series[k + 1].show) max = Math.max(max, each.values[i] || 0); });
          }
        }
        const x0 = t[i0], x1 = t[i1];
        if (marks) for (let i = 0; i < marks.t.length; i++) if (marks.t[i] >= x0 && marks.t[i] <= x1) {
          min = min == null ? marks.y[i] : Math.min(min, marks.y[i]);
          max = max == null ? marks.y[i] : Math.max(max, marks.y[i]);
        }
        if (min == null) return [0, 1];
        if (spec.zero) { min = Math.min(0, min); max = Math.max(0, max); if (min === max) return [0, 1]; }
        if (spec.range) return spec.range;
        const room = (max - min || Math.abs(max) || 1) * 0.06;
        return [spec.zero && min === 0 ? 0 : min - room, spec.zero && max === 0 ? 0 : max + room];
      };
      const hooks = {
        drawClear: [(u) => { if (spec.shades) drawStates(u, spec); }],
        draw: [(u) => { if (spec.marks) drawMarks(u, spec.marks); }],
        setCursor: [(u) => {
          const marks = spec.marks;
          if (!marks || !u.over.matches(":hover")) return hint.off();
          const i = nearest(u, marks);
          if (i < 0) return hint.off();
          hint.at(u, u.valToPos(marks.t[i], "x"), u.valToPos(marks.y[i], "y"), marks.text(i));
        }],
      };
      const data = () => [spec.t.length ? spec.t : [from, to], ...spec.series.map((s) => (spec.t.length ? s.values : [null, null]))];
      const u = new uPlot(base(panel, spec.height, {
        series, axes: axes(TIME), scales: { x, y: { range: height } }, hooks,
        bands: (spec.bands || []).map(([upper, lower, name]) => ({ series: [upper, lower], fill: () => alpha(name, parseFloat(colour("band"))) })),
      }), data(), panel);
      u.renew = (part) => {
        take({ ...original, ...part, series: original.series.map((s, i) => ({ ...s, values: part.values[i] })),
          shades: part.states && { ...original.shades, states: part.states } });
        u.setData(data());
      };
      return add(u, panel, spec.series.map((s) => s.colour));
    }

    /* spec: {title, rows: [{label, spans: [{from, to, state, text, shares, grave}], colours: {state: name}}]}. Where
       several states share a pixel, heights are their shares of its time; what is grave has a quarter at least. */
    function ribbons(parent, spec) {
      const panel = framed(parent, spec.title);
      made("h3", panel, "", spec.title);
      const states = (row) => [...new Set(row.spans.flatMap((s) => (s.shares ? Object.keys(s.shares) : [s.state])))];
      const keys = spec.rows.map(() => made("p", panel, "key"));
      function name(row, key) {
        key.textContent = row.spans.length ? `${row.label}: ` : `${row.label}: unknown`;
        for (const state of states(row)) {
          const item = made("span", key, "", "");
          const swatch = made("i", item);
          swatch.dataset.colour = row.colours[state] || "grey";
          item.append(state.replace(/_/g, " "));
        }
      }
      spec.rows.forEach((row, i) => name(row, keys[i]));
      const swatches = () => panel.querySelectorAll(".key i").forEach((i) => { i.style.background = tint(i.dataset.colour); });
      swatches();
      const hint = tip(panel), n = spec.rows.length;
      const found = (u) => {
        const t = u.posToVal(u.cursor.left, "x"), row = spec.rows[n - 1 - Math.floor(u.posToVal(u.cursor.top, "y"))];
        return row && row.spans.find((s) => s.from <= t && t < s.to);
      };
      const hooks = {
        draw: [(u) => {
          const ctx = u.ctx, ratio = devicePixelRatio || 1;
          swatches();
          ctx.save();
          ctx.beginPath();
          ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
          ctx.clip();
          ctx.font = font().replace(/(\d+)px/, (_, size) => `${size * ratio}px`);
          ctx.textBaseline = "middle";
          ctx.textAlign = "left";
          spec.rows.forEach((row, r) => {
            const y0 = u.valToPos(n - r - 0.14, "y", true), y1 = u.valToPos(n - r - 0.86, "y", true);
            drawShares(u, row, y0, y1);
            ctx.fillStyle = colour("ink");
            for (const s of row.spans) {
              if (s.shares || s.to < u.scales.x.min || s.from > u.scales.x.max) continue;
              const left = Math.max(u.valToPos(s.from, "x", true), u.bbox.left);
              const right = Math.min(u.valToPos(s.to, "x", true), u.bbox.left + u.bbox.width);
              const text = s.state.replace(/_/g, " ");
              if (right - left > ctx.measureText(text).width + 14 * ratio) ctx.fillText(text, left + 6 * ratio, (y0 + y1) / 2);
            }
          });
          ctx.restore();
        }],
        setCursor: [(u) => {
          const s = u.over.matches(":hover") && found(u);
          if (!s) return hint.off();
          hint.at(u, u.cursor.left, u.cursor.top, s.text);
        }],
      };
      const [bottom, left] = axes(TIME);
      const u = new uPlot(base(panel, 34 * n + 46, {
        series: [{}, { show: false }], legend: { show: false }, hooks,
        scales: { x, y: { range: [0, n] } },
        axes: [bottom, { ...left, grid: { show: false }, splits: () => spec.rows.map((_, r) => n - r - 0.5),
          values: () => spec.rows.map((row) => row.label) }],
        cursor: { points: { show: false } },
      }), [[from, to], [null, null]], panel);
      u.renew = (spans) => {
        spec.rows.forEach((row, i) => {
          const before = String(states(row));
          row.spans = spans[i];
          if (String(states(row)) !== before) name(row, keys[i]);
        });
        u.setData([[from, to], [null, null]]);
      };
      return add(u, panel, []);
    }
    return { lines, ribbons, set, all, move, panels };
  }

  function drawShares(u, row, y0, y1) {
    const ctx = u.ctx, { min, max } = u.scales.x, wide = Math.max(1, Math.round(u.bbox.width)), each = (max - min) / wide;
    const columns = Array.from({ length: wide }, () => null);
    for (const s of row.spans) {
      if (s.to <= min || s.from >= max) continue;
      const first = Math.max(0, Math.floor((s.from - min) / each)), last = Math.min(wide - 1, Math.floor((s.to - min) / each));
      for (let i = first; i <= last; i++) {
        const time = Math.min(s.to, min + (i + 1) * each) - Math.max(s.from, min + i * each);
        if (time <= 0) continue;
        const column = columns[i] || (columns[i] = {});
        for (const [state, share] of s.shares ? Object.entries(s.shares) : [[s.state, 1]])
          column[state] = (column[state] || 0) + time * share;
      }
    }
    const grave = row.grave || [], height = y1 - y0, last = [];
    for (let i = 0; i < wide; i++) {
      const column = columns[i];
      if (!column) continue;
      const states = Object.keys(column).sort((a, b) => grave.indexOf(b) - grave.indexOf(a));
      const whole = states.reduce((sum, state) => sum + column[state], 0);
      const least = states.map((state) => Math.max(column[state] / whole, states.length > 1 && grave.includes(state) ? 0.25 : 0));
      const scale = 1 / least.reduce((sum, share) => sum + share, 0);
      let y = y0;
      states.forEach((state, k) => {
        const part = least[k] * scale * height;
        const name = row.colours[state] || "grey";
        if (grave.includes(state)) last.push([i, y, part, name]);
        else {
          ctx.fillStyle = tint(name);
          ctx.fillRect(u.bbox.left + i, y, 1, part);
        }
        y += part;
      });
    }
    const thick = Math.max(2, Math.round(1.5 * (devicePixelRatio || 1)));
    for (const [i, y, part, name] of last) {
      ctx.fillStyle = colour(name);
      ctx.fillRect(u.bbox.left + i, y, thick, part);
    }
  }
  function drawStates(u, spec) {
    const { states, colours, lower, upper, middle } = spec.shades, ctx = u.ctx, t = u.data[0];
    const low = u.data[lower + 1], high = u.data[upper + 1], mid = u.data[middle + 1], { min, max } = u.scales.x;
    const px = (v) => u.valToPos(v, "x", true), py = (v) => u.valToPos(v, "y", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    for (let i = 0; i < t.length; i++) {
      const until = i + 1 < t.length ? t[i + 1] : t[i] + 1;
      if (until < min || t[i] > max || !states[i]) continue;
      const quoted = low[i] != null || high[i] != null, left = px(t[i]), wide = Math.min(px(until), px(t[i] + 5)) - left;
      const [from, to] = [high[i] ?? mid[i] ?? low[i], low[i] ?? mid[i] ?? high[i]];
      const top = quoted ? py(from) : u.bbox.top, bottom = quoted ? py(to) : u.bbox.top + u.bbox.height;
      ctx.fillStyle = alpha(colours[states[i]] || "grey", parseFloat(colour("band")) * (quoted ? 1.5 : 0.8));
      ctx.fillRect(left, top, wide, bottom - top);
    }
    ctx.restore();
  }
  function drawMarks(u, marks) {
    const ctx = u.ctx, ratio = devicePixelRatio || 1, size = (narrow() ? 3.2 : 3.8) * ratio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.lineWidth = 0.75 * ratio;
    ctx.strokeStyle = colour("card");
    for (const side of [1, -1]) {
      ctx.fillStyle = colour(side > 0 ? "blue" : "red");
      const path = new Path2D();
      for (let i = 0; i < marks.t.length; i++) {
        if (marks.side[i] !== side || marks.t[i] < u.scales.x.min || marks.t[i] > u.scales.x.max) continue;
        const x = u.valToPos(marks.t[i], "x", true), y = u.valToPos(marks.y[i], "y", true);
        path.moveTo(x - size, y + side * size * 0.8);
        path.lineTo(x + size, y + side * size * 0.8);
        path.lineTo(x, y - side * size);
        path.closePath();
      }
      ctx.fill(path);
      ctx.stroke(path);
    }
    ctx.restore();
  }
  function nearest(u, marks) {
    let best = -1, least = 12 * 12;
    for (let i = 0; i < marks.t.length; i++) {
      if (marks.t[i] < u.scales.x.min || marks.t[i] > u.scales.x.max) continue;
      const dx = u.valToPos(marks.t[i], "x") - u.cursor.left;
      if (dx * dx > least) continue;
      const dy = u.valToPos(marks.y[i], "y") - u.cursor.top;
      if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = i; }
    }
    return best;
  }

  /* Shares within a time, on a logarithmic axis of its own. spec: {title, unit, height, x, series: [...]} */
  function curves(parent, spec) {
    const panel = framed(parent, spec.title);
    const title = made("h3", panel, "", spec.title);
    made("small", title, "", spec.unit);
    if (!spec.x.length) { made("p", panel, "empty", spec.none || "Nothing in the journal."); return null; }
    const [x, y] = axes({ size: 34, gap: 5, space: 40, values: (u, splits) => splits.map((v) => {
      const power = v == null ? 0.5 : Math.log10(v);
      return Math.abs(power - Math.round(power)) < 1e-6 ? (v < 1000 ? `${v} ms` : `${v / 1000} s`) : null;
    }) });
    const u = new uPlot({
      width: Math.max(240, panel.clientWidth), height: spec.height, padding: [8, 26, 0, 0],
      series: [{ label: "within", value: (u, v) => (v == null ? "" : v < 1000 ? `${v.toPrecision(3)} ms` : `${(v / 1000).toPrecision(3)} s`) },
        ...spec.series.map((s) => ({ label: s.label, width: 1.5, dash: s.dash, stroke: () => colour(s.colour),
          paths: uPlot.paths.stepped({ align: 1 }), points: { show: false }, spanGaps: !!s.span,
          value: (u, v) => (v == null ? "" : `${number(100 * v, 1)} %`) }))],
      axes: [x, { ...y, values: (u, splits) => splits.map((v) => `${Math.round(100 * v)} %`) }],
      scales: { x: { time: false, distr: 3 }, y: { range: [0, 1.02] } },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } }, legend: { markers: { width: 0 } },
    }, [spec.x, ...spec.series.map((s) => s.values)], panel);
    panel.classList.add("curves");
    keep(u, panel, spec.series.map((s) => s.colour));
    return u;
  }

  /* Lines and points over any quantity, on an axis of its own. spec: {title, unit, height, x, of, tick(v), log, logarithmic
     (the y axis), zero, series: [{label, values, colour, dash, width, dots, span, show, decimals}], bands: [[upper, lower, colour]]} */
  function plot(parent, spec) {
    const panel = framed(parent, spec.title);
    made("small", made("h3", panel, "", spec.title), "", spec.unit);
    if (!spec.x.length) { made("p", panel, "empty", spec.none || "There is nothing to draw."); return null; }
    const [x, y] = axes({ size: 34, gap: 5, space: 56, values: (u, splits) => splits.map((v) => (v == null ? null : spec.tick(v))) });
    const values = (u, splits) => splits.map((v) => (v == null ? null : String(Number(v.toPrecision(3)))));
    const range = (u, min, max) => {
      if (min == null) return [0, 1];
      if (spec.zero) { min = Math.min(0, min); max = Math.max(0, max); if (min === max) return [0, 1]; }
      const room = (max - min || Math.abs(max) || 1) * 0.06;
      return [spec.zero && min === 0 ? 0 : min - room, spec.zero && max === 0 ? 0 : max + room];
    };
    const u = new uPlot({
      width: Math.max(240, panel.clientWidth), height: spec.height, padding: [8, 26, 0, 0],
      series: [{ label: spec.of, value: (u, v) => (v == null ? "" : spec.tick(Number(v.toPrecision(4)))) },
        ...spec.series.map((s) => ({ label: s.label, width: s.width === 0 ? 0 : s.width || 1.25, dash: s.dash, spanGaps: !!s.span, show: s.show !== false,
          stroke: () => (s.width === 0 ? "transparent" : colour(s.colour)),
          points: { show: !!s.dots, size: 5, fill: () => colour(s.colour), stroke: () => colour(s.colour) },
          value: (u, v) => (v == null ? "" : number(v, s.decimals)) }))],
      axes: [x, spec.logarithmic ? { ...y, values } : y],
      bands: (spec.bands || []).map(([upper, lower, name]) => ({ series: [upper, lower], fill: () => alpha(name, parseFloat(colour("band"))) })),
      scales: { x: { time: false, distr: spec.log ? 3 : 1 }, y: spec.logarithmic ? { distr: 3 } : { range } },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } }, legend: { markers: { width: 0 } },
    }, [spec.x, ...spec.series.map((s) => s.values)], panel);
    panel.classList.add("curves");
    keep(u, panel, spec.series.map((s) => s.colour));
    return u;
  }

  /* Everything is drawn anew when the width, the theme or the medium changes. */
  const kept = [];
  const redraw = () => kept.forEach(({ u, names }) => { swatch(u, names); u.redraw(false, true); });
  function swatch(u, names) {
    u.root.querySelectorAll(".u-series .u-marker").forEach((el, i) => {
      if (i && names[i - 1]) el.style.background = colour(names[i - 1]);
    });
  }
  function keep(u, el, names) {
    kept.push({ u, el, names });
    swatch(u, names);
  }
  const fit = () => kept.forEach(({ u, el }) => {
    const width = Math.max(240, el.clientWidth);
    if (Math.abs(width - u.width) > 1) u.setSize({ width, height: u.height });
  });
  new ResizeObserver(() => fit()).observe(document.documentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  const paper = (on) => { document.documentElement.classList.toggle("paper", on); fit(); redraw(); };
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));

  /* `charts` has every panel's uPlot, in order, for whoever wants to look at what is drawn. */
  return { group, curves, plot, moment, lasting, number, colour, charts: kept };
})();
