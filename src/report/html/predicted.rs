//! Turns a prediction and the run it was made for into a chart with its diagonal, and the table behind it.

use super::markup::{Cell, Column, Kind, escape, paragraph, section, table_with_rest};
use crate::profile::{Pair, Side};
use crate::report::logscale::LogScale;
use crate::report::predicted::{Predicted, marks};
use crate::report::view::{mib, ms, signed_percent};
use crate::units::Nanos;

const WIDTH: u32 = 640;
const LEFT: u32 = 74;
const PLOT: u32 = 540;
const HEIGHT: u32 = 320;

/// Rows of a table at most; predicted.csv has all.
const MOST_ROWS: usize = 300;

/// Every block's compute and every copy: predicted, actual, difference. Nothing where nothing was predicted.
pub(super) fn predicted(told: Option<&Predicted<'_>>) -> String {
    let Some(told) = told else { return String::new() };
    let origin = told.run.summary.origin;
    let mut body = String::new();
    for sentence in told.sentences() {
        body.push_str(&paragraph("note", &sentence));
    }
    body.push_str(&scatter(told));
    body.push_str(&legend());
    let (computes, copies) = (&told.accuracy.computes, &told.accuracy.copies);
    let left_out = marks(computes).1 + marks(copies).1;
    if left_out > 0 {
        let text = format!("The {left_out} that are nearest to the prediction are not drawn.");
        body.push_str(&paragraph("note", &text));
    }
    body.push_str(&side(told, computes, "Compute of each block"));
    body.push_str(&side(told, copies, "Each copy to the device"));
    let unmatched = computes.unmatched + copies.unmatched;
    if unmatched > 0 {
        let text = format!("{unmatched} computes and copies are in only one of the two runs.");
        body.push_str(&paragraph("note", &text));
    }
    section("predicted", &format!("Predicted against {origin}"), &body)
}

fn scatter(told: &Predicted<'_>) -> String {
    let sides = [&told.accuracy.computes, &told.accuracy.copies];
    let shown = sides.map(|side| marks(side).0);
    let times = shown.iter().flatten().flat_map(|pair| [pair.predicted, pair.actual]);
    let scale = LogScale::around(times);
    let across = |time: Nanos| LEFT + scale.place(time, PLOT);
    let up = |time: Nanos| 10 + HEIGHT - scale.place(time, HEIGHT);
    let origin = told.run.summary.origin;
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"chart small\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"Predicted time against {origin} time of every block and copy; the tables below have the numbers\">",
        HEIGHT + 62
    );
    out.push_str(&band(scale, &across, &up));
    for tick in scale.ticks(9) {
        let (x, y) = (across(tick.at), up(tick.at));
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {y}h{PLOT}M{x} 10v{HEIGHT}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>\
             <text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            LEFT - 8,
            y + 4,
            HEIGHT + 28,
            label = tick.label
        ));
    }
    let (low, high) = scale.ends();
    out.push_str(&format!(
        "<path class=\"line s-bound\" stroke-width=\"1.5\" d=\"M{} {}L{} {}\"/>\
         <text class=\"level\" x=\"{}\" y=\"{}\">{origin}</text>\
         <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">predicted time (both axes logarithmic)</text>",
        across(low),
        up(low),
        across(high),
        up(high),
        LEFT + 6,
        24,
        LEFT + PLOT / 2,
        HEIGHT + 54
    ));
    for (copies, pairs) in [false, true].into_iter().zip(&shown) {
        for pair in pairs {
            let at = (across(pair.predicted), up(pair.actual));
            out.push_str(&mark(copies, at, &words(told, pair, copies)));
        }
    }
    out.push_str("</svg></div>\n");
    out
}

fn words(told: &Predicted<'_>, pair: &Pair, copy: bool) -> String {
    format!(
        "{} of {}: predicted {}, {} {} ({})",
        if copy { "copy" } else { "compute" },
        told.name(pair),
        pair.predicted.human(),
        told.run.summary.origin,
        pair.actual.human(),
        signed_percent(pair.actual, pair.predicted)
    )
}

