#include "report/page.h"

#include <string_view>

namespace flyover::report {
namespace {

constexpr std::string_view kStyle = R"css(
:root { --ink: #1c2330; --soft: #667085; --paper: #ffffff; --line: #e4e7ec; --c0: #2563eb; --c1: #d97706; --c2: #059669; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #14181f; --line: #2c3440; --c0: #6ea8fe; --c1: #f5b041; --c2: #4cc38a; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1200px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } small { color: var(--soft); }
.score { min-width: 9rem; padding-left: .4rem; background: linear-gradient(to right,
  color-mix(in srgb, var(--c0) 22%, transparent) var(--part), transparent var(--part)); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 1.2rem 2rem; }
figure { margin: 0; } figcaption { font-weight: 500; min-height: 1.5em; } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); }
.stage, .cursor { stroke: var(--soft); stroke-dasharray: 3 3; }
output { color: var(--soft); font-weight: 400; margin-left: .8rem; font-size: .85rem; }
.key { font-weight: 400; font-size: .85rem; margin-left: .8rem; } .key i { display: inline-block; width: .8em;
  height: .8em; margin-right: .3em; border-radius: 2px; }
path { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.line0 { stroke: var(--c0); } .line1 { stroke: var(--c1); } .line2 { stroke: var(--c2); }
.fill0 { fill: var(--c0); } .fill1 { fill: var(--c1); } .fill2 { fill: var(--c2); }
.back0 { background: var(--c0); } .back1 { background: var(--c1); } .back2 { background: var(--c2); }
.load td { width: 1.4rem; min-width: .3rem; height: 1.2rem; padding: 0; border: 1px solid var(--paper);
  background: color-mix(in srgb, var(--c0) var(--load), var(--line)); }
dl { border-left: 3px solid var(--line); padding-left: 1rem; margin: 0 0 1.4rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0 0 .4rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre { overflow-x: auto; } footer { color: var(--soft); margin-top: 3rem; }
)css";

// Under the pointer: a line, and the value of each curve that is nearest to it.
constexpr std::string_view kScript = R"js(
for (const svg of document.querySelectorAll('svg[data-series]')) {
  const chart = JSON.parse(svg.dataset.series), cursor = svg.querySelector('.cursor');
  const shown = svg.parentNode.querySelector('output');
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), width = svg.viewBox.baseVal.width;
    const x = Math.min(Math.max((event.clientX - box.left) / box.width * width, chart.left), chart.right);
    const step = chart.low + (x - chart.left) / (chart.right - chart.left) * (chart.high - chart.low);
    cursor.setAttribute('x1', x); cursor.setAttribute('x2', x); cursor.setAttribute('visibility', 'visible');
    shown.textContent = 'step ' + Math.round(step) + chart.series.map(series => {
      let best = 0;
      series.x.forEach((value, i) => { if (Math.abs(value - step) < Math.abs(series.x[best] - step)) best = i; });
      return ' · ' + (chart.series.length > 1 ? series.name + ' ' : '') + series.y[best];
    }).join('');
  });
  svg.addEventListener('pointerleave', () => { cursor.setAttribute('visibility', 'hidden'); shown.textContent = ''; });
}
)js";

}  // namespace

std::string make_page(const std::string& title, const std::string& body) {
  std::string page = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n";
  page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  page += "<title>" + title + "</title>\n<style>";
  page += kStyle;
  page += "</style></head>\n<body>\n" + body;
  page += "<footer>Made by flyover report.</footer>\n<script>";
  page += kScript;
  page += "</script></body></html>\n";
  return page;
}

}  // namespace flyover::report
