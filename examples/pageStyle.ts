// What the pages of examples and benchmarks have in common, and nothing that only one of them shows.

/** Colours by name, for a page that adds another scheme to override; the rest speaks of these names. */
export const pageStyle = `
:root { color-scheme: light; --ink: #1d2228; --lead: #333a42; --soft: #667; --line: #dde1e6; --accent: #0b6e99; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 24px 64px; max-width: 1120px; font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
p { max-width: 72ch; margin: 0 0 12px; }
.lead { font-size: 18px; color: var(--lead); }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: 15px; margin-bottom: 8px; }
figcaption small { display: block; font-weight: 400; color: var(--soft); font-size: 13px; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg line { stroke: var(--line); }
`;

/** A page with figures in boxes and tables. */
export const factsStyle = `
h2 { font-size: 20px; margin: 44px 0 12px; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 24px 0; padding: 0; list-style: none; }
.facts li { flex: 1 1 170px; border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.facts b { display: block; font-size: 24px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.facts span { color: var(--soft); font-size: 14px; }
small span { margin-right: 12px; } small i { display: inline-block; width: 14px; height: 3px; margin-right: 5px; vertical-align: middle; border-radius: 2px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 15px; }
th, td { text-align: right; padding: 8px 12px; border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
footer { margin-top: 48px; color: var(--soft); font-size: 14px; border-top: 1px solid var(--line); padding-top: 16px; }
`;
