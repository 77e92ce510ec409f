//! The figures of the report, each a function from a run to markup.

use std::fmt::Write as _;

use super::chart::{self, Area, Scale, digits, escape, time};
use super::csv::Row;
use super::files::{CellFiles, RunFiles, mib_to_mb};
use crate::plan::{Acks, Cell};
use crate::tally::Series;

/// Class that gives a cell its colour: by acks, and for acks=all by min.insync.replicas.
pub fn colour(cell: &Cell) -> &'static str {
    match (cell.acks, cell.min_insync_replicas) {
        (Acks::None, _) => "k0",
        (Acks::Leader, _) => "k1",
        (Acks::All, 1) => "k2",
        (Acks::All, 2) => "k3",
        (Acks::All, _) => "k4",
    }
}

/// Class that gives a cell its kind of line: by replication factor.
fn dash(cell: &Cell) -> &'static str {
    match cell.replication_factor {
        1 => "rf1",
        2 => "rf2",
        _ => "rf3",
    }
}

/// A short line in a cell's colour and kind.
pub fn sample(cell: &Cell) -> String {
    let (colour, dash) = (colour(cell), dash(cell));
    format!(
        "<svg class=\"sample\" viewBox=\"0 0 34 10\" aria-hidden=\"true\"><path class=\"line {colour} {dash}\" d=\"M1 5L33 5\"/></svg>"
    )
}

