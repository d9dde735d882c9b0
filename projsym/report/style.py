"""The style sheet: system fonts, a phone first, dark where the reader prefers it.

Verdict colours are after the blue and the vermilion of Okabe and Ito's palette, which colour-blind readers
tell apart, with a contrast of at least 4.5 on their background; each has a sign and a word too.
"""

CSS = """
:root { color-scheme: light dark; --fg: #1b1d21; --bg: #fff; --soft: #5a616b; --line: #d9dde3; --panel:
  #f5f6f8;
  --good: #00619a; --bad: #a94800; --bar: #9cc6e0; }
@media (prefers-color-scheme: dark) { :root { --fg: #e4e6ea; --bg: #15171b; --soft: #a2a9b4; --line:
  #343942;
  --panel: #1e2126; --good: #6cb8ea; --bad: #ff9a52; --bar: #28536e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; color: var(--fg); background: var(--bg);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom:
  .25rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .8rem 0; }
a { color: var(--good); }
code, .math { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .86rem;
  overflow-wrap: anywhere; }
td code { overflow-wrap: normal; white-space: nowrap; }
details p { max-width: none; margin: .3rem 0; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid
  var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
th.n, td.n { text-align: right; white-space: nowrap; }
.v { font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .plain { color: var(--fg); }
.soft { color: var(--soft); font-size: .9rem; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .35rem 0; background: var(--panel);
  padding: .35rem .7rem; }
details details { background: var(--bg); }
summary { cursor: pointer; }
summary .id { display: inline-block; min-width: 3.6rem; font-weight: 700; }
summary .v { float: right; margin-left: 1rem; }
.chain { margin: .5rem 0; padding: 0; list-style: none; }
.chain .law { color: var(--soft); padding-left: 1rem; font-size: .9rem; }
.chain .law .v { font-size: .85rem; margin-left: .4rem; }
.bar { display: block; min-width: 6.5rem; padding: 0 .3rem; text-align: right; border-radius: .2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0; font-size:
  .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: .75rem; }
  summary .v { float: none; display: block; margin-left: 1.1rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; }
  .prose thead { display: none; } .prose tr, .prose td { display: block; border: 0; padding: .1rem 0; }
  .prose tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .prose td:first-child { font-weight: 600; } }
@media print { details { break-inside: avoid; } }
"""
