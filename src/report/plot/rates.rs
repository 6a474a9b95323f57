//! Turns rates by size into boxes: median, quartiles, slowest and fastest of every power of two.

use super::canvas::{Anchor, GRID, INK, SOFT, Sheet, lane_colour};
use crate::error::Result;
use crate::figures::Origin;
use crate::profile::SizeRates;
use crate::report::rates::{Rates, power_label};

/// Width and height of the picture.
pub(super) const SIZE: (u32, u32) = (900, 470);
const LEFT: i32 = 100;
const PLOT: i32 = 760;
const TOP: i32 = 76;
const HEIGHT: i32 = 310;

/// Draws axes, boxes and legend.
pub(super) fn draw(rates: &Rates, origin: Origin, sheet: &mut dyn Sheet) -> Result<()> {
    sheet.text((12, 20), 17, Anchor::Start, INK, "Copy rate by size")?;
    let note = format!(
        "bytes over duration ({origin}); box: half of the copies, bar: median, line: slowest to fastest"
    );
    sheet.text((12, 44), 13, Anchor::Start, SOFT, &note)?;
    let (drawn, powers) = rates.drawn();
    let Some(&first) = powers.first() else { return Ok(()) };
    let (top, ticks) = rates.axis();
    let up = |rate: u64| {
        let height = u128::from(rate) * u128::from(HEIGHT.unsigned_abs()) / u128::from(top.get());
        TOP + HEIGHT - i32::try_from(height).unwrap_or(HEIGHT)
    };
    for tick in ticks {
        let y = up(tick.at);
        sheet.line(&[(LEFT, y), (LEFT + PLOT, y)], GRID, 1)?;
        sheet.text((LEFT - 10, y), 12, Anchor::End, SOFT, &tick.label)?;
    }
    let count = i32::try_from(powers.len()).unwrap_or(1).max(1);
    let column = PLOT / count;
    let every = powers.len().div_ceil(10);
    for (index, power) in powers.iter().enumerate() {
        let x = LEFT + i32::try_from(index).unwrap_or(0) * column;
        sheet.line(&[(x, TOP + HEIGHT), (x, TOP + HEIGHT + 5)], SOFT, 1)?;
        if index.is_multiple_of(every) {
            sheet.text((x, TOP + HEIGHT + 16), 12, Anchor::Middle, SOFT, &power_label(*power))?;
        }
    }
    let middle = LEFT + PLOT / 2;
    let text = "size of a copy: from the mark to its double";
    sheet.text((middle, TOP + HEIGHT + 40), 13, Anchor::Middle, SOFT, text)?;
    let sorts = i32::try_from(rates.sorts.len()).unwrap_or(1).max(1);
    for class in drawn {
        let power = class.from.get().checked_ilog2().unwrap_or(first);
        let wide = (column / sorts).clamp(2, 60);
        let room = (column - wide * sorts).max(0) / 2;
        let of = i32::try_from(class.of).unwrap_or(0);
        let x = LEFT + i32::try_from(power - first).unwrap_or(0) * column + room + of * wide;
        one(rates, class, (x, wide), &up, sheet)?;
    }
    legend(rates, sheet)
}

fn one(
    rates: &Rates,
    class: &SizeRates<usize>,
    at: (i32, i32),
    up: &dyn Fn(u64) -> i32,
    sheet: &mut dyn Sheet,
) -> Result<()> {
    let (x, wide) = at;
    let Some((_, lane)) = rates.sorts.get(class.of) else { return Ok(()) };
    let [slowest, low, median, high, fastest] = class.rates.map(|rate| up(rate.get()));
    let (inner, middle) = ((wide * 3 / 4).max(1), x + wide / 2);
    let left = middle - inner / 2;
    sheet.line(&[(middle, fastest), (middle, slowest)], SOFT, 1)?;
    sheet.rect((left, high), (left + inner, low.max(high + 2)), lane_colour(*lane))?;
    sheet.line(&[(left, median), (left + inner, median)], INK, 2)?;
    // Sorts of one colour are told apart by name.
    match rates.sorts.len() {
        0 | 1 => Ok(()),
        _ => {
            sheet.text((middle, fastest - 8), 10, Anchor::Middle, SOFT, &(class.of + 1).to_string())
        }
    }
}

fn legend(rates: &Rates, sheet: &mut dyn Sheet) -> Result<()> {
    let mut x = LEFT;
    for (number, (name, lane)) in rates.sorts.iter().enumerate() {
        let y = TOP + HEIGHT + 66;
        sheet.rect((x, y - 6), (x + 16, y + 6), lane_colour(*lane))?;
        let text =
            if rates.sorts.len() > 1 { format!("{} {name}", number + 1) } else { name.clone() };
        sheet.text((x + 22, y), 12, Anchor::Start, INK, &text)?;
        x += 60 + 8 * i32::try_from(text.len()).unwrap_or(20);
    }
    Ok(())
}
