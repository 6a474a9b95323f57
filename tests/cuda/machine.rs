//! What is found out about the host: the memory that copies come from fastest, and whose memory it is.

use vramplan::backend::cuda::probe::{Effort, Node, probe};
use vramplan::backend::cuda::{Choice, Options};

use crate::conformance::{on_gpu, options};
use crate::driver;
use crate::models;

#[test]
fn write_combined_memory_is_used_where_it_is_faster() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::plan(50);
    let auto = Options { write_combined: Choice::Auto, ..options() };
    let (_, cached) = on_gpu(&session, &plan, auto);
    assert!(cached.host_memory.starts_with("page-locked (copies at "), "{}", cached.host_memory);
    session.set("combined_rate", 50_000_000_000);
    let (fast, combined) = on_gpu(&session, &plan, auto);
    let told = &combined.host_memory;
    assert!(told.starts_with("page-locked, write-combined (copies at "), "{told}");
    assert_eq!(combined.digest, cached.digest);
    let off = Options { write_combined: Choice::Off, ..options() };
    let (slow, _) = on_gpu(&session, &plan, off);
    let busy = |kept: &crate::conformance::Kept| -> u64 {
        let copies = kept.spans.iter().filter(|span| span.op == vramplan::lane::OpKind::Copy);
        copies.map(|span| span.duration().get()).sum()
    };
    assert!(busy(&fast) < busy(&slow), "copies come from it");
    session.assert_no_leaks();
}

#[test]
fn write_combined_memory_can_be_asked_for() {
    let session = driver::session();
    let plan = models::plan(50);
    let (_, on) = on_gpu(&session, &plan, Options { write_combined: Choice::On, ..options() });
    let (_, off) = on_gpu(&session, &plan, options());
    assert_eq!(on.host_memory, "page-locked, write-combined");
    assert_eq!((on.digest, off.host_memory.as_str()), (off.digest, "page-locked"));
}

#[test]
fn memory_of_the_wrong_node_is_found_slower() {
    let Some(session) = driver::stand_in_session() else { return };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if processors < 2 {
        return;
    }
    session.set("vram", 256 << 20);
    session.set("real_copies", 0);
    // Processors 0 and 1 as nodes 4 and 9; memory that processor 1 touches first is far.
    session.set("far_processor", 1);
    let nodes = [(4, 0), (9, 1)]
        .map(|(number, processor)| Node { number, processors: vec![processor] })
        .to_vec();
    let gpu = session.gpu();
    let found = probe(&gpu, Effort::QUICK, &nodes).expect("a probe");
    let rates: Vec<(u32, u64)> =
        found.nodes.iter().map(|node| (node.node, node.h2d.get() / 1_000_000_000)).collect();
    assert_eq!(rates, [(4, 24), (9, 17)]);
    let slower = found.slower_nodes();
    assert_eq!(slower.len(), 1);
    assert_eq!(slower[0].0, 9);
    assert!((350_000..420_000).contains(&slower[0].1.ppm()), "{}", slower[0].1);
    // The thread may run everywhere again.
    assert_eq!(std::thread::available_parallelism().map_or(1, std::num::NonZero::get), processors);
    let one = probe(&gpu, Effort::QUICK, &nodes[..1]).expect("a probe");
    assert!(one.nodes.is_empty(), "one node has no wrong one");
}
