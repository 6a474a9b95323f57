//! Passes launched as graphs: the same operations, the same bytes, times that are read inside them.

use std::collections::BTreeMap;

use expect_test::expect;
use vramplan::backend::Backend;
use vramplan::backend::cuda::{Choice, Cuda, Options, Pattern, Verify};
use vramplan::lane::Lane;
use vramplan::plan::Plan;

use crate::conformance::{Kept, on_gpu, operations, options};
use crate::driver;
use crate::models;

/// A plan whose offsets repeat often enough, for so many passes.
fn plan(percent: u64, passes: u32) -> Plan {
    let mut plan = models::plan(percent);
    plan.components[0].passes = passes;
    plan
}

fn with(graph: Choice) -> Options {
    Options { graph, ..options() }
}

/// By lane, what ran in which order.
fn order(kept: &Kept) -> BTreeMap<Lane, Vec<(u32, u32, Option<u32>)>> {
    let mut order: BTreeMap<Lane, Vec<_>> = BTreeMap::new();
    for span in &kept.spans {
        order.entry(span.lane).or_default().push((span.pass, span.block, span.piece));
    }
    order
}

#[test]
fn graphs_run_what_streams_run() {
    let session = driver::session();
    for (percent, passes) in [(40, 30), (70, 31), (100, 11)] {
        let plan = plan(percent, passes);
        let (streams, without) = on_gpu(&session, &plan, with(Choice::Off));
        let (graphs, measured) = on_gpu(&session, &plan, with(Choice::On));
        assert_eq!(operations(&graphs), operations(&streams), "{percent} %");
        assert_eq!(order(&graphs), order(&streams), "{percent} %");
        assert_eq!(measured.digest, without.digest);
        assert_eq!(measured.verified_passes, passes);
        assert_eq!(measured.passes[0].len(), passes as usize);
        let issued = &measured.graphs[0];
        assert!(issued.launches > 1 && issued.passes_per_launch > 0, "{issued:?}");
        assert!(issued.passes_per_launch * issued.launches <= passes - 2);
        assert_eq!(without.graphs[0].launches, 0);
    }
    session.assert_no_leaks();
}

#[test]
fn pass_times_add_up_across_launches() {
    let session = driver::session();
    let plan = plan(50, 40);
    let (kept, measured) =
        on_gpu(&session, &plan, Options { verify: Verify::No, ..with(Choice::On) });
    let sum: u64 = measured.passes[0].iter().map(|time| time.get()).sum();
    let end = kept.spans.iter().map(|span| span.end.get()).max().expect("spans");
    assert!(sum.abs_diff(end) <= end / 20, "{sum} {end}");
    // Lanes never run two operations at once, also where launches meet.
    for lane in Lane::ALL {
        let on: Vec<_> = kept.spans.iter().filter(|span| span.lane == lane).collect();
        assert!(on.windows(2).all(|two| two[0].end <= two[1].start), "{lane}");
    }
}

#[test]
fn streams_of_a_graph_that_run_late_change_nothing() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = plan(40, 30);
    let (_, calm) = on_gpu(&session, &plan, with(Choice::On));
    session.set("real_delay_us", 30);
    let (_, shaken) = on_gpu(&session, &plan, with(Choice::On));
    assert_eq!((shaken.digest, shaken.passes), (calm.digest, calm.passes));
}

#[test]
fn sampled_passes_alone_have_spans() {
    let session = driver::session();
    let (kept, measured) =
        on_gpu(&session, &plan(100, 31), Options { sample: 3, ..with(Choice::On) });
    assert_eq!(measured.graphs[0].passes_per_launch, 6);
    let blocks = models::plan(100).components[0].blocks.len();
    for pass in 0..31 {
        let uses = kept.spans.iter().filter(|s| s.lane == Lane::Compute && s.pass == pass);
        assert_eq!(uses.count(), if pass % 3 == 0 { blocks } else { 1 }, "pass {pass}");
    }
}

