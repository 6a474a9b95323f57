//! Turns crossings from one component to the next into the page's table, its windows and the lines in its pictures, and
//! what every engine pays there into another table.

use super::markup::{Cell, Column, Kind, escape, section, table};
use crate::report::boundaries::Crossing;
use crate::report::extras::Extras;
use crate::report::view::{View, ms};
use crate::units::Nanos;

/// Crossings that are listed and marked at most.
const MOST: usize = 64;

/// The crossings that are shown.
pub(super) fn shown(view: &View<'_>) -> Vec<Crossing> {
    let mut crossings = Crossing::all(view);
    crossings.truncate(MOST);
    crossings
}

/// The tables; nothing where one component ran.
pub(super) fn boundaries(view: &View<'_>, planned: Option<&View<'_>>, extras: &Extras) -> String {
    let crossings = shown(view);
    if crossings.is_empty() && extras.boundaries.is_empty() {
        return String::new();
    }
    let predicted = planned.map(Crossing::all).unwrap_or_default();
    let time = |time: Nanos| Cell::number(ms(time), time.get());
    let rows: Vec<Vec<Cell>> = crossings
        .iter()
        .map(|one| {
            let told = predicted.iter().find(|other| (other.from, other.to) == (one.from, one.to));
            vec![
                Cell::text(one.name(view)),
                time(one.at),
                time(one.first),
                time(one.usual),
                time(one.cost()),
                told.map_or_else(|| Cell::text("n/a"), |told| time(told.cost())),
                Cell::number(one.bytes.human(), one.bytes.get()),
                Cell::number(one.early.human(), one.early.get()),
            ]
        })
        .collect();
    let columns = [
        Column("boundary", Kind::Head),
        Column("at ms", Kind::Number),
        Column("first pass ms", Kind::Number),
        Column("usual pass ms", Kind::Number),
        Column("cost ms", Kind::Number),
        Column("predicted cost ms", Kind::Number),
        Column("copied for it", Kind::Number),
        Column("of which early", Kind::Number),
    ];
    let caption = format!(
        "What going from one component to the next costs ({}): its first pass less a usual one, of a single pass less its \
         computes. Early is what arrived while the component before computed",
        view.summary.origin
    );
    let mut body = table(&caption, false, &columns, &rows);
    body.push_str(&engines(extras));
    section("boundaries", "Boundaries", &body)
}

/// What every engine pays at the same boundaries.
fn engines(extras: &Extras) -> String {
    let Some(first) = extras.boundaries.first() else { return String::new() };
    let names: Vec<String> = first.costs.iter().map(|(name, _)| format!("{name}, ms")).collect();
    let mut columns = vec![Column("policy", Kind::Head), Column("whole run ms", Kind::Number)];
    columns.extend(names.iter().map(|name| Column(name, Kind::Number)));
    let row = |run: &crate::report::extras::BoundaryRow| {
        let total = |time: Nanos| Cell::number(ms(time), time.get());
        let mut cells = vec![Cell::text(run.policy.clone())];
        cells.push(run.total.map_or_else(|| Cell::text("\u{2013}"), total));
        cells.extend(run.costs.iter().map(|(_, cost)| total(*cost)));
        cells
    };
    let rows: Vec<Vec<Cell>> = extras.boundaries.iter().map(row).collect();
    let caption = "One generation from an empty slab by every engine that serves such a model (estimated): what its \
                   boundaries cost, what goes back to the host before them included";
    table(caption, false, &columns, &rows)
}

/// A line across `height` of a static picture at every crossing within a window, with its name.
pub(super) fn lines(
    view: &View<'_>,
    place: &dyn Fn(Nanos) -> Option<u32>,
    (top, height): (u32, u32),
) -> String {
    let mut out = String::new();
    for one in shown(view) {
        let Some(x) = place(one.at) else { continue };
        out.push_str(&format!(
            "<path class=\"boundary\" d=\"M{x} {top}v{height}\"><title>{}</title></path>",
            escape(&one.name(view))
        ));
    }
    out
}
