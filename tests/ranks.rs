//! Several devices: what each rank holds and computes, what it exchanges, and that its plan is one like any other.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod observed;

use proptest::prelude::*;
use vramplan::backend::{Backend, Discard, sim::Sim};
use vramplan::device::{self, DeviceSpec};
use vramplan::lane::Lane;
use vramplan::model::{self, Manifest, Weights};
use vramplan::plan::{
    BlockPart, ComponentInput, Granularity, Instance, Plan, Request, Schedule, Unit,
};
use vramplan::profile::Intervals;
use vramplan::program::{self, check};
use vramplan::shard::{Interconnect, Kind, Rank, Shard, Whole};
use vramplan::units::{Bytes, Fraction, Nanos};
use vramplan::workload::{self, Workload};

const MODELS: [&str; 6] =
    ["flux1-dev", "flux2-klein-4b", "qwen-image", "wan2.2-t2v-a14b", "z-image", "llama-3-8b"];

fn request(model: &str, device: &str, weights: u64) -> Request {
    let manifest = model::builtin::load(model).expect("built in").expect("sound");
    let main = manifest.main_component().expect("one").clone();
    let workload = workload::for_model(&manifest).expect("sound");
    let total = main.total_bytes(&manifest);
    Request {
        host: None,
        vram: workload.reserve.total().saturating_add(Bytes::new(total.get() * weights / 100)),
        components: vec![main.name],
        device: device::builtin::load(device).expect("built in").expect("sound"),
        granularity: Granularity::Tensor,
        unit: Unit::Block,
        rank: None,
        holds: Default::default(),
        generations: 1,
        manifest,
        workload,
    }
}

fn divide(request: &Request, shard: Shard) -> vramplan::error::Result<Vec<Rank>> {
    shard.divide(&Whole {
        manifest: &request.manifest,
        components: &request.components,
        workload: &request.workload,
        device: &request.device,
        reserve_given: false,
    })
}

fn shard(ranks: u32, kind: Kind) -> Shard {
    Shard { ranks, kind, link: None }
}

fn planned(manifest: &Manifest, components: &[String]) -> u64 {
    let of = |name: &String| manifest.component(name).expect("planned").total_bytes(manifest).get();
    components.iter().map(of).sum()
}

/// The sum over all ranks is the model, and what every rank has as often as there are ranks.
fn sums_hold(request: &Request, shard: Shard) {
    let ranks = divide(request, shard).expect("divides");
    let count = u64::from(shard.ranks);
    let numbers: Vec<u32> = ranks.iter().flat_map(|rank| rank.of.numbers.clone()).collect();
    assert_eq!(numbers.len(), shard.ranks as usize, "every rank once");
    let held =
        |rank: &Rank| planned(&rank.manifest, &request.components) * rank.of.numbers.len() as u64;
    let replicated = ranks[0].of.replicated.get();
    let whole = planned(&request.manifest, &request.components);
    let all: u64 = ranks.iter().map(held).sum();
    assert_eq!(all, whole + (count - 1) * replicated, "{shard:?}");
}

#[test]
fn the_ranks_together_hold_the_model_and_what_is_replicated() {
    for model in MODELS {
        let request = request(model, "h100", 50);
        for ranks in [2, 4, 8] {
            for kind in [Kind::Hsdp, Kind::Dp] {
                sums_hold(&request, shard(ranks, kind));
            }
            // Thirty heads do not divide by four, and a language model has no image tokens.
            for kind in [Kind::Tp, Kind::Sp] {
                let divides = divide(&request, shard(ranks, kind)).is_ok();
                let odd = ranks > 2 && model == "z-image";
                assert_eq!(divides, !odd && (kind, model) != (Kind::Sp, "llama-3-8b"), "{model}");
                if divides {
                    sums_hold(&request, shard(ranks, kind));
                }
            }
        }
        for ranks in [3, 5, 7] {
            sums_hold(&request, shard(ranks, Kind::Hsdp));
        }
    }
}

