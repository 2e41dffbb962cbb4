// Replaces Intl.Segmenter in the bundle of the command line (scripts/build.mjs does that). Packages of yargs create
// three segmenters when they are loaded. Each takes 9 ms, and is used only for the width of unusual characters.

export class LazySegmenter {
  #segmenter: Intl.Segmenter | undefined;

  segment(text: string): Intl.Segments {
    this.#segmenter ??= new globalThis.Intl.Segmenter();
    return this.#segmenter.segment(text);
  }
}
