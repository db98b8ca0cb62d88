/* What is named and coloured alike on every page: states, addends, sides. */
"use strict";
var Names = {
  GUARD: { running: "green", reducing: "sky", soft_pause: "orange", hard_stop: "red", reconciling: "pink", starting: "grey", stopping: "grey" },
  GRAVE: ["reconciling", "reducing", "soft_pause", "hard_stop"],
  REGIME: { neutral_low_vol: "sky", neutral_high_vol: "blue", up: "green", down: "pink", high_vol_shock: "orange" },
  PNL: { spread: ["spread captured", "blue"], impact: ["impact", "red"], inventory: ["inventory", "orange"],
    fees: ["fees", "grey"], funding: ["funding", "pink"], transfers: ["transfers", "sand"] },
  EDGE: { min_edge: ["minimum", "blue"], maker_fee: ["maker fee", "grey"], exit: ["exit", "sky"],
    adverse: ["adverse selection", "red"], carry: ["carry", "pink"], turnover: ["turnover", "sand"] },
  SIDE: { buy: ["buys", "blue", "sky"], sell: ["sells", "red", "pink"] },
};