/// Latency by percentile, one line for each cell.
pub fn percentiles(run: &RunFiles, series: Series) -> Option<String> {
    let (width, height) = (860.0, 460.0);
    let area = Area { left: 78.0, right: width - 30.0, top: 14.0, bottom: height - 56.0 };
    let drawn: Vec<_> = run
        .cells
        .iter()
        .filter_map(|files| Some((files, files.curves.get(&series).filter(|curve| curve.points.len() > 1)?)))
        .collect();
    drawn.first()?;
    // 1 / (1 - q) of the last value that stands for itself.
    let farthest = drawn.iter().map(|(_, curve)| curve.count as f64).fold(100.0, f64::max);
    let x = Scale::exact(0.0, farthest.log10(), area.left, area.right);
    let lowest = drawn.iter().map(|(_, curve)| at(&curve.points, 0.02)).fold(f64::INFINITY, f64::min);
    let highest = drawn.iter().map(|(_, curve)| at(&curve.points, 1.0)).fold(0.0, f64::max);
    let y = Scale::logarithmic(lowest, highest, area.bottom, area.top);

    let mut svg = chart::open(width, height, &format!("{} time by percentile", series.name()));
    chart::y_axis(&mut svg, area, &y, "time (logarithmic)", time);
    let ticks: Vec<(f64, String)> = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999]
        .into_iter()
        .filter(|quantile: &f64| -(1.0 - quantile).log10() <= farthest.log10() + 1e-9)
        .map(|quantile| (x.place(-(1.0 - quantile).log10()), format!("{} %", digits_of_percent(quantile))))
        .collect();
    chart::x_axis(&mut svg, area, &ticks, "records that took at most this long (percentile, logarithmic)");
    for (files, curve) in &drawn {
        let place = |(quantile, millis): &(f64, f64)| {
            let nines = -(1.0 - quantile.min(1.0 - 0.5 / curve.count.max(1) as f64)).log10();
            (x.place(nines.min(farthest.log10())), y.place(*millis))
        };
        // Beyond this fewer than 100 values remain: drawn thin, as the story of a few accidents.
        let trusted = 1.0 - 100.0 / curve.count.max(101) as f64;
        let split = curve.points.partition_point(|(quantile, _)| *quantile <= trusted).max(1);
        let solid: Vec<_> = curve.points[..split].iter().map(place).collect();
        let thin: Vec<_> = curve.points[split - 1..].iter().map(place).collect();
        let (colour, dash, id) = (colour(&files.cell), dash(&files.cell), files.cell.id());
        let title = escape(&files.cell.title());
        writeln!(
            svg,
            "<g class=\"cell\" data-cell=\"{id}\"><title>{title}</title><path class=\"line thin {colour}\" d=\"{}\"/><path class=\"line {colour} {dash}\" d=\"{}\"/></g>",
            chart::path(&thin),
            chart::path(&solid)
        )
        .expect("string");
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn digits_of_percent(quantile: f64) -> String {
    let text = format!("{:.4}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The value of a curve at a quantile.
pub fn at(points: &[(f64, f64)], quantile: f64) -> f64 {
    let place = points.partition_point(|(known, _)| *known < quantile).min(points.len() - 1);
    points[place].1
}

/// Maximum throughput against latency at the constant rate; better is to the lower right.
pub fn trade_off(run: &RunFiles, column: &str, title: &str) -> Option<String> {
    let (width, height) = (1160.0, 470.0);
    let area = Area { left: 78.0, right: width - 24.0, top: 22.0, bottom: height - 56.0 };
    let points: Vec<(&CellFiles, f64, f64)> = run
        .cells
        .iter()
        .filter_map(|files| Some((files, files.max_mb_s()?, files.rate_number(column)? / 1_000.0)))
        .collect();
    let silent: Vec<(&CellFiles, f64)> = run
        .cells
        .iter()
        .filter(|files| files.rate_number(column).is_none())
        .filter_map(|files| Some((files, files.max_mb_s()?)))
        .collect();
    if points.is_empty() {
        return None;
    }
    let most = points.iter().map(|point| point.1).chain(silent.iter().map(|one| one.1)).fold(0.0, f64::max);
    let x = Scale::linear(most * 1.08, area.left, area.right);
    let lowest = points.iter().map(|point| point.2).fold(f64::INFINITY, f64::min);
    let highest = points.iter().map(|point| point.2).fold(0.0, f64::max);
    let y = Scale::logarithmic(lowest * 0.8, highest * 1.25, area.bottom, area.top);

    let mut svg = chart::open(width, height, &format!("maximum throughput against {title}"));
    chart::y_axis(&mut svg, area, &y, &format!("{title} at the constant rate"), time);
    let ticks: Vec<_> = x.ticks().into_iter().map(|(value, _)| (x.place(value), digits(value))).collect();
    chart::x_axis(&mut svg, area, &ticks, "maximum throughput, MB/s of record values");
    chart::label(&mut svg, area.right - 6.0, area.bottom - 8.0, "hint end", "better ↘");

    // Cells that no other cell beats in both: each step keeps the lowest latency so far, from the fastest on.
    let mut by_throughput = points.clone();
    by_throughput.sort_by(|one, other| other.1.total_cmp(&one.1));
    let mut front: Vec<(f64, f64)> = Vec::new();
    for (_, mb_s, millis) in &by_throughput {
        if front.last().is_none_or(|(_, lowest)| *millis < *lowest) {
            front.push((*mb_s, *millis));
        }
    }
    let placed: Vec<_> = front.iter().map(|(mb_s, millis)| (x.place(*mb_s), y.place(*millis))).collect();
    if placed.len() > 1 {
        writeln!(svg, "<path class=\"front\" d=\"{}\"/>", chart::path(&placed)).expect("string");
    }
    for (files, mb_s) in &silent {
        let (px, colour, id) = (x.place(*mb_s), colour(&files.cell), files.cell.id());
        let (low, high) = (area.bottom, area.bottom - 14.0);
        let title = escape(&format!("{}: {} MB/s, no such time", files.cell.title(), digits(*mb_s)));
        writeln!(
            svg,
            "<g class=\"cell\" data-cell=\"{id}\"><title>{title}</title><line class=\"rug {colour}\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{low}\" y2=\"{high}\"/></g>"
        )
        .expect("string");
    }
    let places: Vec<(f64, f64)> = points.iter().map(|(_, mb_s, millis)| (x.place(*mb_s), y.place(*millis))).collect();
    let texts: Vec<String> = points.iter().map(|(files, ..)| short(&files.cell)).collect();
    let widths: Vec<f64> = texts.iter().map(|text| text.chars().count() as f64 * 6.6 + 6.0).collect();
    let labels = chart::place_labels(&places, &widths, area);
    for (((files, mb_s, millis), (px, py)), (text, place)) in points.iter().zip(&places).zip(texts.iter().zip(&labels))
    {
        let (colour, id) = (colour(&files.cell), files.cell.id());
        let title = escape(&format!("{}: {} MB/s, {}", files.cell.title(), digits(*mb_s), time(*millis)));
        let (lx, ly) = (place.x + place.width / 2.0, place.y + place.height / 2.0);
        write!(svg, "<g class=\"cell\" data-cell=\"{id}\"><title>{title}</title>").expect("string");
        if (lx - px).hypot(ly - py) > place.width / 2.0 + 16.0 {
            write!(svg, "<line class=\"leader\" x1=\"{px:.1}\" y1=\"{py:.1}\" x2=\"{lx:.1}\" y2=\"{ly:.1}\"/>")
                .expect("string");
        }
        svg.push_str(&mark(&files.cell, *px, *py));
        writeln!(
            svg,
            "<text class=\"point {colour} middle\" x=\"{lx:.1}\" y=\"{:.1}\">{}</text></g>",
            ly + 4.0,
            escape(text)
        )
        .expect("string");
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn short(cell: &Cell) -> String {
    match cell.acks {
        Acks::All => format!("all RF{} min{}", cell.replication_factor, cell.min_insync_replicas),
        acks => format!("{acks} RF{}", cell.replication_factor),
    }
}

/// Circle, square or triangle: by replication factor.
fn mark(cell: &Cell, x: f64, y: f64) -> String {
    let colour = colour(cell);
    match cell.replication_factor {
        1 => format!("<circle class=\"mark {colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\"/>"),
        2 => format!(
            "<rect class=\"mark {colour}\" x=\"{:.1}\" y=\"{:.1}\" width=\"11\" height=\"11\"/>",
            x - 5.5,
            y - 5.5
        ),
        _ => format!("<path class=\"mark {colour}\" d=\"M{:.1} {:.1}l7 12.5h-14z\"/>", x, y - 7.8),
    }
}

/// Throughput of each cell as a part of the ceiling with as many copies.
pub fn ceiling_bars(run: &RunFiles) -> Option<String> {
    let bars: Vec<(&CellFiles, f64, Option<f64>)> = run
        .cells
        .iter()
        .filter_map(|files| Some((files, files.max_mb_s()?, files.ceiling_ratio(&run.ceilings))))
        .collect();
    if bars.is_empty() {
        return None;
    }
    let with_ratio = bars.iter().any(|(_, _, ratio)| ratio.is_some());
    let most =
        bars.iter().map(|(_, mb_s, ratio)| if with_ratio { ratio.unwrap_or(0.0) } else { *mb_s }).fold(0.0, f64::max);
    let mut factors: Vec<u16> = bars.iter().map(|(files, ..)| files.cell.replication_factor).collect();
    factors.sort_unstable();
    factors.dedup();
    let row_height = 25.0;
    let height = 22.0 + bars.len() as f64 * row_height + factors.len() as f64 * 34.0 + 52.0;
    let width = 1160.0;
    let area = Area { left: 196.0, right: width - 190.0, top: 10.0, bottom: height - 52.0 };
    let x = match with_ratio {
        true => Scale::linear(most.max(1.0), area.left, area.right),
        false => Scale::linear(most, area.left, area.right),
    };
    let mut svg = chart::open(width, height, "maximum throughput as a part of the ceiling");
    let ticks: Vec<_> = x.ticks().into_iter().map(|(value, _)| (x.place(value), digits(value))).collect();
    let title = if with_ratio { "part of the ceiling's throughput" } else { "maximum throughput, MB/s" };
    chart::x_axis(&mut svg, area, &ticks, title);
    let mut y = area.top + 8.0;
    for factor in factors {
        let ceiling = run.ceilings.throughput(factor);
        let heading = match ceiling {
            Some(ceiling) => format!("RF {factor}: ceiling {} MB/s", digits(ceiling.acked_mb_s)),
            None => format!("RF {factor}"),
        };
        y += 20.0;
        chart::label(&mut svg, area.left, y - 4.0, "group", &heading);
        y += 6.0;
        for (files, mb_s, ratio) in bars.iter().filter(|(files, ..)| files.cell.replication_factor == factor) {
            let value = if with_ratio { ratio.unwrap_or(0.0) } else { *mb_s };
            let (colour, id, end) = (colour(&files.cell), files.cell.id(), x.place(value));
            let bar = (end - area.left).max(1.0);
            let name = match files.cell.acks {
                Acks::All => format!("acks=all, min ISR {}", files.cell.min_insync_replicas),
                acks => format!("acks={acks}"),
            };
            chart::label(&mut svg, area.left - 10.0, y + 13.0, "tick end", &name);
            writeln!(
                svg,
                "<g class=\"cell\" data-cell=\"{id}\"><title>{}</title><rect class=\"bar {colour}\" x=\"{}\" y=\"{y:.1}\" width=\"{bar:.1}\" height=\"17\" rx=\"2\"/>",
                escape(&files.cell.title()),
                area.left
            )
            .expect("string");
            let mut reach = end;
            if let Some((low, high)) = spread_mb_s(files) {
                let per_mb = if with_ratio { value / mb_s } else { 1.0 };
                let (low, high, middle) = (x.place(low * per_mb), x.place(high * per_mb), y + 8.5);
                writeln!(svg, "<path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v8M{high:.1} {:.1}v8\"/>", middle - 4.0, middle - 4.0).expect("string");
                reach = reach.max(high);
            }
            let text = match ratio {
                Some(ratio) => format!("{ratio:.2} · {} MB/s", digits(*mb_s)),
                None => format!("{} MB/s", digits(*mb_s)),
            };
            chart::label(&mut svg, reach + 10.0, y + 13.0, "value", &text);
            svg.push_str("</g>\n");
            y += row_height;
        }
        y += 8.0;
    }
    if with_ratio {
        let one = x.place(1.0);
        writeln!(
            svg,
            "<line class=\"limit\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{}\" y2=\"{}\"/>",
            area.top, area.bottom
        )
        .expect("string");
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Slowest and fastest second of the maximum-rate phase.
fn spread_mb_s(files: &CellFiles) -> Option<(f64, f64)> {
    let seconds: Vec<f64> =
        files.max_seconds.iter().filter_map(|row| row.number("acked_mib_s")).map(mib_to_mb).collect();
    if seconds.len() < 2 {
        return None;
    }
    Some((seconds.iter().copied().fold(f64::INFINITY, f64::min), seconds.iter().copied().fold(0.0, f64::max)))
}

/// Two small charts of one cell over time: times at the constant rate, throughput at the maximum.
pub fn over_time(files: &CellFiles) -> String {
    let mut markup = String::new();
    let seconds = |rows: &[Row], column: &str, factor: f64| -> Vec<(f64, f64)> {
        let values = rows.iter().enumerate();
        values.filter_map(|(index, row)| Some((index as f64 + 1.0, row.number(column)? * factor))).collect()
    };
    let series = if files.cell.acks == Acks::None { "e2e" } else { "response" };
    let lines: Vec<(&str, Vec<(f64, f64)>)> = [("p50", "strong"), ("p90", ""), ("max", "faint")]
        .into_iter()
        .map(|(statistic, class)| (class, seconds(&files.rate_seconds, &format!("{series}_{statistic}_us"), 1e-3)))
        .collect();
    if lines.iter().any(|(_, points)| points.len() > 1) {
        let title = format!("{} p50, p90, max by second", if series == "e2e" { "end-to-end" } else { "response" });
        markup.push_str(&small(files, &title, &lines, true, time));
    }
    let throughput = seconds(&files.max_seconds, "acked_mib_s", mib_to_mb(1.0));
    if throughput.len() > 1 {
        let lines = [("strong", throughput)];
        markup.push_str(&small(files, "MB/s by second, maximum rate", &lines, false, digits));
    }
    markup
}

fn small(
    files: &CellFiles,
    title: &str,
    lines: &[(&str, Vec<(f64, f64)>)],
    logarithmic: bool,
    format: impl Fn(f64) -> String,
) -> String {
    let (width, height) = (330.0, 132.0);
    let area = Area { left: 58.0, right: width - 10.0, top: 22.0, bottom: height - 20.0 };
    let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let y = match logarithmic {
        true => Scale::logarithmic(low, high, area.bottom, area.top),
        false => Scale::linear(high, area.bottom, area.top),
    };
    let last = lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.0)).fold(1.0, f64::max);
    let x = Scale::exact(1.0, last, area.left, area.right);
    let mut svg = chart::open(width, height, &format!("{}: {title}", files.cell.title()));
    chart::label(&mut svg, area.left, 13.0, "small", title);
    let labelled: Vec<f64> = y.ticks().into_iter().filter(|(_, label)| *label).map(|(value, _)| value).collect();
    // The height leaves room for about four labels.
    let every = labelled.len().div_ceil(4).max(1);
    for value in labelled.into_iter().step_by(every) {
        let place = y.place(value);
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>",
            area.left, area.right
        )
        .expect("string");
        chart::label(&mut svg, area.left - 6.0, place + 3.5, "small end", &format(value));
    }
    for second in [1.0, last] {
        chart::label(&mut svg, x.place(second), area.bottom + 14.0, "small middle", &format!("{second:.0} s"));
    }
    let colour = colour(&files.cell);
    for (class, points) in lines {
        let placed: Vec<_> = points.iter().map(|(second, value)| (x.place(*second), y.place(*value))).collect();
        writeln!(svg, "<path class=\"line {colour} {class}\" d=\"{}\"/>", chart::path(&placed)).expect("string");
    }
    svg.push_str("</svg>\n");
    svg
}