#[test]
fn one_rank_is_the_whole() {
    for kind in Kind::ALL {
        let request = request("flux1-dev", "h100", 50);
        let alone = request.plan().expect("fits");
        for link in [Interconnect::Nvlink, Interconnect::Pcie] {
            let one = Shard { ranks: 1, kind, link: Some(link) };
            let ranks = divide(&request, one).expect("one");
            assert_eq!(ranks.len(), 1);
            assert_eq!(ranks[0].device, request.device);
            assert_eq!(ranks[0].manifest, request.manifest);
            assert_eq!(ranks[0].workload, request.workload);
            let plan = request.of_rank(ranks[0].clone()).plan().expect("fits");
            assert_eq!(Plan { rank: None, ..plan }, alone, "{kind}");
        }
    }
}

#[test]
fn the_simulated_run_of_a_rank_is_the_predicted_one() {
    for (model, device, kind, ranks, link) in [
        ("flux1-dev", "h100", Kind::Tp, 2, Interconnect::Nvlink),
        ("flux1-dev", "rtx-4090", Kind::Tp, 2, Interconnect::Pcie),
        ("qwen-image", "rtx-4090", Kind::Sp, 4, Interconnect::Pcie),
        ("wan2.2-t2v-a14b", "a100-40gb", Kind::Hsdp, 3, Interconnect::Nvlink),
        ("z-image", "rtx-3060", Kind::Dp, 4, Interconnect::Pcie),
    ] {
        let request = request(model, device, 60);
        let shard = Shard { ranks, kind, link: Some(link) };
        for rank in divide(&request, shard).expect("divides") {
            let least = rank.workload.reserve.total();
            let held = planned(&rank.manifest, &request.components);
            let vram = least.saturating_add(Bytes::new(held * 6 / 10));
            let plan = Request { vram, ..request.of_rank(rank) }.plan().expect("fits");
            let program = program::lower(&plan).expect("lowers");
            assert!(check::check(&program).is_ok(), "{model} {kind}");
            let mut counts = Discard::default();
            Sim::default().run(&program, &mut counts).expect("runs");
            assert_eq!(counts.makespan, plan.components[0].prediction.makespan, "{model} {kind}");
            let text = plan.to_yaml().expect("writes");
            assert_eq!(Plan::from_yaml("p", &text).expect("reads"), plan);
        }
    }
}

/// Tensor parallel on the models' own heads: 24, 40 and 30 of 128; 8 groups of keys.
#[test]
fn what_does_not_divide_is_refused_with_the_nearest_that_does() {
    let hint = |model: &str, kind: Kind, ranks: u32| {
        let error = divide(&request(model, "h100", 50), shard(ranks, kind)).expect_err(model);
        assert_eq!(error.exit_code(), 2);
        (error.to_string(), error.hint().unwrap_or_default())
    };
    let (message, near) = hint("flux1-dev", Kind::Tp, 5);
    assert!(
        message.contains("the 24 heads of attn.") && near.ends_with("--ranks 4"),
        "{message} {near}"
    );
    for (model, kind, ranks, nearest) in [
        ("flux1-dev", Kind::Tp, 7, "6"),
        ("wan2.2-t2v-a14b", Kind::Tp, 3, "2"),
        ("wan2.2-t2v-a14b", Kind::Sp, 6, "5"),
        ("z-image", Kind::Tp, 4, "5"),
        ("llama-3-8b", Kind::Tp, 3, "2"),
        ("llama-3-8b-q4_k_m", Kind::Tp, 16, "14"),
        ("qwen-image", Kind::Sp, 16, "12"),
    ] {
        let (message, near) = hint(model, kind, ranks);
        if model != "llama-3-8b-q4_k_m" {
            assert!(
                near.ends_with(&format!("--ranks {nearest}")),
                "{model} {ranks}: {message} {near}"
            );
        }
    }
    assert!(hint("flux1-dev", Kind::Tp, 0).1.contains("--ranks 1"));
    assert!(hint("flux1-dev", Kind::Hsdp, 5_000).1.contains("--ranks 1024"));
    assert!(hint("llama-3-8b", Kind::Sp, 2).0.contains("image tokens"));
    let opaque = Manifest::from_yaml(
        "m",
        "{format: vramplan/manifest/1, model: m, kinds: {b: {bytes: 1000}}, components: \
         [{name: c, root: {bytes: 1}, blocks: [{list: l, kind: b, count: 2}]}]}",
    )
    .expect("sound");
    let components = vec!["c".to_owned()];
    let opaque = Request { manifest: opaque, components, ..request("flux1-dev", "h100", 50) };
    let error = divide(&opaque, shard(2, Kind::Tp)).expect_err("opaque");
    assert!(error.hint().expect("a hint").contains("hsdp"), "{error}");
    assert_eq!(divide(&opaque, shard(3, Kind::Hsdp)).expect("bytes divide").len(), 2);
}

