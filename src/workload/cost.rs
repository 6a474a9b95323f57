//! Turns a component, a workload and a device into what each use of its root and blocks costs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Workload;
use super::family::{self, Family, Grid, Stream};
use super::flops::{Work, works};
use super::given::Given;
use super::tokens::{STREAMS, Share, Tokens, resolve};
use crate::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::figures::Origin;
use crate::model::{Component, Dtype, LANGUAGE_MODEL, Manifest, TensorSpec, Weights};
use crate::units::{Bytes, Nanos};

/// What one use of a block, or of a root, costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseCost {
    /// Operations, a multiply-add counted as two, for the whole batch. Always from the formula.
    pub flops: u64,
    /// Time on the compute lane.
    pub time: Nanos,
    /// The part of it in which ranks exchange over the host's link; zero for a device by itself.
    pub on_link: Nanos,
    /// Where the time comes from: [`Origin::Estimated`], or [`Origin::Given`] by the workload.
    pub origin: Origin,
    /// What each tensor would take by itself, in the order of the manifest: how the time divides among parts of
    /// the block. Always from the formula; empty for weights known by their size alone.
    pub by_tensor: Arc<[Nanos]>,
}

/// The costs of one pass of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentCosts {
    /// Everything outside the block lists, once per pass.
    pub root: UseCost,
    /// One per block, in the order of [`Component::blocks`].
    pub blocks: Vec<UseCost>,
    /// Tokens of one sample by stream.
    pub tokens: BTreeMap<String, u64>,
    /// What had to be assumed, for the reader of the result.
    pub warnings: Vec<String>,
}

impl ComponentCosts {
    /// Operations of one pass, saturating.
    pub fn flops_per_pass(&self) -> u64 {
        self.blocks.iter().fold(self.root.flops, |sum, cost| sum.saturating_add(cost.flops))
    }

    /// Compute time of one pass, saturating.
    pub fn time_per_pass(&self) -> Nanos {
        self.root.time.saturating_add(self.blocks.iter().map(|cost| cost.time).sum())
    }
}

/// What one use of each block of `component` costs on `device`.
///
/// ```text
/// time = max(Σ over element types of ⌈FLOPs ÷ (peak · efficiency)⌉, ⌈bytes ÷ memory rate⌉)
/// ```
///
/// where bytes are the block's weights, and of the root only those that are multiplied (lookups read a row). Blocks
/// without any product take no time. Weights known by their size alone count with their memory time. Times given in
/// the workload beat the estimate; the operations are reported all the same. The root keeps its estimate unless a
/// time is given for `<component>.root`.
///
/// # Errors
///
/// Sizes that the class cannot divide into tokens, given times that fit no block, and operations beyond 2⁶⁴.
pub fn costs(
    manifest: &Manifest,
    component: &Component,
    workload: &Workload,
    device: &DeviceSpec,
) -> Result<ComponentCosts> {
    costs_of_share(manifest, component, workload, device, Share::WHOLE)
}

/// The same for one of several ranks. Given times are taken as they are: those of a rank.
pub fn costs_of_share(
    manifest: &Manifest,
    component: &Component,
    workload: &Workload,
    device: &DeviceSpec,
    share: Share,
) -> Result<ComponentCosts> {
    let given = Given::new(workload, manifest)?;
    let family = family::of_component(component);
    let (tokens, assumed) = resolve(family, workload, manifest, component)?;
    let tokens = tokens.shared(share);
    let mut estimate = Estimate::new(component, family, &tokens, workload, device);
    let mut blocks = Vec::new();
    for block in component.blocks(manifest) {
        let local = block.local_id();
        let known = estimate.of_block(block.list, block.kind_name, &local, &block.kind.weights)?;
        blocks.push(known.given(given.time(&format!("{}.{local}", component.name))));
    }
    let root = estimate.of_root(&component.root)?.given(given.root_time(component));
    let estimated = |cost: &UseCost| cost.origin == Origin::Estimated;
    let root_estimated = estimated(&root) && !component.root.bytes().is_zero();
    let mut warnings = Vec::new();
    if root_estimated || blocks.iter().any(estimated) {
        warnings = assumed;
        warnings.extend(estimate.warnings());
    }
    let unknown = workload.tokens.keys().filter(|name| !STREAMS.contains(&name.as_str()));
    if family.is_known() {
        warnings.extend(unknown.map(|name| {
            format!("{}: nothing reads the stream {name:?} of the workload", component.name)
        }));
    }
    let tokens = tokens.by_stream(family);
    Ok(ComponentCosts { root, blocks, tokens, warnings })
}

