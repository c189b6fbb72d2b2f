"""The style of pages: one sheet for light and dark mode, wide and narrow screens."""

FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { --ink: #1d2129; --soft: #5d6675; --paper: #ffffff; --line: #dfe3e9; --band: #f6f7f9; --accent: #a32a63;
  --warn: #8a4b00; --warn-band: #fff5e6; --warn-line: #f0b35a;
  --line0: #0068b0; --line1: #c8500a; --line2: #00795a; --line3: #a32a63; --line4: #6a51a3; --line5: #8a6d00;
  --line6: #1b8fb5; --line7: #7a4a2b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ec; --soft: #9aa4b2; --paper: #15181d; --line: #313843; --band: #1c2027; --accent: #f08bb5;
    --warn: #ffc677; --warn-band: #2b2215; --warn-line: #8a6425;
    --line0: #66b2ef; --line1: #ff9a5c; --line2: #4fcfa8; --line3: #f08bb5; --line4: #b6a3f0; --line5: #e0c04a;
    --line6: #7fd6f2; --line7: #d9a57f; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 0 0 .7rem; }
p { margin: 0 0 .8rem; max-width: 44rem; }
a { color: inherit; text-decoration-color: var(--accent); text-underline-offset: .15em; }
a:hover { color: var(--accent); }
.lead { font-size: 1.08rem; color: var(--soft); margin-bottom: 0; }
.small { font-size: .9rem; color: var(--soft); }
section { margin-top: 2.4rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; min-width: 50%; }
th, td { padding: .42rem .9rem .42rem .5rem; text-align: left; vertical-align: baseline; overflow-wrap: normal;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
thead th { border-bottom-width: 2px; white-space: nowrap; }
tbody th { font-weight: 500; color: var(--ink); min-width: 7.5rem; position: sticky; left: 0;
  background: var(--paper); }
.number { text-align: right; white-space: nowrap; }
.rule th, .rule td { border-top: 2px solid var(--line); }
tbody tr:hover, tbody tr:hover th { background: var(--band); }
.best .value, td strong { color: var(--accent); }
.tie .value { text-decoration: underline; text-decoration-color: var(--accent); text-decoration-thickness: 2px;
  text-underline-offset: .2em; }
.missing .value { color: var(--soft); font-style: italic; }
.extra, .below { color: var(--soft); font-size: .82rem; font-weight: 400; }
.below { display: block; line-height: 1.3; }
.notice { border: 1px solid var(--warn-line); border-left-width: 6px; border-radius: 6px; background: var(--warn-band);
  padding: .8rem 1rem; }
.notice p { margin: 0; color: var(--warn); max-width: none; }
.notice ul { margin: .3rem 0 0; padding-left: 1.2rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .35rem 1.2rem; margin: 0;
  max-width: 56rem; font-size: .95rem; }
dt { color: var(--soft); }
dd { margin: 0; }
figure { margin: 0; }
img { max-width: 100%; height: auto; display: block; background: #ffffff; border: 1px solid var(--line);
  border-radius: 6px; }
figcaption { color: var(--soft); font-size: .9rem; margin: .5rem 0 0; max-width: 44rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1.4rem 2rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1.2rem 1.6rem; }
.strip { display: grid; grid-template-columns: minmax(0, 12.5rem) minmax(0, max-content); gap: .15rem 1rem;
  align-items: center; margin: 0 0 .45rem; font-size: .95rem; }
.strip img { border: 0; border-radius: 2px; image-rendering: pixelated; }
.charts figcaption { margin: 0 0 .2rem; }
.charts b { color: var(--ink); font-weight: 600; }
.chart { width: 100%; height: auto; display: block; }
.chart text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); stroke-width: 1; fill: none; }
.chart .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line .dot { stroke-width: 3; }
.soft { stroke: var(--soft); stroke-width: 1.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; padding: 0; margin: 0 0 1rem;
  font-size: .9rem; }
.legend svg { margin-right: .45rem; vertical-align: middle; }
details { border: 1px solid var(--line); border-radius: 6px; padding: .1rem 1rem; }
details[open] { padding-bottom: 1.2rem; }
section.details { margin-top: .7rem; }
details section { margin-top: 1.1rem; }
summary { cursor: pointer; padding: .55rem 0; font-weight: 500; }
pre { background: var(--band); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; margin: 0;
  overflow-x: auto; font-size: .82rem; line-height: 1.45; overflow-wrap: normal; }
.links { margin: 0; padding-left: 1.2rem; }
.empty { color: var(--soft); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
@media (max-width: 36rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.55rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
  .strip { grid-template-columns: 1fr; margin-bottom: .8rem; }
}
@media print { details { display: block; } .scroll { overflow: visible; } }
"""
