//! Turns a few durations into a consistent [`Profile`], for tests.
//!
//! ```text
//! small()  three blocks, three passes, two slots; block 2 stays; unit: 1 ms
//! compute  ░40░█ 0 50█░20░█ 1 50█ 2 50██ 0 50█░25░█ 1 50█ 2 50██ 0 50██ 1 50██ 2 50█
//! h2d      █0█ ████ 1 ████ █2█ █0█ ███████ 1 ██████ █0█ ·· █1█
//! ```

use proptest::prelude::*;

use super::{ComponentHeader, Header, PROFILE_FORMAT, Profile, Span, VramSample, WaitedFor};
use crate::figures::{Bound, Origin, Prediction, Unit};
use crate::lane::{Lane, OpKind};
use crate::units::{Bytes, Fraction, Nanos};

const MS: u64 = 1_000_000;

/// What to build. Durations in ns; a block that stays is copied in pass 0 only.
pub(crate) struct Recipe<'a> {
    pub blocks: Vec<String>,
    pub passes: u32,
    pub slots: usize,
    pub bytes: u64,
    pub compute: &'a dyn Fn(u32, u32) -> u64,
    pub copy: &'a dyn Fn(u32, u32) -> u64,
    pub stays: &'a dyn Fn(u32) -> bool,
}

/// Where a run stands while it is built.
#[derive(Default)]
struct Clock {
    compute: u64,
    h2d: u64,
    spans: Vec<Span>,
    changes: Vec<(u64, i64)>,
    /// Streamed uses so far, with the end of their compute: slot k is freed by use k − slots.
    freed: Vec<(u64, WaitedFor)>,
}

impl Clock {
    fn one_use(&mut self, recipe: &Recipe<'_>, component: u32, pass: u32, block: u32) {
        let stays = (recipe.stays)(block);
        let mut start = self.compute;
        let mut waited_for = None;
        if !stays || pass == 0 {
            let copy = self.copy(recipe, component, pass, block);
            if copy.end.get() > start {
                start = copy.end.get();
                waited_for =
                    Some(WaitedFor { lane: Lane::H2d, component, block, piece: copy.piece, pass });
            }
            let bytes = i64::try_from(recipe.bytes).expect("a small size");
            self.changes.push((copy.start.get(), bytes));
            self.spans.push(copy);
        }
        self.compute = start + (recipe.compute)(pass, block);
        if !stays {
            let me = WaitedFor { lane: Lane::Compute, component, block, piece: None, pass };
            self.freed.push((self.compute, me));
            self.changes.push((self.compute, -i64::try_from(recipe.bytes).expect("a small size")));
        }
        let (start, end) = (Nanos::new(start), Nanos::new(self.compute));
        let (lane, op) = (Lane::Compute, OpKind::Compute);
        let bytes = Bytes::ZERO;
        self.spans.push(Span {
            lane,
            op,
            component,
            block,
            piece: None,
            pass,
            start,
            end,
            bytes,
            waited_for,
        });
    }

    fn copy(&mut self, recipe: &Recipe<'_>, component: u32, pass: u32, block: u32) -> Span {
        let slot = self.freed.len().checked_sub(recipe.slots).map(|index| self.freed[index]);
        let gate = slot.filter(|(free, _)| !(recipe.stays)(block) && *free > self.h2d);
        let start = gate.map_or(self.h2d, |(free, _)| free);
        self.h2d = start + (recipe.copy)(pass, block);
        Span {
            lane: Lane::H2d,
            op: OpKind::Copy,
            component,
            block,
            piece: Some(0),
            pass,
            start: Nanos::new(start),
            end: Nanos::new(self.h2d),
            bytes: Bytes::new(recipe.bytes),
            waited_for: gate.map(|(_, cause)| cause),
        }
    }

    fn samples(mut self) -> (Vec<Span>, Vec<VramSample>) {
        self.spans.sort_by_key(|span| (span.start, span.lane, span.end));
        self.changes.sort_unstable();
        let mut samples: Vec<VramSample> = Vec::new();
        let mut in_use = 0i64;
        for (at, change) in self.changes {
            in_use += change;
            let sample =
                VramSample { at: Nanos::new(at), in_use: Bytes::new(in_use.unsigned_abs()) };
            match samples.last_mut() {
                Some(last) if last.at == sample.at => *last = sample,
                _ => samples.push(sample),
            }
        }
        (self.spans, samples)
    }
}

