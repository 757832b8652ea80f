// Why a hit is where it is: its place in each list that the search made, from the plan that `explain` gives.

// Reciprocal rank fusion, as the service does it: weight / (60 + rank).
const RANK_CONSTANT = 60;

export const SIDES = { dense: "Meaning", lexical: "Words" };

/** @typedef {{side: string, rank: number | null, of: number, score: number | null, weight: number, part: number}} Part
 *  rank: null where that list doesn't hold the hit; part: what it adds to a fused score. */

/**
 * @param {{candidates: {side: string, weight: number, documents: {rank: number, id: string, score: number}[]}[]}} plan
 * @param {string} id
 * @returns {Part[]} one for each list
 */
export function parts(plan, id) {
  return plan.candidates.map(({ side, weight, documents }) => {
    const found = documents.find((document) => document.id === id);
    const part = found ? weight / (RANK_CONSTANT + found.rank) : 0;
    return { side, rank: found?.rank ?? null, of: documents.length, score: found?.score ?? null, weight, part };
  });
}

/** One sentence about what ordered the hits. */
export function ordering(mode, lists) {
  if (lists > 1) return `Each list adds its weight / (${RANK_CONSTANT} + rank); the sum orders the hits.`;
  return mode === "lexical" ? "The words alone order the hits (BM25)." : "The meaning alone orders the hits.";
}

/** One sentence about where was searched. */
export function scope(plan) {
  const recall = plan.recall === undefined || plan.recall === 1 ? "" : `, measured recall ${plan.recall}`;
  return `${plan.rows.toLocaleString("en")} passages, captions and pictures were searched (index: ${plan.kind}${recall}).`;
}
