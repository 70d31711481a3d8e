//! How a report looks: one palette for light and dark, the page's style and that of its pictures.

use std::fmt::Write;

/// A colour by what it is for, in light and in dark.
struct Colour {
    name: &'static str,
    light: &'static str,
    dark: &'static str,
}

const fn colour(name: &'static str, light: &'static str, dark: &'static str) -> Colour {
    Colour { name, light, dark }
}

/// What is drawn on.
const PAPER: Colour = colour("paper", "#ffffff", "#15191e");
/// A quiet ground within the page.
const WASH: Colour = colour("wash", "#f3f5f7", "#1e242b");
/// Lines that only guide the eye.
const RULE: Colour = colour("rule", "#d9dee3", "#353d46");
/// Text.
const INK: Colour = colour("ink", "#1b2026", "#e8ebee");
/// Text that can wait.
const SOFT: Colour = colour("soft", "#56606a", "#a3adb7");
/// Axes, outlines and links of a network.
const LINE: Colour = colour("line", "#737d87", "#89939d");
/// All is well.
const GOOD: Colour = colour("good", "#00694e", "#4cc79e");
/// Something is not as it should be.
const BAD: Colour = colour("bad", "#a8310c", "#ff9b73");

/// How many kinds can be told apart by colour; what has more kinds has labels beside them, as everything here.
pub const KINDS: usize = 8;

/// Hues that stay apart for people who see fewer of them, after Okabe and Ito's palette.
const KIND: [Colour; KINDS] = [
    colour("k0", "#0068a5", "#5db0ea"),
    colour("k1", "#c05200", "#f2934a"),
    colour("k2", "#00805d", "#3dbb92"),
    colour("k3", "#a84a85", "#dd93c2"),
    colour("k4", "#8a6a00", "#dbb945"),
    colour("k5", "#2a84b5", "#8fcdf3"),
    colour("k6", "#5b6570", "#aab4be"),
    colour("k7", "#6b4fa0", "#b7a1e6"),
];

fn palette() -> impl Iterator<Item = &'static Colour> {
    [&PAPER, &WASH, &RULE, &INK, &SOFT, &LINE, &GOOD, &BAD].into_iter().chain(&KIND)
}

/// The style of pictures, within a page or alone: plain rules without variables, which every viewer knows.
pub fn picture() -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for Colour { name, light: l, dark: d } in palette() {
        for (css, value) in [(&mut light, l), (&mut dark, d)] {
            write!(css, ".fx .f-{name}{{fill:{value}}}.fx .s-{name}{{stroke:{value}}}")
                .expect("strings grow");
        }
    }
    format!("{PICTURE}{light}@media (prefers-color-scheme:dark){{{dark}}}")
}

/// The style of the page.
pub fn page() -> String {
    let variables = |value: fn(&Colour) -> &str| -> String {
        palette().map(|colour| format!("--{}:{};", colour.name, value(colour))).collect()
    };
    format!(
        ":root{{color-scheme:light dark;{}}}@media (prefers-color-scheme:dark){{:root{{{}}}}}{PAGE}{}",
        variables(|colour| colour.light),
        variables(|colour| colour.dark),
        picture()
    )
}

const PICTURE: &str = "\
.fx{font:12px/1.2 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-variant-numeric:tabular-nums}\
.fx text{stroke:none}.fx .small{font-size:11px}.fx .strong{font-weight:600;font-size:13px}\
.fx .mono{font-family:ui-monospace,'Cascadia Mono','SF Mono',Menlo,Consolas,monospace;font-size:11px}\
.fx .halo{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}\
.fx .none{fill:none}.fx .tint{fill-opacity:.16}.fx .mid{text-anchor:middle}.fx .end{text-anchor:end}\
.fx .dash{stroke-dasharray:6 5}.fx .thin{stroke-width:1}.fx .thick{stroke-width:2}";

