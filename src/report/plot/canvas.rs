//! Turns rectangles, lines and words into SVG or pixels, through plotters; drawings do not know which.

use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::prelude::{
    Circle, DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont, PathElement, Polygon, RGBColor,
    Rectangle, Text, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, ShapeStyle, register_font as register};

use super::png;
use crate::error::{Error, Result};
use crate::lane::Lane;

/// The colour-blind safe palette of Okabe and Ito, and greys.
pub(super) const INK: RGBColor = RGBColor(27, 31, 36);
pub(super) const SOFT: RGBColor = RGBColor(87, 96, 106);
pub(super) const GRID: RGBColor = RGBColor(208, 215, 222);
pub(super) const RESERVE: RGBColor = RGBColor(201, 204, 209);
pub(super) const GHOST: RGBColor = RGBColor(176, 186, 196);
pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(super) const RED: RGBColor = RGBColor(213, 94, 0);
pub(super) const SKY: RGBColor = RGBColor(86, 180, 233);

/// The colour of a lane, the same in every picture.
pub(super) fn lane_colour(lane: Lane) -> RGBColor {
    match lane {
        Lane::Compute => BLUE,
        Lane::H2d => ORANGE,
        Lane::D2h => PURPLE,
        Lane::Disk => GREEN,
        Lane::Host => SOFT,
    }
}

/// Where a word stands relative to its point; always centred vertically.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// What a drawing may do. Coordinates in pixels of the SVG, from the upper left.
pub(super) trait Sheet {
    fn rect(&mut self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()>;
    /// A filled shape, closed by itself.
    fn fill(&mut self, points: &[(i32, i32)], colour: RGBColor) -> Result<()>;
    fn line(&mut self, points: &[(i32, i32)], colour: RGBColor, width: u32) -> Result<()>;
    fn dot(&mut self, at: (i32, i32), radius: i32, colour: RGBColor) -> Result<()>;
    fn text(
        &mut self,
        at: (i32, i32),
        size: i32,
        anchor: Anchor,
        colour: RGBColor,
        text: &str,
    ) -> Result<()>;
}

const FONT: &[u8] = include_bytes!("../fonts/DejaVuSans-subset.ttf");

/// Makes the embedded font known, once per process. Without it both backends refuse to set text.
pub(super) fn register_font() -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    match REGISTERED.get_or_init(|| register("sans-serif", FontStyle::Normal, FONT).is_ok()) {
        true => Ok(()),
        false => Err(Error::Internal("the embedded font is damaged".into())),
    }
}

/// A sheet on a plotters backend; every length is multiplied by `scale`.
pub(super) struct Canvas<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
    scale: i32,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("cannot draw: {error}"))
}

impl Canvas<SVGBackend<'_>> {
    /// The drawing as SVG text.
    pub(super) fn svg(
        size: (u32, u32),
        draw: impl Fn(&mut dyn Sheet) -> Result<()>,
    ) -> Result<String> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let mut canvas = Canvas { area, scale: 1 };
        canvas.paper()?;
        draw(&mut canvas)?;
        canvas.area.present().map_err(failed)?;
        drop(canvas);
        Ok(svg)
    }
}

impl Canvas<BitMapBackend<'_>> {
    /// The drawing as PNG at twice its size.
    pub(super) fn png(
        size: (u32, u32),
        draw: impl Fn(&mut dyn Sheet) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let (width, height) = (size.0 * 2, size.1 * 2);
        let mut pixels = vec![0u8; width as usize * height as usize * 3];
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        let mut canvas = Canvas { area, scale: 2 };
        canvas.paper()?;
        draw(&mut canvas)?;
        canvas.area.present().map_err(failed)?;
        drop(canvas);
        png::encode(width, height, &pixels)
    }
}

impl<B: DrawingBackend> Canvas<B> {
    fn paper(&mut self) -> Result<()> {
        self.area.fill(&RGBColor(255, 255, 255)).map_err(failed)
    }

    fn at(&self, point: (i32, i32)) -> (i32, i32) {
        (point.0 * self.scale, point.1 * self.scale)
    }

    fn all(&self, points: &[(i32, i32)]) -> Vec<(i32, i32)> {
        points.iter().map(|&point| self.at(point)).collect()
    }
}

impl<B: DrawingBackend> Sheet for Canvas<B> {
    fn rect(&mut self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
        let corners = [self.at(from), self.at(to)];
        self.area.draw(&Rectangle::new(corners, colour.filled())).map_err(failed)
    }

    fn fill(&mut self, points: &[(i32, i32)], colour: RGBColor) -> Result<()> {
        self.area.draw(&Polygon::new(self.all(points), colour.filled())).map_err(failed)
    }

    fn line(&mut self, points: &[(i32, i32)], colour: RGBColor, width: u32) -> Result<()> {
        let stroke_width = width * self.scale.unsigned_abs();
        let style = ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width };
        self.area.draw(&PathElement::new(self.all(points), style)).map_err(failed)
    }

    fn dot(&mut self, at: (i32, i32), radius: i32, colour: RGBColor) -> Result<()> {
        let circle = Circle::new(self.at(at), radius * self.scale, colour.filled());
        self.area.draw(&circle).map_err(failed)
    }

    fn text(
        &mut self,
        at: (i32, i32),
        size: i32,
        anchor: Anchor,
        colour: RGBColor,
        text: &str,
    ) -> Result<()> {
        let across = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = ("sans-serif", size * self.scale).into_font();
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(across, VPos::Center));
        self.area.draw(&Text::new(printable(text), self.at(at), style)).map_err(failed)
    }
}

/// What the embedded font cannot show becomes `?`; control characters are not allowed in SVG at all.
fn printable(text: &str) -> String {
    let known = |c: char| {
        matches!(c, ' '..='~' | 'µ' | '×' | '·' | '±' | '÷' | '–' | '—' | '…' | '−' | '≤' | '≥')
    };
    text.chars().map(|c| if known(c) { c } else { '?' }).collect()
}