#[test]
fn flux_is_divided_as_engines_divide_it() {
    let request = request("flux1-dev", "h100", 50);
    let ranks = divide(&request, shard(4, Kind::Tp)).expect("24 heads");
    let shape = |kind: &str, tensor: &str| {
        let Weights::Tensors(tensors) = &ranks[0].manifest.kinds[kind].weights else {
            panic!("tensors")
        };
        tensors.iter().find(|t| t.name() == tensor).expect(tensor).shape().to_vec()
    };
    let double = |tensor: &str| shape("transformer_blocks", tensor);
    assert_eq!(double("attn.to_q.weight"), [768, 3072]);
    assert_eq!(double("attn.to_q.bias"), [768]);
    assert_eq!(double("attn.to_out.0.weight"), [3072, 768]);
    assert_eq!(double("attn.to_out.0.bias"), [3072]);
    assert_eq!(double("ff.net.0.proj.weight"), [3072, 3072]);
    assert_eq!(double("ff.net.2.weight"), [3072, 3072]);
    assert_eq!(double("norm1.linear.weight"), [18432, 3072]);
    assert_eq!(double("attn.norm_q.weight"), [128]);
    assert_eq!(shape("single_transformer_blocks", "proj_out.weight"), [3072, 3840]);
    assert_eq!(ranks[0].of.numbers, [0, 1, 2, 3]);
}

/// A quarter of the products and of attention; modulation sees one vector and is computed by every rank.
#[test]
fn operations_are_divided_with_the_weights_and_tokens() {
    for (model, kind) in [
        ("flux1-dev", Kind::Tp),
        ("flux2-klein-4b", Kind::Tp),
        ("wan2.2-t2v-a14b", Kind::Tp),
        ("wan2.2-t2v-a14b", Kind::Sp),
    ] {
        let request = request(model, "h100", 50);
        let component = request.manifest.component(&request.components[0]).expect("main");
        let whole =
            workload::costs(&request.manifest, component, &request.workload, &request.device);
        let whole = whole.expect("sound").blocks[0].flops;
        let rank = divide(&request, shard(4, kind)).expect("divides").remove(0);
        let own = rank.costs[0].blocks[0].flops;
        let quarter = whole / 4;
        assert!(own >= quarter && own - quarter < whole / 100, "{model} {kind}: {own} of {whole}");
    }
}

#[test]
fn sharded_data_needs_a_whole_block_on_the_device() {
    let request = request("wan2.2-t2v-a14b", "a100-40gb", 50);
    let rank = divide(&request, shard(4, Kind::Hsdp)).expect("divides").remove(0);
    let component = request.manifest.component("transformer").expect("one");
    let largest = component.blocks(&request.manifest).iter().map(|b| b.bytes()).max();
    assert_eq!(Some(rank.workload.reserve.gathered), largest);
    let all =
        rank.manifest.component("transformer").expect("one").blocks(&rank.manifest)[0].bytes();
    assert_eq!(all.get().div_ceil(1 << 20), largest.expect("one").get().div_ceil(4 << 20));
    // Computed whole, and gathered over NVLink: three quarters of the block at 240 GB/s and 20 us.
    let before = workload::costs(&request.manifest, component, &request.workload, &request.device);
    let gathered =
        rank.costs[0].blocks[0].time.saturating_sub(before.expect("sound").blocks[0].time);
    let peer = request.device.peer.as_ref().expect("NVLink");
    let three_quarters = Bytes::new((largest.expect("one").get() * 3).div_ceil(4));
    assert_eq!(gathered, peer.time_for(three_quarters));
}

