"""The style sheet of a report: light and dark, wide and narrow."""

STYLE = """
:root { color-scheme: light dark; --bg: #fdfdfc; --fg: #1d2126; --dim: #667078; --line: #dde1e4; --box: #f4f5f5;
  --c0: #0b69c7; --c1: #d2540a; --c2: #15834c; --c3: #9c3fa5; --c4: #a97b00; --c5: #c22f4a; --c6: #0a8a94; --c7: #6b6fd6; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171a; --fg: #e4e7ea; --dim: #98a2ab; --line: #31373d; --box: #1c2024;
  --c0: #5aa9f5; --c1: #f58f4c; --c2: #4fc58a; --c3: #d487dc; --c4: #dcb13c; --c5: #f2788e; --c6: #45c4ce; --c7: #a3a6f7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1060px; padding: 1.2rem 1rem 4rem; background: var(--bg); color: var(--fg);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .2rem 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; } .dim, figcaption, dt { color: var(--dim); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr));
  gap: .5rem 1.2rem; margin: .8rem 0; }
.facts div { min-width: 0; } .facts dt { font-size: .8rem; } .facts dd { margin: 0; overflow-wrap: anywhere; }
.big { grid-template-columns: repeat(auto-fit, minmax(8.2rem, 1fr)); }
.big dd { font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .85rem; margin-bottom: .2rem; }
figure > svg { overflow: visible; }
svg { display: block; width: 100%; height: auto; font-size: 12px; } svg text { fill: var(--dim); }
svg path { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
svg .grid, svg .axis { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--dim); }
svg .thin { stroke-width: 1.6; opacity: .45; } svg .dashed { stroke-dasharray: 7 5; } svg .level { stroke-dasharray: 2 4; }
svg .band { fill: currentColor; stroke: none; opacity: .13; } svg circle { fill: currentColor; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .4rem 0; font-size: .9rem; }
i { display: inline-block; width: 1rem; height: .25rem; border-radius: 2px; background: currentColor; margin-right: .4rem;
  vertical-align: middle; }
[class^=c] > span { color: var(--fg); overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--dim); font-weight: 500; vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; } tfoot td { font-weight: 600; border: 0; }
pre { background: var(--box); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto;
  font: 13px/1.5 ui-monospace, monospace; }
pre.text { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; font-size: .95rem; }
.note { display: inline-block; min-width: 9rem; max-width: 20rem; white-space: normal; text-align: left; }
summary { cursor: pointer; color: var(--dim); margin: .8rem 0 .4rem; }
""" + "\n".join(f".c{i} {{ color: var(--c{i}); }}" for i in range(8))
