//! Axes and small parts of SVG. Colours come from the page's style sheet by class, so that light and dark both work.

use std::fmt::Write as _;

/// A chart's drawing area within its box.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
}

/// A value to a position.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// Linear from 0 to a round number that is at least `high`.
    pub fn linear(high: f64, from: f64, to: f64) -> Scale {
        let step = nice_step(high.max(1e-9) / 5.0);
        Scale { low: 0.0, high: (high.max(1e-9) / step).ceil() * step, from, to, logarithmic: false }
    }

    /// Linear between exactly these.
    pub fn exact(low: f64, high: f64, from: f64, to: f64) -> Scale {
        Scale { low, high: high.max(low + 1e-9), from, to, logarithmic: false }
    }

    /// Logarithmic between 1-2-5 steps around the values.
    pub fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Scale {
        let (low, high) = (low.max(1e-6), high.max(low * 1.5).max(1e-6));
        let below = |value: f64| step_125(value, f64::floor);
        let above = |value: f64| step_125(value, f64::ceil);
        Scale { low: below(low), high: above(high), from, to, logarithmic: true }
    }

    /// Where a value stands.
    pub fn place(&self, value: f64) -> f64 {
        let share = match self.logarithmic {
            true => (value.max(self.low * 1e-3).ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + share.clamp(-0.02, 1.02) * (self.to - self.from)
    }

    /// Values for grid lines, and whether they carry a label.
    pub fn ticks(&self) -> Vec<(f64, bool)> {
        let mut ticks = Vec::new();
        if self.logarithmic {
            let decades = (self.high / self.low).log10();
            let mut power = 10f64.powf(self.low.log10().floor());
            while power <= self.high * 1.001 {
                for factor in 1..10 {
                    let value = power * f64::from(factor);
                    if value >= self.low * 0.999 && value <= self.high * 1.001 {
                        let label = matches!(factor, 1) || (decades < 3.1 && matches!(factor, 2 | 5));
                        ticks.push((value, label));
                    }
                }
                power *= 10.0;
            }
        } else {
            let step = nice_step((self.high - self.low) / 5.0);
            let mut value = (self.low / step).ceil() * step;
            while value <= self.high + step * 1e-6 {
                ticks.push((value, true));
                value += step;
            }
        }
        ticks
    }
}

fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = match step / power {
        factor if factor <= 1.0 => 1.0,
        factor if factor <= 2.0 => 2.0,
        factor if factor <= 2.5 => 2.5,
        factor if factor <= 5.0 => 5.0,
        _ => 10.0,
    };
    factor * power
}

fn step_125(value: f64, round: fn(f64) -> f64) -> f64 {
    const STEPS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
    let power = 10f64.powf(value.log10().floor());
    let factor = value / power;
    let up = round(0.5) > 0.5;
    let step = match up {
        true => STEPS.into_iter().find(|step| *step >= factor * 0.9999).unwrap_or(10.0),
        false => STEPS.into_iter().rev().find(|step| *step <= factor * 1.0001).unwrap_or(1.0),
    };
    step * power
}

/// Text for markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A time given in milliseconds, with a unit that suits it and three digits.
pub fn time(millis: f64) -> String {
    match millis {
        millis if millis < 0.9995 => format!("{} µs", digits(millis * 1_000.0)),
        millis if millis < 999.5 => format!("{} ms", digits(millis)),
        millis => format!("{} s", digits(millis / 1_000.0)),
    }
}

/// A number with about three digits.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => trim(format!("{value:.1}")),
        _ => trim(format!("{value:.2}")),
    }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A large count, readable.
pub fn count(value: f64) -> String {
    // The sum of nothing is −0.
    match value + 0.0 {
        value if value >= 1e6 => format!("{} M", digits(value / 1e6)),
        value if value >= 1e4 => format!("{} k", digits(value / 1e3)),
        value => format!("{value:.0}"),
    }
}

/// Opens a chart.
pub fn open(width: f64, height: f64, label: &str) -> String {
    let label = escape(label);
    format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">\n<title>{label}</title>\n")
}

/// Horizontal grid lines with labels at the left.
pub fn y_axis(svg: &mut String, area: Area, scale: &Scale, title: &str, format: impl Fn(f64) -> String) {
    for (value, labelled) in scale.ticks() {
        let y = scale.place(value);
        let class = if labelled { "grid" } else { "grid minor" };
        let (left, right) = (area.left, area.right);
        writeln!(svg, "<line class=\"{class}\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")
            .expect("string");
        if labelled {
            label(svg, left - 8.0, y + 4.0, "tick end", &format(value));
        }
    }
    let (x, y) = (area.left - 58.0, (area.top + area.bottom) / 2.0);
    let title = escape(title);
    writeln!(
        svg,
        "<text class=\"axis\" x=\"{x:.1}\" y=\"{y:.1}\" transform=\"rotate(-90 {x:.1} {y:.1})\" text-anchor=\"middle\">{title}</text>"
    )
    .expect("string");
}