const PAGE: &str = "\
*{box-sizing:border-box}\
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth;scroll-padding-top:1rem}\
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}\
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 Charter,'Bitstream Charter','Sitka Text',Cambria,'Noto Serif',Georgia,serif}\
.wide{max-width:70rem;margin:0 auto;padding:0 clamp(1rem,4vw,2.5rem)}\
.skip{position:absolute;left:-999rem;background:var(--ink);color:var(--paper);padding:.6rem 1rem;z-index:1}\
.skip:focus{left:1rem;top:1rem}\
a{color:var(--k0);text-underline-offset:.18em;text-decoration-thickness:.07em}\
:focus-visible{outline:3px solid var(--k1);outline-offset:2px;border-radius:2px}\
header{padding:clamp(2rem,6vw,4rem) 0 1.5rem}\
.kicker{margin:0;font:600 .78rem/1.4 system-ui,sans-serif;letter-spacing:.09em;text-transform:uppercase;color:var(--soft)}\
h1{margin:.2rem 0 .4rem;font-size:clamp(1.9rem,5vw,3rem);line-height:1.1;font-weight:600;letter-spacing:-.015em;overflow-wrap:anywhere}\
h2{margin:0 0 .5rem;font-size:1.55rem;line-height:1.2;font-weight:600;letter-spacing:-.01em}\
h3{margin:2.2rem 0 .3rem;font-size:1.08rem;line-height:1.3;font-weight:600}\
.lead{margin:0;max-width:44rem;font-size:1.1rem;color:var(--soft)}\
section{padding:2.6rem 0 1.2rem;border-top:1px solid var(--rule);margin-top:2rem}\
section>p{max-width:44rem;margin:.3rem 0 1rem}\
.facts{display:flex;flex-wrap:wrap;gap:.9rem 2.4rem;margin:1.6rem 0 0;font-family:system-ui,sans-serif}\
.facts dt{font-size:.78rem;color:var(--soft)}.facts dd{margin:.1rem 0 0;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}\
.verdict{font-weight:700}.verdict.good{color:var(--good)}.verdict.bad,.bad-text{color:var(--bad)}\
.remark{border-left:4px solid var(--bad);background:var(--wash);padding:.7rem 1rem;margin:1.2rem 0;max-width:none}\
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.3rem;list-style:none;margin:0;padding:0;font:.95rem/1.9 system-ui,sans-serif}\
figure{margin:1.4rem 0 0}\
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}\
.scroll>svg{display:block;width:100%;height:auto}.scroll.chart>svg{min-width:50rem}\
.scroll.chart{background:linear-gradient(to left,var(--paper) 40%,transparent) right/3rem 100% no-repeat local,\
linear-gradient(to left,var(--rule),transparent) right/1.2rem 100% no-repeat scroll}\
figcaption{max-width:44rem;margin:.5rem 0 0;color:var(--soft);font-size:.95rem}\
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 2rem}\
details{margin:.6rem 0 0}summary{cursor:pointer;font:.9rem/1.8 system-ui,sans-serif;color:var(--soft);width:fit-content}\
table{border-collapse:collapse;font:.88rem/1.45 system-ui,sans-serif;font-variant-numeric:tabular-nums;min-width:min(100%,28rem)}\
caption{text-align:left;color:var(--soft);padding:.3rem 0}\
th,td{text-align:left;vertical-align:top;padding:.34rem 1.4rem .34rem 0;border-bottom:1px solid var(--rule)}\
thead th{font-weight:600;color:var(--soft);white-space:nowrap}tbody th{font-weight:600}\
.num{text-align:right}.num,tbody th{white-space:nowrap}td:not(.num){min-width:5.5rem}.digest{display:inline-block;min-width:19rem}\
code,pre,.mono{font-family:ui-monospace,'Cascadia Mono','SF Mono',Menlo,Consolas,monospace;font-size:.86em}\
.mono{overflow-wrap:anywhere}\
pre{background:var(--wash);padding:.9rem 1rem;overflow-x:auto;line-height:1.5}\
.pairs{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.6rem;font:.9rem/1.5 system-ui,sans-serif;margin:1rem 0}\
.pairs dt{color:var(--soft)}.pairs dd{margin:0;min-width:0;overflow-wrap:anywhere}\
@media (max-width:40rem){.pairs{grid-template-columns:1fr;gap:0}.pairs dd{margin:0 0 .7rem}}\
footer{padding:2rem 0 3rem;margin-top:2rem;border-top:1px solid var(--rule);color:var(--soft);font-size:.92rem}\
@media print{nav,.skip{display:none}section{break-inside:avoid}}";

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.2.
    fn luminance(hex: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_and_graphics_have_the_contrast_of_wcag_aa() {
        for ground in [&PAPER, &WASH] {
            for (colour, least) in [(&INK, 7.0), (&SOFT, 4.5), (&GOOD, 4.5), (&BAD, 4.5), (&LINE, 3.0)]
                .into_iter()
                .chain(KIND.iter().map(|kind| (kind, 3.0)))
                .chain([(&KIND[0], 4.5)])
            {
                for (a, b) in [(colour.light, ground.light), (colour.dark, ground.dark)] {
                    assert!(contrast(a, b) >= least, "{} {a} on {b}: {:.2}", colour.name, contrast(a, b));
                }
            }
        }
    }
}
