// Lets TypeScript accept imports of style sheets. The build puts style sheets into files of their own.
// Such an import has no value that code could use.
declare module '*.css';
