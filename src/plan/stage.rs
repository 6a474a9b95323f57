//! Turns components in order of use into [`Stage`]s: schedules, with what the first pass of each waits for.
//!
//! Lanes run on from one component to the next. A plan of one component, or one whose pieces say nothing of the
//! components before, begins each stage when everything of the one before has ended. A pipeline's pieces say which
//! use frees their bytes, so that the next component arrives while the last pass of this one computes:
//!
//! ```text
//!            last pass of a      │ first pass of b
//! h2d        a3 ██ b0 ███ b1 ███ b2 ██ b3 ███
//! compute    a1 ██ a2 ██ a3 ███  b0 ██ b1 ██ …       b1 takes the bytes of a1, and waits for that use alone
//! ```

use std::collections::BTreeMap;

use super::execution::{Beside, Repeated};
use super::op::Op;
use super::refs::Entry;
use super::schedule::Schedule;
use super::spec::{ComponentPlan, Piece, Plan, ROOT, Residency};
use super::timing;
use crate::device::DeviceSpec;
use crate::error::{Error, Problem, Result};
use crate::figures::Prediction;
use crate::lane::OpKind;
use crate::units::{Bytes, Fraction};

/// What an operation of a stage's first pass waits for among the stages before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    /// Everything of them.
    Everything,
    /// Nothing but the operation before it on its lane.
    Nothing,
    /// An operation in the last pass of a stage, or so many passes before its last.
    Op {
        /// Which stage.
        stage: usize,
        /// Index into its schedule's operations.
        op: usize,
        /// 0 for the last pass.
        passes_back: u32,
    },
}

/// A component in use: its schedule, repeated, after the stages before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Index of its component in the plan.
    pub component: usize,
    /// How often the components were used before.
    pub generation: u32,
    /// The operations of a pass.
    pub schedule: Schedule,
    /// Passes to run.
    pub passes: u32,
    /// By operation: what it waits for in the first pass.
    pub enters: Vec<Enter>,
    /// By operation: resident bytes that are free once it has ended in the last pass.
    pub leaves: Vec<Bytes>,
}

impl Stage {
    /// Whether it begins only when everything before it has ended.
    pub fn is_apart(&self) -> bool {
        self.enters.iter().all(|enter| *enter == Enter::Everything)
    }
}

/// The stages of so many generations of these components. Fails as [`Schedule::of`] does, and on entries that name no
/// use of a component.
pub fn stages(
    components: &[ComponentPlan],
    generations: u32,
    device: &DeviceSpec,
) -> Result<Vec<Stage>> {
    let mut stages: Vec<Stage> = Vec::new();
    for generation in 0..generations {
        for (index, component) in components.iter().enumerate() {
            let schedule = Schedule::of_generation(component, device, generation)?;
            let enters = enters(components, index, &schedule, &stages)?;
            let leaves = leaves(component, &schedule);
            let passes = component.passes;
            stages.push(Stage { component: index, generation, schedule, passes, enters, leaves });
        }
    }
    Ok(stages)
}

impl Plan {
    /// What is predicted of every stage: of each component, in each generation.
    pub fn predictions(&self) -> Result<Vec<Prediction>> {
        let alone = self.components.iter().map(|component| component.prediction);
        if self.pipeline.is_none() && self.generations == 1 {
            return Ok(alone.collect());
        }
        let stages = stages(&self.components, self.generations, &self.device)?;
        let repeated: Vec<Repeated> = stages.iter().map(Repeated::from).collect();
        let times = timing::executed(&repeated, Beside::on(&self.device))?;
        let own = |(stage, times): (&Stage, &timing::Unrolled)| Prediction {
            first_pass: times.first_pass,
            makespan: times.makespan,
            stall: times.stall,
            overlap: Fraction::of(times.overlap.get(), times.copy_busy.get()),
            ..self.components[stage.component].prediction
        };
        Ok(stages.iter().zip(&times).map(own).collect())
    }
}

