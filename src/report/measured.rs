//! Turns what a real run knows of itself into "How it was measured": clock, cost of profiling, compute, memory.

use super::html::markup::{Cell, Column, Kind, paragraph, section, table};
use super::view::{View, signed_percent};
use crate::profile::{Header, Measured};

/// What was measured how, as name and value; nothing for a simulation.
fn facts(header: &Header) -> Vec<(&'static str, String)> {
    let Some(measured) = &header.measured else { return Vec::new() };
    let clock = format!("{}, off by at most {}", header.clock, measured.clock_error.human());
    let host = format!(
        "{} to issue one of {} operations",
        measured.issue_per_operation.human(),
        measured.operations
    );
    let mut facts = vec![
        ("clock", clock),
        ("timed", timed(measured)),
        ("cost of profiling", overhead(measured)),
        ("compute", measured.compute.clone()),
        ("weights", measured.weights.clone()),
    ];
    let issued: Vec<String> = measured.graphs.iter().map(|issued| issued.told()).collect();
    if !issued.is_empty() {
        facts.push(("passes issued", issued.join("; ")));
    }
    facts.push(("host", host));
    if !measured.host_memory.is_empty() {
        let (locked, kind) = (measured.locked.human(), &measured.host_memory);
        facts
            .push(("host memory", format!("{locked} {kind}, filled in {}", measured.fill.human())));
    }
    facts.push((
        "VRAM by the driver",
        format!(
            "{} more than before the run; {} allocated by our count; {} in use by all",
            measured.driver_used().human(),
            measured.allocated.human(),
            measured.driver_peak.human()
        ),
    ));
    facts.push(("driver", format!("CUDA {}", measured.driver)));
    let verified = match &measured.digest {
        Some(digest) => format!("every byte of {} passes; {digest}", measured.verified_passes),
        None => "no: bytes were not compared on the device".to_owned(),
    };
    facts.push(("verified", verified));
    facts
}

fn timed(measured: &Measured) -> String {
    match measured.sample {
        0 => "no operation, only the ends of passes".to_owned(),
        1 => "every operation of every pass".to_owned(),
        n => format!("the operations of every {n}th pass"),
    }
}

fn overhead(measured: &Measured) -> String {
    let Some(cost) = measured.overhead else { return "not measured (run --overhead)".to_owned() };
    let (timed, untimed) = (cost.timed.human(), cost.untimed.human());
    let percent = signed_percent(cost.timed, cost.untimed);
    format!("a pass takes {timed} with operations timed, {untimed} without ({percent})")
}

/// What a reader must know where passes were left out.
fn left_out(header: &Header) -> Option<String> {
    let sample = header.measured.as_ref()?.sample;
    (sample != 1).then(|| match sample {
        0 => "No operation was timed: there are no spans, and overlap and stalls are not known.".to_owned(),
        n => format!(
            "Only every {n}th pass has spans (--sample {n}); of the others only the last use is timed, so that \
             pass times are complete. Overlap, stalls, busy times and bytes are those of the passes with spans, while \
             the makespan is the whole run's."
        ),
    })
}

/// A section of the page; nothing where nothing was measured.
pub(super) fn html(view: &View<'_>) -> String {
    let header = &view.profile.header;
    let facts = facts(header);
    if facts.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> =
        facts.into_iter().map(|(name, value)| vec![Cell::text(name), Cell::text(value)]).collect();
    let columns = [Column("what", Kind::Head), Column("how", Kind::Text)];
    let mut body = table("How it was measured", false, &columns, &rows);
    if let Some(note) = left_out(header) {
        body.push_str(&paragraph("note", &note));
    }
    section("measured", "How it was measured", &body)
}

/// The same for a Markdown page; `cell` makes text safe there.
pub(super) fn markdown(view: &View<'_>, cell: impl Fn(&str) -> String) -> String {
    let header = &view.profile.header;
    let facts = facts(header);
    if facts.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n| how it was measured | |\n|---|---|\n");
    for (name, value) in facts {
        out.push_str(&format!("| {name} | {} |\n", cell(&value)));
    }
    if let Some(note) = left_out(header) {
        out.push_str(&format!("\n{note}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Issued, Overhead, Profile, fixture};
    use crate::units::{Bytes, Nanos};

    fn profile(sample: u32) -> Profile {
        let mut profile = fixture::small();
        profile.header.clock = "cuda_event".into();
        profile.header.measured = Some(Measured {
            driver: "12.8".into(),
            compute: "spin".into(),
            weights: "pattern of seed 0".into(),
            clock_error: Nanos::new(531),
            sample,
            overhead: Some(Overhead {
                timed: Nanos::new(1_010_000),
                untimed: Nanos::new(1_000_000),
            }),
            graphs: vec![Issued {
                why: "asked for".into(),
                passes_per_launch: 4,
                launches: 2,
                ..Issued::default()
            }],
            host_memory: "page-locked".into(),
            allocated: Bytes::new(1 << 30),
            driver_before: Bytes::new(1 << 29),
            driver_peak: Bytes::new(3 << 29),
            ..Measured::default()
        });
        profile
    }

    #[test]
    fn a_measured_run_says_how() {
        let profile = profile(4);
        let view = View::of(&profile);
        let page = html(&view);
        let text = markdown(&view, str::to_owned);
        for part in [
            "cuda_event, off by at most 531 ns",
            "every 4th pass",
            "1.010 ms with operations timed",
            "+1.0 %",
            "as graphs of 4 passes, 2 launches (asked for)",
            "1.0 GiB more than before the run; 1.0 GiB allocated by our count",
            "CUDA 12.8",
            "--sample 4",
        ] {
            assert!(text.contains(part), "{part}: {text}");
            assert!(page.contains(part), "{part}: {page}");
        }
        let simulated = fixture::small();
        assert_eq!(html(&View::of(&simulated)), "");
        assert!(!markdown(&View::of(&self::profile(1)), str::to_owned).contains("--sample"));
    }
}
