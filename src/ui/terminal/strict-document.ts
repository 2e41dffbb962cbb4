// Makes xterm.js work under a policy that allows no inline style. It writes its rules into style elements, and colours
// into style attributes; both would be refused. Here the rules go into constructed style sheets, and the attributes
// through the object model. It asks now the document that it is given, now the page's own, so it is the page's own
// whose way of making elements is changed.

let isStrict = false;

/**
 * Called before the first terminal is made; only `style` and `span`, which nothing else makes in this way, are other
 * than before.
 */
export function makeDocumentStrict(): void {
  if (isStrict) return;
  isStrict = true;
  const create = document.createElement.bind(document);
  document.createElement = (name: string, options?: ElementCreationOptions): HTMLElement => {
    // Even an empty style element would be refused; this stands for it.
    if (name === 'style') return routeRules(create('template'));
    const element = create(name, options);
    return name === 'span' ? routeStyleAttribute(element) : element;
  };
}

function routeRules(element: HTMLElement): HTMLElement {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, 'textContent', {
    set: (text: string) => {
      sheet.replaceSync(text);
    },
  });
  const remove = element.remove.bind(element);
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => each !== sheet);
    remove();
  };
  return element;
}

function routeStyleAttribute(element: HTMLElement): HTMLElement {
  const setAttribute = element.setAttribute.bind(element);
  element.setAttribute = (name, value) => {
    if (name === 'style') element.style.cssText = value;
    else setAttribute(name, value);
  };
  return element;
}
