// The front page's figure: sliders for regularisation and noise move clouds and curves together.
(() => {
  const canvas = document.getElementById("explorer");
  if (!canvas || typeof EXPLORED === "undefined") return;
  const context = canvas.getContext("2d");
  const reg = document.getElementById("explorer-reg");
  const std = document.getElementById("explorer-std");
  const unpack = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return Float32Array.from(new Int16Array(bytes.buffer), (v) => v / EXPLORED.unit);
  };
  const raw = unpack(EXPLORED.raw);
  const reports = EXPLORED.reports.map(unpack);
  const clouds = EXPLORED.runs.map((row) => row.map((run) => unpack(run.points)));
  const theme = () => document.documentElement.dataset.theme === "dark"
    ? { ink: "#eeeeee", paper: "#121212", soft: "#777777", blue: "#56b4e9", orange: "#e69f00" }
    : { ink: "#000000", paper: "#ffffff", soft: "#999999", blue: "#0072b2", orange: "#d55e00" };

  // Two trainings' points are paired by angle, so that each travels a short way.
  const byAngle = (cloud) => {
    const order = [...Array(cloud.length / 2).keys()];
    const angle = (k) => Math.atan2(cloud[2 * k + 1], cloud[2 * k]);
    order.sort((a, b) => angle(a) - angle(b));
    return order.flatMap((k) => [cloud[2 * k], cloud[2 * k + 1]]);
  };
  const sorted = clouds.map((row) => row.map(byAngle));
  const between = (row, at) => {
    const low = Math.min(Math.floor(at), row.length - 2);
    const part = at - low;
    return row[low].map((value, k) => value + part * (row[low + 1][k] - value));
  };
  const curve = (level, key, at) => {
    const row = EXPLORED.runs[level].map((run) => run[key]);
    const low = Math.min(Math.floor(at), row.length - 2);
    return row[low] + (at - low) * (row[low + 1] - row[low]);
  };

  const side = 400;
  const place = (v) => side / 2 + (v * side) / 4.4 + 10;
  const dots = (cloud, colour, size) => {
    context.fillStyle = colour;
    for (let k = 0; k < cloud.length; k += 2) {
      context.fillRect(place(cloud[k]) - size / 2, place(-cloud[k + 1]) - size / 2, size, size);
    }
  };
  const graph = (level, at, key, words, top, colour, ink) => {
    const [left, width, height] = [500, 350, 150];
    const values = EXPLORED.runs[level].map((run) => run[key]);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const x = (k) => left + (k * width) / (values.length - 1);
    const y = (v) => top + height - ((v - least) / (most - least || 1)) * height;
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    values.forEach((v, k) => (k ? context.lineTo(x(k), y(v)) : context.moveTo(x(k), y(v))));
    context.stroke();
    values.forEach((v, k) => context.fillRect(x(k) - 3, y(v) - 3, 6, 6));
    context.beginPath();
    context.arc(x(at), y(curve(level, key, at)), 8, 0, 2 * Math.PI);
    context.stroke();
    context.fillStyle = ink;
    context.fillText(`${words}: ${curve(level, key, at).toFixed(3)}`, left, top - 8);
    EXPLORED.times.forEach((t, k) => {
      if (k % 3 === 0) context.fillText(String(t), x(k) - 8, top + height + 20);
    });
  };
  const draw = () => {
    const colours = theme();
    const level = Number(std.value);
    const at = (Number(reg.value) / 600) * (EXPLORED.times.length - 1);
    const times = EXPLORED.times[0] * (EXPLORED.times[1] / EXPLORED.times[0]) ** at;
    document.getElementById("explorer-reg-says").textContent = times.toFixed(2);
    document.getElementById("explorer-std-says").textContent = String(EXPLORED.stds[level]);
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.font = "16px sans-serif";
    dots(reports[level], colours.soft, 3);
    dots(raw, colours.ink, 2);
    dots(between(sorted[level], at), colours.blue, 4);
    graph(level, at, "w2", "W2 to raw points", 40, colours.blue, colours.ink);
    graph(level, at, "nll", "negative log-likelihood of other reports", 250, colours.orange, colours.ink);
    canvas.dataset.drawn = `${level} ${at.toFixed(3)}`; // what a test looks at
  };
  reg.addEventListener("input", draw);
  std.addEventListener("input", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributes: true });
  draw();
})();
