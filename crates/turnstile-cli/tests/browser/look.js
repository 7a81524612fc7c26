// What is wrong with the page as it is laid out now: places, sizes, colours, and what a screen reader would find.
(() => {
  const faults = [];
  const box = (element) => element.getBoundingClientRect();
  const overlap = (a, b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const within = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
  const pairs = (all, found) => {
    const boxes = all.map(box);
    boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b, j) => overlap(a, b) && found(all[i], all[i + 1 + j])));
  };
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const brightness = (colour) => {
    const [r, g, b] = rgb(colour).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (rgb(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = (a, b) => {
    const [low, high] = [brightness(a), brightness(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };

  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`it is ${root.scrollWidth} wide where ${root.clientWidth} are to be had`);

  const figures = [...document.querySelectorAll("figure")];
  if (figures.length === 0) faults.push("it has no charts");
  pairs(figures, (a, b) => faults.push(`charts overlap: ${a.innerText} and ${b.innerText}`));
  for (const figure of figures) {
    const svg = figure.querySelector("svg");
    const name = svg?.getAttribute("aria-labelledby");
    const title = name && document.getElementById(name)?.textContent;
    const seen = svg && document.getElementById(svg.getAttribute("aria-describedby"))?.textContent;
    if (!title || !seen || svg.getAttribute("role") !== "img") {
      faults.push(`a chart has no text in its stead: ${figure.innerText}`);
      continue;
    }
    const plot = box(svg);
    if (plot.width < 150 || plot.height < 20) faults.push(`${title}: a plot of ${plot.width} × ${plot.height}`);
    const shapes = [...svg.querySelectorAll("rect, line.line")];
    if (!shapes.some((shape) => box(shape).width > 0 && box(shape).height > 0)) faults.push(`${title}: an empty plot`);
    if (!shapes.every((shape) => within(box(shape), plot))) faults.push(`${title}: a shape is outside of the plot`);
    const texts = [...svg.querySelectorAll("text")];
    for (const text of texts) {
      if (!within(box(text), box(figure))) faults.push(`${title}: ${text.textContent} is outside of the chart`);
      if (box(text).height < 10) faults.push(`${title}: ${text.textContent} is too small to be read`);
    }
    pairs(texts, (a, b) => faults.push(`${title}: ${a.textContent} and ${b.textContent} overlap`));
  }

  for (const element of document.querySelectorAll("body *")) {
    const told = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!told || element.closest("title, desc, style")) continue;
    const style = getComputedStyle(element);
    const inBar = element.classList.contains("in");
    const behind = inBar ? getComputedStyle(element.previousElementSibling).fill : ground(element);
    const ratio = contrast(element.closest("svg") ? style.fill : style.color, behind);
    if (ratio < 4.5) faults.push(`the contrast of "${element.textContent}" is ${ratio.toFixed(1)}`);
  }
  return { faults, width: innerWidth, ground: ground(document.body) };
})()