#[test]
fn an_uneven_division_makes_ranks_of_their_own() {
    // 1,001 tokens on four ranks: 251, 251, 251 and 248.
    let request = request("wan2.2-t2v-a14b", "h100", 50);
    let mut workload = request.workload.clone();
    workload.tokens.insert("image".to_owned(), 1_001);
    let request = Request { workload, ..request };
    let ranks = divide(&request, shard(4, Kind::Sp)).expect("40 heads");
    let numbers: Vec<&[u32]> = ranks.iter().map(|rank| &rank.of.numbers[..]).collect();
    assert_eq!(numbers, [&[0, 1, 2][..], &[3]]);
    let time = |n: usize| ranks[n].costs[0].blocks[0].flops;
    assert!(time(0) > time(1), "251 tokens and 248");
}

/// Copies give way to collectives of the same link; computes never do. The makespan of the real thing, in nanoseconds.
fn makespan_beside(schedule: &Schedule, passes: u32) -> u64 {
    let ops = &schedule.ops;
    let lanes = [Lane::Compute, Lane::H2d];
    let run: Vec<Vec<(usize, u32)>> = lanes
        .iter()
        .map(|&lane| {
            let of_pass = |pass: u32| {
                (0..ops.len())
                    .filter(move |&n| ops[n].lane == lane && ops[n].when.includes(pass, passes))
                    .map(move |n| (n, pass))
            };
            (0..passes).flat_map(of_pass).collect()
        })
        .collect();
    let mut ended = std::collections::BTreeMap::new();
    let (mut now, mut next, mut left) = (0u64, [0usize; 2], [None::<u64>; 2]);
    loop {
        for lane in 0..2 {
            let Some(&(op, pass)) = run[lane].get(next[lane]) else { continue };
            let exists = |op: usize, pass: u32| ops[op].when.includes(pass, passes);
            let ready = ops[op].waits.iter().filter(|wait| wait.passes_back <= pass).all(|wait| {
                let of = pass - wait.passes_back;
                !exists(wait.op, of) || ended.contains_key(&(wait.op, of))
            });
            if left[lane].is_none() && ready {
                left[lane] = Some(ops[op].duration.get());
            }
        }
        // Within a compute its collectives come last.
        let own = |op: usize| ops[op].on_link.get();
        let exchanging = left[0].is_some_and(|left| left <= own(run[0][next[0]].0));
        let computing = left[0].map(|left| match exchanging {
            true => left,
            false => left - own(run[0][next[0]].0),
        });
        let copying = left[1].filter(|&left| !exchanging || left == 0);
        let Some(step) = computing.into_iter().chain(copying).min() else { return now };
        now += step;
        left[0] = left[0].map(|left| left - step);
        if !exchanging {
            left[1] = left[1].map(|left| left - step);
        }
        for lane in 0..2 {
            if left[lane] == Some(0) {
                ended.insert(run[lane][next[lane]], now);
                (left[lane], next[lane]) = (None, next[lane] + 1);
            }
        }
    }
}

/// Plans of ranks that exchange over the host's link, and the same over links of their own.
fn beside_collectives() -> impl Iterator<Item = (String, Plan, Plan)> {
    [
        ("flux1-dev", Kind::Tp, 2, 30),
        ("flux1-dev", Kind::Tp, 4, 60),
        ("qwen-image", Kind::Tp, 2, 50),
        ("wan2.2-t2v-a14b", Kind::Sp, 4, 40),
        ("z-image", Kind::Hsdp, 2, 50),
    ]
    .into_iter()
    .map(|(model, kind, ranks, percent)| {
        let mut request = Request { workload: few_passes(model), ..request(model, "rtx-4090", 50) };
        // As fast as the host's link, so that collectives take as long on either.
        let host = vramplan::shard::host::shared(&request.device, ranks);
        request.device.peer = Some(host.h2d);
        let planned_over = |link| {
            let rank = divide(&request, Shard { ranks, kind, link: Some(link) });
            let rank = rank.expect("divides").remove(0);
            let held = planned(&rank.manifest, &request.components) * percent / 100;
            let vram = rank.workload.reserve.total().saturating_add(Bytes::new(held));
            Request { vram, ..request.of_rank(rank) }.plan().expect("fits")
        };
        let told = format!("{model} {kind} {ranks}");
        (told, planned_over(Interconnect::Pcie), planned_over(Interconnect::Nvlink))
    })
}

