//! Turns the passes of several components into what it costs to go from one to the next.
//!
//! ```text
//!            last pass of a      │ first pass of b
//! h2d        a3 ██ b0 ███ b1 ███ b2 ██ b3 ███          early: b0 and b1, copied under a's computes
//! compute    a1 ██ a2 ██ a3 ███  b0 ██ b1 ██ …         cost: the first pass of b less a usual one
//! ```

use super::slices::Window;
use super::view::View;
use crate::lane::Lane;
use crate::profile::Span;
use crate::units::{Bytes, Nanos};

/// What it cost to go from one component to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crossing {
    /// The component that goes, as an index.
    pub from: usize,
    /// The component that comes.
    pub to: usize,
    /// The end of the last use before.
    pub at: Nanos,
    /// From the start of the last pass before to the end of the first pass after.
    pub window: Window,
    /// The first pass of the component that comes.
    pub first: Nanos,
    /// A usual pass of it: a steady one, or of a single pass its computes.
    pub usual: Nanos,
    /// Bytes copied for its first pass.
    pub bytes: Bytes,
    /// Those of them that had arrived when the component before ended.
    pub early: Bytes,
}

impl Crossing {
    /// What the first pass took beyond a usual one.
    pub fn cost(&self) -> Nanos {
        self.first.saturating_sub(self.usual)
    }

    /// Everything in order of time; none for a run of one component.
    pub fn all(view: &View<'_>) -> Vec<Self> {
        let count = view.summary.components.len();
        // Both sides ran; a run that was cut short may lack one.
        (1..count).filter_map(|to| Self::of(view, to - 1, to)).collect()
    }

    fn of(view: &View<'_>, from: usize, to: usize) -> Option<Self> {
        let (before, after) = (&view.summary.components[from], &view.summary.components[to]);
        let first = *after.passes.first()?;
        if after.whole == 0 && !view.summary.complete {
            return None;
        }
        let last = *before.passes.last()?;
        let own = u32::try_from(to).ok()?;
        let of_first = |span: &&Span| span.component == own && span.pass == 0;
        let spans = || view.profile.spans.iter().filter(of_first);
        let copies = || spans().filter(|span| span.lane == Lane::H2d);
        let compute = spans().filter(|span| span.lane == Lane::Compute).map(Span::duration).sum();
        let at = after.start;
        Some(Self {
            from,
            to,
            at,
            window: Window { start: at.saturating_sub(last), end: at.saturating_add(first) },
            first,
            usual: if after.whole < 2 { compute } else { after.steady },
            bytes: copies().map(|span| span.bytes).sum(),
            early: copies().filter(|span| span.end <= at).map(|span| span.bytes).sum(),
        })
    }

    /// `transformer → transformer_2`.
    pub fn name(&self, view: &View<'_>) -> String {
        let name = |index: usize| view.summary.components.get(index).map_or("?", |one| &one.name);
        format!("{} \u{2192} {}", name(self.from), name(self.to))
    }

    /// What it cost, in a sentence.
    pub fn sentence(&self, view: &View<'_>) -> String {
        format!(
            "{} costs {} ({}): its first pass takes {}, a usual one {}; of {} copied for it {} came while the \
             component before computed.",
            self.name(view),
            self.cost().human(),
            view.summary.origin,
            self.first.human(),
            self.usual.human(),
            self.bytes.human(),
            self.early.human(),
        )
    }
}
