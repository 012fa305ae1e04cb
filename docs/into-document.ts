/** The part between two marks of a document, made anew. */
export function intoDocument(document: string, name: string, text: string): string {
  const [from, to] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const start = document.indexOf(from);
  const end = document.indexOf(to);
  if (start < 0 || end < start) throw new Error(`the document has no ${from} ... ${to}`);
  return `${document.slice(0, start + from.length)}\n${text}\n${document.slice(end)}`;
}
