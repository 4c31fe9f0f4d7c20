// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace muster::report {

/// The page's style sheet. Colours are told apart with every kind of colour vision (after Okabe and Ito,
/// "Color universal design", 2008, yellow and black replaced, since either would vanish on one of the two
/// backgrounds).
inline constexpr const char* kStyle = R"css(
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2128;--soft:#59636e;--grid:#d9dfe5;--lane:#f2f4f7;--card:#f6f8fa;
--good:#1a7f4b;--warning:#9a6700;--bad:#c4321c;--rest:#a3abb4;
--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#c4679b;--c4:#56b4e9;--c5:#d55e00;--c6:#8f8a1f;--c7:#44349b;--c8:#7d2b1c;--c9:#98a1aa}
@media (prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e4e8ec;--soft:#9aa5b1;--grid:#303841;--lane:#1d232a;--card:#1c2229;
--good:#4cc38a;--warning:#e3b341;--bad:#ff7b64;--rest:#66707b;
--c0:#4aa3df;--c1:#f0b030;--c2:#2dc598;--c3:#e294c1;--c4:#9ad7f7;--c5:#f28140;--c6:#c9c455;--c7:#a99cf2;--c8:#d0806f;--c9:#7d8791}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--grid:#ccc;--lane:#f4f4f4;--card:#fff;--rest:#999;
--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#c4679b;--c4:#56b4e9;--c5:#d55e00;--c6:#8f8a1f;--c7:#44349b;--c8:#7d2b1c;--c9:#98a1aa}
body{max-width:none!important;padding:0!important}section,figure,.tile{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:28px 24px 60px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:24px;margin:0;overflow-wrap:anywhere}
h2{font-size:18px;margin:0;display:inline-block}
section,details{margin-top:30px;border-top:1px solid var(--grid);padding-top:16px}
summary{cursor:pointer}
p{margin:8px 0;max-width:80ch;overflow-wrap:anywhere}
.note,figcaption,.tile span,.tile small{color:var(--soft)}
.note{font-size:13px}
.state{font-size:15px;padding-left:14px;border-left:4px solid var(--grid)}
.state.good{border-color:var(--good)}.state.warning{border-color:var(--warning)}.state.bad{border-color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin-top:18px}
.tile{background:var(--card);border:1px solid var(--grid);border-radius:6px;padding:9px 12px}
.tile span,.tile strong,.tile small{display:block}
.tile span,.tile small{font-size:12.5px;line-height:1.35}
.tile strong{font-size:20px;line-height:1.4;font-weight:600;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.tile.good strong{color:var(--good)}.tile.warning strong{color:var(--warning)}.tile.bad strong{color:var(--bad)}
figure{margin:16px 0 22px;overflow-x:auto}
.pictures{display:flex;flex-wrap:wrap;gap:10px}.pictures figure{margin:0;width:112px}.pictures img{display:block;max-width:112px;margin:auto}
.pictures figcaption{font-size:11px;text-align:center;overflow-wrap:anywhere}
figcaption{margin-bottom:8px;font-size:14px}
svg{display:block;width:100%;min-width:640px;height:auto;font-size:11px;fill:var(--ink)}
text{fill:var(--ink)}
text.tick{fill:var(--soft);font-variant-numeric:tabular-nums}
text.label{font-size:13px;font-weight:600;paint-order:stroke;stroke:var(--paper);stroke-width:3.5px;stroke-linejoin:round;pointer-events:none}
.grid{stroke:var(--grid);stroke-width:1;fill:none}
.mark{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:4 3;fill:none}
.lane{fill:var(--lane)}
.rest{fill:var(--rest)}
.hit{fill:transparent}
.p{stroke:var(--lane);stroke-width:.5;fill-opacity:.88}
.p:hover{stroke:var(--ink);stroke-width:1.5;fill-opacity:1}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}
.s1{fill-opacity:.2}.s2{fill-opacity:.4}.s3{fill-opacity:.6}.s4{fill-opacity:.8}
.c0{fill:var(--c0)}.c1{fill:var(--c1)}.c2{fill:var(--c2)}.c3{fill:var(--c3)}.c4{fill:var(--c4)}
.c5{fill:var(--c5)}.c6{fill:var(--c6)}.c7{fill:var(--c7)}.c8{fill:var(--c8)}.c9{fill:var(--c9)}
.l0{stroke:var(--c0)}.l1{stroke:var(--c1)}.l2{stroke:var(--c2)}.l3{stroke:var(--c3)}.l4{stroke:var(--c4)}
.l5{stroke:var(--c5)}.l6{stroke:var(--c6)}.l7{stroke:var(--c7)}.l8{stroke:var(--c8)}.l9{stroke:var(--c9)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13.5px;margin:10px 0}
th,td{text-align:left;vertical-align:top;padding:4px 16px 4px 0;border-bottom:1px solid var(--grid);overflow-wrap:anywhere}
thead th{color:var(--soft);font-weight:500}
.facts th{color:var(--soft);font-weight:400;white-space:nowrap}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
pre{font:12.5px/1.45 ui-monospace,"DejaVu Sans Mono",monospace;background:var(--card);border:1px solid var(--grid);border-radius:6px;padding:12px;overflow-x:auto}
)css";

}  // namespace muster::report
