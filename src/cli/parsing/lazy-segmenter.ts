// Stands in for Intl.Segmenter in the bundle of the command line (scripts/build.mjs puts it there). Packages of yargs
// make three segmenters when they are loaded, at 9 ms each, and use them for the width of odd characters alone.

export class LazySegmenter {
  #segmenter: Intl.Segmenter | undefined;

  segment(text: string): Intl.Segments {
    this.#segmenter ??= new globalThis.Intl.Segmenter();
    return this.#segmenter.segment(text);
  }
}
