// What was probably meant by a name that is unknown.

/** The candidate with the fewest edits from `name`. */
export function nearestName(name: string, candidates: readonly string[]): string {
  const distance = (a: string, b: string): number => {
    let row = Array.from({ length: b.length + 1 }, (_, j) => j);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + Number(a[i - 1] !== b[j - 1])));
      }
      row = next;
    }
    return row[b.length]!;
  };
  return candidates.reduce((best, each) => (distance(name, each) < distance(name, best) ? each : best));
}