/// Whether any of its pieces says what it waits for among the components before.
fn is_stated(component: &ComponentPlan) -> bool {
    let mut pieces = component.blocks.iter().flat_map(|block| &block.pieces);
    pieces.any(|piece| piece.enters_after.is_some())
}

fn enters(
    components: &[ComponentPlan],
    index: usize,
    schedule: &Schedule,
    before: &[Stage],
) -> Result<Vec<Enter>> {
    let component = &components[index];
    if !is_stated(component) {
        return Ok(vec![Enter::Everything; schedule.ops.len()]);
    }
    let targets = Targets::of(components);
    let mut problems = Vec::new();
    let own = || {
        let stage = before.iter().rposition(|stage| stage.component == index)?;
        let ops = &before[stage].schedule.ops;
        let op = ops.iter().rposition(|op| op.kind == OpKind::Compute)?;
        Some(Enter::Op { stage, op, passes_back: 0 })
    };
    let mut enter = |op: &Op| {
        if op.kind == OpKind::Read {
            // Its ring is the component's own: as the generation before left it.
            return own().unwrap_or(Enter::Nothing);
        }
        let Op { kind: OpKind::Copy, block, piece: Some(piece), .. } = *op else {
            return Enter::Nothing;
        };
        let piece: &Piece = &component.blocks[block].pieces[piece];
        match &piece.enters_after {
            None => Enter::Everything,
            Some(Entry::Start) => Enter::Nothing,
            Some(Entry::Use { component: name, of }) => {
                let Some((target, used)) = targets.find(name, &of.block) else {
                    let place = format!("{}.{}", component.name, component.blocks[block].block);
                    let found = format!("enters_after {name}.{of}");
                    let expected = "a use of a component of this plan";
                    problems.push(Problem::new(place, found, expected));
                    return Enter::Everything;
                };
                // The component's last use before this one; in the first generation there may be none.
                let stage = before.iter().rposition(|stage| stage.component == target);
                let op = stage.and_then(|n| Some((n, compute_of(&before[n].schedule, used)?)));
                op.map_or(Enter::Nothing, |(stage, op)| Enter::Op {
                    stage,
                    op,
                    passes_back: of.passes_back,
                })
            }
        }
    };
    let enters = schedule.ops.iter().map(&mut enter).collect();
    if problems.is_empty() {
        return Ok(enters);
    }
    Err(Error::Input { file: format!("plan of {}", component.name), problems })
}

/// Uses by the names of component and block.
struct Targets<'a> {
    uses: BTreeMap<(&'a str, &'a str), (usize, usize)>,
}

impl<'a> Targets<'a> {
    fn of(components: &'a [ComponentPlan]) -> Self {
        let named = components.iter().enumerate().flat_map(|(c, component)| {
            let name = component.name.as_str();
            let blocks = component.blocks.iter().enumerate();
            blocks.map(move |(b, block)| ((name, block.block.as_str()), (c, b)))
        });
        Self { uses: named.collect() }
    }

    fn find(&self, component: &str, block: &str) -> Option<(usize, usize)> {
        self.uses.get(&(component, block)).copied()
    }
}

fn compute_of(schedule: &Schedule, block: usize) -> Option<usize> {
    schedule.ops.iter().position(|op| op.kind == OpKind::Compute && op.block == block)
}

/// What stays is free after its last use in the last pass; the root's, which every use may need, after the last.
fn leaves(component: &ComponentPlan, schedule: &Schedule) -> Vec<Bytes> {
    let last = schedule.ops.iter().rposition(|op| op.kind == OpKind::Compute);
    let mut leaves = vec![Bytes::ZERO; schedule.ops.len()];
    for (n, op) in schedule.ops.iter().enumerate().filter(|(_, op)| op.kind == OpKind::Compute) {
        let block = &component.blocks[op.block];
        let goes = |piece: &&Piece| piece.residency == Residency::Resident && !piece.kept;
        let bytes = block.pieces.iter().filter(goes).map(|piece| piece.bytes).sum();
        let at = if block.block == ROOT { last.unwrap_or(n) } else { n };
        leaves[at] = leaves[at].saturating_add(bytes);
    }
    leaves
}
