// Makes xterm.js work under a content security policy that allows no inline style. xterm.js writes rules into style
// elements and colours into style attributes, and browsers would refuse both. This file puts the rules into constructed
// style sheets, and sets attributes through the object model. For that it replaces document.createElement of the page,
// because xterm.js does not use a document of its own everywhere.

let isStrict = false;

/**
 * Must be called before the first terminal is created. It changes only how `style` and `span` elements are created;
 * nothing else on the page creates them with document.createElement.
 */
export function makeDocumentStrict(): void {
  if (isStrict) return;
  isStrict = true;
  const create = document.createElement.bind(document);
  document.createElement = (name: string, options?: ElementCreationOptions): HTMLElement => {
    // The browser would refuse even an empty style element, so a template element takes its place.
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
