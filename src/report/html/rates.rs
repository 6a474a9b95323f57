//! Turns rates by size into a chart of medians, quartiles and ranges, and the table behind it.

use super::markup::{Cell, Column, Kind, escape, section, table};
use crate::figures::Origin;
use crate::profile::SizeRates;
use crate::report::rates::{Rates, gigabytes, power_label};
use crate::report::view::ms;
use crate::units::Rate;

const WIDTH: u32 = 640;
const LEFT: u32 = 74;
const PLOT: u32 = 540;
const HEIGHT: u32 = 220;

/// The chart and its table as a section; nothing where nothing was copied.
pub(in crate::report) fn section_of(rates: &Rates, origin: Origin) -> String {
    if rates.classes.is_empty() {
        return String::new();
    }
    section("rates", "Copy rate by size", &chart_and_table(rates, origin))
}

/// The chart and its table.
pub(in crate::report) fn chart_and_table(rates: &Rates, origin: Origin) -> String {
    if rates.classes.is_empty() {
        return String::new();
    }
    chart(rates) + &legend(rates) + &rows(rates, origin)
}

fn chart(rates: &Rates) -> String {
    let (drawn, powers) = rates.drawn();
    let Some(&first) = powers.first() else { return String::new() };
    let column = PLOT / u32::try_from(powers.len()).unwrap_or(1).max(1);
    let sorts = u32::try_from(rates.sorts.len()).unwrap_or(1).max(1);
    let (top, ticks) = rates.axis();
    let up = |rate: u64| {
        let height = u128::from(rate) * u128::from(HEIGHT) / u128::from(top.get());
        10 + HEIGHT - u32::try_from(height).unwrap_or(HEIGHT)
    };
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"chart small\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"Rate of copies by size: median, quartiles and range; the table below has the numbers\">",
        HEIGHT + 62
    );
    for tick in ticks {
        let y = up(tick.at);
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {y}h{PLOT}\"/><text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8, y + 4, tick.label
        ));
    }
    let every = powers.len().div_ceil(9);
    for (index, power) in (0u32..).zip(&powers) {
        let x = LEFT + index * column;
        out.push_str(&format!("<path class=\"axis\" d=\"M{x} {}v5\"/>", HEIGHT + 10));
        if usize::try_from(index).unwrap_or(0).is_multiple_of(every) {
            out.push_str(&format!(
                "<text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                HEIGHT + 28,
                power_label(*power)
            ));
        }
    }
    out.push_str(&format!(
        "<path class=\"axis\" d=\"M{LEFT} {}h{PLOT}\"/><text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">\
         size of a copy: from the mark to its double</text>",
        HEIGHT + 10,
        LEFT + PLOT / 2,
        HEIGHT + 54
    ));
    for class in drawn {
        let power = class.from.get().checked_ilog2().unwrap_or(0);
        let of = u32::try_from(class.of).unwrap_or(0);
        let wide = (column / sorts).clamp(2, 56);
        let room = column.saturating_sub(wide * sorts) / 2;
        let x = LEFT + (power - first) * column + room + of * wide;
        out.push_str(&one(rates, class, (x, wide), &up));
    }
    out.push_str("</svg></div>\n");
    out
}

/// A box from quartile to quartile with its median, on a line from the slowest to the fastest.
fn one(rates: &Rates, class: &SizeRates<usize>, at: (u32, u32), up: &dyn Fn(u64) -> u32) -> String {
    let (x, wide) = at;
    let css = rates.sorts.get(class.of).map_or("h2d", |(_, lane)| lane.name());
    let [slowest, low, median, high, fastest] = class.rates.map(|rate| up(rate.get()));
    let (inner, middle) = ((wide * 3 / 4).max(1), x + wide / 2);
    let left = middle - inner / 2;
    format!(
        "<g class=\"box\"><path class=\"axis\" d=\"M{middle} {fastest}V{slowest}\"/>\
         <rect class=\"{css}{}\" x=\"{left}\" y=\"{high}\" width=\"{inner}\" height=\"{}\"/>\
         <path class=\"median\" d=\"M{left} {median}h{inner}\"/>\
         <rect class=\"hit\" x=\"{x}\" y=\"{fastest}\" width=\"{wide}\" height=\"{}\"><title>{}</title></rect></g>",
        if class.of.is_multiple_of(2) { "" } else { " l1" },
        (low - high).max(2),
        (slowest - fastest).max(8),
        escape(&rates.words(class))
    )
}

fn legend(rates: &Rates) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (number, (name, lane)) in rates.sorts.iter().enumerate() {
        let shade = if number.is_multiple_of(2) { "" } else { " l1" };
        out.push_str(&format!(
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"{}{shade}\" width=\"22\" height=\"12\"/></svg> {}</li>",
            lane.name(),
            escape(name)
        ));
    }
    out.push_str("<li>box: half of the copies, bar: median, line: slowest to fastest</li></ul>\n");
    out
}

fn rows(rates: &Rates, origin: Origin) -> String {
    let row = |class: &SizeRates<usize>| {
        let rate = |rate: Rate| match rate.is_zero() {
            true => Cell::text("n/a"),
            false => Cell::number(gigabytes(rate), rate.get()),
        };
        let mut cells = vec![
            Cell::text(rates.sort(class)),
            Cell::number(class.size(), class.from.get()),
            Cell::number(class.count.to_string(), class.count),
            Cell::number(class.bytes.human(), class.bytes.get()),
            Cell::number(ms(class.time), class.time.get()),
        ];
        cells.extend(class.rates.map(rate));
        cells
    };
    let rows: Vec<_> = rates.classes.iter().map(row).collect();
    let columns = [
        Column("copies", Kind::Head),
        Column("size", Kind::Number),
        Column("count", Kind::Number),
        Column("bytes", Kind::Number),
        Column("ms", Kind::Number),
        Column("slowest GB/s", Kind::Number),
        Column("lower quartile", Kind::Number),
        Column("median", Kind::Number),
        Column("upper quartile", Kind::Number),
        Column("fastest", Kind::Number),
    ];
    let caption = format!("Rate of copies by size, bytes over duration ({origin}), decimal GB/s");
    table(&caption, true, &columns, &rows)
}
