/* Texts of the page whose contrast with what lies behind them is below WCAG's level AA; at least one must be seen. */
const channel = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const luminance = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const parse = (s) => s.match(/[\d.]+/g).map(Number);
const over = (a, b) => [0, 1, 2].map((i) => a[i] * (a[3] ?? 1) + b[i] * (1 - (a[3] ?? 1)));
const faint = [];
let seen = 0;
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  if (!e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  if (e.closest("mjx-container, svg")) continue; // in the colour of the text around, and drawn on white
  const layers = [];
  for (let p = e; p; p = p.parentElement) layers.unshift(parse(getComputedStyle(p).backgroundColor));
  const ground = layers.reduce((under, layer) => over(layer, under), [255, 255, 255]);
  const style = getComputedStyle(e);
  const [light, dark] = [luminance(over(parse(style.color), ground)), luminance(ground)].sort((a, b) => b - a);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const ratio = (light + 0.05) / (dark + 0.05);
  seen += 1;
  if (ratio < (large ? 3 : 4.5)) faint.push(`${e.className}: ${e.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
}
return seen ? faint : ["no text"];
