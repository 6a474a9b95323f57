//! Turns the lanes of a foreign trace into a picture: every column as high as it is busy.

use super::canvas::{Anchor, INK, RESERVE, SOFT, Sheet, lane_colour};
use super::timeline::time_axis;
use crate::error::Result;
use crate::lane::Lane;
use crate::report::slices::Window;

const LEFT: i32 = 110;
/// Columns of the picture's lanes, and their height.
pub(in crate::report) const PLOT: u32 = 1070;
pub(in crate::report) const TALL: u32 = 26;
const PITCH: i32 = 32;
const TOP: i32 = 70;

/// What is drawn.
pub(in crate::report) struct Picture {
    /// What it shows.
    pub title: String,
    /// What to know about it.
    pub note: String,
    /// From the top.
    pub lanes: Vec<PictureLane>,
    /// From zero to the device's whole window.
    pub window: Window,
}

/// A row of the picture.
pub(in crate::report) struct PictureLane {
    /// What it is called.
    pub name: &'static str,
    /// Whose colour it has; none for grey.
    pub colour: Option<Lane>,
    /// The busy columns and how high they are.
    pub columns: Vec<(u32, u32)>,
}

/// Width and height of the picture.
pub(super) fn size(picture: &Picture) -> (u32, u32) {
    (1200, 110 + 32 * u32::try_from(picture.lanes.len()).unwrap_or(6))
}

/// Draws the lanes above one another.
pub(super) fn draw(picture: &Picture, sheet: &mut dyn Sheet) -> Result<()> {
    sheet.text((12, 20), 17, Anchor::Start, INK, &picture.title)?;
    sheet.text((12, 44), 13, Anchor::Start, SOFT, &picture.note)?;
    let (mut y, tall) = (TOP, i32::try_from(TALL).unwrap_or(26));
    for PictureLane { name, colour, columns } in &picture.lanes {
        sheet.text((LEFT - 10, y + tall / 2), 13, Anchor::End, INK, name)?;
        for (column, height) in columns {
            let x = LEFT + i32::try_from(*column).unwrap_or(0);
            let top = y + tall - i32::try_from(*height).unwrap_or(tall);
            sheet.rect((x, top), (x + 1, y + tall), colour.map_or(RESERVE, lane_colour))?;
        }
        y += PITCH;
    }
    time_axis(sheet, picture.window, LEFT, PLOT, y)
}
