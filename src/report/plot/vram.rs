//! Turns VRAM samples into an area over time: reserve below, the slab's bytes in use on it, budget and peak as lines.

use super::canvas::{Anchor, BLUE, GRID, INK, RED, RESERVE, SKY, SOFT, Sheet};
use super::timeline::{place, time_axis};
use crate::error::Result;
use crate::report::View;
use crate::report::axis::bytes_ticks;
use crate::report::slices::envelope;
use crate::units::Bytes;

/// Width and height of the picture.
pub(super) const SIZE: (u32, u32) = (1200, 420);
const LEFT: i32 = 90;
const PLOT: u32 = 1090;
const RIGHT: i32 = LEFT + 1090;
const TOP: i32 = 84;
const BOTTOM: i32 = 370;

/// Draws the whole run.
pub(super) fn draw(view: &View<'_>, sheet: &mut dyn Sheet) -> Result<()> {
    let header = &view.profile.header;
    let peak = view.summary.peak;
    let top = Bytes::new(header.budget.max(peak).get() / 100)
        .saturating_mul(104)
        .saturating_add(Bytes::new(1));
    let up = |size: Bytes| height(size, top);
    titles(view, sheet)?;
    for tick in bytes_ticks(top, 6) {
        sheet.line(&[(LEFT, up(tick.at)), (RIGHT, up(tick.at))], GRID, 1)?;
        sheet.text((LEFT - 10, up(tick.at)), 12, Anchor::End, SOFT, &tick.label)?;
    }
    let mut level = up(header.reserve);
    let mut outline = vec![(LEFT, BOTTOM), (LEFT, level)];
    for (at, in_use) in envelope(&view.profile.vram, view.whole, view.whole.column(u64::from(PLOT)))
    {
        let x = place(view.whole, at, LEFT, PLOT);
        outline.push((x, level));
        level = up(header.reserve.saturating_add(in_use));
        outline.push((x, level));
    }
    outline.extend([(RIGHT, level), (RIGHT, BOTTOM)]);
    columns(sheet, &outline)?;
    sheet.rect((LEFT, up(header.reserve)), (RIGHT, BOTTOM), RESERVE)?;
    for (size, colour) in [(peak, BLUE), (header.budget, RED)] {
        sheet.line(&[(LEFT, up(size)), (RIGHT, up(size))], colour, 2)?;
    }
    time_axis(sheet, view.whole, LEFT, PLOT, BOTTOM)
}

/// The area under the steps, as rectangles: a polygon of thousands of right angles is slow to fill and no nicer.
fn columns(sheet: &mut dyn Sheet, outline: &[(i32, i32)]) -> Result<()> {
    for pair in outline.windows(2) {
        let [(from, y), (to, _)] = pair else { continue };
        if to > from && *y < BOTTOM {
            sheet.rect((*from, *y), (*to, BOTTOM), SKY)?;
        }
    }
    Ok(())
}

fn titles(view: &View<'_>, sheet: &mut dyn Sheet) -> Result<()> {
    let header = &view.profile.header;
    let title = format!("VRAM in use: {} on {}", header.model, header.device);
    sheet.text((12, 20), 17, Anchor::Start, INK, &title)?;
    let note = format!("times {}; reserve is given, peak is reserve + slab", view.summary.origin);
    sheet.text((12, 44), 13, Anchor::Start, SOFT, &note)?;
    let headroom = view.summary.headroom.human();
    let legend = [
        (RED, format!("budget {}", header.budget.human())),
        (BLUE, format!("peak {}, headroom {headroom}", view.summary.peak.human())),
        (
            SKY,
            format!(
                "slab in use, at most {}",
                view.summary.in_use_peak.saturating_sub(header.reserve).human()
            ),
        ),
        (RESERVE, format!("reserve {}", header.reserve.human())),
    ];
    let mut x = LEFT;
    for (colour, text) in legend {
        sheet.rect((x, 60), (x + 16, 72), colour)?;
        sheet.text((x + 22, 66), 13, Anchor::Start, INK, &text)?;
        x += 60 + 8 * i32::try_from(text.len()).unwrap_or(30);
    }
    Ok(())
}

fn height(size: Bytes, top: Bytes) -> i32 {
    let full = u128::from((BOTTOM - TOP).unsigned_abs());
    let up = u128::from(size.min(top).get()) * full / u128::from(top.get().max(1));
    BOTTOM - i32::try_from(up).unwrap_or(0)
}
