//! Turns a run into pictures for papers, issues and chats: the same drawing once as SVG, once as PNG at twice the size.
//!
//! Drawn with plotters on whole pixels, so every span is at least one pixel wide or merged with its neighbours. The
//! text is set in an embedded cut of DejaVu Sans: the same on every machine, none of whose fonts are asked.

mod canvas;
pub(super) mod foreign;
mod png;
mod predicted;
mod rates;
mod sweep;
mod timeline;
mod vram;

use canvas::{Canvas, Sheet};

use super::predicted::Predicted;
use super::rates::Rates;
use super::{Extras, View};
use crate::error::Result;
use crate::figures::Origin;

/// The SVG text and the PNG bytes of one picture.
type Pictures = (String, Vec<u8>);

/// The lanes of the whole run and of one steady pass.
pub(super) fn timeline(view: &View<'_>, planned: Option<&View<'_>>) -> Result<Pictures> {
    both(timeline::size(view), |canvas| timeline::draw(view, planned, canvas))
}

/// Every block and copy, predicted against what the run shows.
pub(super) fn predicted(told: &Predicted<'_>) -> Result<Pictures> {
    both(predicted::SIZE, |canvas| predicted::draw(told, canvas))
}

/// Rates of copies by size; `None` where nothing was copied.
pub(super) fn rates(rates: &Rates, origin: Origin) -> Result<Option<Pictures>> {
    if rates.classes.is_empty() {
        return Ok(None);
    }
    both(rates::SIZE, |canvas| rates::draw(rates, origin, canvas)).map(Some)
}

/// VRAM in use over the whole run.
pub(super) fn vram(view: &View<'_>) -> Result<Pictures> {
    both(vram::SIZE, |canvas| vram::draw(view, canvas))
}

/// Pass time against VRAM; `None` without a sweep.
pub(super) fn sweep(view: &View<'_>, extras: &Extras) -> Result<Option<Pictures>> {
    let lines = super::frontier::series(extras);
    if lines.is_empty() {
        return Ok(None);
    }
    let size = sweep::size(&lines);
    both(size, |canvas| sweep::draw(view.profile.header.budget, &lines, canvas)).map(Some)
}

/// The lanes of a foreign trace.
pub(super) fn foreign(picture: &foreign::Picture) -> Result<Pictures> {
    both(foreign::size(picture), |canvas| foreign::draw(picture, canvas))
}

fn both(size: (u32, u32), draw: impl Fn(&mut dyn Sheet) -> Result<()>) -> Result<Pictures> {
    canvas::register_font()?;
    let svg = Canvas::svg(size, &draw)?;
    let png = Canvas::png(size, &draw)?;
    Ok((svg, png))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use crate::report::tests::extras;

    #[test]
    fn the_pictures_of_the_small_run() {
        let profile = fixture::small();
        let view = View::of(&profile);
        let folder = "../../../tests/golden/report";
        let check = |name: &str, svg: &str| {
            let path = format!("{}/src/report/plot/{folder}/{name}", env!("CARGO_MANIFEST_DIR"));
            expect_test::expect_file![path].assert_eq(svg);
        };
        check("small.timeline.svg", &timeline(&view, None).expect("a picture").0);
        let rates = rates(&Rates::of_run(&profile), Origin::Simulated);
        check("small.rates.svg", &rates.expect("a picture").expect("copies").0);
        let off = fixture::off();
        let off = View::of(&off);
        let told = Predicted::of(&off, &view).expect("the same blocks");
        check("small.predicted.svg", &predicted(&told).expect("a picture").0);
        check("small.vram.svg", &vram(&view).expect("a picture").0);
        let (svg, _) = sweep(&view, &extras()).expect("a picture").expect("a sweep");
        check("small.sweep.svg", &svg);
    }

    #[test]
    fn no_sweep_no_picture() {
        let profile = fixture::small();
        assert_eq!(sweep(&View::of(&profile), &Extras::default()).expect("none"), None);
    }

    #[test]
    fn pixels_are_drawn_and_the_picture_is_twice_the_size() {
        let profile = fixture::small();
        let (_, png) = timeline(&View::of(&profile), None).expect("a picture");
        let size = timeline::size(&View::of(&profile));
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("4 bytes"));
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!((number(16), number(20)), (size.0 * 2, size.1 * 2));
        assert!(png.len() > 5_000, "{} bytes: text and spans are missing", png.len());
    }
}
