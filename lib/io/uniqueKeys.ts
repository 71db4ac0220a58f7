// JSON.parse silently keeps the last of two members with one name, so a file could mean two things to two readers.

/** The first name that an object in `json`, a text that JSON.parse takes, has twice; null where there is none. */
export function findDuplicateKey(json: string): string | null {
  const open: (Set<string> | null)[] = []; // names so far of each enclosing object, null for an array
  let expectsKey = false;
  for (let i = 0; i < json.length; i++) {
    switch (json[i]) {
      case '{':
        open.push(new Set());
        expectsKey = true;
        break;
      case '[':
        open.push(null);
        expectsKey = false;
        break;
      case '}':
      case ']':
        open.pop();
        expectsKey = false;
        break;
      case ',':
        expectsKey = open.at(-1) !== null;
        break;
      case '"': {
        const end = closingQuote(json, i);
        if (expectsKey) {
          const names = open.at(-1)!;
          const name = JSON.parse(json.slice(i, end + 1)) as string; // "a" and "\u0061" are one name
          if (names.has(name)) return name;
          names.add(name);
          expectsKey = false;
        }
        i = end;
        break;
      }
    }
  }
  return null;
}

function closingQuote(json: string, start: number): number {
  let i = start + 1;
  while (json[i] !== '"') i += json[i] === '\\' ? 2 : 1;
  return i;
}
