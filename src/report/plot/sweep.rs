//! Turns a sweep into the frontier: pass time against VRAM, a line per policy, the bound, the chosen budget.

use plotters::prelude::RGBColor;

use super::canvas::{Anchor, BLUE, GREEN, GRID, INK, ORANGE, PURPLE, RED, SKY, SOFT, Sheet};
use crate::error::Result;
use crate::report::axis::{bytes_ticks, time_ticks};
use crate::report::frontier::{Series, axis_note, times};
use crate::report::slices::Window;
use crate::units::{Bytes, Nanos};

const LEFT: i32 = 90;
const PLOT: u32 = 760;
const RIGHT: i32 = LEFT + 760;
const TOP: i32 = 46;
const BOTTOM: i32 = 440;
const COLOURS: [RGBColor; 7] = [BLUE, ORANGE, GREEN, PURPLE, RED, SKY, RGBColor(143, 143, 0)];

/// Width and height of the picture; the legend at the right may need more than the plot.
pub(super) fn size(lines: &[Series]) -> (u32, u32) {
    let legend = u32::try_from(lines.len()).unwrap_or(0).min(100) * 36 + 90;
    (1200, legend.max(510))
}

/// How values become pixels.
struct Scale {
    across: Window,
    up: Window,
}

impl Scale {
    fn of(budget: Bytes, lines: &[Series]) -> Self {
        let points = || lines.iter().flat_map(|line| &line.points);
        let low = points().map(|point| point.0).min().unwrap_or_default().min(budget);
        let high = points().map(|point| point.0).max().unwrap_or_default().max(budget);
        Self {
            across: Window { start: Nanos::new(low.get()), end: Nanos::new(high.get()) },
            up: times(lines),
        }
    }

    fn at(&self, vram: Bytes, pass: Nanos) -> (i32, i32) {
        let x = self.across.place(Nanos::new(vram.get()), PLOT);
        let y = self.up.place(pass, (BOTTOM - TOP).unsigned_abs());
        (LEFT + i32::try_from(x).unwrap_or(0), BOTTOM - i32::try_from(y).unwrap_or(0))
    }
}

/// Draws axes, lines, budget and legend.
pub(super) fn draw(budget: Bytes, lines: &[Series], sheet: &mut dyn Sheet) -> Result<()> {
    let scale = Scale::of(budget, lines);
    sheet.text((12, 20), 17, Anchor::Start, INK, "Steady pass time against VRAM budget")?;
    if let Some(note) = axis_note(scale.up) {
        sheet.text((RIGHT, 20), 12, Anchor::End, SOFT, &note)?;
    }
    for tick in time_ticks(scale.up.start, scale.up.end, 8) {
        let (_, y) = scale.at(budget, tick.at);
        sheet.line(&[(LEFT, y), (RIGHT, y)], GRID, 1)?;
        sheet.text((LEFT - 10, y), 12, Anchor::End, SOFT, &tick.label)?;
    }
    let low = Bytes::new(scale.across.start.get());
    let high = Bytes::new(scale.across.end.get());
    for tick in bytes_ticks(high, 12).iter().filter(|tick| tick.at >= low) {
        let (x, _) = scale.at(tick.at, Nanos::ZERO);
        sheet.line(&[(x, BOTTOM), (x, BOTTOM + 5)], SOFT, 1)?;
        sheet.text((x, BOTTOM + 16), 12, Anchor::Middle, SOFT, &tick.label)?;
    }
    sheet.text(((LEFT + RIGHT) / 2, BOTTOM + 42), 13, Anchor::Middle, SOFT, "VRAM budget")?;
    let (x, _) = scale.at(budget, Nanos::ZERO);
    sheet.line(&[(x, TOP), (x, BOTTOM)], RED, 2)?;
    let (beside, anchor) =
        if x > RIGHT - 130 { (x - 6, Anchor::End) } else { (x + 6, Anchor::Start) };
    sheet.text((beside, TOP + 8), 12, anchor, RED, &format!("budget {}", budget.human()))?;
    for (index, line) in lines.iter().enumerate() {
        one(sheet, &scale, index, line)?;
    }
    Ok(())
}

fn one(sheet: &mut dyn Sheet, scale: &Scale, index: usize, line: &Series) -> Result<()> {
    let colour = if line.is_bound { INK } else { COLOURS[index % COLOURS.len()] };
    let width = 2 + 2 * line.under.min(3);
    let points: Vec<(i32, i32)> =
        line.points.iter().map(|&(vram, pass)| scale.at(vram, pass)).collect();
    sheet.line(&points, colour, width)?;
    for &point in points.iter().filter(|_| !line.is_bound) {
        mark(sheet, point, index, line.under, colour)?;
    }
    if index >= 100 {
        return Ok(());
    }
    let y = TOP + 10 + 36 * i32::try_from(index).unwrap_or(0);
    let x = RIGHT + 24;
    sheet.line(&[(x, y), (x + 26, y)], colour, width)?;
    if !line.is_bound {
        mark(sheet, (x + 13, y), index, line.under, colour)?;
    }
    sheet.text((x + 34, y), 13, Anchor::Start, INK, &line.name)?;
    sheet.text((x + 34, y + 15), 10, Anchor::Start, SOFT, &line.twin)
}

/// A circle, a square or a triangle in turn, so that lines are told apart without colour; larger below other lines.
fn mark(
    sheet: &mut dyn Sheet,
    at: (i32, i32),
    index: usize,
    under: u32,
    colour: RGBColor,
) -> Result<()> {
    let r = 4 + i32::try_from(under.min(3)).unwrap_or(0);
    match index % 3 {
        0 => sheet.dot(at, r, colour),
        1 => sheet.rect((at.0 - r + 1, at.1 - r + 1), (at.0 + r, at.1 + r), colour),
        _ => sheet.fill(
            &[(at.0, at.1 - r - 1), (at.0 + r + 1, at.1 + r), (at.0 - r - 1, at.1 + r)],
            colour,
        ),
    }
}