impl UseCost {
    fn estimated(flops: u64, time: Nanos, by_tensor: Arc<[Nanos]>) -> Self {
        Self { flops, time, on_link: Nanos::ZERO, origin: Origin::Estimated, by_tensor }
    }

    fn given(self, time: Option<Nanos>) -> Self {
        match time {
            Some(time) => Self { time, origin: Origin::Given, ..self },
            None => self,
        }
    }
}

/// Estimates of one component, and what was met on the way.
struct Estimate<'a> {
    component: &'a Component,
    family: &'static Family,
    tokens: &'a Tokens,
    workload: &'a Workload,
    device: &'a DeviceSpec,
    /// Blocks of one list and kind cost the same, except where the level follows from the index.
    known: BTreeMap<(String, &'a str), UseCost>,
    opaque: bool,
    unknown_experts: bool,
}

impl<'a> Estimate<'a> {
    fn new(
        component: &'a Component,
        family: &'static Family,
        tokens: &'a Tokens,
        workload: &'a Workload,
        device: &'a DeviceSpec,
    ) -> Self {
        let known = BTreeMap::new();
        let (opaque, unknown_experts) = (false, false);
        Self { component, family, tokens, workload, device, known, opaque, unknown_experts }
    }

    fn of_block(
        &mut self,
        list: &str,
        kind: &'a str,
        local: &str,
        weights: &Weights,
    ) -> Result<UseCost> {
        let leveled = matches!(self.family.grid, Grid::Levels { .. });
        let key = (if leveled { local } else { list }.to_owned(), kind);
        if let Some(cost) = self.known.get(&key) {
            return Ok(cost.clone());
        }
        let cost = match weights {
            Weights::Bytes(bytes) => self.of_opaque(*bytes),
            Weights::Tensors(tensors) => {
                let works = works(self.family, self.tokens, &format!("{local}."), tensors);
                let work = Work::sum(&works);
                let all = if work.flops.is_empty() { Bytes::ZERO } else { weights.bytes() };
                self.of_work(&work, all, &works)?
            }
        };
        self.known.insert(key, cost.clone());
        Ok(cost)
    }

    fn of_root(&mut self, weights: &Weights) -> Result<UseCost> {
        match weights {
            Weights::Bytes(bytes) => Ok(self.of_opaque(*bytes)),
            Weights::Tensors(tensors) => {
                let mut by_tensor = works(self.family, self.tokens, "", tensors);
                // A text encoder's head is never asked; a language model without one multiplies by its table.
                let tied = self.family.tied_head(tensors);
                if let Some(table) = tied.filter(|_| self.component.name == LANGUAGE_MODEL) {
                    let head = [TensorSpec("lm_head.weight".into(), table.1, table.2.clone())];
                    let position = tensors.iter().position(|tensor| tensor == table);
                    let head = works(self.family, self.tokens, "", &head);
                    position.into_iter().zip(head).for_each(|(n, head)| by_tensor[n] = head);
                }
                let work = Work::sum(&by_tensor);
                self.of_work(&work, Bytes::new(work.bytes), &by_tensor)
            }
        }
    }

    fn of_opaque(&mut self, bytes: Bytes) -> UseCost {
        self.opaque |= !bytes.is_zero();
        UseCost::estimated(0, self.device.memory.rate.time_for(bytes), Arc::default())
    }

    /// Work that reads `bytes` of weights, less the experts that no token reaches; `works` is the same by tensor.
    fn of_work(&mut self, work: &Work, bytes: Bytes, works: &[Work]) -> Result<UseCost> {
        self.unknown_experts |= work.unknown_experts;
        let time = self.time(work, bytes);
        let flops = u64::try_from(self.batched(work.total())).ok();
        let (Some(time), Some(flops)) = (time, flops) else {
            let name = &self.component.name;
            let message = format!("one block of {name} would take more than 2^64 operations");
            return Err(Error::usage(message));
        };
        let own = |work: &Work| self.time(work, Bytes::new(work.bytes)).unwrap_or_default();
        Ok(UseCost::estimated(flops, time, works.iter().map(own).collect()))
    }

