// Why a hit is where it is: its place in each list that the search made, from the plan that `explain` gives.

const SIDES = { dense: "Meaning", lexical: "Words" };
const TOWERS = { text: "Meaning of text", image: "Meaning of pictures" };

/** @typedef {{name: string, rank: number | null, of: number, score: number | null, weight: number, part: number}} Part
 *  rank: null where that list doesn't hold the hit; part: what it adds to a fused score. */

/**
 * @param {{rank_constant: number, candidates: {side: string, tower: string | null, weight: number, documents: {rank: number, id: string, score: number}[]}[]}} plan
 * @param {string} id
 * @returns {Part[]} one for each list
 */
export function parts(plan, id) {
  const several = plan.candidates.filter(({ side }) => side === "dense").length > 1;
  return plan.candidates.map(({ side, tower, weight, documents }) => {
    const found = documents.find((document) => document.id === id);
    const part = found ? weight / (plan.rank_constant + found.rank) : 0;
    const name = several && tower ? TOWERS[tower] : SIDES[side];
    return { name, rank: found?.rank ?? null, of: documents.length, score: found?.score ?? null, weight, part };
  });
}

/** One sentence about what ordered the hits. */
export function ordering(mode, plan) {
  if (plan.candidates.length > 1) return `Each list adds its weight / (${plan.rank_constant} + rank); the sum orders the hits.`;
  return mode === "lexical" ? "The words alone order the hits (BM25)." : "The meaning alone orders the hits.";
}

/** One sentence about where was searched. */
export function scope(plan) {
  const recall = plan.recall === undefined || plan.recall === 1 ? "" : `, measured recall ${plan.recall}`;
  return `${plan.rows.toLocaleString("en")} passages, captions and pictures were searched (index: ${plan.kind}${recall}).`;
}