/// A circle for computes, a diamond for copies.
fn mark(copy: bool, at: (u32, u32), title: &str) -> String {
    let (x, y) = at;
    let (class, path) = match copy {
        false => ("compute", format!("M{} {y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", x.saturating_sub(4))),
        true => ("h2d", format!("M{x} {}l5 5l-5 5l-5 -5z", y.saturating_sub(5))),
    };
    format!("<path class=\"dot {class}\" d=\"{path}\"><title>{}</title></path>", escape(title))
}

/// What lies within a tenth of the prediction.
fn band(scale: LogScale, across: &dyn Fn(Nanos) -> u32, up: &dyn Fn(Nanos) -> u32) -> String {
    let (low, high) = scale.ends();
    let share = |time: Nanos, tenths: u64| Nanos::new(time.get() / 10).saturating_mul(tenths);
    let corners = [
        (low, low),
        (low, share(low, 11)),
        (share(high, 9), high),
        (high, high),
        (high, share(high, 9)),
        (share(low, 11), low),
    ];
    let points = corners.map(|(x, y)| format!("{} {}", across(x), up(y)));
    format!("<path class=\"band\" d=\"M{}Z\"/>", points.join("L"))
}

fn legend() -> String {
    format!(
        "<ul class=\"legend\"><li><svg width=\"14\" height=\"14\" aria-hidden=\"true\">{}</svg> compute of a block</li>\
         <li><svg width=\"14\" height=\"14\" aria-hidden=\"true\">{}</svg> a copy</li>\
         <li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><path class=\"line s-bound\" stroke-width=\"1.5\" d=\"M0 6h22\"/></svg> as predicted</li>\
         <li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"band\" width=\"22\" height=\"12\"/></svg> within 10 % of it</li></ul>\n",
        mark(false, (7, 7), "compute"),
        mark(true, (7, 7), "copy")
    )
}

fn side(told: &Predicted<'_>, side: &Side, what: &str) -> String {
    if side.pairs.is_empty() {
        return String::new();
    }
    let row = |pair: &Pair| {
        let off = pair.deviation().map_or(0, |one| one.ppm());
        let apart = Nanos::new(pair.actual.get().abs_diff(pair.predicted.get()));
        let sign = match pair.actual.cmp(&pair.predicted) {
            std::cmp::Ordering::Less => "\u{2212}",
            std::cmp::Ordering::Equal => "",
            std::cmp::Ordering::Greater => "+",
        };
        let mut cells = vec![Cell::text(told.name(pair))];
        if pair.piece.is_some() {
            cells.push(Cell::number(mib(pair.bytes), pair.bytes.get()));
        }
        cells.extend([
            Cell::number(pair.passes.to_string(), pair.passes),
            Cell::number(ms(pair.predicted), pair.predicted.get()),
            Cell::number(ms(pair.actual), pair.actual.get()),
            Cell::number(format!("{sign}{}", ms(apart)), apart.get()),
            Cell::number(signed_percent(pair.actual, pair.predicted), off),
        ]);
        cells
    };
    let rows: Vec<_> = side.pairs.iter().take(MOST_ROWS).map(row).collect();
    let origin = match told.run.summary.origin {
        crate::figures::Origin::Measured => "measured ms",
        _ => "simulated ms",
    };
    let mut columns = vec![Column("block", Kind::Head)];
    if side.pairs.iter().any(|pair| pair.piece.is_some()) {
        columns.push(Column("MiB", Kind::Number));
    }
    columns.extend([
        Column("passes", Kind::Number),
        Column("predicted ms", Kind::Number),
        Column(origin, Kind::Number),
        Column("difference ms", Kind::Number),
        Column("error, % of predicted", Kind::Number),
    ]);
    let mean = side.mape().map_or("n/a".into(), |mean| mean.percent());
    let caption = format!(
        "{what}: predicted ({}) against {}, medians per use; mean absolute error {mean} of predicted. Sorted by size of \
         the difference or the error",
        told.planned.summary.origin, told.run.summary.origin
    );
    let more = side.pairs.len().saturating_sub(MOST_ROWS);
    let rest = (more > 0).then(|| vec![Cell::text(format!("and {more} more in predicted.csv"))]);
    let table = table_with_rest(&caption, true, &columns, &rows, rest.as_deref());
    format!("<details><summary>{what}: {} rows</summary>\n{table}</details>\n", side.pairs.len())
}
