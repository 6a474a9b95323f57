//! Turns a prediction and its run into a scatter of points around the diagonal, both axes logarithmic.

use super::canvas::{Anchor, BLUE, GRID, INK, ORANGE, RESERVE, SOFT, Sheet};
use crate::error::Result;
use crate::report::logscale::LogScale;
use crate::report::predicted::{Predicted, marks};
use crate::units::Nanos;

/// Width and height of the picture.
pub(super) const SIZE: (u32, u32) = (900, 560);
const LEFT: i32 = 100;
const PLOT: u32 = 760;
const TOP: i32 = 100;
const HEIGHT: u32 = 380;

fn across(scale: LogScale, time: Nanos) -> i32 {
    LEFT + i32::try_from(scale.place(time, PLOT)).unwrap_or(0)
}

fn up(scale: LogScale, time: Nanos) -> i32 {
    TOP + i32::try_from(HEIGHT - scale.place(time, HEIGHT)).unwrap_or(0)
}

/// Draws points, diagonal and the band of a tenth around it.
pub(super) fn draw(told: &Predicted<'_>, sheet: &mut dyn Sheet) -> Result<()> {
    let origin = told.run.summary.origin;
    let header = &told.run.profile.header;
    let title = format!("Predicted against {origin}: {} on {}", header.model, header.device);
    sheet.text((12, 20), 17, Anchor::Start, INK, &title)?;
    for (index, sentence) in (0i32..).zip(told.sentences()) {
        sheet.text((12, 46 + 20 * index), 12, Anchor::Start, SOFT, &sentence)?;
    }
    let sides = [&told.accuracy.computes, &told.accuracy.copies];
    let shown = sides.map(|side| marks(side).0);
    let times = shown.iter().flatten().flat_map(|pair| [pair.predicted, pair.actual]);
    let scale = LogScale::around(times);
    let at = |x: Nanos, y: Nanos| (across(scale, x), up(scale, y));
    let (low, high) = scale.ends();
    let share = |time: Nanos, tenths: u64| Nanos::new(time.get() / 10).saturating_mul(tenths);
    let band = [
        at(low, low),
        at(low, share(low, 11)),
        at(share(high, 9), high),
        at(high, high),
        at(high, share(high, 9)),
        at(share(low, 11), low),
    ];
    sheet.fill(&band, RESERVE)?;
    let (bottom, right) = (up(scale, low), across(scale, high));
    for tick in scale.ticks(9) {
        let (x, y) = at(tick.at, tick.at);
        sheet.line(&[(LEFT, y), (right, y)], GRID, 1)?;
        sheet.line(&[(x, TOP), (x, bottom)], GRID, 1)?;
        sheet.text((LEFT - 10, y), 12, Anchor::End, SOFT, &tick.label)?;
        sheet.text((x, bottom + 16), 12, Anchor::Middle, SOFT, &tick.label)?;
    }
    sheet.line(&[at(low, low), at(high, high)], INK, 1)?;
    for (copies, pairs) in [false, true].into_iter().zip(&shown) {
        for pair in pairs {
            let (x, y) = at(pair.predicted, pair.actual);
            match copies {
                false => sheet.dot((x, y), 4, BLUE)?,
                true => sheet.fill(&[(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)], ORANGE)?,
            }
        }
    }
    legend(sheet, bottom + 44)?;
    let name = format!("{origin} time, upwards");
    sheet.text((LEFT + 8, TOP + 10), 12, Anchor::Start, SOFT, &name)?;
    sheet.text((right, bottom + 44), 12, Anchor::End, SOFT, "predicted time")
}

fn legend(sheet: &mut dyn Sheet, y: i32) -> Result<()> {
    let x = LEFT;
    sheet.dot((x + 6, y), 4, BLUE)?;
    sheet.text((x + 18, y), 12, Anchor::Start, INK, "compute of a block")?;
    let x = LEFT + 170;
    sheet.fill(&[(x + 6, y - 5), (x + 11, y), (x + 6, y + 5), (x + 1, y)], ORANGE)?;
    sheet.text((x + 18, y), 12, Anchor::Start, INK, "a copy")?;
    let x = LEFT + 260;
    sheet.rect((x, y - 6), (x + 20, y + 6), RESERVE)?;
    sheet.text((x + 26, y), 12, Anchor::Start, INK, "within 10 % of the prediction")
}