#[test]
fn the_faster_way_is_kept() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = plan(50, 40);
    // Where calls cost nothing, the barriers of launches are all that differs.
    let (_, measured) = on_gpu(&session, &plan, with(Choice::Auto));
    let issued = &measured.graphs[0];
    assert_eq!(issued.launches, 0);
    assert!(issued.graph >= issued.streams && issued.streams.is_some(), "{issued:?}");
    // Where issuing takes longer than what is issued, one launch is better.
    session.set("call_time", 20_000);
    let (_, measured) = on_gpu(&session, &plan, with(Choice::Auto));
    let issued = &measured.graphs[0];
    assert!(issued.launches > 0 && issued.graph < issued.streams, "{issued:?}");
    assert!(issued.told().contains("the faster of both, measured"), "{}", issued.told());
}

#[test]
fn inside_a_launch_nothing_is_issued() {
    let Some(session) = driver::stand_in_session() else { return };
    let calls = ["cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuEventRecord", "cuStreamWaitEvent"];
    let mut counts = Vec::new();
    for passes in [22, 42] {
        session.reset();
        let plan = plan(50, passes);
        on_gpu(&session, &plan, Options { verify: Verify::No, ..with(Choice::On) });
        let of = |call: &&str| session.get(&format!("calls:{call}"));
        counts.push((calls.iter().map(of).collect::<Vec<_>>(), session.get("calls:cuGraphLaunch")));
    }
    let (few, many) = (&counts[0], &counts[1]);
    assert!(many.1 > few.1);
    // A launch records the event at its end.
    assert_eq!(many.0[2] - few.0[2], many.1 - few.1);
    assert_eq!((&many.0[..2], many.0[3]), (&few.0[..2], few.0[3]), "{calls:?}");
}

#[test]
fn what_cannot_be_a_graph_is_said() {
    let session = driver::session();
    let run = |plan: &Plan, graph| {
        let (program, images) = models::lowered(plan);
        let pattern = Pattern { seed: 3 };
        let cuda = Cuda::new(session.gpu(), &images, &pattern, with(graph));
        let outcome = cuda.run(&program, &mut Kept::default());
        (outcome, cuda.measured())
    };
    let short = plan(50, 2);
    let (outcome, _) = run(&short, Choice::On);
    let error = outcome.expect_err("no middle");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().starts_with("--graph on: passes repeat only every "), "{error}");
    let (outcome, measured) = run(&short, Choice::Auto);
    outcome.expect("a run");
    assert!(measured.graphs[0].why.starts_with("no graph: passes repeat only"), "{measured:?}");
    let policies = models::policies(50);
    let (_, sync) = policies.iter().find(|(name, _)| name == "sync").expect("sync");
    let (outcome, _) = run(sync, Choice::On);
    expect!["--graph on: the policy holds the host inside a pass"]
        .assert_eq(&outcome.expect_err("held").to_string());
    session.assert_no_leaks();
}

#[test]
fn every_call_of_a_graph_may_fail() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = plan(50, 30);
    let (program, images) = models::lowered(&plan);
    let calls = [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphUpload",
        "cuGraphLaunch",
        "cuEventRecordWithFlags",
        "cuStreamWaitEvent",
        "cuMemcpyHtoDAsync_v2",
    ];
    for call in calls {
        for (nth, status) in [(1, 1), (2, 700)] {
            session.reset();
            session.fault(call, nth, status);
            let pattern = Pattern { seed: 3 };
            {
                let cuda = Cuda::new(session.gpu(), &images, &pattern, with(Choice::On));
                let error = cuda.run(&program, &mut Kept::default()).expect_err("a fault");
                assert_eq!(error.exit_code(), 6, "{call}: {error}");
                let named = call.trim_end_matches("_v2");
                assert!(error.to_string().contains(named), "{call}: {error}");
            }
            session.assert_no_leaks();
            for kind in ["graph", "graph exec"] {
                assert_eq!(session.get(&format!("live:{kind}")), 0, "{call}: {kind}");
            }
        }
    }
}
