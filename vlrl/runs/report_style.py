"""The report's style sheet: light and dark by the reader's preference."""

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f6f4; --card: #ffffff; --ink: #16181d; --soft: #5d626d; --line: #e3e3df; --grid: #ececea;
  --s0: #2f6fde; --s1: #c2571a; --s2: #1b8a6b; --s3: #8a4fc7; --s4: #b3862b; --s5: #c03a6b;
  --good: #17724a; --good-bg: #dff3e8; --bad: #b02a30; --bad-bg: #fbe4e4;
  --warn: #8a5a00; --warn-bg: #fbeed3; --mute: #545a66; --mute-bg: #ebebe8; }
@media (prefers-color-scheme: dark) { :root {
  --page: #121316; --card: #1b1d21; --ink: #e9e9e6; --soft: #9a9fab; --line: #2e3137; --grid: #292c32;
  --s0: #74a4ff; --s1: #f0955c; --s2: #55c7a4; --s3: #c194f5; --s4: #dcb765; --s5: #f07fa9;
  --good: #7ddcae; --good-bg: #163727; --bad: #ff9c9c; --bad-bg: #432022;
  --warn: #f0c878; --warn-bg: #3d2f13; --mute: #b4b8c1; --mute-bg: #2c2f35; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 36px 22px 72px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 14px; letter-spacing: -.005em; }
h3 { font-size: 14px; margin: 22px 0 10px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 10px; }
.lead, .note, .empty { color: var(--soft); }
.note, .empty { font-size: 13.5px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin-top: 24px; }
.tile { padding: 14px 16px; }
.tile span { display: block; color: var(--soft); font-size: 13px; }
.tile b { display: block; font-size: 24px; font-weight: 620; line-height: 1.25; letter-spacing: -.015em;
  white-space: nowrap; }
.tile small { color: var(--soft); font-size: 12.5px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 12px; }
.chart { padding: 12px 14px 8px; min-width: 0; }
.chart header { display: flex; justify-content: space-between; gap: 10px; font-size: 13.5px;
  margin-bottom: 4px; }
.chart header span { overflow-wrap: anywhere; }
.chart header b { font-variant-numeric: tabular-nums; white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px;
  color: var(--soft); padding: 2px 4px 6px; }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px;
  margin-right: 6px; vertical-align: 4px; }
svg { display: block; width: 100%; height: auto; }
svg path { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg path.pale { opacity: .28; stroke-width: 1.2; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .tick { fill: var(--soft); font-size: 10.5px; }
svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
svg .band { opacity: .16; stroke: none; } svg .bar { stroke-width: 2; opacity: .5; }
.wide { display: flex; gap: 12px; } .wide .chart { flex: 1; overflow-x: auto; }
.wide svg { min-width: 460px; } .wide path:not(.s0) { stroke-width: 1.3; opacity: .8; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 8px 14px; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: 13px; }
tbody th { font-weight: 500; }
td small { color: var(--soft); font-size: 12px; margin-left: 6px; }
.key { font-weight: 650; }
.prompt { display: grid; grid-template-columns: minmax(190px, 270px) 1fr;
  margin-bottom: 14px; overflow: hidden; }
.asked { padding: 16px; border-right: 1px solid var(--line); }
.pictures { display: flex; flex-wrap: wrap; gap: 8px; }
.pictures img { max-width: 100%; min-width: 112px; max-height: 240px; border-radius: 6px;
  border: 1px solid var(--line); background: #fff; margin-bottom: 10px; object-fit: contain; }
.pictures img:not(:only-child) { max-width: calc(50% - 4px); min-width: 96px; }
.question { white-space: pre-wrap; overflow-wrap: anywhere; }
.truth { color: var(--soft); font-size: 13.5px; margin: 0; overflow-wrap: anywhere; }
.truth b { color: var(--ink); }
.source { float: right; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); min-width: 0; }
.response { padding: 16px; min-width: 0; }
.response + .response { border-left: 1px solid var(--line); }
.response header { display: flex; justify-content: space-between; gap: 8px; margin-bottom: 8px; }
.when { color: var(--soft); font-size: 13px; }
.verdict { font-size: 12.5px; font-weight: 600; border-radius: 99px; padding: 1px 10px; white-space: nowrap;
  color: var(--mute); background: var(--mute-bg); }
.verdict.correct, .verdict.finished { color: var(--good); background: var(--good-bg); }
.verdict.wrong, .verdict.failed { color: var(--bad); background: var(--bad-bg); }
.verdict.no_answer, .verdict.truncated, .verdict.stopped { color: var(--warn); background: var(--warn-bg); }
.given { font-size: 19px; font-weight: 600; overflow-wrap: anywhere; max-height: 6em; overflow: auto; }
pre { margin: 0; font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 420px; overflow: auto;
  unicode-bidi: plaintext; }
details { margin-bottom: 8px; }
summary { cursor: pointer; color: var(--soft); font-size: 13.5px; }
details pre { margin-top: 8px; padding-left: 12px; border-left: 3px solid var(--line); color: var(--soft); }
.fold { padding: 12px 16px; margin-bottom: 12px; }
.fold > summary { font-size: 14px; }
.fold[open] > summary { margin-bottom: 10px; }
.seconds { padding: 14px 18px; display: grid; grid-template-columns: max-content 1fr max-content;
  gap: 8px 14px; align-items: center; font-size: 14px; font-variant-numeric: tabular-nums; }
.seconds i { display: block; height: 10px; border-radius: 5px; background: var(--s0); min-width: 2px; }
@media (max-width: 720px) { .wide { display: block; } .wide .chart { margin-bottom: 12px; }
  .prompt { grid-template-columns: 1fr; }
  .asked { border-right: 0; border-bottom: 1px solid var(--line); }
  .response + .response { border-left: 0; border-top: 1px solid var(--line); } }
""" + "".join(
    f".s{i} {{ stroke: var(--s{i}); }} .band.s{i}, circle.s{i} {{ fill: var(--s{i}); }} "
    f".legend .s{i} {{ background: var(--s{i}); }}\n"
    for i in range(6)
)