/// Runs the recipes one after the other, each a component named `transformer`, `after1`, ….
pub(crate) fn build(recipes: &[Recipe<'_>]) -> Profile {
    let mut clock = Clock::default();
    let mut components = Vec::new();
    for (index, recipe) in (0u32..).zip(recipes) {
        clock.freed.clear();
        clock.h2d = clock.h2d.max(clock.compute);
        for pass in 0..recipe.passes {
            for block in (0u32..).take(recipe.blocks.len()) {
                clock.one_use(recipe, index, pass, block);
            }
        }
        components.push(ComponentHeader {
            name: if index == 0 { "transformer".into() } else { format!("after{index}") },
            passes: recipe.passes,
            turns: 1,
            blocks: recipe.blocks.clone(),
            unit: Unit::Block,
            bytes: vec![Bytes::new(recipe.bytes); recipe.blocks.len()],
            on_link: Vec::new(),
            prediction: None,
            bound: None,
            skipped: None,
        });
    }
    let (spans, vram) = clock.samples();
    let slab = vram.iter().map(|sample| sample.in_use).max().unwrap_or(Bytes::ZERO);
    let window = Bytes::new(recipes.first().map_or(0, |one| one.bytes * one.slots as u64));
    let header = Header {
        model: "toy".into(),
        plan_digest: "00c0ffee".into(),
        backend: "sim".into(),
        device: "Test GPU".into(),
        rank: None,
        origin: Origin::Simulated,
        clock: "simulated".into(),
        seed: 7,
        tool_version: "0.1.0".into(),
        complete: true,
        budget: slab.saturating_add(Bytes::new(1_500_000_000)),
        reserve: Bytes::new(1_000_000_000),
        slab,
        window: window.min(slab),
        components,
        measured: None,
        plan: None,
    };
    Profile { format: PROFILE_FORMAT.into(), header, spans, vram }
}

/// The run drawn at the top of this file, with a prediction that is a little off.
pub(crate) fn small() -> Profile {
    let copy = |pass: u32, block: u32| match (pass, block) {
        (0, 1) => 70 * MS,
        (1, 1) => 95 * MS,
        _ => 40 * MS,
    };
    let mut profile = build(&[Recipe {
        blocks: (0..3).map(|index| format!("blocks.{index}")).collect(),
        passes: 3,
        slots: 2,
        bytes: 1_000_000_000,
        compute: &|_, _| 50 * MS,
        copy: &copy,
        stays: &|block| block == 2,
    }]);
    profile.header.components[0].prediction = Some(Prediction {
        pass: Nanos::new(150 * MS),
        first_pass: Nanos::new(200 * MS),
        makespan: Nanos::new(500 * MS),
        overlap: Fraction::from_ppm(900_000),
        stall: Nanos::new(40 * MS),
        bytes_per_pass: Bytes::new(2_000_000_000),
        disk_per_pass: Bytes::ZERO,
        peak: Bytes::new(4_000_000_000),
    });
    profile.header.components[0].bound = Some(Bound {
        compute: Nanos::new(150 * MS),
        copy: Nanos::new(80 * MS),
        disk: Nanos::ZERO,
        granularity: Nanos::new(150 * MS),
        any_schedule: Nanos::new(148 * MS),
        run: Nanos::ZERO,
        gap: Fraction::from_ppm(13_513),
        binding: "compute".into(),
    });
    profile
}

/// [`small`], but computes of block 0 take 10 % longer, those of block 1 20 %, and the copy of block 2 half as long
/// again. Spans overlap then: for comparisons only.
pub(crate) fn off() -> Profile {
    let mut profile = small();
    for span in &mut profile.spans {
        let more = match (span.lane, span.block) {
            (Lane::Compute, 0) => 5 * MS,
            (Lane::Compute, 1) => 10 * MS,
            (Lane::H2d, 2) => 20 * MS,
            _ => 0,
        };
        span.end = span.end.saturating_add(Nanos::new(more));
    }
    profile
}

/// 57 blocks of two lists, 28 passes, every third block stays, copies a little longer than compute.
pub(crate) fn large() -> Profile {
    let double = (0..19).map(|index| format!("transformer_blocks.{index}"));
    let single = (0..38).map(|index| format!("single_transformer_blocks.{index}"));
    build(&[Recipe {
        blocks: double.chain(single).collect(),
        passes: 28,
        slots: 2,
        bytes: 283_115_520,
        compute: &|pass, block| 13 * MS + u64::from(pass * 31 + block * 17) % 97 * 10_000,
        copy: &|pass, block| 17 * MS + u64::from(pass * 13 + block * 7) % 89 * 50_000,
        stays: &|block| block % 3 == 0,
    }])
}

/// Any run of up to two components that the builder can make.
pub(crate) fn any() -> impl Strategy<Value = Profile> {
    let durations = prop::collection::vec((1u64..30, 0u64..40, prop::bool::ANY), 1..5);
    prop::collection::vec((durations, 1u32..4, 1usize..4), 1..3).prop_map(|parts| {
        let closures: Vec<_> = parts
            .iter()
            .map(|(durations, ..)| {
                let of = |block: u32| durations[block as usize];
                (
                    move |pass: u32, block: u32| of(block).0 + u64::from(pass),
                    move |_: u32, block: u32| of(block).1,
                    move |block: u32| of(block).2,
                )
            })
            .collect();
        let recipes: Vec<_> = parts
            .iter()
            .zip(&closures)
            .map(|((durations, passes, slots), (compute, copy, stays))| Recipe {
                blocks: (0..durations.len()).map(|index| format!("blocks.{index}")).collect(),
                passes: *passes,
                slots: *slots,
                bytes: 1_000,
                compute,
                copy,
                stays,
            })
            .collect();
        build(&recipes)
    })
}

/// Whether this is the copy of that use.
pub(crate) fn is_copy(span: &Span, pass: u32, block: u32) -> bool {
    span.lane == Lane::H2d && (span.pass, span.block) == (pass, block)
}
