// What to try in a collection that one doesn't know: words of a few of its own documents.

const WORDS = 6;
const POINTS = 48;

/**
 * A search for each document, each once: a caption (of another language for each document, so that one sees how many
 * there are), the name of a function in words, the title, or how the text begins.
 * @param {object[]} documents as they are stored
 * @returns {{text: string, language: string}[]}
 */
export function examples(documents) {
  const made = documents.map(example).filter(({ text }) => text);
  return made.filter(({ text }, index) => made.findIndex((other) => other.text === text) === index);
}

function example({ title, text, language, captions, metadata, modality }, index) {
  const languages = Object.keys(captions ?? {}).filter((tag) => tag !== "und");
  if (languages.length) {
    const chosen = languages[index % languages.length];
    return { text: captions[chosen][0], language: chosen };
  }
  if (modality === "code") return { text: inWords(String(metadata?.symbol ?? title ?? "")), language: "" };
  return { text: title || beginning(text ?? ""), language: language ?? "" };
}

/** `Parser.parse_args`, `parseArgs` -> `parse args` */
function inWords(symbol) {
  const last = symbol.split(/[.:#]/u).at(-1);
  return last.replace(/(\p{Ll})(\p{Lu})/gu, "$1 $2").replace(/_+/gu, " ").trim().toLowerCase();
}

function beginning(text) {
  const words = text.trim().split(/\s+/u).slice(0, WORDS).join(" ");
  return Array.from(words).slice(0, POINTS).join("");
}

/** What the collection holds: `7,996 documents in English · encoder english` */
export function facts({ documents, languages, encoder }) {
  const count = `${documents.toLocaleString("en")} ${documents === 1 ? "document" : "documents"}`;
  const known = Object.keys(languages).filter((tag) => tag !== "und");
  const name = new Intl.DisplayNames(["en"], { type: "language" });
  const spoken = known.length === 0 ? "" : known.length === 1 ? ` in ${name.of(known[0])}` : ` in ${known.length} languages`;
  return `${count}${spoken} · ${encoder === null ? "no encoder: found by words" : `encoder ${encoder.split("/").at(-1)}`}`;
}
