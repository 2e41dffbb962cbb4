// Style sheets are imported for their effect alone: the build puts them into files of their own.
// Nothing of them is seen by the code.
declare module '*.css';
