//! Turns a run into two rows of lanes: the whole run above, one steady pass below.

use super::canvas::{Anchor, GHOST, GRID, INK, RED, SOFT, Sheet, lane_colour};
use crate::error::Result;
use crate::report::View;
use crate::report::axis::time_ticks;
use crate::report::held;
use crate::report::predicted::ghosts;
use crate::report::slices::{Window, merged_away, merged_note, slices, stall_slices};
use crate::units::Nanos;

const WIDTH: u32 = 1200;
const LEFT: i32 = 90;
const PLOT: u32 = 1090;
const ROW: i32 = 26;
/// The same, to divide.
const TALL: u32 = ROW.unsigned_abs();
const PITCH: i32 = 32;
const TOP: i32 = 64;

fn rows(view: &View<'_>) -> i32 {
    i32::try_from(view.summary.lanes.len() + 1).unwrap_or(6)
}

/// Height of one panel: its title, its lanes, its axis.
fn panel(view: &View<'_>) -> i32 {
    rows(view) * PITCH + 74
}

/// Width and height of the picture.
pub(super) fn size(view: &View<'_>) -> (u32, u32) {
    (WIDTH, (TOP + 2 * panel(view)).unsigned_abs())
}

/// Draws both panels.
pub(super) fn draw(
    view: &View<'_>,
    planned: Option<&View<'_>>,
    sheet: &mut dyn Sheet,
) -> Result<()> {
    let header = &view.profile.header;
    let origin = view.summary.origin;
    let title = format!("{} on {}, budget {}", header.model, header.device, header.budget.human());
    sheet.text((12, 20), 17, Anchor::Start, INK, &title)?;
    let hidden = view.summary.overlap_fraction.percent();
    let stall = format!(
        "{} ({} of makespan)",
        view.summary.stall.human(),
        view.of_makespan(view.summary.stall)
    );
    let behind = if planned.is_some() { "; behind: as planned, pass by pass" } else { "" };
    let below = if held::is_held(view.profile) { "; below: collectives hold the link" } else { "" };
    let figures = format!(
        "times {origin}; {hidden} of H2D copy time hidden under compute; stall {stall}{behind}{below}"
    );
    sheet.text((12, 44), 13, Anchor::Start, SOFT, &figures)?;
    let both = (view, planned);
    one(both, sheet, TOP, "the whole run", view.whole)?;
    let (name, window) = view.steady_window();
    one(both, sheet, TOP + panel(view), &name, window)
}

fn one(
    (view, planned): (&View<'_>, Option<&View<'_>>),
    sheet: &mut dyn Sheet,
    top: i32,
    name: &str,
    window: Window,
) -> Result<()> {
    let lanes = top + 28;
    let column = window.column(u64::from(PLOT));
    let mut merged = 0;
    for (row, lane) in (0i32..).zip(&view.summary.lanes) {
        let y = lanes + row * PITCH;
        sheet.text((LEFT - 10, y + ROW / 2), 13, Anchor::End, INK, lane.lane.name())?;
        // A little lower than the row, so that what is as planned still shows.
        let ghosts = planned.map(|planned| ghosts(view, planned, lane.lane, column));
        strips(sheet, window, (y + 4, y + ROW + 4), ghosts.unwrap_or_default(), GHOST)?;
        let held = held::held(view.profile, lane.lane, column);
        strips(sheet, window, (y + ROW + 1, y + ROW + 5), held, INK)?;
        let on_lane = slices(view.profile, lane.lane, window, column);
        merged += merged_away(&on_lane);
        for slice in on_lane {
            let at = (slice.start, slice.end);
            bar(sheet, window, (y, slice.fill(TALL)), at, lane_colour(lane.lane))?;
        }
    }
    let y = lanes + (rows(view) - 1) * PITCH;
    sheet.text((LEFT - 10, y + ROW / 2), 13, Anchor::End, INK, "stalls")?;
    for slice in stall_slices(&view.stalls, window, column) {
        bar(sheet, window, (y, slice.fill(TALL)), (slice.stall.needed_at, slice.end), RED)?;
    }
    let length = Nanos::new(window.length()).human();
    let note = merged_note(merged);
    let text = format!("{name}, {length}{note}");
    sheet.text((LEFT, top + 12), 13, Anchor::Start, INK, &text)?;
    time_axis(sheet, window, LEFT, PLOT, lanes + rows(view) * PITCH)
}

/// One rectangle on its row's floor, at least a pixel wide; wide ones leave a pixel of paper to the next.
fn bar(
    sheet: &mut dyn Sheet,
    window: Window,
    up: (i32, u32),
    at: (Nanos, Nanos),
    colour: plotters::prelude::RGBColor,
) -> Result<()> {
    let from = place(window, at.0, LEFT, PLOT);
    let to = place(window, at.1, LEFT, PLOT);
    let covered = LEFT + i32::try_from(window.place_end(at.1, PLOT)).unwrap_or(0);
    let to = if to - from > 4 { to - 1 } else { covered.max(from + 1) };
    let floor = up.0 + ROW;
    sheet.rect((from, floor - i32::try_from(up.1).unwrap_or(ROW)), (to, floor), colour)
}

/// Intervals as rectangles from one height to another.
fn strips(
    sheet: &mut dyn Sheet,
    window: Window,
    (top, floor): (i32, i32),
    intervals: Vec<(Nanos, Nanos)>,
    colour: plotters::prelude::RGBColor,
) -> Result<()> {
    for (start, end) in intervals {
        if start < window.end && end > window.start {
            let from = place(window, start, LEFT, PLOT);
            let to = place(window, end, LEFT, PLOT).max(from + 1);
            sheet.rect((from, top), (to, floor), colour)?;
        }
    }
    Ok(())
}

/// Where an instant lies, in pixels.
pub(super) fn place(window: Window, at: Nanos, left: i32, plot: u32) -> i32 {
    left + i32::try_from(window.place(at, plot)).unwrap_or(0)
}

/// A time axis with ticks and labels below `y`.
pub(super) fn time_axis(
    sheet: &mut dyn Sheet,
    window: Window,
    left: i32,
    plot: u32,
    y: i32,
) -> Result<()> {
    let right = left + i32::try_from(plot).unwrap_or(0);
    sheet.line(&[(left, y), (right, y)], SOFT, 1)?;
    for tick in time_ticks(window.start, window.end, 10) {
        let x = place(window, tick.at, left, plot);
        sheet.line(&[(x, y), (x, y + 5)], SOFT, 1)?;
        let anchor = if x > right - 20 { Anchor::End } else { Anchor::Middle };
        sheet.text((x, y + 16), 12, anchor, SOFT, &tick.label)?;
    }
    sheet.line(&[(left, y), (left, y - 4)], GRID, 1)
}