#[test]
fn copies_pause_for_collectives_on_their_link() {
    for (told, plan, apart) in beside_collectives() {
        let own = &plan.components[0];
        let on_link: u64 = own.blocks.iter().map(|block| block.on_link.get()).sum();
        let collectives = plan.rank.as_ref().expect("a rank").collectives.get();
        assert!(on_link == collectives && on_link > 0, "{told}");
        assert!(apart.components[0].blocks.iter().all(|block| block.on_link.is_zero()), "{told}");
        let schedule = Schedule::of(own, &plan.device).expect("the same operations");
        let real = makespan_beside(&schedule, own.passes);
        assert_eq!(own.prediction.makespan.get(), real, "{told}");
        // Neither do copies get more of the link than there is, nor does anything wait for more than both.
        let (least, pass) = (apart.components[0].prediction.pass.get(), own.prediction.pass.get());
        assert!(least <= pass && pass <= least + on_link, "{told}: {least} {pass} {on_link}");
        let bound = own.bound.any_schedule.get();
        assert!(apart.components[0].bound.any_schedule.get() <= bound && bound <= pass, "{told}");
    }
}

/// A device whose ranks exchange over links of their own.
fn nvlink() -> DeviceSpec {
    let device = DeviceSpec::reference();
    DeviceSpec { peer: Some(device.h2d.clone()), ..device }
}

fn few_passes(model: &str) -> Workload {
    let manifest = model::builtin::load(model).expect("built in").expect("sound");
    let mut workload = workload::for_model(&manifest).expect("sound");
    workload.passes = workload::Passes::Main(6);
    workload
}

