//! What all pictures are made with: a picture with its words, axes with round ticks, numbers with units.

use fixture::printable;
use maud::{Markup, html};

use super::style;

/// A drawing with the words that stand for it where it cannot be seen.
pub struct Picture {
    /// Its id in the page, and the name of its file.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What it shows.
    pub description: String,
    /// Width in pixels, as drawn.
    pub width: f64,
    /// Height in pixels, as drawn.
    pub height: f64,
    /// The drawing.
    pub body: Markup,
}

/// How far the ground of a picture that stands alone reaches beyond it.
const EDGE: f64 = 16.0;

impl Picture {
    /// As part of a page, which has the style.
    pub fn inline(&self) -> Markup {
        self.svg(None, 0.0)
    }

    /// As a file of its own, with its style and ground.
    pub fn alone(&self) -> String {
        let ground = html! {
            style { (maud::PreEscaped(style::picture())) }
            rect .f-paper x=(n(-EDGE)) y=(n(-EDGE)) width="100%" height="100%" {}
        };
        // XML has no place for what is not printable, not even escaped.
        printable::text(&self.svg(Some(ground), EDGE).into_string()).into_owned() + "\n"
    }

    fn svg(&self, before: Option<Markup>, edge: f64) -> Markup {
        let Self { name, title, description, body, .. } = self;
        let (width, height) = (self.width + 2.0 * edge, self.height + 2.0 * edge);
        html! {
            svg .fx xmlns="http://www.w3.org/2000/svg" role="img" id=(name)
                aria-labelledby={ (name) "-title" } aria-describedby={ (name) "-desc" }
                viewBox=(format!("{0} {0} {1} {2}", n(-edge), n(width), n(height))) style={ "max-width:" (n(width)) "px" } {
                title id={ (name) "-title" } { (title) }
                desc id={ (name) "-desc" } { (description) }
                @if let Some(before) = before { (before) }
                (body)
            }
        }
    }
}

/// A coordinate: as many digits as a screen shows.
pub fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    // Half a pixel to the left of 0 is rounded to a 0 with a sign.
    text.strip_prefix('-').filter(|text| *text == "0").unwrap_or(text).to_owned()
}

/// Values along a line of the picture.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Pixels at both ends.
    pub pixels: (f64, f64),
    /// Values at both ends.
    pub values: (f64, f64),
}

impl Axis {
    /// Where a value is.
    pub fn at(&self, value: f64) -> f64 {
        let ((from, to), (low, high)) = (self.pixels, self.values);
        if high > low { from + (value - low) / (high - low) * (to - from) } else { from }
    }

    /// About so many round values between both ends.
    pub fn ticks(&self, about: f64) -> Vec<f64> {
        let (low, high) = self.values;
        let step = round_step((high - low) / about);
        let (first, last) = ((low / step).ceil() as i64, (high / step * 1.000_001).floor() as i64);
        (first..=last).map(|tick| tick as f64 * step).collect()
    }

    /// The axis below a plot that reaches from `top` to `bottom`, with guide lines and its unit.
    pub fn below(&self, top: f64, bottom: f64, title: &str) -> Markup {
        let (from, to) = self.pixels;
        html! {
            @for tick in self.ticks(8.0) {
                @let x = n(self.at(tick));
                line .s-rule x1=(x) x2=(x) y1=(n(top)) y2=(n(bottom + 5.0)) {}
                text .f-soft.mid x=(x) y=(n(bottom + 18.0)) { (number(tick)) }
            }
            line .s-line x1=(n(from)) x2=(n(to)) y1=(n(bottom)) y2=(n(bottom)) {}
            text .f-soft.small.end x=(n(to)) y=(n(bottom + 34.0)) { (title) }
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least as long as the step.
fn round_step(step: f64) -> f64 {
    if step <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// The least of 1, 2 or 5 times a power of ten that a value does not exceed.
pub fn round_up(value: f64) -> f64 {
    round_step(value)
}

/// A number for people: no digits that say nothing, thousands set apart from five digits on.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, rest) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    let digits = whole.trim_start_matches('-').len();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if digits >= 5 && left % 3 == 0 && index > 0 && digit.is_ascii_digit() && left < digits {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    rest.map_or(grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

/// A count for people.
pub fn count(value: u64) -> String {
    number(value as f64)
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Its symbol.
    pub symbol: &'static str,
    /// How many nanoseconds it is.
    pub ns: f64,
}

/// The largest unit that a time is at least one of.
pub fn unit(ns: f64) -> Unit {
    let units = [("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)];
    let (symbol, length) = units.into_iter().find(|(_, length)| ns >= *length).unwrap_or(units[3]);
    Unit { symbol, ns: length }
}

/// A duration with the unit that suits it, and three digits or so.
pub fn duration(ns: u64) -> String {
    let unit = unit(ns as f64);
    let value = ns as f64 / unit.ns;
    let digits = if value >= 100.0 || unit.ns == 1.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", unit.symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let ticks = |low: f64, high: f64| Axis { pixels: (0.0, 100.0), values: (low, high) }.ticks(5.0);
        assert_eq!(ticks(0.0, 1000.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        assert_eq!(ticks(40.2, 44.6), [41.0, 42.0, 43.0, 44.0]);
        assert_eq!(ticks(0.0, 0.0), [0.0]);
    }

    #[test]
    fn numbers_and_durations_are_for_people() {
        assert_eq!(
            [number(1206.0), number(12_065.5), number(0.25), number(-3.0)],
            ["1206", "12\u{202f}065.5", "0.25", "-3"]
        );
        let times = [0, 999, 1_500, 2_462_296_331, 40_670_786_412, 232_680].map(duration);
        assert_eq!(times, ["0 ns", "999 ns", "1.50 µs", "2.46 s", "40.7 s", "233 µs"]);
    }

    #[test]
    fn what_names_hold_is_escaped() {
        let title = String::from("<b>&\"\x1b[2J\u{ffff}\u{202e}");
        let picture = Picture {
            name: "a".into(),
            description: title.clone(),
            title,
            width: 10.0,
            height: 5.5,
            body: html! {},
        };
        let text = picture.alone();
        assert!(
            text.contains("<title id=\"a-title\">&lt;b&gt;&amp;&quot;\\x1b[2J\\u{ffff}\\u{202e}</title>"),
            "{text}"
        );
        roxmltree::Document::parse(&text).unwrap();
    }
}