/// Vertical grid lines with labels below.
pub fn x_axis(svg: &mut String, area: Area, ticks: &[(f64, String)], title: &str) {
    for (x, text) in ticks {
        let (top, bottom) = (area.top, area.bottom);
        writeln!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>")
            .expect("string");
        label(svg, *x, bottom + 18.0, "tick middle", text);
    }
    label(svg, (area.left + area.right) / 2.0, area.bottom + 40.0, "axis middle", title);
}

/// A piece of text.
pub fn label(svg: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = escape(text);
    writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>").expect("string");
}

/// A line through points.
pub fn path(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        write!(text, "{command}{x:.1} {y:.1}").expect("string");
    }
    text
}

/// A rectangle that text takes up.
#[derive(Debug, Clone, Copy)]
pub struct Rectangle {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Rectangle {
    fn overlap(&self, other: &Rectangle) -> f64 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        width.max(0.0) * height.max(0.0)
    }
}

/// Finds a place for the label of each point so that labels cover neither one another nor points: each takes the free
/// place nearest to its point, on rings around it.
pub fn place_labels(points: &[(f64, f64)], widths: &[f64], area: Area) -> Vec<Rectangle> {
    const HEIGHT: f64 = 15.0;
    let mut taken: Vec<Rectangle> =
        points.iter().map(|(x, y)| Rectangle { x: x - 7.0, y: y - 7.0, width: 14.0, height: 14.0 }).collect();
    let mut placed = Vec::new();
    for ((x, y), width) in points.iter().zip(widths) {
        let mut best: Option<(f64, Rectangle)> = None;
        for ring in 0..9 {
            for step in 0..16 {
                let angle = f64::from(step) * std::f64::consts::TAU / 16.0;
                let distance = 13.0 + f64::from(ring) * 11.0;
                let (centre_x, centre_y) =
                    (x + angle.cos() * (distance + width / 2.0 * angle.cos().abs()), y + angle.sin() * distance);
                let candidate =
                    Rectangle { x: centre_x - width / 2.0, y: centre_y - HEIGHT / 2.0, width: *width, height: HEIGHT };
                let outside = (area.left - candidate.x).max(0.0)
                    + (candidate.x + width - area.right).max(0.0)
                    + (area.top - candidate.y).max(0.0)
                    + (candidate.y + HEIGHT - area.bottom).max(0.0);
                let covered: f64 = taken.iter().map(|other| candidate.overlap(other)).sum();
                let cost = covered * 10.0 + outside * 100.0 + distance;
                if best.is_none_or(|(lowest, _)| cost < lowest) {
                    best = Some((cost, candidate));
                }
            }
        }
        let rectangle = best.expect("there are candidates").1;
        taken.push(rectangle);
        placed.push(rectangle);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_logarithmic_axis_ends_at_round_numbers() {
        let scale = Scale::logarithmic(0.13, 47.0, 0.0, 100.0);
        let values: Vec<f64> = scale.ticks().iter().filter(|(_, label)| *label).map(|(value, _)| *value).collect();
        assert!((values[0] - 0.1).abs() < 1e-9 && (values.last().unwrap() - 50.0).abs() < 1e-6, "{values:?}");
        assert!((scale.place(0.1) - 0.0).abs() < 1e-6 && (scale.place(50.0) - 100.0).abs() < 1e-6);
    }

    #[test]
    fn chart_times_have_the_unit_that_suits_them() {
        assert_eq!(time(0.1214), "121 µs");
        assert_eq!(time(3.5), "3.5 ms");
        assert_eq!(time(12_345.0), "12.3 s");
        assert_eq!(count(1_234_567.0), "1.23 M");
    }

    #[test]
    fn chart_labels_of_crowded_points_do_not_overlap() {
        let area = Area { left: 0.0, right: 800.0, top: 0.0, bottom: 400.0 };
        let points: Vec<(f64, f64)> = (0..9).map(|index| (400.0 + f64::from(index) * 6.0, 200.0)).collect();
        let placed = place_labels(&points, &[60.0; 9], area);
        for (index, one) in placed.iter().enumerate() {
            for other in &placed[index + 1..] {
                assert!(one.overlap(other) < 1.0, "{one:?} {other:?}");
            }
        }
    }
}