    /// The longer of computing and reading; none where there are more operations than can be counted.
    fn time(&self, work: &Work, bytes: Bytes) -> Option<Nanos> {
        let compute = |(&dtype, &flops): (&Dtype, &u128)| {
            let flops = u64::try_from(self.batched(flops)).ok()?;
            Some(self.device.compute.effective(dtype).time_for(flops))
        };
        let times: Option<Vec<Nanos>> = work.flops.iter().map(compute).collect();
        let read = bytes.saturating_sub(Bytes::new(work.idle_bytes));
        let memory = self.device.memory.rate.time_for(read);
        times.map(|times| times.into_iter().sum::<Nanos>().max(memory))
    }

    fn batched(&self, flops: u128) -> u128 {
        flops.saturating_mul(u128::from(self.workload.batch))
    }

    fn warnings(&self) -> Vec<String> {
        let name = &self.component.name;
        let mut warnings = Vec::new();
        if !self.family.is_known() {
            let class = self.component.class.as_deref().unwrap_or("none given");
            warnings.push(format!(
                "{name}: nothing is known of its class ({class}); the estimate lets every weight see \
                 {} tokens and leaves attention out",
                self.tokens.of(Stream::Every, "")
            ));
        }
        if self.opaque {
            warnings.push(format!(
                "{name}: weights known by their size alone count with the time to read them once"
            ));
        }
        if self.unknown_experts {
            warnings.push(format!(
                "{name}: how many experts a token uses is not known; all of them are counted"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "{format: vramplan/device/1, name: d, origin: estimated, vram: 1GiB, \
        h2d: {rate: 1GB/s}, d2h: {rate: 1GB/s}, memory: {rate: 1GB/s}, \
        compute: {bf16: 2TFLOP/s, fp8: 4TFLOP/s, efficiency: 0.5}, \
        host: {memory: 1GiB, pinned_limit: 0.5}}";

    fn run(class: &str, tensors: &str, workload: &str) -> Result<ComponentCosts> {
        let text = format!(
            "{{format: vramplan/manifest/1, model: m, kinds: {{b: {{tensors: [{tensors}]}}}}, \
             components: [{{name: c, class: {class}, root: {{bytes: 1000}}, \
             blocks: [{{list: l, kind: b, count: 2}}]}}]}}"
        );
        let manifest = Manifest::from_yaml("m", &text).expect(&text);
        let text = format!(
            "{{format: vramplan/workload/1, passes: 1, reserve: {{context: 0}}, {workload}}}"
        );
        let workload = Workload::from_yaml("w", &text).expect(&text);
        let device = DeviceSpec::from_yaml("d", DEVICE).expect("a sound device");
        costs(&manifest, &manifest.components[0], &workload, &device)
    }

    fn check(class: &str, tensors: &str, workload: &str, flops: u64, nanos: u64) {
        let cost = &run(class, tensors, workload).expect(tensors).blocks[0];
        assert_eq!((cost.flops, cost.time.get()), (flops, nanos), "{tensors}");
    }

    #[test]
    fn time_is_the_longer_of_computing_and_reading() {
        // 2 · 100 · 100 · 50 operations at 1 TFLOP/s; 20,000 bytes at 1 GB/s.
        let weight = "[w, bf16, [100, 100]]";
        check("none", weight, "tokens: {text: 50}", 1_000_000, 20_000);
        check("none", weight, "tokens: {text: 5000}", 100_000_000, 100_000);
        check("none", weight, "batch: 10, tokens: {text: 5000}", 1_000_000_000, 1_000_000);
    }

    #[test]
    fn each_element_type_runs_at_its_own_rate() {
        let weights = "[a, bf16, [100, 100]], [b, f8_e4m3, [100, 100]], [c, f32, [100, 100]]";
        let millisecond = 1_000_000;
        // fp8 at twice, fp32 at half the bf16 rate.
        let time = millisecond + millisecond / 2 + 2 * millisecond;
        check("none", weights, "tokens: {text: 50000}", 3 * 1_000_000_000, time);
    }

    #[test]
    fn vectors_lookups_and_tables_take_no_time() {
        let weights = "[norm.weight, bf16, [100]], [embed_tokens.weight, bf16, [10, 10]], \
                       [pad, bf16, [1, 100]]";
        check("none", weights, "tokens: {text: 50}", 0, 0);
    }

    #[test]
    fn a_token_uses_its_share_of_the_experts() {
        let experts = (0..8).map(|n| format!("[experts.{n}.w1.weight, bf16, [1000, 1000]]"));
        let experts = experts.collect::<Vec<_>>().join(", ");
        // Two of eight; one token reaches 4 of 16 MB, many tokens all of them.
        check("MixtralForCausalLM", &experts, "tokens: {text: 1}", 4_000_000, 4_000_000);
        check("MixtralForCausalLM", &experts, "tokens: {text: 100}", 400_000_000, 16_000_000);
        let stacked = "[ffn_up_exps.weight, bf16, [8, 1000, 1000]]";
        check("llama", stacked, "tokens: {text: 1}", 4_000_000, 4_000_000);
    }

    #[test]
    fn packed_weights_count_each_weight() {
        let weights = "[a.weight, u8, [100, 50]], [b.weight, u8, [5000, 1]], [t0, u8, [5000]]";
        check("none", weights, "tokens: {text: 50}", 2 * 1_000_000, 15_000);
    }

    #[test]
    fn a_language_model_without_a_head_multiplies_by_its_table() {
        let flops = |name: &str, tensors: &str| {
            let text = format!(
                "{{format: vramplan/manifest/1, model: m, components: [{{name: {name}, \
                 class: Qwen3ForCausalLM, root: {{tensors: [{tensors}]}}}}]}}"
            );
            let manifest = Manifest::from_yaml("m", &text).expect(&text);
            let workload = crate::workload::default_for(&manifest);
            let device = DeviceSpec::from_yaml("d", DEVICE).expect("a sound device");
            let costs = costs(&manifest, &manifest.components[0], &workload, &device);
            costs.expect("sound").root.flops
        };
        let table = "[model.embed_tokens.weight, bf16, [100, 10]]";
        let head = "[lm_head.weight, bf16, [100, 10]]";
        assert_eq!(flops("model", table), 2 * 100 * 10);
        assert_eq!(flops("model", &format!("{table}, {head}")), 2 * 100 * 10);
        assert_eq!(flops("text_encoder", table), 0);
    }

    #[test]
    fn given_times_beat_estimates_and_silence_their_warnings() {
        let workload = "compute: {c.l.*: 7ns, c.root: 3ns}";
        let result = run("none", "[w, bf16, [10, 10]]", workload).expect("sound");
        assert_eq!(result.blocks[1].time, Nanos::new(7));
        assert_eq!(result.blocks[1].origin, Origin::Given);
        assert_eq!(result.blocks[1].flops, 200);
        assert_eq!((result.root.time, result.time_per_pass()), (Nanos::new(3), Nanos::new(17)));
        assert_eq!(result.warnings, Vec::<String>::new());
    }

    #[test]
    fn assumptions_are_told() {
        let result = run("none", "[w, bf16, [10, 10]]", "tokens: {text: 5}").expect("sound");
        assert_eq!(result.warnings.len(), 2, "{:?}", result.warnings);
        assert!(result.warnings[0].contains("every weight see 5 tokens"), "{:?}", result.warnings);
        assert!(result.warnings[1].contains("size alone"), "{:?}", result.warnings);
        assert_eq!(result.root.time, Nanos::new(1_000), "1000 bytes at 1 GB/s");
        let result = run("LlamaForCausalLM", "[w, bf16, [10, 10]]", "tokens: {imgae: 5}");
        let warnings = result.expect("sound").warnings;
        assert!(warnings.iter().any(|w| w.contains("\"imgae\"")), "{warnings:?}");
    }

    #[test]
    fn more_operations_than_we_can_count_are_refused() {
        let workload = "batch: 1048576, tokens: {text: 4294967296}";
        let error = run("none", "[w, bf16, [100000, 100000]]", workload).expect_err("too many");
        assert_eq!(error.exit_code(), 2);
    }
}