/// Blocks whose collectives hold the link for a part of their time, and a budget that not all of them fit.
fn exchanging() -> impl Strategy<Value = ComponentInput> {
    let used = (1u64..2_000, 1u64..2_000, 0u64..=100);
    let uses = prop::collection::vec(used, 2..10);
    (uses, 0u64..=100, 1u32..24, 0u64..20, any::<bool>()).prop_map(
        |(sizes, room, passes, latency, rows)| {
            let mut instance = Instance::equal(sizes.len() as u64, 1, 1, 0);
            instance.device.alignment = 16;
            instance.device.h2d.latency = Nanos::new(latency);
            for (used, &(bytes, compute, percent)) in instance.uses.iter_mut().zip(&sizes) {
                (used.bytes, used.compute) = (Bytes::new(bytes), Nanos::new(compute));
                used.on_link = Nanos::new(compute * percent / 100);
                if rows {
                    used.parts = vec![BlockPart::rows("w", used.bytes, Bytes::new(1))];
                }
            }
            let all: u64 = (0..sizes.len()).map(|n| instance.aligned(n).get()).sum();
            let least = instance.smallest().get();
            instance.budget = Bytes::new(least + (all - least) * room / 100);
            ComponentInput {
                name: "c".into(),
                root: Bytes::ZERO,
                root_parts: Vec::new(),
                instance,
                unit: Unit::Block,
                passes,
                reserve: Bytes::ZERO,
                host: None,
                skips: Vec::new(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plans_around_collectives_hold(input in exchanging(), tensors: bool, seed: u64) {
        let granularity = if tensors { Granularity::Tensor } else { Granularity::Rotating };
        let plan = input.plan(granularity).expect("the budget holds the largest");
        let device = &input.instance.device;
        let phase = program::Phase::of(&plan, device).expect("lowers");
        let program = program::Program { slab: plan.slab.bytes, phases: vec![phase] };
        prop_assert!(check::check(&program).is_ok(), "{:?}", check::check(&program));
        let seen = observed::run(&program, Sim::on(device));
        let real = makespan_beside(&program.phases[0].schedule, plan.passes);
        prop_assert_eq!(plan.prediction.makespan.get(), real);
        prop_assert_eq!(seen.end(), real);
        prop_assert_eq!(seen.pass_end(0), plan.prediction.first_pass.get());
        // While copies pause they neither run nor are hidden.
        let on = |lane: Lane| {
            let spans = seen.spans.iter().filter(|span| span.lane == lane);
            Intervals::union(spans.map(|span| (span.start, span.end)))
        };
        let held = seen.spans.iter().filter(|span| span.lane == Lane::Compute).map(|span| {
            (span.end.saturating_sub(plan.blocks[span.block as usize].on_link), span.end)
        });
        let moving = on(Lane::H2d).without(&Intervals::union(held));
        let hidden = moving.intersect(&on(Lane::Compute)).total();
        let share = Fraction::of(hidden.get(), moving.total().get());
        prop_assert_eq!(share, plan.prediction.overlap);
        let shaken = Sim { jitter: Fraction::from_ppm(400_000), seed, ..Sim::on(device) };
        for seen in [seen, observed::run(&program, shaken)] {
            prop_assert!(seen.peak <= plan.slab.bytes.get());
        }
        // No bound is beaten, by the prediction or in the long run.
        let mut long = program.clone();
        long.phases[0].passes = 120;
        let seen = observed::run(&long, Sim::on(device));
        let mean = (seen.pass_end(118) - seen.pass_end(58)) as f64 / 60.0;
        let (pass, bound) = (plan.prediction.pass.get() as f64, plan.bound.any_schedule.get() as f64);
        prop_assert!(bound <= pass, "bound {bound}, predicted {pass}");
        prop_assert!(bound <= mean + 1.0, "bound {bound}, mean {mean}");
        prop_assert!((mean - pass).abs() <= 0.02 * pass + 1.0, "mean {mean}, predicted {pass}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_shapes_are_cut_without_a_byte_lost(
        shapes in proptest::collection::vec((1u64..200, 1u64..9), 1..6),
        opaque in 1u64..10_000,
        ranks in 1u32..12,
    ) {
        let tensors: Vec<String> = shapes
            .iter()
            .enumerate()
            .map(|(n, (rows, width))| format!("[t{n}.weight, bf16, [{rows}, {width}]]"))
            .collect();
        let text = format!(
            "{{format: vramplan/manifest/1, model: m, kinds: {{a: {{tensors: [{}]}}, b: {{bytes: {opaque}}}}}, \
             components: [{{name: c, root: {{bytes: 17}}, blocks: [{{list: l, kind: a, count: 3}}, \
             {{list: l, kind: b, count: 2}}]}}]}}",
            tensors.join(", ")
        );
        let manifest = Manifest::from_yaml("m", &text).expect(&text);
        let workload = workload::default_for(&manifest);
        let request = Request {
            host: None,
            components: vec!["c".to_owned()],
            device: nvlink(),
            vram: Bytes::new(1 << 40),
            granularity: Granularity::Tensor,
            unit: Unit::Block,
            rank: None,
            holds: Default::default(),
            generations: 1,
            manifest,
            workload,
        };
        sums_hold(&request, shard(ranks, Kind::Hsdp));
        // The first rank never has less than another.
        let ranks = divide(&request, shard(ranks, Kind::Hsdp)).expect("divides");
        let held = |rank: &Rank| planned(&rank.manifest, &request.components);
        prop_assert!(ranks.iter().all(|rank| held(rank) <= held(&ranks[0])));
    }

    #[test]
    fn a_share_of_the_host_is_never_more_than_the_link(
        link in 1u64..100_000_000_000,
        host in 1u64..500_000_000_000,
        behind in 1u32..5,
        ranks in 1u32..17,
    ) {
        let mut device = DeviceSpec::reference();
        device.h2d.rate = vramplan::units::Rate::new(link);
        device.host.rate = Some(vramplan::units::Rate::new(host));
        device.host.devices_per_link = Some(behind);
        let shared = vramplan::shard::host::shared(&device, ranks);
        prop_assert!(shared.h2d.rate <= device.h2d.rate);
        let all = shared.h2d.rate.get().saturating_mul(u64::from(ranks));
        prop_assert!(ranks == 1 || all <= host.max(u64::from(ranks)));
        prop_assert!(shared.h2d.time_for(Bytes::new(1 << 20)) >= device.h2d.time_for(Bytes::new(1 << 20)));
        prop_assert!(shared.h2d.time_for(Bytes::ZERO) == Nanos::ZERO);
    }
}
