// Return what a reader would find wrong with the page or the picture that is shown, at its present width and scheme.
(colours) => {
  const wrong = [];
  const WHITE = [255, 255, 255];

  const colour = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return {rgb: [red, green, blue], alpha};
  };
  const over = ({rgb, alpha}, below) => below.map((each, index) => alpha * rgb[index] + (1 - alpha) * each);
  // As WCAG 2 defines both.
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = (rgb) => {
    const [red, green, blue] = rgb.map((each) => linear(each / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };

  // What is behind an element of a page: the background of the nearest one that has any.
  const backgrounds = new Map();
  const background = (element) => {
    if (element === null) return WHITE;
    if (!backgrounds.has(element)) {
      const own = colour(getComputedStyle(element).backgroundColor);
      backgrounds.set(element, own.alpha === 1 ? own.rgb : over(own, background(element.parentElement)));
    }
    return backgrounds.get(element);
  };
  // What is behind a text of a picture: the shapes in its middle, the topmost first, on white paper.
  const paper = (text) => {
    const box = text.getBoundingClientRect();
    const stack = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const shapes = stack.filter((each) => each.isPointInFill && getComputedStyle(each).fill !== "none");
    return shapes.reduceRight((below, shape) => {
      const {fill, fillOpacity, opacity} = getComputedStyle(shape);
      const own = colour(fill);
      return over({rgb: own.rgb, alpha: own.alpha * fillOpacity * opacity}, below);
    }, WHITE);
  };

  const excess = document.documentElement.scrollWidth - innerWidth;
  const picture = document.documentElement instanceof SVGSVGElement;
  if (!picture && excess > 0) wrong.push(`the page is ${excess} pixels wider than the window`);

  for (const image of document.images) {
    const box = image.getBoundingClientRect();
    if (!image.complete || !image.naturalWidth || !image.naturalHeight) wrong.push(`${image.src} is not loaded`);
    else if (box.width < 1 || box.height < 1) wrong.push(`${image.src} is not seen`);
  }

  if (!colours) return wrong;
  const seen = new Set();
  const texts = document.createTreeWalker(document.body ?? document.documentElement, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement;
    if (!text || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    if (picture && !(element instanceof SVGTextContentElement)) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const below = picture ? paper(element) : background(element);
    const has = contrast(over(colour(picture ? style.fill : style.color), below), below);
    const where = `${element.tagName}.${element.className} ${has}`;
    if (has < least && !seen.has(where)) {
      seen.add(where);
      wrong.push(`${JSON.stringify(text.slice(0, 40))} has a contrast of ${has.toFixed(2)}, not ${least}`);
    }
  }
  return wrong;
}
