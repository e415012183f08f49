/** What the page tells of tables, columns and event types: the words that can be completed. */
export interface Words {
  tables: { name: string; sentence: string; columns: { name: string; type: string; sentence: string }[] }[];
  types: string[];
}

export function readWords(): Words {
  return JSON.parse(document.getElementById("words")?.textContent ?? '{"tables": [], "types": []}');
}
