"use strict";

/** Numbers in [0, 1) from a seed, the same in every browser (mulberry32). */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A seed from a text (FNV-1a). */
function seedOf(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Linear quantile of sorted numbers. */
function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  const rest = place - low;
  return sorted[low] + (rest ? rest * (sorted[low + 1] - sorted[low]) : 0);
}

/** Which points no other dominates; `higher` says per axis whether larger is better. */
function frontOf(points, higher) {
  const better = (a, b, axis) => (higher[axis] ? a > b : a < b);
  return points.map(
    (point) =>
      !points.some(
        (other) =>
          other !== point &&
          higher.every((_, axis) => !better(point[axis], other[axis], axis)) &&
          higher.some((_, axis) => better(other[axis], point[axis], axis)),
      ),
  );
}

/**
 * Share of bootstrap draws, over identities, in which each run is on the front.
 * `sums[run][axis]` and `weights[run][axis]` hold one number per identity.
 */
function membership(sums, weights, higher, draws) {
  const runs = sums.length;
  const found = new Array(runs).fill(0);
  const identities = runs ? sums[0][0].length : 0;
  if (identities < 2) return null;
  const random = randomFrom(20100901);
  for (let draw = 0; draw < draws; draw++) {
    const count = new Array(identities).fill(0);
    for (let i = 0; i < identities; i++) count[Math.floor(random() * identities)]++;
    const points = [], places = [];
    for (let run = 0; run < runs; run++) {
      const point = higher.map((_, axis) => {
        let sum = 0, weight = 0;
        for (let i = 0; i < identities; i++) {
          sum += count[i] * sums[run][axis][i];
          weight += count[i] * weights[run][axis][i];
        }
        return weight ? sum / weight : NaN;
      });
      if (!point.some(Number.isNaN)) { points.push(point); places.push(run); }
    }
    frontOf(points, higher).forEach((on, place) => { if (on) found[places[place]]++; });
  }
  return found.map((times) => times / draws);
}

/** 95 % interval of a share (Wilson). */
function wilson(successes, total) {
  if (!total) return [0, 1];
  const z = 1.959964, share = successes / total, n = z * z / total;
  const centre = (share + n / 2) / (1 + n);
  const half = (z / (1 + n)) * Math.sqrt((share * (1 - share)) / total + n / (4 * total));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/**
 * Krippendorff's alpha for nominal choices. `units` lists the choices made for each item; items
 * with one choice do not count. Null where nothing can be compared.
 */
function krippendorff(units) {
  const pairs = units.filter((unit) => unit.length > 1);
  const totals = new Map();
  let n = 0, agreeing = 0;
  for (const unit of pairs) {
    for (const one of unit) totals.set(one, (totals.get(one) || 0) + 1);
    n += unit.length;
    const counts = new Map();
    for (const one of unit) counts.set(one, (counts.get(one) || 0) + 1);
    for (const count of counts.values()) agreeing += (count * (count - 1)) / (unit.length - 1);
  }
  if (n < 2) return null;
  let expected = 0;
  for (const count of totals.values()) expected += count * (count - 1);
  const disagreeExpected = 1 - expected / (n * (n - 1));
  if (disagreeExpected === 0) return 1;
  return 1 - (1 - agreeing / n) / disagreeExpected;
}
