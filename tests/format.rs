//! What a plan can say and no planner of this version emits: phases, pieces, every lane, host synchronisations.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use expect_test::{expect, expect_file};
use std::fmt::Write as _;
use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Recorder};
use vramplan::plan::Plan;
use vramplan::profile::{Span, VramSample};
use vramplan::program::{check, lower};

const PLAN: &str = include_str!("data/two-phases.yaml");

fn plan() -> Plan {
    Plan::from_yaml("two-phases.yaml", PLAN).expect("a sound plan")
}

/// A run as a table that one can read.
#[derive(Default)]
struct Table {
    rows: Vec<(u64, String)>,
    in_use_peak: u64,
}

impl Recorder for Table {
    fn span(&mut self, span: &Span) {
        let component = ["text_encoder", "transformer"][span.component as usize];
        let waited = span.waited_for.map_or(String::new(), |w| {
            format!("  after {} of block {} in pass {}", w.lane, w.block, w.pass)
        });
        let row = format!(
            "{:>5} {:>5}  {:<8} {component} block {} pass {}{waited}",
            span.start.get(),
            span.end.get(),
            span.lane,
            span.block,
            span.pass,
        );
        self.rows.push((span.start.get(), row));
    }

    fn vram(&mut self, sample: VramSample) {
        self.in_use_peak = self.in_use_peak.max(sample.in_use.get());
    }
}

#[test]
fn the_whole_format_survives_writing_and_reading() {
    let plan = plan();
    let text = plan.to_yaml().expect("text");
    let again = Plan::from_yaml("again.yaml", &text).expect("what we write, we read");
    assert_eq!(plan, again);
    assert_eq!(text, again.to_yaml().expect("text"));
    expect_file!["golden/two-phases.yaml"].assert_eq(&text);
}

#[test]
fn phases_pieces_lanes_and_synchronisations_run_as_written() {
    let program = lower(&plan()).expect("a program");
    let proof = check::check(&program).expect("a safe program");
    assert!(proof.operations > 30, "{proof:?}");
    let mut table = Table::default();
    Sim::default().run(&program, &mut table).expect("a run to the end");
    assert!(table.in_use_peak <= program.slab.get());
    table.rows.sort();
    let mut text = String::from("start   end  lane\n");
    for (_, row) in table.rows {
        let _ = writeln!(text, "{row}");
    }
    let _ = writeln!(text, "most bytes in use: {} of {}", table.in_use_peak, program.slab.get());
    expect_file!["golden/two-phases.txt"].assert_eq(&text);
}

/// The problems of the plan with one text replaced by another.
fn broken(from: &str, to: &str) -> String {
    assert!(PLAN.contains(from), "{from}");
    let text = PLAN.replacen(from, to, 1);
    let plan = match Plan::from_yaml("two-phases.yaml", &text) {
        Ok(plan) => plan,
        Err(error) => return error.to_string(),
    };
    match lower(&plan) {
        Ok(program) => match check::check(&program) {
            Ok(_) => "safe".to_owned(),
            Err(problems) => problems[0].to_string(),
        },
        Err(error) => error.to_string(),
    }
}

#[test]
fn races_are_found_by_order_alone() {
    // The copy no longer waits for the write-back that frees its bytes.
    expect![[r#"copy of text_encoder.layers.1 in pass 1 into bytes 150..230: found a start that does not wait for the use of text_encoder.layers.1 in pass 0, expected a wait for the last use of these bytes"#]]
        .assert_eq(&broken("issue_after: layers.1@-1, ", ""));
    // With one place instead of two, a wait of two passes back is too short.
    expect![[r#"copy of transformer.blocks.1 in pass 1 into bytes 600..700: found a start that does not wait for the use of transformer.blocks.1 in pass 0, expected a wait for the last use of these bytes"#]]
        .assert_eq(&broken("at: [600, 700]", "at: 600"));
    // A streamed block on top of a resident one.
    expect!["use of transformer.blocks.0 in pass 1: found other bytes, or none, in 400..500, expected all bytes of the block, copied before the use"]
        .assert_eq(&broken("at: 500, issue_after: blocks.0@-1", "at: 400, issue_after: blocks.0@-1"));
}

#[test]
fn nonsense_is_refused_with_its_place() {
    expect![[r#"two-phases.yaml: components[1].blocks[2].pieces[0].at: found 200 bytes at 800, expected an end within the slab of 900 bytes"#]]
        .assert_eq(&broken("resident: all, at: 300", "resident: all, at: 800"));
    expect![[r#"two-phases.yaml: components[1].blocks[1]: sum of pieces: found 500, expected bytes = 400"#]]
        .assert_eq(&broken("[mlp.weight], bytes: 100", "[mlp.weight], bytes: 200"));
    expect![[r#"two-phases.yaml: components[0].blocks[1].pieces[0].issue_after: found "layers.7", expected the id of a block of this component"#]]
        .assert_eq(&broken("issue_after: layers.0@-1", "issue_after: layers.7@-1"));
    expect![[r#"plan of transformer: block "blocks.1": found a wait for something issued later in the same pass, expected waits for what was issued before; see issue_after"#]]
        .assert_eq(&broken("issue_after: blocks.1@-2", "issue_after: blocks.2"));
    expect![
        "two-phases.yaml: budget.reserve + budget.weights: found 100 + 800, expected vram = 1000"
    ]
    .assert_eq(broken("weights: 900}", "weights: 800}").lines().next().unwrap_or_default());
    expect!["two-phases.yaml: line 20 column 109: found unknown variant `tape`, expected one of pinned, pageable, disk"].assert_eq(&broken("from: disk", "from: tape"));
    expect![[r#"two-phases.yaml: line 21 column 9: found block "layers.1": found issue, evict, held, copies, from, slack or loads on a resident piece, expected them on streamed pieces only, or from: disk with host_at"#]].assert_eq(&broken("streamed: all, at: 150", "resident: all, at: 150"));
    expect!["two-phases.yaml: line 25 column 13: found no such number, expected an integer from 0 to 4294967295"].assert_eq(&broken("passes: 3", "passes: -3"));
    expect![[r#"two-phases.yaml: line 21 column 34: found "80GiB/s", expected a size in bytes, such as 679662592, 700MB or 16GiB"#]].assert_eq(&broken("bytes: 80,", "bytes: 80GiB/s,"));
    expect!["two-phases.yaml: line 28 column 5: found unknown field `lookahead`, expected one of name, policy, unit, passes, reserve, turns, skips, window, prefetch, slab, prediction, skipped, margins, bound, host, host_syncs, blocks"].assert_eq(&broken("prefetch: 2", "prefetch: 2\n    lookahead: 2"));
}
