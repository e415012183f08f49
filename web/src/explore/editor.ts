// The editor in place of the text field, which it keeps up to date: what the form sends is always that.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { PostgreSQL, sql } from "@codemirror/lang-sql";
import { bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { EditorState, Prec, StateEffect, StateField } from "@codemirror/state";
import {
  Decoration,
  type DecorationSet,
  drawSelection,
  EditorView,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { classHighlighter } from "@lezer/highlight";
import { completion } from "./completion";
import { readWords } from "./words";

const markError = StateEffect.define<number | null>();
const wrong = Decoration.mark({ class: "wrong" });
/** The place of the last error, until the text changes. */
const errorField = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(marks, transaction) {
    const effect = transaction.effects.find((one) => one.is(markError));
    if (effect) return effect.value === null ? Decoration.none : marksAt(transaction.state, effect.value);
    return transaction.docChanged ? Decoration.none : marks;
  },
  provide: (field) => EditorView.decorations.from(field),
});

function marksAt(state: EditorState, position: number): DecorationSet {
  const from = Math.min(position, Math.max(state.doc.length - 1, 0));
  const word = state.wordAt(from);
  const to = word && word.from === from ? word.to : Math.min(from + 1, state.doc.length);
  return to > from ? Decoration.set([wrong.range(from, to)]) : Decoration.none;
}

export interface Editor {
  read(): string;
  write(text: string): void;
  /** Marks the character, counted as Python counts, and puts the cursor there; none takes the mark away. */
  mark(position: number | null): void;
}

export function openEditor(field: HTMLTextAreaElement, run: () => void): Editor {
  const language = sql({ dialect: PostgreSQL, upperCaseKeywords: true });
  const runNow = () => {
    run();
    return true;
  };
  const state = EditorState.create({
    doc: field.value,
    extensions: [
      Prec.highest(keymap.of([{ key: "Mod-Enter", run: runNow }])),
      EditorView.cspNonce.of(document.body.dataset.nonce ?? ""),
      EditorView.contentAttributes.of({
        "aria-label": "SQL",
        tabindex: "0",
        spellcheck: "false",
        autocapitalize: "off",
      }),
      EditorView.lineWrapping,
      EditorView.updateListener.of((update) => {
        if (update.docChanged) field.value = update.state.doc.toString();
      }),
      lineNumbers(),
      highlightSpecialChars(),
      history(),
      drawSelection(),
      bracketMatching(),
      closeBrackets(),
      autocompletion({ icons: false, aboveCursor: false }),
      language,
      language.language.data.of({ autocomplete: completion(readWords()) }),
      syntaxHighlighting(classHighlighter),
      errorField,
      keymap.of([...closeBracketsKeymap, ...completionKeymap, ...defaultKeymap, ...historyKeymap]),
    ],
  });
  const view = new EditorView({ state });
  field.before(view.dom);
  field.hidden = true;
  field.required = false;
  document.querySelector(`label[for="${field.id}"]`)?.addEventListener("click", () => view.focus());
  return {
    read: () => view.state.doc.toString(),
    write: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    mark(position) {
      const at = position === null ? null : unitsBefore(view.state.doc.toString(), position);
      view.dispatch({
        effects: markError.of(at),
        ...(at !== null && { selection: { anchor: at }, scrollIntoView: true }),
      });
    },
  };
}

/** Characters beyond the first plane are two units here and one for the server. */
function unitsBefore(text: string, characters: number): number {
  return [...text].slice(0, characters).join("").length;
}
