// What the editor offers while somebody types: names with their sentences, and event types between quotes.
import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import type { Words } from "./words";

const WORD = /[A-Za-z_]\w*$/;
const QUALIFIED = /([A-Za-z_]\w*)\.(\w*)$/;
/** A string that is being written and is compared with `event_type`. */
const EVENT_TYPE = /event_type\s*(?:=|<>|!=|(?:NOT\s+)?IN\s*\((?:[^()]*,)?)\s*'([^']*)$/i;
const IN_STRING = /^(?:[^']|'[^']*')*'[^']*$/;

/** Tables, and the columns of all of them; a column that several have is told once. */
export function names(words: Words): Completion[] {
  const tables = words.tables.map((table) => ({ label: table.name, type: "class", info: table.sentence, boost: 2 }));
  const columns = new Map<string, Completion>();
  for (const table of words.tables) {
    for (const column of table.columns) {
      const known = columns.get(column.name);
      if (known) known.detail += `, ${table.name}`;
      else
        columns.set(column.name, {
          label: column.name,
          type: "property",
          detail: table.name,
          info: column.sentence,
          boost: 1,
        });
    }
  }
  return [...tables, ...columns.values()];
}

export function completion(words: Words): (context: CompletionContext) => CompletionResult | null {
  const known = names(words);
  const types = words.types.map((label) => ({ label, type: "constant" }));
  return (context) => {
    const before = context.state.sliceDoc(Math.max(0, context.pos - 2000), context.pos);
    const type = EVENT_TYPE.exec(before);
    if (type) return { from: context.pos - type[1].length, options: types, validFor: /^\w*$/ };
    if (IN_STRING.test(before)) return null;
    const qualified = QUALIFIED.exec(before);
    const table = qualified && words.tables.find((one) => one.name === qualified[1]);
    if (table) {
      const options = table.columns.map((one) => ({
        label: one.name,
        type: "property",
        detail: one.type,
        info: one.sentence,
      }));
      return { from: context.pos - qualified[2].length, options, validFor: /^\w*$/ };
    }
    const word = WORD.exec(before);
    if (!word && !context.explicit) return null;
    return { from: context.pos - (word?.[0].length ?? 0), options: known, validFor: /^\w*$/ };
  };
}
