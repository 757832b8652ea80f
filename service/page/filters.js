// Filters as the command line writes them (`year>=2020`), for the address and the chips, and as the service takes them.

/** @typedef {{name: string, sign: string, value: string}} Filter */

/** Names that belong to the found part itself. Its languages, kinds and modalities have no order and are strings. */
export const UNIT_NAMES = ["language", "modality", "kind"];

const EXPRESSION = /^\s*([^\s=!<>]+)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*$/su;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/iu;
const OPERATORS = { "!=": "ne", ">=": "gte", "<=": "lte", ">": "gt", "<": "lt", "=": "eq" };
const SHOWN = { "!=": "≠", ">=": "≥", "<=": "≤" };

/**
 * @param {string} text
 * @returns {Filter | null} null where the text is no filter
 */
export function parseFilter(text) {
  const [, name, sign, value] = EXPRESSION.exec(text) ?? [];
  return name ? { name, sign, value } : null;
}

/** As a person reads it: `year ≥ 2020`. */
export function describeFilter(text) {
  const { name, sign, value } = parseFilter(text);
  return `${name} ${SHOWN[sign] ?? sign} ${value}`;
}

/**
 * The filter of the service that all of these mean together, as `polyseek search --filter` reads them.
 * @param {string[]} texts each one that `parseFilter` takes
 */
export function toFilter(texts) {
  const members = texts.map(parseFilter).map(member);
  return members.length === 1 ? members[0] : { and: members };
}

function member({ name, sign, value: written }) {
  const value = typed(written);
  if (UNIT_NAMES.includes(name)) return { [name]: { [OPERATORS[sign]]: written } };
  if (sign === "=" || sign === "!=") {
    // A number may also have been stored as a text.
    const equal = { [name]: { in: value === written ? [written] : [value, written] } };
    return sign === "=" ? equal : { not: equal };
  }
  return { [name]: { [OPERATORS[sign]]: value } };
}

function typed(written) {
  if (written === "true" || written === "false") return written === "true";
  return NUMBER.test(written) ? Number(written) : written;
}
